//! What a feed did, and how far it is.

use event_store::TailRead;

use crate::live::{LiveCounts, LiveFunnel};

/// What a feed did, and how far it is. All but the last three only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedFigures {
    /// How often it began.
    pub begun: u64,
    /// Rows read, by what became of them; those read again included.
    pub read: TailRead,
    /// Rows that were in the store at the last look and have not been read.
    pub lag_rows: u64,
    /// Whether results are handed out.
    pub is_level: bool,
    /// Each funnel.
    pub funnels: Vec<FunnelFigures>,
}

/// One funnel of a feed. The counts begin anew with the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunnelFigures {
    /// Its name.
    pub name: String,
    /// Events before it are late, nanoseconds since 1970 UTC; none before the first event.
    pub watermark_ns: Option<i64>,
    /// What was taken in, left out and is held.
    pub counts: LiveCounts,
}

impl FunnelFigures {
    pub(super) fn of(funnel: &LiveFunnel) -> Self {
        let watermark_ns = funnel.watermark_ns();
        Self {
            name: funnel.name().to_owned(),
            watermark_ns: (watermark_ns > i64::MIN).then_some(watermark_ns),
            counts: funnel.counts(),
        }
    }
}

pub(super) const fn sum(one: TailRead, other: TailRead) -> TailRead {
    TailRead {
        rows: one.rows + other.rows,
        not_text: one.not_text + other.not_text,
        too_long: one.too_long + other.too_long,
        before_1970: one.before_1970 + other.before_1970,
    }
}

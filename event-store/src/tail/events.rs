//! Whole events of the tail, with tenant and properties: those of a slice, and the past of one subject.
//!
//! Properties are called and made as in `properties.rs`. The tenant of an event is the column, never a property.

use clickhouse::query::Query;
use serde::Deserialize;

use super::{
    SLICES_MAX, TailRead, misuse,
    properties::{bind_texts, expression, texts},
    slices::Slice,
};
use crate::store::{Store, StoreError};

/// Most properties of one question.
pub const EVENT_PROPERTIES_MAX: usize = 256;

/// An event with its tenant and the values of the properties asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailEvent<'a> {
    /// Whose shop; empty when unknown.
    pub tenant: &'a str,
    /// Who; empty when unknown.
    pub user: &'a str,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// What.
    pub event: &'a str,
    /// By property as asked; none where it is not set.
    pub values: &'a [Option<&'a str>],
}

/// Whose events of the past are wanted.
#[derive(Clone, Copy, Debug)]
pub struct PastQuestion<'a> {
    /// The one tenant; empty for events without one.
    pub tenant: &'a str,
    /// The one user; empty for events without one.
    pub user: &'a str,
    /// The one session; `None` for all.
    pub session: Option<&'a str>,
    /// From this instant on, nanoseconds since 1970 UTC.
    pub from_ns: i64,
    /// In which rows: 1 to [`SLICES_MAX`] slices that do not overlap.
    pub slices: &'a [Slice],
}

#[derive(Deserialize, clickhouse::Row)]
struct RawRow<'a> {
    tenant_id: &'a [u8],
    user_id: &'a [u8],
    timestamp: i64,
    event: &'a [u8],
    #[serde(borrow)]
    texts: Vec<Option<&'a [u8]>>,
}

impl Store {
    /// Passes on the events of a slice from an instant on, in no order.
    ///
    /// # Errors
    /// When there are too many properties, or the store is away or refuses; some rows may have been passed on by then.
    pub async fn tail_events(
        &self,
        slice: &Slice,
        from_ns: i64,
        properties: &[&str],
        sink: &mut (dyn FnMut(TailEvent<'_>) + Send),
    ) -> Result<TailRead, StoreError> {
        let reading = async {
            check(properties)?;
            let condition = format!("{}{}", slice.condition(), since(from_ns));
            let query = self.database().query(&select(properties, &condition));
            let query = bind_texts(query, properties).bind(slice.partition.as_str());
            pass_on(query, sink).await
        };
        reading.await.map_err(self.error("reading new events"))
    }

    /// Passes on the events of one subject, in no order.
    ///
    /// # Errors
    /// When a bound of the question is broken, or the store is away or refuses; some rows may have been passed on by
    /// then.
    pub async fn past_events(
        &self,
        question: &PastQuestion<'_>,
        properties: &[&str],
        sink: &mut (dyn FnMut(TailEvent<'_>) + Send),
    ) -> Result<TailRead, StoreError> {
        let reading = async {
            check(properties)?;
            let count = question.slices.len();
            if !(1..=SLICES_MAX).contains(&count) {
                return Err(misuse(format!(
                    "{count} slices asked for: ask for 1 to {SLICES_MAX} at once"
                )));
            }
            let query = self
                .database()
                .query(&select(properties, &question.condition()));
            let mut query = bind_texts(query, properties)
                .bind(question.tenant)
                .bind(question.user);
            if let Some(session) = question.session {
                query = query.bind(session);
            }
            for slice in question.slices {
                query = query.bind(slice.partition.as_str());
            }
            pass_on(query, sink).await
        };
        reading.await.map_err(self.error("reading earlier events"))
    }
}

impl PastQuestion<'_> {
    /// Binds tenant, user, session if there is one, and the partition of each slice.
    fn condition(&self) -> String {
        let session = expression("session").filter(|_| self.session.is_some());
        let session = session.map_or_else(String::new, |text| format!(" AND {text} = ?"));
        let slices: Vec<String> = self
            .slices
            .iter()
            .map(|slice| format!("({})", slice.condition()))
            .collect();
        format!(
            "tenant_id = ? AND user_id = ?{session}{} AND ({})",
            since(self.from_ns),
            slices.join(" OR ")
        )
    }
}

fn check(properties: &[&str]) -> Result<(), clickhouse::error::Error> {
    if properties.len() <= EVENT_PROPERTIES_MAX {
        return Ok(());
    }
    Err(misuse(format!(
        "{} properties asked for: ask for at most {EVENT_PROPERTIES_MAX} at once",
        properties.len()
    )))
}

/// The store's times begin with 1970, where no bound is needed.
fn since(from_ns: i64) -> String {
    if from_ns <= 0 {
        return String::new();
    }
    format!(" AND timestamp >= fromUnixTimestamp64Nano({from_ns})")
}

fn select(properties: &[&str], condition: &str) -> String {
    // An array of nothing would have no type.
    let texts = if properties.is_empty() {
        "CAST([] AS Array(Nullable(String)))".to_owned()
    } else {
        format!("[{}]", texts(properties))
    };
    format!(
        "SELECT tenant_id, user_id, timestamp, event, {texts} AS texts FROM events WHERE {condition}"
    )
}

async fn pass_on(
    query: Query,
    sink: &mut (dyn FnMut(TailEvent<'_>) + Send),
) -> Result<TailRead, clickhouse::error::Error> {
    let mut read = TailRead::default();
    let mut rows = query.fetch::<RawRow<'_>>()?;
    while let Some(raw) = rows.next().await? {
        let row = read.sift(raw.tenant_id, raw.user_id, raw.timestamp, raw.event);
        let Some(row) = row else { continue };
        let texts = raw.texts.into_iter();
        let values: Result<Vec<_>, _> = texts
            .map(|text| text.map(str::from_utf8).transpose())
            .collect();
        sink(TailEvent {
            tenant: row.tenant,
            user: row.user,
            at_ns: row.at_ns,
            event: row.event,
            values: &values?,
        });
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_mark_of_a_condition_is_bound() {
        let slices = [Slice::of("202610", 3, 9), Slice::of("202611", 1, 2)];
        let question = |session| PastQuestion {
            tenant: "t1",
            user: "u1",
            session,
            from_ns: 7,
            slices: &slices,
        };
        let marks = |session| question(session).condition().matches('?').count();
        assert_eq!((marks(None), marks(Some("s"))), (2 + 2, 3 + 2));
        assert!(question(None).condition().contains("Nano(7)"));
        let statement = select(&["device", "session"], "1");
        assert_eq!(statement.matches('?').count(), 2, "of the map's key, twice");
        assert!(!select(&[], "1").contains('?'));
        assert!(check(&["a"; EVENT_PROPERTIES_MAX + 1]).is_err());
    }
}

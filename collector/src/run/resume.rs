//! Taking up where an earlier collector was killed: its journal is read again, and what it had delivered is left out.

use anyhow::Context as _;

use crate::{
    exchange::Exchange,
    journal::{Journal, Past},
    ledger::{Ledger, Line},
    pipeline::Pipeline,
    source::RecordDrain,
};

/// How far an output had got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HadDelivered {
    /// Index of the last record whose exchanges are surely delivered.
    pub position: u64,
    /// Span id of the last exchange that is surely delivered, if that is known better.
    pub last_span_id: Option<String>,
}

/// Opens the journal of a kept capture. `resumed`: the capture was taken over, so that the journal belongs to it.
///
/// # Errors
/// When the journal cannot be used.
pub fn open_journal(
    folder: &std::path::Path,
    resumed: bool,
    delivered: &HadDelivered,
) -> anyhow::Result<(Journal, Past)> {
    let anew = (!resumed).then_some(delivered.position);
    Journal::open(folder, anew)
        .with_context(|| format!("while opening the journal in {}", folder.display()))
}

/// Brings the pipeline to where the earlier one was. Returns the exchanges that were completed and not delivered.
pub fn take_up(
    past: &Past,
    pipeline: &mut Pipeline,
    drain: &mut RecordDrain,
    delivered: &HadDelivered,
    ledger: &Ledger,
) -> Vec<Exchange> {
    let (mut fresh, mut left_over, mut before) = (Vec::new(), Vec::new(), 0_u64);
    past.replay(|index, anchor, record| {
        ledger.add(Line::RecordsReplayed, 1);
        pipeline.set_anchor(anchor);
        // Hints were given by the earlier collector; the kernel still has them.
        let _hint = pipeline.record(record, &mut fresh);
        if index <= delivered.position {
            before += fresh.len() as u64;
            fresh.clear();
        }
        left_over.append(&mut fresh);
    });
    if let Some(last) = &delivered.last_span_id {
        let at = left_over
            .iter()
            .position(|exchange| exchange.span_id.as_ref() == Some(last));
        if let Some(at) = at {
            before += at as u64 + 1;
            left_over.drain(..=at);
        }
    }
    if let Some(position) = past.ring_position {
        drain.skip_to(position);
    }
    ledger.add(Line::ExchangesDeliveredBefore, before);
    tracing::info!(
        delivered_before = before,
        left_over = left_over.len(),
        waiting_bytes = drain.waiting(),
        "took up where the last collector was"
    );
    left_over
}

//! Taking up where an earlier collector was killed: its journal is read again, and what it had delivered is left out.

use crate::{
    exchange::Exchange,
    journal::Past,
    ledger::{Ledger, Line},
    pipeline::Pipeline,
    source::RecordDrain,
};

/// Brings the pipeline to where the earlier one was. `delivered`: index of the last record whose exchanges the output
/// holds. Returns the exchanges that were completed later.
pub fn take_up(
    past: &Past,
    pipeline: &mut Pipeline,
    drain: &mut RecordDrain,
    delivered: u64,
    ledger: &Ledger,
) -> Vec<Exchange> {
    let (mut fresh, mut left_over, mut before) = (Vec::new(), Vec::new(), 0_u64);
    past.replay(|index, anchor, record| {
        ledger.add(Line::RecordsReplayed, 1);
        pipeline.set_anchor(anchor);
        // Hints were given by the earlier collector; the kernel still has them.
        let _hint = pipeline.record(record, &mut fresh);
        if index <= delivered {
            before += fresh.len() as u64;
            fresh.clear();
        }
        left_over.append(&mut fresh);
    });
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

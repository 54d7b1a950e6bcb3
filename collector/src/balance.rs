//! The books of every stage: what it saw is what it passed on, dropped with a reason, and still holds.
//!
//! One table, so that metrics, the summary and `collector doctor --live` show the same figures.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::ledger::{Ledger, Line};

/// One stage's account. What it still holds is the rest: `seen - passed - dropped`; it is never below zero unless
/// something was counted twice or not at all, which would be a bug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// Short name.
    pub stage: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// Came in.
    pub seen: u64,
    /// Went on to the next stage.
    pub passed: u64,
    /// Did not, by reason; reasons that never happened are left out.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Is still inside.
    pub held: i64,
}

impl Stage {
    fn new(
        stage: &'static str,
        unit: &'static str,
        seen: u64,
        passed: u64,
        reasons: &[(&'static str, u64)],
    ) -> Self {
        let dropped: BTreeMap<_, _> = reasons
            .iter()
            .copied()
            .filter(|(_, count)| *count > 0)
            .collect();
        let out = passed + dropped.values().sum::<u64>();
        let held = i64::try_from(seen).unwrap_or(i64::MAX) - i64::try_from(out).unwrap_or(i64::MAX);
        Self {
            stage,
            unit,
            seen,
            passed,
            dropped,
            held,
        }
    }

    /// Whether the account can be true.
    pub const fn is_sound(&self) -> bool {
        self.held >= 0
    }
}

/// The accounts, in the order in which data flows. `kernel`: the programs' counters; `kernel_before`: of them, those
/// of the time before this process, when a capture was kept.
pub fn stages(
    ledger: &Ledger,
    kernel: &BTreeMap<&'static str, u64>,
    kernel_before: u64,
) -> Vec<Stage> {
    let of_kernel = |name: &str| kernel.get(name).copied().unwrap_or(0);
    let line = |line: Line| ledger.get(line);
    let entry = |line: Line| (line.label(), ledger.get(line));
    let read = line(Line::RecordsRead).saturating_sub(line(Line::RecordsReplayed));
    vec![
        Stage::new(
            "hooks",
            "segments",
            of_kernel("segments_wanted"),
            of_kernel("records_sent"),
            &[
                ("refused_ring_full", of_kernel("refused_ring_full")),
                ("refused_unreadable", of_kernel("refused_unreadable")),
                (
                    "refused_tls_unreadable",
                    of_kernel("refused_tls_unreadable"),
                ),
            ],
        ),
        Stage::new(
            "ring",
            "records",
            // The counters are read once a second, the ring all the time.
            of_kernel("records_sent")
                .saturating_sub(kernel_before)
                .max(read),
            read,
            &[],
        ),
        Stage::new(
            "pipeline",
            "requests",
            line(Line::Requests),
            line(Line::Exchanges),
            &[entry(Line::RequestsBeyondDepth)],
        ),
        Stage::new(
            "output",
            "exchanges",
            line(Line::Exchanges) + line(Line::ExchangesTakenOver),
            line(Line::ExchangesStored),
            &[
                entry(Line::ExchangesDeliveredBefore),
                entry(Line::ExchangesDroppedSpoolFull),
                entry(Line::ExchangesDroppedOutput),
                entry(Line::ExchangesDroppedCorrupt),
            ],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_passed_nor_dropped_is_held() {
        let ledger = Ledger::default();
        ledger.add(Line::Requests, 10);
        ledger.add(Line::Exchanges, 7);
        ledger.add(Line::RequestsBeyondDepth, 1);
        ledger.add(Line::ExchangesStored, 9);
        let kernel = BTreeMap::from([
            ("segments_wanted", 100),
            ("records_sent", 97),
            ("refused_ring_full", 3),
        ]);
        let stages = stages(&ledger, &kernel, 0);
        let told: Vec<(&str, i64, bool)> = stages
            .iter()
            .map(|stage| (stage.stage, stage.held, stage.is_sound()))
            .collect();
        assert_eq!(
            told,
            [
                ("hooks", 0, true),
                ("ring", 97, true),
                ("pipeline", 2, true),
                ("output", -2, false)
            ]
        );
        assert_eq!(
            stages[0].dropped,
            BTreeMap::from([("refused_ring_full", 3)])
        );
    }
}

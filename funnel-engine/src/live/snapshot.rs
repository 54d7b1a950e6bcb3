//! What is published of a result window. Everything in it follows from counts, so it says the same everywhere.

use serde::{Serialize, Serializer};

/// A step in a result window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepSnapshot {
    /// Counted from 1.
    pub step: usize,
    /// From the definition.
    pub name: String,
    /// Who reached it; of a step that may be skipped, who took it.
    pub count: u64,
    /// Fraction of the count of the previous step that may not be skipped; null when that is zero.
    pub conversion_from_previous: Option<f64>,
    /// Fraction of the first step's count; null when that is zero.
    pub conversion_from_start: Option<f64>,
    /// Who reached it and not the next step that may not be skipped; zero for a step that may be skipped.
    pub drop_off: u64,
    /// Whether it may be skipped.
    pub optional: bool,
}

/// A funnel over the attempts that start in one result window, as far as it is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Name of the funnel.
    pub funnel: String,
    /// Whose shop; empty for none.
    pub tenant: String,
    /// Where the window begins, nanoseconds since 1970 UTC; as JSON, RFC 3339.
    #[serde(rename = "from", serialize_with = "rfc3339")]
    pub from_ns: i64,
    /// Where it ends, outside.
    #[serde(rename = "to", serialize_with = "rfc3339")]
    pub to_ns: i64,
    /// Higher with every snapshot of the same window; the highest holds.
    pub revision: u64,
    /// Whether only an event later than the lateness allowed can still change it; such a correction is published with a
    /// higher revision and is final again.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// In order.
    pub steps: Vec<StepSnapshot>,
}

impl Snapshot {
    /// The counts alone, by step.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.steps.iter().map(|step| step.count)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn rfc3339<S: Serializer>(at_ns: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let at =
        jiff::Timestamp::from_nanosecond(i128::from(*at_ns)).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&at)
}

/// Names of a funnel's steps, and which of them may be skipped (bit k for step k + 1).
#[derive(Clone, Debug)]
pub(super) struct Labels {
    pub(super) names: Vec<String>,
    pub(super) optional: u64,
}

impl Labels {
    /// Steps with their counts and all that follows from them.
    pub(super) fn steps(&self, counts: &[u64]) -> Vec<StepSnapshot> {
        let first = counts.first().copied().unwrap_or(0);
        let mut previous = None;
        let mut steps: Vec<StepSnapshot> = Vec::with_capacity(self.names.len());
        for (index, (name, count)) in self.names.iter().zip(counts).enumerate() {
            let optional = self.optional >> index & 1 == 1;
            steps.push(StepSnapshot {
                step: index + 1,
                name: name.clone(),
                count: *count,
                conversion_from_previous: ratio(*count, previous.unwrap_or(*count)),
                conversion_from_start: ratio(*count, first),
                drop_off: 0,
                optional,
            });
            if !optional {
                previous = Some(*count);
            }
        }
        let mut next = None;
        for step in steps.iter_mut().rev().filter(|step| !step.optional) {
            step.drop_off = step.count.saturating_sub(next.unwrap_or(step.count));
            next = Some(step.count);
        }
        steps
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_may_be_skipped_does_not_come_between_the_others() {
        let labels = Labels {
            names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            optional: 0b010,
        };
        let steps = labels.steps(&[8, 2, 4]);
        let drop_off: Vec<u64> = steps.iter().map(|step| step.drop_off).collect();
        assert_eq!(drop_off, [4, 0, 0]);
        let from_previous: Vec<_> = steps
            .iter()
            .map(|step| step.conversion_from_previous)
            .collect();
        assert_eq!(from_previous, [Some(1.0), Some(0.25), Some(0.5)]);
        assert!(
            labels
                .steps(&[0, 0, 0])
                .iter()
                .all(|step| step.conversion_from_start.is_none())
        );
    }

    #[test]
    fn its_json_is_what_receivers_rely_on() {
        let labels = Labels {
            names: ["Login", "Pay"].map(str::to_owned).to_vec(),
            optional: 0,
        };
        let snapshot = Snapshot {
            funnel: "checkout".to_owned(),
            tenant: "t1".to_owned(),
            from_ns: 1_767_225_600_000_000_000,
            to_ns: 1_767_229_200_000_000_000,
            revision: 3,
            is_final: true,
            steps: labels.steps(&[4, 1]),
        };
        assert_eq!(
            serde_json::to_string(&snapshot).unwrap(),
            r#"{"funnel":"checkout","tenant":"t1","from":"2026-01-01T00:00:00Z","to":"2026-01-01T01:00:00Z","revision":3,"final":true,"steps":[{"step":1,"name":"Login","count":4,"conversion_from_previous":1.0,"conversion_from_start":1.0,"drop_off":3,"optional":false},{"step":2,"name":"Pay","count":1,"conversion_from_previous":0.25,"conversion_from_start":0.25,"drop_off":0,"optional":false}]}"#
        );
    }
}

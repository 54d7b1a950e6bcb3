//! Names of steps where a name has to tell them apart.

use funnel_engine::live::Snapshot;

/// The names of a snapshot's steps, in order; a step whose name an earlier one has already gets its number: `Cart#3`.
pub(crate) fn step_names(snapshot: &Snapshot) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(snapshot.steps.len());
    for step in &snapshot.steps {
        let mut name = step.name.clone();
        while names.contains(&name) {
            name = format!("{name}#{}", step.step);
        }
        names.push(name);
    }
    names
}

/// Stand-ins for tests.
#[cfg(test)]
pub(crate) mod samples {
    use funnel_engine::live::{Snapshot, StepSnapshot};

    /// 2026-01-01T00:00:00Z.
    pub(crate) const DAY_START: i64 = 1_767_225_600_000_000_000;
    /// Nanoseconds.
    pub(crate) const HOUR: i64 = 3_600_000_000_000;

    /// A snapshot of an hour with steps `Login`, `Cart`, ... of these counts.
    pub(crate) fn snapshot(tenant: &str, hour: i64, revision: u64, counts: &[u64]) -> Snapshot {
        let names = ["Login", "Cart", "Pay", "Pay"];
        let steps = names.iter().zip(counts).enumerate();
        let steps = steps.map(|(index, (name, count))| StepSnapshot {
            step: index + 1,
            name: (*name).to_owned(),
            count: *count,
            conversion_from_previous: Some(1.0),
            conversion_from_start: Some(1.0),
            drop_off: 0,
            optional: index == 1,
        });
        Snapshot {
            funnel: "checkout".to_owned(),
            tenant: tenant.to_owned(),
            from_ns: DAY_START + hour * HOUR,
            to_ns: DAY_START + (hour + 1) * HOUR,
            revision,
            is_final: false,
            steps: steps.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::snapshot, *};

    #[test]
    fn equal_names_are_told_apart() {
        let names = step_names(&snapshot("t1", 0, 1, &[4, 3, 2, 1]));
        assert_eq!(names, ["Login", "Cart", "Pay", "Pay#4"]);
    }
}

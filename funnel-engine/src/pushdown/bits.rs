//! What a row can do: bit sets of the steps it can fill and of the exclusions it matches.

use std::collections::BTreeMap;

use super::{
    source::Source,
    sql::{Sql, list},
};
use crate::{
    definition::{Step, StepEvent},
    predicate::Condition,
};

impl Source<'_> {
    /// The steps that a row can fill, as a bit set.
    pub(super) fn fills(&self) -> Sql {
        let steps: Vec<(&StepEvent, Vec<Condition>)> =
            self.definition.steps.iter().map(rule).collect();
        self.bits(&steps)
    }

    pub(super) fn excludes(&self) -> Sql {
        let exclusions = self.definition.exclusions.iter();
        let rules: Vec<_> = exclusions
            .map(|one| (&one.event, one.conditions.clone()))
            .collect();
        self.bits(&rules)
    }

    /// Bit k: whether a row's name and properties pass rule k.
    fn bits(&self, rules: &[(&StepEvent, Vec<Condition>)]) -> Sql {
        let (mut any, mut by_name) = (0_u64, BTreeMap::<&str, u64>::new());
        let (mut free, mut checked) = (0_u64, Vec::new());
        for (bit, (event, conditions)) in rules.iter().enumerate() {
            let bit = 1_u64 << bit;
            match event.names() {
                None => any |= bit,
                Some(names) => names
                    .iter()
                    .for_each(|name| *by_name.entry(name).or_default() |= bit),
            }
            match self.table().all_hold(conditions) {
                None => free |= bit,
                Some(holds) => checked.push((bit, holds)),
            }
        }
        let named = if by_name.is_empty() {
            Sql::raw(format!("toUInt64({any})"))
        } else {
            // `*` takes part under every name.
            let bits = list(
                by_name
                    .values()
                    .map(|bits| format!("toUInt64({})", bits | any)),
            );
            let template = format!(
                "CAST(transform({}, {{}}, [{bits}], toUInt64({any})), 'UInt64')",
                self.name()
            );
            Sql::fill(&template, [Sql::texts(by_name.into_keys())])
        };
        if checked.is_empty() {
            return named;
        }
        let mut passed = vec![Sql::raw(format!("toUInt64({free})"))];
        passed.extend(checked.into_iter().map(|(bit, holds)| {
            Sql::fill(&format!("if({{}}, toUInt64({bit}), toUInt64(0))"), [holds])
        }));
        Sql::fill("bitAnd({}, {})", [named, Sql::join(passed, " + ")])
    }
}

fn rule(step: &Step) -> (&StepEvent, Vec<Condition>) {
    (&step.event, step.all_conditions())
}

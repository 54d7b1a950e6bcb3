//! A subject's events taken apart, and `occurrence`: steps that only a user's first event can fill.
//!
//! The first instants are found in the same statement that gathers a user's events; the bits of the steps are then
//! taken from all other events. Refuses sessions and single values, where a subject is not the whole user (see
//! `accept`).

use super::{
    source::{Detail, Source},
    sql::Sql,
};
use crate::definition::{Occurrence, Order, Step};

impl Source<'_> {
    fn limited(&self) -> impl Iterator<Item = (usize, &Step)> {
        let steps = self.definition.steps.iter().enumerate();
        steps.filter(|(_, step)| step.occurrence != Occurrence::Any)
    }

    /// Columns `first_k`: the first instant at which step k can be filled; 0 for never.
    pub(super) fn firsts(&self) -> Vec<Sql> {
        let first = |(index, step): (usize, &Step)| match (step.occurrence, step.event.names()) {
            (Occurrence::FirstEver, Some(names)) => {
                let template = format!("minIf(x_at, {} IN {{}}) AS first_{index}", self.name());
                Sql::fill(&template, [Sql::texts(names)])
            }
            (Occurrence::FirstEver, None) => Sql::raw(format!("min(x_at) AS first_{index}")),
            (Occurrence::FirstMatching | Occurrence::Any, _) => Sql::raw(format!(
                "minIf(x_at, x_considered AND bitTest(x_fills, {index})) AS first_{index}"
            )),
        };
        self.limited().map(first).collect()
    }

    /// The steps that `event` fills, without those that want an earlier one.
    fn filled(&self) -> String {
        let gone = self.limited().map(|(index, _)| {
            let bit = 1_u64 << index;
            format!("if(event.1 = first_{index}, toUInt64(0), toUInt64({bit}))")
        });
        let gone = gone.collect::<Vec<_>>().join(" + ");
        if gone.is_empty() {
            "event.2".to_owned()
        } else {
            format!("bitAnd(event.2, bitNot({gone}))")
        }
    }

    /// The column `ev`.
    pub(super) fn events(&self) -> String {
        let unpacked = format!("arrayMap(p -> {}, packed)", self.unpacked());
        if self.limited().next().is_none() {
            return format!("{unpacked} AS ev");
        }
        let (excludes, rest) = if self.definition.exclusions.is_empty() {
            ("", "event.2 != 0")
        } else {
            (", event.3", "event.2 != 0 OR event.3 != 0")
        };
        let rest = if self.definition.order == Order::Strict {
            "1"
        } else {
            rest
        };
        let filled = self.filled();
        format!(
            "arrayFilter(event -> {rest}, arrayMap(event -> (event.1, {filled}{excludes}), {unpacked})) AS ev"
        )
    }

    /// The column `seen`, if a detail is wanted.
    pub(super) fn seen(&self, detail: Detail) -> Option<String> {
        let event = format!("arrayMap(p -> {}, packed_seen)", self.unpacked());
        let filled = self.filled();
        (detail == Detail::Seen).then(|| {
            format!(
                "arrayFilter(one -> one.2 != 0, arrayMap((event, detail) -> (event.1, {filled}, detail), {event}, details)) AS seen"
            )
        })
    }
}

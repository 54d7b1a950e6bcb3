//! `occurrence`: steps that only a user's first event can fill.
//!
//! The first instants are found in the same statement that gathers a user's events; the bits of the steps are then
//! taken from all other events. Refuses sessions and single values, where a subject is not the whole user (see
//! `accept`).

use super::{
    source::{Detail, Source},
    sql::{Sql, list},
};
use crate::definition::{Occurrence, Order, Step};

impl Source<'_> {
    fn limited(&self) -> impl Iterator<Item = (usize, &Step)> {
        let steps = self.definition.steps.iter().enumerate();
        steps.filter(|(_, step)| step.occurrence != Occurrence::Any)
    }

    fn is_limited(&self) -> bool {
        self.limited().next().is_some()
    }

    /// What a gathered array is called before the bits are taken away.
    pub(super) fn gathered(&self, name: &str) -> String {
        if self.is_limited() { format!("all_{name}") } else { name.to_owned() }
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

    /// The subjects, whose later events no longer fill the steps that want a first one.
    pub(super) fn only_firsts(&self, subjects: Sql, detail: Detail) -> Sql {
        if !self.is_limited() {
            return subjects;
        }
        let gone = self.limited().map(|(index, _)| {
            let bit = 1_u64 << index;
            format!("if(event.1 = first_{index}, toUInt64(0), toUInt64({bit}))")
        });
        let fills = format!("bitAnd(event.2, bitNot({}))", gone.collect::<Vec<_>>().join(" + "));
        let excludes = !self.definition.exclusions.is_empty();
        let event = if excludes { format!("(event.1, {fills}, event.3)") } else { format!("(event.1, {fills})") };
        let rest = if excludes { "event.2 != 0 OR event.3 != 0" } else { "event.2 != 0" };
        let rest = if self.definition.order == Order::Strict { "1" } else { rest };
        let mut columns = vec![
            self.keys().to_owned(),
            "scanned".to_owned(),
            format!("arrayFilter(event -> {rest}, arrayMap(event -> {event}, all_ev)) AS ev"),
        ];
        if detail != Detail::None {
            columns.push(format!(
                "arrayFilter(event -> event.2 != 0, arrayMap(event -> (event.1, {fills}, event.3), all_seen)) AS seen"
            ));
        }
        Sql::fill(&format!("SELECT {} FROM ({{}})", list(columns)), [subjects])
    }
}

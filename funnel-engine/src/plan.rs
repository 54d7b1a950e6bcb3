//! Which backend answers, and why: the fastest that can, said in words that `funnel explain` prints.
//!
//! Owns: the choice from what is at hand, and its account. Refuses: finding out what is at hand (the caller knows its
//! files, its index and its store) and running anything.

use std::{collections::BTreeSet, fmt};

use crate::{
    columnar::wanted_properties,
    definition::{FunnelDefinition, Occurrence, Order, StepEvent},
    pushdown::statement_kind,
};

/// Who can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A scan over columns: every definition.
    Columnar,
    /// Inside the store: most definitions.
    Clickhouse,
    /// Slow and obviously right: every definition.
    Reference,
}

impl Backend {
    /// As commands and results write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Columnar => "columnar",
            Self::Clickhouse => "clickhouse",
            Self::Reference => "reference",
        }
    }
}

/// Where the events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// In a file, or anywhere else that is read from front to back.
    File,
    /// In the store.
    Store,
    /// In the store, with a columnar index of it at hand.
    Index,
}

/// A choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who answers.
    pub backend: Backend,
    /// From where.
    pub from: Events,
    /// Why, and why not others.
    pub because: Vec<String>,
    /// What is read.
    pub reads: Vec<String>,
}

/// Chooses for a definition.
pub fn plan(definition: &FunnelDefinition, events: Events) -> Plan {
    let by_http = definition.steps.iter().any(|step| step.http.is_some());
    let (backend, from, mut because) = match events {
        Events::File => {
            let columnar =
                "the events are in a file: they are read once, packed into columns and scanned";
            let store = "not clickhouse: it reads a store, not a file";
            (
                Backend::Columnar,
                Events::File,
                vec![columnar.to_owned(), store.to_owned()],
            )
        }
        Events::Index if !by_http => {
            let columnar =
                "an index of the store's events is at hand, and a scan over it is the fastest";
            let mut because = vec![columnar.to_owned()];
            because.extend(refusal(definition));
            (Backend::Columnar, Events::Index, because)
        }
        Events::Index => {
            let index = "not the index: it holds named events only, and a step says `http`";
            in_store(definition, index)
        }
        Events::Store => in_store(
            definition,
            "not columnar: no index of the store's events is at hand",
        ),
    };
    because.push("not reference: it gives the same answer more slowly".to_owned());
    Plan {
        backend,
        from,
        because,
        reads: reads(definition, from),
    }
}

/// Without an index.
fn in_store(definition: &FunnelDefinition, not_index: &str) -> (Backend, Events, Vec<String>) {
    match statement_kind(definition) {
        Ok(kind) => {
            let because = vec![
                "the store can answer this definition itself, and no event leaves it".to_owned(),
                format!("it is answered by {}", kind.as_str()),
                not_index.to_owned(),
            ];
            (Backend::Clickhouse, Events::Store, because)
        }
        Err(refused) => {
            let because = vec![
                format!("not clickhouse: {refused}"),
                "the events are read from the store, packed into columns and scanned".to_owned(),
            ];
            (Backend::Columnar, Events::Store, because)
        }
    }
}

fn refusal(definition: &FunnelDefinition) -> Option<String> {
    let refused = statement_kind(definition).err()?;
    Some(format!("not clickhouse: {refused}"))
}

fn reads(definition: &FunnelDefinition, from: Events) -> Vec<String> {
    let by_http = definition.steps.iter().any(|step| step.http.is_some());
    let place = match from {
        Events::File => "the file",
        Events::Index => "the index",
        Events::Store if by_http => {
            "the table http_exchanges: requests of known users, seen at the server"
        }
        Events::Store => "the table events",
    };
    let events = names(definition).map_or_else(
        || "events of every name".to_owned(),
        |names| format!("events named {}", joined(names)),
    );
    let properties = wanted_properties(definition);
    let properties = if properties.is_empty() {
        "no properties".to_owned()
    } else {
        format!("properties {}", properties.join(", "))
    };
    let mut steps = definition.steps.iter();
    let is_ever = steps.any(|step| step.occurrence == Occurrence::FirstEver);
    let times = match &definition.time_range {
        Some(range) if is_ever => {
            format!(
                "times from {} to {}, and all times for `first_ever`",
                range.from, range.to
            )
        }
        Some(range) => format!("times from {} to {}", range.from, range.to),
        None => "all times".to_owned(),
    };
    vec![place.to_owned(), events, properties, times]
}

/// The names of events that can matter; `None` if all can.
fn names(definition: &FunnelDefinition) -> Option<BTreeSet<&str>> {
    if definition.order == Order::Strict {
        return None;
    }
    let steps = definition.steps.iter().map(|step| &step.event);
    let exclusions = definition.exclusions.iter();
    let events = steps.chain(exclusions.map(|exclusion| &exclusion.event));
    let names: Option<Vec<Vec<&str>>> = events.map(StepEvent::names).collect();
    Some(names?.into_iter().flatten().collect())
}

fn joined(names: BTreeSet<&str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "backend  {}", self.backend.as_str())?;
        for line in &self.because {
            writeln!(f, "because  {line}")?;
        }
        for line in &self.reads {
            writeln!(f, "reads    {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(extra: &str, events: Events) -> Plan {
        let json = format!(
            r#"{{"name":"x","window":"1d","steps":[{{"name":"A","event":"a"}},{{"name":"B","event":["b","c"],"where":[{{"property":"amount","op":"gte","value":1}}]}}]{extra}}}"#
        );
        plan(&FunnelDefinition::parse(&json).unwrap(), events)
    }

    const TOTALS: &str = r#","count":"totals""#;

    #[test]
    fn the_fastest_that_can_is_taken() {
        for (extra, at_hand, backend, from) in [
            ("", Events::File, Backend::Columnar, Events::File),
            ("", Events::Store, Backend::Clickhouse, Events::Store),
            (TOTALS, Events::Store, Backend::Columnar, Events::Store),
            ("", Events::Index, Backend::Columnar, Events::Index),
            (TOTALS, Events::Index, Backend::Columnar, Events::Index),
        ] {
            let plan = plan_of(extra, at_hand);
            assert_eq!(
                (plan.backend, plan.from),
                (backend, from),
                "{extra} {at_hand:?}"
            );
        }
    }

    #[test]
    fn what_the_index_does_not_hold_is_asked_of_the_store() {
        let json = r#"{"name":"x","window":"1d","steps":[{"name":"A","http":{"route":"/a"}},{"name":"B","event":"b"}]}"#;
        let definition = FunnelDefinition::parse(json).unwrap();
        let plan = plan(&definition, Events::Index);
        assert_eq!(
            (plan.backend, plan.from),
            (Backend::Clickhouse, Events::Store)
        );
        assert!(plan.to_string().contains("not the index"), "{plan}");
        assert!(
            plan.to_string().contains("the table http_exchanges"),
            "{plan}"
        );
    }

    #[test]
    fn the_account_says_what_is_read_and_why_not_others() {
        let store = plan_of("", Events::Store).to_string();
        for part in [
            "backend  clickhouse",
            "because  it is answered by level by level",
            "reads    the table events",
            "events named a, b, c",
            "properties amount",
            "all times",
        ] {
            assert!(store.contains(part), "{part} in {store}");
        }
        let totals = plan_of(TOTALS, Events::Store).to_string();
        assert!(totals.contains("not clickhouse: count"), "{totals}");
        let strict = plan_of(r#","order":"strict""#, Events::Store).to_string();
        assert!(strict.contains("events of every name"), "{strict}");
    }
}

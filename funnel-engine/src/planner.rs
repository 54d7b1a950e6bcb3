//! Which backend answers a funnel, and why: columnar before ClickHouse before the reference.
//!
//! Owns: the choice from what is at hand, and its account for `funnel explain`. Refuses: finding out what is at hand (the
//! caller knows its files, its index and its store) and running anything.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    definition::{DefinitionError, FunnelDefinition, Occurrence, Order, StepEvent},
    pushdown::require_pushdown,
    wanted_properties,
};

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The columnar index of the store, or one built of an event file: every definition.
    Columnar,
    /// Statements inside the store: most definitions, always up to date.
    Clickhouse,
    /// In memory, slow and obviously right: every definition, over event files.
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

/// The columnar index of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexAtHand {
    /// It holds every event of the scope that the store holds.
    Covers {
        /// How many, if that is known.
        events: Option<u64>,
    },
    /// It does not.
    Lacks {
        /// What it lacks, such as `it ends at 2026-01-05T00:00:00Z`.
        because: String,
    },
}

/// An event file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileAtHand {
    /// Its size.
    pub bytes: u64,
    /// How many events it holds, if that is known.
    pub events: Option<u64>,
    /// Why no index can be built of it, where that has failed.
    pub columnar_failed: Option<String>,
}

/// What the events can be read from. A file wins over a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtHand {
    /// An event file.
    pub file: Option<FileAtHand>,
    /// A store.
    pub store: bool,
    /// The index of that store.
    pub index: Option<IndexAtHand>,
}

/// A choice and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who answers.
    pub backend: Backend,
    /// Why, and why not the others; one sentence each.
    pub because: Vec<String>,
    /// What is read; one sentence each.
    pub reads: Vec<String>,
    /// Events to look at, where that is known.
    pub estimated_events: Option<u64>,
}

/// Nobody can answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The store cannot, and nothing else is at hand.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// There are no events.
    #[error("nothing to read: give an event file or a store")]
    Nothing,
}

/// Chooses who answers.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(definition: &FunnelDefinition, at_hand: &AtHand) -> Result<Plan, PlanError> {
    let (backend, because, estimated_events) = match (&at_hand.file, at_hand.store) {
        (Some(file), _) => from_file(file),
        (None, true) => from_store(definition, at_hand.index.as_ref())?,
        (None, false) => return Err(PlanError::Nothing),
    };
    Ok(Plan {
        backend,
        because,
        reads: reads(definition, backend, at_hand.file.is_some()),
        estimated_events,
    })
}

type Choice = (Backend, Vec<String>, Option<u64>);

fn from_file(file: &FileAtHand) -> Choice {
    let size = format!("the events are in a file of {} bytes", file.bytes);
    let not_clickhouse = "clickhouse reads a store, not a file".to_owned();
    match &file.columnar_failed {
        None => {
            let reference = "reference is slow and only there to check the others".to_owned();
            let columnar = format!("columnar is the fastest and answers every definition: {size}");
            (Backend::Columnar, vec![columnar, not_clickhouse, reference], file.events)
        }
        Some(failure) => {
            let columnar = format!("columnar could not index the file: {failure}");
            let reference = format!("reference answers every definition: {size}");
            (Backend::Reference, vec![reference, columnar, not_clickhouse], file.events)
        }
    }
}

fn from_store(definition: &FunnelDefinition, index: Option<&IndexAtHand>) -> Result<Choice, DefinitionError> {
    let pushed = require_pushdown(definition);
    let not_reference = "reference reads event files only".to_owned();
    let not_columnar = match index {
        Some(IndexAtHand::Covers { events }) => {
            let columnar = "columnar is the fastest, answers every definition, and its index holds all events asked for";
            let clickhouse = match pushed {
                Ok(()) => "clickhouse could answer too, but reads more".to_owned(),
                Err(error) => format!("clickhouse does not answer {error}"),
            };
            return Ok((Backend::Columnar, vec![columnar.to_owned(), clickhouse, not_reference], *events));
        }
        Some(IndexAtHand::Lacks { because }) => format!("columnar has an index, but {because}"),
        None => "columnar has no index of this store".to_owned(),
    };
    pushed.map_err(|error| DefinitionError {
        message: format!("{} ({not_columnar})", error.message),
        ..error
    })?;
    let clickhouse = "clickhouse answers every part of this definition exactly".to_owned();
    Ok((Backend::Clickhouse, vec![clickhouse, not_columnar, not_reference], None))
}

fn reads(definition: &FunnelDefinition, backend: Backend, is_file: bool) -> Vec<String> {
    let mut reads = vec![format!("from: {}", place(definition, backend, is_file))];
    reads.push(match names(definition) {
        Some(names) => format!("events: {}", names.into_iter().collect::<Vec<_>>().join(", ")),
        None => "events: all, whatever they are called".to_owned(),
    });
    let properties = wanted_properties(definition);
    if !properties.is_empty() {
        reads.push(format!("properties: {}", properties.join(", ")));
    }
    let ever = definition.steps.iter().any(|step| step.occurrence == Occurrence::FirstEver);
    reads.push(match &definition.time_range {
        Some(range) if ever => format!("times: {} to {}, and all times for `first_ever`", range.from, range.to),
        Some(range) => format!("times: {} to {}", range.from, range.to),
        None => "times: all".to_owned(),
    });
    reads
}

fn place(definition: &FunnelDefinition, backend: Backend, is_file: bool) -> &'static str {
    let by_http = definition.steps.iter().any(|step| step.http.is_some());
    match backend {
        Backend::Columnar | Backend::Reference if is_file => "the event file",
        Backend::Columnar => "the index",
        Backend::Reference => "the event file",
        Backend::Clickhouse if by_http => "the table http_exchanges: requests of known users, seen at the server",
        Backend::Clickhouse => "the table events",
    }
}

/// The names of events that can matter; `None` if all can.
fn names(definition: &FunnelDefinition) -> Option<BTreeSet<&str>> {
    if definition.order == Order::Strict {
        return None;
    }
    let steps = definition.steps.iter().map(|step| &step.event);
    let exclusions = definition.exclusions.iter().map(|exclusion| &exclusion.event);
    let names: Option<Vec<Vec<&str>>> = steps.chain(exclusions).map(StepEvent::names).collect();
    Some(names?.into_iter().flatten().collect())
}

impl Plan {
    /// For people: who answers, why, what is read.
    pub fn to_text(&self) -> String {
        let mut text = format!("backend: {}\n", self.backend.as_str());
        // Writing into a string cannot fail.
        for reason in &self.because {
            writeln!(text, "  {reason}").unwrap_or_default();
        }
        text.push_str("reads\n");
        for line in &self.reads {
            writeln!(text, "  {line}").unwrap_or_default();
        }
        if let Some(events) = self.estimated_events {
            writeln!(text, "  about {events} events").unwrap_or_default();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(extra: &str) -> FunnelDefinition {
        let json = format!(
            r#"{{"name":"x","window":"1d","steps":[{{"name":"1","event":"a"}},{{"name":"2","event":["b","c"],"where":[{{"property":"amount","op":"gte","value":1}}]}}]{extra}}}"#
        );
        FunnelDefinition::parse(&json).unwrap()
    }

    const TOTALS: &str = r#","count":"totals""#;

    #[test]
    fn the_fastest_that_can_is_taken() {
        let store = AtHand { store: true, ..AtHand::default() };
        let covered = AtHand { index: Some(IndexAtHand::Covers { events: Some(7) }), ..store.clone() };
        let file = AtHand { file: Some(FileAtHand { bytes: 9, ..FileAtHand::default() }), ..store.clone() };
        for (at_hand, extra, backend) in [
            (&store, "", Backend::Clickhouse),
            (&covered, "", Backend::Columnar),
            (&covered, TOTALS, Backend::Columnar),
            (&file, TOTALS, Backend::Columnar),
        ] {
            assert_eq!(plan(&definition(extra), at_hand).unwrap().backend, backend);
        }
        assert_eq!(plan(&definition(""), &covered).unwrap().estimated_events, Some(7));
        assert_eq!(plan(&definition(""), &AtHand::default()), Err(PlanError::Nothing));
    }

    #[test]
    fn what_nobody_answers_names_the_part_and_why_the_index_does_not_help() {
        let index = Some(IndexAtHand::Lacks { because: "it ends at noon".to_owned() });
        let at_hand = AtHand { store: true, index, ..AtHand::default() };
        let error = plan(&definition(TOTALS), &at_hand).unwrap_err().to_string();
        assert!(error.starts_with("count: "), "{error}");
        assert!(error.contains("it ends at noon"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_indexed_is_left_to_the_reference() {
        let file = FileAtHand {
            columnar_failed: Some("70000 event names".to_owned()),
            ..FileAtHand::default()
        };
        let plan = plan(&definition(""), &AtHand { file: Some(file), ..AtHand::default() }).unwrap();
        assert_eq!(plan.backend, Backend::Reference);
        assert!(plan.because.iter().any(|reason| reason.contains("70000 event names")));
    }

    #[test]
    fn the_account_says_what_is_read() {
        let at_hand = AtHand { store: true, ..AtHand::default() };
        let text = plan(&definition(""), &at_hand).unwrap().to_text();
        assert!(text.starts_with("backend: clickhouse\n"), "{text}");
        for part in ["the table events", "events: a, b, c", "properties: amount", "times: all"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let strict = plan(&definition(r#","order":"strict""#), &at_hand).unwrap().to_text();
        assert!(strict.contains("events: all"), "{strict}");
    }
}

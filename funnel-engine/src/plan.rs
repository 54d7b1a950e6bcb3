//! Which backend answers, and why: the fastest that can, said in words that `funnel explain` prints.

use std::fmt;

use crate::{
    columnar::wanted_properties,
    definition::FunnelDefinition,
    pushdown::{explain_clickhouse, require_pushdown},
};

/// Who can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A scan over columns: every definition.
    Columnar,
    /// Inside the store.
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
}

/// A choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who answers.
    pub backend: Backend,
    /// Why, and why not others.
    pub because: Vec<String>,
    /// What is read.
    pub reads: Vec<String>,
    /// The statements, where the store answers.
    pub sql: Option<String>,
}

/// Chooses for a definition.
pub fn plan(definition: &FunnelDefinition, events: Events) -> Plan {
    let mut because = Vec::new();
    let backend = match (events, require_pushdown(definition)) {
        (Events::File, _) => {
            because.push(
                "the events are in a file: they are read once, packed into columns and scanned"
                    .to_owned(),
            );
            Backend::Columnar
        }
        (Events::Store, Ok(())) => {
            because.push(
                "the store can answer this definition itself, and no event leaves it".to_owned(),
            );
            Backend::Clickhouse
        }
        (Events::Store, Err(refused)) => {
            because.push(format!("not clickhouse: {refused}"));
            because.push(
                "the events are read from the store, packed into columns and scanned".to_owned(),
            );
            Backend::Columnar
        }
    };
    because.push("not reference: it gives the same answer more slowly".to_owned());
    Plan {
        backend,
        because,
        reads: reads(definition),
        sql: (backend == Backend::Clickhouse)
            .then(|| explain_clickhouse(definition).ok())
            .flatten(),
    }
}

fn reads(definition: &FunnelDefinition) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    let mut any = false;
    let exclusions = definition
        .exclusions
        .iter()
        .map(|exclusion| &exclusion.event);
    for event in definition
        .steps
        .iter()
        .map(|step| &step.event)
        .chain(exclusions)
    {
        match event.names() {
            None => any = true,
            Some(of_step) => names.extend(of_step),
        }
    }
    names.sort_unstable();
    names.dedup();
    let events = if any || definition.order == crate::definition::Order::Strict {
        "events of every name".to_owned()
    } else {
        format!("events named {}", names.join(", "))
    };
    let properties = wanted_properties(definition);
    let properties = if properties.is_empty() {
        "no properties".to_owned()
    } else {
        format!("properties {}", properties.join(", "))
    };
    let range = definition.time_range.as_ref().map_or_else(
        || "all times".to_owned(),
        |range| format!("times from {} to {}", range.from, range.to),
    );
    vec![events, properties, range]
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
        if let Some(sql) = &self.sql {
            writeln!(f, "\n{sql}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(json: &str, events: Events) -> Plan {
        plan(&FunnelDefinition::parse(json).unwrap(), events)
    }

    const PLAIN: &str =
        r#"{"name":"x","window":"1d","steps":[{"name":"A","event":"a"},{"name":"B","event":"b"}]}"#;

    #[test]
    fn the_store_answers_what_it_can_and_says_how() {
        let plan = plan_of(PLAIN, Events::Store);
        assert_eq!(plan.backend, Backend::Clickhouse);
        let sql = plan.sql.unwrap();
        assert!(
            sql.contains("has(['a'], event)") && sql.contains("FROM events"),
            "{sql}"
        );
        assert_eq!(plan_of(PLAIN, Events::File).backend, Backend::Columnar);
    }

    #[test]
    fn what_the_store_refuses_is_named_and_answered_otherwise() {
        let strict = PLAIN.replace("\"1d\"", "\"1d\",\"order\":\"strict\"");
        let plan = plan_of(&strict, Events::Store);
        assert_eq!(plan.backend, Backend::Columnar);
        let text = plan.to_string();
        assert!(
            text.contains("not clickhouse: order") && text.contains("events of every name"),
            "{text}"
        );
    }
}

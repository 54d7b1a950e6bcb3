//! How the shop served each step: latency and failed attempts, from exchanges seen at the server, whoever made them (a
//! refused login has no user, so it is no event of anyone).

use serde::Deserialize;

use super::{
    conditions::Table,
    source::Source,
    sql::{Sql, list},
};
use crate::{
    definition::StepEvent,
    figures::Latency,
    predicate::Condition,
    service::{FAILED_SUFFIX, StepService},
};

/// By step.
#[derive(Debug, Deserialize, clickhouse::Row)]
pub(super) struct Row {
    /// Mean and 95th percentile of milliseconds.
    latencies: Vec<Vec<f64>>,
    errors: Vec<u64>,
}

impl Row {
    /// The figures of each step.
    pub(super) fn steps(&self) -> Vec<StepService> {
        let each = self.latencies.iter().zip(&self.errors);
        let figures = each.map(|(latency, errors)| StepService {
            latency_ms: match latency.as_slice() {
                [mean, p95] if mean.is_finite() => Some(Latency {
                    mean: *mean,
                    p95: *p95,
                }),
                _ => None,
            },
            errors: *errors,
        });
        figures.collect()
    }
}

impl Source<'_> {
    /// The statement. It reads exchanges also where the funnel reads events; properties mean the same there.
    pub(super) fn service(&self) -> Sql {
        let steps = &self.definition.steps;
        let exchanges = self.exchanges();
        let passes = |event: Sql, conditions: &[Condition]| match exchanges.all_hold(conditions) {
            Some(holds) => Sql::fill("({} AND {})", [event, holds]),
            None => event,
        };
        let name = match self.table() {
            Table::Events | Table::EventExchanges => "e.event",
            Table::Exchanges => "ifNull(e.event, 'http')",
        };
        let (mut with, mut latencies, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        for (index, step) in steps.iter().enumerate() {
            let conditions = step.all_conditions();
            let served = passes(named(name, &step.event), &conditions);
            let failed = passes(failed(name, &step.event), &conditions);
            with.push(Sql::fill(
                &format!("ifNull({{}}, 0) AS served_{index}, ifNull({{}}, 0) AS failed_{index}"),
                [served, failed],
            ));
            latencies.push(format!("arrayConcat([avgIf(ms, served_{index})], [quantileExactInclusiveIf(0.95)(ms, served_{index})])"));
            errors.push(format!("countIf(failed_{index})"));
        }
        let template = format!(
            "WITH e.duration_ns / 1e6 AS ms, {{}} SELECT [{}] AS latencies, [{}] AS errors FROM http_exchanges AS e WHERE {{}}",
            list(latencies),
            list(errors)
        );
        Sql::fill(&template, [Sql::join(with, ", "), self.served_rows()])
    }

    /// As what the table of exchanges is read.
    fn exchanges(&self) -> Table {
        match self.table() {
            Table::Events | Table::EventExchanges => Table::EventExchanges,
            Table::Exchanges => Table::Exchanges,
        }
    }

    fn served_rows(&self) -> Sql {
        let mut all = vec![
            Sql::raw("e.role = 'server'"),
            self.tenant(),
            self.considered(self.exchanges()),
        ];
        if self.exchanges() == Table::EventExchanges {
            all.push(Sql::raw("e.event IS NOT NULL"));
            let names: Option<Vec<Vec<&str>>> = self
                .definition
                .steps
                .iter()
                .map(|step| step.event.names())
                .collect();
            all.extend(names.map(|names| {
                let names = names.iter().flatten();
                let both =
                    names.flat_map(|name| [(*name).to_owned(), format!("{name}{FAILED_SUFFIX}")]);
                Sql::fill("e.event IN {}", [Sql::texts(both)])
            }));
        }
        Sql::join(all, " AND ")
    }
}

fn named(name: &str, event: &StepEvent) -> Sql {
    match event.names() {
        Some(names) => Sql::fill(&format!("{name} IN {{}}"), [Sql::texts(names)]),
        None => Sql::raw("1"),
    }
}

fn failed(name: &str, event: &StepEvent) -> Sql {
    match event.names() {
        Some(names) => {
            let failed = names.iter().map(|name| format!("{name}{FAILED_SUFFIX}"));
            Sql::fill(&format!("{name} IN {{}}"), [Sql::texts(failed)])
        }
        None => Sql::raw(format!("endsWith({name}, '{FAILED_SUFFIX}')")),
    }
}

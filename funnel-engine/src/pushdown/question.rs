//! A definition that is accepted, as statements over the events of a scope.
//!
//! Owns: which stages are put together, and the buckets of a trend. Refuses: what the stages say.

use clickhouse::Client;
use event_store::{Scope, Store};
use serde::Deserialize;

use super::{
    PushdownError,
    accept::{self, StatementKind},
    attempts::{self, Instant},
    gaps, levels,
    source::{Detail, Source, at_ns},
    sql::Sql,
    summary::{Rows, summary},
    unordered, window_funnel,
};
use crate::{
    calendar::Calendar,
    definition::{Attribution, DefinitionError, FunnelDefinition},
    shape::Shape,
};

/// A definition that is accepted, and whose data it is asked of.
pub(super) struct Question<'a> {
    pub(super) source: Source<'a>,
    kind: StatementKind,
    shape: Shape,
}

/// What answers a question.
pub(super) struct Statements {
    /// All subjects together, and the values where both come from the same attempts.
    pub(super) whole: Sql,
    /// The values, where each has attempts of its own.
    pub(super) values: Option<Sql>,
}

/// First and last time of an event that can enter a trend.
#[derive(Debug, Deserialize, clickhouse::Row)]
struct Span {
    first: u64,
    last: u64,
}

impl<'a> Question<'a> {
    pub(super) fn new(
        scope: &'a Scope,
        definition: &'a FunnelDefinition,
    ) -> Result<Self, DefinitionError> {
        Ok(Self {
            kind: accept::kind(definition)?,
            source: Source { definition, scope },
            shape: Shape::of(definition),
        })
    }

    pub(super) const fn definition(&self) -> &'a FunnelDefinition {
        self.source.definition
    }

    /// A client with the settings that suit the statements.
    pub(super) fn client(&self, store: &Store) -> Client {
        let client = super::client(store);
        // Rows lie by tenant, user and time, so a subject is finished before the next begins. Its blocks hold many
        // subjects, though, and a fold per start copies their instants for every start.
        if self.kind.is_linear() {
            client.with_setting("optimize_aggregation_in_order", "1")
        } else {
            client
        }
    }

    /// The attempt that counts of each subject: the columns `carry`, `level`, `times`, and `moves` for a trend.
    pub(super) fn attempts(
        &self,
        carry: &str,
        detail: Detail,
        trend: Option<(usize, usize)>,
    ) -> Sql {
        let subjects = || self.source.subjects(detail);
        let shape = &self.shape;
        let automaton =
            |shares| attempts::attempts(Instant { shape, shares }, carry, trend, subjects());
        let unordered = |shares| unordered::attempts(shape, shares, carry, trend, subjects());
        match self.kind {
            StatementKind::WindowFunnel => {
                window_funnel::attempts(&self.source, shape, carry, detail)
            }
            StatementKind::Levels => levels::attempts(shape, carry, trend, subjects()),
            StatementKind::Gaps => gaps::attempts(shape, carry, trend, subjects()),
            StatementKind::Automaton => automaton(false),
            StatementKind::SharedAutomaton => automaton(true),
            StatementKind::Unordered => unordered(false),
            StatementKind::SharedUnordered => unordered(true),
        }
    }

    pub(super) fn statements(&self, buckets: Option<&[i64]>) -> Statements {
        let definition = self.definition();
        let trend = definition.trend.as_ref();
        let trend = trend.map(|trend| (trend.from_step, trend.to_step));
        let attribution = definition.breakdown.as_ref();
        let whole = |rows, carry, detail| {
            let attempts = self.attempts(carry, detail, trend);
            summary(definition, rows, buckets, attempts)
        };
        match attribution.map(|breakdown| breakdown.attribution) {
            None => Statements {
                whole: whole(Rows::Total, "scanned", Detail::None),
                values: None,
            },
            Some(Attribution::FirstTouch | Attribution::LastTouch | Attribution::Step(_)) => {
                Statements {
                    whole: whole(Rows::TotalAndValues, "scanned, seen", Detail::Seen),
                    values: None,
                }
            }
            Some(Attribution::AllSteps) => {
                let attempts = self.attempts("scanned, value", Detail::Apart, None);
                Statements {
                    whole: whole(Rows::Total, "scanned", Detail::None),
                    values: Some(summary(definition, Rows::Values, None, attempts)),
                }
            }
        }
    }

    /// The buckets of the trend: those of the time range, else those from the first to the last event that can enter.
    pub(super) async fn buckets(&self, client: &Client) -> Result<Option<Vec<i64>>, PushdownError> {
        let Some(trend) = &self.definition().trend else {
            return Ok(None);
        };
        let span = if self.definition().time_range.is_some() {
            let (from, to) = self.definition().time_range_ns();
            (from, to - 1)
        } else {
            let span = self.source.span(trend.from_step).query(client);
            let span: Span = span.fetch_one().await?;
            if span.first == 0 {
                return Ok(Some(vec![0]));
            }
            (at_ns(span.first), at_ns(span.last))
        };
        Ok(Some(Calendar::new(trend).buckets(span.0, span.1)?))
    }
}

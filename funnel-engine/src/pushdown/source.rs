//! The subjects of a funnel with their events: one statement over one table, one row per subject.
//!
//! Owns: which rows are considered, what each can do (a bit set of the steps it can fill and one of the exclusions it
//! matches), and gathering them per subject in the order of time. Refuses: deciding what they lead to.
//!
//! The rows are grouped by tenant and user (and session) in one SELECT over the table alone. On a cluster whose
//! `Distributed` table is sharded by user, shards therefore finish it by themselves.

use event_store::Scope;

use super::{conditions::Table, sql::Sql};
use crate::{
    definition::{Count, FunnelDefinition, Order},
    shape::Shape,
};

/// Added to a time in statements, which count from 1900 on without a sign: a bucket of a trend may begin before the
/// first event that is looked at. 0 stands for "no time".
const SHIFT_NS: i64 = 2_208_988_800_000_000_001;
/// A row's time. The sum may leave the range of a signed number; its bits are right.
const AT: &str = "toUInt64(toUnixTimestamp64Nano(e.timestamp) + 2208988800000000001)";

/// A time of a statement as nanoseconds since 1970 UTC.
pub(super) const fn at_ns(shifted: u64) -> i64 {
    shifted.cast_signed().wrapping_sub(SHIFT_NS)
}

/// A time as statements have it.
pub(super) const fn shifted(at_ns: i64) -> u64 {
    at_ns.wrapping_add(SHIFT_NS).cast_unsigned()
}

/// What is done with the values of a breakdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Nothing.
    None,
    /// That of each event that fills a step is gathered beside it.
    Seen,
    /// A subject is taken apart by them.
    Apart,
}

/// Where the events of a question come from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) definition: &'a FunnelDefinition,
    pub(super) scope: &'a Scope,
}

impl Source<'_> {
    /// A funnel with a step of HTTP sees every exchange of a known user, one without sees named events.
    pub(super) fn table(&self) -> Table {
        let by_http = self.definition.steps.iter().any(|step| step.http.is_some());
        if by_http {
            Table::Exchanges
        } else {
            Table::Events
        }
    }

    /// The columns that tell subjects apart, and those that every later statement passes on.
    pub(super) fn keys(&self) -> &'static str {
        match self.definition.count {
            Count::Sessions => "tenant, who, session",
            Count::Users | Count::Totals => "tenant, who",
        }
    }

    /// One row per subject: its keys, `scanned`, `ev` (an array of time, steps, exclusions), and `seen` (time, steps and
    /// the value of those that fill a step) where that is wanted.
    pub(super) fn subjects(&self, detail: Detail) -> Sql {
        let mut columns = vec![Sql::raw(format!(
            "arraySort(groupArrayIf({}, {})) AS packed",
            self.packed(),
            self.taking_part()
        ))];
        columns.extend(self.firsts());
        let value = if detail == Detail::Apart {
            ", value"
        } else {
            ""
        };
        let seen = self
            .seen(detail)
            .map_or_else(String::new, |seen| format!(", {seen}"));
        let template = format!(
            "SELECT {}{value}, scanned, {}{seen} FROM ({{}})",
            self.keys(),
            self.events()
        );
        Sql::fill(&template, [self.grouped(columns, detail)])
    }

    /// An event as one number: time, steps, exclusions. Numbers are gathered and sorted twice as fast as tuples.
    fn packed(&self) -> &'static str {
        if self.definition.exclusions.is_empty() {
            "bitShiftLeft(toUInt128(x_at), 64) + x_fills"
        } else {
            "bitShiftLeft(toUInt256(x_at), 128) + bitShiftLeft(toUInt256(x_fills), 64) + x_excludes"
        }
    }

    /// The same taken apart again.
    pub(super) fn unpacked(&self) -> &'static str {
        if self.definition.exclusions.is_empty() {
            "(toUInt64(bitShiftRight(p, 64)), toUInt64(p))"
        } else {
            "(toUInt64(bitShiftRight(p, 128)), toUInt64(bitShiftRight(p, 64)), toUInt64(p))"
        }
    }

    /// Whether a row takes part.
    fn taking_part(&self) -> &'static str {
        match (
            self.wants_every_event(),
            self.definition.exclusions.is_empty(),
        ) {
            (true, _) => "x_considered",
            (false, true) => "x_considered AND x_fills != 0",
            (false, false) => "x_considered AND (x_fills != 0 OR x_excludes != 0)",
        }
    }

    /// One row per subject with these columns, which may use `x_at`, `x_considered`, `x_fills` and `x_excludes`; and,
    /// where values are gathered, `packed_seen` and `details`, arrays of the same events in the same order.
    pub(super) fn grouped(&self, mut columns: Vec<Sql>, detail: Detail) -> Sql {
        let mut with = self.facts();
        if !self.definition.exclusions.is_empty() {
            with.push(Sql::fill("{} AS x_excludes", [self.excludes()]));
        }
        if detail == Detail::Seen {
            let some = "x_considered AND x_fills != 0";
            let template = format!(
                "groupArrayIf({}, {some}) AS packed_seen, groupArrayIf({{}}, {some}) AS details",
                self.packed()
            );
            columns.push(Sql::fill(&template, [self.value()]));
        }
        let (mut keys, mut grouping) = self.grouping();
        if detail == Detail::Apart {
            keys = Sql::fill("{}, {} AS value", [keys, self.value()]);
            grouping.push_str(", value");
        }
        Sql::fill(
            "WITH {} SELECT {}, count() AS scanned, {} FROM {} AS e WHERE {} GROUP BY {}",
            [
                Sql::join(with, ", "),
                keys,
                Sql::join(columns, ", "),
                Sql::raw(self.table().name()),
                self.rows(),
                Sql::raw(grouping),
            ],
        )
    }

    /// `first` and `last`: when an event can enter a trend at a step; 0 if none can.
    pub(super) fn span(&self, from_step: usize) -> Sql {
        let enters = match self.definition.order {
            Order::Unordered => "x_fills != 0".to_owned(),
            Order::Ordered | Order::Strict | Order::Clickhouse => {
                format!("bitTest(x_fills, {})", from_step - 1)
            }
        };
        let template = format!(
            "WITH {AT} AS x_at, {{}} AS x_fills SELECT minIf(x_at, {enters}) AS first, maxIf(x_at, {enters}) AS last FROM {{}} AS e WHERE {{}}"
        );
        Sql::fill(
            &template,
            [self.fills(), Sql::raw(self.table().name()), self.rows()],
        )
    }

    /// `x_at`, `x_considered` and `x_fills`: when a row was, whether it is looked at, and which steps it can fill.
    pub(super) fn facts(&self) -> Vec<Sql> {
        vec![
            Sql::raw(format!("{AT} AS x_at")),
            Sql::fill("{} AS x_considered", [self.considered_inside()]),
            Sql::fill("{} AS x_fills", [self.fills()]),
        ]
    }

    fn value(&self) -> Sql {
        let breakdown = self.definition.breakdown.as_ref();
        let properties = breakdown.map_or(&[][..], |breakdown| breakdown.properties.as_slice());
        self.table().value(properties)
    }

    /// Tenant, user and session of a row.
    pub(super) fn keys_of_rows(&self) -> (&'static str, &'static str, &'static str) {
        let (tenant, who) = match self.table() {
            Table::Events => ("e.tenant_id", "e.user_id"),
            Table::Exchanges | Table::EventExchanges => {
                ("ifNull(e.tenant_id, '')", "assumeNotNull(e.user_id)")
            }
        };
        (tenant, who, "assumeNotNull(e.session_id)")
    }

    fn grouping(&self) -> (Sql, String) {
        let (tenant, who, session) = self.keys_of_rows();
        let keys = format!("{tenant} AS tenant, {who} AS who");
        match self.definition.count {
            Count::Sessions => (
                Sql::raw(format!("{keys}, {session} AS session")),
                format!("{tenant}, {who}, {session}"),
            ),
            Count::Users | Count::Totals => (Sql::raw(keys), format!("{tenant}, {who}")),
        }
    }

    /// The column of the event's name. An exchange without one is called `http`.
    pub(super) fn name(&self) -> &'static str {
        match self.table() {
            Table::Events => "e.event",
            Table::Exchanges | Table::EventExchanges => "ifNull(e.event, 'http')",
        }
    }

    /// Whether events that fill no step and match no exclusion take part.
    pub(super) fn wants_every_event(&self) -> bool {
        Shape::of(self.definition).wants_every_event()
    }
}

//! The subjects of a funnel with their events: one statement over one table, one row per subject.
//!
//! Owns: which rows are considered, what each can do (a bit set of the steps it can fill and one of the exclusions it
//! matches), and gathering them per subject in the order of time. Refuses: deciding what they lead to.
//!
//! The rows are grouped by tenant and user (and session) in one SELECT over the table alone. On a cluster whose
//! `Distributed` table is sharded by user, shards therefore finish it by themselves.

use std::collections::{BTreeMap, BTreeSet};

use event_store::{Scope, TenantId};

use super::{
    conditions::Table,
    sql::{Sql, list},
};
use crate::{
    definition::{Attribution, Count, FunnelDefinition, Mode, Occurrence, Order, Step, StepEvent},
    predicate::Condition,
};

/// The first time that the store's clock type holds: 1900-01-01T00:00:00Z, nanoseconds since 1970. Rows before are
/// not looked at.
const FIRST_NS: i64 = -2_208_988_800_000_000_000;
/// Added to a time in statements, which count from here on without a sign. 0 stands for "no time".
const SHIFT_NS: i64 = 1 - FIRST_NS;
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

/// What of a subject is read beside the times of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Nothing.
    None,
    /// The breakdown's value of each event that fills a step.
    Values,
    /// Its session and trace.
    Traces,
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
        if by_http { Table::Exchanges } else { Table::Events }
    }

    /// The columns that tell subjects apart, and those that every later statement passes on.
    pub(super) fn keys(&self) -> &'static str {
        match self.definition.count {
            Count::Sessions => "tenant, who, session",
            Count::Users | Count::Totals => "tenant, who",
        }
    }

    /// One row per subject: its keys, `scanned`, `ev` (an array of time, steps, exclusions), and `seen` (time, steps and
    /// the detail of those that fill a step). With `per_value`, one per subject and value of the breakdown.
    pub(super) fn subjects(&self, detail: Detail, per_value: bool) -> Sql {
        let excludes = !self.definition.exclusions.is_empty();
        let event = if excludes { "(x_at, x_fills, x_excludes)" } else { "(x_at, x_fills)" };
        let some = match (wants_every_event(self.definition), excludes) {
            (true, _) => "x_considered",
            (false, true) => "x_considered AND (x_fills != 0 OR x_excludes != 0)",
            (false, false) => "x_considered AND x_fills != 0",
        };
        let events = format!("arraySort(groupArrayIf({event}, {some})) AS {}", self.gathered("ev"));
        let mut columns = vec![Sql::raw(events)];
        columns.extend(self.firsts());
        self.only_firsts(self.grouped(columns, detail, per_value), detail)
    }

    /// One row per subject with these columns, which may use `x_at`, `x_considered`, `x_fills` and `x_excludes`.
    pub(super) fn grouped(&self, mut columns: Vec<Sql>, detail: Detail, per_value: bool) -> Sql {
        let mut with = vec![
            Sql::raw(format!("{AT} AS x_at")),
            Sql::fill("{} AS x_considered", [self.considered_inside()]),
            Sql::fill("{} AS x_fills", [self.fills()]),
        ];
        if !self.definition.exclusions.is_empty() {
            with.push(Sql::fill("{} AS x_excludes", [self.excludes()]));
        }
        let seen = match detail {
            Detail::None => None,
            Detail::Values => Some(self.value()),
            Detail::Traces => Some(Sql::raw(
                "(toValidUTF8(ifNull(e.session_id, '')), toValidUTF8(ifNull(e.trace_id, '')))",
            )),
        };
        columns.extend(seen.map(|detail| {
            let template = format!(
                "groupArrayIf((x_at, x_fills, {{}}), x_considered AND x_fills != 0) AS {}",
                self.gathered("seen")
            );
            Sql::fill(&template, [detail])
        }));
        let (mut keys, mut grouping) = self.grouping();
        if per_value {
            keys = Sql::fill("{}, {} AS value", [keys, self.value()]);
            grouping.push_str(", value");
        }
        Sql::fill("WITH {} SELECT {}, count() AS scanned, {} FROM {} AS e WHERE {} GROUP BY {}", [
            Sql::join(with, ", "),
            keys,
            Sql::join(columns, ", "),
            Sql::raw(self.table().name()),
            self.rows(),
            Sql::raw(grouping),
        ])
    }

    /// `first` and `last`: when an event can enter a trend at a step; 0 if none can.
    pub(super) fn span(&self, from_step: usize) -> Sql {
        let enters = match self.definition.order {
            Order::Unordered => "x_fills != 0".to_owned(),
            Order::Ordered | Order::Strict | Order::Clickhouse => format!("bitTest(x_fills, {})", from_step - 1),
        };
        let template = format!(
            "WITH {AT} AS x_at, {{}} AS x_fills SELECT minIf(x_at, {enters}) AS first, maxIf(x_at, {enters}) AS last FROM {{}} AS e WHERE {{}}"
        );
        Sql::fill(&template, [self.fills(), Sql::raw(self.table().name()), self.rows()])
    }

    fn value(&self) -> Sql {
        let breakdown = self.definition.breakdown.as_ref();
        let properties = breakdown.map_or(&[][..], |breakdown| breakdown.properties.as_slice());
        self.table().value(properties)
    }

    fn grouping(&self) -> (Sql, String) {
        let (tenant, who) = match self.table() {
            Table::Events => ("e.tenant_id", "e.user_id"),
            Table::Exchanges | Table::EventExchanges => {
                ("ifNull(e.tenant_id, '')", "assumeNotNull(e.user_id)")
            }
        };
        let session = "assumeNotNull(e.session_id)";
        match self.definition.count {
            Count::Sessions => (
                Sql::raw(format!("{tenant} AS tenant, {who} AS who, {session} AS session")),
                format!("{tenant}, {who}, {session}"),
            ),
            Count::Users | Count::Totals => {
                (Sql::raw(format!("{tenant} AS tenant, {who} AS who")), format!("{tenant}, {who}"))
            }
        }
    }

    /// Which rows are read at all.
    fn rows(&self) -> Sql {
        let mut all = vec![self.tenant()];
        match (self.table(), self.definition.count) {
            (Table::Exchanges | Table::EventExchanges, _) => {
                all.push(Sql::raw("e.role = 'server' AND ifNull(e.user_id, '') != ''"));
            }
            (Table::Events, Count::Users | Count::Totals) => all.push(Sql::raw("e.user_id != ''")),
            // A session counts whether its user is known or not.
            (Table::Events, Count::Sessions) => {}
        }
        if self.definition.count == Count::Sessions {
            all.push(Sql::raw("e.session_id IS NOT NULL"));
        }
        all.extend(self.names().map(|names| Sql::fill("e.event IN {}", [Sql::texts(names)])));
        if self.has_first_ever() {
            all.push(Sql::fill("e.timestamp >= fromUnixTimestamp64Nano({})", [Sql::number(FIRST_NS)]));
        } else {
            all.push(self.considered(self.table()));
        }
        Sql::join(all, " AND ")
    }

    /// The tenant of the scope, all of them for the operator.
    pub(super) fn tenant(&self) -> Sql {
        let tenant = self.scope.tenant().map(TenantId::as_str);
        tenant.map_or_else(|| Sql::raw("1"), |tenant| Sql::fill("e.tenant_id = {}", [Sql::text(tenant)]))
    }

    /// The condition of being considered.
    pub(super) fn considered(&self, table: Table) -> Sql {
        let (from, to) = self.definition.time_range_ns();
        let from = from.max(FIRST_NS);
        let mut all = vec![Sql::fill("e.timestamp >= fromUnixTimestamp64Nano({})", [Sql::number(from)])];
        if self.definition.time_range.is_some() {
            all.push(Sql::fill("e.timestamp < fromUnixTimestamp64Nano({})", [Sql::number(to)]));
        }
        all.extend(table.all_hold(&self.definition.conditions));
        Sql::join(all, " AND ")
    }

    /// The same inside the statement, where rows outside are read too.
    fn considered_inside(&self) -> Sql {
        if self.has_first_ever() {
            Sql::fill("({})", [self.considered(self.table())])
        } else {
            Sql::raw("1")
        }
    }

    fn has_first_ever(&self) -> bool {
        let mut steps = self.definition.steps.iter();
        steps.any(|step| step.occurrence == Occurrence::FirstEver)
    }

    /// The names of all events that can matter; `None` when every event can.
    fn names(&self) -> Option<BTreeSet<&str>> {
        if wants_every_event(self.definition) {
            return None;
        }
        let steps = self.definition.steps.iter().map(|step| &step.event);
        let events = steps.chain(self.definition.exclusions.iter().map(|exclusion| &exclusion.event));
        let names: Option<Vec<Vec<&str>>> = events.map(StepEvent::names).collect();
        Some(names?.into_iter().flatten().collect())
    }

    /// The steps that a row can fill, as a bit set.
    pub(super) fn fills(&self) -> Sql {
        let steps: Vec<(&StepEvent, Vec<Condition>)> = self.definition.steps.iter().map(rule).collect();
        self.bits(&steps)
    }

    fn excludes(&self) -> Sql {
        let exclusions = self.definition.exclusions.iter();
        let rules: Vec<_> = exclusions.map(|one| (&one.event, one.conditions.clone())).collect();
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
                Some(names) => names.iter().for_each(|name| *by_name.entry(name).or_default() |= bit),
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
            let bits = list(by_name.values().map(|bits| format!("toUInt64({})", bits | any)));
            let template = format!("CAST(transform({}, {{}}, [{bits}], toUInt64({any})), 'UInt64')", self.name());
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

    /// The column of the event's name. An exchange without one is called `http`.
    pub(super) fn name(&self) -> &'static str {
        match self.table() {
            Table::Events => "e.event",
            Table::Exchanges | Table::EventExchanges => "ifNull(e.event, 'http')",
        }
    }
}

fn rule(step: &Step) -> (&StepEvent, Vec<Condition>) {
    (&step.event, step.all_conditions())
}

/// Whether events that fill no step and match no exclusion take part.
fn wants_every_event(definition: &FunnelDefinition) -> bool {
    match definition.order {
        Order::Strict => true,
        Order::Clickhouse => definition.modes.contains(&Mode::StrictOrder),
        Order::Ordered | Order::Unordered => false,
    }
}

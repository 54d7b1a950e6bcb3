//! Which rows of the table a question looks at.

use std::collections::BTreeSet;

use event_store::TenantId;

use super::{conditions::Table, source::Source, sql::Sql};
use crate::definition::{Count, Occurrence, StepEvent};

/// The first time that is looked at: 1970, as the index and the columns read from the store have it.
const FIRST_NS: i64 = 0;

impl Source<'_> {
    /// Which rows are read at all.
    pub(super) fn rows(&self) -> Sql {
        let mut all = vec![self.tenant()];
        match (self.table(), self.definition.count) {
            (Table::Exchanges | Table::EventExchanges, _) => {
                all.push(Sql::raw(
                    "e.role = 'server' AND ifNull(e.user_id, '') != ''",
                ));
            }
            (Table::Events, Count::Users | Count::Totals) => all.push(Sql::raw("e.user_id != ''")),
            // A session counts whether its user is known or not.
            (Table::Events, Count::Sessions) => {}
        }
        if self.definition.count == Count::Sessions {
            all.push(Sql::raw("e.session_id IS NOT NULL"));
        }
        all.extend(
            self.names()
                .map(|names| Sql::fill("e.event IN {}", [Sql::texts(names)])),
        );
        if self.has_first_ever() {
            all.push(Sql::fill(
                "e.timestamp >= fromUnixTimestamp64Nano({})",
                [Sql::number(FIRST_NS)],
            ));
        } else {
            all.push(self.considered(self.table()));
        }
        Sql::join(all, " AND ")
    }

    /// The tenant of the scope, all of them for the operator.
    pub(super) fn tenant(&self) -> Sql {
        let tenant = self.scope.tenant().map(TenantId::as_str);
        tenant.map_or_else(
            || Sql::raw("1"),
            |tenant| Sql::fill("e.tenant_id = {}", [Sql::text(tenant)]),
        )
    }

    /// The condition of being considered.
    pub(super) fn considered(&self, table: Table) -> Sql {
        let (from, to) = self.definition.time_range_ns();
        let (from, to) = (from.max(FIRST_NS), to.max(FIRST_NS));
        let mut all = vec![Sql::fill(
            "e.timestamp >= fromUnixTimestamp64Nano({})",
            [Sql::number(from)],
        )];
        if self.definition.time_range.is_some() {
            all.push(Sql::fill(
                "e.timestamp < fromUnixTimestamp64Nano({})",
                [Sql::number(to)],
            ));
        }
        all.extend(table.all_hold(&self.definition.conditions));
        Sql::join(all, " AND ")
    }

    /// The same inside the statement, where rows outside are read too.
    pub(super) fn considered_inside(&self) -> Sql {
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
        if self.wants_every_event() {
            return None;
        }
        let steps = self.definition.steps.iter().map(|step| &step.event);
        let events = steps.chain(
            self.definition
                .exclusions
                .iter()
                .map(|exclusion| &exclusion.event),
        );
        let names: Option<Vec<Vec<&str>>> = events.map(StepEvent::names).collect();
        Some(names?.into_iter().flatten().collect())
    }
}

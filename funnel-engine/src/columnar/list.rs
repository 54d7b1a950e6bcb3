//! Who is behind a bar, out of the scan.

use std::collections::BTreeMap;

use super::{
    ColumnarError, HeapIndex, Judged, TenantEvents,
    heap::HeapTenant,
    scan::{Collect, scan},
    values::Values,
};
use crate::{
    definition::{Count, FunnelDefinition},
    members::{Bar, ListCursor, Member, Reach},
};

/// Which part of which list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListQuestion<'a> {
    pub(crate) definition: &'a FunnelDefinition,
    pub(crate) bar: Bar,
    /// After this place, or from the beginning.
    pub(crate) after: Option<&'a ListCursor>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// The texts of a tenant (by index) and a user (by code).
pub(crate) type Who<'a> = dyn Fn(usize, u32) -> (String, String) + Sync + 'a;

/// Members of a list, in its order.
pub(crate) fn list_members(
    question: &ListQuestion<'_>,
    tenants: &[TenantEvents<'_>],
    threads: usize,
    who: &Who<'_>,
) -> Result<Vec<Member>, ColumnarError> {
    let lists = scan(question.definition, tenants, threads, || Listing {
        question,
        who,
        reach: question.bar.reach(question.definition),
        found: BTreeMap::new(),
    })?;
    let mut found = BTreeMap::new();
    for list in lists {
        found.extend(list.found);
    }
    Ok(found.into_values().take(question.limit).collect())
}

impl HeapIndex {
    /// At most `limit` members of a list, from the cursor on.
    ///
    /// # Errors
    /// See [`ColumnarError`].
    pub fn members(
        &self,
        bar: Bar,
        (after, limit): (Option<&ListCursor>, usize),
        threads: usize,
    ) -> Result<Vec<Member>, ColumnarError> {
        let tenants: Vec<TenantEvents<'_>> = self.tenants.iter().map(HeapTenant::events).collect();
        let who = |tenant: usize, user: u32| {
            let tenant = self.tenants.get(tenant);
            let of = |tenant: &HeapTenant| {
                let user = tenant.users.get(user as usize).cloned();
                (tenant.tenant.clone(), user.unwrap_or_default())
            };
            tenant.map(of).unwrap_or_default()
        };
        let question = ListQuestion {
            definition: &self.definition,
            bar,
            after,
            limit,
        };
        list_members(&question, &tenants, threads, &who)
    }
}

/// Notes the first members of a list, by their places in it.
struct Listing<'a, 'b> {
    question: &'a ListQuestion<'a>,
    who: &'a Who<'b>,
    reach: Reach,
    found: BTreeMap<ListCursor, Member>,
}

impl Listing<'_, '_> {
    /// Whether the time alone puts somebody off this page, as it does nearly everybody: then no text is looked up.
    fn is_elsewhere(&self, stopped_at_ns: Option<i64>) -> bool {
        let at_ns = stopped_at_ns.unwrap_or_default();
        let is_before = self
            .question
            .after
            .is_some_and(|after| at_ns > after.stopped_at_ns.0);
        let is_full = self.found.len() >= self.question.limit;
        let last = self.found.last_key_value().filter(|_| is_full);
        is_before || last.is_some_and(|(last, _)| at_ns < last.stopped_at_ns.0)
    }
}

impl Collect for Listing<'_, '_> {
    fn subject(&mut self, judged: Judged<'_>) {
        for attempt in &judged.verdict.counted {
            let stopped_at_ns = attempt.time(attempt.level.saturating_sub(1));
            if !self.reach.holds(attempt) || self.is_elsewhere(stopped_at_ns) {
                continue;
            }
            let (tenant_id, user_id) = (self.who)(judged.tenant, judged.user);
            let of_session = self.question.definition.count == Count::Sessions;
            let member = Member {
                tenant_id,
                user_id,
                session_id: of_session.then(|| judged.session.to_owned()),
                level: attempt.level,
                times_ns: attempt.times_ns.clone(),
            };
            let place = member.cursor();
            if self.question.after.is_none_or(|after| place > *after) {
                self.found.insert(place, member);
            }
            if self.found.len() > self.question.limit {
                self.found.pop_last();
            }
        }
    }

    fn done(&mut self, _: u64, _: Values) {}
}

//! Who is behind a bar, out of the scan.

use std::collections::BTreeMap;

use super::{
    ColumnarError, HeapIndex, Judged, TenantEvents,
    heap::HeapTenant,
    scan::{Collect, scan},
    values::Values,
};
use crate::{
    definition::Count,
    members::{Bar, ListCursor, Member, Reach},
};

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
        let lists = scan(&self.definition, &tenants, threads, || Listing {
            index: self,
            reach: bar.reach(&self.definition),
            after,
            limit,
            found: BTreeMap::new(),
        })?;
        let mut found = BTreeMap::new();
        for list in lists {
            found.extend(list.found);
        }
        Ok(found.into_values().take(limit).collect())
    }
}

/// Notes the first members of a list, by their places in it.
struct Listing<'a> {
    index: &'a HeapIndex,
    reach: Reach,
    after: Option<&'a ListCursor>,
    limit: usize,
    found: BTreeMap<ListCursor, Member>,
}

impl Collect for Listing<'_> {
    fn subject(&mut self, judged: Judged<'_>) {
        let Some(tenant) = self.index.tenants.get(judged.tenant) else {
            return;
        };
        let counted = judged.verdict.counted.iter();
        for attempt in counted.filter(|attempt| self.reach.holds(attempt)) {
            let user = tenant.users.get(judged.user as usize);
            let of_session = self.index.definition.count == Count::Sessions;
            let member = Member {
                tenant_id: tenant.tenant.clone(),
                user_id: user.cloned().unwrap_or_default(),
                session_id: of_session.then(|| judged.session.to_owned()),
                level: attempt.level,
                times_ns: attempt.times_ns.clone(),
            };
            let place = member.cursor();
            if self.after.is_none_or(|after| place > *after) {
                self.found.insert(place, member);
            }
            if self.found.len() > self.limit {
                self.found.pop_last();
            }
        }
    }

    fn done(&mut self, _: u64, _: Values) {}
}

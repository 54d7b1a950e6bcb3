//! Which snapshots somebody is told of.

use event_store::{Scope, TenantId};
use funnel_engine::live::Snapshot;

/// Tenants and funnels that are wanted; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `None`: all.
    tenant: Option<String>,
    /// `None`: all.
    funnels: Option<Vec<String>>,
}

impl Wanted {
    /// What a scope allows to see.
    pub fn within(scope: &Scope) -> Self {
        Self {
            tenant: scope.tenant().map(TenantId::as_str).map(str::to_owned),
            funnels: None,
        }
    }

    /// Of it, these funnels.
    #[must_use]
    pub fn funnels(mut self, names: Vec<String>) -> Self {
        self.funnels = Some(names);
        self
    }

    /// Whether a snapshot is wanted.
    pub fn has(&self, snapshot: &Snapshot) -> bool {
        let tenant = self.tenant.as_ref();
        let funnels = self.funnels.as_ref();
        tenant.is_none_or(|tenant| *tenant == snapshot.tenant)
            && funnels.is_none_or(|funnels| funnels.contains(&snapshot.funnel))
    }
}

//! What one question sees of an index: the segments of a snapshot, what has arrived since, and the columns it needs.

use std::sync::Arc;

use super::{IndexedError, hot::HotTenant};
use crate::{
    answer::FunnelResult,
    columnar::{
        ListQuestion, TenantEvents, TenantSegment, list_members, run_columnar, wanted_properties,
    },
    definition::{DefinitionError, FunnelDefinition},
    index::{PropertyColumn, Segment, Snapshot, Tenant},
    members::{Bar, ListCursor, Member},
};

/// One tenant's events as one question sees them.
struct TenantView {
    /// What the index has of the tenant, if anything.
    tenant: Option<Arc<Tenant>>,
    columns: Vec<Vec<Arc<PropertyColumn>>>,
    /// What it does not have yet.
    hot: Option<HotTenant>,
}

/// What one question sees.
pub struct IndexView(Vec<TenantView>);

impl IndexView {
    /// A snapshot as a definition needs it.
    ///
    /// # Errors
    /// A definition that looks at more than named events, or at columns that were not loaded.
    pub fn of(definition: &FunnelDefinition, snapshot: &Snapshot) -> Result<Self, IndexedError> {
        require_named_events(definition)?;
        let wanted = wanted_properties(definition);
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let of_segment = |segment: &Segment| {
            if names.is_empty() {
                return Ok(Vec::new());
            }
            let columns = segment.properties(&names);
            columns.map_err(|source| IndexedError::Columns {
                property: names.join(", "),
                source,
            })
        };
        let of_tenant = |tenant: &Arc<Tenant>| {
            let columns = tenant.segments.iter().map(of_segment);
            Ok(TenantView {
                columns: columns.collect::<Result<_, IndexedError>>()?,
                tenant: Some(Arc::clone(tenant)),
                hot: None,
            })
        };
        let views = snapshot.tenants.iter().map(of_tenant);
        Ok(Self(views.collect::<Result<_, IndexedError>>()?))
    }

    /// The same with what has arrived since.
    pub(super) fn with_hot(mut self, hot: Vec<HotTenant>) -> Self {
        for hot in hot {
            let known = |view: &&mut TenantView| {
                view.tenant
                    .as_ref()
                    .is_some_and(|tenant| tenant.name == hot.name)
            };
            if let Some(view) = self.0.iter_mut().find(known) {
                view.hot = Some(hot);
            } else {
                self.0.push(TenantView {
                    tenant: None,
                    columns: Vec::new(),
                    hot: Some(hot),
                });
            }
        }
        self
    }

    /// Answers the definition that the view was made for.
    ///
    /// # Errors
    /// When a file turns out to be corrupt, or the definition asks for too much.
    pub fn answer(
        &self,
        definition: &FunnelDefinition,
        threads: usize,
    ) -> Result<FunnelResult, IndexedError> {
        let tenants: Vec<TenantEvents<'_>> = self.0.iter().map(TenantView::events).collect();
        Ok(run_columnar(definition, &tenants, threads)?)
    }

    /// At most `limit` members of a list, from the cursor on.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn members(
        &self,
        definition: &FunnelDefinition,
        bar: Bar,
        (after, limit): (Option<&ListCursor>, usize),
        threads: usize,
    ) -> Result<Vec<Member>, IndexedError> {
        let tenants: Vec<TenantEvents<'_>> = self.0.iter().map(TenantView::events).collect();
        let who = |tenant: usize, user: u32| {
            let view = self.0.get(tenant);
            let of = |view: &TenantView| (view.name().to_owned(), view.user(user).to_owned());
            view.map(of).unwrap_or_default()
        };
        let question = ListQuestion {
            definition,
            bar,
            after,
            limit,
        };
        Ok(list_members(&question, &tenants, threads, &who)?)
    }
}

impl TenantView {
    fn name(&self) -> &str {
        let held = self.tenant.as_ref().map(|tenant| tenant.name.as_str());
        held.or(self.hot.as_ref().map(|hot| hot.name.as_str()))
            .unwrap_or_default()
    }

    fn user(&self, code: u32) -> &str {
        let held = self
            .tenant
            .as_ref()
            .and_then(|tenant| tenant.users.id(code));
        let hot = || self.hot.as_ref()?.user(code);
        held.or_else(hot).unwrap_or_default()
    }

    fn events(&self) -> TenantEvents<'_> {
        let held = self.tenant.as_deref();
        let segments = held.map_or(&[][..], |tenant| &tenant.segments);
        let segments = segments.iter().zip(&self.columns);
        let mut segments: Vec<TenantSegment<'_>> = segments
            .map(|(segment, columns)| TenantSegment {
                segment,
                columns: columns.iter().map(|column| Some(&**column)).collect(),
            })
            .collect();
        let Some(hot) = &self.hot else {
            return TenantEvents {
                names: held.map_or(&[][..], |tenant| tenant.names.texts()),
                users: held.map_or(0, |tenant| tenant.users.len()),
                nobody: held.and_then(Tenant::nobody),
                segments,
            };
        };
        segments.push(TenantSegment {
            segment: &hot.segment,
            columns: hot.columns.iter().map(|column| Some(&**column)).collect(),
        });
        TenantEvents {
            names: hot.names(),
            users: hot.users,
            nobody: hot.nobody,
            segments,
        }
    }
}

/// The index holds named events.
fn require_named_events(definition: &FunnelDefinition) -> Result<(), DefinitionError> {
    let by_http = definition.steps.iter().position(|step| step.http.is_some());
    by_http.map_or(Ok(()), |index| {
        Err(DefinitionError::at(
            format!("steps[{index}].http"),
            "looks at every exchange, and the index holds named events only",
        ))
    })
}

//! Asking the store by whichever backend the plan chose: answers, and who is behind a bar.

use event_store::{Scope, Store};

use crate::{
    answer::FunnelResult,
    definition::{DefinitionError, FunnelDefinition, Order},
    from_store::{FromStoreError, members_from_store, run_from_store},
    plan::{Backend, Events, plan},
    pushdown::{PushdownError, members_on_clickhouse, run_on_clickhouse},
};

/// Which part of those who reached a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Who did not reach the next step that may not be skipped.
    Dropped,
    /// Who did; of the last step, all who reached it.
    Converted,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// At most this many.
    pub limit: u64,
    /// After this many.
    pub offset: u64,
}

/// One who is counted at a step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, clickhouse::Row)]
pub struct Member {
    /// Whose shop; empty when the events do not say.
    pub tenant_id: String,
    /// Who.
    pub user_id: String,
    /// When the attempt that counts began, nanoseconds since 1970 UTC.
    pub started_at_ns: i64,
    /// When it reached the step.
    pub reached_at_ns: i64,
    /// When it reached the next step that may not be skipped.
    pub next_at_ns: Option<i64>,
}

/// A question that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The definition cannot be answered this way.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// By the push-down.
    #[error(transparent)]
    Pushdown(#[from] PushdownError),
    /// By reading the events.
    #[error(transparent)]
    FromStore(#[from] FromStoreError),
}

/// Answers a definition over a scope's events.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    threads: usize,
) -> Result<FunnelResult, AskError> {
    match plan(definition, Events::Store).backend {
        Backend::Clickhouse => Ok(run_on_clickhouse(store, scope, definition).await?),
        Backend::Columnar | Backend::Reference => {
            Ok(run_from_store(store, scope, definition, threads).await?)
        }
    }
}

/// Who is behind the bar of a step (counted from 1), or behind its drop-off: the latest first. All pages together are
/// exactly the bar.
///
/// # Errors
/// See [`AskError`].
pub async fn members(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    (step, which): (usize, Which),
    page: Page,
    threads: usize,
) -> Result<Vec<Member>, AskError> {
    if definition.order == Order::Clickhouse {
        return Err(DefinitionError::at(
            "order",
            "`clickhouse` counts levels and does not say who was when at which step",
        )
        .into());
    }
    match plan(definition, Events::Store).backend {
        Backend::Clickhouse => {
            Ok(members_on_clickhouse(store, scope, definition, (step, which), page).await?)
        }
        Backend::Columnar | Backend::Reference => {
            let mut members =
                members_from_store(store, scope, definition, (step, which), threads).await?;
            let key = |member: &Member| {
                (
                    std::cmp::Reverse(member.reached_at_ns),
                    member.tenant_id.clone(),
                    member.user_id.clone(),
                )
            };
            members.sort_by_cached_key(key);
            let part = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
            Ok(members
                .into_iter()
                .skip(part(page.offset))
                .take(part(page.limit))
                .collect())
        }
    }
}

//! Asking the store by whichever backend the plan chose: answers, and who is behind a bar. What turns out to be too much
//! for a statement is answered over columns.

use event_store::{Scope, Store};

use crate::{
    answer::FunnelResult,
    definition::{DefinitionError, FunnelDefinition, Order},
    from_store::{FromStoreError, members_from_store, run_from_store},
    members::{Bar, ListCursor, MemberPage},
    plan::{Backend, Events, plan},
    pushdown::{PushdownError, members_on_clickhouse, run_on_clickhouse},
};

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

/// What is asked when no index of the store's events is at hand. Whoever keeps one plans with [`Events::Index`] instead,
/// and asks it.
const AT_HAND: Events = Events::Store;

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
    if plan(definition, AT_HAND).backend == Backend::Clickhouse {
        match run_on_clickhouse(store, scope, definition).await {
            Err(PushdownError::TooMuch(_)) => {}
            answered => return Ok(answered?),
        }
    }
    Ok(run_from_store(store, scope, definition, threads).await?)
}

/// Who is behind the bar of a step, or behind its drop-off: a page of at most `limit`, after a place of the list or from
/// its beginning. All pages together are exactly the bar.
///
/// # Errors
/// See [`AskError`].
pub async fn members(
    store: &Store,
    scope: &Scope,
    definition: &FunnelDefinition,
    bar: Bar,
    (after, limit): (Option<&ListCursor>, usize),
    threads: usize,
) -> Result<MemberPage, AskError> {
    if definition.order == Order::Clickhouse {
        return Err(DefinitionError::at(
            "order",
            "`clickhouse` counts levels and does not say who was when at which step",
        )
        .into());
    }
    // One more tells whether there is another page.
    let wanted = limit.saturating_add(1);
    if plan(definition, AT_HAND).backend == Backend::Clickhouse {
        match members_on_clickhouse(store, scope, definition, bar, after, wanted).await {
            Err(PushdownError::TooMuch(_)) => {}
            found => return Ok(MemberPage::of(found?, limit)),
        }
    }
    let page = (after, wanted);
    let members = members_from_store(store, scope, definition, bar, page, threads).await?;
    Ok(MemberPage::of(members, limit))
}

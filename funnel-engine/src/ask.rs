//! Asking by whichever backend the plan chose: answers, and who is behind a bar. What turns out to be too much for a
//! statement is answered over columns.

use std::sync::Arc;

use event_store::{Scope, Store};

use crate::{
    answer::FunnelResult,
    definition::{DefinitionError, FunnelDefinition, Order},
    from_store::{FromStoreError, members_from_store, run_from_store},
    indexed::{IndexAtHand, IndexView, IndexedError},
    members::{Bar, ListCursor, Member, MemberPage},
    plan::{Backend, Events, plan},
    pushdown::{PushdownError, members_on_clickhouse, run_on_clickhouse, service_in_store},
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

/// Who can be asked.
#[derive(Clone, Debug)]
pub struct AtHand {
    /// The store of the events.
    pub store: Store,
    /// An index of it, if one is kept.
    pub index: Option<Arc<IndexAtHand>>,
}

impl From<Store> for AtHand {
    fn from(store: Store) -> Self {
        Self { store, index: None }
    }
}

impl AtHand {
    /// What the index has of a question; none where the plan is to ask the store, or the index cannot answer yet.
    async fn view(
        &self,
        scope: &Scope,
        definition: &FunnelDefinition,
    ) -> Result<Option<IndexView>, DefinitionError> {
        match self.index.as_deref() {
            Some(index) if plan(definition, Events::Index).from == Events::Index => {
                or_store(index.view(scope, definition).await)
            }
            Some(_) | None => Ok(None),
        }
    }
}

/// Answers a definition over a scope's events.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(
    at_hand: &AtHand,
    scope: &Scope,
    definition: &FunnelDefinition,
    threads: usize,
) -> Result<FunnelResult, AskError> {
    let store = &at_hand.store;
    if let Some(view) = at_hand.view(scope, definition).await? {
        // The store's own answer has the service in it, so it is asked for only beside the index's.
        let asked = definition.clone();
        let (answer, service) = tokio::join!(
            scan(move || view.answer(&asked, threads)),
            service_in_store(store, scope, definition)
        );
        if let Some(mut result) = or_store(answer)? {
            result.set_service(&service?);
            return Ok(result);
        }
    }
    if plan(definition, Events::Store).backend == Backend::Clickhouse {
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
    at_hand: &AtHand,
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
    let page = (after, limit.saturating_add(1));
    let members = find(at_hand, scope, definition, bar, page, threads).await?;
    Ok(MemberPage::of(members, limit))
}

async fn find(
    at_hand: &AtHand,
    scope: &Scope,
    definition: &FunnelDefinition,
    bar: Bar,
    (after, limit): (Option<&ListCursor>, usize),
    threads: usize,
) -> Result<Vec<Member>, AskError> {
    let store = &at_hand.store;
    if let Some(view) = at_hand.view(scope, definition).await? {
        let (asked, after) = (definition.clone(), after.cloned());
        let found = scan(move || view.members(&asked, bar, (after.as_ref(), limit), threads));
        if let Some(members) = or_store(found.await)? {
            return Ok(members);
        }
    }
    if plan(definition, Events::Store).backend == Backend::Clickhouse {
        match members_on_clickhouse(store, scope, definition, bar, after, limit).await {
            Err(PushdownError::TooMuch(_)) => {}
            found => return Ok(found?),
        }
    }
    let page = (after, limit);
    Ok(members_from_store(store, scope, definition, bar, page, threads).await?)
}

/// Scans where it holds up nobody.
async fn scan<T: Send + 'static>(
    scan: impl FnOnce() -> Result<T, IndexedError> + Send + 'static,
) -> Result<Option<T>, IndexedError> {
    tokio::task::spawn_blocking(scan).await?.map(Some)
}

/// The index is derived data: whatever is wrong with it, the store has the answer. What is wrong with the definition is
/// said at once.
fn or_store<T>(answer: Result<Option<T>, IndexedError>) -> Result<Option<T>, DefinitionError> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(IndexedError::Definition(error)) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "the store answers instead of the index");
            Ok(None)
        }
    }
}

//! The past of one subject, for events that memory does not reach: what the store has of it, cut exactly where the
//! stream stands.
//!
//! The stream stands at the feed's cursor, which names whole blocks, and at some event of the slice that is being
//! applied, which is in memory. So the rows of the slices read before, and the events of this slice that were applied,
//! are all that was applied, and nothing else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use event_store::{PastQuestion, Slice, Store};
use tokio::runtime::Handle;

use super::{events::event, registered::Registered};
use crate::{
    definition::Count,
    event::Event,
    live::{Ask, Classify as _, History, HistoryError},
    shape::Mark,
    tail::within,
};

/// For the events of one subject.
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// What is needed to look a subject up.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    pub(super) store: Store,
    pub(super) runtime: Handle,
    pub(super) funnels: Arc<[Registered]>,
    pub(super) properties: Arc<[String]>,
    /// All that was read before the slice that is being applied.
    pub(super) slices: Vec<Slice>,
    /// No event from here on was believed.
    pub(super) until_ns: i64,
}

/// See the module.
pub(super) struct Past<'a> {
    pub(super) archive: &'a Archive,
    /// Of the slice that is being applied: those that were.
    pub(super) applied: &'a [Event],
    pub(super) by_user: &'a mut ByUser,
}

impl History for Past<'_> {
    fn marks(&mut self, ask: &Ask<'_>, marks: &mut Vec<Mark>) -> Result<(), HistoryError> {
        let mut funnels = self.archive.funnels.iter();
        let funnel = funnels.find(|funnel| funnel.definition.name == ask.funnel);
        let funnel = funnel.ok_or_else(|| HistoryError(format!("no funnel `{}`", ask.funnel)))?;
        let session = ask
            .subject
            .session
            .filter(|_| funnel.definition.count == Count::Sessions);
        let until_ns = self.archive.until_ns;
        let mut take = |event: &Event| {
            let kind = funnel.compiled.kind(event);
            let kind = kind.filter(|_| (ask.from_ns..until_ns).contains(&event.at_ns));
            marks.extend(kind.map(|kind| Mark {
                at_ns: event.at_ns,
                kind,
            }));
        };
        self.archive.ask(ask, session, &mut take)?;
        let user = (ask.subject.tenant, ask.subject.user.unwrap_or_default());
        for index in self.by_user.of(self.applied, user) {
            let event = self.applied.get(*index);
            let is_of = |event: &&Event| {
                session.is_none_or(|session| event.property("session").as_deref() == Some(session))
            };
            event.filter(is_of).into_iter().for_each(&mut take);
        }
        Ok(())
    }
}

impl Archive {
    /// Events of the slices read before.
    fn ask(
        &self,
        ask: &Ask<'_>,
        session: Option<&str>,
        take: &mut (dyn FnMut(&Event) + Send),
    ) -> Result<(), HistoryError> {
        if self.slices.is_empty() {
            return Ok(());
        }
        let question = PastQuestion {
            tenant: ask.subject.tenant,
            user: ask.subject.user.unwrap_or_default(),
            session,
            from_ns: ask.from_ns,
            slices: &self.slices,
        };
        let properties: Vec<&str> = self.properties.iter().map(String::as_str).collect();
        let mut sink = |row: event_store::TailEvent<'_>| take(&event(&row, &self.properties));
        let asking = within(
            ASK_WITHIN,
            self.store.past_events(&question, &properties, &mut sink),
        );
        let asked = self.runtime.block_on(asking);
        asked.map_err(|error| HistoryError(error.to_string()))?;
        Ok(())
    }
}

/// Where a user's events are among those applied; grows with them, and only if it is asked.
#[derive(Debug, Default)]
pub(super) struct ByUser {
    indexed: usize,
    /// By tenant and user.
    places: HashMap<(String, String), Vec<usize>>,
}

impl ByUser {
    fn of(&mut self, applied: &[Event], (tenant, user): (&str, &str)) -> &[usize] {
        for (index, event) in applied.iter().enumerate().skip(self.indexed) {
            let user = event.user.clone().unwrap_or_default();
            let key = (event.tenant().to_owned(), user);
            self.places.entry(key).or_default().push(index);
        }
        self.indexed = applied.len();
        let key = (tenant.to_owned(), user.to_owned());
        self.places.get(&key).map_or(&[], Vec::as_slice)
    }
}

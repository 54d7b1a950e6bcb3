//! The funnel as it changes: server-sent events, each the whole of the page's changing part.

use std::{convert::Infallible, sync::Arc, time::Duration};

use askama::Template as _;
use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use event_store::Scope;
use funnel_engine::FunnelResult;
use futures_util::Stream;
use tokio::sync::OwnedSemaphorePermit;

use super::funnel::{FunnelBody, view};
use crate::{
    access::Viewer,
    answers::Funnel,
    api::Asked,
    extract::{Asking, Param},
    metrics::LivePage,
    problem::Problem,
    server::App,
};

/// How often a page is brought up to date.
const EVERY: Duration = Duration::from_secs(1);

/// One page that follows.
struct Follower {
    app: App,
    funnel: Funnel,
    scope: Scope,
    asked: Asked,
    shown: Option<Arc<FunnelResult>>,
    _permit: OwnedSemaphorePermit,
    _page: LivePage,
}

pub(super) async fn events(
    viewer: Viewer,
    State(app): State<App>,
    Param(slug): Param<String>,
    Asking(asked): Asking<Asked>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = Arc::clone(&app.live_pages).try_acquire_owned();
    let Ok(permit) = permit else {
        return Err(Problem::busy());
    };
    let follower = Follower {
        funnel: app.funnel(&slug)?.clone(),
        scope: viewer.scope,
        asked,
        shown: None,
        _permit: permit,
        _page: app.metrics.live_page(),
        app,
    };
    let stream = futures_util::stream::unfold(follower, Follower::next);
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Follower {
    /// Waits for the next change; `None` when the server ends.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let mut ending = self.app.ending.clone();
        loop {
            if self.shown.is_some() {
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    _ = ending.wait_for(|ending| *ending) => return None,
                }
            }
            let result = tokio::select! {
                result = self.app.answer(&self.funnel, &self.scope, &self.asked) => result,
                _ = ending.wait_for(|ending| *ending) => return None,
            };
            // A store that is away for a while does not end the stream; the page says since when it is old.
            let Ok(result) = result else {
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => continue,
                    _ = ending.wait_for(|ending| *ending) => return None,
                }
            };
            if self
                .shown
                .as_ref()
                .is_some_and(|shown| same(shown, &result))
            {
                continue;
            }
            let body = FunnelBody {
                funnel: view(&self.funnel, &self.asked, &result),
            };
            let html = body.render().ok()?;
            self.shown = Some(result);
            return Some((Ok(Event::default().data(html)), self));
        }
    }
}

/// Whether two answers look the same; how long they took does not show.
fn same(shown: &FunnelResult, result: &FunnelResult) -> bool {
    shown.steps == result.steps && shown.time_to_convert_s == result.time_to_convert_s
}

//! Live funnels as they change: server-sent events, each a snapshot of one result window.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use funnel_publish::Subscription;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::{access::Viewer, extract::Param, metrics::LivePage, problem::Problem, server::App};

/// One that follows.
struct Follower {
    windows: Subscription,
    ending: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
    _page: LivePage,
}

/// The newest window of each tenant in the caller's scope at once, then every change; until the server ends.
pub(super) async fn follow(
    viewer: Viewer,
    State(app): State<App>,
    Param(slug): Param<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    app.funnel(&slug)?;
    let live = app.live.as_ref().filter(|live| live.names.contains(&slug));
    let live = live.ok_or_else(Problem::not_live)?;
    let permit = Arc::clone(&app.live_pages).try_acquire_owned();
    let Ok(permit) = permit else {
        return Err(Problem::busy());
    };
    let follower = Follower {
        windows: live.hub.subscribe(&viewer.scope, Some(&slug)),
        ending: app.ending.clone(),
        _permit: permit,
        _page: app.metrics.live_page(),
    };
    let stream = futures_util::stream::unfold(follower, Follower::next);
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        let window = tokio::select! {
            window = self.windows.next() => window?,
            _ = self.ending.wait_for(|ending| *ending) => return None,
        };
        let event = Event::default().event("window").json_data(window.as_ref());
        match event {
            Ok(event) => Some((Ok(event), self)),
            Err(error) => {
                tracing::error!(%error, "a window cannot be written as JSON");
                None
            }
        }
    }
}

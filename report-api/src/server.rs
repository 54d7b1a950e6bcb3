//! The server: state, routes, headers that every answer carries, and a clean end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{FromRef, MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use event_store::Store;
use funnel_engine::AtHand;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};

use crate::{
    access::Access,
    answers::{Answers, Funnel},
    api, console,
    index::Index,
    live::{Live, Running},
    metrics::Metrics,
};

/// Pages that may follow a funnel at the same time.
const LIVE_PAGES_MAX: usize = 256;

/// Reports rendered at the same time.
const RENDERS_MAX: usize = 2;
/// How long the end waits for what is being answered; a reader that does not read must not hold it up.
const DRAIN: Duration = Duration::from_secs(10);

/// Scripts, styles and connections from here only; no inline code.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What a server needs.
#[derive(Debug)]
pub struct Settings {
    /// Where the events are.
    pub store: Store,
    /// A columnar index of them, if one is kept.
    pub index: Option<Index>,
    /// The funnels on offer; at least one.
    pub funnels: Vec<Funnel>,
    /// Who may see what.
    pub access: Access,
    /// Funnels that are kept live.
    pub live: Option<Live>,
}

/// State of all handlers.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) at_hand: AtHand,
    pub(crate) funnels: Arc<[Funnel]>,
    pub(crate) access: Access,
    pub(crate) answers: Answers,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) live: Option<Arc<Running>>,
    pub(crate) live_pages: Arc<Semaphore>,
    pub(crate) renders: Arc<Semaphore>,
    /// Becomes true when the server is to end; streams end then.
    pub(crate) ending: watch::Receiver<bool>,
}

impl FromRef<App> for Store {
    fn from_ref(app: &App) -> Self {
        app.store.clone()
    }
}

/// Serves until `shutdown` resolves, then finishes what is being answered.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    settings: Settings,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (end, ending) = watch::channel(false);
    let mut registry = Registry::default();
    let index = settings
        .index
        .map(|index| index.start(&mut registry, ending.clone()));
    let (index, following) = index.unzip();
    let at_hand = AtHand {
        store: settings.store.clone(),
        index,
    };
    let live = settings
        .live
        .map(|live| live.start(&mut registry, ending.clone()));
    let (live, driving) = live.unzip();
    let metrics = Arc::new(Metrics::new(registry));
    let app = App {
        answers: Answers::new(at_hand.clone(), Arc::clone(&metrics)),
        at_hand,
        store: settings.store,
        funnels: settings.funnels.into(),
        access: settings.access,
        metrics,
        live: live.map(Arc::new),
        live_pages: Arc::new(Semaphore::new(LIVE_PAGES_MAX)),
        renders: Arc::new(Semaphore::new(RENDERS_MAX)),
        ending: ending.clone(),
    };
    let draining = ending;
    let shutdown = async move {
        shutdown.await;
        // Nobody listens when no page is open.
        end.send(true).unwrap_or_default();
    };
    let serving = axum::serve(listener, router(app)).with_graceful_shutdown(shutdown);
    let served = tokio::select! {
        served = serving => served,
        () = drained(draining) => Ok(()),
    };
    // What is known by now is still delivered, for a bounded time.
    for (what, task) in [("live funnels", driving), ("the index", following)] {
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, what, "ended early");
        }
    }
    served
}

/// Resolves when the time for draining is over.
async fn drained(mut ending: watch::Receiver<bool>) {
    // Without a sender there is no end to wait for.
    if ending.wait_for(|ending| *ending).await.is_err() {
        return std::future::pending().await;
    }
    tokio::time::sleep(DRAIN).await;
    tracing::warn!("ending although some readers have not read their answers");
}

fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .merge(api::router())
        .merge(console::router())
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app)
}

async fn metrics(State(app): State<App>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.to_text()).into_response()
}

/// Counts and times the request, and adds the headers that keep a page to itself.
async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let mut response = next.run(request).await;
    app.metrics
        .request(&route, response.status().as_u16(), started.elapsed());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-store"));
    response
}

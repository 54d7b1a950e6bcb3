//! The HTTP API, version 1: everything that the console shows, as data.

mod funnels;
mod lists;
mod live;
mod traces;
mod why;

use axum::{
    Router,
    routing::{get, post},
};

use crate::server::App;

pub(crate) use funnels::Asked;
pub(crate) use lists::{Buyer, Part, buyers, timestamp};
pub(crate) use traces::read_trace;
pub(crate) use why::driver_table;

/// The routes.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/api/v1/funnels", get(funnels::list))
        .route("/api/v1/funnels/run", post(funnels::run))
        .route("/api/v1/funnels/{slug}", get(funnels::answer))
        .route("/api/v1/funnels/{slug}/live", get(live::follow))
        .route("/api/v1/funnels/{slug}/{file}", get(funnels::report))
        .route(
            "/api/v1/funnels/{slug}/steps/{step}/dropped",
            get(lists::dropped),
        )
        .route(
            "/api/v1/funnels/{slug}/steps/{step}/converted",
            get(lists::converted),
        )
        .route(
            "/api/v1/funnels/{slug}/steps/{step}/drivers",
            get(why::drivers),
        )
        .route("/api/v1/funnels/{slug}/compare", get(why::compare))
        .route("/api/v1/traces/{trace_id}", get(traces::trace))
}

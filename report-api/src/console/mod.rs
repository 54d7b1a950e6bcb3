//! The console: pages for people, made here and complete without a script.

mod dropped;
mod funnel;
mod live;
mod login;
mod trace;
mod why;
mod words;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, Uri, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};

use crate::{
    access::{PageViewer, Viewer},
    extract::{Asking, respond},
    problem::Problem,
    server::App,
};

/// The routes.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/", get(home))
        .route("/login", get(login::page).post(login::sign_in))
        .route("/logout", post(login::sign_out))
        .route("/assets/{name}", get(asset))
        .route("/console/funnels/{slug}", get(funnel::page))
        .route("/console/funnels/{slug}/live", get(live::events))
        .route("/console/funnels/{slug}/steps/{step}", get(dropped::page))
        .route("/console/funnels/{slug}/steps/{step}/why", get(why::page))
        .route("/console/traces/{trace_id}", get(trace::page))
        .fallback(nothing_here)
}

/// What every page shows around its content.
#[derive(Debug)]
pub(crate) struct Page {
    title: String,
    scope: String,
    nav: Vec<Nav>,
    signed_in: bool,
}

#[derive(Debug)]
struct Nav {
    label: String,
    url: String,
    current: bool,
}

impl Page {
    fn new(app: &App, viewer: &Viewer, title: &str, current: &str) -> Self {
        let nav = app.funnels.iter().map(|funnel| Nav {
            label: funnel.definition.name.clone(),
            url: funnel_url(&funnel.slug),
            current: funnel.slug == current,
        });
        Self {
            title: title.to_owned(),
            scope: viewer.scope_label(),
            nav: nav.collect(),
            signed_in: true,
        }
    }

    fn outside(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            scope: String::new(),
            nav: Vec::new(),
            signed_in: false,
        }
    }
}

fn funnel_url(slug: &str) -> String {
    format!("/console/funnels/{slug}")
}

/// A problem as a page.
#[derive(Debug)]
pub(crate) struct PageProblem(Problem);

impl<E: Into<Problem>> From<E> for PageProblem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[derive(askama::Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    page: Page,
    status: String,
    heading: &'a str,
    text: &'a str,
    hint: &'a str,
}

impl IntoResponse for PageProblem {
    fn into_response(self) -> Response {
        let Problem {
            status,
            heading,
            text,
            hint,
        } = &self.0;
        let page = ProblemPage {
            page: Page::outside(heading),
            status: status.to_string(),
            heading,
            text,
            hint,
        };
        match askama::Template::render(&page) {
            Ok(html) => (*status, Html(html)).into_response(),
            Err(_) => self.0.into_response(),
        }
    }
}

fn html(template: &impl askama::Template) -> Result<Html<String>, PageProblem> {
    Ok(Html(template.render()?))
}

/// Where to sign in before seeing an address.
pub(crate) fn to_login(uri: &Uri) -> Redirect {
    let next = uri.path_and_query().map_or("/", |whole| whole.as_str());
    let next = askama::filters::urlencode_strict(next)
        .map_or_else(|_| String::new(), |text| text.to_string());
    Redirect::to(&format!("/login?next={next}"))
}

/// The first funnel; a token in the address is exchanged for the cookie first.
async fn home(
    State(app): State<App>,
    Asking(query): Asking<login::WithToken>,
    viewer: Result<PageViewer, Redirect>,
) -> Response {
    if let Some(token) = query.token {
        return login::exchange(&app, &token, "/");
    }
    match (viewer, app.funnels.first()) {
        (Err(redirect), _) => redirect.into_response(),
        (Ok(_), Some(funnel)) => Redirect::to(&funnel_url(&funnel.slug)).into_response(),
        (Ok(_), None) => PageProblem(Problem::not_found("funnel")).into_response(),
    }
}

async fn asset(Path(name): Path<String>) -> Response {
    match dashboards::ASSETS.iter().find(|asset| asset.name == name) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(asset) => {
            let headers = [
                (header::CONTENT_TYPE, asset.media_type),
                (header::CACHE_CONTROL, "public, max-age=300"),
            ];
            (headers, asset.bytes).into_response()
        }
    }
}

async fn nothing_here(uri: Uri) -> Response {
    respond(uri.path(), Problem::not_found("page"))
}

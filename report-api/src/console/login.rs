//! Signing in: a token for a cookie that scripts cannot read.

use axum::{
    Form,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;

use super::{Page, PageProblem, html};
use crate::{access::COOKIE, server::App};

/// A month.
const COOKIE_SECONDS: u32 = 2_592_000;

#[derive(askama::Template)]
#[template(path = "login.html")]
struct LoginPage {
    page: Page,
    message: Option<String>,
    next: String,
}

/// `?token=`: the address that a program prints for its user.
#[derive(Deserialize)]
pub(super) struct WithToken {
    pub(super) token: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    token: String,
}

impl Next {
    /// A path of this server only: `//host` and `/\host` would lead elsewhere.
    fn path(&self) -> &str {
        let next = self.next.as_deref().unwrap_or("/");
        let second = next.as_bytes().get(1);
        let is_local = next.starts_with('/')
            && !matches!(second, Some(b'/' | b'\\'))
            && next.bytes().all(|byte| byte.is_ascii_graphic());
        if is_local { next } else { "/" }
    }
}

pub(super) async fn page(Query(next): Query<Next>) -> Result<Html<String>, PageProblem> {
    login_page(&next, None)
}

fn login_page(next: &Next, message: Option<String>) -> Result<Html<String>, PageProblem> {
    html(&LoginPage {
        page: Page::outside("Sign in"),
        message,
        next: next.path().to_owned(),
    })
}

pub(super) async fn sign_in(
    State(app): State<App>,
    Query(next): Query<Next>,
    Form(credentials): Form<Credentials>,
) -> Result<Response, PageProblem> {
    let token = credentials.token.trim();
    if app.access.scope_of(token).is_none() {
        let message = "This token opens nothing. Check that it was copied whole.".to_owned();
        let page = login_page(&next, Some(message))?;
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }
    Ok(exchange(&app, token, next.path()))
}

/// The cookie for a token that opens something, and the way on.
pub(super) fn exchange(app: &App, token: &str, next: &str) -> Response {
    if app.access.scope_of(token).is_none() {
        return Redirect::to("/login").into_response();
    }
    // Without `Secure`, because the console is also used over plain HTTP on the loopback; a TLS proxy adds it.
    let cookie =
        format!("{COOKIE}={token}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax");
    ([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response()
}

pub(super) async fn sign_out() -> Response {
    let cookie = format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_never_leaves_this_server() {
        for (next, expected) in [
            ("/console/traces/1?x=y", "/console/traces/1?x=y"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/a\r\nSet-Cookie: b", "/"),
            ("", "/"),
        ] {
            let next = Next {
                next: Some(next.to_owned()),
            };
            assert_eq!(next.path(), expected);
        }
    }
}

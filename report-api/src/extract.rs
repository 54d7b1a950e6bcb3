//! What a request asks for, with mistakes told as every other problem: JSON for the API, a page for the console.

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
    response::{IntoResponse as _, Response},
};
use serde::de::DeserializeOwned;

use crate::{console::PageProblem, problem::Problem};

/// Parts of the path.
#[derive(Clone, Debug)]
pub(crate) struct Param<T>(pub(crate) T);

/// What stands after the question mark.
#[derive(Clone, Debug)]
pub(crate) struct Asking<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Param<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(error) => Err(refused(parts, error.body_text())),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asking<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(error) => Err(refused(parts, error.body_text())),
        }
    }
}

fn refused(parts: &Parts, text: String) -> Response {
    let hint = "Times are RFC 3339, for instance 2026-01-01T00:00:00Z; steps and limits are whole numbers.";
    respond(parts.uri.path(), Problem::bad_request(text, hint))
}

/// A problem in the form that its address speaks.
pub(crate) fn respond(path: &str, problem: Problem) -> Response {
    if path.starts_with("/api/") {
        problem.into_response()
    } else {
        PageProblem::from(problem).into_response()
    }
}

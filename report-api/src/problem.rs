//! What went wrong, for programs as JSON and for people as a page. The cause goes to the log, not to the caller.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use event_store::StoreError;
use funnel_engine::{AskError, DefinitionError, FromStoreError, PushdownError, why::WhyError};
use funnel_report::ReportError;
use serde_json::json;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) heading: &'static str,
    pub(crate) text: String,
    /// What the caller can do.
    pub(crate) hint: &'static str,
}

impl Problem {
    pub(crate) fn not_found(what: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            heading: "Not found",
            text: format!("There is no such {what} here, or it is not yours to see."),
            hint: "Check the address; traces are kept for 30 days.",
        }
    }

    pub(crate) fn unauthorized() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            heading: "Not signed in",
            text: "This needs an access token.".to_owned(),
            hint: "Send `Authorization: Bearer TOKEN`; `report-api token` makes one.",
        }
    }

    pub(crate) fn bad_request(text: String, hint: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            heading: "Not understood",
            text,
            hint,
        }
    }

    pub(crate) fn busy() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            heading: "Too many live pages",
            text: "As many pages as this server allows are following the funnel already."
                .to_owned(),
            hint: "Reload the page later; it works without live updates too.",
        }
    }

    pub(crate) fn not_live() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            heading: "Not kept live",
            text: "This funnel is not kept live.".to_owned(),
            hint: "Start report-api with --live; its log says which funnels cannot be kept live, and why.",
        }
    }

    pub(crate) fn too_slow() -> Self {
        tracing::error!("the store did not answer a funnel in time");
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            heading: "The store is too slow",
            text: "ClickHouse did not answer in time.".to_owned(),
            hint: "Ask for a shorter period, or try again in a moment.",
        }
    }

    fn store_away(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "the store did not answer");
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            heading: "The store does not answer",
            text: "ClickHouse is away or refused the question; the log of report-api says why."
                .to_owned(),
            hint: "Try again in a moment.",
        }
    }

    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "an answer failed");
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            heading: "This should not have happened",
            text: "The answer could not be made; the log of report-api says why.".to_owned(),
            hint: "",
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::store_away(&error)
    }
}

impl From<DefinitionError> for Problem {
    fn from(error: DefinitionError) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            heading: "The funnel's definition cannot be answered",
            text: error.to_string(),
            hint: "The text begins with the place in the definition.",
        }
    }
}

impl From<PushdownError> for Problem {
    fn from(error: PushdownError) -> Self {
        match error {
            PushdownError::Definition(error) => error.into(),
            PushdownError::Store(error) | PushdownError::TooMuch(error) => Self::store_away(&error),
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Definition(error) => error.into(),
            AskError::FromStore(FromStoreError::Store(error)) => error.into(),
            AskError::Pushdown(error) | AskError::FromStore(FromStoreError::Service(error)) => {
                error.into()
            }
            AskError::FromStore(error) => Self {
                status: StatusCode::UNPROCESSABLE_ENTITY,
                heading: "The funnel is too large",
                text: error.to_string(),
                hint: "Ask for a shorter period.",
            },
        }
    }
}

impl From<WhyError> for Problem {
    fn from(error: WhyError) -> Self {
        match error {
            WhyError::Store(error) => Self::store_away(&error),
            WhyError::Subject(error) => Self::internal(&error),
        }
    }
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        Self::internal(&error)
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        Self::internal(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "error": {
            "status": self.status.as_u16(), "message": self.text, "hint": self.hint,
        } });
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer realm=\"weir\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

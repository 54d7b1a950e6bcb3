//! Signed HTTP POST of result windows to an endpoint of somebody else, such as a BI tool.
//!
//! Body: `{"delivery":"<id>","windows":[<snapshot>, ...]}`. Headers: `Weir-Delivery: <id>`, unique per delivery and the
//! same on every attempt, and `Weir-Signature: t=<unix seconds>,v1=<hex of HMAC-SHA256 over "<t>.<body>">`. A receiver
//! recomputes `v1` over the raw body, refuses an old `t`, and keeps the highest revision of each window.
//! Refuses: addresses other than http and https, and following any redirect.

use std::{fmt, fmt::Write as _, time::Duration};

use funnel_engine::live::Snapshot;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Client, StatusCode, Url, header, redirect::Policy};
use serde::Serialize;
use sha2::Sha256;

use crate::{Delivery, Sink, SinkError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter ones can be guessed.
const SECRET_MIN_BYTES: usize = 16;

/// A webhook that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Not an address that may be posted to.
    #[error("the address of a webhook is to begin with http:// or https:// and to name a host")]
    Address,
    /// A name or password in the address would be sent in clear and show in logs.
    #[error("the address of a webhook may not hold a user or password; requests are signed")]
    Credentials,
    /// Too short.
    #[error("the secret of a webhook is to have {SECRET_MIN_BYTES} bytes or more")]
    Secret,
    /// The HTTP client could not be set up.
    #[error("cannot set up HTTP: {0}")]
    Client(String),
}

/// The key of the signature. Never shown.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// From its text.
    ///
    /// # Errors
    /// When it is too short.
    pub fn new(text: &str) -> Result<Self, WebhookError> {
        let is_long = text.len() >= SECRET_MIN_BYTES;
        is_long
            .then(|| Self(text.as_bytes().to_vec()))
            .ok_or(WebhookError::Secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The value of `Weir-Signature` for a body.
pub fn signature(secret: &Secret, unix_s: u64, body: &[u8]) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&secret.0) else {
        return String::new();
    };
    mac.update(unix_s.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut value = format!("t={unix_s},v1=");
    for byte in mac.finalize().into_bytes() {
        // Writing into a string cannot fail.
        write!(value, "{byte:02x}").unwrap_or_default();
    }
    value
}

#[derive(Serialize)]
struct Body<'a> {
    delivery: String,
    windows: Vec<&'a Snapshot>,
}

/// Posts windows to one endpoint.
#[derive(Clone, Debug)]
pub struct WebhookSink {
    client: Client,
    url: Url,
    secret: Secret,
}

impl WebhookSink {
    /// For an endpoint. `agent` is told as `User-Agent`.
    ///
    /// # Errors
    /// When the address will not do.
    pub fn new(url: &str, secret: Secret, agent: &str) -> Result<Self, WebhookError> {
        let url = Url::parse(url).ok().ok_or(WebhookError::Address)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(WebhookError::Address);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(WebhookError::Credentials);
        }
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(agent)
            .build()
            .map_err(|error| WebhookError::Client(error.to_string()))?;
        Ok(Self {
            client,
            url,
            secret,
        })
    }
}

impl Sink for WebhookSink {
    async fn publish(&mut self, delivery: &Delivery) -> Result<(), SinkError> {
        let body = Body {
            delivery: delivery.id.to_string(),
            windows: delivery.snapshots.iter().map(AsRef::as_ref).collect(),
        };
        let body = serde_json::to_vec(&body).map_err(|error| SinkError::Refused {
            message: format!("writing the body: {error}"),
        })?;
        let sending = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("Weir-Delivery", delivery.id.to_string())
            .header(
                "Weir-Signature",
                signature(&self.secret, delivery.unix_s, &body),
            )
            .body(body)
            .send();
        // The address may hold a token in its query; it stays out of the log.
        let response = sending
            .await
            .map_err(|error| SinkError::away(reason(&error.without_url())))?;
        let wait = response.headers().get(header::RETRY_AFTER);
        let wait = wait.and_then(|value| value.to_str().ok()?.parse().ok());
        judge(response.status(), wait.map(Duration::from_secs))
    }
}

/// An error with its causes: reqwest's own text says only that sending failed.
fn reason(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        write!(text, ": {error}").unwrap_or_default();
        cause = error.source();
    }
    text
}

/// What an answer means: it took it, it may later, or it never will.
fn judge(status: StatusCode, wait: Option<Duration>) -> Result<(), SinkError> {
    let message = |what: &str| format!("the webhook answered {}: {what}", status.as_u16());
    if status.is_success() {
        return Ok(());
    }
    if status.is_redirection() {
        return Err(SinkError::Refused {
            message: message("redirects are not followed; configure the new address"),
        });
    }
    let is_passing = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    if status.is_server_error() || is_passing.contains(&status) {
        return Err(SinkError::Away {
            message: message("will be tried again"),
            wait,
        });
    }
    Err(SinkError::Refused {
        message: message("check the address and the secret at the receiver"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_openssl_computes() {
        let secret = Secret::new("0123456789abcdef").unwrap();
        // printf '1767225600.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let value =
            "t=1767225600,v1=539b0e21b535c5201ef7d1453c0a0de4ad132293226de9018be0cfbf0092faa6";
        assert_eq!(signature(&secret, 1_767_225_600, br#"{"a":1}"#), value);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(Secret::new("short").unwrap_err(), WebhookError::Secret);
    }

    #[test]
    fn addresses_that_may_not_be_posted_to_are_refused() {
        let new = |url: &str| {
            let secret = Secret::new("0123456789abcdef").unwrap();
            WebhookSink::new(url, secret, "weir").map(|_| ())
        };
        assert_eq!(new("https://bi.example/in?token=1"), Ok(()));
        for url in [
            "",
            "bi.example",
            "file:///etc/passwd",
            "ftp://bi.example",
            "http://",
        ] {
            assert_eq!(new(url), Err(WebhookError::Address), "{url}");
        }
        assert_eq!(
            new("https://me:pw@bi.example"),
            Err(WebhookError::Credentials)
        );
    }

    #[test]
    fn answers_are_told_apart() {
        let is_passing = |code: u16| {
            let judged = judge(StatusCode::from_u16(code).unwrap(), None);
            judged.map_err(|error| matches!(error, SinkError::Away { .. }))
        };
        assert_eq!(is_passing(204), Ok(()));
        for code in [408, 429, 500, 503] {
            assert_eq!(is_passing(code), Err(true), "{code}");
        }
        for code in [301, 307, 400, 401, 404, 410] {
            assert_eq!(is_passing(code), Err(false), "{code}");
        }
    }
}

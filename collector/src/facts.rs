//! What is kept of a message's fields: identity, trace context, and an allow-list. All else is dropped here.
//!
//! Refuses: keeping tokens or cookies. A claim is read out of a JWT without verifying it (the service
//! did that, or answered 401) and the token itself is let go.

use std::{collections::BTreeMap, fmt, str::FromStr};

use base64::Engine as _;
use serde::Deserialize;

use crate::{
    http::Header,
    limits::VALUE_BYTES_MAX,
    privacy::{CookieAllow, QueryAllow, scrub},
    trace_context::TraceParent,
};

/// Which message of the exchange a source reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Request,
    Response,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The whole value of a field.
    Header(String),
    /// One cookie (of `Cookie` or `Set-Cookie`).
    Cookie(String),
    /// One claim of the JWT in a field, with or without `Bearer `.
    JwtHeader { header: String, claim: String },
    /// One claim of the JWT in a cookie.
    JwtCookie { cookie: String, claim: String },
}

/// Where an identity is found, written `request.header:x-tenant-id`, `request.cookie:sid`,
/// `response.jwt:x-auth-token:sub` or `request.jwt-cookie:auth:sub`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Source {
    message: Message,
    place: Place,
    text: String,
}

/// A source that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no identity source: write request.header:NAME, request.cookie:NAME, request.jwt:HEADER:CLAIM or \
     request.jwt-cookie:NAME:CLAIM (or response. in front)"
)]
pub struct SourceError(String);

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let error = || SourceError(text.to_owned());
        let (message, rest) = text.split_once('.').ok_or_else(error)?;
        let message = match message {
            "request" => Message::Request,
            "response" => Message::Response,
            _ => return Err(error()),
        };
        let mut parts = rest.split(':').map(str::to_owned);
        let kind = parts.next().unwrap_or_default();
        let name = parts
            .next()
            .filter(|name| !name.is_empty())
            .ok_or_else(error)?;
        let claim = parts.next();
        let place = match (kind.as_str(), claim) {
            ("header", None) => Place::Header(name),
            ("cookie", None) => Place::Cookie(name),
            ("jwt", Some(claim)) => Place::JwtHeader {
                header: name,
                claim,
            },
            ("jwt-cookie", Some(claim)) => Place::JwtCookie {
                cookie: name,
                claim,
            },
            _ => return Err(error()),
        };
        Ok(Self {
            message,
            place,
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The rules: sources in order of preference, and headers kept as attributes.
#[derive(Clone, Debug, Default)]
pub struct FactRules {
    /// Sources of the tenant.
    pub tenant: Vec<Source>,
    /// Sources of the user.
    pub user: Vec<Source>,
    /// Sources of the session.
    pub session: Vec<Source>,
    /// Lower-case names of request headers kept as attributes, without a leading `x-`.
    pub attribute_headers: Vec<String>,
    /// Cookies of the request kept as attributes.
    pub cookies: CookieAllow,
    /// Query parameters kept as attributes.
    pub query: QueryAllow,
}

/// What was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// See [`FactRules::tenant`].
    pub tenant: Option<String>,
    /// See [`FactRules::user`].
    pub user: Option<String>,
    /// See [`FactRules::session`].
    pub session: Option<String>,
    /// Host header of a request.
    pub host: Option<String>,
    /// `traceparent` of a request, `traceresponse` of a response.
    pub trace: Option<TraceParent>,
    /// Allow-listed headers.
    pub attributes: BTreeMap<String, String>,
}

impl FactRules {
    /// Reads a request's target and fields.
    pub fn of_request(&self, target: &str, headers: &[Header<'_>]) -> Facts {
        let mut facts = self.identity(Message::Request, headers);
        facts.host = field(headers, "host").and_then(clean_text);
        facts.trace = field(headers, "traceparent").and_then(TraceParent::parse);
        for name in &self.attribute_headers {
            if let Some(value) = field(headers, name).and_then(clean_text) {
                let key = name.strip_prefix("x-").unwrap_or(name).replace('-', "_");
                facts.attributes.insert(key, value);
            }
        }
        let mut put = |key: &str, value: &str| {
            facts.attributes.insert(key.to_owned(), value.to_owned());
        };
        self.cookies.read(headers, &mut put);
        self.query.read(target, &mut put);
        facts
    }

    /// Reads a response's fields.
    pub fn of_response(&self, headers: &[Header<'_>]) -> Facts {
        let mut facts = self.identity(Message::Response, headers);
        facts.trace = field(headers, "traceresponse").and_then(TraceParent::parse);
        facts
    }

    fn identity(&self, message: Message, headers: &[Header<'_>]) -> Facts {
        let first = |sources: &[Source]| {
            sources
                .iter()
                .filter(|source| source.message == message)
                .find_map(|source| read(source, headers))
        };
        Facts {
            tenant: first(&self.tenant).map(|tenant| scrub(&tenant).into_owned()),
            user: first(&self.user),
            session: first(&self.session),
            ..Facts::default()
        }
    }
}

fn read(source: &Source, headers: &[Header<'_>]) -> Option<String> {
    match &source.place {
        Place::Header(name) => field(headers, name).and_then(text),
        Place::Cookie(name) => cookie(source.message, headers, name).and_then(text),
        Place::JwtHeader { header, claim } => jwt_claim(field(headers, header)?, claim),
        Place::JwtCookie {
            cookie: name,
            claim,
        } => jwt_claim(cookie(source.message, headers, name)?, claim),
    }
}

fn field<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let fits = !text.is_empty()
        && text.len() <= VALUE_BYTES_MAX
        && !text.bytes().any(|byte| byte.is_ascii_control());
    fits.then(|| text.to_owned())
}

/// Text that goes out as it is.
fn clean_text(value: &[u8]) -> Option<String> {
    text(value).map(|text| scrub(&text).into_owned())
}

fn cookie<'a>(message: Message, headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let header_name = match message {
        Message::Request => "cookie",
        Message::Response => "set-cookie",
    };
    let mut pairs = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(header_name))
        .flat_map(|header| header.value.split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let rest = pair.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    })
}

fn jwt_claim(token: &[u8], claim: &str) -> Option<String> {
    let token = std::str::from_utf8(token).ok()?.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token).trim();
    let payload = token.split('.').nth(1)?;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()?;
    match serde_json::from_slice::<serde_json::Value>(&json)
        .ok()?
        .get(claim)?
    {
        serde_json::Value::String(value) => text(value.as_bytes()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
        Header {
            name,
            value: value.as_bytes(),
        }
    }

    fn rules() -> FactRules {
        FactRules {
            tenant: vec!["request.header:x-tenant-id".parse().unwrap()],
            user: vec![
                "request.jwt:authorization:sub".parse().unwrap(),
                "response.jwt:x-auth-token:sub".parse().unwrap(),
            ],
            session: vec!["request.cookie:sid".parse().unwrap()],
            attribute_headers: vec!["x-device".to_owned()],
            ..FactRules::default()
        }
    }

    // {"alg":"none"} . {"sub":"u7","n":1}
    const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1NyIsIm4iOjF9.sig";

    #[test]
    fn identity_is_read_and_the_token_is_not_kept() {
        let bearer = format!("Bearer {TOKEN}");
        let headers = [
            header("X-Tenant-ID", "t1"),
            header("Authorization", &bearer),
            header("Cookie", "a=b; sid=s9"),
            header("X-Device", "phone"),
            header("X-Secret", "hush"),
        ];
        let facts = rules().of_request("/", &headers);
        assert_eq!(facts.tenant.as_deref(), Some("t1"));
        assert_eq!(facts.user.as_deref(), Some("u7"));
        assert_eq!(facts.session.as_deref(), Some("s9"));
        assert_eq!(
            facts.attributes.get("device").map(String::as_str),
            Some("phone")
        );
        let kept = format!("{facts:?}");
        assert!(!kept.contains("hush") && !kept.contains("eyJ"));
    }

    #[test]
    fn a_response_may_tell_who_logged_in() {
        let facts = rules().of_response(&[header("x-auth-token", TOKEN)]);
        assert_eq!(facts.user.as_deref(), Some("u7"));
        assert_eq!(facts.tenant, None);
    }

    #[test]
    fn a_source_with_a_typo_says_what_to_write() {
        let error = "request.heder:x".parse::<Source>().unwrap_err().to_string();
        assert!(error.contains("request.header:NAME"), "{error}");
    }
}

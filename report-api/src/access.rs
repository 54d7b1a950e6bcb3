//! Who may see what: access tokens, each of which opens one scope.
//!
//! The file holds only digests, so reading it opens nothing. A token travels as `Authorization: Bearer` or in the
//! console's cookie, and is never logged.

use std::{fmt::Write as _, fs, path::Path};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
    response::Redirect,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use event_store::{Scope, TenantId};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{problem::Problem, server::App};

/// The console's cookie.
pub(crate) const COOKIE: &str = "weir_token";

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("cannot read it")]
    Io(#[from] std::io::Error),
    /// It is no TOML of the expected shape.
    #[error("it is no token file: {0}")]
    Toml(#[from] toml::de::Error),
    /// An entry is wrong.
    #[error("entry {entry}: {message}")]
    Entry {
        /// Counted from 1.
        entry: usize,
        /// What is wrong.
        message: &'static str,
    },
    /// A file without entries opens nothing.
    #[error("it has no [[tokens]]; `report-api token --operator` makes one")]
    Empty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tokens: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: String,
    #[serde(default)]
    operator: bool,
    tenant: Option<String>,
}

/// The tokens that open something.
#[derive(Clone, Debug)]
pub struct Access {
    entries: Vec<([u8; 32], Scope)>,
}

/// A token made just now.
#[derive(Debug)]
pub struct NewToken {
    /// What its holder keeps; it cannot be shown again.
    pub token: String,
    /// What goes into the token file.
    pub entry: String,
}

impl NewToken {
    /// 256 random bits for a scope.
    pub fn make(scope: &Scope) -> Self {
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut digest_text = String::new();
        for byte in digest(&token) {
            // Writing into a string cannot fail.
            write!(digest_text, "{byte:02x}").unwrap_or_default();
        }
        let opens = scope.tenant().map_or_else(
            || "operator = true".to_owned(),
            |tenant| format!("tenant = {}", toml::Value::from(tenant.as_str())),
        );
        let entry = format!("[[tokens]]\nsha256 = \"{digest_text}\"\n{opens}\n");
        Self { token, entry }
    }
}

impl Access {
    /// Reads a token file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(path: &Path) -> Result<Self, AccessError> {
        Self::parse(&fs::read_to_string(path)?)
    }

    fn parse(text: &str) -> Result<Self, AccessError> {
        let file: File = toml::from_str(text)?;
        let entry = |(index, entry): (usize, &Entry)| {
            let wrong = |message| AccessError::Entry {
                entry: index + 1,
                message,
            };
            let scope = match (entry.operator, &entry.tenant) {
                (true, None) => Scope::Operator,
                (false, Some(tenant)) => {
                    Scope::Tenant(TenantId::new(tenant).ok_or(wrong("`tenant` must not be empty"))?)
                }
                _ => {
                    return Err(wrong(
                        "needs either `operator = true` or `tenant = \"...\"`",
                    ));
                }
            };
            let digest = from_hex(&entry.sha256).ok_or(wrong(
                "`sha256` is not 64 hexadecimal digits; make one with `report-api token`",
            ))?;
            Ok((digest, scope))
        };
        let entries: Vec<_> = file
            .tokens
            .iter()
            .enumerate()
            .map(entry)
            .collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Err(AccessError::Empty);
        }
        Ok(Self { entries })
    }

    /// What a token opens.
    pub(crate) fn scope_of(&self, token: &str) -> Option<Scope> {
        let digest = digest(token);
        // Digests of secrets may be compared early-out: a prefix of a digest says nothing about the token.
        let mut entries = self.entries.iter();
        entries
            .find(|(wanted, _)| *wanted == digest)
            .map(|(_, scope)| scope.clone())
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// The caller of the API.
#[derive(Clone, Debug)]
pub(crate) struct Viewer {
    pub(crate) scope: Scope,
}

/// The caller of a page; without a token, the way leads to the sign-in page.
#[derive(Clone, Debug)]
pub(crate) struct PageViewer(pub(crate) Viewer);

impl Viewer {
    fn of(parts: &Parts, app: &App) -> Option<Self> {
        let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(token.trim())
        });
        let token = bearer.or_else(|| cookie(&parts.headers))?;
        app.access.scope_of(token).map(|scope| Self { scope })
    }

    /// As people read it.
    pub(crate) fn scope_label(&self) -> String {
        self.scope
            .tenant()
            .map_or_else(|| "All shops".to_owned(), |tenant| format!("Shop {tenant}"))
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter();
    let mut pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

impl<S: Send + Sync> FromRequestParts<S> for Viewer
where
    App: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Self::of(parts, &App::from_ref(state)).ok_or_else(Problem::unauthorized)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PageViewer
where
    App: FromRef<S>,
{
    type Rejection = Redirect;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Redirect> {
        Viewer::of(parts, &App::from_ref(state))
            .map(Self)
            .ok_or_else(|| crate::console::to_login(&parts.uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_opens_its_scope_and_nothing_else_does() {
        let tenant = Scope::Tenant(TenantId::new("t\"1").unwrap());
        let (first, second) = (NewToken::make(&tenant), NewToken::make(&Scope::Operator));
        let access = Access::parse(&(first.entry + &second.entry)).unwrap();
        assert_eq!(access.scope_of(&first.token), Some(tenant));
        assert_eq!(access.scope_of(&second.token), Some(Scope::Operator));
        assert_eq!(access.scope_of("guess"), None);
        assert_eq!(access.scope_of(""), None);
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        let digest = "0".repeat(64);
        let cases = [
            (String::new(), "no [[tokens]]"),
            (
                "[[tokens]]\nsha256 = \"12\"\noperator = true".to_owned(),
                "entry 1: `sha256`",
            ),
            (
                format!("[[tokens]]\nsha256 = \"{digest}\""),
                "either `operator",
            ),
            (
                format!("[[tokens]]\nsha256 = \"{digest}\"\ntenant = \"\""),
                "`tenant`",
            ),
            (
                format!("[[tokens]]\nsha256 = \"{digest}\"\ntennant = \"a\""),
                "tennant",
            ),
        ];
        for (text, expected) in cases {
            let error = Access::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} should name {expected}");
        }
    }
}

//! The allow-lists `[attributes] headers`, `cookies` and `query`: what may be named, and reading what was.
//!
//! Owns: refusing names that carry secrets or identities, with an error that tells the name; cookies and query
//! parameters as attributes. Refuses: keeping anything that is not named. Every value goes through `scrub`, is bounded,
//! and a longer one is left out whole, because half a value says nothing.

use std::{borrow::Cow, fmt};

use super::scrub::{Decoder, scrub};
use crate::{http::Header, limits::VALUE_BYTES_MAX};

/// Names in one list.
const NAMES_MAX: usize = 32;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 64;
/// Bytes of a query that are looked at; parameters after that are not kept.
const QUERY_BYTES_MAX: usize = 8 * 1024;

/// Headers whose names do not tell that they carry secrets.
const FORBIDDEN_HEADERS: [&str; 3] = ["cookie", "set-cookie", "x-forwarded-client-cert"];

/// What a name that carries a secret contains, without its `-`, `_` and `.`.
const FORBIDDEN_PARTS: [&str; 26] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "secret",
    "token",
    "session",
    "sessid",
    "csrf",
    "xsrf",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authoriz",
    "authentic",
    "oauth",
    "saml",
    "jwt",
    "bearer",
    "remember",
    "signature",
    "verifier",
    "creditcard",
    "cardnumber",
    "pincode",
];

/// What a name that carries a secret has as a word of its own.
const FORBIDDEN_WORDS: [&str; 20] = [
    "auth", "sid", "ssid", "hsid", "sess", "sso", "pass", "pwd", "pw", "pin", "pan", "otp", "totp",
    "cvv", "cvc", "csc", "iban", "ssn", "sig", "hmac",
];

/// What carries a secret only when it is the whole name: `code` is how a login comes back from elsewhere, `promo_code`
/// is not.
const FORBIDDEN_NAMES: [&str; 4] = ["code", "key", "ticket", "card"];

/// One of the allow-lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `attributes.headers`: request headers.
    Headers,
    /// `attributes.cookies`: cookies of the request.
    Cookies,
    /// `attributes.query`: parameters of the query string.
    Query,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Headers => "attributes.headers",
            Self::Cookies => "attributes.cookies",
            Self::Query => "attributes.query",
        })
    }
}

/// Why a list cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowError {
    /// The name says that its value is a secret.
    #[error(
        "{list}: `{name}` carries a secret and cannot be kept; use [identity] to tell users and sessions apart"
    )]
    Secret {
        /// Which list.
        list: List,
        /// Which name.
        name: String,
    },
    /// The value is an identity, of which only the pseudonym leaves.
    #[error(
        "{list}: `{name}` is read as an identity by [identity] and would be kept beside its pseudonym; take it off the list"
    )]
    Identity {
        /// Which list.
        list: List,
        /// Which name.
        name: String,
    },
    /// It cannot be a name.
    #[error("{list}: `{name}` is no name: write 1 to 64 letters, digits and `-_.~[]`")]
    NoName {
        /// Which list.
        list: List,
        /// Which name.
        name: String,
    },
    /// Another name in the list gives the same attribute.
    #[error(
        "{list}: `{name}` would be kept under the key of another name in the list; keep one of them"
    )]
    Twice {
        /// Which list.
        list: List,
        /// Which name.
        name: String,
    },
    /// The list is too long.
    #[error("{list}: {count} names are too many, at most {NAMES_MAX} are kept")]
    TooMany {
        /// Which list.
        list: List,
        /// How many names it has.
        count: usize,
    },
}

/// Checks a list of names.
///
/// # Errors
/// When a name carries a secret, is no name or stands there twice, or when there are too many.
pub fn check(list: List, names: &[String]) -> Result<(), AllowError> {
    if names.len() > NAMES_MAX {
        return Err(AllowError::TooMany {
            list,
            count: names.len(),
        });
    }
    let mut keys = Vec::with_capacity(names.len());
    for name in names {
        let wrong = |why: fn(List, String) -> AllowError| Err(why(list, name.clone()));
        if !is_name(name) {
            return wrong(|list, name| AllowError::NoName { list, name });
        }
        if carries_secret(list, name) {
            return wrong(|list, name| AllowError::Secret { list, name });
        }
        let key = match list {
            List::Headers => key_of("", &name.to_ascii_lowercase()),
            List::Cookies | List::Query => key_of("", name),
        };
        if keys.contains(&key) {
            return wrong(|list, name| AllowError::Twice { list, name });
        }
        keys.push(key);
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~[]".contains(&byte);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(fits)
}

/// Checks that no name of a list is where a user or a session is read, given as the sources' texts
/// (`request.cookie:sid`).
///
/// # Errors
/// With the first name that is.
pub fn check_identities(
    list: List,
    names: &[String],
    sources: impl IntoIterator<Item = impl fmt::Display>,
) -> Result<(), AllowError> {
    for source in sources {
        let source = source.to_string();
        let place = source.split_once('.').map_or("", |(_, place)| place);
        let mut parts = place.split(':');
        let (kind, read) = (parts.next(), parts.next().unwrap_or_default());
        let is_same = |name: &&String| match (list, kind) {
            (List::Headers, Some("header" | "jwt")) => name.eq_ignore_ascii_case(read),
            (List::Cookies, Some("cookie" | "jwt-cookie")) => *name == read,
            (List::Headers | List::Cookies | List::Query, _) => false,
        };
        if let Some(name) = names.iter().find(is_same) {
            return Err(AllowError::Identity {
                list,
                name: name.clone(),
            });
        }
    }
    Ok(())
}

fn carries_secret(list: List, name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let bare: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
    (list == List::Headers && FORBIDDEN_HEADERS.contains(&lower.as_str()))
        || FORBIDDEN_NAMES.contains(&bare.as_str())
        || FORBIDDEN_PARTS.iter().any(|part| bare.contains(part))
        || words(name).any(|word| FORBIDDEN_WORDS.contains(&word.to_ascii_lowercase().as_str()))
}

/// `card-pin`, `card_pin`, `card[pin]` and `cardPin` have the same words.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|letter: char| !letter.is_ascii_alphanumeric())
        .flat_map(|part| {
            let mut rest = part;
            std::iter::from_fn(move || {
                let humps = rest.bytes().zip(rest.bytes().skip(1));
                let hump = humps
                    .zip(1..)
                    .find(|((left, right), _)| {
                        left.is_ascii_lowercase() && right.is_ascii_uppercase()
                    })
                    .map_or(rest.len(), |(_, at)| at);
                let (word, after) = rest.split_at_checked(hump)?;
                rest = after;
                (!word.is_empty()).then_some(word)
            })
        })
}

fn key_of(prefix: &str, name: &str) -> String {
    format!("{prefix}{}", name.replace('-', "_"))
}

/// A name and the key of its attribute.
#[derive(Clone, Debug)]
struct Kept {
    name: String,
    key: String,
}

/// What a list keeps of one message: the first value of each name.
#[derive(Clone, Debug, Default)]
struct Names(Vec<Kept>);

impl Names {
    fn new(list: List, prefix: &str, names: &[String]) -> Result<Self, AllowError> {
        check(list, names)?;
        let kept = |name: &String| Kept {
            name: name.clone(),
            key: key_of(prefix, name),
        };
        Ok(Self(names.iter().map(kept).collect()))
    }

    /// Puts the first value of each name that can be kept.
    fn read<'a>(
        &self,
        pairs: impl Iterator<Item = (Cow<'a, [u8]>, &'a [u8])>,
        decode: impl Fn(&'a [u8]) -> Cow<'a, [u8]>,
        mut put: impl FnMut(&str, &str),
    ) {
        let mut seen = [false; NAMES_MAX];
        for (name, value) in pairs {
            let mut kept = self.0.iter().zip(&mut seen);
            let Some((kept, seen)) = kept.find(|(kept, _)| kept.name.as_bytes() == &*name) else {
                continue;
            };
            if !*seen && let Some(value) = text(&decode(value)) {
                put(&kept.key, &scrub(value));
                *seen = true;
            }
        }
    }
}

/// The query parameters that are kept, as `query_NAME`.
#[derive(Clone, Debug, Default)]
pub struct QueryAllow(Names);

impl QueryAllow {
    /// From `attributes.query`. Names are compared after percent-decoding, in the same case.
    ///
    /// # Errors
    /// See [`check`].
    pub fn new(names: &[String]) -> Result<Self, AllowError> {
        Names::new(List::Query, "query_", names).map(Self)
    }

    /// Reads the query string of a request target and puts key and value of every attribute.
    pub fn read(&self, target: &str, put: impl FnMut(&str, &str)) {
        if self.0.0.is_empty() {
            return;
        }
        let target = target.split('#').next().unwrap_or_default();
        let Some((_, query)) = target.split_once('?') else {
            return;
        };
        let whole = query.as_bytes();
        let query = match whole.get(..QUERY_BYTES_MAX) {
            // The parameter at the cut is half a one.
            Some(head) => {
                let cut = head.iter().rposition(|byte| *byte == b'&').unwrap_or(0);
                head.get(..cut).unwrap_or_default()
            }
            None => whole,
        };
        let pairs = query.split(|byte| *byte == b'&').map(|pair| {
            let (name, value) = split_pair(pair);
            (decoded(name), value)
        });
        self.0.read(pairs, decoded, put);
    }
}

/// The cookies that are kept, as `cookie_NAME`.
#[derive(Clone, Debug, Default)]
pub struct CookieAllow(Names);

impl CookieAllow {
    /// From `attributes.cookies`. Names are compared in the same case.
    ///
    /// # Errors
    /// See [`check`].
    pub fn new(names: &[String]) -> Result<Self, AllowError> {
        Names::new(List::Cookies, "cookie_", names).map(Self)
    }

    /// Reads the `Cookie` fields of a request and puts key and value of every attribute, values as they were sent.
    pub fn read(&self, headers: &[Header<'_>], put: impl FnMut(&str, &str)) {
        if self.0.0.is_empty() {
            return;
        }
        let pairs = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case("cookie"))
            .flat_map(|header| header.value.split(|byte| *byte == b';'))
            .map(|pair| {
                let (name, value) = split_pair(pair.trim_ascii());
                (Cow::Borrowed(name), value)
            });
        self.0
            .read(pairs, |value| Cow::Borrowed(unquoted(value)), put);
    }
}

fn split_pair(pair: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = pair.splitn(2, |byte| *byte == b'=');
    (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    )
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inside @ .., b'"'] => inside,
        _ => value,
    }
}

/// A value as text, when it is short and can be printed.
fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let fits =
        !text.is_empty() && text.len() <= VALUE_BYTES_MAX && !text.chars().any(char::is_control);
    fits.then_some(text)
}

/// Undoes the encoding of forms: `%41` and `+`.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    Cow::Owned(Decoder { rest: &spaced }.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn of_query(kept: &[&str], target: &str) -> Vec<(String, String)> {
        let mut out = Vec::new();
        let allow = QueryAllow::new(&names(kept)).unwrap();
        allow.read(target, |key, value| {
            out.push((key.to_owned(), value.to_owned()));
        });
        out
    }

    fn of_cookies(kept: &[&str], lines: &[&str]) -> Vec<(String, String)> {
        let headers: Vec<Header<'_>> = lines
            .iter()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| Header {
                name,
                value: value.as_bytes(),
            })
            .collect();
        let mut out = Vec::new();
        let allow = CookieAllow::new(&names(kept)).unwrap();
        allow.read(&headers, |key, value| {
            out.push((key.to_owned(), value.to_owned()));
        });
        out
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn only_named_parameters_are_kept_decoded_and_scrubbed() {
        let target = "/find?q=red+lamp&password=hush&utm%2Dsource=n%C3%A9ws&q=second&note=4111+1111+1111+1111\
            &filter%5Bsize%5D=xl&mail=a%40b.com#q=third";
        let kept = of_query(
            &["utm-source", "q", "note", "filter[size]", "mail", "absent"],
            target,
        );
        let expected = [
            ("query_q", "red lamp"),
            ("query_utm_source", "n\u{e9}ws"),
            ("query_note", "{card}"),
            ("query_filter[size]", "xl"),
            ("query_mail", "{email}"),
        ];
        assert_eq!(kept, pairs(&expected));
    }

    #[test]
    fn what_cannot_be_kept_is_left_out() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        for value in ["", "+", "%00", "a%0Ab", "%FF", &long] {
            assert_eq!(
                of_query(&["q"], &format!("/?q={value}")),
                Vec::new(),
                "{value}"
            );
        }
        for target in [
            "/",
            "/?",
            "*",
            "/?q",
            "/q=1",
            "/#?q=1",
            "/?Q=1",
            "/?xq=1&q%3D=1",
        ] {
            assert_eq!(of_query(&["q"], target), Vec::new(), "{target}");
        }
        assert_eq!(
            of_query(&["q"], "/?q=&q=1&q=2"),
            pairs(&[("query_q", "1")]),
            "the first value"
        );
        assert_eq!(of_query(&[], "/?q=1"), Vec::new());
    }

    #[test]
    fn a_query_is_looked_at_up_to_its_bound() {
        let padding = |bytes: usize| format!("/?{}&q=1234&q=5", "x".repeat(bytes));
        assert_eq!(
            of_query(&["q"], &padding(QUERY_BYTES_MAX - 20)),
            pairs(&[("query_q", "1234")])
        );
        assert_eq!(
            of_query(&["q"], &padding(QUERY_BYTES_MAX - 5)),
            Vec::new(),
            "half a value is none"
        );
        assert_eq!(of_query(&["q"], &padding(QUERY_BYTES_MAX)), Vec::new());
    }

    #[test]
    fn only_named_cookies_are_kept() {
        let lines = [
            "Cookie: sid=hush; theme=\"dark\";lang=de; themes=x",
            "X-Cookie: currency=USD",
            "cookie: currency=EUR; theme=light; ab=sk_live_0123456789",
        ];
        let kept = of_cookies(&["theme", "currency", "ab", "Lang"], &lines);
        let expected = [
            ("cookie_theme", "dark"),
            ("cookie_currency", "EUR"),
            ("cookie_ab", "{secret}"),
        ];
        assert_eq!(kept, pairs(&expected));
    }

    #[test]
    fn names_that_carry_secrets_are_refused_by_name() {
        let secrets = [
            "password",
            "newPassword",
            "user[pass]",
            "api_key",
            "apiKey",
            "X-Api-Key",
            "access_token",
            "id-token",
            "JSESSIONID",
            "PHPSESSID",
            "connect.sid",
            "sid",
            "laravel_session",
            "csrf",
            "_csrf",
            "XSRF-TOKEN",
            "X-Amz-Signature",
            "X-Amz-Credential",
            "sig",
            "code",
            "key",
            "otp",
            "cardPin",
            "cvv",
            "auth",
            "client_secret",
            "remember_me",
            "code_verifier",
            "SAMLResponse",
            "card-number",
        ];
        for name in secrets {
            for list in [List::Headers, List::Cookies, List::Query] {
                let error = check(list, &names(&["q", name])).unwrap_err().to_string();
                assert!(
                    error.starts_with(&format!("{list}: `{name}` carries a secret")),
                    "{error}"
                );
            }
        }
        for name in [
            "Cookie",
            "Set-Cookie",
            "Authorization",
            "proxy-authorization",
            "x-auth-token",
        ] {
            assert!(check(List::Headers, &names(&[name])).is_err(), "{name}");
        }
    }

    #[test]
    fn ordinary_names_are_taken() {
        let ordinary = names(&[
            "q",
            "utm_source",
            "x-device",
            "user-agent",
            "author",
            "promo_code",
            "sort_key",
            "page",
            "compass",
            "filter[size]",
            "authors",
            "inside",
            "theme",
            "spinning",
            "expand",
            "keyword",
            "accept-language",
        ]);
        for list in [List::Headers, List::Cookies, List::Query] {
            assert_eq!(check(list, &ordinary), Ok(()));
        }
    }

    #[test]
    fn other_mistakes_in_a_list_are_told() {
        let said = |list, kept: &[&str]| check(list, &names(kept)).unwrap_err().to_string();
        for name in ["", "a b", "a=b", "a&b", "\u{e4}", &"x".repeat(65)] {
            assert!(said(List::Query, &[name]).contains("is no name"), "{name}");
        }
        assert!(said(List::Query, &["a-b", "a_b"]).contains("`a_b` would be kept under the key"));
        assert!(said(List::Headers, &["X-Note", "x-note"]).contains("`x-note`"));
        assert_eq!(check(List::Query, &names(&["Page", "page"])), Ok(()));
        let many: Vec<String> = (0..=NAMES_MAX).map(|number| format!("n{number}")).collect();
        assert!(
            check(List::Query, &many)
                .unwrap_err()
                .to_string()
                .contains("33 names")
        );
    }

    #[test]
    fn identities_are_kept_as_pseudonyms_only() {
        let sources = [
            "request.cookie:visit",
            "request.header:x-user",
            "response.jwt:x-who:sub",
            "request.jwt-cookie:who:sub",
        ];
        let check = |list, name: &str| check_identities(list, &names(&["q", name]), sources);
        for (list, name) in [
            (List::Cookies, "visit"),
            (List::Cookies, "who"),
            (List::Headers, "X-User"),
            (List::Headers, "X-Who"),
        ] {
            let error = check(list, name).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("identity"),
                "{error}"
            );
        }
        for (list, name) in [
            (List::Cookies, "Visit"),
            (List::Cookies, "x-user"),
            (List::Headers, "visit"),
            (List::Query, "visit"),
        ] {
            assert_eq!(check(list, name), Ok(()), "{name}");
        }
    }
}

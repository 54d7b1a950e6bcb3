//! An HTTP request of the ClickHouse protocol as one typed value.

use axum::http::HeaderMap;
use base64::Engine as _;

/// Parameters that belong to the protocol; every other one is a setting.
const NOT_SETTINGS: &[&str] = &[
    "query",
    "database",
    "default_format",
    "user",
    "password",
    "compress",
    "decompress",
    "query_id",
    "enable_http_compression",
    "session_id",
    "session_timeout",
    "session_check",
    "client_protocol_version",
    "wait_end_of_query",
    "buffer_size",
    "role",
    "quota_key",
    "stacktrace",
    "async",
    "http_zlib_compression_level",
    "add_http_cors_header",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "close_session",
];

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `default` when none is given.
    pub user: String,
    /// Empty when none is given.
    pub password: String,
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// From the URL; a body follows it.
    pub query: String,
    /// Database of unqualified names.
    pub database: Option<String>,
    /// Format of answers to statements that name none.
    pub format: Option<String>,
    /// `param_x`, without the prefix, in escaped text form.
    pub parameters: Vec<(String, String)>,
    /// Everything else.
    pub settings: Vec<(String, String)>,
    /// Answer in ClickHouse's blocks.
    pub compress: bool,
    /// The body is in ClickHouse's blocks.
    pub decompress: bool,
    /// Echoed.
    pub query_id: Option<String>,
}

impl Request {
    /// Sorts the URL's parameters and the headers.
    pub fn parse(pairs: Vec<(String, String)>, headers: &HeaderMap) -> (Self, Credentials) {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let mut request = Self {
            database: header("x-clickhouse-database"),
            format: header("x-clickhouse-format"),
            ..Self::default()
        };
        let mut who = basic(headers).unwrap_or_else(|| Credentials {
            user: "default".to_owned(),
            password: String::new(),
        });
        if let Some(user) = header("x-clickhouse-user") {
            who.user = user;
        }
        if let Some(key) = header("x-clickhouse-key") {
            who.password = key;
        }
        for (name, value) in pairs {
            match name.as_str() {
                "query" => request.query = value,
                "database" => request.database = Some(value),
                "default_format" => request.format = Some(value),
                "user" => who.user = value,
                "password" => who.password = value,
                "compress" => request.compress = value == "1",
                "decompress" => request.decompress = value == "1",
                "query_id" => request.query_id = Some(value),
                _ if NOT_SETTINGS.contains(&name.as_str()) => {}
                _ => match name.strip_prefix("param_") {
                    Some(parameter) => request.parameters.push((parameter.to_owned(), value)),
                    None => request.settings.push((name, value)),
                },
            }
        }
        request.database = request.database.filter(|name| !name.is_empty());
        (request, who)
    }

    /// One `SET` for all settings; names must be identifiers and values are quoted.
    ///
    /// # Errors
    /// The name that is no identifier.
    pub fn set_statement(&self) -> Result<Option<String>, String> {
        if self.settings.is_empty() {
            return Ok(None);
        }
        let mut parts = Vec::new();
        for (name, value) in &self.settings {
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                return Err(name.clone());
            }
            parts.push(format!(
                "{name} = '{}'",
                value.replace('\\', "\\\\").replace('\'', "\\'")
            ));
        }
        Ok(Some(format!("SET {}", parts.join(", "))))
    }
}

fn basic(headers: &HeaderMap) -> Option<Credentials> {
    let value = headers
        .get("authorization")?
        .to_str()
        .ok()?
        .strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(value)
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Credentials {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_settings_and_protocol_are_told_apart() {
        let pairs = [
            ("query", "SELECT {n:UInt8}"),
            ("param_n", "7"),
            ("max_threads", "1'; DROP"),
            ("session_id", "x"),
            ("compress", "1"),
        ];
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let (request, who) = Request::parse(pairs, &HeaderMap::new());
        assert_eq!(request.parameters, [("n".to_owned(), "7".to_owned())]);
        assert_eq!(
            request.set_statement().unwrap().unwrap(),
            "SET max_threads = '1\\'; DROP'"
        );
        assert!(request.compress && who.user == "default");
        let odd = Request {
            settings: vec![("a b".to_owned(), String::new())],
            ..Request::default()
        };
        assert!(odd.set_statement().is_err());
    }
}

//! `event-store serve`: the ClickHouse HTTP protocol over the engine library.

mod engine;
mod request;
mod statement;
mod wire;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
pub use engine::{Answer, Engine, EngineError, QueryError, Session};
pub use request::{Credentials, Request};
pub use statement::{Statement, classify};
use tokio::{net::TcpListener, sync::Semaphore};

/// The largest insert body, bytes.
const BODY_BYTES_MAX: usize = 1 << 30;
/// Statements that run at once; more wait.
const STATEMENTS_MAX: usize = 16;

struct Server {
    engine: Arc<Engine>,
    expected: Credentials,
    running: Semaphore,
}

/// Serves until `shutdown` resolves and every request begun before has been answered.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    engine: Arc<Engine>,
    listener: TcpListener,
    expected: Credentials,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let server = Arc::new(Server {
        engine,
        expected,
        running: Semaphore::new(STATEMENTS_MAX),
    });
    let app = Router::new()
        .route("/ping", get(|| async { "Ok.\n" }))
        .route("/replicas_status", get(|| async { "Ok.\n" }))
        .route("/", get(answer).post(answer))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(server);
    axum::serve(
        listener,
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(shutdown)
    .await
}

async fn answer(
    State(server): State<Arc<Server>>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    let pairs: Vec<(String, String)> = form_pairs(raw.as_deref().unwrap_or_default());
    if pairs.is_empty() && body.is_empty() {
        return "Ok.\n".into_response();
    }
    let (request, who) = Request::parse(pairs, &headers);
    if !same(&who.user, &server.expected.user) || !same(&who.password, &server.expected.password) {
        return error_response(&QueryError {
            code: 516,
            text: format!(
                "Code: 516. DB::Exception: {}: Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)",
                who.user
            ),
        });
    }
    let Ok(_permit) = server.running.acquire().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down").into_response();
    };
    let encoding = headers
        .get(header::CONTENT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let engine = Arc::clone(&server.engine);
    let work = tokio::task::spawn_blocking(move || {
        let result = run(&engine, &request, Vec::from(body), encoding.as_deref());
        (request, result)
    });
    match work.await {
        Ok((request, Ok((answer, format)))) => success_response(&request, answer, &format),
        Ok((_, Err(error))) => error_response(&error),
        Err(error) => error_response(&exception(
            1002,
            &format!("the statement's task failed: {error}"),
        )),
    }
}

/// Runs one request on a session of its own.
fn run(
    engine: &Arc<Engine>,
    request: &Request,
    body: Vec<u8>,
    encoding: Option<&str>,
) -> Result<(Answer, String), QueryError> {
    let mut body =
        wire::decode_content(body, encoding).map_err(|error| exception(354, &error.to_string()))?;
    if request.decompress {
        body = wire::decode_blocks(&body).map_err(|error| exception(354, &error.to_string()))?;
    }
    let (text, data) = split_text(request, body);
    let statement = classify(&text, request.format.as_deref());
    let mut session = engine.session()?;
    if let Some(database) = &request.database {
        session.query(
            &format!("USE `{}`", database.replace(['`', '\\'], "")),
            "Null",
            &[],
        )?;
    }
    let set = request
        .set_statement()
        .map_err(|name| exception(115, &format!("Unknown setting '{name}'")))?;
    if let Some(set) = set {
        session.query(&set, "Null", &[])?;
    }
    let format = request
        .format
        .clone()
        .unwrap_or_else(|| "TabSeparated".to_owned());
    let answer = match statement {
        Statement::Query(sql) if statement::is_multiple(&sql) => {
            return Err(QueryError { code: 62, text: "Code: 62. DB::Exception: Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)".to_owned() });
        }
        Statement::Query(sql) => session.query(&sql, &format, &request.parameters)?,
        Statement::Insert {
            sql,
            format,
            mut inline,
        } => {
            inline.extend_from_slice(&data);
            session.insert(&sql, &format, &inline)?
        }
    };
    Ok((answer, format))
}

/// The statement's text and, when the text came in the URL, the data in the body.
fn split_text(request: &Request, body: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    if request.query.is_empty() {
        return (body, Vec::new());
    }
    if matches!(
        classify(request.query.as_bytes(), request.format.as_deref()),
        Statement::Insert { .. }
    ) {
        return (request.query.clone().into_bytes(), body);
    }
    let mut text = request.query.clone().into_bytes();
    if !body.is_empty() {
        text.push(b'\n');
        text.extend_from_slice(&body);
    }
    (text, Vec::new())
}

fn success_response(request: &Request, answer: Answer, format: &str) -> Response {
    let summary = format!(
        "{{\"read_rows\":\"{}\",\"read_bytes\":\"{}\",\"written_rows\":\"{}\",\"written_bytes\":\"0\",\"total_rows_to_read\":\"0\",\"result_rows\":\"{}\",\"result_bytes\":\"{}\",\"elapsed_ns\":\"0\"}}",
        answer.rows,
        answer.body.len(),
        answer.rows_written,
        answer.rows,
        answer.body.len()
    );
    let body = if request.compress {
        wire::encode_blocks(&answer.body)
    } else {
        answer.body
    };
    let content_type = match format {
        "JSON" | "JSONCompact" => "application/json; charset=UTF-8",
        "CSV" | "CSVWithNames" => "text/csv; charset=UTF-8",
        _ if format.starts_with("JSON") => "application/x-ndjson; charset=UTF-8",
        _ if format.starts_with("TabSeparated") => "text/tab-separated-values; charset=UTF-8",
        _ => "application/octet-stream",
    };
    let mut response = Response::builder()
        .header(header::CONTENT_TYPE, content_type)
        .header("x-clickhouse-format", format)
        .header("x-clickhouse-timezone", "UTC")
        .header("x-clickhouse-server-display-name", "weir")
        .header("x-clickhouse-summary", summary);
    if let Some(id) = &request.query_id {
        response = response.header("x-clickhouse-query-id", id);
    }
    response
        .body(Body::from(body))
        .unwrap_or_else(|_| StatusCode::BAD_REQUEST.into_response())
}

/// ClickHouse's status for the codes that clients act on; everything else is 500, as there.
fn error_response(error: &QueryError) -> Response {
    let status = match error.code {
        164 | 193..=195 | 516 => StatusCode::FORBIDDEN,
        60 | 81 => StatusCode::NOT_FOUND,
        27 | 33 | 36 | 38 | 41 | 47 | 53 | 62 | 70 | 72 | 73 | 115 | 117 | 354 | 386 | 456
        | 457 => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (
        status,
        [("x-clickhouse-exception-code", error.code.to_string())],
        format!("{}\n", error.text),
    )
        .into_response()
}

fn exception(code: u32, text: &str) -> QueryError {
    QueryError {
        code,
        text: format!("Code: {code}. DB::Exception: {text}"),
    }
}

/// Compares without telling by time where the difference is.
fn same(given: &str, expected: &str) -> bool {
    let difference = given
        .bytes()
        .zip(expected.bytes())
        .fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == expected.len() && difference == 0
}

fn form_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| -> String {
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let plain = match byte {
                b'+' => b' ',
                b'%' => {
                    let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                    std::str::from_utf8(&digits)
                        .ok()
                        .and_then(|hex| u8::from_str_radix(hex, 16).ok())
                        .unwrap_or(b'?')
                }
                other => other,
            };
            out.push(plain);
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            pair.split_once('=').map_or_else(
                || (decode(pair), String::new()),
                |(name, value)| (decode(name), decode(value)),
            )
        })
        .collect()
}

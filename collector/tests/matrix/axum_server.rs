//! An axum server in this process.

use std::{convert::Infallible, future::pending, io, net::TcpListener, thread, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures_util::{Stream, StreamExt as _, stream};

/// Serves on the listeners until the process ends.
pub(crate) fn serve(listeners: Vec<TcpListener>) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for listener in listeners {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::spawn(async { axum::serve(listener, Router::new().fallback(answer)).await });
            }
            pending::<()>().await;
        });
    });
}

async fn answer(request: Request) -> Response {
    let behaviour = request.uri().path().split('/').nth(2).unwrap_or_default();
    let behaviour = behaviour.to_owned();
    let method = request.method().clone();
    if behaviour == "early" {
        return (StatusCode::PAYLOAD_TOO_LARGE, "too much\n").into_response();
    }
    let body = request.into_body();
    if axum::body::to_bytes(body, usize::MAX).await.is_err() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    match behaviour.as_str() {
        "plain" => "ok\n".into_response(),
        "medium" => "m".repeat(20_000).into_response(),
        "missing" => (StatusCode::NOT_FOUND, "no\n").into_response(),
        "fail" => (StatusCode::SERVICE_UNAVAILABLE, "no\n").into_response(),
        "empty" => StatusCode::NO_CONTENT.into_response(),
        "unchanged" => StatusCode::NOT_MODIFIED.into_response(),
        "chunked" | "close" if method == Method::HEAD => ().into_response(),
        "chunked" | "close" => Body::from_stream(parts(3).map(Ok::<_, Infallible>)).into_response(),
        "cut-chunked" => {
            let end = stream::once(async { Err(io::Error::other("broken off on purpose")) });
            Body::from_stream(parts(3).map(Ok).chain(end)).into_response()
        }
        "chunked-big" => many_parts(40),
        "big" => many_parts(1_000),
        "hang" => pending().await,
        _ => panic!("no such behaviour: {behaviour}"),
    }
}

/// Of 64,000 bytes, as fast as the client takes them.
fn many_parts(count: usize) -> Response {
    let part = Bytes::from(vec![b'e'; 64_000]);
    let parts = stream::repeat(Ok::<_, Infallible>(part)).take(count);
    Body::from_stream(parts).into_response()
}

/// A few parts, each after a pause, so that each is sent on its own.
fn parts(count: usize) -> impl Stream<Item = Bytes> {
    stream::iter(0..count).then(async |_| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n")
    })
}

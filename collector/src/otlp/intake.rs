//! A bounded queue between the receivers and the store, with one writer behind it.

use std::{sync::Arc, time::Duration};

use event_store::{SpanRow, Store};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use tokio::{sync::mpsc, task::JoinHandle};

use super::convert;
use crate::{
    clock::UnixNanos,
    ledger::{Ledger, Line},
    limits::{INSERT_ROWS_MAX, SPAN_BATCHES_MAX},
};

const TRIES_MAX: u32 = 30;
const RETRY_AFTER: Duration = Duration::from_secs(1);
const GATHER_FOR: Duration = Duration::from_millis(200);

/// Takes requests from the receivers.
#[derive(Clone, Debug)]
pub struct Intake {
    queue: mpsc::Sender<ExportTraceServiceRequest>,
    ledger: Arc<Ledger>,
}

/// The queue is full; the sender should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Intake {
    /// Queues a request.
    ///
    /// # Errors
    /// When the queue is full; nothing of the request was taken.
    pub fn offer(&self, request: ExportTraceServiceRequest) -> Result<(), Full> {
        let spans = count(&request);
        if let Ok(()) = self.queue.try_send(request) {
            self.ledger.add(Line::SpansReceived, spans);
            Ok(())
        } else {
            self.ledger.add(Line::SpansRefused, spans);
            Err(Full)
        }
    }
}

/// Opens the queue and starts its writer. The writer ends when every [`Intake`] has been dropped.
pub fn intake(
    store: Store,
    forward: Option<String>,
    ledger: Arc<Ledger>,
) -> (Intake, JoinHandle<()>) {
    let (queue, requests) = mpsc::channel(SPAN_BATCHES_MAX);
    let writer = Writer {
        store,
        forward: forward.map(|url| format!("{}/v1/traces", url.trim_end_matches('/'))),
        http: reqwest::Client::new(),
        ledger: Arc::clone(&ledger),
        run_id: format!("{:x}-otlp", UnixNanos::now().0),
        sequence: 0,
    };
    (Intake { queue, ledger }, tokio::spawn(writer.run(requests)))
}

struct Writer {
    store: Store,
    forward: Option<String>,
    http: reqwest::Client,
    ledger: Arc<Ledger>,
    run_id: String,
    sequence: u64,
}

impl Writer {
    async fn run(mut self, mut requests: mpsc::Receiver<ExportTraceServiceRequest>) {
        let mut gathered = Vec::new();
        while requests.recv_many(&mut gathered, SPAN_BATCHES_MAX).await > 0 {
            // Inserts are cheap by the row and dear by the piece: a little patience makes fewer of them.
            tokio::time::sleep(GATHER_FOR).await;
            while let Ok(more) = requests.try_recv() {
                gathered.push(more);
            }
            let mut rows = Vec::new();
            for request in gathered.drain(..) {
                self.pass_on(&request).await;
                rows.extend(convert::rows(request));
            }
            for chunk in rows.chunks(INSERT_ROWS_MAX) {
                self.store(chunk).await;
            }
        }
    }

    async fn store(&mut self, rows: &[SpanRow]) {
        self.sequence += 1;
        let token = format!("{}-{}", self.run_id, self.sequence);
        for attempt in 1..=TRIES_MAX {
            let inserted = async {
                self.store.migrate_once().await?;
                self.store.insert_spans(rows, &token).await
            };
            match inserted.await {
                Ok(()) => return self.ledger.add(Line::SpansStored, rows.len() as u64),
                Err(error) if attempt == 1 => {
                    tracing::warn!("the store does not take spans, trying on: {error}");
                }
                Err(_) => self.ledger.add(Line::InsertsRetried, 1),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        tracing::error!(
            spans = rows.len(),
            "spans dropped: the store was away for too long"
        );
        self.ledger.add(Line::SpansDropped, rows.len() as u64);
    }

    async fn pass_on(&self, request: &ExportTraceServiceRequest) {
        let Some(url) = &self.forward else { return };
        let sent = self
            .http
            .post(url)
            .header("content-type", "application/x-protobuf")
            .timeout(Duration::from_secs(5))
            .body(request.encode_to_vec())
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        match sent {
            Ok(_) => self.ledger.add(Line::SpansForwarded, count(request)),
            Err(error) => {
                tracing::debug!(%error, "spans were not forwarded");
                self.ledger.add(Line::SpansForwardFailed, count(request));
            }
        }
    }
}

fn count(request: &ExportTraceServiceRequest) -> u64 {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len() as u64).sum()
}

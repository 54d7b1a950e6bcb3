//! The capture thread: drains the ring on a timer, feeds the pipeline, passes exchanges on.
//!
//! The ring is polled instead of waited for: the kernel side never wakes us, which is what keeps its cost
//! per request low. When the sinks are slow the bounded queue fills, this thread waits, and the ring is
//! what gives; its losses are counted by the kernel side.

use std::{
    fs::File,
    io::BufWriter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::Stop;
use crate::{
    clock::ClockAnchor,
    connection::SkipHint,
    exchange::{Exchange, ExchangeBatch},
    health::Minute,
    journal::Journal,
    ledger::{Ledger, Line},
    limits::EXCHANGE_BATCH_ROWS,
    pipeline::Pipeline,
    source::{RecordDrain, recording::Recorder},
};

const POLL_BUSY: Duration = Duration::from_millis(2);
const POLL_IDLE: Duration = Duration::from_millis(10);
const RECORDS_PER_DRAIN: usize = 4_096;
const PASS_ON_EVERY: Duration = Duration::from_millis(50);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How far wall time may drift from the records' clock before their relation is renewed.
const STEP_NS: u64 = 1_000_000;
const RENEW_CLOCK_EVERY: Duration = Duration::from_secs(5);

/// What the thread is given.
pub struct CaptureOptions {
    /// The ring.
    pub drain: RecordDrain,
    /// Where records go.
    pub pipeline: Pipeline,
    /// Also written here, raw.
    pub recorder: Option<Recorder<BufWriter<File>>>,
    /// Where exchanges go.
    pub exchanges: mpsc::Sender<ExchangeBatch>,
    /// Where records are made safe before their room in the ring is given back; only for a kept capture.
    pub journal: Option<Journal>,
    /// Index of the last record whose exchanges the output holds, told by the output.
    pub delivered: Arc<AtomicU64>,
    /// Exchanges that an earlier collector did not get to deliver.
    pub left_over: Vec<Exchange>,
    /// Where finished minutes of connection health go; a full queue drops them, counted.
    pub minutes: mpsc::Sender<Minute>,
    /// Where to count.
    pub ledger: Arc<Ledger>,
    /// When to end.
    pub stop: Stop,
}

impl std::fmt::Debug for CaptureOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureOptions").finish_non_exhaustive()
    }
}

/// Starts the thread. It ends after [`Stop::request`], with the ring drained.
///
/// # Errors
/// When no thread can be started.
pub fn spawn_capture(options: CaptureOptions) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || Capture::new(options).run())
}

struct Capture {
    options: CaptureOptions,
    out: Vec<Exchange>,
    hints: Vec<SkipHint>,
    anchor: ClockAnchor,
    /// Index of the last record read.
    position: u64,
    journal_failed: bool,
    passed_on_at: Instant,
    clock_renewed_at: Instant,
    looked_at: Instant,
}

impl Capture {
    fn new(mut options: CaptureOptions) -> Self {
        let now = Instant::now();
        Self {
            out: std::mem::take(&mut options.left_over),
            position: options.journal.as_ref().map_or(0, Journal::index),
            options,
            hints: Vec::new(),
            anchor: ClockAnchor::now(),
            journal_failed: false,
            passed_on_at: now,
            clock_renewed_at: now,
            looked_at: now,
        }
    }

    fn run(mut self) {
        // Under load something more has always come; the end is what had come when it was asked for.
        let mut end = None;
        loop {
            if self.options.stop.is_requested() && end.is_none() {
                let drain = &self.options.drain;
                end = Some(drain.position() + drain.waiting());
            }
            let taken = self.drain();
            self.housekeeping();
            if end.is_some_and(|end| taken == 0 || self.options.drain.position() >= end) {
                break;
            }
            if taken < RECORDS_PER_DRAIN {
                thread::sleep(if taken > 0 { POLL_BUSY } else { POLL_IDLE });
            }
        }
        // What is in flight in a kept capture is taken up by the next collector, from the journal.
        if self.options.journal.is_none() {
            self.options.pipeline.finish(&mut self.out);
        }
        self.pass_on();
        let minutes = self.options.pipeline.take_all_minutes();
        self.pass_minutes(minutes);
        if let Some(Err(error)) = self.options.recorder.as_mut().map(Recorder::flush) {
            tracing::error!(%error, "the recording could not be written to its end");
        }
    }

    /// Reads what is there, makes it safe, gives its room back, and passes hints on.
    fn drain(&mut self) -> usize {
        let CaptureOptions {
            drain,
            pipeline,
            recorder,
            journal,
            ledger,
            delivered,
            ..
        } = &mut self.options;
        let (out, hints) = (&mut self.out, &mut self.hints);
        let taken = drain.read(
            |record| {
                if let Some(Err(error)) = recorder.as_mut().map(|recorder| recorder.append(record))
                {
                    tracing::error!(%error, "recording stopped");
                    *recorder = None;
                }
                if let Some(journal) = journal {
                    journal.add(record);
                }
                hints.extend(pipeline.record(record, out));
            },
            RECORDS_PER_DRAIN,
        );
        if let Some(journal) = journal {
            self.position = journal.index();
            if let Err(error) = journal.commit(
                drain.position(),
                &self.anchor,
                delivered.load(Ordering::Relaxed),
            ) {
                ledger.add(Line::JournalFailures, 1);
                if !self.journal_failed {
                    tracing::error!(%error, "the journal cannot be written: a kill would now lose what is in flight");
                }
                self.journal_failed = true;
            }
        }
        drain.give_back();
        for hint in self.hints.drain(..) {
            drain.hint(hint);
        }
        taken
    }

    fn housekeeping(&mut self) {
        if self.out.len() >= EXCHANGE_BATCH_ROWS || self.passed_on_at.elapsed() >= PASS_ON_EVERY {
            self.pass_on();
            self.passed_on_at = Instant::now();
        }
        if self.clock_renewed_at.elapsed() >= RENEW_CLOCK_EVERY {
            let anchor = ClockAnchor::now();
            // Every change of the relation may turn the order of two exchanges round; less than this is no reason.
            if anchor.differs_from(&self.anchor) > STEP_NS {
                self.anchor = anchor;
                self.options.pipeline.set_anchor(anchor);
            }
            self.clock_renewed_at = Instant::now();
        }
        if self.looked_at.elapsed() >= LOOK_EVERY {
            let minutes = self.options.pipeline.take_minutes();
            self.pass_minutes(minutes);
            self.looked_at = Instant::now();
        }
    }

    fn pass_on(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let batch = ExchangeBatch {
            exchanges: std::mem::take(&mut self.out),
            position: self.position,
        };
        if self.options.exchanges.blocking_send(batch).is_err() {
            tracing::error!("the sink has gone, ending the capture");
            self.options.stop.request();
        }
    }

    fn pass_minutes(&self, minutes: Vec<Minute>) {
        for minute in minutes {
            if self.options.minutes.try_send(minute).is_err() {
                self.options.ledger.add(Line::HealthMinutesDropped, 1);
            }
        }
    }
}

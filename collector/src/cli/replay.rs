//! `collector replay`: the same pipeline over a recording, without privileges.

use std::{fs::File, io::BufReader, sync::Arc};

use anyhow::Context as _;

use super::ReplayArgs;
use crate::{
    config::{FileConfig, Output},
    exchange::{Exchange, ExchangeBatch},
    ledger::{Ledger, Line},
    limits::EXCHANGE_BATCH_ROWS,
    pipeline::Pipeline,
    privacy::PseudonymKey,
    sink::{NdjsonSink, Sink as _},
    source::{listeners::NamedListeners, recording::Recording},
};

pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let config = FileConfig::load(args.config.as_deref())?;
    let file = File::open(&args.recording)
        .with_context(|| format!("while opening {}", args.recording.display()))?;
    let mut recording = Recording::open(BufReader::new(file))
        .with_context(|| format!("in {}", args.recording.display()))?;
    let ledger = Arc::new(Ledger::default());
    let mut sink = NdjsonSink::open(&args.output, Arc::clone(&ledger), None)?;
    let listeners = Box::new(NamedListeners::new(config.names()));
    let key = match &args.pseudonym_key {
        Some(path) => PseudonymKey::load_or_create(path)?,
        None => PseudonymKey::random().context("while making a key for this output")?,
    };
    let mut pipeline = Pipeline::new(
        config.pipeline(key)?,
        listeners,
        Arc::clone(&ledger),
        recording.anchor(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("while starting the runtime")?;
    let mut exchanges = Vec::new();
    while let Some(record) = recording
        .next_record()
        .with_context(|| format!("in {}", args.recording.display()))?
    {
        // Nobody is there to take a hint: what was not copied is not in the recording either.
        pipeline.record(record, &mut exchanges);
        if exchanges.len() >= EXCHANGE_BATCH_ROWS {
            let exchanges = std::mem::take(&mut exchanges);
            if args.output != Output::None {
                runtime.block_on(sink.write(batch_of(exchanges)))?;
            }
        }
    }
    pipeline.finish(&mut exchanges);
    runtime.block_on(sink.write(batch_of(exchanges)))?;
    runtime.block_on(sink.finish())?;
    tracing::info!(
        records = ledger.get(Line::RecordsRead),
        exchanges = ledger.get(Line::Exchanges),
        lost = ledger.lost(),
        "replayed"
    );
    Ok(())
}

const fn batch_of(exchanges: Vec<Exchange>) -> ExchangeBatch {
    ExchangeBatch {
        exchanges,
        position: 0,
    }
}

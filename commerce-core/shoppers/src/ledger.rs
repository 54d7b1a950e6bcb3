//! What really happened, one line per request, from the side of those who did it.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Context as _;
use serde::Serialize;

/// One request of one shopper, with the answer that came.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Deed {
    pub(crate) shopper: u32,
    pub(crate) tenant: String,
    pub(crate) user: String,
    pub(crate) ts: String,
    /// `login`, `cart`, `pay` or `browse`.
    pub(crate) event: &'static str,
    pub(crate) status: u16,
    pub(crate) elapsed_us: u64,
    pub(crate) device: &'static str,
    pub(crate) channel: &'static str,
}

/// The ledger file.
pub(crate) struct Ledger {
    out: BufWriter<File>,
}

impl Ledger {
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("while creating {}", path.display()))?;
        Ok(Self {
            out: BufWriter::new(file),
        })
    }

    pub(crate) fn append(&mut self, deeds: &[Deed]) -> anyhow::Result<()> {
        for deed in deeds {
            serde_json::to_writer(&mut self.out, deed).context("while writing the ledger")?;
            self.out
                .write_all(b"\n")
                .context("while writing the ledger")?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.out.flush().context("while writing the ledger")
    }
}

//! Free loopback ports.

use std::net::TcpListener;

use anyhow::Context as _;

const TRIES: usize = 200;

/// The first of `count` free ports in a row.
pub(crate) fn free_row(count: u16) -> anyhow::Result<u16> {
    for _ in 0..TRIES {
        let probe = TcpListener::bind("127.0.0.1:0").context("while looking for a free port")?;
        let first = probe
            .local_addr()
            .context("while looking for a free port")?
            .port();
        let rest: Option<Vec<TcpListener>> = (1..count)
            .map(|offset| TcpListener::bind(("127.0.0.1", first.checked_add(offset)?)).ok())
            .collect();
        if rest.is_some() {
            return Ok(first);
        }
    }
    anyhow::bail!("no {count} free ports in a row")
}

/// Whether nobody listens on this port.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

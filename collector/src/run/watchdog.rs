//! Says so, loudly, when something is watched and nothing useful is captured.

use std::{sync::Arc, time::Duration};

use super::Stop;
use crate::{
    attribution::directory::Directory,
    ledger::{Ledger, Line},
    pipeline::Listeners as _,
};

const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Warns every ten seconds as long as no exchange was seen, with the most likely reason.
pub async fn watch_for_silence(
    ledger: Arc<Ledger>,
    ports: Vec<u16>,
    directory: Directory,
    stop: Stop,
) {
    while !stop.is_requested() {
        tokio::time::sleep(LOOK_EVERY).await;
        if ledger.get(Line::Exchanges) > 0 {
            return;
        }
        if let Some(reason) = reason_for_silence(&ledger, &ports, &directory) {
            tracing::warn!(?ports, "nothing captured yet: {reason}");
        }
    }
}

/// Why nothing was captured; `None` when something was.
pub fn reason_for_silence(ledger: &Ledger, ports: &[u16], directory: &Directory) -> Option<String> {
    if ledger.get(Line::Exchanges) > 0 {
        return None;
    }
    let foreign = [
        (
            Line::TlsUnread,
            "the traffic is TLS, and no probe reads the process behind it; see the log for the library it uses, or \
             watch the plain port behind it",
        ),
        (Line::ForeignOther, "the traffic is not HTTP"),
    ];
    if let Some((_, reason)) = foreign.iter().find(|(line, _)| ledger.get(*line) > 0) {
        return Some((*reason).to_owned());
    }
    let silent: Vec<String> = ports
        .iter()
        .filter(|port| directory.clone().of_port(**port).pid.is_none())
        .map(ToString::to_string)
        .collect();
    Some(if ledger.get(Line::RecordsRead) > 0 {
        "segments arrive, but no whole exchange among them yet".to_owned()
    } else if silent.is_empty() {
        "no traffic arrives on the watched ports".to_owned()
    } else {
        format!(
            "no process of this host listens on port {}",
            silent.join(", ")
        )
    })
}

//! `tls_records`: both directions of a TLS connection through the reader of handshakes.
//!
//! What must hold: facts and outcome are the same however the turns are cut; what is told is fit for a label (a host is
//! a host, a list is bounded), a handshake takes no longer than the connection lived, and its end is told once.

use collector::{
    clock::MonotonicNs,
    http::Side,
    tcp::Piece,
    tls::handshake::{HandshakeOutcome, TlsConnection, TlsFacts},
};

use super::input::{Cuts, turns};

type Told = (TlsFacts, Option<HandshakeOutcome>, bool);

/// The line of cuts may begin with `~`: the connection ends with a reset.
const RESET: u8 = b'~';

fn follow(turns: &[(Side, &[u8])], cuts: Cuts<'_>, reset: bool) -> Told {
    let mut connection = TlsConnection::new(true);
    let mut outcome = None;
    let mut at = 0;
    for (side, said) in turns {
        at += 1_000;
        for bytes in cuts.pieces(said) {
            let piece = Piece {
                bytes,
                hole: 0,
                lost: false,
                at: MonotonicNs(at),
            };
            connection.feed(*side, piece);
            take(&mut outcome, &mut connection, at);
        }
    }
    connection.end(MonotonicNs(at), reset);
    take(&mut outcome, &mut connection, at);
    (connection.facts().clone(), outcome, connection.is_tls())
}

fn take(outcome: &mut Option<HandshakeOutcome>, connection: &mut TlsConnection, now: u64) {
    let Some(new) = connection.take_outcome() else {
        return;
    };
    let (HandshakeOutcome::Completed { duration_ns, .. }
    | HandshakeOutcome::Failed { duration_ns, .. }) = new;
    assert!(
        duration_ns <= now,
        "a handshake of {duration_ns} ns in a connection of {now} ns"
    );
    assert!(outcome.is_none(), "a second end: {new:?} after {outcome:?}");
    *outcome = Some(new);
}

fn check(facts: &TlsFacts) {
    let is_host = |name: &String| {
        name.len() <= 255
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
    };
    assert!(
        facts.server_name.iter().all(is_host),
        "{:?}",
        facts.server_name
    );
    assert!(facts.alpn_offered.len() <= 16, "{:?}", facts.alpn_offered);
    let protocols = facts.alpn.iter().chain(&facts.alpn_offered);
    for protocol in protocols {
        assert!(
            !protocol.is_empty() && protocol.len() <= 255,
            "{protocol:?}"
        );
    }
}

/// The target.
pub(super) fn run(data: &[u8]) {
    let (cuts, said) = Cuts::split(data);
    let reset = data.first() == Some(&RESET);
    let turns = turns(said);
    let whole = follow(&turns, Cuts::NONE, reset);
    check(&whole.0);
    assert_eq!(
        whole,
        follow(&turns, cuts, reset),
        "TLS changes with the cuts"
    );
}

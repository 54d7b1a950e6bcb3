//! Bytes in, exchanges and events out: the collector watches HTTP services and streams what it saw.
//!
//! Owns: loading and attaching the kernel programs, draining their ring, reassembly, HTTP decoding,
//! pairing, identity, redaction, the spool and the export. Refuses: business answers; those are the
//! funnel engine's. The way of a byte: [`source`] -> [`tcp`] -> [`http`] -> [`connection`] ->
//! [`pipeline`] -> [`sink`], with everything lost on the way written into [`ledger`].

pub mod attribution;
pub mod balance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
mod conversation;
pub mod exchange;
pub mod facts;
pub mod health;
pub mod http;
pub mod http2;
pub mod journal;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod otlp;
pub mod pairing;
pub mod pipeline;
pub mod privacy;
pub mod privileges;
pub mod routes;
pub mod rules;
pub mod run;
pub mod service_times;
pub mod sink;
pub mod source;
pub mod tcp;
pub mod tls;
pub mod trace_context;

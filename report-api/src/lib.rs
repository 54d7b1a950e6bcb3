//! Answers over HTTP: funnels and reports as data, the console as pages, and the way from a drop-off to its traces.
//!
//! Owns: who may see what, the API, the pages, joining spans into one tree. Refuses: analytics; every number comes
//! from the funnel engine, and every read of the store carries the caller's scope.

mod access;
mod answers;
mod api;
mod console;
mod extract;
mod index;
mod live;
mod metrics;
mod problem;
mod server;
mod trace;

pub use access::{Access, AccessError, NewToken};
pub use answers::{Funnel, FunnelFileError, load_funnels};
pub use index::Index;
pub use live::{
    Live, LiveSettings, LiveSetupError, LiveWindow, Webhook, WebhookFileError, load_webhooks,
};
pub use server::{Settings, serve};
pub use trace::{Node, Source, Tree};

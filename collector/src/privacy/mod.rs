//! What never leaves the collector, what leaves under another name, and what must be named to be kept.

pub mod allow;
pub mod pseudonym;
pub mod scrub;

pub use allow::{CookieAllow, List, QueryAllow};
pub use pseudonym::{KeyError, PseudonymKey, Pseudonyms};
pub use scrub::scrub;

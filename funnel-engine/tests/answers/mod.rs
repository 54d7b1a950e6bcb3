//! Answers as they are compared.

use funnel_engine::FunnelResult;
use serde_json::Value;

/// Everything but who answered and how long it took.
pub(crate) fn answer(result: &FunnelResult) -> Value {
    let mut json = serde_json::to_value(result).unwrap();
    for key in ["backend", "elapsed_ms", "events_scanned"] {
        json.as_object_mut().unwrap().remove(key);
    }
    json
}

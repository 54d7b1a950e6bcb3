//! The assets of the console, as bytes, and where the Grafana and Prometheus files lie.
//!
//! Owns: what people look at that is no answer: style, script, icon, dashboards, rules. Refuses: logic.

/// A file that the console serves under `/assets/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// File name.
    pub name: &'static str,
    /// For HTTP.
    pub media_type: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

/// All assets.
pub const ASSETS: &[Asset] = &[
    Asset {
        name: "console.css",
        media_type: "text/css; charset=utf-8",
        bytes: include_bytes!("../assets/console.css"),
    },
    Asset {
        name: "console.js",
        media_type: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/console.js"),
    },
    Asset {
        name: "favicon.svg",
        media_type: "image/svg+xml",
        bytes: include_bytes!("../assets/favicon.svg"),
    },
];

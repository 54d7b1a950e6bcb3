//! One HTML file: no scripts, nothing fetched, prints well.

use std::fmt::Write as _;

use crate::{Report, ReportError, Row, chart};
use funnel_engine::percent;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c272e; --quiet: #5b6b75; --line: #d9e2e7; --paper: #fff; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 820px; margin: 48px auto; padding: 0 20px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0; } .period { color: var(--quiet); margin: 4px 0 24px; }
.finding { font-size: 19px; border-left: 4px solid #1f6f8b; padding: 6px 14px; margin: 24px 0; }
svg { width: 100%; height: auto; background: #fff; } table { border-collapse: collapse; width: 100%; margin-top: 28px; }
th, td { padding: 9px 10px; border-bottom: 1px solid var(--line); text-align: right; font-variant-numeric: tabular-nums; }
th { color: var(--quiet); font-weight: 600; } th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
footer { color: var(--quiet); font-size: 14px; margin-top: 28px; }
@media print { body { margin: 0; max-width: none; } }
";

/// The report as one self-contained HTML document.
///
/// # Errors
/// When the chart cannot be drawn.
pub fn to_html(report: &Report) -> Result<String, ReportError> {
    let title = escape(&report.title);
    let rows: String = report
        .rows
        .iter()
        .map(table_row)
        .collect::<Vec<_>>()
        .concat();
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><p class=\"period\">{}</p>\
         <p class=\"finding\">{}</p>{}<table><thead><tr><th>Step</th><th>Name</th><th>Buyers</th><th>Of previous</th>\
         <th>Of start</th><th>Drop-off</th><th>Median time</th></tr></thead><tbody>{rows}</tbody></table>",
        escape(&report.period),
        escape(&report.finding()),
        chart::to_svg(report)?,
    );
    let median = report
        .median_to_convert_s
        .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3} s"));
    // Writing into a string cannot fail.
    write!(
        html,
        "<footer>Median time from first to last step: {median}. {} events. Rates are computed from counts and rounded only when shown.</footer></body></html>",
        report.events_scanned
    )
    .unwrap_or_default();
    Ok(html)
}

fn table_row(row: &Row) -> String {
    let median = row
        .median_s
        .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3} s"));
    format!(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{median}</td></tr>",
        row.step,
        escape(&row.name),
        row.count,
        percent(row.from_previous),
        percent(row.from_start),
        row.drop_off
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

//! One HTML file: no scripts, nothing fetched, prints well. Every figure carries its full value in `<data>`.

use crate::{Report, ReportError, Row, chart, document::FIGURES};

const STYLE: &str = "
:root { --ink: #1c272e; --quiet: #5b6b75; --line: #d9e2e7; --accent: #1f6f8b; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff; max-width: 900px; margin: 48px auto; padding: 0 20px; }
h1 { font-size: 32px; line-height: 1.2; margin: 0; letter-spacing: -.01em; } h2 { font-size: 19px; margin: 40px 0 12px; }
.period { color: var(--quiet); margin: 4px 0 24px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tiles div { border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tiles span { display: block; color: var(--quiet); font-size: 13px; } .tiles b { font-size: 24px; font-variant-numeric: tabular-nums; }
.finding { font-size: 19px; border-left: 4px solid var(--accent); padding: 6px 14px; margin: 24px 0; }
svg { width: 100%; height: auto; } table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 9px 8px; border-bottom: 1px solid var(--line); text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { color: var(--quiet); font-weight: 600; } th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
footer { color: var(--quiet); font-size: 14px; margin-top: 28px; }
@media print { body { margin: 0; max-width: none; } } @media (max-width: 700px) { table { display: block; overflow-x: auto; } }
";

/// The report as one self-contained HTML document.
pub(crate) fn to_html(report: &Report) -> Result<String, ReportError> {
    let title = escape(&report.title);
    let tiles = report
        .tiles()
        .map(|(label, value)| format!("<div><span>{label}</span><b>{}</b></div>", escape(&value)));
    let heads = FIGURES.map(|(_, label)| format!("<th scope=\"col\">{label}</th>"));
    let rows: Vec<String> = report.rows.iter().map(table_row).collect();
    let conversion_times = if report.histogram.is_empty() {
        String::new()
    } else {
        format!(
            "<h2>Time to convert</h2><p>From the first to the last step: half of the buyers within {}, nine of ten within {}.</p>{}",
            crate::Figure::Seconds(report.median_to_convert_s).shown(),
            crate::Figure::Seconds(report.p90_to_convert_s).shown(),
            chart::times_svg(report)?
        )
    };
    Ok(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><p class=\"period\">{period}</p>\
         <div class=\"tiles\">{tiles}</div><p class=\"finding\">{finding}</p><h2>Where buyers stop</h2>{funnel}\
         <h2>The steps in figures</h2><table><thead><tr><th></th><th scope=\"col\">Step</th>{heads}</tr></thead>\
         <tbody>{rows}</tbody></table>{conversion_times}<footer>Median time and 90% within: since the previous step. Answered in, 95% within: \
         how long the shop took to answer the requests of the step, mean and 95th percentile. Failed: attempts that the shop \
         refused. Rates are computed from counts and rounded only when shown; {events} events were looked at.</footer></body></html>",
        period = escape(&report.period),
        tiles = tiles.concat(),
        finding = escape(&report.finding()),
        funnel = chart::funnel_svg(report)?,
        heads = heads.concat(),
        rows = rows.concat(),
        events = crate::grouped(report.events_scanned),
    ))
}

fn table_row(row: &Row) -> String {
    let cell = |figure: crate::Figure| {
        let (value, shown) = (figure.in_full(), figure.shown());
        format!("<td><data value=\"{value}\">{shown}</data></td>")
    };
    format!(
        "<tr><td>{}</td><th scope=\"row\">{}</th>{}</tr>",
        row.step,
        escape(&row.name),
        row.figures().map(cell).concat()
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

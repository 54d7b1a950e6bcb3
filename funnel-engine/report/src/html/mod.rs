//! One HTML file: no scripts, nothing fetched, prints well. Every figure carries its full value in `<data>`.

mod parts;

use crate::{Figure, Report, ReportError, Row, chart, figure::FIGURES};

const STYLE: &str = include_str!("style.css");

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
            Figure::Seconds(report.median_to_convert_s).shown(),
            Figure::Seconds(report.p90_to_convert_s).shown(),
            chart::times_svg(report)?
        )
    };
    Ok(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><p class=\"period\">{period}</p>\
         <div class=\"tiles\">{tiles}</div><p class=\"finding\">{finding}</p><h2>Where buyers stop</h2>{funnel}\
         <h2>The steps in figures</h2><table class=\"steps\"><thead><tr><th></th><th scope=\"col\">Step</th>{heads}</tr></thead>\
         <tbody>{rows}</tbody></table>{breakdown}{trend}{conversion_times}<footer>Median time and 90% within: since the \
         previous step. Answered in, 95% within: \
         how long the shop took to answer the requests of the step, mean and 95th percentile. Failed: attempts that the shop \
         refused. Rates are computed from counts and rounded only when shown; {events} events were looked at.</footer></body></html>",
        period = escape(&report.period),
        tiles = tiles.concat(),
        finding = escape(&report.finding()),
        funnel = chart::funnel_svg(report)?,
        heads = heads.concat(),
        rows = rows.concat(),
        breakdown = parts::breakdown(report),
        trend = parts::trend(report)?,
        events = crate::grouped(report.events_scanned),
    ))
}

fn table_row(row: &Row) -> String {
    format!(
        "<tr><td>{}</td><th scope=\"row\">{}</th>{}</tr>",
        row.step,
        escape(&row.name),
        cells(&row.figures())
    )
}

fn cells(figures: &[Figure]) -> String {
    let cell = |figure: &Figure| {
        let (value, shown) = (figure.in_full(), figure.shown());
        format!("<td><data value=\"{value}\">{shown}</data></td>")
    };
    figures.iter().map(cell).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

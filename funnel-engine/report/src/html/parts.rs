//! The breakdown and the trend as HTML. Both can be long: their tables scroll on screens and print whole.

use super::{cells, escape};
use crate::{
    Report, ReportError, chart,
    parts::{TREND_COLUMNS, ValueTable, bucket_shown, trend_figures},
};

/// A table per so many steps, with a row per value; nothing without a breakdown.
pub(super) fn breakdown(report: &Report) -> String {
    if report.breakdown.is_empty() {
        return String::new();
    }
    let table = |table: &ValueTable| {
        let rows = report.breakdown.iter().map(|row| {
            format!(
                "<tr><th scope=\"row\">{}</th>{}</tr>",
                escape(&row.shown()),
                cells(&table.figures(row))
            )
        });
        let heads = table.columns(report);
        scrolling("Value", &heads, &rows.collect::<String>())
    };
    format!(
        "<h2>By value</h2><p>{}</p>{}",
        report.breakdown_note(),
        report.value_tables().iter().map(table).collect::<String>()
    )
}

/// The chart, and a table with a row per bucket; nothing without a trend.
pub(super) fn trend(report: &Report) -> Result<String, ReportError> {
    if report.trend.is_empty() {
        return Ok(String::new());
    }
    let rows = report.trend.iter().map(|point| {
        format!(
            "<tr><th scope=\"row\"><time datetime=\"{}\">{}</time></th>{}</tr>",
            escape(&point.bucket),
            escape(&bucket_shown(&point.bucket)),
            cells(&trend_figures(point))
        )
    });
    Ok(format!(
        "<h2>Over time</h2><p>{}</p>{}{}",
        report.trend_note(),
        chart::trend_svg(report)?,
        scrolling("Bucket", &TREND_COLUMNS, &rows.collect::<String>())
    ))
}

fn scrolling(first: &str, heads: &[impl AsRef<str>], rows: &str) -> String {
    let heads = heads
        .iter()
        .map(|head| format!("<th scope=\"col\">{}</th>", escape(head.as_ref())));
    format!(
        "<div class=\"long\" tabindex=\"0\"><table><thead><tr><th scope=\"col\">{first}</th>{}</tr></thead><tbody>{rows}</tbody></table></div>",
        heads.collect::<String>()
    )
}

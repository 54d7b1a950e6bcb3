//! A result for a terminal: bars first, because people look before they read.

use std::fmt::Write as _;

use funnel_engine::{FunnelResult, StepResult, percent};

/// Characters of a full bar.
const BAR: usize = 24;
/// Rows of the breakdown and of the trend that are shown; the JSON has all.
const ROWS_MAX: usize = 40;

/// The whole answer.
pub(crate) fn table(result: &FunnelResult) -> String {
    let mut out = String::new();
    steps(&mut out, &result.steps);
    if let Some(time) = &result.time_to_convert_s {
        line(
            &mut out,
            format_args!(
                "\nFirst to last step: mean {}, median {}, 9 of 10 within {}",
                duration(time.mean),
                duration(time.median),
                duration(time.p90)
            ),
        );
    }
    breakdown(&mut out, result);
    trend(&mut out, result);
    line(
        &mut out,
        format_args!(
            "\n{} events, {} backend, {} ms",
            grouped(result.events_scanned),
            result.backend,
            result.elapsed_ms
        ),
    );
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    writeln!(out, "{text}").unwrap_or_default();
}

fn steps(out: &mut String, steps: &[StepResult]) {
    let most = steps.iter().map(|step| step.count).max().unwrap_or(0);
    let shows_service = steps
        .iter()
        .any(|step| step.latency_ms.is_some() || step.errors > 0);
    let names = steps.iter().map(|step| step.name.chars().count() + 2).max();
    let width = names.unwrap_or(0).clamp(6, 40);
    let service = if shows_service {
        "    p95 ms   failed"
    } else {
        ""
    };
    line(
        out,
        format_args!(
            "{:>2}  {:<width$} {:<BAR$} {:>12} {:>8} {:>8} {:>11} {:>9}{service}",
            "", "step", "", "count", "of prev", "of all", "drop-off", "median"
        ),
    );
    for step in steps {
        let name: String = step.name.chars().take(width - 2).collect();
        let name = if step.optional {
            format!("({name})")
        } else {
            name
        };
        let median = step
            .time_from_previous_s
            .map_or_else(|| "-".to_owned(), |time| duration(time.median));
        let service = if shows_service {
            let p95 = step
                .latency_ms
                .map_or_else(|| "-".to_owned(), |latency| format!("{:.1}", latency.p95));
            format!(" {p95:>9} {:>8}", grouped(step.errors))
        } else {
            String::new()
        };
        line(
            out,
            format_args!(
                "{:>2}  {name:<width$} {} {:>12} {:>8} {:>8} {:>11} {median:>9}{service}",
                step.step,
                bar(step.count, most),
                grouped(step.count),
                percent(step.conversion_from_previous),
                percent(step.conversion_from_start),
                grouped(step.drop_off),
            ),
        );
    }
}

fn breakdown(out: &mut String, result: &FunnelResult) {
    if result.breakdown.is_empty() {
        return;
    }
    line(
        out,
        format_args!("\n{:<30} {:<BAR$} counts per step", "breakdown", ""),
    );
    let first = |steps: &[StepResult]| steps.first().map_or(0, |step| step.count);
    let most = result
        .breakdown
        .iter()
        .map(|row| first(&row.steps))
        .max()
        .unwrap_or(0);
    for row in result.breakdown.iter().take(ROWS_MAX) {
        let value = if row.value.is_empty() {
            "(none)"
        } else {
            &row.value
        };
        let value: String = value.chars().take(30).collect();
        let counts: Vec<String> = row.steps.iter().map(|step| grouped(step.count)).collect();
        let last = row.steps.last().and_then(|step| step.conversion_from_start);
        line(
            out,
            format_args!(
                "{value:<30} {} {}  ({})",
                bar(first(&row.steps), most),
                counts.join(" > "),
                percent(last)
            ),
        );
    }
    let hidden = result.breakdown.len().saturating_sub(ROWS_MAX) as u64 + result.breakdown_omitted;
    if hidden > 0 {
        line(out, format_args!("and {} more values", grouped(hidden)));
    }
}

fn trend(out: &mut String, result: &FunnelResult) {
    if result.trend.is_empty() {
        return;
    }
    line(
        out,
        format_args!(
            "\n{:<26} {:<BAR$} {:>12} {:>12}",
            "trend", "", "entered", "converted"
        ),
    );
    let most = result
        .trend
        .iter()
        .map(|point| point.entered)
        .max()
        .unwrap_or(0);
    let skipped = result.trend.len().saturating_sub(ROWS_MAX);
    if skipped > 0 {
        line(out, format_args!("({skipped} earlier buckets)"));
    }
    for point in result.trend.iter().skip(skipped) {
        line(
            out,
            format_args!(
                "{:<26} {} {:>12} {:>12}",
                point.bucket,
                bar(point.entered, most),
                grouped(point.entered),
                grouped(point.converted)
            ),
        );
    }
}

/// A bar with eighths of a character at its end; anything above nothing shows.
fn bar(count: u64, most: u64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = u128::from(count) * (BAR as u128 * 8);
    let share = share.checked_div(u128::from(most)).unwrap_or(0);
    let eighths = usize::try_from(share)
        .unwrap_or(0)
        .max(usize::from(count > 0));
    let mut text = "█".repeat(eighths / 8);
    text.push_str(EIGHTHS.get(eighths % 8).copied().unwrap_or_default());
    let width = text.chars().count();
    text.push_str(&" ".repeat(BAR.saturating_sub(width)));
    text
}

/// Digits in groups of three.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share_and_never_vanish() {
        assert_eq!(bar(10, 10), "█".repeat(BAR));
        assert_eq!(bar(5, 10).trim_end(), "█".repeat(BAR / 2));
        assert_eq!(bar(1, 1_000_000).trim_end(), "▏");
        assert_eq!(bar(0, 10).trim_end(), "");
        assert_eq!(bar(0, 0).chars().count(), BAR);
    }

    #[test]
    fn figures_read_easily() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!(duration(600.0), "10.0 min");
    }
}

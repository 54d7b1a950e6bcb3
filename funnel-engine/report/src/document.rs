//! What a report says, before it looks like anything.

use funnel_engine::{Bin, FunnelResult, StepResult, TrendPoint, percent};

use crate::{
    figure::{Figure, grouped},
    parts::ValueRow,
};

/// A report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Headline.
    pub title: String,
    /// The period, as text.
    pub period: String,
    /// One row per step.
    pub rows: Vec<Row>,
    /// Median seconds from first to last step.
    pub median_to_convert_s: Option<f64>,
    /// Ninth decile of the same.
    pub p90_to_convert_s: Option<f64>,
    /// How long conversions took.
    pub histogram: Vec<Bin>,
    /// The steps per value of the breakdown; empty without one.
    pub breakdown: Vec<ValueRow>,
    /// Values beyond the breakdown's limit.
    pub breakdown_omitted: u64,
    /// Who entered and who went on, over time; empty without a trend.
    pub trend: Vec<TrendPoint>,
    /// Events looked at.
    pub events_scanned: u64,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Counted from 1.
    pub step: usize,
    /// Its name.
    pub name: String,
    /// Whether it may be skipped; rates and losses of the others go past it.
    pub optional: bool,
    /// Who reached it.
    pub count: u64,
    /// Fraction of the previous step.
    pub from_previous: Option<f64>,
    /// Fraction of the first step.
    pub from_start: Option<f64>,
    /// Who went no further.
    pub drop_off: u64,
    /// Median seconds since the previous step.
    pub median_s: Option<f64>,
    /// Ninth decile of the same.
    pub p90_s: Option<f64>,
    /// How long the shop took to answer, mean milliseconds.
    pub latency_mean_ms: Option<f64>,
    /// 95th percentile of the same.
    pub latency_p95_ms: Option<f64>,
    /// Failed attempts.
    pub errors: u64,
}

impl Row {
    fn new(step: &StepResult) -> Self {
        Self {
            step: step.step,
            name: step.name.clone(),
            optional: step.optional,
            count: step.count,
            from_previous: step.conversion_from_previous,
            from_start: step.conversion_from_start,
            drop_off: step.drop_off,
            median_s: step.time_from_previous_s.map(|timing| timing.median),
            p90_s: step.time_from_previous_s.map(|timing| timing.p90),
            latency_mean_ms: step.latency_ms.map(|latency| latency.mean),
            latency_p95_ms: step.latency_ms.map(|latency| latency.p95),
            errors: step.errors,
        }
    }

    pub(crate) fn all(steps: &[StepResult]) -> Vec<Self> {
        steps.iter().map(Self::new).collect()
    }

    /// In the order of the figures' names.
    pub fn figures(&self) -> [Figure; 9] {
        [
            Figure::Count(self.count),
            Figure::Fraction(self.from_previous),
            Figure::Fraction(self.from_start),
            Figure::Count(self.drop_off),
            Figure::Seconds(self.median_s),
            Figure::Seconds(self.p90_s),
            Figure::Milliseconds(self.latency_mean_ms),
            Figure::Milliseconds(self.latency_p95_ms),
            Figure::Count(self.errors),
        ]
    }
}

/// The step at which somebody has converted: the last that may not be skipped.
pub(crate) fn last_required(rows: &[Row]) -> Option<&Row> {
    rows.iter().rfind(|row| !row.optional)
}

impl Report {
    /// From a result.
    pub fn new(title: &str, period: &str, result: &FunnelResult) -> Self {
        let whole = result.time_to_convert_s.as_ref();
        Self {
            title: title.to_owned(),
            period: period.to_owned(),
            rows: Row::all(&result.steps),
            median_to_convert_s: whole.map(|whole| whole.median),
            p90_to_convert_s: whole.map(|whole| whole.p90),
            histogram: whole.map_or_else(Vec::new, |whole| whole.histogram.clone()),
            breakdown: result.breakdown.iter().map(ValueRow::new).collect(),
            breakdown_omitted: result.breakdown_omitted,
            trend: result.trend.clone(),
            events_scanned: result.events_scanned,
        }
    }

    /// The two steps between which most buyers are lost; none when nobody is.
    pub fn worst(&self) -> Option<(&Row, &Row)> {
        let required = || self.rows.iter().filter(|row| !row.optional);
        required()
            .zip(required().skip(1))
            .max_by_key(|(from, _)| from.drop_off)
            .filter(|(from, _)| from.drop_off > 0)
    }

    /// The finding in words: between which steps most buyers are lost.
    pub fn finding(&self) -> String {
        match self.worst() {
            Some((from, to)) => format!(
                "Most buyers are lost between {} and {}: {} of {}; {} go on.",
                from.name,
                to.name,
                grouped(from.drop_off),
                grouped(from.count),
                percent(to.from_previous)
            ),
            _ if self.rows.first().is_none_or(|row| row.count == 0) => {
                "No buyer has come yet.".to_owned()
            }
            _ => "No buyer is lost on the way.".to_owned(),
        }
    }

    /// Headline tiles: what, and how much.
    pub fn tiles(&self) -> [(&'static str, String); 4] {
        let (first, last) = (self.rows.first(), last_required(&self.rows));
        let failed = self.rows.iter().map(|row| row.errors).sum();
        let seconds = Figure::Seconds(self.median_to_convert_s);
        [
            ("Buyers who came", grouped(first.map_or(0, |row| row.count))),
            (
                "Buyers who converted",
                grouped(last.map_or(0, |row| row.count)),
            ),
            ("Conversion", percent(last.and_then(|row| row.from_start))),
            if self.median_to_convert_s.is_some() {
                ("Median time to convert", seconds.shown())
            } else {
                ("Failed attempts", grouped(failed))
            },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(steps: &[(&str, bool, u64, u64)]) -> Report {
        let steps = (1..).zip(steps);
        let steps = steps.map(|(step, (name, optional, count, drop_off))| {
            serde_json::json!({"step": step, "name": name, "optional": optional, "count": count, "drop_off": drop_off,
                "conversion_from_previous": 0.5, "conversion_from_start": 0.25, "time_from_previous_s": null})
        });
        let result = serde_json::json!({"steps": steps.collect::<Vec<_>>(), "time_to_convert_s": null,
            "events_scanned": 1, "backend": "reference", "elapsed_ms": 1});
        Report::new("x", "", &serde_json::from_value(result).unwrap())
    }

    #[test]
    fn losses_and_conversion_go_past_steps_that_may_be_skipped() {
        let report = report(&[
            ("Cart", false, 8, 4),
            ("Coupon", true, 1, 0),
            ("Pay", false, 4, 0),
            ("Praise", true, 2, 0),
        ]);
        assert!(report.finding().contains("between Cart and Pay: 4 of 8"));
        let tiles = report.tiles();
        assert_eq!(tiles[1], ("Buyers who converted", "4".to_owned()));
    }
}

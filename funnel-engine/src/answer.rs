//! The result of a funnel: the JSON contract, built from sums so that every backend agrees.

use serde::{Deserialize, Serialize};

use crate::{
    definition::{DefinitionError, FunnelDefinition},
    figures::{Bin, Latency, Timing, histogram, timing},
    service::StepService,
    tally::{Steps, Sums, Tally},
};

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Counted from 1.
    pub step: usize,
    /// From the definition.
    pub name: String,
    /// Who reached it; of a step that may be skipped, who took it.
    pub count: u64,
    /// Fraction of the count of the previous step that may not be skipped; null when that is zero.
    pub conversion_from_previous: Option<f64>,
    /// Fraction of the first step's count; null when that is zero.
    pub conversion_from_start: Option<f64>,
    /// Who reached it and not the next step that may not be skipped; zero for a step that may be skipped.
    pub drop_off: u64,
    /// Seconds since the previous step that may not be skipped; null for the first, for one that may be skipped, and
    /// when nobody came.
    pub time_from_previous_s: Option<Timing>,
    /// How long the shop took to answer the requests that match this step, whoever made them; null when no
    /// event of the step carries a duration.
    #[serde(default)]
    pub latency_ms: Option<Latency>,
    /// Failed attempts at this step: events named `<event>.failed`, whoever made them.
    #[serde(default)]
    pub errors: u64,
    /// Whether it may be skipped.
    #[serde(default)]
    pub optional: bool,
}

/// Seconds from the first to the last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeToConvert {
    /// Arithmetic mean.
    #[serde(default)]
    pub mean: f64,
    /// Interpolated median.
    pub median: f64,
    /// Interpolated ninth decile.
    pub p90: f64,
    /// Bins of the series 1, 1.5, 2, 3, 5, 7 from the fastest to the slowest conversion; empty ones between are listed.
    #[serde(default)]
    pub histogram: Vec<Bin>,
}

/// The funnel of one value of the breakdown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakdownRow {
    /// The value; several properties joined by `|`; empty for none.
    pub value: String,
    /// In order.
    pub steps: Vec<StepResult>,
}

/// One bucket of the trend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrendPoint {
    /// Where it begins: RFC 3339 with the offset of the trend's zone.
    pub bucket: String,
    /// Who reached the trend's first step in it.
    pub entered: u64,
    /// Who of them went on to the trend's last step.
    pub converted: u64,
}

impl TrendPoint {
    /// The fraction that went on; none when nobody entered.
    pub fn rate(&self) -> Option<f64> {
        ratio(self.converted, self.entered)
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunnelResult {
    /// In order.
    pub steps: Vec<StepResult>,
    /// By count of the first step, largest first; empty without a breakdown.
    #[serde(default)]
    pub breakdown: Vec<BreakdownRow>,
    /// Values of the breakdown beyond its limit.
    #[serde(default)]
    pub breakdown_omitted: u64,
    /// In order, without gaps; empty without a trend.
    #[serde(default)]
    pub trend: Vec<TrendPoint>,
    /// Null when nobody converted.
    pub time_to_convert_s: Option<TimeToConvert>,
    /// Events looked at.
    pub events_scanned: u64,
    /// `columnar`, `clickhouse` or `reference`.
    pub backend: String,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl FunnelResult {
    /// The answer from what was added up.
    ///
    /// # Errors
    /// When the trend has too many buckets.
    pub(crate) fn of(
        definition: &FunnelDefinition,
        sums: Sums,
        backend: &str,
    ) -> Result<Self, DefinitionError> {
        let Sums {
            steps,
            mut whole,
            breakdown,
            trend,
            scanned,
        } = sums;
        let time_to_convert_s = timing(&mut whole.whole_ns).map(|timing| TimeToConvert {
            mean: timing.mean,
            median: timing.median,
            p90: timing.p90,
            histogram: histogram(&whole.whole_ns),
        });
        let mut rows: Vec<(String, Tally)> = breakdown.into_iter().collect();
        let first = |tally: &Tally| tally.counts.first().copied().unwrap_or(0);
        // Stable, so that values of equal count stay in the order of their text.
        rows.sort_by_key(|(_, tally)| std::cmp::Reverse(first(tally)));
        let limit = definition
            .breakdown
            .as_ref()
            .map_or(0, |breakdown| breakdown.limit);
        let omitted = rows.len().saturating_sub(limit);
        rows.truncate(limit);
        let row = |(value, tally): (String, Tally)| BreakdownRow {
            value,
            steps: step_results(definition, &steps, tally),
        };
        let points = trend.map(|trend| trend.points(definition.time_range.as_ref()));
        let point = |(bucket, entered, converted)| TrendPoint {
            bucket,
            entered,
            converted,
        };
        Ok(Self {
            breakdown: rows.into_iter().map(row).collect(),
            breakdown_omitted: omitted as u64,
            trend: points
                .transpose()?
                .unwrap_or_default()
                .into_iter()
                .map(point)
                .collect(),
            steps: step_results(definition, &steps, whole),
            time_to_convert_s,
            events_scanned: scanned,
            backend: backend.to_owned(),
            elapsed_ms: 0,
        })
    }

    /// Adds how the shop served each step.
    pub(crate) fn set_service(&mut self, service: &[StepService]) {
        for (step, service) in self.steps.iter_mut().zip(service) {
            step.latency_ms = service.latency_ms;
            step.errors = service.errors;
        }
    }

    /// With the time it took.
    #[must_use]
    pub fn with_elapsed_ms(mut self, elapsed_ms: u64) -> Self {
        self.elapsed_ms = elapsed_ms;
        self
    }
}

fn step_results(definition: &FunnelDefinition, steps: &Steps, tally: Tally) -> Vec<StepResult> {
    let mut results = named(definition);
    for (result, mut gaps) in results.iter_mut().zip(tally.gaps_ns) {
        result.time_from_previous_s = timing(&mut gaps);
    }
    set_counts(&mut results, steps, &tally.counts);
    results
}

/// Steps with their names and nothing else.
pub(crate) fn named(definition: &FunnelDefinition) -> Vec<StepResult> {
    let step = |(index, step): (usize, &crate::definition::Step)| StepResult {
        step: index + 1,
        name: step.name.clone(),
        count: 0,
        conversion_from_previous: None,
        conversion_from_start: None,
        drop_off: 0,
        time_from_previous_s: None,
        latency_ms: None,
        errors: 0,
        optional: step.optional,
    };
    definition.steps.iter().enumerate().map(step).collect()
}

/// Sets the counts, with all that follows from them.
pub(crate) fn set_counts(results: &mut [StepResult], steps: &Steps, counts: &[u64]) {
    let first = counts.first().copied().unwrap_or(0);
    let mut next_required = None;
    for (index, step) in results.iter_mut().enumerate().rev() {
        let count = counts.get(index).copied().unwrap_or(0);
        let previous = steps.previous.get(index).copied().flatten();
        let before = previous.and_then(|before| counts.get(before)).copied();
        step.count = count;
        step.conversion_from_previous = ratio(count, before.unwrap_or(count));
        step.conversion_from_start = ratio(count, first);
        if step.optional {
            step.drop_off = 0;
        } else {
            step.drop_off = count - next_required.unwrap_or(count);
            next_required = Some(count);
        }
    }
}

/// A fraction as people read it: one decimal, `-` when there is none.
pub fn percent(fraction: Option<f64>) -> String {
    fraction.map_or_else(
        || "-".to_owned(),
        |fraction| format!("{:.1}%", fraction * 100.0),
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Attempt, Verdict};

    fn answer(json: &str, attempts: impl Iterator<Item = Vec<Option<i64>>>) -> FunnelResult {
        let definition = FunnelDefinition::parse(json).unwrap();
        let mut sums = Sums::of(&definition);
        for times_ns in attempts {
            let level = times_ns
                .iter()
                .rposition(Option::is_some)
                .map_or(0, |last| last + 1);
            sums.add(&Verdict {
                counted: vec![Attempt { level, times_ns }],
                attempts: Vec::new(),
            });
        }
        FunnelResult::of(&definition, sums, "reference").unwrap()
    }

    #[test]
    fn the_missions_sample_reads_as_it_is_told() {
        let result = answer(
            r#"{"name":"x","window":"1d","steps":[{"name":"login","event":"l"},{"name":"cart","event":"c"},{"name":"pay","event":"p"}]}"#,
            (0..12_480).map(|user| match user {
                0..5_640 => vec![Some(0), Some(1), Some(2)],
                5_640..9_120 => vec![Some(0), Some(1), None],
                _ => vec![Some(0), None, None],
            }),
        );
        let shown = result
            .steps
            .iter()
            .map(|step| percent(step.conversion_from_previous));
        assert_eq!(shown.collect::<Vec<_>>(), ["100.0%", "73.1%", "61.8%"]);
        let drop_off = result.steps.iter().map(|step| step.drop_off);
        assert_eq!(drop_off.collect::<Vec<_>>(), [3_360, 3_480, 0]);
    }

    #[test]
    fn a_step_that_may_be_skipped_takes_no_part_in_timings_and_drop_off() {
        let result = answer(
            r#"{"name":"x","window":"1d","steps":[{"name":"a","event":"a"},{"name":"b","event":"b","optional":true},{"name":"c","event":"c"}]}"#,
            [
                vec![Some(0), Some(1_000_000_000), Some(3_000_000_000)],
                vec![Some(0), None, Some(5_000_000_000)],
                vec![Some(0), None, None],
                vec![Some(0), Some(1_000_000_000), None],
            ]
            .into_iter(),
        );
        let counts: Vec<u64> = result.steps.iter().map(|step| step.count).collect();
        assert_eq!(counts, [4, 2, 2]);
        let drop_off: Vec<u64> = result.steps.iter().map(|step| step.drop_off).collect();
        assert_eq!(drop_off, [2, 0, 0]);
        assert!(result.steps[1].time_from_previous_s.is_none());
        let timing = result.steps[2].time_from_previous_s.unwrap();
        assert!((timing.mean - 4.0).abs() < 1e-12, "since a, not since b");
        assert_eq!(result.steps[2].conversion_from_previous, Some(0.5));
    }
}

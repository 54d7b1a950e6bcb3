//! The result of a funnel: the JSON contract, built from counts and times so that every backend agrees.

use serde::{Deserialize, Serialize};

use crate::{
    figures::{Bin, Latency, Timing, histogram, seconds, timing},
    service::StepService,
};

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Counted from 1.
    pub step: usize,
    /// From the definition.
    pub name: String,
    /// Who reached it.
    pub count: u64,
    /// Fraction of the previous step's count; null when that is zero.
    pub conversion_from_previous: Option<f64>,
    /// Fraction of the first step's count; null when that is zero.
    pub conversion_from_start: Option<f64>,
    /// Who reached it and not the next.
    pub drop_off: u64,
    /// Seconds since the previous step; null for the first and when nobody came.
    pub time_from_previous_s: Option<Timing>,
    /// How long the shop took to answer the requests that match this step, whoever made them; null when no
    /// event of the step carries a duration.
    #[serde(default)]
    pub latency_ms: Option<Latency>,
    /// Failed attempts at this step: events named `<event>.failed`, whoever made them.
    #[serde(default)]
    pub errors: u64,
}

/// Seconds from the first to the last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeToConvert {
    /// Interpolated median.
    pub median: f64,
    /// Interpolated ninth decile.
    pub p90: f64,
    /// Bins of the series 1, 1.5, 2, 3, 5, 7 from the fastest to the slowest conversion; empty ones between are listed.
    #[serde(default)]
    pub histogram: Vec<Bin>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunnelResult {
    /// In order.
    pub steps: Vec<StepResult>,
    /// Null when nobody converted.
    pub time_to_convert_s: Option<TimeToConvert>,
    /// Events looked at.
    pub events_scanned: u64,
    /// `reference` or `clickhouse`.
    pub backend: String,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl FunnelResult {
    /// From the step times (ns) of each user's chosen attempt, one list per user, as long as its level.
    pub(crate) fn from_attempts(
        names: &[String],
        attempts: &[Vec<i64>],
        events_scanned: u64,
        backend: &str,
    ) -> Self {
        let counts: Vec<u64> = (1..=names.len())
            .map(|level| attempts.iter().filter(|times| times.len() >= level).count() as u64)
            .collect();
        let gaps = |step: usize| -> Vec<f64> {
            let pairs = attempts
                .iter()
                .filter_map(|times| Some((times.get(step.checked_sub(1)?)?, times.get(step)?)));
            pairs
                .map(|(before, after)| seconds(after - before))
                .collect()
        };
        let whole = attempts.iter().filter(|times| times.len() == names.len());
        let whole: Vec<i64> = whole
            .filter_map(|times| Some(times.last()? - times.first()?))
            .collect();
        let step = |(index, name): (usize, &String)| StepResult {
            step: index + 1,
            name: name.clone(),
            count: 0,
            conversion_from_previous: None,
            conversion_from_start: None,
            drop_off: 0,
            time_from_previous_s: timing(gaps(index)),
            latency_ms: None,
            errors: 0,
        };
        let steps = names.iter().enumerate().map(step).collect();
        let whole_s: Vec<f64> = whole.iter().copied().map(seconds).collect();
        let time_to_convert_s = timing(whole_s).map(|timing| TimeToConvert {
            median: timing.median,
            p90: timing.p90,
            histogram: histogram(&whole),
        });
        let mut result = Self {
            steps,
            time_to_convert_s,
            events_scanned,
            backend: backend.to_owned(),
            elapsed_ms: 0,
        };
        result.set_counts(&counts);
        result
    }

    /// Replaces the counts, with all that follows from them.
    pub(crate) fn set_counts(&mut self, counts: &[u64]) {
        let first = counts.first().copied().unwrap_or(0);
        for (index, step) in self.steps.iter_mut().enumerate() {
            let count = counts.get(index).copied().unwrap_or(0);
            let previous = index
                .checked_sub(1)
                .and_then(|before| counts.get(before))
                .copied();
            step.count = count;
            step.conversion_from_previous = ratio(count, previous.unwrap_or(count));
            step.conversion_from_start = ratio(count, first);
            step.drop_off = count - counts.get(index + 1).copied().unwrap_or(count);
        }
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

    /// A table for a terminal.
    pub fn to_table(&self) -> String {
        let mut out = format!(
            "{:<4} {:<20} {:>10} {:>9} {:>9} {:>10} {:>10} {:>9} {:>8}\n",
            "step", "name", "count", "prev", "start", "drop-off", "median s", "p95 ms", "failed"
        );
        for step in &self.steps {
            let median = step
                .time_from_previous_s
                .map_or_else(|| "-".to_owned(), |timing| format!("{:.3}", timing.median));
            let p95 = step
                .latency_ms
                .map_or_else(|| "-".to_owned(), |latency| format!("{:.1}", latency.p95));
            let line = format!(
                "{:<4} {:<20} {:>10} {:>9} {:>9} {:>10} {:>10} {:>9} {:>8}\n",
                step.step,
                step.name,
                step.count,
                percent(step.conversion_from_previous),
                percent(step.conversion_from_start),
                step.drop_off,
                median,
                p95,
                step.errors
            );
            out.push_str(&line);
        }
        out
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

    #[test]
    fn the_missions_sample_reads_as_it_is_told() {
        let attempts: Vec<Vec<i64>> = (0..12_480)
            .map(|user| match user {
                0..5_640 => vec![0, 1, 2],
                5_640..9_120 => vec![0, 1],
                _ => vec![0],
            })
            .collect();
        let names = ["login", "cart", "pay"].map(str::to_owned);
        let result = FunnelResult::from_attempts(&names, &attempts, 0, "reference");
        let shown: Vec<String> = result
            .steps
            .iter()
            .map(|step| percent(step.conversion_from_previous))
            .collect();
        assert_eq!(shown, ["100.0%", "73.1%", "61.8%"]);
        assert_eq!(
            result
                .steps
                .iter()
                .map(|step| step.drop_off)
                .collect::<Vec<_>>(),
            [3_360, 3_480, 0]
        );
    }
}

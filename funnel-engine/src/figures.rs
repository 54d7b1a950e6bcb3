//! Means, quantiles and bins: the figures of an answer, computed the same way as ClickHouse computes them.

use serde::{Deserialize, Serialize};

/// Mean and quantiles of times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Arithmetic mean.
    pub mean: f64,
    /// Interpolated median.
    pub median: f64,
    /// Interpolated ninth decile.
    pub p90: f64,
}

/// How long requests took, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean: f64,
    /// Interpolated 95th percentile.
    pub p95: f64,
}

/// One bar of a histogram: from here up to the next bar's `from`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Lower edge, seconds, inclusive.
    pub from: f64,
    /// How many.
    pub count: u64,
}

/// Lower edges of the bins in nanoseconds: 0, then 1, 1.5, 2, 3, 5, 7 times each power of ten from a millisecond
/// to 7,000,000 seconds (81 days). Fixed, so that histograms of different runs and backends can be laid side by side.
pub(crate) fn bin_edges_ns() -> Vec<i64> {
    let tenths = (5..=14_u32).map(|exponent| 10_i64.pow(exponent));
    let edges = tenths.flat_map(|tenth| [10, 15, 20, 30, 50, 70].map(|factor| factor * tenth));
    std::iter::once(0).chain(edges).collect()
}

/// Bins of durations (ns), from the first to the last that holds any.
pub(crate) fn histogram(durations_ns: &[i64]) -> Vec<Bin> {
    let edges = bin_edges_ns();
    let mut counts = vec![0; edges.len()];
    for duration in durations_ns {
        let bin = edges.partition_point(|edge| edge <= duration);
        if let Some(count) = bin
            .checked_sub(1)
            .and_then(|index: usize| counts.get_mut(index))
        {
            *count += 1;
        }
    }
    bins(&counts)
}

/// The bins of counts that stand in the order of [`bin_edges_ns`], without the empty ones at both ends.
pub(crate) fn bins(counts: &[u64]) -> Vec<Bin> {
    let filled = |count: &u64| *count > 0;
    let first = counts.iter().position(filled).unwrap_or(counts.len());
    let end = counts.iter().rposition(filled).map_or(0, |last| last + 1);
    let edges = bin_edges_ns();
    let all = edges.iter().zip(counts).map(|(edge, count)| Bin {
        from: seconds(*edge),
        count: *count,
    });
    all.take(end).skip(first).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "durations of a window stay below 2^53 ns, about 104 days; beyond, below a microsecond is lost"
)]
pub(crate) fn seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Mean and quantiles of durations (ns), in seconds. Reorders them.
pub(crate) fn timing(durations_ns: &mut [i64]) -> Option<Timing> {
    let count = i128::try_from(durations_ns.len()).ok()?;
    let sum: i128 = durations_ns.iter().map(|ns| i128::from(*ns)).sum();
    if count == 0 {
        return None;
    }
    // Whole part and rest apart: exact to the last digit that a float can hold, in any order of adding.
    let rest = seconds(i64::try_from(sum % count).unwrap_or(0));
    let whole = seconds(i64::try_from(sum / count).unwrap_or(i64::MAX));
    #[expect(clippy::cast_precision_loss, reason = "a count of users")]
    let mean = whole + rest / durations_ns.len() as f64;
    Some(Timing {
        mean,
        median: quantile_s(durations_ns, 1, 2),
        p90: quantile_s(durations_ns, 9, 10),
    })
}

/// Linear interpolation between closest ranks, without sorting all of them.
fn quantile_s(durations_ns: &mut [i64], numerator: usize, denominator: usize) -> f64 {
    let position = durations_ns.len().saturating_sub(1) * numerator;
    let (below, rest) = (position / denominator, position % denominator);
    if below >= durations_ns.len() {
        return 0.0;
    }
    let (_, low, above) = durations_ns.select_nth_unstable(below);
    let low = seconds(*low);
    let high = above.iter().min().map_or(low, |high| seconds(*high));
    #[expect(clippy::cast_precision_loss, reason = "both below a hundred")]
    let weight = rest as f64 / denominator as f64;
    low + (high - low) * weight
}

/// Mean and the 95th percentile of milliseconds.
pub(crate) fn latency(mut milliseconds: Vec<f64>) -> Option<Latency> {
    milliseconds.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let mean = milliseconds.iter().sum::<f64>() / milliseconds.len() as f64;
    (!milliseconds.is_empty()).then(|| Latency {
        mean,
        p95: quantile(&milliseconds, 19, 20),
    })
}

/// Linear interpolation between closest ranks, as `quantileExactInclusive` does; `values` are sorted.
fn quantile(values: &[f64], numerator: usize, denominator: usize) -> f64 {
    let position = values.len().saturating_sub(1) * numerator;
    let (below, rest) = (position / denominator, position % denominator);
    let low = values.get(below).copied().unwrap_or(0.0);
    let high = values.get(below + 1).copied().unwrap_or(low);
    #[expect(clippy::cast_precision_loss, reason = "both below a hundred")]
    let weight = rest as f64 / denominator as f64;
    low + (high - low) * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let mut durations = [4, 1, 3, 2].map(|seconds| seconds * 1_000_000_000);
        let timing = timing(&mut durations).unwrap();
        assert!((timing.mean - 2.5).abs() < 1e-12);
        assert!((timing.median - 2.5).abs() < 1e-12);
        assert!((timing.p90 - 3.7).abs() < 1e-12);
        let latency = latency((1..=21).map(f64::from).collect()).unwrap();
        assert!((latency.p95 - 20.0).abs() < 1e-12);
    }

    #[test]
    fn bins_are_closed_below_and_open_above_and_keep_the_gaps() {
        let shown: Vec<(f64, u64)> = histogram(&[2_999_999, 3_000_000, 7_000_000])
            .iter()
            .map(|bin| (bin.from, bin.count))
            .collect();
        assert_eq!(shown, [(0.002, 1), (0.003, 1), (0.005, 0), (0.007, 1)]);
        assert!(histogram(&[]).is_empty());
        assert_eq!(histogram(&[0, i64::MAX]).len(), bin_edges_ns().len());
    }
}

//! The two distributions that the tests of this module need: the normal tail and the hypergeometric of 2x2 tables.
//!
//! The normal tail is `erfc` of the crate `libm`. Fisher's test needs no gamma function: neighbouring tables with the
//! same margins differ by a simple ratio, so the probabilities are walked outwards from the likeliest one, relative
//! to it. That loses no digits however large the counts are.

use std::{f64::consts::SQRT_2, iter::successors};

/// Half the width of a 95% interval in standard errors: the 0.975 quantile of the normal distribution.
pub(super) const Z_95: f64 = 1.959_963_984_540_054;

/// Tables whose probability exceeds the given one by less than this share count as equally likely; rounding must not
/// decide (the same as in R's `fisher.test`).
const EQUALLY_LIKELY: f64 = 1.0 + 1e-7;

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// The probability that a standard normal variable is at least this far from 0; 0 beyond 38.
pub(super) fn two_sided_normal(z: f64) -> f64 {
    libm::erfc(z.abs() / SQRT_2)
}

/// Two-sided p of Fisher's exact test for a table by rows: the probability of all tables with the same margins that
/// are no likelier than this one. In (0, 1]; 0 below 1e-300.
///
/// Takes time in proportion to the smallest margin.
pub(super) fn fisher([[a, b], [c, d]]: [[u64; 2]; 2]) -> f64 {
    let margins = Margins {
        row: a + b,
        column: a + c,
        total: a + b + c + d,
    };
    let Some((_, observed)) = margins.weights().find(|(corner, _)| *corner == a) else {
        return 0.0;
    };
    let limit = observed * EQUALLY_LIKELY;
    let (mut all, mut no_likelier) = (0.0, 0.0);
    for (_, weight) in margins.weights() {
        all += weight;
        if weight <= limit {
            no_likelier += weight;
        }
    }
    (no_likelier / all).min(1.0)
}

/// What the tables have in common; a table is then known by its first corner.
#[derive(Clone, Copy)]
struct Margins {
    row: u64,
    column: u64,
    total: u64,
}

impl Margins {
    /// Every corner with its probability relative to the likeliest, upwards from that one and then downwards, until
    /// nothing is left that a number can hold.
    fn weights(self) -> impl Iterator<Item = (u64, f64)> {
        let top = self.row.min(self.column);
        let bottom = (self.row + self.column).saturating_sub(self.total);
        let start = (self.mode().clamp(bottom, top), 1.0);
        let up = successors(Some(start), move |&(corner, weight)| {
            (corner < top).then(|| (corner + 1, weight * self.ratio(corner)))
        });
        let down = successors(Some(start), move |&(corner, weight)| {
            let below = corner.checked_sub(1).filter(|below| *below >= bottom)?;
            Some((below, weight / self.ratio(below)))
        });
        let holds = |(_, weight): &(u64, f64)| *weight > 0.0;
        up.take_while(holds).chain(down.skip(1).take_while(holds))
    }

    fn mode(self) -> u64 {
        let product = u128::from(self.row + 1) * u128::from(self.column + 1);
        u64::try_from(product / u128::from(self.total + 2)).unwrap_or(u64::MAX)
    }

    /// How much likelier the next corner is than this one.
    fn ratio(self, corner: u64) -> f64 {
        let gained = float(self.row - corner) * float(self.column - corner);
        let opposite = (self.total + corner + 1) - self.row - self.column;
        gained / (float(corner + 1) * float(opposite))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ours: f64, truth: f64) -> bool {
        (ours - truth).abs() <= 1e-9 * truth.abs()
    }

    /// `python -c "from scipy.stats import norm; print([2*norm.sf(z) for z in (0, .5, 1.959963984540054, 5, 12, 37)])"`
    /// (scipy 1.17.1)
    #[test]
    fn the_normal_tail_is_scipys() {
        let truth = [
            (0.0, 1.0),
            (0.5, 0.617_075_077_451_973_8),
            (-Z_95, 0.05),
            (5.0, 5.733_031_437_583_866e-7),
            (12.0, 3.552_964_224_155_306e-33),
            (37.0, 1.145_114_244_504_785_5e-299),
        ];
        for (z, p) in truth {
            assert!(close(two_sided_normal(z), p), "{z}");
        }
    }

    /// `python -c "from scipy.stats import fisher_exact; print(fisher_exact([[3, 1], [1, 3]]).pvalue)"` and so on
    /// (scipy 1.17.1)
    #[test]
    fn fishers_test_is_scipys() {
        let truth = [
            ([[3, 1], [1, 3]], 0.485_714_285_714_285_65),
            ([[8, 2], [1, 5]], 0.034_965_034_965_034_975),
            ([[0, 10], [0, 10]], 1.0),
            ([[10, 0], [0, 10]], 1.082_508_822_446_903e-5),
            ([[0, 5], [7, 0]], 0.001_262_626_262_626_262_7),
            ([[1, 9], [11, 3]], 0.002_759_456_185_220_083_6),
            ([[2, 50], [30, 4000]], 0.061_928_021_587_689_91),
            ([[4, 120], [90, 99_786]], 6.298_508_926_674_709e-6),
            ([[0, 17], [2500, 60_000]], 1.0),
            ([[12, 5], [29, 2]], 0.080_268_552_074_104_63),
            ([[100, 200], [150, 250]], 0.265_321_924_812_352_67),
            ([[5000, 4600], [5200, 5100]], 0.024_949_213_216_179_805),
            ([[1, 0], [0, 0]], 1.0),
            ([[40, 60_000], [10, 60_000]], 2.377_395_942_008_842_4e-5),
            ([[0, 0], [0, 0]], 1.0),
        ];
        for (table, p) in truth {
            assert!(close(fisher(table), p), "{table:?}: {}", fisher(table));
        }
    }

    #[test]
    fn what_no_number_can_hold_is_zero_and_turning_a_table_changes_nothing() {
        assert!(fisher([[3, 199_997], [90_000, 110_000]]) < 1e-300);
        let [a, b, c, d] = [4, 17, 11, 9];
        let straight = fisher([[a, b], [c, d]]);
        for turned in [[[c, d], [a, b]], [[b, a], [d, c]], [[a, c], [b, d]]] {
            assert!(close(fisher(turned), straight), "{turned:?}");
        }
    }
}

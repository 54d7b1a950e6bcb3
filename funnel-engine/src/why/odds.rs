//! 2x2 tables of exposed or not against dropped or converted: odds ratio, and the correction for many comparisons.
//!
//! Refuses: calling an association a cause.

use serde::{Deserialize, Serialize};

use super::{
    distribution::{Z_95, float},
    proportion::{Rate, Test, two_proportions},
};

/// Who was exposed to a fact, and what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Exposed, and dropped.
    pub dropped_with: u64,
    /// Exposed, and converted.
    pub converted_with: u64,
    /// Not exposed, and dropped.
    pub dropped_without: u64,
    /// Not exposed, and converted.
    pub converted_without: u64,
}

/// By how much the odds of dropping differ between the exposed and the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OddsRatio {
    /// Odds of dropping of the exposed over those of the others, above 0: above 1, the exposed drop more.
    pub value: f64,
    /// Lower end of the 95% interval (normal on the logarithm), above 0.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// A cell was 0, so 0.5 was added to each of the four (Haldane and Anscombe).
    pub corrected: bool,
}

impl Table {
    /// Who was exposed.
    pub const fn exposed(&self) -> u64 {
        self.dropped_with + self.converted_with
    }

    /// Who was not.
    pub const fn unexposed(&self) -> u64 {
        self.dropped_without + self.converted_without
    }

    /// The odds ratio; `None` when all or none are exposed, or all or none dropped: then nothing is compared.
    pub fn odds_ratio(&self) -> Option<OddsRatio> {
        let dropped = self.dropped_with + self.dropped_without;
        let converted = self.converted_with + self.converted_without;
        if [self.exposed(), self.unexposed(), dropped, converted].contains(&0) {
            return None;
        }
        let cells = [
            self.dropped_with,
            self.converted_with,
            self.dropped_without,
            self.converted_without,
        ];
        let corrected = cells.contains(&0);
        let [a, b, c, d] = cells.map(|cell| float(cell) + if corrected { 0.5 } else { 0.0 });
        let log = (a / b).ln() - (c / d).ln();
        let half = Z_95 * (1.0 / a + 1.0 / b + 1.0 / c + 1.0 / d).sqrt();
        Some(OddsRatio {
            value: log.exp(),
            low: (log - half).exp(),
            high: (log + half).exp(),
            corrected,
        })
    }

    /// Tests whether the exposed drop as often as the others: Fisher's exact test for small counts, else chi-square
    /// (as the z test whose square it is). `None` when all or none are exposed.
    pub fn test(&self) -> Option<Test> {
        two_proportions(
            &Rate::new(self.dropped_without, self.unexposed()),
            &Rate::new(self.dropped_with, self.exposed()),
        )
    }
}

/// p values corrected for being many, in the order given (Benjamini and Hochberg): calling all below 0.05 a finding,
/// at most 5% of the findings are expected to be chance, also when the comparisons are positively dependent.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> = p.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut corrected = vec![1.0; p.len()];
    let mut least = 1.0_f64;
    for (rank, (index, p)) in order.into_iter().enumerate().rev() {
        least = least.min(p * float(corrected.len() as u64) / float(rank as u64 + 1));
        if let Some(slot) = corrected.get_mut(index) {
            *slot = least;
        }
    }
    corrected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::why::proportion::Method;

    fn table([[a, b], [c, d]]: [[u64; 2]; 2]) -> Table {
        Table {
            dropped_with: a,
            converted_with: b,
            dropped_without: c,
            converted_without: d,
        }
    }

    fn close(ours: f64, truth: f64) -> bool {
        (ours - truth).abs() <= 1e-9 * truth.abs()
    }

    /// `t = Table2x2(np.array(table)); t.oddsratio, t.oddsratio_confint()` of
    /// `statsmodels.stats.contingency_tables` (statsmodels 0.15.0), with 0.5 added to each cell when one is 0, and
    /// `chi2_contingency(table, correction=False).pvalue` of `scipy.stats` (scipy 1.17.1)
    #[test]
    fn odds_ratios_are_those_of_statsmodels() {
        let truth = [
            (
                [[30, 70], [10, 90]],
                3.857_142_857_142_857,
                1.766_602_789_624_395_4,
                8.421_559_791_361_659,
            ),
            (
                [[120, 880], [450, 9_550]],
                2.893_939_393_939_394,
                2.339_044_456_505_149,
                3.580_472_868_954_159,
            ),
            (
                [[5, 3], [40, 60]],
                2.5,
                0.565_567_546_415_398_7,
                11.050_846_251_014_352,
            ),
            (
                [[7, 0], [30, 40]],
                19.918_032_786_885_245,
                1.094_837_862_837_168_4,
                362.362_358_451_280_33,
            ),
            (
                [[0, 12], [30, 40]],
                0.053_114_754_098_360_65,
                0.003_025_161_401_610_423_5,
                0.932_570_771_737_165,
            ),
            (
                [[1, 2], [3, 4]],
                0.666_666_666_666_666_6,
                0.039_382_668_576_583_214,
                11.285_280_061_207_17,
            ),
        ];
        for (cells, value, low, high) in truth {
            let ours = table(cells).odds_ratio().unwrap();
            assert!(
                close(ours.value, value) && close(ours.low, low) && close(ours.high, high),
                "{cells:?}: {ours:?}"
            );
            assert_eq!(ours.corrected, cells.as_flattened().contains(&0));
        }
        let chi_square = [
            ([[30, 70], [10, 90]], 0.000_406_952_017_444_959_46),
            ([[120, 880], [450, 9_550]], 1.945_740_300_246_306e-24),
        ];
        for (cells, p) in chi_square {
            let test = table(cells).test().unwrap();
            assert_eq!(test.method, Method::PooledZ);
            assert!(close(test.p, p), "{cells:?}: {test:?}");
            assert!(test.z.unwrap() > 0.0, "the exposed drop more");
        }
    }

    #[test]
    fn where_nothing_is_compared_there_is_no_ratio() {
        for cells in [
            [[0, 0], [3, 4]],
            [[3, 4], [0, 0]],
            [[5, 0], [6, 0]],
            [[0, 5], [0, 6]],
        ] {
            assert_eq!(table(cells).odds_ratio(), None, "{cells:?}");
        }
        assert_eq!(table([[0, 0], [3, 4]]).test(), None);
        let all_dropped = table([[5, 0], [6, 0]]).test().unwrap();
        assert!((all_dropped.p - 1.0).abs() < 1e-12);
    }

    /// `multipletests(p, method='fdr_bh')[1]` of `statsmodels.stats.multitest` (statsmodels 0.15.0)
    #[test]
    fn the_correction_is_that_of_statsmodels() {
        let ours = benjamini_hochberg(&[0.01, 0.013, 0.02, 0.9, 0.0001, 0.04, 0.04, 1.0, 0.5, 0.3]);
        let truth = [
            0.043_333_333_333_333_335,
            0.043_333_333_333_333_335,
            0.05,
            1.0,
            0.001,
            0.066_666_666_666_666_67,
            0.066_666_666_666_666_67,
            1.0,
            0.625,
            0.428_571_428_571_428_6,
        ];
        assert!(
            ours.iter().zip(truth).all(|(a, b)| close(*a, b)),
            "{ours:?}"
        );
        assert!(benjamini_hochberg(&[]).is_empty());
        assert!(close(benjamini_hochberg(&[0.03])[0], 0.03));
    }
}

//! Conversion rates and the difference between two of them: intervals, test, and what it means in words.
//!
//! Intervals are Wilson's score interval for one rate and Newcombe's (his method 10, built from the two Wilson
//! intervals) for a difference; both keep their promise for small counts and rates near 0 or 1, where the textbook
//! interval does not. The test is the pooled z test, or Fisher's exact test when a cell of the table would hold fewer
//! than 5 by chance. Refuses: deciding which tests belong together; whoever asks several questions corrects for it
//! (see [`benjamini_hochberg`](super::benjamini_hochberg)).

use serde::{Deserialize, Serialize};

use super::distribution::{Z_95, fisher, float, two_sided_normal};

/// Below this corrected p a difference is told from chance.
pub const SIGNIFICANT: f64 = 0.05;

/// Below this expected count in any cell the z test is not trusted (Cochran's rule).
const EXPECTED_MIN: f64 = 5.0;

/// A 95% interval; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// How many of how many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Who did it; at most `total`.
    pub count: u64,
    /// Who could have.
    pub total: u64,
    /// `count / total`, 0 to 1; null when `total` is 0.
    pub rate: Option<f64>,
    /// Wilson's 95% score interval of the rate, 0 to 1; null when `total` is 0.
    pub interval: Option<Interval>,
}

impl Rate {
    /// So many of so many; a count above the total is taken as the total.
    pub fn new(count: u64, total: u64) -> Self {
        let count = count.min(total);
        Self {
            count,
            total,
            rate: (total > 0).then(|| float(count) / float(total)),
            interval: wilson(count, total),
        }
    }
}

/// How a p value came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Two-sided z test of two proportions with pooled variance. Its square is Pearson's chi-square of the 2x2 table
    /// with one degree of freedom, without continuity correction.
    PooledZ,
    /// Fisher's exact test, two-sided: all tables with the same margins that are no likelier.
    Fisher,
}

/// A test of whether two rates are the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// Which test.
    pub method: Method,
    /// Standard errors by which the second rate lies above the first; null for Fisher's test, which has no such number.
    pub z: Option<f64>,
    /// Two-sided p, 0 to 1 (0: below 1e-300), not corrected for other tests.
    pub p: f64,
}

/// What can be said of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The second rate is higher: corrected p below 0.05.
    Higher,
    /// The second rate is lower: corrected p below 0.05.
    Lower,
    /// No difference can be told from chance. That is not the same as no difference.
    NotTold,
    /// On one side there is nobody to count.
    NothingToCompare,
}

/// Two rates side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateComparison {
    /// The rate of the first period or cohort.
    pub first: Rate,
    /// The rate of the second.
    pub second: Rate,
    /// Second rate minus first, -1 to 1; null when either is.
    pub difference: Option<f64>,
    /// Newcombe's 95% interval of the difference, -1 to 1, not corrected for other comparisons.
    pub interval: Option<Interval>,
    /// The test; null when there is nothing to compare.
    pub test: Option<Test>,
    /// p corrected over the family of comparisons that it was asked with, 0 to 1.
    pub p_corrected: Option<f64>,
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence.
    pub words: String,
}

impl RateComparison {
    /// Compares; until [`Self::settle`] is called this is the only comparison of its family.
    pub fn new(first: Rate, second: Rate) -> Self {
        let mut comparison = Self {
            first,
            second,
            difference: first.rate.zip(second.rate).map(|(a, b)| b - a),
            interval: newcombe(&first, &second),
            test: two_proportions(&first, &second),
            p_corrected: None,
            verdict: Verdict::NothingToCompare,
            words: String::new(),
        };
        comparison.settle(comparison.test.map(|test| test.p));
        comparison
    }

    /// Draws the conclusion from a corrected p.
    pub fn settle(&mut self, p_corrected: Option<f64>) {
        self.p_corrected = p_corrected;
        self.verdict = match (p_corrected, self.difference) {
            (Some(p), Some(difference)) if p < SIGNIFICANT && difference > 0.0 => Verdict::Higher,
            (Some(p), Some(difference)) if p < SIGNIFICANT && difference < 0.0 => Verdict::Lower,
            (Some(_), Some(_)) => Verdict::NotTold,
            _ => Verdict::NothingToCompare,
        };
        self.words = self.sentence();
    }

    fn sentence(&self) -> String {
        let change = |way: &str| {
            let (difference, interval) = (self.difference.unwrap_or(0.0), self.interval);
            let (low, high) = interval.map_or((0.0, 0.0), |interval| (interval.low, interval.high));
            let (low, high) = if difference < 0.0 {
                (-high, -low)
            } else {
                (low, high)
            };
            format!(
                "{way} by {:.1} points (95% interval {:.1} to {:.1})",
                difference.abs() * 100.0,
                low * 100.0,
                high * 100.0
            )
        };
        match self.verdict {
            Verdict::Higher => change("higher"),
            Verdict::Lower => change("lower"),
            Verdict::NotTold => "no difference can be told from chance".to_owned(),
            Verdict::NothingToCompare => "nothing to compare: nobody came this far".to_owned(),
        }
    }
}

/// Wilson's 95% score interval for `count` of `total`; `None` when `total` is 0.
pub fn wilson(count: u64, total: u64) -> Option<Interval> {
    if total == 0 || count > total {
        return None;
    }
    let (n, rate, z2) = (float(total), float(count) / float(total), Z_95 * Z_95);
    let middle = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
    // At the ends the interval reaches exactly 0 or 1; rounding must not pull it in.
    Some(Interval {
        low: if count == 0 {
            0.0
        } else {
            (middle - half).max(0.0)
        },
        high: if count == total {
            1.0
        } else {
            (middle + half).min(1.0)
        },
    })
}

/// Newcombe's 95% interval for the second rate minus the first; `None` when a total is 0.
pub fn newcombe(first: &Rate, second: &Rate) -> Option<Interval> {
    let (plus, minus) = (
        (second.rate?, second.interval?),
        (first.rate?, first.interval?),
    );
    Some(difference(plus, minus))
}

/// The interval of `plus` minus `minus`, from the interval of each.
pub(super) fn difference(plus: (f64, Interval), minus: (f64, Interval)) -> Interval {
    let middle = plus.0 - minus.0;
    Interval {
        low: middle - (plus.0 - plus.1.low).hypot(minus.1.high - minus.0),
        high: middle + (plus.1.high - plus.0).hypot(minus.0 - minus.1.low),
    }
}

/// Tests whether two rates are the same; `None` when a total is 0.
pub fn two_proportions(first: &Rate, second: &Rate) -> Option<Test> {
    if first.total == 0 || second.total == 0 {
        return None;
    }
    let (hits, total) = (first.count + second.count, first.total + second.total);
    let rarer = float(hits.min(total - hits));
    let smaller = float(first.total.min(second.total));
    if rarer * smaller / float(total) < EXPECTED_MIN {
        let row = |rate: &Rate| [rate.count, rate.total - rate.count];
        return Some(Test {
            method: Method::Fisher,
            z: None,
            p: fisher([row(first), row(second)]),
        });
    }
    let pooled = float(hits) / float(total);
    let spread = pooled * (1.0 - pooled) * (1.0 / float(first.total) + 1.0 / float(second.total));
    let z = (second.rate? - first.rate?) / spread.sqrt();
    Some(Test {
        method: Method::PooledZ,
        z: Some(z),
        p: two_sided_normal(z),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(ours: f64, truth: f64) -> bool {
        (ours - truth).abs() <= 1e-9 * truth.abs().max(1e-3)
    }

    /// `python -c "from statsmodels.stats.proportion import *; print(proportion_confint(3, 17, method='wilson'))"` and
    /// so on (statsmodels 0.15.0)
    #[test]
    fn wilsons_interval_is_that_of_statsmodels() {
        let truth = [
            (0, 1, 0.0, 0.793_450_685_622_762_7),
            (1, 1, 0.206_549_314_377_237_4, 1.0),
            (0, 10, 0.0, 0.277_532_799_862_889_26),
            (10, 10, 0.722_467_200_137_110_6, 1.0),
            (3, 17, 0.061_911_266_376_209_945, 0.410_294_585_688_341_3),
            (
                5_640,
                9_120,
                0.608_403_400_554_071_5,
                0.628_338_985_835_355_4,
            ),
            (
                1,
                100_000,
                1.765_247_730_378_309_2e-6,
                5.664_709_659_040_968e-5,
            ),
            (
                999_999,
                1_000_000,
                0.999_994_335_088_195_7,
                0.999_999_823_475_423_3,
            ),
        ];
        for (count, total, low, high) in truth {
            let ours = wilson(count, total).unwrap();
            assert!(close(ours.low, low) && close(ours.high, high), "{ours:?}");
        }
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(2, 1), None);
    }

    /// `confint_proportions_2indep(second, n2, first, n1, compare='diff', method='newcomb')` and
    /// `proportions_ztest([second, first], [n2, n1])` of `statsmodels.stats.proportion` (statsmodels 0.15.0).
    /// The first row is the example of Newcombe (1998).
    const DIFFERENCES: [Difference; 8] = [
        (
            (56, 70),
            (48, 80),
            -0.333_872_654_036_906_14,
            -0.052_431_472_402_364_98,
            Some((-2.650_171_951_258_533_6, 0.008_045_081_368_196_56)),
        ),
        (
            (5_640, 9_120),
            (5_800, 9_120),
            0.003_508_984_916_212_031_3,
            0.031_569_011_126_259_56,
            Some((2.449_993_493_892_41, 0.014_285_879_600_524_052)),
        ),
        (
            (61, 120),
            (60, 120),
            -0.132_679_794_478_875_12,
            0.116_378_667_197_330_99,
            Some((-0.129_103_927_726_677_06, 0.897_275_414_144_645_8)),
        ),
        (
            (12_000, 100_000),
            (12_500, 100_000),
            0.002_126_248_837_523_564,
            0.007_873_839_645_044_393,
            Some((3.410_070_828_759_207_6, 0.000_649_460_105_584_098_4)),
        ),
        (
            (0, 40),
            (15, 40),
            0.215_923_058_818_229_32,
            0.529_675_608_626_989,
            Some((4.296_689_244_236_597, 1.733_679_663_961_263_3e-5)),
        ),
        // Too few for the z test: only the interval is compared.
        (
            (9, 10),
            (3, 10),
            -0.809_017_973_535_488,
            -0.170_522_723_934_502_9,
            None,
        ),
        (
            (0, 20),
            (0, 30),
            -0.161_125_158_052_819_4,
            0.113_513_393_173_968_8,
            None,
        ),
        ((10, 10), (0, 20), -1.0, -0.679_086_037_141_914_5, None),
    ];

    /// Two counts with their totals, the interval of the difference, and z and p where the z test applies.
    type Difference = ((u64, u64), (u64, u64), f64, f64, Option<(f64, f64)>);

    #[test]
    fn differences_are_those_of_statsmodels() {
        for (first, second, low, high, z_and_p) in DIFFERENCES {
            let ours =
                RateComparison::new(Rate::new(first.0, first.1), Rate::new(second.0, second.1));
            let interval = ours.interval.unwrap();
            assert!(
                close(interval.low, low) && close(interval.high, high),
                "{ours:?}"
            );
            let test = ours.test.unwrap();
            match z_and_p {
                Some((z, p)) => {
                    assert!(
                        close(test.z.unwrap(), z) && (test.p - p).abs() < 1e-9 * p,
                        "{ours:?}"
                    );
                    assert_eq!(test.method, Method::PooledZ);
                }
                None => assert_eq!((test.method, test.z), (Method::Fisher, None)),
            }
        }
    }

    #[test]
    fn few_are_tested_exactly() {
        // As scipy.stats.fisher_exact([[1, 2], [8, 5]]).
        let test = two_proportions(&Rate::new(8, 10), &Rate::new(1, 6)).unwrap();
        assert!((test.p - 0.034_965_034_965_034_975).abs() < 1e-12);
        let nobody = two_proportions(&Rate::new(0, 50_000), &Rate::new(0, 40_000)).unwrap();
        assert!((nobody.p - 1.0).abs() < 1e-12 && nobody.method == Method::Fisher);
    }

    #[test]
    fn a_verdict_follows_the_corrected_p_and_reads_as_a_sentence() {
        let mut comparison = RateComparison::new(Rate::new(5_640, 9_120), Rate::new(5_800, 9_120));
        assert_eq!(
            comparison.words,
            "higher by 1.8 points (95% interval 0.4 to 3.2)"
        );
        comparison.settle(Some(0.071));
        assert_eq!(comparison.verdict, Verdict::NotTold);
        assert_eq!(comparison.words, "no difference can be told from chance");
        let fewer = RateComparison::new(Rate::new(56, 70), Rate::new(48, 80));
        assert_eq!(
            fewer.words,
            "lower by 20.0 points (95% interval 5.2 to 33.4)"
        );
        for (first, second) in [((0, 0), (5, 10)), ((5, 10), (0, 0)), ((0, 0), (0, 0))] {
            let none =
                RateComparison::new(Rate::new(first.0, first.1), Rate::new(second.0, second.1));
            assert_eq!(none.verdict, Verdict::NothingToCompare);
            assert_eq!(
                (none.test, none.p_corrected, none.interval),
                (None, None, None)
            );
        }
    }

    #[test]
    fn a_comparison_is_clear_json() {
        let comparison = RateComparison::new(Rate::new(1, 4), Rate::new(0, 0));
        let json = serde_json::to_value(&comparison).unwrap();
        assert_eq!(json["first"]["rate"], 0.25);
        assert_eq!(json["second"]["rate"], serde_json::Value::Null);
        assert_eq!(json["verdict"], "nothing_to_compare");
        assert_eq!(
            serde_json::from_value::<RateComparison>(json).unwrap(),
            comparison
        );
    }
}

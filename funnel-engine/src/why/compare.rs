//! The same funnel twice: two periods, or two cohorts, step by step.
//!
//! Each rate is tested as if the two sides were different people. Where one user is in both periods, or is counted more
//! than once (`totals`), the p values are a little too large or too small; the note says so.

use serde::{Deserialize, Serialize};

use super::{
    odds::benjamini_hochberg,
    proportion::{Rate, RateComparison},
};
use crate::answer::FunnelResult;

const CORRECTION: &str = "Benjamini-Hochberg over the steps: once over all rates from the previous step, once over all rates from the start";
const NOTE: &str = "A difference that cannot be told from chance may still be there. Users who are on both sides make \
    the test less sure of itself than it says.";

/// The results are not of the same funnel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the two results have different steps: {first} and {second}; compare two answers of one definition"
)]
pub struct ComparisonError {
    first: String,
    second: String,
}

/// Two answers of one funnel side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Name of the first period or cohort.
    pub first: String,
    /// Name of the second.
    pub second: String,
    /// In order.
    pub steps: Vec<StepComparison>,
    /// Which correction, over which families.
    pub correction: String,
    /// How to read it.
    pub note: String,
}

/// One step in both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepComparison {
    /// Counted from 1.
    pub step: usize,
    /// From the definition.
    pub name: String,
    /// Conversion from the previous step that may not be skipped; null for the first step.
    pub from_previous: Option<RateComparison>,
    /// Conversion from the first step; null for the first step.
    pub from_start: Option<RateComparison>,
}

impl Comparison {
    /// Compares two answers of one definition; a positive difference means that the second converts better.
    ///
    /// # Errors
    /// When their steps differ.
    pub fn new(
        (first_name, first): (&str, &FunnelResult),
        (second_name, second): (&str, &FunnelResult),
    ) -> Result<Self, ComparisonError> {
        let names = |result: &FunnelResult| -> Vec<String> {
            result.steps.iter().map(|step| step.name.clone()).collect()
        };
        if names(first) != names(second) {
            return Err(ComparisonError {
                first: names(first).join(", "),
                second: names(second).join(", "),
            });
        }
        let rates = rates(first).into_iter().zip(rates(second));
        let steps = first
            .steps
            .iter()
            .zip(rates)
            .map(|(step, (first, second))| {
                let pairs = first.zip(second);
                StepComparison {
                    step: step.step,
                    name: step.name.clone(),
                    from_previous: pairs.map(|(a, b)| RateComparison::new(a.previous, b.previous)),
                    from_start: pairs.map(|(a, b)| RateComparison::new(a.start, b.start)),
                }
            });
        let mut steps: Vec<StepComparison> = steps.collect();
        settle(
            steps
                .iter_mut()
                .filter_map(|step| step.from_previous.as_mut())
                .collect(),
        );
        settle(
            steps
                .iter_mut()
                .filter_map(|step| step.from_start.as_mut())
                .collect(),
        );
        Ok(Self {
            first: first_name.to_owned(),
            second: second_name.to_owned(),
            steps,
            correction: CORRECTION.to_owned(),
            note: NOTE.to_owned(),
        })
    }
}

/// The two rates of one step.
#[derive(Clone, Copy)]
struct Rates {
    previous: Rate,
    start: Rate,
}

/// The rates of each step; `None` for the first.
fn rates(result: &FunnelResult) -> Vec<Option<Rates>> {
    let start = result.steps.first().map_or(0, |step| step.count);
    let mut previous = None;
    let mut rates = Vec::new();
    for step in &result.steps {
        rates.push(previous.map(|previous| Rates {
            previous: Rate::new(step.count, previous),
            start: Rate::new(step.count, start),
        }));
        if !step.optional {
            previous = Some(step.count);
        }
    }
    rates
}

/// Corrects the p values of one family. What cannot be tested is not part of it.
fn settle(mut family: Vec<&mut RateComparison>) {
    family.retain(|comparison| comparison.test.is_some());
    let p: Vec<f64> = family
        .iter()
        .filter_map(|comparison| comparison.test.map(|test| test.p))
        .collect();
    for (comparison, p_corrected) in family.into_iter().zip(benjamini_hochberg(&p)) {
        comparison.settle(Some(p_corrected));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::why::Verdict;

    /// Steps `A`, `B`, ...; the ones listed may be skipped.
    fn result(counts: &[u64], optional: &[usize]) -> FunnelResult {
        let step = |(index, count): (usize, &u64)| {
            serde_json::json!({ "step": index + 1, "name": char::from(b'A' + u8::try_from(index).unwrap()),
                "count": count, "conversion_from_previous": null, "conversion_from_start": null, "drop_off": 0,
                "time_from_previous_s": null, "optional": optional.contains(&(index + 1)) })
        };
        let steps: Vec<_> = counts.iter().enumerate().map(step).collect();
        let json = serde_json::json!({ "steps": steps, "time_to_convert_s": null, "events_scanned": 0,
            "backend": "reference", "elapsed_ms": 0 });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn each_step_is_compared_with_the_required_one_before_and_with_the_start() {
        let (before, after) = (
            result(&[1_000, 300, 600, 240], &[2]),
            result(&[1_200, 400, 800, 400], &[2]),
        );
        let comparison = Comparison::new(("May", &before), ("June", &after)).unwrap();
        let shown: Vec<_> = comparison
            .steps
            .iter()
            .map(|step| {
                let of = |rate: &Rate| (rate.count, rate.total);
                let previous = step
                    .from_previous
                    .as_ref()
                    .map(|pair| (of(&pair.first), of(&pair.second)));
                let start = step
                    .from_start
                    .as_ref()
                    .map(|pair| (of(&pair.first), of(&pair.second)));
                (previous, start)
            })
            .collect();
        let (optional, third) = (((300, 1_000), (400, 1_200)), ((600, 1_000), (800, 1_200)));
        assert_eq!(
            shown,
            [
                (None, None),
                (Some(optional), Some(optional)),
                (Some(third), Some(third)),
                (
                    Some(((240, 600), (400, 800))),
                    Some(((240, 1_000), (400, 1_200)))
                ),
            ]
        );
        let last = comparison.steps[3].from_previous.as_ref().unwrap();
        assert_eq!(last.verdict, Verdict::Higher);
        assert_eq!(
            last.words,
            "higher by 10.0 points (95% interval 4.7 to 15.2)"
        );
        assert_eq!(
            (comparison.first.as_str(), comparison.second.as_str()),
            ("May", "June")
        );
    }

    /// `p = [proportions_ztest([400, 300], [1200, 1000])[1], proportions_ztest([800, 600], [1200, 1000])[1],
    /// proportions_ztest([400, 240], [800, 600])[1]]; multipletests(p, method='fdr_bh')[1]` (statsmodels 0.15.0)
    #[test]
    fn the_correction_is_over_the_steps() {
        let (before, after) = (
            result(&[1_000, 300, 600, 240], &[2]),
            result(&[1_200, 400, 800, 400], &[2]),
        );
        let comparison = Comparison::new(("a", &before), ("b", &after)).unwrap();
        let truth = [
            0.094_638_395_287_095_61,
            0.001_813_842_642_185_914,
            0.000_604_903_753_658_269_4,
        ];
        for (step, p) in comparison.steps[1..].iter().zip(truth) {
            let ours = step.from_previous.as_ref().unwrap().p_corrected.unwrap();
            assert!((ours - p).abs() < 1e-9 * p, "{ours} against {p}");
        }
    }

    #[test]
    fn nobody_and_everybody_are_no_trouble() {
        let comparison = Comparison::new(
            ("a", &result(&[0, 0, 0], &[])),
            ("b", &result(&[9, 9, 0], &[])),
        )
        .unwrap();
        let verdicts: Vec<Verdict> = comparison
            .steps
            .iter()
            .filter_map(|step| Some(step.from_previous.as_ref()?.verdict))
            .collect();
        assert_eq!(verdicts, [Verdict::NothingToCompare; 2]);
        let same =
            Comparison::new(("a", &result(&[9, 9], &[])), ("b", &result(&[5, 5], &[]))).unwrap();
        let rate = same.steps[1].from_previous.as_ref().unwrap();
        assert_eq!(
            (rate.verdict, rate.difference),
            (Verdict::NotTold, Some(0.0))
        );
        assert!(
            Comparison::new(("a", &result(&[], &[])), ("b", &result(&[], &[])))
                .unwrap()
                .steps
                .is_empty()
        );
    }

    #[test]
    fn answers_of_two_funnels_are_refused() {
        let error = Comparison::new(
            ("a", &result(&[5, 3], &[])),
            ("b", &result(&[5, 3, 1], &[])),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the two results have different steps: A, B and A, B, C; compare two answers of one definition"
        );
    }
}

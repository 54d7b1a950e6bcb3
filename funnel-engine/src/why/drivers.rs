//! Drivers of a drop-off: every fact of those who dropped against those who converted.
//!
//! From counts per fact, wherever they were taken. Bounds: at most 1,000 facts, those that most subjects were exposed
//! to; a fact that fewer than 10 subjects were exposed to is left out. Neither choice looks at who dropped, so they
//! cost the tests nothing.
//! Refuses: saying that a driver is a cause.

use serde::{Deserialize, Serialize};

use super::{
    distribution::float,
    exposures::{Counts, FactCount, Side},
    facts::Fact,
    odds::{OddsRatio, Table, benjamini_hochberg},
    proportion::{Interval, Method, SIGNIFICANT, difference, wilson},
    subjects::SAMPLE_MAX,
};

/// Facts of one table.
pub const FACTS_MAX: usize = 1_000;
/// Exposed subjects without which a fact is not judged.
pub const EXPOSED_MIN: u64 = 10;

/// What every table says about itself.
const NOTE: &str = "Association, not proof: exposed users may differ in other ways too. Lost conversions are what the \
    exposed would have converted more at the rate of the others; those of several drivers overlap and do not add up.";
const CORRECTION: &str =
    "Benjamini-Hochberg over all facts compared in this table: false discovery rate 5%";

/// What is asked of a table of drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverOptions {
    /// Facts with fewer exposed subjects are left out; at least 1.
    pub exposed_min: u64,
    /// Facts kept, those with the most exposed subjects first; at most 1,000 where the store counts.
    pub facts_max: usize,
    /// Subjects whose facts are read in the store, per side; at most 100,000. Fewer are faster and less sure.
    pub subjects_max: usize,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            exposed_min: EXPOSED_MIN,
            facts_max: FACTS_MAX,
            subjects_max: SAMPLE_MAX,
        }
    }
}

/// What can be said of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The exposed drop more: corrected p below 0.05, and the time check holds where there is one.
    DropsMore,
    /// The exposed drop less, likewise.
    DropsLess,
    /// Corrected p is below 0.05, but it may only be that those who dropped were watched longer.
    WatchedLonger,
    /// No difference can be told from chance.
    NotTold,
}

/// Conversions that would not be missing if the exposed had converted like the others, for all subjects (not only the
/// sample), at least 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LostConversions {
    /// (conversion of those not exposed - conversion of the exposed) * the exposed.
    pub estimate: f64,
    /// Lower end of the 95% interval, for this number of exposed.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// From the table of the time check, because the check does not hold: of what was seen when both sides are watched
    /// equally long. Otherwise from all that was seen.
    pub in_equal_time: bool,
}

/// Whether a fact from after the step still stands out when both sides are watched equally long.
///
/// Who converts is watched until then, who drops until the window ends, and the longer one watches, the more one
/// sees. So each dropped subject is dealt the time that some converted subject took, and counted again within it. It
/// is a hard test: of what holds people up just before they would have converted, about half is not seen in time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeCheck {
    /// Dropped subjects exposed in that time.
    pub dropped_with: u64,
    /// p of that table, 0 to 1; 1 when it cannot be tested.
    pub p: f64,
    /// p corrected over all time checks of the table of drivers.
    pub p_corrected: f64,
    /// The difference goes the same way and the corrected p is below 0.05. False does not refute the driver: it may only be
    /// that those who dropped were watched longer.
    pub holds: bool,
}

/// One fact, dropped against converted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// For machines, see [`Fact::key`].
    pub key: String,
    /// For people.
    pub label: String,
    /// The fact.
    pub fact: Fact,
    /// Subjects of the sample with and without the fact.
    pub counts: Table,
    /// Share of the exposed who converted, 0 to 1.
    pub conversion_with: f64,
    /// Share of the others who converted, 0 to 1.
    pub conversion_without: f64,
    /// Odds of dropping, exposed against the others; null when nobody dropped or nobody converted.
    pub odds_ratio: Option<OddsRatio>,
    /// Which test gave p; `pooled_z` is chi-square.
    pub method: Method,
    /// Two-sided p, 0 to 1.
    pub p: f64,
    /// p corrected over the whole table.
    pub p_corrected: f64,
    /// What follows from the p values.
    pub finding: Finding,
    /// What it cost, at most.
    pub lost_conversions: LostConversions,
    /// Null for facts of the step itself, which need none.
    pub time_check: Option<TimeCheck>,
}

/// Facts that are not in the table, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Fewer exposed subjects than `exposed_min`.
    pub too_few: u64,
    /// All subjects were exposed: there is nobody to compare with.
    pub everybody: u64,
    /// Beyond the most frequent ones that are kept.
    pub beyond_limit: u64,
}

/// The drivers of one drop-off, by estimated lost conversions. What could not be told from chance stands among the
/// others, and a frequent fact may seem to cost much by chance alone: go by `finding` first when showing it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriverTable {
    /// Those who dropped.
    pub dropped: Side,
    /// Those who converted.
    pub converted: Side,
    /// Facts compared: the family of the correction.
    pub compared: u64,
    /// Facts not compared.
    pub left_out: LeftOut,
    /// Exposed subjects without which a fact is not judged.
    pub exposed_min: u64,
    /// Which correction, over which family.
    pub correction: String,
    /// How to read it.
    pub note: String,
    /// The most lost conversions first, then the smallest p.
    pub drivers: Vec<Driver>,
}

/// Judges the facts.
pub fn drivers(counts: Counts, options: &DriverOptions) -> DriverTable {
    let Counts {
        dropped,
        converted,
        facts_seen,
        mut facts,
    } = counts;
    let exposed = |count: &FactCount| count.dropped + count.converted;
    facts.sort_by(|a, b| exposed(b).cmp(&exposed(a)).then(a.fact.cmp(&b.fact)));
    facts.truncate(options.facts_max);
    let mut left_out = LeftOut {
        beyond_limit: facts_seen.saturating_sub(facts.len() as u64),
        ..LeftOut::default()
    };
    let mut drivers = Vec::new();
    for count in facts {
        if exposed(&count) < options.exposed_min.max(1) {
            left_out.too_few += 1;
        } else if let Some(driver) = judge(count, dropped, converted) {
            drivers.push(driver);
        } else {
            left_out.everybody += 1;
        }
    }
    let mut drivers = settle(drivers);
    drivers.sort_by(|a, b| {
        let lost = |driver: &Driver| driver.lost_conversions.estimate;
        let by_loss = lost(b).total_cmp(&lost(a));
        by_loss.then(a.p.total_cmp(&b.p)).then(a.key.cmp(&b.key))
    });
    DriverTable {
        dropped,
        converted,
        compared: drivers.len() as u64,
        left_out,
        exposed_min: options.exposed_min.max(1),
        correction: CORRECTION.to_owned(),
        note: NOTE.to_owned(),
        drivers,
    }
}

/// A driver whose p values are not corrected yet, with what it cost when both sides are watched equally long.
struct Judged {
    driver: Driver,
    lost_in_equal_time: LostConversions,
}

/// Compares the exposed with the others; `None` when there are no others.
fn judge(count: FactCount, dropped: Side, converted: Side) -> Option<Judged> {
    let table = |dropped_with: u64| Table {
        dropped_with,
        converted_with: count.converted,
        dropped_without: dropped.sampled.saturating_sub(dropped_with),
        converted_without: converted.sampled.saturating_sub(count.converted),
    };
    let (counts, in_time) = (table(count.dropped), table(count.dropped_in_time));
    let test = counts.test()?;
    let weights = Weights::new(dropped, converted);
    let with = weights.conversion(counts.converted_with, counts.exposed())?;
    let without = weights.conversion(counts.converted_without, counts.unexposed())?;
    let is_later = !count.fact.kind.is_of_step();
    let driver = Driver {
        key: count.fact.key(),
        label: count.fact.label(),
        conversion_with: with.0,
        conversion_without: without.0,
        odds_ratio: counts.odds_ratio(),
        method: test.method,
        p: test.p,
        p_corrected: test.p,
        finding: Finding::NotTold,
        lost_conversions: weights.lost(&counts, false),
        time_check: is_later.then(|| time_check(&counts, &in_time)),
        counts,
        fact: count.fact,
    };
    Some(Judged {
        driver,
        lost_in_equal_time: weights.lost(&in_time, true),
    })
}

/// Not corrected yet: `holds` only says whether the difference goes the same way.
fn time_check(whole: &Table, in_time: &Table) -> TimeCheck {
    let p = in_time.test().map_or(1.0, |test| test.p);
    let drops_more = |table: &Table| table.odds_ratio().map(|odds| odds.value > 1.0);
    TimeCheck {
        dropped_with: in_time.dropped_with,
        p,
        p_corrected: p,
        holds: drops_more(whole).is_some() && drops_more(whole) == drops_more(in_time),
    }
}

/// Corrects the p values and draws the conclusions.
fn settle(judged: Vec<Judged>) -> Vec<Driver> {
    let p: Vec<f64> = judged.iter().map(|one| one.driver.p).collect();
    let checks = judged.iter().filter_map(|one| one.driver.time_check);
    let checks: Vec<f64> = checks.map(|check| check.p).collect();
    let mut checks = benjamini_hochberg(&checks).into_iter();
    let mut drivers = Vec::new();
    for (one, p_corrected) in judged.into_iter().zip(benjamini_hochberg(&p)) {
        let mut driver = one.driver;
        driver.p_corrected = p_corrected;
        if let Some(check) = &mut driver.time_check {
            check.p_corrected = checks.next().unwrap_or(1.0);
            check.holds &= check.p_corrected < SIGNIFICANT;
        }
        let holds = driver.time_check.is_none_or(|check| check.holds);
        if !holds {
            driver.lost_conversions = one.lost_in_equal_time;
        }
        driver.finding = match (p_corrected < SIGNIFICANT, holds) {
            (false, _) => Finding::NotTold,
            (true, false) => Finding::WatchedLonger,
            (true, true) if driver.conversion_with < driver.conversion_without => {
                Finding::DropsMore
            }
            (true, true) => Finding::DropsLess,
        };
        drivers.push(driver);
    }
    drivers
}

/// How many subjects one of the sample stands for.
struct Weights {
    dropped: f64,
    converted: f64,
}

impl Weights {
    fn new(dropped: Side, converted: Side) -> Self {
        let weight = |side: Side| float(side.total.max(1)) / float(side.sampled.max(1));
        Self {
            dropped: weight(dropped),
            converted: weight(converted),
        }
    }

    /// The share of all subjects who converted, from that of the sample. The sides may have been sampled differently:
    /// that multiplies the odds, and so carries rate and interval over alike.
    fn conversion(&self, converted: u64, of: u64) -> Option<(f64, Interval)> {
        let sample = wilson(converted, of)?;
        let factor = self.converted / self.dropped;
        let all = |rate: f64| factor * rate / (factor * rate + 1.0 - rate);
        let interval = Interval {
            low: all(sample.low),
            high: all(sample.high),
        };
        Some((all(float(converted) / float(of)), interval))
    }

    /// All subjects that the exposed ones of the sample stand for.
    fn subjects(&self, counts: &Table) -> f64 {
        self.dropped * float(counts.dropped_with) + self.converted * float(counts.converted_with)
    }

    /// What the exposed would have converted more; nothing when all or none are exposed.
    fn lost(&self, counts: &Table, in_equal_time: bool) -> LostConversions {
        let with = self.conversion(counts.converted_with, counts.exposed());
        let without = self.conversion(counts.converted_without, counts.unexposed());
        let conversions = |rate: f64| (rate * self.subjects(counts)).max(0.0);
        let (estimate, interval) = with.zip(without).map_or(
            (
                0.0,
                Interval {
                    low: 0.0,
                    high: 0.0,
                },
            ),
            |(with, without)| (without.0 - with.0, difference(without, with)),
        );
        LostConversions {
            estimate: conversions(estimate),
            low: conversions(interval.low),
            high: conversions(interval.high),
            in_equal_time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::why::{
        FactKind,
        exposures::{Exposure, FactBook, FactId, Outcome, count_exposures},
    };

    /// splitmix64 with a fixed seed.
    struct Numbers(u64);

    impl Numbers {
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = self.0;
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            float((bits ^ (bits >> 31)) >> 11) / float(1 << 53)
        }

        fn is(&mut self, probability: f64) -> bool {
            self.unit() < probability
        }
    }

    fn side(total: u64, sampled: u64) -> Side {
        Side { total, sampled }
    }

    fn count(
        kind: FactKind,
        name: &str,
        dropped: u64,
        converted: u64,
        dropped_in_time: u64,
    ) -> FactCount {
        FactCount {
            fact: Fact::new(kind, name, ""),
            dropped,
            converted,
            dropped_in_time,
        }
    }

    fn table(dropped: u64, converted: u64, facts: Vec<FactCount>) -> DriverTable {
        let counts = Counts {
            dropped: side(dropped, dropped),
            converted: side(converted, converted),
            facts_seen: facts.len() as u64,
            facts,
        };
        drivers(counts, &DriverOptions::default())
    }

    /// 400 dropped, 600 converted; of 100 exposed 80 dropped. Conversion 20 of 100 against 580 of 900.
    #[test]
    fn a_driver_by_hand() {
        let table = table(
            400,
            600,
            vec![count(FactKind::PaymentDeclined, "", 80, 20, 80)],
        );
        let driver = &table.drivers[0];
        assert_eq!(
            (driver.key.as_str(), driver.label.as_str()),
            ("payment_declined", "payment declined")
        );
        assert!((driver.conversion_with - 0.2).abs() < 1e-12);
        assert!((driver.conversion_without - 580.0 / 900.0).abs() < 1e-12);
        let odds = driver.odds_ratio.unwrap();
        assert!((odds.value - 80.0 * 580.0 / (20.0 * 320.0)).abs() < 1e-9);
        let lost = driver.lost_conversions;
        assert!((lost.estimate - 100.0 * (580.0 / 900.0 - 0.2)).abs() < 1e-9);
        // 100 * confint_proportions_2indep(580, 900, 20, 100, method='newcomb'), statsmodels 0.15.0
        assert!(
            (lost.low - 35.008_577_291).abs() < 1e-6 && (lost.high - 51.776_740_432).abs() < 1e-6,
            "{lost:?}"
        );
        assert_eq!(driver.finding, Finding::DropsMore);
        assert!(driver.time_check.unwrap().holds && !lost.in_equal_time);
        assert!(table.note.contains("not proof") && table.correction.contains("Benjamini"));
        let json = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<DriverTable>(&json).unwrap(), table);
    }

    #[test]
    fn the_costliest_comes_first_and_what_helps_costs_nothing() {
        let facts = vec![
            count(FactKind::Property, "small", 20, 5, 20),
            count(FactKind::Property, "helps", 10, 200, 10),
            count(FactKind::Property, "large", 200, 50, 200),
        ];
        let table = table(400, 600, facts);
        let names: Vec<&str> = table
            .drivers
            .iter()
            .map(|driver| driver.fact.name.as_str())
            .collect();
        assert_eq!(names, ["large", "small", "helps"]);
        let helps = table.drivers[2].lost_conversions;
        assert!(helps.estimate.abs() < 1e-12 && helps.high.abs() < 1e-12);
        assert!(table.drivers[2].odds_ratio.unwrap().value < 1.0);
        assert!(
            table
                .drivers
                .iter()
                .all(|driver| driver.time_check.is_none())
        );
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let mut facts = vec![
            count(FactKind::Property, "few", 5, 4, 5),
            count(FactKind::Property, "ten", 5, 5, 5),
            count(FactKind::Property, "all", 400, 600, 400),
        ];
        let small = table(400, 600, facts.clone());
        assert_eq!(
            (
                small.compared,
                small.left_out.too_few,
                small.left_out.everybody
            ),
            (1, 1, 1)
        );
        facts.extend(
            (0..1_100).map(|fact| count(FactKind::Failed, &format!("f{fact}"), 20, 20, 20)),
        );
        let large = table(400, 600, facts);
        assert_eq!((large.compared, large.left_out.beyond_limit), (999, 103));
        assert!(
            large.drivers.iter().all(|driver| driver.fact.name != "ten"),
            "fewer were exposed to it"
        );
    }

    #[test]
    fn without_one_side_there_is_no_ratio_and_no_panic() {
        for (dropped, converted) in [(50, 0), (0, 50), (0, 0)] {
            let facts = vec![count(
                FactKind::Failed,
                "pay.failed",
                dropped / 2,
                converted / 2,
                0,
            )];
            let table = table(dropped, converted, facts);
            assert_eq!(table.compared, u64::from(dropped + converted > 0));
            for driver in &table.drivers {
                assert_eq!(driver.odds_ratio, None);
                assert!((driver.p - 1.0).abs() < 1e-12);
                assert_eq!(driver.finding, Finding::NotTold);
                assert!(
                    !driver.time_check.unwrap().holds
                        && driver.lost_conversions.estimate.abs() < 1e-12
                );
            }
        }
        assert!(table(0, 0, Vec::new()).drivers.is_empty());
    }

    #[test]
    fn being_watched_longer_is_told_apart() {
        let seen_more = count(
            FactKind::Latency,
            "seen more by those who stay",
            500,
            100,
            110,
        );
        let real = count(FactKind::Failed, "real", 300, 100, 160);
        let both = table(1_000, 1_000, vec![seen_more, real]);
        let shown: Vec<(&str, Finding, bool)> = both
            .drivers
            .iter()
            .map(|driver| {
                let lost = driver.lost_conversions;
                (
                    driver.fact.name.as_str(),
                    driver.finding,
                    lost.in_equal_time,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("real", Finding::DropsMore, false),
                ("seen more by those who stay", Finding::WatchedLonger, true)
            ],
            "what may only be longer watching costs what it costs in equal time"
        );
        // 210 exposed: 100 of them converted, against 900 of 1,790.
        let lost = both.drivers[1].lost_conversions.estimate;
        assert!((lost - 210.0 * (900.0 / 1_790.0 - 100.0 / 210.0)).abs() < 1e-9);
        let turned = count(
            FactKind::Failed,
            "the other way in equal time",
            500,
            250,
            100,
        );
        let driver = &table(1_000, 1_000, vec![turned]).drivers[0];
        let check = driver.time_check.unwrap();
        assert!(check.p_corrected < 1e-6 && !check.holds);
        assert_eq!(driver.finding, Finding::WatchedLonger);
    }

    /// A sample in which one side is thinned out tells the same rates and losses as the whole.
    #[test]
    fn a_sample_speaks_for_all() {
        let whole = table(
            10_000,
            2_000,
            vec![count(FactKind::Failed, "x", 3_000, 100, 3_000)],
        );
        let counts = Counts {
            dropped: side(10_000, 1_000),
            converted: side(2_000, 2_000),
            facts_seen: 1,
            facts: vec![count(FactKind::Failed, "x", 300, 100, 300)],
        };
        let sample = drivers(counts, &DriverOptions::default());
        let (whole, sample) = (&whole.drivers[0], &sample.drivers[0]);
        assert!((whole.conversion_with - sample.conversion_with).abs() < 1e-12);
        assert!((whole.conversion_without - sample.conversion_without).abs() < 1e-12);
        let (all, part) = (whole.lost_conversions, sample.lost_conversions);
        assert!((all.estimate - part.estimate).abs() < 1e-6);
        assert!(
            part.low < all.low && part.high > all.high,
            "a sample knows less: {part:?} {all:?}"
        );
        assert!((whole.odds_ratio.unwrap().value - sample.odds_ratio.unwrap().value).abs() < 1e-9);
    }

    /// Subjects with independent facts, each held by its own share of them; who has fact 0 converts with another rate.
    fn simulated(seed: u64, subjects: usize, facts: u32, rates: (f64, f64)) -> (DriverTable, f64) {
        let mut numbers = Numbers(seed);
        let mut book = FactBook::default();
        let ids: Vec<FactId> = (0..facts)
            .map(|fact| {
                book.id(Fact::new(FactKind::Failed, &format!("fact {fact}"), ""))
                    .unwrap()
            })
            .collect();
        let mut shares: Vec<f64> = ids.iter().map(|_| 0.1 + 0.4 * numbers.unit()).collect();
        shares[0] = 0.3;
        let (mut outcomes, mut exposures, mut lost) = (Vec::new(), Vec::new(), 0.0);
        for subject in 0..subjects {
            let held = ids.iter().zip(&shares);
            let held: Vec<FactId> = held
                .filter(|(_, share)| numbers.is(**share))
                .map(|(id, _)| *id)
                .collect();
            let is_exposed = held.first() == ids.first();
            lost += if is_exposed { rates.0 - rates.1 } else { 0.0 };
            let converts = numbers.is(if is_exposed { rates.1 } else { rates.0 });
            outcomes.push(if converts {
                Outcome::Converted
            } else {
                Outcome::Dropped
            });
            exposures.push(Exposure {
                subject,
                facts_in_time: held.clone(),
                facts: held,
            });
        }
        let counts = count_exposures(&book, &outcomes, &exposures);
        (drivers(counts, &DriverOptions::default()), lost)
    }

    #[test]
    fn with_no_effect_p_is_uniform_and_nothing_is_found() {
        let (table, _) = simulated(7, 4_000, 400, (0.6, 0.6));
        let mut p: Vec<f64> = table.drivers.iter().map(|driver| driver.p).collect();
        p.sort_by(f64::total_cmp);
        let n = float(p.len() as u64);
        let distance = p.iter().enumerate().map(|(rank, p)| {
            let (below, above) = (float(rank as u64) / n, float(rank as u64 + 1) / n);
            (p - below).abs().max((above - p).abs())
        });
        let distance = distance.fold(0.0, f64::max);
        // Kolmogorov-Smirnov at 1%: 1.63 / sqrt(n).
        assert!(p.len() == 400 && distance < 1.63 / n.sqrt(), "{distance}");
        let found = table
            .drivers
            .iter()
            .filter(|driver| driver.finding != Finding::NotTold)
            .count();
        assert_eq!(found, 0);
    }

    #[test]
    fn a_planted_driver_is_found_first_and_its_loss_lies_in_its_interval() {
        let mut within = 0;
        for seed in 0..200 {
            let (table, lost) = simulated(seed, 1_500, 20, (0.6, 0.35));
            let first = &table.drivers[0];
            assert_eq!(first.fact.name, "fact 0", "seed {seed}");
            assert_eq!(first.finding, Finding::DropsMore);
            let interval = first.lost_conversions;
            within += u32::from((interval.low..=interval.high).contains(&lost));
        }
        // 95% of 200 is 190; fewer than 180 has a chance of 1 in 800.
        assert!((180..=200).contains(&within), "{within}");
    }
}

//! From the turns of a benchmark to its figures: what watching costs, against whom, and the goals beside it.
//!
//! A ratio or a difference is taken within each round and the median of the rounds is quoted, so that a machine whose
//! speed drifts between rounds does not look like a cost.

use serde_json::{Value, json};

use super::measure::median;
use crate::shell::say;

/// A server under load for some seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) requests: u32,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) server_cpu_us: f64,
    pub(super) client_cpu_us: f64,
}

/// The same while somebody watches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    pub(super) turn: Turn,
    /// CPU time of the watching process, its work on what it took up to the end included.
    pub(super) watcher_cpu_us: f64,
    /// Of a further turn, because the kernel's statistics cost something themselves.
    pub(super) bpf_us_per_request: f64,
    /// Exchanges or events that should have been seen in both turns.
    pub(super) expected: u64,
    pub(super) seen: u64,
    /// What the watcher itself says it lost.
    pub(super) lost: u64,
}

/// All rounds of one server under one load.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) unwatched: Vec<Turn>,
    pub(super) weir: Vec<Watched>,
    pub(super) baseline: Vec<Watched>,
}

/// The most that each figure should be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goals {
    /// Server CPU per request, watched over unwatched.
    pub(super) ratio: f64,
    pub(super) bpf_us: f64,
    /// Our tax over the baseline's.
    pub(super) share_of_baseline: f64,
}

/// A watcher's cost beside the unwatched server.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    tax_us: f64,
    ratio: f64,
    lowest_ratio: f64,
    highest_ratio: f64,
}

impl Turn {
    fn server_us(&self) -> f64 {
        self.server_cpu_us / f64::from(self.requests)
    }

    fn both_ends_us(&self) -> f64 {
        (self.server_cpu_us + self.client_cpu_us) / f64::from(self.requests)
    }
}

impl Watched {
    fn cores_per_10k(&self) -> f64 {
        self.watcher_cpu_us / f64::from(self.turn.requests) * 10_000.0 / 1e6
    }

    const fn missing(&self) -> u64 {
        self.expected.saturating_sub(self.seen)
    }
}

impl Rounds {
    fn cost(&self, watched: &[Watched], of: fn(&Turn) -> f64) -> Cost {
        let pairs = || {
            self.unwatched
                .iter()
                .zip(watched)
                .map(|(unwatched, watched)| (of(unwatched), of(&watched.turn)))
        };
        let ratios = || pairs().map(|(without, with)| with / without);
        Cost {
            tax_us: median(pairs().map(|(without, with)| with - without)),
            ratio: median(ratios()),
            lowest_ratio: ratios().fold(f64::INFINITY, f64::min),
            highest_ratio: ratios().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// How far one unwatched turn is from the next: a tax below this is not told from nothing. Unknown after one round.
    fn noise_us(&self) -> f64 {
        let costs = self.unwatched.iter().map(Turn::server_us);
        let nexts = self.unwatched.iter().skip(1).map(Turn::server_us);
        median(costs.zip(nexts).map(|(one, next)| (next - one).abs()))
    }

    /// Medians of one figure: unwatched, watched by us, watched by the baseline.
    fn medians(&self, of: impl Fn(&Turn) -> f64) -> [f64; 3] {
        let watched = |list: &[Watched]| median(list.iter().map(|watched| of(&watched.turn)));
        [
            median(self.unwatched.iter().map(&of)),
            watched(&self.weir),
            watched(&self.baseline),
        ]
    }

    /// Says the figures and gives them.
    pub(super) fn report(&self, name: &str, goals: Goals) -> Value {
        say(name);
        let mut figures = json!({ "name": name });
        let parts = [
            self.report_cpu(goals),
            self.report_service(),
            self.report_watchers(goals),
        ];
        if let Some(figures) = figures.as_object_mut() {
            for part in parts {
                figures.extend(part.as_object().cloned().unwrap_or_default());
            }
        }
        figures
    }

    fn report_cpu(&self, goals: Goals) -> Value {
        let [unwatched, weir, baseline] = self.medians(Turn::server_us);
        say(&format!(
            "  server CPU per request   {unwatched:.2} us unwatched, {weir:.2} us with Weir, {baseline:.2} us with the baseline"
        ));
        let ours = self.cost(&self.weir, Turn::server_us);
        let theirs = self.cost(&self.baseline, Turn::server_us);
        say(&format!(
            "  Weir's tax               {:.2} us: {:.3} times, {:.3} to {:.3} over the rounds ({})",
            ours.tax_us,
            ours.ratio,
            ours.lowest_ratio,
            ours.highest_ratio,
            judged(ours.ratio, goals.ratio),
        ));
        let share = ours.tax_us / theirs.tax_us;
        say(&format!(
            "  the baseline's tax       {:.2} us: {:.3} times; Weir's is {share:.3} of it ({})",
            theirs.tax_us,
            theirs.ratio,
            judged(share, goals.share_of_baseline),
        ));
        let noise = self.noise_us();
        say(&format!(
            "  noise                    {noise:.2} us from one unwatched turn to the next"
        ));
        let both = self.cost(&self.weir, Turn::both_ends_us);
        let both_theirs = self.cost(&self.baseline, Turn::both_ends_us);
        let both_share = both.tax_us / both_theirs.tax_us;
        say(&format!(
            "  with the client's CPU    {:.2} us Weir, {:.2} us the baseline: {both_share:.3} of it",
            both.tax_us, both_theirs.tax_us,
        ));
        json!({
            "server_cpu_us_per_request": { "unwatched": unwatched, "weir": weir, "baseline": baseline },
            "ratio": {
                "weir": ours.ratio, "weir_lowest": ours.lowest_ratio, "weir_highest": ours.highest_ratio,
                "baseline": theirs.ratio, "goal": goal(ours.ratio, goals.ratio),
            },
            "tax_us": {
                "weir": ours.tax_us, "baseline": theirs.tax_us, "quotient": share,
                "noise": noise, "goal": goal(share, goals.share_of_baseline),
            },
            "tax_us_both_ends": { "weir": both.tax_us, "baseline": both_theirs.tax_us, "quotient": both_share },
        })
    }

    /// What the server's users feel.
    fn report_service(&self) -> Value {
        let rate = self.medians(|turn| turn.per_second);
        let (p50, p99) = (
            self.medians(|turn| turn.p50_us),
            self.medians(|turn| turn.p99_us),
        );
        let [unwatched, weir, baseline] = rate;
        say(&format!(
            "  throughput               {unwatched:.0}/s unwatched, {weir:.0}/s with Weir, {baseline:.0}/s with the baseline"
        ));
        let [p50_unwatched, p50_weir, p50_baseline] = p50;
        let [p99_unwatched, p99_weir, p99_baseline] = p99;
        say(&format!(
            "  p50, p99                 {p50_unwatched:.0}, {p99_unwatched:.0} us unwatched; {p50_weir:.0}, {p99_weir:.0} us with Weir; \
             {p50_baseline:.0}, {p99_baseline:.0} us with the baseline"
        ));
        let all = |[unwatched, weir, baseline]: [f64; 3]| json!({ "unwatched": unwatched, "weir": weir, "baseline": baseline });
        json!({ "requests_per_second": all(rate), "p50_us": all(p50), "p99_us": all(p99) })
    }

    fn report_watchers(&self, goals: Goals) -> Value {
        let bpf = |list: &[Watched]| median(list.iter().map(|watched| watched.bpf_us_per_request));
        let cores = |list: &[Watched]| median(list.iter().map(Watched::cores_per_10k));
        let (ours, theirs) = (bpf(&self.weir), bpf(&self.baseline));
        say(&format!(
            "  BPF per request          {ours:.2} us Weir ({}), {theirs:.2} us the baseline",
            judged(ours, goals.bpf_us),
        ));
        let (cores_ours, cores_theirs) = (cores(&self.weir), cores(&self.baseline));
        say(&format!(
            "  CPU per 10,000/s         {cores_ours:.3} cores the collector, {cores_theirs:.3} cores bpftrace"
        ));
        let (weir, is_lossless) = loss("Weir, exchanges", &self.weir);
        let (baseline, _) = loss("baseline, events", &self.baseline);
        say(&format!(
            "  Weir's loss              goal 0: {}",
            met(is_lossless)
        ));
        json!({
            "bpf_us_per_request": { "weir": ours, "baseline": theirs, "goal": goal(ours, goals.bpf_us) },
            "watcher_cores_per_10000_requests_per_second": { "weir": cores_ours, "baseline": cores_theirs },
            "loss": { "weir": weir, "baseline": baseline, "goal": { "at_most": 0, "met": is_lossless } },
        })
    }
}

/// Over all rounds, and whether nothing is missing.
fn loss(name: &str, watched: &[Watched]) -> (Value, bool) {
    let sum = |of: fn(&Watched) -> u64| watched.iter().map(of).sum::<u64>();
    let (expected, seen) = (sum(|it| it.expected), sum(|it| it.seen));
    let (missing, lost) = (sum(Watched::missing), sum(|it| it.lost));
    say(&format!(
        "  {name:<24} {expected} expected, {seen} seen, {missing} missing, {lost} lost by its own count"
    ));
    let figures = json!({ "expected": expected, "seen": seen, "missing": missing, "lost": lost });
    (figures, missing == 0 && lost == 0)
}

/// A goal for the terminal.
fn judged(figure: f64, at_most: f64) -> String {
    format!("goal {at_most:.2}: {}", met(figure <= at_most))
}

pub(super) const fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

fn goal(figure: f64, at_most: f64) -> Value {
    json!({ "at_most": at_most, "met": figure <= at_most })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(server_cpu_us: f64) -> Turn {
        Turn {
            requests: 10,
            per_second: 1.0,
            p50_us: 1.0,
            p99_us: 1.0,
            server_cpu_us,
            client_cpu_us: 50.0,
        }
    }

    fn watched(server_cpu_us: f64, seen: u64) -> Watched {
        Watched {
            turn: turn(server_cpu_us),
            watcher_cpu_us: 20.0,
            bpf_us_per_request: 1.0,
            expected: 10,
            seen,
            lost: 0,
        }
    }

    #[test]
    fn a_machine_that_slows_down_is_no_tax() {
        let rounds = Rounds {
            unwatched: vec![turn(100.0), turn(200.0), turn(400.0)],
            weir: vec![watched(110.0, 10), watched(220.0, 10), watched(440.0, 10)],
            baseline: vec![watched(150.0, 10), watched(300.0, 10), watched(600.0, 10)],
        };
        let cost = rounds.cost(&rounds.weir, Turn::server_us);
        assert!((cost.ratio - 1.1).abs() < 1e-9, "{cost:?}");
        assert!((cost.lowest_ratio - 1.1).abs() < 1e-9, "{cost:?}");
        assert!((cost.highest_ratio - 1.1).abs() < 1e-9, "{cost:?}");
        assert!((cost.tax_us - 2.0).abs() < 1e-9, "{cost:?}");
        // Per request 10, 20, 40 us: steps of 10 and 20, of which the upper one is the middle of two.
        assert!((rounds.noise_us() - 20.0).abs() < 1e-9);
        let goals = Goals {
            ratio: 1.08,
            bpf_us: 4.0,
            share_of_baseline: 1.0 / 3.0,
        };
        let figures = rounds.report("test", goals);
        assert_eq!(figures["ratio"]["goal"]["met"], false);
        assert_eq!(figures["tax_us"]["goal"]["met"], true);
        let quotient = figures["tax_us"]["quotient"].as_f64().unwrap();
        assert!((quotient - 0.2).abs() < 1e-9, "{quotient}");
        let cores = figures["watcher_cores_per_10000_requests_per_second"]["weir"].as_f64();
        // 2 us per request, 10,000 times a second.
        assert!((cores.unwrap() - 0.02).abs() < 1e-9, "{cores:?}");
    }

    #[test]
    fn what_one_round_misses_another_does_not_make_up() {
        let rounds = [watched(1.0, 7), watched(1.0, 15)];
        let (figures, is_lossless) = loss("test", &rounds);
        assert!(!is_lossless);
        assert_eq!(figures["missing"], 3);
        assert!(loss("test", &[watched(1.0, 10)]).1);
    }
}

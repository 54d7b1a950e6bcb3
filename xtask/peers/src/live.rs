//! Live funnels in memory, on one thread: how many events a second one of them takes in.
//!
//! Events are made in pieces outside of the measured time, and applied as the feed applies them: whole events, with
//! conditions looked up by name, the subject's key made and its state kept. One in a hundred is late, one in fifty falls
//! on the instant of another.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Context as _;
use clap::Args;
use funnel_engine::{
    Event, FunnelDefinition, Shape,
    feed::Compiled,
    live::{LiveConfig, LiveFunnel, LiveSet, Tumbling},
    matching::{Matcher, Wants},
};
use serde_json::{Value, json};

#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    /// Events of each case.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
}

/// Events made at once.
const PIECE: u64 = 100_000;
/// 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600_000_000_000;
/// All events of a case lie within six hours.
const SPAN_NS: i64 = 6 * 3_600_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

pub(crate) fn run(args: &LiveArgs) -> anyhow::Result<Value> {
    let mut cases = Vec::new();
    for users in [100_000, 1_000_000] {
        for steps in [3, 10] {
            for excludes in [false, true] {
                cases.push(case(args.events, users, steps, excludes)?);
            }
        }
    }
    Ok(json!({ "threads": 1, "cases": cases }))
}

fn case(events: u64, users: u64, steps: u64, excludes: bool) -> anyhow::Result<Value> {
    let definition = definition(steps, excludes)?;
    let mut config = LiveConfig::new(Tumbling::HOUR);
    config.bounds.subjects = usize::try_from(users)?;
    let shape = Shape::of(&definition);
    let matcher = Matcher::new(&shape, Wants { attempts: true });
    let funnel = LiveFunnel::new(&definition, Box::new(matcher), config)?;
    let mut set = LiveSet::new();
    set.register(funnel, Box::new(Compiled::new(&definition)))?;
    let (mut seconds, mut cpu_seconds) = (0.0, 0.0);
    let mut first = 0;
    while first < events {
        let end = events.min(first + PIECE);
        let piece: Vec<Event> = (first..end)
            .map(|number| event(number, events, users, steps))
            .collect();
        let (started, cpu_started) = (Instant::now(), cpu_seconds_so_far()?);
        for event in &piece {
            set.apply(event, None)?;
        }
        cpu_seconds += cpu_seconds_so_far()? - cpu_started;
        seconds += started.elapsed().as_secs_f64();
        first = end;
    }
    let started = Instant::now();
    let windows = set.take_changes(usize::MAX);
    let seconds_to_publish = started.elapsed().as_secs_f64();
    let (_, counts) = set.counts().next().context("there is one funnel")?;
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    let rate = events as f64 / cpu_seconds;
    Ok(json!({
        "users": users, "steps": steps, "exclusion": excludes, "events": events, "seconds": seconds,
        "cpu_seconds": cpu_seconds, "events_per_cpu_s": rate, "applied": counts.applied, "replayed": counts.replayed, "too_late": counts.too_late,
        "subjects": counts.subjects, "marks": counts.marks, "windows": windows.len(),
        "seconds_to_publish": seconds_to_publish,
        "counts_of_first_window": windows.first().map(|window| window.counts().collect::<Vec<_>>()),
    }))
}

/// How long this thread has been on a core: what others do on the machine does not count.
fn cpu_seconds_so_far() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: u64 = text
        .split_whitespace()
        .next()
        .context("the kernel keeps no scheduler statistics")?
        .parse()?;
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    let seconds = ns as f64 / 1e9;
    Ok(seconds)
}

fn definition(steps: u64, excludes: bool) -> anyhow::Result<FunnelDefinition> {
    let step = |step: u64| json!({ "name": step.to_string(), "event": format!("e{step}") });
    let exclusions = if excludes {
        json!([{ "event": format!("e{steps}"), "from_step": 1, "to_step": 2 }])
    } else {
        json!([])
    };
    let json = json!({
        "name": "bench", "window": "1h", "steps": (0..steps).map(step).collect::<Vec<_>>(), "exclusions": exclusions,
    });
    Ok(FunnelDefinition::parse(&json.to_string())?)
}

/// Every event is something to the funnel with an exclusion; without one, the last of the names is nothing to it.
fn event(number: u64, events: u64, users: u64, steps: u64) -> Event {
    let dice = mixed(number);
    let place = i128::from(number) * i128::from(SPAN_NS) / i128::from(events);
    let mut at_ns = START_NS + i64::try_from(place).unwrap_or(0);
    if dice.is_multiple_of(100) {
        at_ns -= 2 * MINUTE_NS;
    } else if dice.is_multiple_of(51) {
        at_ns -= at_ns % (MINUTE_NS / 60);
    }
    Event {
        user: Some(format!("u{}", mixed(dice) % users)),
        at_ns,
        name: format!("e{}", mixed(dice ^ 1) % (steps + 1)),
        properties: BTreeMap::from([("tenant".to_owned(), Value::from("t1"))]),
    }
}

/// splitmix64.
const fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

//! Asking the index and its rivals the same questions; whose answers differ, the run ends.

use std::{num::NonZero, time::Instant};

use anyhow::{Context as _, ensure};
use event_store::Store;
use funnel_engine::{
    Bar, FunnelDefinition, FunnelResult, IndexView, StoreIndex, Which, last_steps,
    run_on_clickhouse, run_on_index,
};
use serde_json::{Value, json};

use super::{definitions::definition, median, shops::Shop};

/// Members on a page of a list.
const PAGE: usize = 100;
/// A statement of the store that takes longer than this is asked once, not in rounds.
const SLOW_S: f64 = 5.0;

/// Who is asked, and how often.
pub(super) struct Asking<'a> {
    store: &'a Store,
    index: StoreIndex,
    rounds: usize,
    cores: usize,
}

/// A figure and the answer that came with it.
struct Timed {
    seconds: f64,
    counts: Vec<u64>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(store: &'a Store, index: StoreIndex, rounds: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            store,
            index,
            rounds,
            cores,
        }
    }

    /// Our figures as a line: by one thread and by all cores, warm.
    pub(super) async fn line(
        &mut self,
        shop: &Shop,
        definition: &FunnelDefinition,
    ) -> anyhow::Result<(Value, FunnelResult)> {
        let scope = shop.scope()?;
        let started = Instant::now();
        self.index
            .load_columns(self.store, &scope, definition)
            .await?;
        let loaded = started.elapsed().as_secs_f64();
        let snapshot = self.index.index().snapshot(Some(&shop.tenant))?;
        let ask = |threads: usize| -> anyhow::Result<(f64, FunnelResult)> {
            let mut result = run_on_index(definition, &snapshot, threads)?;
            let mut seconds = Vec::new();
            for _ in 0..self.rounds {
                let started = Instant::now();
                result = run_on_index(definition, &snapshot, threads)?;
                seconds.push(started.elapsed().as_secs_f64());
            }
            Ok((median(seconds), result))
        };
        let (one, _) = ask(1)?;
        let (all, result) = ask(self.cores)?;
        let line = json!({
            "shop": shop.tenant, "events": shop.events, "users": shop.users, "definition": definition.name,
            "counts": counts(&result), "values": result.breakdown.len() as u64 + result.breakdown_omitted,
            "seconds_one_thread": one, "seconds": all, "columns_seconds": loaded,
        });
        Ok((line, result))
    }

    /// The engine's own function, with the settings that make it fastest on this table; the faster of reading in order
    /// and not.
    async fn window_funnel(&self, shop: &Shop, steps: usize) -> anyhow::Result<Timed> {
        let column =
            |of: &dyn Fn(usize) -> String| (0..steps).map(of).collect::<Vec<_>>().join(", ");
        let conditions = column(&|step| format!("event = 'e{step}'"));
        let names = column(&|step| format!("'e{step}'"));
        let reached = column(&|step| format!("countIf(level > {step})"));
        let mut best: Option<Timed> = None;
        for in_order in [0, 1] {
            let text = format!(
                "SELECT [{reached}] AS counts FROM (SELECT windowFunnel(3600000)(toUInt64(toUnixTimestamp64Milli(timestamp)), {conditions}) AS level \
                 FROM events WHERE tenant_id = ? AND event IN ({names}) GROUP BY tenant_id, user_id) \
                 SETTINGS optimize_aggregation_in_order = {in_order}"
            );
            let mut seconds = Vec::new();
            let mut counts: Vec<u64> = Vec::new();
            // The first is to warm up.
            for round in 0..=self.rounds {
                let started = Instant::now();
                let query = self.store.database().query(&text);
                counts = query.bind(&shop.tenant).fetch_one().await?;
                if round > 0 {
                    seconds.push(started.elapsed().as_secs_f64());
                }
            }
            let seconds = median(seconds);
            if best.as_ref().is_none_or(|best| seconds < best.seconds) {
                best = Some(Timed { seconds, counts });
            }
        }
        best.context("no round was run")
    }

    /// The statement that gives the same answer, breakdown included.
    async fn statement(
        &self,
        shop: &Shop,
        definition: &FunnelDefinition,
        ours: &FunnelResult,
    ) -> anyhow::Result<f64> {
        let scope = shop.scope()?;
        let mut seconds = Vec::new();
        for round in 0..=self.rounds {
            let started = Instant::now();
            let theirs = run_on_clickhouse(self.store, &scope, definition).await?;
            let took = started.elapsed().as_secs_f64();
            let values = |result: &FunnelResult| {
                let rows = result.breakdown.iter();
                rows.map(|row| {
                    (
                        row.value.clone(),
                        row.steps.iter().map(|step| step.count).collect::<Vec<_>>(),
                    )
                })
                .collect::<Vec<_>>()
            };
            ensure!(
                counts(ours) == counts(&theirs) && values(ours) == values(&theirs),
                "the store and the index differ in {}",
                definition.name
            );
            if round > 0 || took > SLOW_S {
                seconds.push(took);
            }
            if took > SLOW_S {
                break;
            }
        }
        Ok(median(seconds))
    }
}

fn counts(result: &FunnelResult) -> Vec<u64> {
    result.steps.iter().map(|step| step.count).collect()
}

fn against(line: &mut Value, baseline: &str, seconds: f64, goal: u64) {
    let ours = line.get("seconds").and_then(Value::as_f64);
    if let (Some(line), Some(ours)) = (line.as_object_mut(), ours) {
        line.insert("baseline".to_owned(), json!(baseline));
        line.insert("baseline_seconds".to_owned(), json!(seconds));
        line.insert("ratio".to_owned(), json!(seconds / ours));
        line.insert("goal".to_owned(), json!(goal));
    }
}

pub(super) async fn of_few(asking: &mut Asking<'_>, shop: &Shop) -> anyhow::Result<Vec<Value>> {
    let definition = definition(3, &[], None)?;
    let (mut line, result) = asking.line(shop, &definition).await?;
    let theirs = asking.window_funnel(shop, 3).await?;
    ensure!(
        theirs.counts == counts(&result),
        "windowFunnel counts {:?}",
        theirs.counts
    );
    against(&mut line, "windowFunnel", theirs.seconds, 10);
    Ok(vec![line])
}

pub(super) async fn of_many(asking: &mut Asking<'_>, shop: &Shop) -> anyhow::Result<Vec<Value>> {
    let mut lines = Vec::new();
    let definition_of_three = definition(3, &[], None)?;
    let (mut line, result) = asking.line(shop, &definition_of_three).await?;
    let theirs = asking.window_funnel(shop, 3).await?;
    ensure!(
        theirs.counts == counts(&result),
        "windowFunnel counts {:?}",
        theirs.counts
    );
    against(&mut line, "windowFunnel", theirs.seconds, 25);
    lines.push(line);
    let exclusions = [(10, 1, 3), (11, 2, 10)];
    for breakdown in [None, Some("device")] {
        let definition = definition(10, &exclusions, breakdown)?;
        let (mut line, result) = asking.line(shop, &definition).await?;
        let seconds = asking.statement(shop, &definition, &result).await?;
        against(&mut line, "one SQL statement", seconds, 10);
        lines.push(line);
    }
    for steps in [2, 4, 8, 16, 32] {
        lines.push(asking.line(shop, &definition(steps, &[], None)?).await?.0);
    }
    Ok(lines)
}

/// Opening the first page of those who dropped off, with the session and trace of each.
pub(super) async fn lists(asking: &mut Asking<'_>, shop: &Shop) -> anyhow::Result<Vec<Value>> {
    let definition = definition(3, &[], None)?;
    let scope = shop.scope()?;
    let snapshot = asking.index.index().snapshot(Some(&shop.tenant))?;
    let mut lines = Vec::new();
    for step in [1, 2] {
        let bar = Bar {
            step,
            which: Which::Dropped,
        };
        let (mut found, mut looked_up, mut members) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..=asking.rounds {
            let started = Instant::now();
            let view = IndexView::of(&definition, &snapshot)?;
            members = view.members(&definition, bar, (None, PAGE), asking.cores)?;
            found.push(started.elapsed().as_secs_f64());
            last_steps(asking.store, &scope, &definition, &members).await?;
            looked_up.push(started.elapsed().as_secs_f64());
        }
        lines.push(json!({
            "shop": shop.tenant, "step": step, "members": members.len(), "seconds_to_find": median(found),
            "seconds": median(looked_up),
        }));
    }
    Ok(lines)
}

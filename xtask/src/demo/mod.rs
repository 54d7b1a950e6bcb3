//! `cargo xtask demo`: the whole river on this machine, from kernel probes to the funnel.

mod journey;
mod ledger;
mod parts;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use self::parts::{Place, Ports, STEPS, TENANTS};
use crate::{
    process::{self, Running},
    setup,
    shell::{self, say},
};

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Run one wave of shoppers, write the results, and end.
    #[arg(long)]
    once: bool,
    /// How many shoppers.
    #[arg(long, default_value_t = 500)]
    shoppers: u32,
    /// Same seed, same shoppers.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Where results go.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
}

/// Two cores verify about 30 passwords a second, which is what a login costs; beyond that the shop queues.
const ARRIVALS_PER_SECOND: u32 = 20;
/// Shoppers of one wave of the live demo, and how many different ones there are before they come again.
const WAVE: u32 = 60;
const LIVE_USERS_PER_TENANT: u32 = 3_000;
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    setup::make_ready(setup::Purpose::Demo)?;
    say("building (about ten minutes the first time, seconds after)");
    // The whole workspace, as `cargo xtask test` does: a part of it would have other features, and build twice.
    shell::cargo(&["build", "--workspace", "--locked"])?;
    let built = Instant::now();
    let mut river = River::start(args)?;
    say(&format!(
        "the river runs, {} s after the build",
        built.elapsed().as_secs()
    ));
    if args.once {
        river.shoppers((0, args.shoppers), args.seed)?;
        let summary = river.finish(args, started)?;
        say(&format!("results in {}: {summary}", args.out.display()));
        return Ok(());
    }
    say("press Ctrl-C to stop");
    let stopped = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stopped);
    ctrlc::set_handler(move || stopping.store(true, Ordering::Relaxed))
        .context("while listening for Ctrl-C")?;
    for wave in 0_u32.. {
        let first = wave.wrapping_mul(WAVE) % (LIVE_USERS_PER_TENANT * TENANTS - WAVE);
        let shown = river
            .shoppers((first, WAVE), args.seed + u64::from(wave))
            .and_then(|()| river.show());
        // Ctrl-C reaches the shoppers too, and their end is not an error then.
        if stopped.load(Ordering::Relaxed) {
            say("stopping");
            break;
        }
        shown?;
    }
    Ok(())
}

/// Everything that runs. Parts end in reverse order of their start, when dropped.
struct River {
    place: Place,
    gateway: String,
    store_url: String,
    metrics_url: String,
    console_url: String,
    shop: Option<Running>,
    collector: Option<Running>,
    _console: Running,
    _store: Running,
    _data: process::Folder,
}

impl River {
    fn start(args: &DemoArgs) -> anyhow::Result<Self> {
        let out = std::path::absolute(&args.out).context("while resolving --out")?;
        fs::create_dir_all(&out).with_context(|| format!("while creating {}", out.display()))?;
        let data = process::Folder::create()?;
        let place = Place {
            binaries: binaries_folder()?,
            data: data.path().to_owned(),
            out,
        };
        let ports = Ports::choose(args.once)?;
        let (store, store_url) = place.store(ports.store)?;
        let collector = place.collector(&store_url, ports)?;
        let users = if args.once {
            args.shoppers.div_ceil(TENANTS)
        } else {
            LIVE_USERS_PER_TENANT
        };
        let shop = place.shop(users, ports)?;
        let (console, console_url) = place.console(&store_url, ports.console)?;
        fs::write(
            place.out.join("definition.json"),
            parts::definition().to_string(),
        )
        .context("while writing the definition")?;
        let river = Self {
            place,
            gateway: format!("http://127.0.0.1:{}", ports.shop),
            store_url,
            metrics_url: format!("http://127.0.0.1:{}/metrics", ports.metrics),
            console_url,
            shop: Some(shop),
            collector: Some(collector),
            _console: console,
            _store: store,
            _data: data,
        };
        river.say_addresses();
        Ok(river)
    }

    fn say_addresses(&self) {
        say(&format!("open     {}", self.console_url));
        say(&format!("shop     {}", self.gateway));
        say(&format!("store    {}", self.store_url));
        say(&format!("metrics  {}", self.metrics_url));
    }

    /// One wave of shoppers; returns when the last has left.
    fn shoppers(&self, (first, count): (u32, u32), seed: u64) -> anyhow::Result<()> {
        say(&format!("{count} shoppers with seed {seed}"));
        let ledger = self.place.out.join("ledger.ndjson");
        let args = [
            "--shop",
            &self.gateway,
            "--shoppers",
            &count.to_string(),
            "--first",
            &first.to_string(),
            "--seed",
            &seed.to_string(),
            "--rate",
            &ARRIVALS_PER_SECOND.to_string(),
            "--tenants",
            &TENANTS.to_string(),
            "--ledger",
            &ledger.to_string_lossy(),
        ];
        shell::run(&self.place.program("shoppers"), &args)
    }

    /// The funnel as a table.
    fn show(&self) -> anyhow::Result<()> {
        shell::run(
            &self.place.program("funnel"),
            &self
                .funnel_args("table")
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        )
    }

    /// Ends the shop and the collector in order, asks for the funnel, and compares it with the ledger.
    fn finish(&mut self, args: &DemoArgs, started: Instant) -> anyhow::Result<Value> {
        for part in [self.shop.take(), self.collector.take()]
            .into_iter()
            .flatten()
        {
            part.end()?;
        }
        let arguments = self.funnel_args("json");
        let text = shell::output_of(
            &self.place.program("funnel"),
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .context("the funnel was not answered; `funnel run` says why")?;
        fs::write(self.place.out.join("funnel.json"), &text)
            .context("while writing funnel.json")?;
        self.show()?;
        self.write_report(args)?;
        let funnel: Value = serde_json::from_str(&text).context("funnel.json is no JSON")?;
        let captured: Vec<u64> = funnel
            .get("steps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|step| step.get("count")?.as_u64())
            .collect();
        let expected = ledger::expected(&self.place.out.join("ledger.ndjson"), STEPS)?;
        let collected: Value = serde_json::from_str(
            &fs::read_to_string(self.place.out.join("collector.json"))
                .context("the collector left no summary")?,
        )?;
        let lost = collected
            .get("lost")
            .and_then(Value::as_u64)
            .context("the collector's summary has no `lost`")?;
        let by_step = |counts: &[u64]| {
            STEPS
                .iter()
                .zip(counts)
                .map(|((name, _), count)| json!({ "step": name, "count": count }))
                .collect::<Vec<_>>()
        };
        let followed = journey::follow(&self.console_url, &captured)?;
        let summary = json!({
            "expected": by_step(&expected), "captured": by_step(&captured), "lost_records": lost, "drop_offs_followed": followed,
            "urls": { "console": without_token(&self.console_url), "gateway": self.gateway, "store": self.store_url, "metrics": self.metrics_url },
            "shoppers": args.shoppers, "seed": args.seed, "elapsed_s": started.elapsed().as_secs_f64(),
        });
        fs::write(
            self.place.out.join("summary.json"),
            serde_json::to_string_pretty(&summary)?,
        )
        .context("while writing summary.json")?;
        ensure!(
            captured == expected,
            "captured {captured:?}, but the ledger says {expected:?}"
        );
        if lost > 0 {
            bail!(
                "{lost} records were lost; see {}",
                self.place.out.join("collector.json").display()
            );
        }
        Ok(summary)
    }

    fn write_report(&self, args: &DemoArgs) -> anyhow::Result<()> {
        let (funnel, out) = (
            self.place.out.join("funnel.json"),
            self.place.out.to_string_lossy(),
        );
        let period = format!("{} simulated shoppers, seed {}", args.shoppers, args.seed);
        shell::run(
            &self.place.program("funnel"),
            &[
                "report",
                "--funnel",
                &funnel.to_string_lossy(),
                "--title",
                "From login to payment",
                "--period",
                &period,
                "--out",
                &out,
            ],
        )
    }

    fn funnel_args(&self, format: &str) -> Vec<String> {
        let definition = self.place.out.join("definition.json");
        [
            "run",
            "--definition",
            &definition.to_string_lossy(),
            "--backend",
            "clickhouse",
            "--clickhouse",
            &self.store_url,
            "--format",
            format,
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

/// The address without what signs in: results are passed on, tokens are not.
fn without_token(url: &str) -> &str {
    url.split_once('?').map_or(url, |(address, _)| address)
}

/// Where cargo puts the binaries: beside the one that runs now.
fn binaries_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("while looking for the binaries")?;
    Ok(own.parent().context("the binary has a folder")?.to_owned())
}

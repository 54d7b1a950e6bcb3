//! `cargo xtask demo`: the whole river on this machine, from kernel probes to the funnel.

mod ledger;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    ports,
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

const TENANTS: u32 = 3;
/// Two cores verify about 30 passwords a second, which is what a login costs; beyond that the shop queues.
const ARRIVALS_PER_SECOND: u32 = 20;
/// Shoppers of one wave of the live demo, and how many different ones there are before they come again.
const WAVE: u32 = 60;
const LIVE_USERS_PER_TENANT: u32 = 3_000;
const STEPS: &[(&str, &str)] = &[("Login", "login"), ("Cart", "cart"), ("Pay", "pay")];
const BINARIES: &[&str] = &[
    "event-store",
    "collector",
    "funnel",
    "commerce-core",
    "shoppers",
];

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    setup::run_all()?;
    say("building (about ten minutes the first time, seconds after)");
    let packages: Vec<&str> = BINARIES
        .iter()
        .flat_map(|name| ["--package", name])
        .collect();
    shell::cargo(&[&["build", "--locked"], packages.as_slice()].concat())?;
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
    out: PathBuf,
    gateway: String,
    store_url: String,
    binaries: PathBuf,
    shop: Option<Running>,
    collector: Option<Running>,
    _store: Running,
    _data: process::Folder,
}

impl River {
    fn start(args: &DemoArgs) -> anyhow::Result<Self> {
        let out = std::path::absolute(&args.out).context("while resolving --out")?;
        fs::create_dir_all(&out).with_context(|| format!("while creating {}", out.display()))?;
        let binaries = binaries_folder()?;
        let data = process::Folder::create()?;
        let (store, store_url) = start_store(&binaries, data.path(), &out)?;
        let shop_port = ports::free_row(5)?;
        let otlp_port = ports::free_row(1)?;
        let metrics_port = ports::free_row(1)?;
        let collector = start_collector(
            &binaries,
            data.path(),
            &out,
            &store_url,
            (shop_port, otlp_port, metrics_port),
        )?;
        let shop = start_shop(&binaries, data.path(), &out, args, (shop_port, otlp_port))?;
        let gateway = format!("http://127.0.0.1:{shop_port}");
        say(&format!(
            "shop {gateway}   store {store_url}   metrics http://127.0.0.1:{metrics_port}/metrics"
        ));
        fs::write(out.join("definition.json"), definition().to_string())
            .context("while writing the definition")?;
        Ok(Self {
            out,
            gateway,
            store_url,
            binaries,
            shop: Some(shop),
            collector: Some(collector),
            _store: store,
            _data: data,
        })
    }

    /// One wave of shoppers; returns when the last has left.
    fn shoppers(&self, (first, count): (u32, u32), seed: u64) -> anyhow::Result<()> {
        say(&format!("{count} shoppers with seed {seed}"));
        let ledger = self.out.join("ledger.ndjson");
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
        shell::run(&self.program("shoppers"), &args)
    }

    /// The funnel as a table.
    fn show(&self) -> anyhow::Result<()> {
        shell::run(
            &self.program("funnel"),
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
            &self.program("funnel"),
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .context("the funnel was not answered; `funnel run` says why")?;
        fs::write(self.out.join("funnel.json"), &text).context("while writing funnel.json")?;
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
        let expected = ledger::expected(&self.out.join("ledger.ndjson"), STEPS)?;
        let collected: Value = serde_json::from_str(
            &fs::read_to_string(self.out.join("collector.json"))
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
        let summary = json!({
            "expected": by_step(&expected), "captured": by_step(&captured), "lost_records": lost,
            "urls": { "gateway": self.gateway, "store": self.store_url },
            "shoppers": args.shoppers, "seed": args.seed, "elapsed_s": started.elapsed().as_secs_f64(),
        });
        fs::write(
            self.out.join("summary.json"),
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
                self.out.join("collector.json").display()
            );
        }
        Ok(summary)
    }

    fn write_report(&self, args: &DemoArgs) -> anyhow::Result<()> {
        let (funnel, out) = (self.out.join("funnel.json"), self.out.to_string_lossy());
        let period = format!("{} simulated shoppers, seed {}", args.shoppers, args.seed);
        shell::run(
            &self.program("funnel"),
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

    fn program(&self, name: &str) -> String {
        self.binaries.join(name).to_string_lossy().into_owned()
    }

    fn funnel_args(&self, format: &str) -> Vec<String> {
        let definition = self.out.join("definition.json");
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

/// Where cargo puts the binaries: beside the one that runs now.
fn binaries_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("while looking for the binaries")?;
    Ok(own.parent().context("the binary has a folder")?.to_owned())
}

fn definition() -> Value {
    let steps: Vec<Value> = STEPS
        .iter()
        .map(|(name, event)| json!({ "name": name, "event": event }))
        .collect();
    json!({ "name": "checkout", "window": "14d", "steps": steps })
}

fn start_store(binaries: &Path, data: &Path, out: &Path) -> anyhow::Result<(Running, String)> {
    let port = ports::free_row(1)?;
    let address = format!("127.0.0.1:{port}");
    let engine = setup::engine_path();
    let folder = data.join("store");
    let store = Running::start(
        "event-store",
        &binaries.join("event-store"),
        &out.join("event-store.log"),
        &[
            "serve",
            "--path",
            &folder.to_string_lossy(),
            "--listen",
            &address,
            "--engine",
            &engine.to_string_lossy(),
        ],
        &[],
    )?;
    store.wait_for(&address, Duration::from_mins(1))?;
    let url = format!("http://{address}");
    shell::run(
        &binaries.join("event-store").to_string_lossy(),
        &["migrate", "--clickhouse", &url],
    )?;
    Ok((store, url))
}

fn start_collector(
    binaries: &Path,
    data: &Path,
    out: &Path,
    store_url: &str,
    (shop, otlp, metrics): (u16, u16, u16),
) -> anyhow::Result<Running> {
    let names = ["gateway", "accounts", "catalogue", "inventory", "orders"];
    let service =
        |(name, port): (&&str, u16)| format!("[[services]]\nport = {port}\nname = \"{name}\"\n");
    let services = names
        .iter()
        .zip(shop..)
        .map(service)
        .collect::<Vec<_>>()
        .concat();
    let event = |(_, event): &(&str, &str)| {
        format!(
            "[[events]]\nservice = \"gateway\"\nmethod = \"POST\"\nroute = \"/{event}\"\nevent = \"{event}\"\n"
        )
    };
    let events = STEPS.iter().map(event).collect::<Vec<_>>().concat();
    let config =
        format!("{services}{events}[attributes]\nheaders = [\"x-device\", \"x-channel\"]\n");
    let path = data.join("collector.toml");
    fs::write(&path, config).context("while writing the collector's configuration")?;
    let (otlp, metrics) = (format!("127.0.0.1:{otlp}"), format!("127.0.0.1:{metrics}"));
    let collector = Running::start(
        "collector",
        &binaries.join("collector"),
        &out.join("collector.log"),
        &[
            "run",
            "--config",
            &path.to_string_lossy(),
            "--clickhouse",
            store_url,
            "--spool",
            &data.join("spool").to_string_lossy(),
            "--otlp-grpc",
            &otlp,
            "--metrics",
            &metrics,
            "--summary",
            &out.join("collector.json").to_string_lossy(),
        ],
        &[],
    )?;
    collector.wait_for(&metrics, Duration::from_secs(30))?;
    Ok(collector)
}

fn start_shop(
    binaries: &Path,
    data: &Path,
    out: &Path,
    args: &DemoArgs,
    (port, otlp): (u16, u16),
) -> anyhow::Result<Running> {
    let users = if args.once {
        args.shoppers.div_ceil(TENANTS)
    } else {
        LIVE_USERS_PER_TENANT
    };
    let shop = Running::start(
        "shop",
        &binaries.join("shop"),
        &out.join("shop.log"),
        &[
            "serve",
            "--port",
            &port.to_string(),
            "--database",
            &data.join("shop.sqlite").to_string_lossy(),
            "--tenants",
            &TENANTS.to_string(),
            "--users",
            &users.to_string(),
            "--otlp",
            &format!("http://127.0.0.1:{otlp}"),
        ],
        &[("SHOP_TOKEN_SECRET", "only for the demo, on this machine")],
    )?;
    shop.wait_for(&format!("127.0.0.1:{port}"), Duration::from_mins(1))?;
    Ok(shop)
}

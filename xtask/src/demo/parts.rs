//! The parts of the river: how each is started, and with what.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{ports, process::Running, setup, shell};

/// The funnel's steps: name, and the event that fills it.
pub(super) const STEPS: &[(&str, &str)] = &[("Login", "login"), ("Cart", "cart"), ("Pay", "pay")];
pub(super) const TENANTS: u32 = 3;
/// The shop's services, on ports in a row.
const SERVICES: [&str; 5] = ["gateway", "accounts", "catalogue", "inventory", "orders"];

/// Where the parts listen, all on the loopback.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) store: u16,
    /// The first of the services' ports.
    pub(super) shop: u16,
    pub(super) otlp: u16,
    pub(super) metrics: u16,
    pub(super) console: u16,
}

impl Ports {
    /// Free ones, all found at the same time, so that no two parts get the same. A person finds the usual ports
    /// easier; a run of its own must not stumble over them.
    pub(super) fn choose(once: bool) -> anyhow::Result<Self> {
        let services = u16::try_from(SERVICES.len()).unwrap_or(u16::MAX);
        let first = ports::free_row(services + 4)?;
        let usual = |port: u16, place: u16| {
            let is_free = !once && ports::is_free(port);
            if is_free {
                port
            } else {
                first + services + place
            }
        };
        Ok(Self {
            store: usual(8123, 0),
            shop: first,
            otlp: usual(4317, 1),
            metrics: usual(9464, 2),
            console: usual(8080, 3),
        })
    }
}

/// Where the parts find and put their files.
pub(super) struct Place {
    pub(super) binaries: PathBuf,
    pub(super) data: PathBuf,
    pub(super) out: PathBuf,
}

impl Place {
    pub(super) fn program(&self, name: &str) -> String {
        self.binaries.join(name).to_string_lossy().into_owned()
    }

    fn start(
        &self,
        name: &'static str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> anyhow::Result<Running> {
        let log = self.out.join(format!("{name}.log"));
        Running::start(name, &self.binaries.join(name), &log, args, env)
    }

    pub(super) fn store(&self, port: u16) -> anyhow::Result<(Running, String)> {
        let address = format!("127.0.0.1:{port}");
        let store = self.start(
            "event-store",
            &[
                "serve",
                "--path",
                &text(&self.data.join("store")),
                "--listen",
                &address,
                "--engine",
                &text(&setup::engine_path()),
            ],
            &[],
        )?;
        store.wait_for(&address, Duration::from_mins(1))?;
        let url = format!("http://{address}");
        shell::run(
            &self.program("event-store"),
            &["migrate", "--clickhouse", &url],
        )?;
        Ok((store, url))
    }

    pub(super) fn collector(&self, store_url: &str, ports: Ports) -> anyhow::Result<Running> {
        let config = self.data.join("collector.toml");
        fs::write(&config, collector_config(ports.shop))
            .context("while writing the collector's configuration")?;
        let metrics = format!("127.0.0.1:{}", ports.metrics);
        let collector = self.start(
            "collector",
            &[
                "run",
                "--config",
                &text(&config),
                "--clickhouse",
                store_url,
                "--spool",
                &text(&self.data.join("spool")),
                "--pseudonym-key",
                &text(&self.data.join("pseudonym.key")),
                "--otlp-grpc",
                &format!("127.0.0.1:{}", ports.otlp),
                "--metrics",
                &metrics,
                "--summary",
                &text(&self.out.join("collector.json")),
            ],
            &[],
        )?;
        collector.wait_for(&metrics, Duration::from_secs(30))?;
        Ok(collector)
    }

    pub(super) fn shop(&self, users: u32, ports: Ports) -> anyhow::Result<Running> {
        let shop = self.start(
            "shop",
            &[
                "serve",
                "--port",
                &ports.shop.to_string(),
                "--database",
                &text(&self.data.join("shop.sqlite")),
                "--tenants",
                &TENANTS.to_string(),
                "--users",
                &users.to_string(),
                "--otlp",
                &format!("http://127.0.0.1:{}", ports.otlp),
            ],
            &[("SHOP_TOKEN_SECRET", "only for the demo, on this machine")],
        )?;
        shop.wait_for(&format!("127.0.0.1:{}", ports.shop), Duration::from_mins(1))?;
        Ok(shop)
    }

    /// The console and API, and the address that signs its reader in.
    pub(super) fn console(&self, store_url: &str, port: u16) -> anyhow::Result<(Running, String)> {
        let made = Command::new(self.program("report-api"))
            .args(["token", "--operator"])
            .output()
            .context("while making a token")?;
        ensure!(made.status.success(), "report-api made no token");
        let tokens = self.data.join("tokens.toml");
        fs::write(&tokens, &made.stdout).context("while writing the token's entry")?;
        let token = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        let funnels = self.data.join("funnels");
        fs::create_dir_all(&funnels).context("while creating the funnels' folder")?;
        fs::write(funnels.join("checkout.json"), definition().to_string())
            .context("while writing the funnel")?;
        let address = format!("127.0.0.1:{port}");
        let console = self.start(
            "report-api",
            &[
                "serve",
                "--listen",
                &address,
                "--clickhouse",
                store_url,
                "--funnels",
                &text(&funnels),
                "--tokens",
                &text(&tokens),
            ],
            &[],
        )?;
        console.wait_for(&address, Duration::from_secs(30))?;
        Ok((console, format!("http://{address}/?token={token}")))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The funnel of the demo.
pub(super) fn definition() -> Value {
    let steps: Vec<Value> = STEPS
        .iter()
        .map(|(name, event)| json!({ "name": name, "event": event }))
        .collect();
    json!({ "name": "Login to payment", "window": "14d", "steps": steps })
}

fn collector_config(shop: u16) -> String {
    let service =
        |(name, port): (&str, u16)| format!("[[services]]\nport = {port}\nname = \"{name}\"\n");
    let services: Vec<String> = SERVICES.into_iter().zip(shop..).map(service).collect();
    let event = |(_, event): &(&str, &str)| {
        format!(
            "[[events]]\nservice = \"gateway\"\nmethod = \"POST\"\nroute = \"/{event}\"\nevent = \"{event}\"\n"
        )
    };
    let events: Vec<String> = STEPS.iter().map(event).collect();
    format!(
        "{}{}[attributes]\nheaders = [\"x-device\", \"x-channel\"]\n",
        services.concat(),
        events.concat()
    )
}

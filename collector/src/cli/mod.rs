//! The command line: what can be asked, and the exit codes (0 done, 1 failed, 2 bad usage).

mod detach;
mod doctor;
mod replay;
mod run;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use event_store::StoreLogin;

use crate::{
    config::{ConfigError, Output},
    source::kernel::WatchSide,
};

/// Sees every HTTP exchange of this host's services from inside the kernel, with no change to them.
#[derive(Debug, Parser)]
#[command(name = "collector", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch HTTP services of this host until asked to end.
    Run(Box<RunArgs>),
    /// Say what this kernel offers, hook by hook, and what is lost where one is off.
    Doctor(DoctorArgs),
    /// End a capture that was kept with `run --keep`.
    Detach(DetachArgs),
    /// Run the pipeline over a recording made with `run --record`; needs no privileges.
    Replay(ReplayArgs),
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Show the books of a running collector instead: what each stage saw, passed on, dropped and holds.
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:9464")]
    pub live: Option<String>,
}

/// Arguments of `detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// The name given to `--keep`.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The folder given to `--state`.
    #[arg(long, value_name = "DIR", default_value = "/run/weir")]
    pub state: PathBuf,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The recording.
    #[arg(value_name = "FILE")]
    pub recording: PathBuf,
    /// Where exchanges go as NDJSON: `ndjson:FILE` or `ndjson:-`.
    #[arg(long, value_name = "OUTPUT", default_value = "ndjson:-")]
    pub output: Output,
    /// Configuration file (TOML): names, identity, allow-list, routes, events.
    #[arg(long, value_name = "FILE", env = "WEIR_COLLECTOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Key of the pseudonyms; without one they compare with nothing outside this output.
    #[arg(long, value_name = "FILE")]
    pub pseudonym_key: Option<PathBuf>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Server port to watch; may be repeated.
    #[arg(long = "port", value_name = "P")]
    pub ports: Vec<u16>,
    /// Watch the ports on which processes of this command name listen.
    #[arg(long, value_name = "NAME")]
    pub process: Option<String>,
    /// Watch only this cgroup (a directory of cgroup v2) instead of the whole host.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Which end of the connections to watch.
    #[arg(long, value_enum, default_value_t = WatchSide::Server)]
    pub side: WatchSide,
    /// Read what processes with OpenSSL inside send over TLS, by probes that cost them a few microseconds a call.
    #[arg(long, value_enum, default_value_t = TlsReading::Auto)]
    pub tls: TlsReading,
    /// Keep capturing under this name while no collector runs, for restarts without a gap; `collector detach` ends it.
    #[arg(long, value_name = "NAME")]
    pub keep: Option<String>,
    /// Size of the ring between kernel and collector, MiB: how much traffic a stall or a restart may cover.
    #[arg(long, value_name = "MIB", default_value = "64")]
    pub ring_mib: RingMib,
    /// Folder for what a kept capture needs to be taken up again; best in memory.
    #[arg(long, value_name = "DIR", default_value = "/run/weir")]
    pub state: PathBuf,
    /// Where exchanges go: `ndjson:FILE`, `ndjson:-`, or `none`.
    #[arg(long, value_name = "OUTPUT")]
    pub output: Option<Output>,
    /// Where exchanges and spans go instead: a ClickHouse, embedded or a server.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "output",
        env = "WEIR_CLICKHOUSE"
    )]
    pub clickhouse: Option<String>,
    /// Who we are there.
    #[command(flatten)]
    pub login: StoreLogin,
    /// Folder for batches while the ClickHouse is away.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/weir/spool")]
    pub spool: PathBuf,
    /// Bytes that folder may hold.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub spool_bytes: u64,
    /// Serve `/metrics` and `/healthz` here.
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Receive the services' own spans (OTLP over gRPC) here, for instance 127.0.0.1:4317.
    #[arg(long, value_name = "ADDRESS", requires = "clickhouse")]
    pub otlp_grpc: Option<SocketAddr>,
    /// Receive spans by OTLP over HTTP here, for instance 127.0.0.1:4318.
    #[arg(long, value_name = "ADDRESS", requires = "clickhouse")]
    pub otlp_http: Option<SocketAddr>,
    /// Pass received spans on to this OTLP endpoint too (HTTP), for instance a Jaeger's <http://127.0.0.1:4318>.
    #[arg(long, value_name = "URL")]
    pub otlp_forward: Option<String>,
    /// Configuration file (TOML): names, identity, allow-list, routes, events.
    #[arg(long, value_name = "FILE", env = "WEIR_COLLECTOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Key of the pseudonyms that stand for users and sessions; created when missing. Hosts that share it agree.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/weir/pseudonym.key"
    )]
    pub pseudonym_key: PathBuf,
    /// At the end, write what was seen, stored and lost to this file (JSON).
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
    /// Also write every raw record to this file, for `collector replay`.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

/// Size of the ring; the kernel wants a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct RingMib(u32);

impl RingMib {
    /// The same in bytes.
    pub const fn bytes(self) -> u32 {
        self.0 * 1024 * 1024
    }
}

impl std::str::FromStr for RingMib {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mib = text.parse::<u32>().ok();
        mib.filter(|mib| mib.is_power_of_two() && *mib <= 1_024)
            .map(Self)
            .ok_or_else(|| {
                format!("`{text}` is no size of a ring: give a power of two from 1 to 1024")
            })
    }
}

/// Whether TLS is read.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum TlsReading {
    /// Wherever a watched process carries OpenSSL's functions.
    Auto,
    /// Nowhere; handshakes are still seen on the wire.
    Off,
}

/// Runs the command.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Detach(args) => detach::run(&args),
        Command::Replay(args) => replay::run(&args),
    };
    weir_settings::end(result, <dyn std::error::Error>::is::<ConfigError>)
}

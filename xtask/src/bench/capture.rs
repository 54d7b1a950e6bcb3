//! What watching costs the watched: unwatched, watched by Weir, and traced by a plain syscall tracer, in turns.
//!
//! Rounds alternate (unwatched, Weir, baseline, unwatched, ...), so that a machine whose speed drifts treats all alike.
//! Every turn is the same load on the same server process; load, server and watcher share the machine.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    BenchArgs,
    baseline::{self, BUFFER_BYTES, Baseline, COPIED_BYTES},
    build, from_summary,
    load::Load,
    measure::{BpfStatistics, bpf_ns, cpu_us, ended_children_cpu_us, family},
    scratch, start_collector, start_hello, start_hello_after,
    tax::{Goals, Rounds, Turn, Watched},
};
use crate::{
    ports,
    process::{Folder, Running},
    shell::{self, output_of, say},
};

/// Computation per request of the server that works.
const WORK_US: u32 = 200;
/// Half of what one thread can do with that work.
const WORK_RATE: u32 = 1_000_000 / WORK_US / 2;
/// Seconds of the further turn whose BPF time is read.
const TIMED_SECONDS: u32 = 1;
/// A request is read once and answered once.
const EVENTS_PER_REQUEST: u64 = 2;

const BPF_US_GOAL: f64 = 4.0;
const SHARE_OF_BASELINE_GOAL: f64 = 1.0 / 3.0;
const HELLO_RATIO_GOAL: f64 = 1.08;
const WORK_RATIO_GOAL: f64 = 1.01;

/// One server under one load.
struct Case {
    key: &'static str,
    name: &'static str,
    start: fn(&Path, u16) -> anyhow::Result<Running>,
    load: Load,
    ratio_goal: f64,
}

const CASES: [Case; 4] = [
    Case {
        key: "hello",
        name: "hello-world axum server, one thread, at saturation",
        start: start_hello,
        load: Load::Saturating,
        ratio_goal: HELLO_RATIO_GOAL,
    },
    Case {
        key: "nginx",
        name: "hello-world nginx, one worker, at saturation",
        start: start_nginx,
        load: Load::Saturating,
        ratio_goal: HELLO_RATIO_GOAL,
    },
    Case {
        key: "work_saturated",
        name: "axum server with 200 us of work per request, at saturation",
        start: start_working,
        load: Load::Saturating,
        ratio_goal: WORK_RATIO_GOAL,
    },
    Case {
        key: "work_half",
        name: "axum server with 200 us of work per request, at half its capacity, open loop",
        start: start_working,
        load: Load::Steady { rate: WORK_RATE },
        ratio_goal: WORK_RATIO_GOAL,
    },
];

/// A server that runs, and what is done to it.
struct Stage<'a> {
    case: &'a Case,
    folder: &'a Path,
    port: u16,
    server_ids: Vec<u32>,
}

/// Who watches during a turn.
enum Watcher {
    Weir(Running),
    Baseline(Baseline),
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<Value> {
    build(&["collector", "bench-peers"])?;
    baseline::make_ready()?;
    let mut cases = Map::new();
    for case in &CASES {
        cases.insert(case.key.to_owned(), rounds_of(args, case)?);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let shared = format!(
        "{cores} cores carry the client, the server and the watcher (collector or bpftrace) at once"
    );
    say(&shared);
    Ok(json!({
        "baseline": "the same server unwatched, and traced by bpftrace at its read and write system calls, in turns in the same run",
        "bpftrace": {
            "version": output_of("bpftrace", &["--version"]), "bytes_copied_at_most": COPIED_BYTES,
            "perf_buffer_bytes": BUFFER_BYTES, "output": format!("a file in {}", scratch::folder().display()),
        },
        "work": format!("{WORK_US} us of checksum per request, calibrated once when the server starts"),
        "shared": shared, "rounds": args.rounds, "seconds": args.seconds, "cases": cases,
    }))
}

fn rounds_of(args: &BenchArgs, case: &Case) -> anyhow::Result<Value> {
    let folder = Folder::create()?;
    let port = ports::free_row(1)?;
    let server = (case.start)(folder.path(), port)?;
    let stage = Stage {
        case,
        folder: folder.path(),
        port,
        server_ids: family(server.id()),
    };
    // Warms up the server; not counted.
    case.load.run(port, 1)?;
    let mut rounds = Rounds::default();
    for round in 1..=args.rounds {
        say(&format!("{}: round {round} of {}", case.key, args.rounds));
        rounds.unwatched.push(stage.turn(args.seconds, || {})?);
        let weir = Watcher::Weir(start_collector(stage.folder, port)?);
        rounds.weir.push(stage.watched(args.seconds, weir)?);
        let baseline = Watcher::Baseline(Baseline::start(&stage.server_ids, port)?);
        rounds.baseline.push(stage.watched(args.seconds, baseline)?);
    }
    let goals = Goals {
        ratio: case.ratio_goal,
        bpf_us: BPF_US_GOAL,
        share_of_baseline: SHARE_OF_BASELINE_GOAL,
    };
    Ok(rounds.report(case.name, goals))
}

impl Stage<'_> {
    /// Loads the server for a while and reads what it cost.
    fn turn(&self, seconds: u32, afterwards: impl FnOnce()) -> anyhow::Result<Turn> {
        let server_cpu = || self.server_ids.iter().map(|id| cpu_us(*id)).sum::<f64>();
        let (server_before, client_before) = (server_cpu(), ended_children_cpu_us());
        let answers = self.case.load.run(self.port, seconds)?;
        let (server_after, client_after) = (server_cpu(), ended_children_cpu_us());
        afterwards();
        Ok(Turn {
            requests: answers.requests,
            per_second: answers.per_second,
            p50_us: answers.p50_us,
            p99_us: answers.p99_us,
            server_cpu_us: server_after - server_before,
            client_cpu_us: client_after - client_before,
        })
    }

    /// A turn that counts and a short one whose BPF time is read; then the watcher ends.
    fn watched(&self, seconds: u32, watcher: Watcher) -> anyhow::Result<Watched> {
        let id = watcher.id();
        let cpu_before = cpu_us(id);
        let turn = self.turn(seconds, || watcher.settle())?;
        let watcher_cpu_us = cpu_us(id) - cpu_before;
        let (timed, bpf_ns) = {
            let _statistics = BpfStatistics::switch_on()?;
            let before = bpf_ns(id);
            let timed = self.turn(TIMED_SECONDS, || watcher.settle())?;
            (timed, bpf_ns(id) - before)
        };
        let requests = u64::from(turn.requests) + u64::from(timed.requests);
        let (expected, seen, lost) = match watcher {
            Watcher::Weir(collector) => {
                collector.end()?;
                let seen = from_summary(self.folder, "/ledger/exchanges")?;
                (requests, seen, from_summary(self.folder, "/lost")?)
            }
            Watcher::Baseline(tracer) => {
                let found = tracer.end()?;
                (requests * EVENTS_PER_REQUEST, found.events, found.lost)
            }
        };
        Ok(Watched {
            turn,
            watcher_cpu_us,
            bpf_us_per_request: bpf_ns / f64::from(timed.requests) / 1_000.0,
            expected,
            seen,
            lost,
        })
    }
}

impl Watcher {
    fn id(&self) -> u32 {
        match self {
            Self::Weir(collector) => collector.id(),
            Self::Baseline(tracer) => tracer.id(),
        }
    }

    /// Lets it finish what it took; what that costs is its own.
    fn settle(&self) {
        match self {
            // It empties its ring every few milliseconds.
            Self::Weir(_) => thread::sleep(Duration::from_millis(100)),
            Self::Baseline(tracer) => tracer.settle(),
        }
    }
}

fn start_working(folder: &Path, port: u16) -> anyhow::Result<Running> {
    start_hello_after(folder, port, WORK_US)
}

fn start_nginx(folder: &Path, port: u16) -> anyhow::Result<Running> {
    let at = folder.display();
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {at}/nginx.pid; error_log {at}/error.log;
         events {{ worker_connections 256; }}
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {at}/b; proxy_temp_path {at}/p;
           server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"Hello, world!\\n\"; }} }} }}"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).context("while writing the server's configuration")?;
    let program = shell::find_program("nginx").context("nginx is missing: cargo xtask setup")?;
    let server = Running::start(
        "nginx",
        &program,
        &folder.join("nginx.log"),
        &["-c", &path.to_string_lossy()],
        &[],
    )?;
    server.wait_for(&format!("127.0.0.1:{port}"), Duration::from_secs(10))?;
    Ok(server)
}

//! The baseline of the capture benchmark: a plain syscall tracer (`baseline.bt`) run by bpftrace.
//!
//! Owns: its start, the proof that it captures, waiting until it has written what it took, its end, and counting what
//! it wrote and lost. It gets as much buffer as our own ring; with bpftrace's default it loses half at saturation.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::scratch::MemoryFile;
use crate::{
    process::Running,
    shell::{self, find_program},
};

const SCRIPT: &str = include_str!("baseline.bt");
/// Bytes of one buffer copied: the most that the bpftrace of Debian 12 can. The benchmark's messages are shorter.
pub(super) const COPIED_BYTES: u32 = 200;
/// Bytes of perf buffer over all CPUs: what our own ring has.
pub(super) const BUFFER_BYTES: usize = 16 * 1024 * 1024;
const PAGE_BYTES: usize = 4_096;
const READY_WITHIN: Duration = Duration::from_secs(30);
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
const SETTLED_AFTER: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running tracer.
pub(super) struct Baseline {
    // Before its output: a tracer that still runs would write the file anew.
    tracer: Running,
    output: MemoryFile,
}

/// What a tracer wrote and what it says it lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traced {
    pub(super) events: u64,
    pub(super) lost: u64,
}

/// Tracepoints are found through tracefs, which not every machine mounts.
pub(super) fn make_ready() -> anyhow::Result<()> {
    let places = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
    if places
        .iter()
        .any(|place| Path::new(place).join("events").is_dir())
    {
        return Ok(());
    }
    shell::run(
        "mount",
        &["-t", "tracefs", "tracefs", "/sys/kernel/tracing"],
    )
    .context("while mounting tracefs for the baseline (needs root)")
}

impl Baseline {
    /// Starts tracing these processes (at most two), of which one answers on the port.
    pub(super) fn start(ids: &[u32], port: u16) -> anyhow::Result<Self> {
        ensure!(
            ids.len() <= 2,
            "the baseline traces two processes, not {}",
            ids.len()
        );
        let program = find_program("bpftrace").context("bpftrace is missing: cargo xtask setup")?;
        let output = MemoryFile::named("baseline.txt");
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let args: Vec<&str> = ["-e", SCRIPT]
            .into_iter()
            .chain(ids.iter().map(String::as_str))
            .collect();
        let env = [
            ("BPFTRACE_STRLEN", COPIED_BYTES.to_string()),
            ("BPFTRACE_PERF_RB_PAGES", pages_per_cpu().to_string()),
        ];
        let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
        let tracer = Running::start("bpftrace", &program, output.path(), &args, &env)?;
        let baseline = Self { tracer, output };
        baseline.wait_until_it_captures(port)?;
        Ok(baseline)
    }

    pub(super) fn id(&self) -> u32 {
        self.tracer.id()
    }

    /// Waits until it has written all that the kernel handed it.
    pub(super) fn settle(&self) {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let (mut bytes, mut since) = (self.written_bytes(), Instant::now());
        while since.elapsed() < SETTLED_AFTER && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
            let now = self.written_bytes();
            if now != bytes {
                (bytes, since) = (now, Instant::now());
            }
        }
    }

    /// Ends it the way a person does, by an interrupt, and counts.
    pub(super) fn end(self) -> anyhow::Result<Traced> {
        let id = i32::try_from(self.id()).context("a process id is small")?;
        let id = Pid::from_raw(id).context("a process id is positive")?;
        kill_process(id, Signal::INT).context("while asking bpftrace to end")?;
        let deadline = Instant::now() + SETTLED_WITHIN;
        while !has_ended(self.id()) && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
        }
        self.tracer.end()?;
        let file = File::open(self.output.path()).context("while opening the tracer's output")?;
        count(BufReader::new(file))
    }

    /// bpftrace does not say when it has attached: requests are made until it shows one.
    fn wait_until_it_captures(&self, port: u16) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            ask(port).context("while asking the server something to trace")?;
            let said = fs::read(self.output.path()).unwrap_or_default();
            if count(said.as_slice())?.events > 0 {
                return Ok(());
            }
            if has_ended(self.id()) || Instant::now() > deadline {
                bail!(
                    "bpftrace does not trace; it says:\n{}",
                    String::from_utf8_lossy(&said)
                );
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn written_bytes(&self) -> u64 {
        fs::metadata(self.output.path()).map_or(0, |file| file.len())
    }
}

/// bpftrace wants a power of two.
fn pages_per_cpu() -> usize {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let pages = (BUFFER_BYTES / PAGE_BYTES / cpus).max(1);
    1 << pages.ilog2()
}

fn ask(port: u16) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(READY_WITHIN))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(())
}

/// Whether a child of ours has ended; it is a zombie until somebody waits for it.
fn has_ended(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
}

/// An event is a line that starts with its time; losses are lines of bpftrace's own.
fn count(mut output: impl BufRead) -> anyhow::Result<Traced> {
    let mut traced = Traced::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = output.read_until(b'\n', &mut line);
        if read.context("while reading the tracer's output")? == 0 {
            return Ok(traced);
        }
        traced.events += u64::from(line.first().is_some_and(u8::is_ascii_digit));
        traced.lost += lost_by(&line).unwrap_or(0);
    }
}

/// `Lost 347 events`.
fn lost_by(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?;
    let number = line.trim().strip_prefix("Lost ")?.strip_suffix(" events")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_losses_are_told_apart() {
        let output = "ERROR: couldn't set RLIMIT_MEMLOCK\nAttaching 16 probes...\n\
            23285825345022 21741 81 GET /k1 HTTP/1.1\\x0d\\x0a\nLost 347 events\nLost 5 events\n\
            23285825575935 21741 52 HTTP/1.1 200 OK\\x0d\\x0a\n\n";
        let expected = Traced {
            events: 2,
            lost: 352,
        };
        assert_eq!(count(output.as_bytes()).unwrap(), expected);
        assert_eq!(count(b"".as_slice()).unwrap(), Traced::default());
    }
}

//! How every command of Weir gets its settings and logs: flags over environment over file over defaults.
//!
//! Owns: `--config`, `--print-config`, `--log-format`, the signals that end a command, and the exit codes (0 done, 1
//! failed, 2 bad usage). Refuses:
//! knowing any setting; commands declare theirs with clap, and this crate finds them there. A leaf without
//! business words, which is why every room may import it.

mod layers;
mod print;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{ArgMatches, Command, Parser};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A setting that cannot work, found after the command line was read; exit code 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUsage(pub String);

impl std::fmt::Display for BadUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

/// Reads the settings and starts logging.
///
/// # Errors
/// The exit code, when everything is said already: help, the configuration printed, or a mistake explained.
pub fn start<C: Parser>() -> Result<C, ExitCode> {
    let matches = match read(C::command(), std::env::args_os().collect()) {
        Ok(Read::Run(matches)) => matches,
        Ok(Read::Print(text)) => {
            // Without a reader there is nobody to tell.
            std::io::stdout()
                .write_all(text.as_bytes())
                .unwrap_or_default();
            return Err(ExitCode::SUCCESS);
        }
        Err(error) => return Err(said(&error)),
    };
    let cli = C::from_arg_matches(&matches).map_err(|error| said(&error))?;
    start_logging(log_format(&matches) == Some("json"));
    Ok(cli)
}

/// Runs a command's work on a runtime of its own.
///
/// # Errors
/// The work's, or that no runtime can be started.
pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("while starting the runtime")?;
    runtime.block_on(work)
}

/// Logs how it ended and gives the exit code. Besides [`BadUsage`], `is_usage` names the causes that count as such.
pub fn end(
    result: anyhow::Result<()>,
    is_usage: impl Fn(&(dyn std::error::Error + 'static)) -> bool,
) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let mut causes = error.chain();
            let is_bad = causes.any(|cause| cause.is::<BadUsage>() || is_usage(cause));
            ExitCode::from(if is_bad { 2 } else { 1 })
        }
    }
}

/// Resolves when the process is asked to end, by SIGTERM or Ctrl-C. Listens from the call on, not from the first poll.
///
/// # Errors
/// When signals cannot be listened to.
pub fn asked_to_end() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end, finishing what is under way");
    })
}

/// What a command line asks for.
#[derive(Debug)]
enum Read {
    Run(ArgMatches),
    Print(String),
}

fn read(command: Command, args: Vec<OsString>) -> Result<Read, clap::Error> {
    let equipped = layers::equip(command);
    let mut command = equipped.clone();
    command.build();
    let layered = layers::with_file(&command, args)?;
    // clap counts a value of the environment as given; a flag that excludes it must win all the same.
    let mut command = layers::without_env(equipped, &layered.path, &layered.overruled);
    let matches = command.try_get_matches_from_mut(&layered.args)?;
    let (path, leaf, leaf_matches) = layers::leaf(&command, &matches);
    if leaf_matches.get_flag("print-config") {
        let text = print::settings(&path, leaf, leaf_matches, &layered.from_file);
        return Ok(Read::Print(text));
    }
    Ok(Read::Run(matches))
}

fn said(error: &clap::Error) -> ExitCode {
    // Without a terminal there is nobody to tell.
    error.print().unwrap_or_default();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn log_format(matches: &ArgMatches) -> Option<&str> {
    let mut leaf = matches;
    while let Some((_, below)) = leaf.subcommand() {
        leaf = below;
    }
    leaf.get_one::<String>("log-format").map(String::as_str)
}

/// Log lines go to standard error; standard output belongs to answers. `WEIR_LOG` filters them.
fn start_logging(as_json: bool) {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // Told on the same stream, a log that nobody reads any more would end the task that wrote to it.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    if as_json {
        builder.json().init();
    } else {
        builder.init();
    }
}

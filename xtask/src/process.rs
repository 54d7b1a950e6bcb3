//! Processes that we start and, by id, end; and the folder they live in.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};

const END_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// A process of ours, ended when dropped.
pub(crate) struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        log: &Path,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let output =
            File::create(log).with_context(|| format!("while creating {}", log.display()))?;
        let errors = output.try_clone().context("while sharing the log file")?;
        let child = Command::new(program)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("while starting {name}"))?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until an address of the process accepts connections.
    pub(crate) fn wait_for(&self, address: &str, at_most: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + at_most;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline || !self.is_alive() {
                bail!(
                    "{} does not come up; it says:\n{}",
                    self.name,
                    fs::read_to_string(&self.log).unwrap_or_default()
                );
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Asks the process to end and waits; anything but exit code 0 is an error with its log.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let status = self.terminate()?;
        if !status.success() {
            bail!(
                "{} ended with {status}; it says:\n{}",
                self.name,
                fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        // A zombie still has its folder; its state tells.
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
    }

    fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self
            .child
            .try_wait()
            .context("while looking after a process")?
        {
            return Ok(status);
        }
        // Not by the `kill` program, which the smallest machines lack.
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("while asking {} to end", self.name))?;
        let deadline = Instant::now() + END_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self
                .child
                .try_wait()
                .context("while waiting for a process")?
            {
                return Ok(status);
            }
            thread::sleep(LOOK_EVERY);
        }
        self.child.kill().context("while killing a process")?;
        bail!(
            "{} did not end within {} s and was killed",
            self.name,
            END_WITHIN.as_secs()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.terminate() {
            crate::shell::say(&format!("{error:#}"));
        }
    }
}

/// A folder for data, removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn create() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-xtask-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("while creating {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            crate::shell::say(&format!("could not remove {}: {error}", self.0.display()));
        }
    }
}

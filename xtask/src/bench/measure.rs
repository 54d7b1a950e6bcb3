//! What a process costs, read from `/proc`.

use std::fs;

use anyhow::Context as _;

use crate::shell::say;

/// The unit of times in `/proc/PID/stat` on every usual Linux.
const TICK_US: f64 = 10_000.0;

/// The process and its children.
pub(super) fn family(id: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    std::iter::once(id)
        .chain(
            children
                .split_whitespace()
                .filter_map(|child| child.parse().ok()),
        )
        .collect()
}

/// CPU time of a process by the scheduler's count, microseconds, all threads.
pub(super) fn cpu_us(id: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{id}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1_000.0
}

/// Most memory a process has had in RAM, megabytes.
pub(super) fn peak_rss_mb(id: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1_000.0)
}

/// Run time of the BPF programs that a process holds, nanoseconds, each program once.
pub(super) fn bpf_ns(id: u32) -> f64 {
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok())
    };
    let infos = fs::read_dir(format!("/proc/{id}/fdinfo"))
        .into_iter()
        .flatten()
        .flatten();
    let mut programs: Vec<(u64, f64)> = infos
        .filter_map(|info| fs::read_to_string(info.path()).ok())
        .filter_map(|text| {
            let number = text
                .lines()
                .find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u64>().ok())?;
            Some((number, field(&text, "run_time_ns:")?))
        })
        .collect();
    programs.sort_by_key(|(number, _)| *number);
    programs.dedup_by_key(|(number, _)| *number);
    programs.iter().map(|(_, ns)| ns).sum()
}

/// The kernel's own run-time statistics of BPF programs, on until this is dropped.
pub(super) struct BpfStatistics(());

impl BpfStatistics {
    pub(super) fn switch_on() -> anyhow::Result<Self> {
        set_bpf_statistics(true)?;
        Ok(Self(()))
    }
}

impl Drop for BpfStatistics {
    fn drop(&mut self) {
        if let Err(error) = set_bpf_statistics(false) {
            say(&format!("{error:#}"));
        }
    }
}

fn set_bpf_statistics(on: bool) -> anyhow::Result<()> {
    fs::write(
        "/proc/sys/kernel/bpf_stats_enabled",
        if on { "1" } else { "0" },
    )
    .context("while switching kernel.bpf_stats_enabled (needs root)")
}

/// CPU time of our children that have ended, microseconds; the kernel shows it in steps of 10 ms.
pub(super) fn ended_children_cpu_us() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    children_ticks(&stat).unwrap_or(f64::NAN) * TICK_US
}

/// Fields 16 and 17 of `/proc/PID/stat`; the name before them may hold anything.
fn children_ticks(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(13);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The middle one.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_told_from_their_parent() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 11 12 1300 14 15 16";
        // From the state (3) on: utime 11 and stime 12 are fields 14 and 15, the children's are 16 and 17.
        assert_eq!(children_ticks(stat), Some(1_314.0));
        assert_eq!(children_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn the_middle_of_an_odd_number() {
        assert!((median([9.0, 1.0, 5.0].into_iter()) - 5.0).abs() < 1e-9);
        assert!(median(std::iter::empty()).is_nan());
    }
}

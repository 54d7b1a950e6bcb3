//! What a process costs, read from `/proc`.

use std::fs;

use anyhow::Context as _;

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

/// Switches the kernel's own run-time statistics of BPF programs.
pub(super) fn bpf_statistics(on: bool) -> anyhow::Result<()> {
    fs::write(
        "/proc/sys/kernel/bpf_stats_enabled",
        if on { "1" } else { "0" },
    )
    .context("while switching kernel.bpf_stats_enabled (needs root)")
}

/// The middle one.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

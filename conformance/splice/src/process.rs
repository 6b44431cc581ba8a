//! What a process has used, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on processors, of all its threads that still run.
    pub cpu: Duration,
    /// Memory that is in RAM, in KiB.
    pub resident: u64,
}

/// What the process with this number has used; zeros if there is none.
pub fn usage(pid: u32) -> Usage {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = tasks.filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_ascii_whitespace().next());
    Usage {
        cpu: Duration::from_nanos(nanos.sum()),
        resident: resident.and_then(|text| text.parse().ok()).unwrap_or(0),
    }
}

/// How many threads wanted a processor during the last minute, on average.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something_and_no_process_nothing() {
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {}
        let ours = usage(std::process::id());
        assert!(ours.cpu >= Duration::from_millis(5) && ours.resident > 500, "{ours:?}");
        assert_eq!(usage(u32::MAX), Usage::default());
    }
}

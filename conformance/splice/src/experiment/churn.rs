//! Thousands of short connections per second.

use std::error::Error;
use std::path::Path;

use super::{Load, Loaded, Server, tell};
use crate::{Bench, Between, Row, Table, load_average};

/// Connections at a time at the server, per port.
pub(super) const SERVER_WORKERS: usize = 8;

/// Connections as `load` says, once through each.
pub fn churn(program: &Path, all: &[Between], rounds: usize, load: Load) -> Result<Table, Box<dyn Error>> {
    let bench = Bench::new("churn", program.to_owned())?;
    let _server = Server::start(&bench, load.ports, SERVER_WORKERS)?;
    let before = load_average();
    let mut rows = Vec::new();
    for round in 0..rounds {
        for between in all {
            let mut standing = between.stand(&bench, false)?;
            load.warm_up(&bench, &standing)?;
            let loaded = load.run(&bench, &standing)?;
            tell(&format!("churn {}/{rounds}, {between}: {:?}", round + 1, loaded.summary));
            if let Some(counters) = standing.counters() {
                eprintln!("  {counters}");
            }
            rows.push(Row { name: between.to_string(), cells: cells(&loaded) });
        }
    }
    let Load { connections, rate, bytes, .. } = load;
    Ok(Table {
        title: format!("Churn: {connections} connections, {rate} begin per second, {bytes} bytes each"),
        columns: vec![
            "per second",
            "failed",
            "connect µs, p50",
            "whole µs, p50",
            "p99",
            "CPU µs per connection of the program",
            "MiB before and after",
        ],
        rows,
        notes: vec![format!(
            "Load average before and after: {before:.1}, {:.1}. Every byte was compared.",
            load_average()
        )],
    })
}

fn cells(loaded: &Loaded) -> Vec<String> {
    let summary = &loaded.summary;
    let done = summary.done.max(1) as f64;
    vec![
        format!("{:.0}", summary.done as f64 / summary.seconds),
        summary.failures().to_string(),
        summary.connect.p50.to_string(),
        summary.whole.p50.to_string(),
        summary.whole.p99.to_string(),
        loaded.cpu().map_or("–".to_owned(), |cpu| format!("{:.1}", cpu.as_micros() as f64 / done)),
        memory(loaded),
    ]
}

/// Before and after.
pub(super) fn memory(loaded: &Loaded) -> String {
    let mebi = |kibi: u64| kibi as f64 / 1024.0;
    loaded.usage.map_or("–".to_owned(), |[before, after]| {
        format!("{:.1}, {:.1}", mebi(before.resident), mebi(after.resident))
    })
}

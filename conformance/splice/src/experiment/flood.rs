//! Connections beside a flood of SYNs.

use std::error::Error;
use std::path::Path;

use super::churn::{SERVER_WORKERS, memory};
use super::{Load, Loaded, PORT, Sent, Server, generate, sent, tell};
use crate::{Bench, Between, Row, Standing, Table, load_average};

/// SYNs from addresses at random, to the server's first port. The server's firewall drops them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// How many per second.
    pub rate: u64,
}

/// Connections as `load` says, through each: in peace, and beside the flood.
pub fn flood(program: &Path, all: &[Between], load: Load, flood: Flood) -> Result<Table, Box<dyn Error>> {
    let bench = Bench::with_flooder("flood", program.to_owned())?;
    let _server = Server::start(&bench, load.ports, SERVER_WORKERS)?;
    let before = load_average();
    let mut rows = Vec::new();
    for between in all {
        let mut standing = between.stand(&bench, false)?;
        load.warm_up(&bench, &standing)?;
        let loaded = load.run(&bench, &standing)?;
        tell(&format!("flood, {between}, in peace: {:?}", loaded.summary));
        rows.push(Row { name: format!("{between}, in peace"), cells: cells(&loaded, None) });
        let (loaded, sent) = flood.beside(&bench, &standing, load)?;
        tell(&format!("flood, {between}, beside {sent:?}: {:?}", loaded.summary));
        if let Some(counters) = standing.counters() {
            eprintln!("  {counters}");
        }
        rows.push(Row { name: format!("{between}, flooded"), cells: cells(&loaded, Some(sent)) });
    }
    let Load { connections, rate, bytes, .. } = load;
    Ok(Table {
        title: format!(
            "Flood: {connections} connections of {bytes} bytes, {rate} begin per second, beside {} SYNs per second",
            flood.rate
        ),
        columns: vec![
            "SYN thousand/s",
            "done",
            "failed",
            "connect µs, p50",
            "whole µs, p50",
            "p99",
            "MiB before and after",
        ],
        rows,
        notes: vec![format!(
            "Load average before and after: {before:.1}, {:.1}. Every byte was compared. The server's firewall drops the \
             flood.",
            load_average()
        )],
    })
}

impl Flood {
    /// Makes connections while the flood goes on.
    pub fn beside(
        self,
        bench: &Bench,
        standing: &Standing<'_>,
        load: Load,
    ) -> Result<(Loaded, Sent), Box<dyn Error>> {
        let Some([flooder, _]) = &bench.beside else { return Err("there is no flooder".into()) };
        let seconds = load.connections as f64 / load.rate.max(1) as f64 + 1.0;
        let args = [
            "syn",
            "--rate",
            &self.rate.to_string(),
            "--seconds",
            &seconds.to_string(),
            "--port",
            &PORT.to_string(),
        ];
        let mut generator = generate(bench, flooder, None, &args.map(str::to_owned))?;
        let loaded = load.run(bench, standing)?;
        Ok((loaded, sent(&mut generator, seconds)?))
    }
}

fn cells(loaded: &Loaded, sent: Option<Sent>) -> Vec<String> {
    let summary = &loaded.summary;
    vec![
        sent.map_or("0".to_owned(), |sent| format!("{:.0}", sent.sent as f64 / sent.seconds / 1e3)),
        summary.done.to_string(),
        summary.failures().to_string(),
        summary.connect.p50.to_string(),
        summary.whole.p50.to_string(),
        summary.whole.p99.to_string(),
        memory(loaded),
    ]
}

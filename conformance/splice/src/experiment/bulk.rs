//! One long transfer.

use std::error::Error;
use std::path::Path;

use super::{Load, Server, short, tell};
use crate::{Bench, Between, Row, Table, load_average, median, spread};

/// What the rounds of one row gave.
#[derive(Default)]
struct Rounds {
    /// Megabytes per second.
    rates: Vec<f64>,
    /// Milliseconds of processor time per megabyte, of the program in the middle.
    costs: Vec<f64>,
}

/// Downloads of `bytes`, offloads on, nobody bound to a processor: all rows have the same two.
pub fn bulk(program: &Path, all: &[Between], rounds: usize, bytes: u64) -> Result<Table, Box<dyn Error>> {
    let bench = Bench::new("bulk", program.to_owned())?;
    let _server = Server::start(&bench, 1, 2)?;
    let load = Load { connections: 1, rate: 0, bytes, workers: 1, ports: 1 };
    let mut rows: Vec<Rounds> = all.iter().map(|_| Rounds::default()).collect();
    let before = load_average();
    for round in 0..rounds {
        for (between, row) in all.iter().zip(&mut rows) {
            let standing = between.stand(&bench, false)?;
            load.warm_up(&bench, &standing)?;
            let loaded = load.run(&bench, &standing)?;
            if loaded.summary.done != 1 {
                return Err(format!("{between}: {:?}", loaded.summary).into());
            }
            let megabytes = bytes as f64 / 1e6;
            // Without the steps of a connection: from its first byte to its last.
            let micros = loaded.summary.whole.max - loaded.summary.first_byte.max;
            row.rates.push(bytes as f64 / micros.max(1) as f64);
            row.costs.extend(loaded.cpu().map(|cpu| cpu.as_secs_f64() * 1e3 / megabytes));
            tell(&format!("bulk {}/{rounds}, {between}: {:.0} MB/s", round + 1, row.rates[round]));
        }
    }
    let base = rows.first().map_or(0.0, |row| median(&row.rates));
    let rows = all.iter().zip(&rows).map(|(between, row)| {
        let (low, high) = spread(&row.rates);
        let cost = if row.costs.is_empty() { "–".to_owned() } else { format!("{:.2}", median(&row.costs)) };
        let cells = [
            short(median(&row.rates)),
            format!("{} to {}", short(low), short(high)),
            format!("{:.0} %", median(&row.rates) * 100.0 / base),
            cost,
        ];
        Row { name: between.to_string(), cells: cells.to_vec() }
    });
    Ok(Table {
        title: format!(
            "Bulk: {} MB over one TCP connection (cubic), all offloads on, median of {rounds} rounds",
            bytes / 1_000_000
        ),
        columns: vec!["MB/s", "middle half of rounds", "of the first row", "CPU s/GB of the program"],
        rows: rows.collect(),
        notes: vec![format!(
            "Load average before and after: {before:.1}, {:.1}. Every byte was compared.",
            load_average()
        )],
    })
}

//! As many short frames as there can be.

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{generate, sent, short, tell};
use crate::{Bench, Between, Row, Table, load_average, median, spread};

/// The processor of the generator; the middle has the other.
const GENERATOR_CORE: u32 = 0;
/// Until the last frame has arrived that was sent.
const SETTLE: Duration = Duration::from_millis(300);

/// What the rounds of one row gave.
#[derive(Default)]
struct Rounds {
    /// Thousands of frames per second that arrived, and that were sent.
    arrived: Vec<f64>,
    sent: Vec<f64>,
    /// Nanoseconds of processor time per frame that arrived.
    costs: Vec<f64>,
}

/// Frames of 64 bytes for `seconds`, from one processor through the other.
pub fn frames(program: &Path, all: &[Between], rounds: usize, seconds: f64) -> Result<Table, Box<dyn Error>> {
    let bench = Bench::new("frames", program.to_owned())?;
    let mut rows: Vec<Rounds> = all.iter().map(|_| Rounds::default()).collect();
    let before = load_average();
    for round in 0..rounds {
        for (between, row) in all.iter().zip(&mut rows) {
            let standing = between.stand(&bench, true)?;
            let what = if matches!(between, Between::Route { .. }) { "routed" } else { "bridged" };
            let args = [what.to_owned(), "--seconds".to_owned(), seconds.to_string()];
            let (arrived, usage) = (bench.arrived()?, standing.usage());
            let mut generator = generate(&bench, &bench.client, Some(GENERATOR_CORE), &args)?;
            let sent = sent(&mut generator, seconds)?;
            let after = standing.usage();
            thread::sleep(SETTLE);
            let arrived = (bench.arrived()? - arrived) as f64;
            row.arrived.push(arrived / sent.seconds / 1e3);
            row.sent.push(sent.sent as f64 / sent.seconds / 1e3);
            let cpu = usage.zip(after).map(|(before, after)| after.cpu.saturating_sub(before.cpu));
            row.costs.extend(cpu.map(|cpu| cpu.as_nanos() as f64 / arrived.max(1.0)));
            tell(&format!(
                "frames {}/{rounds}, {between}: {:.0} of {:.0} thousand per second",
                round + 1,
                row.arrived[round],
                row.sent[round]
            ));
        }
    }
    let rows = all.iter().zip(&rows).map(|(between, row)| {
        let (low, high) = spread(&row.arrived);
        let cost = if row.costs.is_empty() { "–".to_owned() } else { short(median(&row.costs)) };
        let cells = [
            short(median(&row.arrived)),
            format!("{} to {}", short(low), short(high)),
            short(median(&row.sent)),
            cost,
        ];
        Row { name: between.to_string(), cells: cells.to_vec() }
    });
    Ok(Table {
        title: format!("Frames of 64 bytes for {seconds} s, median of {rounds} rounds"),
        columns: vec![
            "thousand/s through",
            "middle half of rounds",
            "thousand/s sent",
            "CPU ns per frame of the program",
        ],
        rows: rows.collect(),
        notes: vec![format!("Load average before and after: {before:.1}, {:.1}.", load_average())],
    })
}

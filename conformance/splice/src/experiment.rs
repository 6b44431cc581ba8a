//! The experiments.

mod bulk;
mod churn;
mod flood;
mod frames;

pub use bulk::bulk;
pub use churn::churn;
pub use flood::{Flood, flood};
pub use frames::frames;

use std::error::Error;
use std::time::Duration;

use gimlet_lab::{Namespace, Process, SERVER};

use crate::bench::{SOON, SPARE};
use crate::process::{Usage, load_average};
use crate::program::Summary;
use crate::{Bench, Standing};

/// The first port that servers listen on.
pub(crate) const PORT: u16 = 8_000;
/// How much longer than planned a program may take.
const SLACK: Duration = Duration::from_secs(60);

/// Connections to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// How many.
    pub connections: u64,
    /// How many begin per second; 0: as soon as a worker is free.
    pub rate: u64,
    /// Bytes that each asks for.
    pub bytes: u64,
    /// How many at a time.
    pub workers: usize,
    /// To how many ports.
    pub ports: u16,
}

/// What became of them, and what it cost the program in the middle.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// What the client saw.
    pub summary: Summary,
    /// Of the program in the middle, before and after.
    pub usage: Option<[Usage; 2]>,
}

impl Loaded {
    /// Time on processors that the program used meanwhile.
    pub fn cpu(&self) -> Option<Duration> {
        self.usage.map(|[before, after]| after.cpu.saturating_sub(before.cpu))
    }
}

impl Load {
    /// Makes the connections through what stands in the middle.
    pub fn run(&self, bench: &Bench, standing: &Standing<'_>) -> Result<Loaded, Box<dyn Error>> {
        let before = standing.usage();
        let mut process = bench.start(&bench.client, None, &self.args())?;
        let planned = self.connections.checked_div(self.rate).map_or(Duration::ZERO, Duration::from_secs);
        let summary: Summary = process.find(planned + SLACK, "what became of its connections", |line| {
            serde_json::from_str(line).ok()
        })?;
        Ok(Loaded { summary, usage: before.zip(standing.usage()).map(|(before, after)| [before, after]) })
    }

    /// Lets whoever learns from a first connection learn from one to each port.
    pub fn warm_up(&self, bench: &Bench, standing: &Standing<'_>) -> Result<(), Box<dyn Error>> {
        let few =
            Load { connections: u64::from(self.ports), rate: 0, bytes: 100, workers: 1, ports: self.ports };
        let summary = few.run(bench, standing)?.summary;
        if summary.done == few.connections {
            Ok(())
        } else {
            Err(format!("nothing goes through: {summary:?}").into())
        }
    }

    fn args(&self) -> Vec<String> {
        let Self { connections, rate, bytes, workers, ports } = *self;
        let options = [
            ("--port", u64::from(PORT)),
            ("--ports", u64::from(ports)),
            ("--connections", connections),
            ("--rate", rate),
            ("--bytes", bytes),
            ("--workers", workers as u64),
        ];
        let mut args = vec!["load".to_owned(), "--to".to_owned(), SERVER[0].to_owned()];
        args.extend(options.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]));
        args
    }
}

/// The server, until it is dropped.
#[derive(Debug)]
pub struct Server {
    _process: Process,
}

impl Server {
    /// Starts it on so many ports, each with so many connections at a time.
    pub fn start(bench: &Bench, ports: u16, workers: usize) -> Result<Self, Box<dyn Error>> {
        let [port, ports, workers] = [usize::from(PORT), usize::from(ports), workers].map(|n| n.to_string());
        let args = ["serve", "--port", &port, "--ports", &ports, "--workers", &workers];
        Ok(Self { _process: bench.start(&bench.server, None, &args.map(str::to_owned))? })
    }
}

/// Starts a generator on `host`, whose interface is called `eth0`.
fn generate(
    bench: &Bench,
    host: &Namespace,
    pinned: Option<u32>,
    args: &[String],
) -> Result<Process, Box<dyn Error>> {
    let own = ["generate", "--interface", "eth0", "--spare", SPARE].map(str::to_owned);
    Ok(bench.start(host, pinned, &[&own[..], args].concat())?)
}

/// What a generator says in the end.
fn sent(generator: &mut Process, seconds: f64) -> Result<Sent, Box<dyn Error>> {
    let limit = Duration::from_secs_f64(seconds) + SOON;
    Ok(generator.find(limit, "what it sent", |line| serde_json::from_str(line).ok())?)
}

/// What a generator sent.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
pub struct Sent {
    /// Frames.
    pub sent: u64,
    /// For so long.
    pub seconds: f64,
}

fn tell(what: &str) {
    eprintln!("{what} (load average {:.1})", load_average());
}

/// A number with as many digits as people need.
fn short(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

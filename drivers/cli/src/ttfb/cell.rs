//! One cell of the table: a row at one round trip.

use std::env;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gimlet_lab::{Chain, Place, Process, SERVER};
use serde_json::{Value, json};

use super::row::{PORT, PORT_GREETING, Row};
use super::{Plan, Stop};
use crate::command::lab::Told;

/// How long a program may take to begin.
const SOON: Duration = Duration::from_secs(10);
/// How long one connection may take, and a wait for the next.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// Connections per hundred that are measured with a server that speaks first.
const GREETED_PERCENT: u32 = 25;
/// Connections at a time, at most. More would measure the scheduler.
const PARALLEL_MAX: u32 = 10;

/// What stands over the cells.
pub(super) const HEADING: &str = "  way                       connect    first byte                predicted  server first  predicted  failed  corrupt
                                 p50       p50      p95      p99                      p50";

/// A chain with two lines of half the way each, ordinary servers at its end, and a configuration for boxes.
pub(super) struct Bench {
    rtt: u32,
    plan: Plan,
    program: PathBuf,
    config: PathBuf,
    _servers: [Process; 2],
    _lines: [Process; 2],
    // After the programs, which run in it.
    chain: Chain,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A temporary file that somebody else removed is gone as well.
        let _ = std::fs::remove_file(&self.config);
    }
}

impl Bench {
    pub(super) fn new(name: &str, rtt: u32, plan: &Plan) -> Result<Self, Stop> {
        let chain = Chain::new(name)?;
        // Every listening socket speaks Fast Open to those who do, and clients may.
        chain.server.switch("ipv4/tcp_fastopen", 0x402)?;
        chain.client.switch("ipv4/tcp_fastopen", 1)?;
        let program = env::current_exe().map_err(Stop::File)?;
        let config = env::temp_dir().join(gimlet_lab::name_of(name)).with_extension("toml");
        let text = format!(
            "secret = \"{:032x}\"\n[[allow]]\nservers = \"{}\"\nidempotent = true\n",
            u128::from(std::process::id()),
            SERVER[0]
        );
        std::fs::write(&config, text).map_err(Stop::File)?;
        let delay = format!("{}", f64::from(rtt) / 4.0);
        let line = ["lab", "line", "--json", "--delay", &delay];
        let lines =
            [Place::LineNear, Place::LineFar].map(|place| chain.start(place, &text_of(&program), &line));
        let [near, far] = lines;
        let server = |port: u16, more: &[&str]| {
            let mut command = chain.server.command(&program);
            let address = SocketAddr::new(SERVER[0].parse().expect("an address"), port).to_string();
            command
                .args(["lab", "server", "--congestion", &plan.congestion, "--listen", &address])
                .args(more);
            let mut server = Process::start("the server", command)?;
            server.find(SOON, "that it is ready", |line| line.contains("ready").then_some(()))?;
            Ok::<_, Stop>(server)
        };
        let servers = [server(PORT, &[])?, server(PORT_GREETING, &["--greets"])?];
        let (lines, plan) = ([near?, far?], plan.clone());
        Ok(Self { rtt, plan, program, config, _servers: servers, _lines: lines, chain })
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Measures one row.
    pub(super) fn measure(&self, row: Row) -> Result<Cell, Stop> {
        let _boxes = self.boxes(row)?;
        for end in [&self.chain.client, &self.chain.server] {
            // What the kernel remembers of round trips would hide what a spoofed handshake makes of them.
            end.ip(&["tcp_metrics", "flush"])?;
        }
        let fast_open: &[&str] = if row == Row::KernelTfo { &["--fast-open"] } else { &[] };
        // The first contact teaches boxes and kernels what they need to know.
        self.connect(PORT, 1, fast_open)?;
        let samples = self.connect(PORT, self.plan.connections, fast_open)?;
        let greeted = match row.round_trips_greeted() {
            Some(_) => {
                self.connect(PORT_GREETING, 1, &["--greeted"])?;
                let count = (self.plan.connections * GREETED_PERCENT).div_ceil(100);
                self.connect(PORT_GREETING, count, &["--greeted"])?
            }
            None => Vec::new(),
        };
        Ok(Cell { row, rtt: self.rtt, samples, greeted })
    }

    /// What stands in the wire.
    fn boxes(&self, row: Row) -> Result<Vec<Process>, Stop> {
        let mut boxes = Vec::new();
        let config = text_of(&self.config);
        for (place, role) in [Place::Near, Place::Middle, Place::Far].into_iter().zip(row.boxes()) {
            let Some(role) = role else { continue };
            let mut words = vec!["splice"];
            words.extend(role.split(' '));
            if role != "forward" {
                words.extend(["--config", &config]);
            }
            words.push("--json");
            boxes.push(self.chain.start(place, &text_of(&self.program), &words)?);
        }
        Ok(boxes)
    }

    /// Connects so many times; gives what became of each.
    fn connect(&self, port: u16, count: u32, more: &[&str]) -> Result<Vec<Told>, Stop> {
        let address = SocketAddr::new(SERVER[0].parse().expect("an address"), port).to_string();
        // Connections that wait cost nothing: several at a time, so that long round trips do not take all day.
        let parallel = (self.rtt / 10).clamp(1, PARALLEL_MAX).to_string();
        let (count_text, mut command) = (count.to_string(), self.chain.client.command(&self.program));
        command.args([
            "lab",
            "client",
            "--json",
            "--connect",
            &address,
            "--up",
            "100",
            "--connections",
            &count_text,
        ]);
        command.args(["--parallel", &parallel, "--congestion", &self.plan.congestion]).args(more);
        let mut client = Process::start("the client", command)?;
        let told = |line: &str| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["event"] == "connection").then(|| serde_json::from_value(value).ok()).flatten()
        };
        (0..count).map(|_| Ok(client.find(CONNECTION_MAX, "what became of a connection", told)?)).collect()
    }
}

fn text_of(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What was measured.
pub(super) struct Cell {
    pub(super) row: Row,
    /// Milliseconds.
    pub(super) rtt: u32,
    samples: Vec<Told>,
    greeted: Vec<Told>,
}

impl Cell {
    pub(super) fn failed(&self) -> u32 {
        self.all().filter(|told| told.error.is_some()).count() as u32
    }

    pub(super) fn corrupt(&self) -> u64 {
        self.all().map(|told| told.corrupt).sum()
    }

    pub(super) fn connections(&self) -> usize {
        self.all().count()
    }

    fn all(&self) -> impl Iterator<Item = &Told> {
        self.samples.iter().chain(&self.greeted)
    }

    /// Times to the first byte, sorted, ms.
    pub(super) fn first(&self) -> Vec<f64> {
        sorted(self.samples.iter().filter_map(|told| told.first_ms))
    }

    pub(super) fn predicted(&self) -> f64 {
        self.row.round_trips() * f64::from(self.rtt)
    }

    fn predicted_greeted(&self) -> Option<f64> {
        self.row.round_trips_greeted().map(|trips| trips * f64::from(self.rtt))
    }

    pub(super) fn json(&self) -> Value {
        let spread =
            |times: &[f64]| json!({ "p50": at(times, 50), "p95": at(times, 95), "p99": at(times, 99) });
        let connect = sorted(self.samples.iter().filter_map(|told| told.connect_ms));
        let greeted = sorted(self.greeted.iter().filter_map(|told| told.first_ms));
        json!({
            "event": "cell",
            "row": self.row.name(),
            "rtt_ms": self.rtt,
            "connections": self.connections(),
            "failed": self.failed(),
            "corrupt": self.corrupt(),
            "connect_ms": spread(&connect),
            "first_ms": spread(&self.first()),
            "predicted_ms": self.predicted(),
            "greeting_ms": spread(&greeted),
            "predicted_greeting_ms": self.predicted_greeted(),
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1}"));
        let connect = sorted(self.samples.iter().filter_map(|told| told.connect_ms));
        let greeted = sorted(self.greeted.iter().filter_map(|told| told.first_ms));
        let first = self.first();
        write!(f, "  {:<24} {:>8}", self.row.name(), ms(at(&connect, 50)))?;
        for percent in [50, 95, 99] {
            write!(f, " {:>8}", ms(at(&first, percent)))?;
        }
        write!(f, " {:>10.0}", self.predicted())?;
        write!(f, " {:>13} {:>10}", ms(at(&greeted, 50)), ms(self.predicted_greeted()))?;
        write!(f, " {:>7} {:>8}", self.failed(), self.corrupt())
    }
}

fn sorted(times: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The value below which so many percent of them are.
fn at(times: &[f64], percent: usize) -> Option<f64> {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([50, 95, 99].map(|percent| at(&times, percent)), [Some(100.0), Some(190.0), Some(198.0)]);
        assert_eq!((at(&[7.0], 99), at(&[], 50)), (Some(7.0), None));
    }
}

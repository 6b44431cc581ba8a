//! Bytes and messages over loopback: our tokio and mio drivers beside plain quinn, in one run.
//!
//! `cargo run --release -p gimlet-peers --bin transport [bulk|messages|ping] [ROUNDS] [ROW]`
//!
//! `ROW` is part of a row's name: only such rows are run, for a profiler.
//!
//! Every row has two endpoints in one process, mutually authenticated where ours are, on two threads.
//! The rows of one round follow each other at once; what is printed is the median of the rounds.
//! CPU seconds are the whole process's, both endpoints together.

mod transport {
    pub mod gimlet_mio;
    pub mod gimlet_tokio;
    pub mod quinn_plain;
}

use std::time::{Duration, Instant};

use transport::{gimlet_mio, gimlet_tokio, quinn_plain};

/// One measurement: wall clock and CPU time of the whole process.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub wall: Duration,
    pub cpu: Duration,
}

/// A stop watch for both clocks.
#[derive(Debug)]
pub struct Watch {
    wall: Instant,
    cpu: Duration,
}

impl Watch {
    pub fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    pub fn stop(self) -> Sample {
        Sample { wall: self.wall.elapsed(), cpu: cpu_time() - self.cpu }
    }
}

/// User and system time of this process, from the kernel's accounting (10 ms steps).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the program's name, which may hold spaces and ends with the last ')'.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

type Row = (&'static str, fn(u64) -> Sample);

const BULK: [Row; 3] =
    [("quinn", quinn_plain::bulk), ("gimlet tokio", gimlet_tokio::bulk), ("gimlet mio", gimlet_mio::bulk)];
const MESSAGES: [Row; 4] = [
    ("quinn, one write per message", quinn_plain::messages),
    ("quinn, 256 messages per write", quinn_plain::batched_messages),
    ("gimlet tokio", gimlet_tokio::messages),
    ("gimlet mio", gimlet_mio::messages),
];
const PING: [Row; 3] =
    [("quinn", quinn_plain::ping), ("gimlet tokio", gimlet_tokio::ping), ("gimlet mio", gimlet_mio::ping)];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_else(|| "bulk".into());
    let rounds: usize = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    match what.as_str() {
        "bulk" => table(&BULK, 1 << 30, rounds, |n, s| {
            format!("{:.2} GB/s | {:.2} CPU-s/GB", n / 1e9 / s.wall.as_secs_f64(), s.cpu.as_secs_f64() * 1e9 / n)
        }),
        "messages" => table(&MESSAGES, 2_000_000, rounds, |n, s| {
            format!("{:.2} M/s | {:.0} ns CPU each", n / 1e6 / s.wall.as_secs_f64(), s.cpu.as_secs_f64() * 1e9 / n)
        }),
        "ping" => table(&PING, 20_000, rounds, |n, s| {
            format!("{:.1} µs mean | {:.1} µs CPU", s.wall.as_secs_f64() * 1e6 / n, s.cpu.as_secs_f64() * 1e6 / n)
        }),
        other => {
            eprintln!("unknown: {other}; say bulk, messages or ping");
            std::process::exit(2);
        }
    }
}

fn table(rows: &[Row], amount: u64, rounds: usize, show: impl Fn(f64, Sample) -> String) {
    let wanted = std::env::args().nth(3).unwrap_or_default();
    let rows: Vec<&Row> = rows.iter().filter(|(name, _)| name.contains(&wanted)).collect();
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); rows.len()];
    for _ in 0..rounds {
        for ((_, run), samples) in rows.iter().zip(&mut samples) {
            samples.push(run(amount));
        }
    }
    println!("median of {rounds} rounds, {amount} each");
    let mut first = None;
    for ((name, _), samples) in rows.iter().zip(&mut samples) {
        samples.sort_by_key(|sample| sample.wall);
        let median = samples[samples.len() / 2];
        let base = *first.get_or_insert(median.wall.as_secs_f64());
        println!("| {name} | {} | ×{:.2} |", show(amount as f64, median), base / median.wall.as_secs_f64());
    }
}

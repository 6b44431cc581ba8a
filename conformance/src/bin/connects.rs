//! How often, how fast and how cheaply two nodes meet, per pair of NATs, in the simulator.
//!
//! ```text
//! connects [--seeds A..B] [--loss PERCENT]      prints a Markdown table; fails unless all meet directly
//! ```
//!
//! The round-trip time between the peers is 50 ms, and so is each peer's to the public node. What is
//! timed is the application's view: from `connect` until both sides have authenticated each other and
//! said hello, both peers being connected to the public node.

use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gimlet_conformance::meeting::{Scene, promised_pairs};
use gimlet_sim::{Chance, LinkConfig};

/// Peer to peer and back on lines of 12.5 ms.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// A pair that takes longer has not met.
const WITHIN: Duration = Duration::from_secs(30);
/// With loss, this share must meet: 99.5 %.
const LOSSY_SHARE: (usize, usize) = (995, 1_000);

fn main() -> ExitCode {
    let (seeds, loss) = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\nusage: connects [--seeds A..B] [--loss PERCENT]");
            return ExitCode::from(2);
        }
    };
    println!("| a | b | direct | median | p99 | packets | meetings per second |");
    println!("|---|---|--:|--:|--:|--:|--:|");
    let mut short = 0;
    for (a, b) in promised_pairs() {
        let started = Instant::now();
        let line = LinkConfig { loss: Chance::percent(loss), ..LinkConfig::with_latency(ROUND_TRIP / 4) };
        let mut times = Vec::new();
        let (mut packets, mut runs) = (0, 0_u32);
        for seed in seeds.clone() {
            let mut meeting = Scene::new(seed, a, b).on(line).open();
            times.extend(meeting.connect(WITHIN).filter(|_| meeting.is_direct()));
            packets += meeting.world.counts().sent;
            runs += 1;
        }
        times.sort();
        let round_trips = |time: Option<&Duration>| {
            time.map_or("-".into(), |time| {
                format!("{:.1} rtt", time.as_secs_f64() / ROUND_TRIP.as_secs_f64())
            })
        };
        println!(
            "| {a} | {b} | {}/{runs} | {} | {} | {} | {:.0} |",
            times.len(),
            round_trips(times.get(times.len() / 2)),
            round_trips(times.get(times.len().saturating_sub(1) * 99 / 100)),
            packets / u64::from(runs.max(1)),
            f64::from(runs) / started.elapsed().as_secs_f64(),
        );
        let required = if loss == 0 { runs as usize } else { runs as usize * LOSSY_SHARE.0 / LOSSY_SHARE.1 };
        short += usize::from(times.len() < required);
    }
    if short > 0 {
        eprintln!("{short} pairs fell short");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn options() -> Result<(Range<u64>, u32), String> {
    let (mut seeds, mut loss) = (0..100, 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} wants a value"))?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("not a number: {text}"));
        match name.as_str() {
            "--seeds" => {
                let (from, to) = value.split_once("..").ok_or(format!("not a range: {value}"))?;
                seeds = number(from)?..number(to)?;
            }
            "--loss" => loss = u32::try_from(number(&value)?).map_err(|_| "too much loss".to_owned())?,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok((seeds, loss))
}

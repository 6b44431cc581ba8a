//! Worlds with the TCP translator in them, and what has to hold in each.
//!
//! ```text
//! tcp-model [--seeds A..B] [--only WHAT] [--jobs N] [--repeat EVERY]    plays many worlds
//! tcp-model --seed N [--packets]                                        plays one, and tells everything
//! ```
//!
//! It fails if something does not hold. `--only` plays the worlds with nothing else in between: `straight`, `single`,
//! `near-far` or `tfo-upgrade`. Every 50th world (`--repeat`) is played twice and has to leave the same trace.

use std::ops::Range;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use gimlet_tcp_model::{Invariant, Plan, Table, Topology, play, play_before};

/// How often progress is told, in worlds.
const PROGRESS_EVERY: u64 = 5_000;

/// What to do.
struct Options {
    seeds: Range<u64>,
    jobs: u64,
    packets: bool,
    repeat: u64,
    one: Option<u64>,
    only: Option<Topology>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!(
                "{why}\nusage: tcp-model [--seeds A..B] [--jobs N] [--repeat EVERY] | --seed N [--packets]"
            );
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = options.one {
        return one(seed, options.packets);
    }
    let started = Instant::now();
    let table = all(&options);
    let worlds = options.seeds.end.saturating_sub(options.seeds.start);
    println!("{table}");
    println!("{worlds} worlds in {:.1} s", started.elapsed().as_secs_f64());
    if table.breaches() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, packets: bool) -> ExitCode {
    println!("{:?}", Plan::draw(seed));
    let played = if packets { play_before(seed, &mut |line| println!("{line}")) } else { play(seed) };
    println!("{:?}, {} frames, trace {:016x}", played.flows, played.frames, played.trace);
    played.breaches.iter().for_each(|breach| println!("{breach}"));
    if played.breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all(options: &Options) -> Table {
    let next = AtomicU64::new(options.seeds.start);
    let table = Mutex::new(Table::default());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.seeds.end {
                        return;
                    }
                    if options.only.is_some_and(|only| only != Plan::draw(seed).topology) {
                        continue;
                    }
                    let played = catch_unwind(|| play(seed));
                    let again = options.repeat > 0 && seed.is_multiple_of(options.repeat);
                    let stable = !again || played.as_ref().is_ok_and(|played| play(seed) == *played);
                    let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                    match &played {
                        Ok(played) => table.count(played),
                        Err(_) => table.complain(Invariant::I16Hostile, format!("--seed {seed}: a panic")),
                    }
                    if !stable {
                        table
                            .complain(Invariant::I11Replay, format!("--seed {seed}: two traces of one seed"));
                    }
                    let done = seed - options.seeds.start + 1;
                    if done.is_multiple_of(PROGRESS_EVERY) {
                        eprintln!("{done} worlds, {} breaches", table.breaches());
                    }
                }
            });
        }
    });
    table.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { seeds: 0..10_000, jobs: 2, packets: false, repeat: 50, one: None, only: None };
    let mut arguments = std::env::args().skip(1);
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("not a number: {text}"));
    while let Some(name) = arguments.next() {
        if name == "--packets" {
            options.packets = true;
            continue;
        }
        let value = arguments.next().ok_or(format!("{name} wants a value"))?;
        match name.as_str() {
            "--seeds" => {
                let (from, to) = value.split_once("..").ok_or(format!("not a range: {value}"))?;
                options.seeds = number(from)?..number(to)?;
            }
            "--seed" => options.one = Some(number(&value)?),
            "--only" => options.only = Some(topology(&value)?),
            "--jobs" => options.jobs = number(&value)?,
            "--repeat" => options.repeat = number(&value)?,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}

fn topology(name: &str) -> Result<Topology, String> {
    match name {
        "straight" => Ok(Topology::Straight),
        "single" => Ok(Topology::Single),
        "near-far" => Ok(Topology::NearFar),
        "tfo-upgrade" => Ok(Topology::TfoUpgrade),
        other => Err(format!("nothing is called {other}")),
    }
}

//! The NAT matrix: two nodes in networks from the dice, beside what an oracle says is possible.
//!
//! ```text
//! matrix [--seeds A..B] [--jobs N] [--json] [--repeat EVERY]     plays many worlds; fails if one falls short
//! matrix --seed N [--packets]                                     plays one, and tells everything
//! ```
//!
//! `--relay always` gives every world a relay, and `--relay never` takes it away; by default the seed decides.
//! Every 100th world (`--repeat`) is played twice and has to leave the same trace.

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use gimlet_conformance::matrix::{Plan, Played, Table, play_before};
use gimlet_sim::{NatEvent, NatId, Observer, PacketRecord};

/// What to do.
struct Options {
    seeds: Range<u64>,
    jobs: usize,
    json: bool,
    packets: bool,
    repeat: u64,
    one: Option<u64>,
    /// Whether there is a relay; `None`: as the seed says.
    relay: Option<bool>,
}

impl Options {
    fn plan(&self, seed: u64) -> Plan {
        let plan = Plan::draw(seed);
        match self.relay {
            Some(relay) => plan.relayed(relay),
            None => plan,
        }
    }
}

const USAGE: &str = "usage: matrix [--seeds A..B] [--jobs N] [--json] [--repeat EVERY] [--relay always|never]
       matrix --seed N [--packets] [--relay always|never]";

/// Prints every step of every packet.
struct Watcher;

impl Observer for Watcher {
    fn packet(&mut self, record: &PacketRecord<'_>) {
        println!("  {record}");
    }

    fn nat(&mut self, at: gimlet_machine::Instant, nat: NatId, event: &NatEvent) {
        println!("  {at} {nat} {event:?}");
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = options.one {
        let watcher = options.packets.then(|| Box::new(Watcher) as Box<dyn Observer>);
        let played = play_before(&options.plan(seed), &mut |line| println!("{line}"), watcher);
        println!("{}", played.to_json());
        return if played.defect.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let started = Instant::now();
    let (table, unstable) = play_all(&options);
    let mut table = table;
    for seed in unstable {
        table.complain(format!("--seed {seed}: two traces of one seed"));
    }
    let worlds = options.seeds.end.saturating_sub(options.seeds.start);
    if !options.json {
        println!("{table}");
    }
    eprintln!("{worlds} worlds in {:.1} s", started.elapsed().as_secs_f64());
    if table.defects() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All worlds, counted in the order of their seeds, and the seeds that left two traces.
fn play_all(options: &Options) -> (Table, Vec<u64>) {
    let next = AtomicU64::new(options.seeds.start);
    let play = |seed| play_before(&options.plan(seed), &mut |_| {}, None);
    let (played, unstable) = (Mutex::new(Vec::<Played>::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.seeds.end {
                        return;
                    }
                    let one = play(seed);
                    if options.json {
                        println!("{}", one.to_json());
                    }
                    if options.repeat > 0 && seed.is_multiple_of(options.repeat) && play(seed) != one {
                        unstable.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
                    }
                    played.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.sort_unstable_by_key(|one| one.seed);
    let mut table = Table::default();
    for one in &played {
        table.count(one);
    }
    (table, unstable.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seeds: 0..1_000,
        jobs: 2,
        json: false,
        packets: false,
        repeat: 100,
        one: None,
        relay: None,
    };
    let mut arguments = std::env::args().skip(1);
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("not a number: {text}"));
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--json" => {
                options.json = true;
                continue;
            }
            "--packets" => {
                options.packets = true;
                continue;
            }
            _ => {}
        }
        let value = arguments.next().ok_or(format!("{name} wants a value"))?;
        match name.as_str() {
            "--seeds" => {
                let (from, to) = value.split_once("..").ok_or(format!("not a range: {value}"))?;
                options.seeds = number(from)?..number(to)?;
            }
            "--seed" => options.one = Some(number(&value)?),
            "--jobs" => options.jobs = usize::try_from(number(&value)?).map_err(|_| "too many jobs")?,
            "--relay" => {
                let always = value == "always";
                if !always && value != "never" {
                    return Err(format!("neither always nor never: {value}"));
                }
                options.relay = Some(always);
            }
            "--repeat" => options.repeat = number(&value)?,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}

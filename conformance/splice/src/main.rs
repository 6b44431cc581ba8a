//! `splice-bench`: what it costs to stand in the wire. Needs root, iproute2 and nftables.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use gimlet_splice_bench::program::{Kind, Program};
use gimlet_splice_bench::{Between, Flood, Load, Table, bulk, churn, flood, frames};

/// Measures programs that stand in the wire, beside the kernel, in one run
///
/// Builds network namespaces and removes them again. Progress goes to standard error, tables to standard output.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// Print tables as lines of JSON
    #[arg(long, global = true)]
    json: bool,
    /// Rounds; each has every row once
    #[arg(long, global = true, default_value_t = 5)]
    rounds: usize,
    /// A Python that has scapy; without it that row is left out
    #[arg(long, global = true, default_value = "python3")]
    python: String,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One long TCP transfer, all offloads on
    Bulk {
        /// Megabytes per transfer
        #[arg(long, default_value_t = 1_000)]
        megabytes: u64,
    },
    /// As many frames of 64 bytes as there can be
    Frames {
        /// Seconds per round and row
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// Thousands of short connections per second
    Churn {
        /// Connections that begin per second
        #[arg(long, default_value_t = 10_000)]
        rate: u64,
        /// Seconds per row
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Connections beside a flood of SYNs
    Flood {
        /// SYNs per second
        #[arg(long, default_value_t = 200_000)]
        rate: u64,
        /// Seconds per row
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    #[command(flatten)]
    Inside(Program),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    if let What::Inside(program) = &cli.what {
        return program.run();
    }
    gimlet_lab::available()?;
    let table = measure(cli, &env::current_exe()?)?;
    if cli.json {
        println!("{}", serde_json::to_string(&table)?);
    } else {
        println!("{table}");
    }
    Ok(())
}

fn measure(cli: &Cli, program: &Path) -> Result<Table, Box<dyn Error>> {
    let bridge = Between::Bridge { steered: false };
    let ours = |kind, ring| Between::Ours { kind, ring };
    match &cli.what {
        What::Bulk { megabytes } => {
            let all = [
                bridge,
                ours(Kind::Forward, false),
                ours(Kind::Forward, true),
                ours(Kind::Single, false),
                ours(Kind::Single, true),
            ];
            bulk(program, &all, cli.rounds, megabytes * 1_000_000)
        }
        What::Frames { seconds } => {
            let mut all = vec![
                bridge,
                Between::Bridge { steered: true },
                Between::Route { steered: false },
                Between::Route { steered: true },
                ours(Kind::Forward, false),
                ours(Kind::Forward, true),
                ours(Kind::Single, true),
            ];
            let scapy = Between::Scapy { python: cli.python.clone() };
            if scapy.is_available() {
                all.push(scapy);
            } else {
                eprintln!("skipped: {scapy}: `{}` has no module of that name", cli.python);
            }
            frames(program, &all, cli.rounds, *seconds)
        }
        What::Churn { rate, seconds } => {
            let all =
                [bridge, ours(Kind::Forward, false), ours(Kind::Single, false), ours(Kind::Single, true)];
            churn(program, &all, cli.rounds, connections(*rate, *seconds, 100, 24))
        }
        What::Flood { rate, seconds } => {
            let all =
                [bridge, ours(Kind::Forward, false), ours(Kind::Single, false), ours(Kind::Single, true)];
            flood(program, &all, connections(500, *seconds, 4_000, 8), Flood { rate: *rate })
        }
        What::Inside(_) => unreachable!("it ran already"),
    }
}

fn connections(rate: u64, seconds: u64, bytes: u64, workers: usize) -> Load {
    Load { connections: rate * seconds, rate, bytes, workers, ports: 4 }
}

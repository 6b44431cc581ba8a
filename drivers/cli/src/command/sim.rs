//! `gimlet sim`: the same nodes without sockets.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use clap::Subcommand;
use gimlet_sim::{Chance, LinkConfig, NatKind};
use serde::Serialize;

use crate::cli::{parse_bytes, usage};
use crate::failure::{Exit, Failure};
use crate::line::{kind_of, millis};
use crate::report::Report;
use crate::simulate::campaign::Campaign;
use crate::simulate::plan::Plan;
use crate::simulate::run::{Outcome, play};
use crate::simulate::trace::elapsed;

/// Play two peers behind simulated NATs: a virtual clock, and a seed that decides everything
///
/// The same nodes as everywhere else, without sockets. The same seed and options give the same trace,
/// byte for byte, TLS included; its hash is printed. NAT kinds: none, full-cone, address-restricted,
/// port-restricted, symmetric.
#[derive(clap::Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  gimlet sim --seed 7 --nat-a port-restricted --nat-b port-restricted
  gimlet sim --seed 7 --nat-a symmetric --loss 5% --latency 80 -v       every packet
  gimlet sim campaign --seeds 0..1000                                   every pair of NATs that can connect
  gimlet sim campaign --seeds 0..100 --nat-pairs all --loss 5%"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    many: Option<Many>,
    #[command(flatten)]
    one: One,
}

#[derive(Debug, Subcommand)]
enum Many {
    Campaign(CampaignArgs),
}

#[derive(clap::Args, Debug)]
struct One {
    /// Decides everything that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The NAT in front of Alice
    #[arg(long, value_name = "KIND", default_value_t = NatKind::None)]
    nat_a: NatKind,
    /// The NAT in front of Bob
    #[arg(long, value_name = "KIND", default_value_t = NatKind::None)]
    nat_b: NatKind,
    #[command(flatten)]
    network: NetworkArgs,
    /// Play it so many times and compare the traces
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: u32,
}

/// What happens on the way, the same for everybody.
#[derive(clap::Args, Clone, Debug)]
struct NetworkArgs {
    /// Milliseconds from any host to any other
    #[arg(long, value_name = "MS", default_value_t = 20)]
    latency: u64,
    /// Up to so many milliseconds more, at random
    #[arg(long, value_name = "MS", default_value_t = 0)]
    jitter: u64,
    /// Packets that are lost
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    loss: Chance,
    /// Packets that arrive twice
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    duplicate: Chance,
    /// Packets that are overtaken by later ones
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    reorder: Chance,
    /// Size of the file that Alice sends
    #[arg(long, value_name = "SIZE", default_value = "64K", value_parser = parse_bytes)]
    bytes: u64,
}

/// Play many seeds for many pairs of NATs, and compare with what has to be
///
/// Where the NATs allow a direct path, every seed has to find it; on lines that lose packets, 99.5 %
/// of them. Prints a table; exit code 1 if any pair failed.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet sim campaign --seeds 0..1000
  gimlet sim campaign --seeds 0..1000 --loss 5% --repeat 2
  gimlet sim campaign --seeds 7 --nat-pairs symmetric:full-cone,none:none")]
struct CampaignArgs {
    /// A range of seeds, the end excluded, or one seed
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Range<u64>,
    /// Which pairs: `possible` (those that can connect directly), `all`, or A:B,C:D
    #[arg(long, value_name = "PAIRS", default_value = "possible", value_parser = parse_pairs)]
    nat_pairs: Pairs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Play each one so many times and compare the traces
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    repeat: u32,
    /// How many simulations run at once; the result is the same
    #[arg(long, value_name = "COUNT")]
    threads: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pairs(Vec<[NatKind; 2]>);

/// The last line. Its fields are fixed: programs read them.
#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    path: Option<&'static str>,
    virtual_ms: f64,
    packets: u64,
    trace_hash: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { ok, path, virtual_ms, packets, trace_hash, .. } = self;
        let verdict = if *ok { "all delivered" } else { "not connected, or not all delivered" };
        writeln!(f, "\n{verdict}; path {}", path.unwrap_or("none"))?;
        write!(f, "{packets} packets in {virtual_ms:.3} ms of virtual time\ntrace hash {trace_hash}")
    }
}

#[derive(Serialize)]
struct CampaignDone {
    event: &'static str,
    ok: bool,
    pairs: usize,
    seeds: u64,
    failed: usize,
}

impl fmt::Display for CampaignDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{} pairs, {} seeds each, {} failed", self.pairs, self.seeds, self.failed)
    }
}

pub(crate) fn run(args: &Args, report: &Report) -> Result<(), Failure> {
    match &args.many {
        Some(Many::Campaign(campaign)) => run_campaign(campaign, report),
        None => run_one(&args.one, report),
    }
}

fn run_one(args: &One, report: &Report) -> Result<(), Failure> {
    let plan = Plan {
        seed: args.seed,
        nats: [args.nat_a, args.nat_b],
        link: args.network.link(),
        bytes: args.network.bytes,
    };
    let outcome = play(&plan, Some(report))?;
    for _ in 1..args.repeat {
        let again = play(&plan, None)?;
        if again != outcome {
            return Err(Failure::new(
                Exit::Failed,
                format_args!(
                    "two runs with seed {} differ: {} and {}",
                    plan.seed, outcome.trace, again.trace
                ),
            )
            .remedy("this is a defect in Gimlet: report the command line"));
        }
    }
    report.done(&Done {
        event: "done",
        ok: outcome.is_ok(),
        path: outcome.path.map(|path| kind_of(path, false)),
        virtual_ms: millis(elapsed(outcome.ended_at)),
        packets: outcome.packets,
        trace_hash: outcome.trace.to_string(),
    });
    verdict(&plan, &outcome)
}

fn verdict(plan: &Plan, outcome: &Outcome) -> Result<(), Failure> {
    if outcome.is_ok() {
        return Ok(());
    }
    let [nat_a, nat_b] = plan.nats;
    let trouble = outcome.trouble.as_deref().unwrap_or("the path is not direct");
    let failure = Failure::new(Exit::Unreachable, trouble);
    if outcome.is_possible {
        return Err(failure);
    }
    Err(failure.remedy(format_args!("another pair of NATs: {nat_a} and {nat_b} allow no direct path")))
}

fn run_campaign(args: &CampaignArgs, report: &Report) -> Result<(), Failure> {
    if args.seeds.is_empty() {
        return Err(usage(
            "no seeds",
            "give a range whose end is larger than its beginning, such as 0..1000",
        ));
    }
    let plan =
        Plan { seed: 0, nats: [NatKind::None; 2], link: args.network.link(), bytes: args.network.bytes };
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let campaign = Campaign {
        plan,
        seeds: args.seeds.clone(),
        pairs: args.nat_pairs.0.clone(),
        repeat: args.repeat,
        threads: args.threads.unwrap_or(available),
    };
    let rows = campaign.play()?;
    report.text(&format!(
        "{:<19} {:<19} {:>11} {:>10} {:>10}",
        "NAT A", "NAT B", "direct", "median ms", "max ms"
    ));
    for row in &rows {
        report.text(&row.to_string());
        report.json(row);
    }
    let failed = rows.iter().filter(|row| !row.ok).count();
    let seeds = args.seeds.end - args.seeds.start;
    report.done(&CampaignDone { event: "done", ok: failed == 0, pairs: rows.len(), seeds, failed });
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format_args!("{failed} pairs of NATs did not do what they have to"))
        .remedy("`gimlet sim --seed SEED --nat-a A --nat-b B` with the same options shows one of them"))
}

impl NetworkArgs {
    fn link(&self) -> LinkConfig {
        LinkConfig {
            latency: Duration::from_millis(self.latency),
            jitter: Duration::from_millis(self.jitter),
            loss: self.loss,
            duplicate: self.duplicate,
            reorder: self.reorder,
            ..LinkConfig::default()
        }
    }
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| "seeds are A..B, or one number".to_owned());
    match text.split_once("..") {
        Some((begin, end)) => Ok(number(begin)?..number(end)?),
        None => number(text).and_then(|seed| Ok(seed..seed.checked_add(1).ok_or("too large")?)),
    }
}

fn parse_pairs(text: &str) -> Result<Pairs, String> {
    let all = || NatKind::ALL.into_iter().flat_map(|a| NatKind::ALL.into_iter().map(move |b| [a, b]));
    let pairs = match text {
        "all" => all().collect(),
        "possible" => all().filter(|pair| is_possible(*pair)).collect(),
        named => named.split(',').map(parse_pair).collect::<Result<_, _>>()?,
    };
    Ok(Pairs(pairs))
}

fn parse_pair(text: &str) -> Result<[NatKind; 2], String> {
    let (a, b) = text.split_once(':').ok_or("a pair is two kinds, such as none:full-cone")?;
    let kind = |text: &str| text.trim().parse::<NatKind>().map_err(|error| error.to_string());
    Ok([kind(a)?, kind(b)?])
}

/// Whether two NATs of these kinds allow a direct path. A symmetric NAT needs a partner whose filter
/// does not look at ports.
fn is_possible([a, b]: [NatKind; 2]) -> bool {
    let edge = |kind| {
        let address = std::net::Ipv4Addr::new(192, 0, 2, 1);
        gimlet_sim::Edge::of(&gimlet_sim::NatConfig::of_kind(kind, address))
    };
    gimlet_sim::direct_path_possible(edge(a), edge(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_possible_pairs_are_those_that_the_mission_names() {
        use NatKind::{PortRestricted, Symmetric};
        let Pairs(possible) = parse_pairs("possible").unwrap();
        assert_eq!(possible.len(), 16 + 3 + 3);
        for hopeless in [[Symmetric, Symmetric], [Symmetric, PortRestricted], [PortRestricted, Symmetric]] {
            assert!(!possible.contains(&hopeless));
        }
        assert_eq!(parse_pairs("all").unwrap().0.len(), 25);
        assert_eq!(parse_pairs("symmetric:none").unwrap(), Pairs(vec![[Symmetric, NatKind::None]]));
        assert!(parse_pairs("symmetric").is_err() && parse_pairs("a:b").is_err());
    }

    #[test]
    fn seeds_are_a_range_or_one() {
        assert_eq!((parse_seeds("3..5"), parse_seeds("7")), (Ok(3..5), Ok(7..8)));
        assert!(parse_seeds("x").is_err());
    }
}

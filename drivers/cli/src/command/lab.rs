//! `gimlet lab`: measurements in network namespaces of this kernel.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Subcommand;
use gimlet_lab::traffic::{Client, Sample, Server};
use gimlet_lab::{Duplex, Tagger};
use gimlet_machine::{Counters as _, Rng};
use gimlet_raw::Side;
use gimlet_sim::{Chance, LinkConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::parse_bytes;
use crate::failure::{Exit, Failure};
use crate::line::millis;
use crate::report::Report;
use crate::splice::carry::{Carried, Interfaces, carry};
use crate::ttfb;

/// Measure in a laboratory of network namespaces that is built for it and removed again
///
/// Nothing in it has a route to the outside. Needs root, iproute2 and nftables.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet lab ttfb --rtt 50 --connections 50                        seven ways to the first byte, in two minutes
  gimlet lab ttfb --svg ttfb.svg --json                            at four round trips, with a picture
  chrt -r 5 gimlet lab ttfb                                        on a computer that does other things, too
  gimlet lab line --client a --server b --delay 25 --loss 0.5%     a long cable between two interfaces
  gimlet lab server --listen 10.0.0.2:8080                         an ordinary server
  gimlet lab client --connect 10.0.0.2:8080 --connections 20       and its client")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure the time to the first byte with and without the handshake accelerator, beside TCP Fast Open and SYNPROXY
    Ttfb(TtfbArgs),
    /// Be a long cable between two interfaces: delay, lose, repeat and swap frames as a seed says
    Line(LineArgs),
    /// Be a switch port in a VLAN: tag what goes one way, take the tag off what comes the other way
    Tag(TagArgs),
    /// Be an ordinary server for `lab client`
    Server(ServerArgs),
    /// Connect again and again, exchange bytes, compare them, and tell the times
    Client(ClientArgs),
}

#[derive(clap::Args, Debug)]
struct TtfbArgs {
    /// Round trips, in milliseconds
    #[arg(long, value_name = "MS", value_delimiter = ',', default_values_t = [10, 50, 100, 200], value_parser = clap::value_parser!(u32).range(1..=2_000))]
    rtt: Vec<u32>,
    /// Connections in every cell of the table
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Which congestion control both ends use: cubic, reno, bbr
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    congestion: String,
    /// Draw the distributions into a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl TtfbArgs {
    fn plan(&self) -> ttfb::Plan {
        let Self { rtt, connections, congestion, .. } = self;
        ttfb::Plan { rtts: rtt.clone(), connections: *connections, congestion: congestion.clone() }
    }
}

#[derive(clap::Args, Debug)]
struct TagArgs {
    #[command(flatten)]
    interfaces: Interfaces,
    /// The tag: priority and number of the VLAN
    #[arg(long, default_value_t = 42)]
    tag: u16,
    /// The VLAN is on the client's side, not the server's
    #[arg(long)]
    reverse: bool,
}

#[derive(clap::Args, Debug)]
struct ServerArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Speak first, as mail servers do
    #[arg(long)]
    greets: bool,
    /// Which congestion control: cubic, reno, bbr
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
}

#[derive(clap::Args, Debug)]
struct ClientArgs {
    /// Where the server is
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: SocketAddr,
    /// How many connections
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// How many of them at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    parallel: u32,
    /// Bytes to send
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_bytes)]
    up: u64,
    /// Bytes to ask for
    #[arg(long, value_name = "SIZE", default_value = "1000", value_parser = parse_bytes)]
    down: u64,
    /// The server speaks first
    #[arg(long)]
    greeted: bool,
    /// Send the first bytes in the SYN (TCP Fast Open)
    #[arg(long)]
    fast_open: bool,
    /// Which congestion control: cubic, reno, bbr
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,
    /// Seconds that connecting may take, and each wait for bytes after
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(clap::Args, Debug)]
struct LineArgs {
    #[command(flatten)]
    interfaces: Interfaces,
    /// Milliseconds that a frame takes in each direction
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = parse_delay)]
    delay: f64,
    /// How often a frame is lost
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    loss: Chance,
    /// How often a frame arrives twice
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    duplicate: Chance,
    /// How often a frame is held back by up to 10 ms, so that others overtake it
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    reorder: Chance,
    /// Decides which frames
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The longest delay, ms: a minute.
const DELAY_MAX: f64 = 60_000.0;

fn parse_delay(text: &str) -> Result<f64, String> {
    let delay: f64 =
        text.parse().map_err(|_| "a delay is a number of milliseconds, such as 12.5".to_owned())?;
    if (0.0..=DELAY_MAX).contains(&delay) { Ok(delay) } else { Err("a delay is from 0 to 60000 ms".into()) }
}

pub(crate) fn run(args: &Args, report: &Report) -> Result<(), Failure> {
    match &args.what {
        What::Ttfb(args) => ttfb::run(&args.plan(), args.svg.as_deref(), report),
        What::Line(args) => line(args, report),
        What::Tag(args) => {
            let towards = if args.reverse { Side::Client } else { Side::Server };
            carry(args.interfaces.open()?, &mut Tagger { tag: args.tag, towards }, report)
        }
        What::Server(args) => server(args, report),
        What::Client(args) => client(args, report),
    }
}

fn server(args: &ServerArgs, report: &Report) -> Result<(), Failure> {
    let bound = Server::bind(args.listen, args.greets, args.congestion.as_deref());
    let server = bound.map_err(|error| Failure::local(format_args!("listen at {}", args.listen), &error))?;
    report.json(&json!({ "event": "ready", "address": server.address() }));
    report.text(&format!("ready at {}", server.address()));
    server.run();
    Ok(())
}

/// What `lab client` says of one connection. Times are milliseconds since the call of `connect`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    event: String,
    pub(crate) connect_ms: Option<f64>,
    pub(crate) first_ms: Option<f64>,
    pub(crate) total_ms: f64,
    pub(crate) received: u64,
    pub(crate) corrupt: u64,
    pub(crate) error: Option<String>,
}

impl Told {
    fn of(sample: &Sample) -> Self {
        Self {
            event: "connection".into(),
            connect_ms: sample.connect.map(millis),
            first_ms: sample.first.map(millis),
            total_ms: millis(sample.total),
            received: sample.received,
            corrupt: sample.corrupt,
            error: sample.error.clone(),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.2} ms"));
        let Self { total_ms, received, corrupt, .. } = self;
        write!(f, "connect {}, first byte {}, ", ms(self.connect_ms), ms(self.first_ms))?;
        write!(f, "{received} bytes in {total_ms:.2} ms, {corrupt} corrupt")?;
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

fn client(args: &ClientArgs, report: &Report) -> Result<(), Failure> {
    let client = Client {
        server: args.connect,
        up: args.up,
        down: args.down,
        is_greeted: args.greeted,
        fast_open: args.fast_open,
        congestion: args.congestion.clone(),
        limit: Duration::from_secs(args.timeout),
    };
    let (next, failed, corrupt) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU64::new(0));
    let connect = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= args.connections {
                return;
            }
            let told = Told::of(&client.measure(u64::from(number)));
            failed.fetch_add(u32::from(told.error.is_some()), Ordering::Relaxed);
            corrupt.fetch_add(told.corrupt, Ordering::Relaxed);
            report.json(&told);
            report.text(&told.to_string());
        }
    };
    thread::scope(|scope| {
        (0..args.parallel).for_each(|_| {
            scope.spawn(connect);
        });
    });
    let (connections, failed, corrupt) = (args.connections, failed.into_inner(), corrupt.into_inner());
    report.json(
        &json!({ "event": "summary", "connections": connections, "failed": failed, "corrupt": corrupt }),
    );
    if failed == 0 && corrupt == 0 {
        let ok = json!({ "event": "done", "ok": true });
        report.done(&Summary {
            json: ok,
            text: format!("{connections} connections, all bytes as they were sent"),
        });
        return Ok(());
    }
    let cause = format!("{failed} of {connections} connections failed, {corrupt} bytes were wrong");
    Err(Failure::new(Exit::Transfer, cause))
}

/// A last line, for both readers.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Summary {
    pub(crate) json: Value,
    #[serde(skip)]
    pub(crate) text: String,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn line(args: &LineArgs, report: &Report) -> Result<(), Failure> {
    let config = LinkConfig {
        latency: Duration::from_secs_f64(args.delay / 1_000.0),
        loss: args.loss,
        duplicate: args.duplicate,
        reorder: args.reorder,
        ..LinkConfig::default()
    };
    let mut duplex = Duplex::new(&Rng::from_u64(args.seed), config);
    carry(args.interfaces.open()?, &mut duplex, report)
}

impl Carried for Duplex {
    fn role(&self) -> &'static str {
        "line"
    }

    fn counted(&self) -> BTreeMap<&'static str, u64> {
        let [to_server, to_client] = self.counters();
        let both = to_server.each().zip(to_client.each());
        both.map(|((name, one), (_, other))| (name, one + other)).collect()
    }
}

impl Carried for Tagger {
    fn role(&self) -> &'static str {
        "tag"
    }
}

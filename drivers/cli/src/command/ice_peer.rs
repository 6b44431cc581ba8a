//! `gimlet ice-peer`: one ICE agent on real sockets, for other implementations to meet.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gimlet_ice::{Config, Role};
use gimlet_machine::{Counters as _, Rng};
use gimlet_node::{TurnServer, TurnTransport};
use gimlet_tokio::{Handle, Plain};
use gimlet_turn::LongTerm;
use gimlet_udp::Clock;
use serde::Serialize;
use tokio::sync::mpsc;

use super::RelayArgs;
use crate::cli::usage;
use crate::failure::{Exit, Failure};
use crate::ice::lines::{self, Line};
use crate::ice::peer::{Meeting, Peer, Relay, Servers};
use crate::interrupt::Interrupts;
use crate::report::Report;
use crate::sockets;

/// Lines that are read ahead. Then standard input waits.
const AHEAD_MAX: usize = 64;

/// How long the name of a server may take.
const LOOK_UP_MAX: Duration = Duration::from_secs(10);

/// How long datagrams may take to leave after the last line.
const FLUSH_MAX: Duration = Duration::from_millis(250);

/// How often it is looked whether they have.
const FLUSH_LOOK: Duration = Duration::from_millis(5);

/// Run one ICE agent on real sockets, introduced over standard input and output
///
/// Prints what the other side has to know: `ufrag X`, `pwd Y`, a `cand` line with a candidate attribute
/// (RFC 8839) for every address, and `end`. Reads the same of the other side, `ice-lite` if it is, then
/// `start`; lines may come in any order and late. Prints `state connected` or `state failed <why>`. From then on
/// `send <hex>` sends a datagram, and `recv <hex>` is one that came. `quit` ends, and so does the end of
/// the input. What cannot be done is answered with `error <what>`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet ice-peer --controlling
  gimlet ice-peer --bind 192.0.2.1 --stun stun.example.org:3478
  gimlet ice-peer --turn turn.example.org:3478 --turn-user alice --turn-pass PASSWORD --relay-only
  gimlet ice-peer --stun stun.example.org:3478 --stun stun.example.net:3478 --punch")]
pub(crate) struct Args {
    #[command(flatten)]
    stance: Stance,
    /// Where to speak from; an address of all zeros stands for every address of this machine. May be
    /// repeated
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = parse_bind, default_values = ["0.0.0.0", "::"])]
    bind: Vec<SocketAddr>,
    /// A STUN server to ask for our reflexive addresses. May be repeated
    #[arg(long, value_name = "HOST:PORT")]
    stun: Vec<String>,
    /// Seconds after which the program ends, whatever it is doing
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    #[command(flatten)]
    relay: RelayArgs,
    /// Offer nothing but what the relay gives
    #[arg(long, requires = "turn", conflicts_with_all = ["lite", "stun", "punch"])]
    relay_only: bool,
    /// Punch a hole if one of the two NATs gives every destination another port
    ///
    /// Both sides have to ask for it, and name two STUN servers, or one that tells mappings apart (RFC 5780).
    /// Finding out what the NAT does takes some seconds, after which the reflexive candidate is said once more
    /// with an extension that others ignore, and `end` follows. Up to 1,024 small packets then leave to the
    /// reflexive addresses that the other side's lines name: take lines only from whom you trust
    #[arg(long, conflicts_with = "lite")]
    punch: bool,
}

/// Who checks and who nominates.
#[derive(clap::Args, Debug)]
struct Stance {
    /// Nominate; the other side should not
    #[arg(long)]
    controlling: bool,
    /// Only answer checks, as a host with a public address may (RFC 8445 §2.5)
    #[arg(long, conflicts_with_all = ["controlling", "stun"])]
    lite: bool,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    dropped: u64,
}

pub(crate) async fn run(args: Args, report: &Report) -> Result<(), Failure> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| Failure::local("listen for signals", &error))?;
    let mut servers = Servers { relay_only: args.relay_only, punch: args.punch, ..Servers::default() };
    for name in &args.stun {
        servers.stun.extend(resolve(name).await?);
    }
    for server in args.relay.resolve().await? {
        servers.turn.push(relay(&server)?);
    }
    let sockets = sockets::bind(&args.bind, &[])?;
    let ours: Vec<SocketAddr> = sockets.local_addresses().collect();
    let seed = gimlet_udp::seed().map_err(|error| Failure::local("draw a seed", &error))?;
    let role = if args.stance.controlling { Role::Controlling } else { Role::Controlled };
    let config = Config { role, lite: args.stance.lite, ..Config::default() };
    let clock = Clock::start();
    let peer = Peer::new(clock.now(), &Rng::from_seed(seed), config, &ours, &servers)
        .map_err(|error| Failure::new(Exit::Local, error).remedy("name other addresses with --bind"))?;
    let peer = gimlet_tokio::spawn(Plain(peer), sockets, clock)
        .map_err(|error| Failure::local("drive the sockets", &error))?;
    let result = tokio::select! {
        result = talk(&peer) => result,
        () = interrupts.next() => Err(Failure::interrupted()),
        () = tokio::time::sleep(Duration::from_secs(args.timeout)) => Err(timed_out(args.timeout)),
    };
    let dropped = peer.read(|peer| peer.0.counters().total()).unwrap_or_default();
    peer.abort();
    result?;
    report.json(&Done { event: "done", ok: true, dropped });
    Ok(())
}

fn relay(server: &TurnServer) -> Result<Relay, Failure> {
    let credentials = LongTerm::new(server.username.as_bytes(), server.password.as_bytes());
    let credentials = credentials.ok_or_else(|| {
        usage("the relay's user or password is empty or too long", "check --turn-user and --turn-pass")
    })?;
    if !matches!(server.transport, TurnTransport::Udp) {
        return Err(usage("this command speaks to relays over UDP only", "name the relay as HOST:PORT"));
    }
    Ok(Relay { address: server.address, credentials })
}

fn timed_out(seconds: u64) -> Failure {
    Failure::new(Exit::Failed, format_args!("{seconds} s are over")).remedy("allow more with --timeout")
}

/// Carries lines until `quit` or the end of the input.
async fn talk(peer: &Handle<Plain<Peer>>) -> Result<(), Failure> {
    let stopped = |stopped| Failure::new(Exit::Failed, stopped);
    let mut input = read_lines();
    loop {
        tokio::select! {
            event = peer.next_event() => drop(event.map_err(stopped)?),
            line = input.recv() => match line {
                Some(line) => {
                    let line = line.map_err(|error| Failure::local("read a line", &error))?;
                    peer.with(|peer, now| peer.0.hear(now, &line)).map_err(stopped)?;
                }
                None => peer.with(|peer, now| peer.0.hear(now, &Line::Text("quit".to_owned()))).map_err(stopped)?,
            },
        }
        let (lines, over) = peer.with(|peer, _| (peer.0.take_lines(), peer.0.is_over())).map_err(stopped)?;
        print(&lines).map_err(|error| Failure::local("write a line", &error))?;
        if over {
            break;
        }
    }
    flush(peer).await;
    // The relay need not wait for our allocation to expire. If this is lost, it will.
    peer.with(|peer, now| peer.0.release(now)).map_err(stopped)?;
    tokio::time::sleep(FLUSH_LOOK).await;
    match peer.read(|peer| peer.0.meeting()).map_err(stopped)? {
        Meeting::Failed => Err(Failure::new(Exit::Unreachable, "no path to the other side works")),
        Meeting::Introducing | Meeting::Started | Meeting::Connected => Ok(()),
    }
}

/// Reads standard input on a thread of its own, because such a read cannot be cancelled.
fn read_lines() -> mpsc::Receiver<io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(AHEAD_MAX);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = lines::next(&mut input).transpose() {
            let ends = line.is_err();
            if sender.blocking_send(line).is_err() || ends {
                return;
            }
        }
    });
    receiver
}

fn print(lines: &[String]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for line in lines {
        writeln!(output, "{line}")?;
    }
    output.flush()
}

/// Lets what was sent last leave.
async fn flush(peer: &Handle<Plain<Peer>>) {
    let flushed = async {
        while matches!(peer.read(|peer| peer.0.is_flushed()), Ok(false)) {
            tokio::time::sleep(FLUSH_LOOK).await;
        }
    };
    // What has not left by then is lost, as datagrams may be.
    let _ = tokio::time::timeout(FLUSH_MAX, flushed).await;
    tokio::time::sleep(FLUSH_LOOK).await;
}

/// A server's first address of each family.
async fn resolve(name: &str) -> Result<impl Iterator<Item = SocketAddr>, Failure> {
    let looked_up = tokio::time::timeout(LOOK_UP_MAX, tokio::net::lookup_host(name)).await;
    let found = looked_up.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let found: Vec<SocketAddr> = found
        .map_err(|error| {
            Failure::new(Exit::Unreachable, format_args!("cannot resolve {name}: {error}"))
                .remedy("check the server's name; it is followed by a colon and a port")
        })?
        .collect();
    let first = |is_ipv4| found.iter().copied().find(|address: &SocketAddr| address.is_ipv4() == is_ipv4);
    Ok([first(true), first(false)].into_iter().flatten())
}

/// An address with a port or without.
fn parse_bind(text: &str) -> Result<SocketAddr, String> {
    let whole = text.parse::<SocketAddr>();
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    whole.or_else(|_| bare()).map_err(|_| "an address as 192.0.2.1, 192.0.2.1:1000, 2001:db8::1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_left_out() {
        let parsed = ["192.0.2.1", "192.0.2.1:7", "2001:db8::1", "[2001:db8::1]:7"].map(parse_bind);
        let expected = ["192.0.2.1:0", "192.0.2.1:7", "[2001:db8::1]:0", "[2001:db8::1]:7"];
        assert_eq!(parsed, expected.map(|text| Ok(text.parse().unwrap())));
        assert!(parse_bind("localhost").is_err());
    }
}

//! `gimlet serve`: a public node.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gimlet_node::{Allow, Node, Paths, RelayConfig, RelayReport, TICKET_ADDRESSES_MAX, Ticket};
use serde::Serialize;

use super::join::Host;
use super::{NodeArgs, tell_origin, tell_started};
use crate::cli::parse_bytes;
use crate::failure::{Exit, Failure};
use crate::identity;
use crate::interfaces;
use crate::interrupt::Interrupts;
use crate::line::Line;
use crate::node::{self, Running, Start};
use crate::report::Report;
use crate::sockets;
use crate::transfer::take::Welcome;
use crate::watch::Watch;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// How often what is relayed is told, at most.
const TELL_RELAYED: Duration = Duration::from_secs(5);

/// Run a public node, which introduces peers to each other, and print its ticket
///
/// It answers STUN on its port and carries the first words between peers; the ticket is how they find
/// it. For those that cannot reach each other directly it relays what they say, within limits. It has to be reachable: its UDP port open in firewalls, its address public for peers elsewhere.
/// It never sees what peers say to each other. Its identity is the identity file, made if missing.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet serve                                    every address of this machine, port 4433
  gimlet serve --listen 192.0.2.1:4433            one address
  gimlet serve --advertise 203.0.113.7            behind a port forwarding, or on a cloud host whose
                                                  public address is not its own
  gimlet serve --relay-max 1000                   relay for more peers at once
  gimlet serve --no-relay                         introduce peers, and carry nothing else
  gimlet serve --listen 127.0.0.1:0 --json        for tests: loopback, any port")]
pub(crate) struct Args {
    #[command(flatten)]
    node: NodeArgs,
    /// Where to listen; an address of all zeros stands for every address of this machine. May be
    /// repeated
    #[arg(long, value_name = "ADDRESS:PORT", default_values = ["0.0.0.0:4433", "[::]:4433"])]
    listen: Vec<SocketAddr>,
    /// What the ticket names in place of the addresses listened on: ADDRESS or ADDRESS:PORT. May be
    /// repeated
    #[arg(long, value_name = "ADDRESS", value_parser = parse_advertised)]
    advertise: Vec<Advertised>,
    /// Days until the ticket expires
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    ticket_days: u64,
    #[command(flatten)]
    relay: RelayLimits,
}

/// How much it relays.
#[derive(clap::Args, Clone, Copy, Debug)]
struct RelayLimits {
    /// Do not relay
    #[arg(long, conflicts_with_all = ["relay_max", "relay_rate"])]
    no_relay: bool,
    /// Peers relayed for at once; each costs a socket. A peer may have 4 places, one address 32
    #[arg(long, value_name = "NUMBER", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    relay_max: u16,
    /// Bytes per second relayed for one peer, both directions together; a number of bytes, or one with K, M, G
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = parse_bytes)]
    relay_rate: u64,
}

impl RelayLimits {
    /// What they come to, for a node that advertises these addresses.
    fn config(self, advertised: &[Advertised]) -> Option<RelayConfig> {
        let mut relay = RelayConfig::default();
        relay.limits.allocations_max = usize::from(self.relay_max);
        relay.limits.bytes_per_second_max = self.relay_rate;
        relay.advertised = advertised.iter().map(|it| it.ip).collect();
        Some(relay).filter(|_| !self.no_relay)
    }
}

/// An address for the ticket; without a port it takes the one listened on.
#[derive(Clone, Copy, Debug)]
struct Advertised {
    ip: IpAddr,
    port: Option<u16>,
}

#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    ticket: &'a str,
    peer: &'a str,
    addresses: Vec<String>,
    /// How many peers it relays for at once; `null`: it does not.
    relay_max: Option<u16>,
}

fn parse_advertised(text: &str) -> Result<Advertised, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Advertised { ip: address.ip(), port: Some(address.port()) });
    }
    let ip =
        text.parse().map_err(|_| "an IP address, or one with a port, such as 203.0.113.7:4433".to_owned())?;
    Ok(Advertised { ip, port: None })
}

pub(crate) async fn run(args: Args, report: &Report) -> Result<(), Failure> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| Failure::local("listen for signals", &error))?;
    let owned = identity::lasting(args.node.identity.as_deref())?;
    tell_origin(&owned, report);
    let sockets = sockets::bind(&args.listen, &[])?;
    let node = Start {
        identity: owned.identity.clone(),
        sockets,
        public: true,
        allow: Allow::Anyone,
        turn: Vec::new(),
        relay: args.relay.config(&args.advertise),
        paths: Paths::Any,
        punch: None,
    }
    .run()?;
    interfaces::follow(&node, args.listen.clone(), Vec::new());
    let _watch = Watch::start(&node, report, None);
    tell_started(&node, &owned, report);

    let addresses = advertised(&args.advertise, &node.local_addresses());
    let expires = node::unix_seconds() + args.ticket_days * SECONDS_PER_DAY;
    let ticket: Result<Ticket, _> = node
        .read(|node: &Node| node.ticket(&addresses, expires))
        .map_err(|stopped| Failure::new(Exit::Failed, stopped))?;
    let ticket = ticket
        .map_err(|error| Failure::new(Exit::Usage, error).remedy("name the right ones with --advertise"))?;
    tell_ready(&ticket, &args, report);
    if !args.relay.no_relay {
        tokio::spawn(tell_relayed(node.clone(), report.clone()));
    }
    if !ticket.addresses().iter().any(|address| sockets::is_public(address.ip())) {
        report.say(&Line::notice(
            "the ticket names no public address: good for this network only; elsewhere needs --advertise",
        ));
    }

    // Whoever takes it for a peer that accepts files is told so.
    let nothing = Welcome { folder: None, size_max: 0, messages: false, pipes: Welcome::no_pipes() };
    let host = Host::new(nothing, report, None);
    host.stay(&node, &mut interrupts).await
}

fn tell_ready(ticket: &Ticket, args: &Args, report: &Report) {
    let days = args.ticket_days;
    let relay_max = Some(args.relay.relay_max).filter(|_| !args.relay.no_relay);
    let relays = match relay_max {
        Some(max) => format!("relays for up to {max} at once, where peers cannot reach each other"),
        None => "relays for nobody".to_owned(),
    };
    let addresses: Vec<String> = ticket.addresses().iter().map(ToString::to_string).collect();
    let (text, peer) = (ticket.to_string(), ticket.peer().to_string());
    report.text(&format!(
        "public node {peer}\nat {}\n{relays}\nticket, good for {days} days:\n\n  {text}\n\nelsewhere:  gimlet join {text}\n",
        addresses.join(", ")
    ));
    report.json(&Ready { event: "ready", ticket: &text, peer: &peer, addresses, relay_max });
}

/// Tells what is relayed, as long as the node runs, whenever that has changed.
async fn tell_relayed(node: Running, report: Report) {
    let mut ticks = tokio::time::interval(TELL_RELAYED);
    let mut told = None;
    while let Ok(line) = node.read(|node| node.relay().map(relay_line)) {
        if line.is_some() && line != told {
            // Nothing is no news in the beginning.
            let idle =
                told.is_none() && matches!(line, Some(Line::Relay { allocations_ever: 0, refused: 0, .. }));
            line.iter().filter(|_| !idle).for_each(|line| report.say(line));
            told = line;
        }
        ticks.tick().await;
    }
}

fn relay_line(relay: RelayReport<'_>) -> Line {
    let counters = relay.counters;
    let dropped = [counters.over_rate, counters.unpermitted, counters.denied_peer, counters.overflow];
    Line::Relay {
        allocations: relay.allocations,
        allocations_ever: counters.allocated,
        bytes: counters.bytes_to_peers.saturating_add(counters.bytes_to_clients),
        refused: counters.refused,
        dropped: dropped.iter().sum(),
    }
}

/// What the ticket names, best first; no more than fit.
fn advertised(wanted: &[Advertised], bound: &[SocketAddr]) -> Vec<SocketAddr> {
    let port_for = |ip: IpAddr| {
        let same_family = bound.iter().find(|address| address.is_ipv4() == ip.is_ipv4());
        same_family.or(bound.first()).map_or(0, SocketAddr::port)
    };
    let named = wanted.iter().map(|it| SocketAddr::new(it.ip, it.port.unwrap_or_else(|| port_for(it.ip))));
    let mut addresses: Vec<SocketAddr> = if wanted.is_empty() { bound.to_vec() } else { named.collect() };
    addresses.truncate(TICKET_ADDRESSES_MAX);
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_address_without_a_port_takes_the_one_listened_on() {
        let bound: Vec<SocketAddr> =
            ["10.0.0.1:4433", "[fd00::1]:4434"].map(|text| text.parse().unwrap()).into();
        let wanted: Vec<Advertised> = ["203.0.113.7", "203.0.113.8:9", "2001:db8::1"]
            .map(|text| parse_advertised(text).unwrap())
            .into();
        let told: Vec<String> = advertised(&wanted, &bound).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["203.0.113.7:4433", "203.0.113.8:9", "[2001:db8::1]:4434"]);
        assert_eq!(advertised(&[], &bound), bound);
        assert!(parse_advertised("example.org").is_err());
    }
}

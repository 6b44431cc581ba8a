//! `gimlet network`: what the NAT in front of this machine does.

mod behaviour;
mod lifetime;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use gimlet_machine::{FourTuple, Rng};
use gimlet_stun::{Client, ClientConfig, ClientEvent, RequestId};
use gimlet_tokio::{Handle, Plain};
use gimlet_udp::{Clock, Sockets};
use serde::Serialize;

use crate::cli::usage;
use crate::failure::{Exit, Failure};
use crate::line::{Line, millis};
use crate::report::Report;

use behaviour::Known;
use lifetime::Lifetime;

/// RFC 8489 §6.2.1 starts at 500 ms and lets a request live for 39.5 s; people do not. Sends at 0,
/// 0.5, 1.5 and 3.5 s and gives up after 5.5 s.
const PATIENCE: (Duration, u32, u32) = (Duration::from_millis(500), 4, 4);

/// How long the name of a server may take.
const LOOK_UP_MAX: Duration = Duration::from_secs(10);

/// Servers asked at most; the STUN client's own limit on requests is higher.
const SERVERS_MAX: usize = 16;

/// Ask STUN servers how this machine is seen from outside
///
/// All servers are asked from one socket. If servers at different addresses see the same mapped
/// address, the NAT's mapping does not depend on the endpoint and peers can reach this machine
/// directly; if they see different ones, it does ("symmetric"), and direct connections succeed only
/// with peers whose NATs are kinder. A server with two addresses (RFC 5780) also tells whom the NAT
/// lets in, and whether it turns packets round. What cannot be known is null, never false. Every
/// `gimlet serve` is a STUN server, with one address.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  gimlet network --stun stun.example.org:3478 --stun 203.0.113.7:4433
  gimlet network --stun HOST:PORT HOST:PORT --json
  gimlet network --stun HOST:PORT --lifetime      best with a server that knows RESPONSE-PORT (RFC 5780)")]
pub(crate) struct Args {
    /// Servers to ask; two at different addresses can tell the mapping
    #[arg(long, value_name = "HOST:PORT", required = true, num_args = 1..)]
    stun: Vec<String>,
    /// Find out, too, how long the NAT keeps a mapping that nobody uses; takes up to five minutes
    #[arg(long)]
    lifetime: bool,
}

/// One server's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    server: SocketAddr,
    mapped: SocketAddr,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
    local: Vec<String>,
    mapped: Option<String>,
    endpoint_dependent: Option<bool>,
    #[serde(flatten)]
    known: Known,
    /// `null`: not asked for.
    binding_lifetime: Option<Lifetime>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.endpoint_dependent {
            Some(false) => "the mapping does not depend on the endpoint: direct connections are possible",
            Some(true) => "the mapping depends on the endpoint (symmetric NAT): direct connections only to peers behind kinder NATs",
            None => "whether the mapping depends on the endpoint is unknown: answers from two servers at different addresses would tell",
        })?;
        self.known.fmt(f)?;
        self.binding_lifetime.map_or(Ok(()), |lifetime| write!(f, "\n{lifetime}"))
    }
}

pub(crate) async fn run(args: Args, report: &Report) -> Result<(), Failure> {
    if args.stun.len() > SERVERS_MAX {
        return Err(usage(&format!("more than {SERVERS_MAX} servers"), "two or three are enough"));
    }
    let mut servers = Vec::new();
    for name in &args.stun {
        match resolve(name).await {
            Ok(address) => servers.push((name.clone(), address)),
            Err(error) => report.say(&unanswered(name, None, &format!("cannot resolve: {error}"))),
        }
    }
    let mut answers = Vec::new();
    let mut local = Vec::new();
    for is_ipv4 in [true, false] {
        let family: Vec<_> =
            servers.iter().filter(|(_, address)| address.is_ipv4() == is_ipv4).cloned().collect();
        if let Some((_, first)) = family.first() {
            let ours = source_towards(*first);
            let ours = ours.map_err(|error| Failure::local(format_args!("find a way to {first}"), &error))?;
            let (from, heard) = ask(ours, &family, report).await?;
            local.push(from);
            answers.push(heard);
        }
    }
    let known = discover(&local, &answers).await?;
    let binding_lifetime = if args.lifetime { watch(&local, &answers, &known, report).await? } else { None };
    let endpoint_dependent = overall(&answers).or_else(|| known.endpoint_dependent());
    let local = local.iter().map(SocketAddr::to_string).collect();
    let mapped = answers.iter().flatten().next().map(|answer| answer.mapped.to_string());
    let ok = mapped.is_some();
    report.done(&Done { event: "done", ok, local, mapped, endpoint_dependent, known, binding_lifetime });
    if ok {
        return Ok(());
    }
    Err(Failure::new(Exit::Unreachable, "no STUN server answered")
        .remedy("check the servers' names and ports, and that UDP is let out"))
}

/// The first family that answered: our address, and what the servers said.
fn first_answered<'a>(
    local: &[SocketAddr],
    answers: &'a [Vec<Answer>],
) -> Option<(SocketAddr, &'a Vec<Answer>)> {
    let (ours, heard) = local.iter().zip(answers).find(|(_, heard)| !heard.is_empty())?;
    Some((*ours, heard))
}

/// How long the NAT keeps mappings, asked of the first server that answered.
async fn watch(
    local: &[SocketAddr],
    answers: &[Vec<Answer>],
    known: &Known,
    report: &Report,
) -> Result<Option<Lifetime>, Failure> {
    let Some((ours, heard)) = first_answered(local, answers) else { return Ok(None) };
    let Some(server) = heard.first() else { return Ok(None) };
    lifetime::watch(ours, server.server, known.scatters(), report).await.map(Some)
}

/// The behaviour of the NAT on the way to the servers of the first family that answered.
async fn discover(local: &[SocketAddr], answers: &[Vec<Answer>]) -> Result<Known, Failure> {
    let Some((ours, heard)) = first_answered(local, answers) else {
        return Ok(gimlet_stun::Behaviour::default().into());
    };
    let mut servers: Vec<SocketAddr> = heard.iter().map(|answer| answer.server).collect();
    servers.truncate(gimlet_stun::SERVERS_MAX);
    behaviour::discover(ours, &servers).await
}

/// A server's address; IPv4 first, because that is where NATs are.
pub(super) async fn resolve(name: &str) -> io::Result<SocketAddr> {
    let looked_up = tokio::time::timeout(LOOK_UP_MAX, tokio::net::lookup_host(name)).await;
    let mut found: Vec<SocketAddr> =
        looked_up.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Which of our addresses the system would use towards `server`. Nothing is sent.
fn source_towards(server: SocketAddr) -> io::Result<SocketAddr> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let probe = UdpSocket::bind(any)?;
    probe.connect(server)?;
    Ok(SocketAddr::new(probe.local_addr()?.ip(), 0))
}

/// Asks all servers of one family from one socket, and waits for all answers or their absence.
async fn ask(
    ours: SocketAddr,
    servers: &[(String, SocketAddr)],
    report: &Report,
) -> Result<(SocketAddr, Vec<Answer>), Failure> {
    let seed = gimlet_udp::seed().map_err(|error| Failure::local("draw a seed", &error))?;
    let (rto, rc, rm) = PATIENCE;
    let config = ClientConfig { rto, rc, rm, ..ClientConfig::default() };
    let sockets = Sockets::bind([ours]).map_err(|error| Failure::new(Exit::Local, error))?;
    let client = Plain(Client::new(Rng::from_seed(seed), config));
    let client = gimlet_tokio::spawn(client, sockets, Clock::start())
        .map_err(|error| Failure::local("drive the socket", &error))?;
    let from = client.local_addresses().first().copied().unwrap_or(ours);
    let mut waiting: BTreeMap<RequestId, &(String, SocketAddr)> = BTreeMap::new();
    for server in servers {
        let asked = client.with(|client, now| client.0.binding(now, FourTuple::new(from, server.1)));
        match asked.map_err(|stopped| Failure::new(Exit::Failed, stopped))? {
            Ok(id) => drop(waiting.insert(id, server)),
            Err(error) => report.say(&unanswered(&server.0, Some(server.1), &error.to_string())),
        }
    }
    let answers = collect(&client, waiting, report).await?;
    client.abort();
    Ok((from, answers))
}

async fn collect(
    client: &Handle<Plain<Client>>,
    mut waiting: BTreeMap<RequestId, &(String, SocketAddr)>,
    report: &Report,
) -> Result<Vec<Answer>, Failure> {
    let mut answers = Vec::new();
    while !waiting.is_empty() {
        // Every request ends in one of these events, after 5.5 s at the latest.
        let event = client.next_event().await.map_err(|stopped| Failure::new(Exit::Failed, stopped))?;
        match event {
            ClientEvent::Answered { id, mapped, rtt, .. } => {
                let Some((name, address)) = waiting.remove(&id) else { continue };
                report.say(&Line::Server {
                    server: name.clone(),
                    address: Some(address.to_string()),
                    mapped: Some(mapped.to_string()),
                    rtt_ms: rtt.map(millis),
                    error: None,
                });
                answers.push(Answer { server: *address, mapped });
            }
            ClientEvent::Failed { id, cause, .. } => {
                let Some((name, address)) = waiting.remove(&id) else { continue };
                report.say(&unanswered(name, Some(*address), &cause.to_string()));
            }
        }
    }
    Ok(answers)
}

fn unanswered(server: &str, address: Option<SocketAddr>, error: &str) -> Line {
    Line::Server {
        server: server.to_owned(),
        address: address.map(|address| address.to_string()),
        mapped: None,
        rtt_ms: None,
        error: Some(error.to_owned()),
    }
}

/// Whether the mapping depends on the endpoint (RFC 4787 §4.1), as far as the answers tell: two
/// different mapped addresses prove that it does; equal ones prove that it does not only if they come
/// from servers at different IP addresses, because a mapping may depend on the address alone.
fn endpoint_dependent(answers: &[Answer]) -> Option<bool> {
    let first = answers.first()?;
    if answers.iter().any(|answer| answer.mapped != first.mapped) {
        return Some(true);
    }
    let other_address = answers.iter().any(|answer| answer.server.ip() != first.server.ip());
    other_address.then_some(false)
}

/// Over both families: one that depends is enough to say so.
fn overall(families: &[Vec<Answer>]) -> Option<bool> {
    let known: Vec<bool> = families.iter().filter_map(|answers| endpoint_dependent(answers)).collect();
    if known.is_empty() { None } else { Some(known.contains(&true)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(told: &[(&str, &str)]) -> Vec<Answer> {
        told.iter()
            .map(|(server, mapped)| Answer {
                server: server.parse().unwrap(),
                mapped: mapped.parse().unwrap(),
            })
            .collect()
    }

    #[test]
    fn unknown_is_never_false() {
        let (one, same_ip) = (("192.0.2.1:1", "203.0.113.1:9"), ("192.0.2.1:2", "203.0.113.1:9"));
        assert_eq!(endpoint_dependent(&[]), None);
        assert_eq!(endpoint_dependent(&answers(&[one])), None);
        assert_eq!(endpoint_dependent(&answers(&[one, same_ip])), None);
        assert_eq!(endpoint_dependent(&answers(&[one, ("192.0.2.2:1", "203.0.113.1:9")])), Some(false));
        assert_eq!(endpoint_dependent(&answers(&[one, ("192.0.2.2:1", "203.0.113.1:8")])), Some(true));
        assert_eq!(endpoint_dependent(&answers(&[one, ("192.0.2.1:2", "203.0.113.1:8")])), Some(true));
        assert_eq!(overall(&[Vec::new(), answers(&[one])]), None);
    }
}

//! The lines of every timeline: one value for both readers, people and programs.

use std::fmt;
use std::time::Duration;

use gimlet_machine::PeerId;
use gimlet_node::{Event, Explanation, LostCause, Progress, Verdict, Via};
use serde::Serialize;

use crate::report::Detail;

/// Something worth telling. In JSON, `event` is the variant's name and the fields are its fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line {
    /// Anything that people should know and programs need not.
    Notice {
        text: String,
    },
    /// A node runs.
    Started {
        peer: String,
        addresses: Vec<String>,
    },
    /// An identity file was made.
    Identity {
        path: String,
        peer: String,
    },
    /// What became of a TCP connection in the wire.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only there is a `splice`"))]
    Flow {
        flow: String,
        what: &'static str,
        detail: String,
    },
    /// A step on the way to a peer.
    Progress {
        peer: String,
        text: String,
    },
    /// We relay for a peer, or no longer.
    Relaying {
        peer: String,
        client: String,
    },
    Relayed {
        peer: String,
        client: String,
        bytes_to_peers: u64,
        bytes_from_peers: u64,
    },
    /// What we relay for all peers together: now, and since the beginning.
    Relay {
        allocations: usize,
        allocations_ever: u64,
        bytes: u64,
        refused: u64,
        dropped: u64,
    },
    /// A STUN server told us an address of ours.
    Mapped {
        local: String,
        mapped: String,
    },
    /// A peer is connected.
    Connected {
        peer: String,
        path: String,
        address: String,
        via: String,
    },
    /// Data to a peer moved to another path.
    PathChanged {
        peer: String,
        path: String,
        address: String,
    },
    /// How a peer is reached.
    Peer {
        peer: String,
        path: String,
        address: Option<String>,
        rtt_ms: Option<f64>,
        cause: Option<String>,
    },
    /// Why it is reached so, or not at all.
    Explained {
        peer: String,
        path: String,
        verdict: String,
        nat_here: String,
        nat_there: String,
        mapped: Vec<String>,
        candidates_here: Vec<String>,
        candidates_there: Vec<String>,
        pairs: Vec<String>,
    },
    /// An attempt to connect failed.
    Failed {
        peer: String,
        cause: String,
    },
    /// A peer is gone.
    Lost {
        peer: String,
        cause: String,
        by_us: bool,
        reconnecting: bool,
    },
    /// A text arrived.
    Message {
        from: String,
        text: String,
    },
    /// A text was delivered.
    MessageDelivered {
        to: String,
        bytes: usize,
    },
    /// A file begins to arrive.
    Receiving {
        from: String,
        name: String,
        bytes: u64,
        resumed_at: u64,
    },
    /// A file arrived whole.
    Received {
        from: String,
        file: String,
        bytes: u64,
        resumed_at: u64,
        sha256: String,
    },
    /// A file begins to leave.
    Sending {
        to: String,
        name: String,
        bytes: u64,
    },
    /// A file was delivered whole.
    Sent {
        to: String,
        name: String,
        stored_as: String,
        bytes: u64,
        resumed_at: u64,
        mbit_per_s: f64,
        sha256: String,
    },
    /// A transfer failed.
    TransferFailed {
        peer: String,
        cause: String,
    },
    /// A peer's pipe is open.
    Piped {
        peer: String,
    },
    /// A mapping of a NAT was left alone for a while.
    MappingWaited {
        seconds: u64,
        alive: Option<bool>,
    },
    /// A STUN server answered, or did not.
    Server {
        server: String,
        address: Option<String>,
        mapped: Option<String>,
        rtt_ms: Option<f64>,
        error: Option<String>,
    },
    /// A packet in the simulator.
    Packet {
        number: u64,
        step: String,
        source: String,
        destination: String,
        bytes: usize,
    },
}

impl Line {
    pub(crate) fn notice(text: impl fmt::Display) -> Self {
        Line::Notice { text: text.to_string() }
    }

    /// How a peer is reached.
    pub(crate) fn peer(of: &Explanation<'_>) -> Self {
        Line::Peer {
            peer: of.peer.to_string(),
            path: way(of).into(),
            address: of.path.map(|path| path.peer_address().to_string()),
            rtt_ms: of.rtt.map(millis),
            cause: of.ended.as_ref().filter(|_| of.path.is_none()).map(ToString::to_string),
        }
    }

    /// Why it is reached so.
    pub(crate) fn explained(of: &Explanation<'_>) -> Self {
        let named = |all: &[&gimlet_ice::Candidate]| {
            all.iter().map(|it| format!("{} {}", it.kind, it.address)).collect()
        };
        let seen = |(local, server, mapped): &(_, _, _)| format!("{local} is {mapped} to {server}");
        let (candidates_here, candidates_there) = (named(&of.local), named(&of.remote));
        Line::Explained {
            peer: of.peer.to_string(),
            path: way(of).into(),
            verdict: of.verdict.to_string(),
            nat_here: of.mapping_here.to_string(),
            nat_there: of.mapping_there.to_string(),
            mapped: of.mapped.iter().map(seen).collect(),
            candidates_here,
            candidates_there,
            pairs: of.pairs.iter().map(ToString::to_string).collect(),
        }
    }

    /// The line for a node's event; `None` for what only its verbs care about. `relayed`: whether data to the
    /// event's peer crosses a relay.
    pub(crate) fn of(event: &Event, relayed: bool) -> Option<Line> {
        let name = PeerId::to_string;
        Some(match event {
            Event::Connected { peer, path, via, .. } => {
                let via = match via {
                    Via::Address => "address".into(),
                    Via::Introducer(introducer) => name(introducer),
                };
                let (path, address) = (kind_of(*path, relayed).into(), path.peer_address().to_string());
                Line::Connected { peer: name(peer), path, address, via }
            }
            Event::Failed { peer, cause } => Line::Failed { peer: name(peer), cause: cause.to_string() },
            Event::Lost { peer, cause, reconnecting } => Line::Lost {
                peer: name(peer),
                cause: cause.to_string(),
                by_us: *cause == LostCause::ClosedByUs,
                reconnecting: *reconnecting,
            },
            Event::PathChanged { peer, path } => Line::PathChanged {
                peer: name(peer),
                path: kind_of(*path, relayed).into(),
                address: path.peer_address().to_string(),
            },
            Event::Progress { step: Progress::Reflexive { local, mapped }, .. } => {
                Line::Mapped { local: local.to_string(), mapped: mapped.to_string() }
            }
            Event::Progress { peer, step: Progress::Relaying { client } } => {
                Line::Relaying { peer: name(peer), client: client.to_string() }
            }
            Event::Progress { peer, step: Progress::Relayed { client, to_peers, from_peers } } => {
                Line::Relayed {
                    peer: name(peer),
                    client: client.to_string(),
                    bytes_to_peers: *to_peers,
                    bytes_from_peers: *from_peers,
                }
            }
            Event::Progress {
                step: step @ (Progress::RelayFailed { .. } | Progress::RelayUnreachable { .. }),
                ..
            } => Line::notice(step),
            Event::Progress { peer, step } => Line::Progress { peer: name(peer), text: step.to_string() },
            Event::Incoming { .. }
            | Event::StreamsReady { .. }
            | Event::Readable { .. }
            | Event::Writable { .. }
            | Event::DatagramReceived { .. } => return None,
        })
    }

    /// Who wants to read it.
    pub(crate) fn detail(&self) -> Detail {
        match self {
            Line::Packet { .. } | Line::Flow { .. } => Detail::Packets,
            Line::Progress { .. }
            | Line::Relaying { .. }
            | Line::Relayed { .. }
            | Line::Relay { .. }
            | Line::Mapped { .. }
            | Line::Started { .. }
            | Line::Lost { by_us: true, .. } => Detail::Steps,
            Line::Notice { .. }
            | Line::Identity { .. }
            | Line::Connected { .. }
            | Line::PathChanged { .. }
            | Line::Peer { .. }
            | Line::Explained { .. }
            | Line::Failed { .. }
            | Line::Lost { .. }
            | Line::Message { .. }
            | Line::MessageDelivered { .. }
            | Line::Receiving { .. }
            | Line::Received { .. }
            | Line::Sending { .. }
            | Line::Sent { .. }
            | Line::TransferFailed { .. }
            | Line::Piped { .. }
            | Line::MappingWaited { .. }
            | Line::Server { .. } => Detail::Results,
        }
    }
}

/// `direct`, `relayed` or `none`.
fn way(of: &Explanation<'_>) -> &'static str {
    of.path.map_or("none", |path| kind_of(path, of.verdict != Verdict::Direct))
}

/// `direct`, or `relayed`, by our relay or by the peer's.
pub(crate) fn kind_of(path: gimlet_machine::Path, relayed: bool) -> &'static str {
    if path.is_direct() && !relayed { "direct" } else { "relayed" }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Notice { text } => f.write_str(text),
            Line::Started { peer, addresses } => {
                write!(f, "peer {peer} speaks from {}", addresses.join(", "))
            }
            Line::Identity { path, peer } => write!(f, "new identity {} written to {path}", short(peer)),
            Line::Flow { flow, what, detail } => write!(f, "{flow} {what} {detail}"),
            Line::Progress { peer, text } => write!(f, "to {}: {text}", short(peer)),
            Line::Relaying { peer, client } => write!(f, "relaying for {} at {client}", short(peer)),
            Line::Relayed { peer, client, bytes_to_peers, bytes_from_peers } => {
                let bytes = Bytes(bytes_to_peers.saturating_add(*bytes_from_peers));
                write!(f, "relayed {bytes} for {} at {client}", short(peer))
            }
            Line::Relay { allocations, allocations_ever, bytes, refused, dropped } => write!(
                f,
                "relaying for {allocations} now, {allocations_ever} ever: {}, {refused} requests refused, {dropped} \
                 datagrams dropped",
                Bytes(*bytes)
            ),
            Line::Mapped { local, mapped } => write!(f, "{local} is seen as {mapped}"),
            Line::Connected { peer, path, address, via } => {
                write!(f, "connected to {} at {address} ({path}", short(peer))?;
                if via == "address" { f.write_str(")") } else { write!(f, ", introduced by {})", short(via)) }
            }
            Line::PathChanged { peer, path, address } => {
                write!(f, "data to {} takes another path: {path} to {address}", short(peer))
            }
            Line::Peer { .. } | Line::Explained { .. } => write_way(f, self),
            Line::Failed { peer, cause } => write!(f, "no connection to {}: {cause}", short(peer)),
            Line::Lost { peer, cause, reconnecting, .. } => {
                let then = if *reconnecting { "; reconnecting" } else { "" };
                write!(f, "{} is gone: {cause}{then}", short(peer))
            }
            Line::Message { from, text } => write!(f, "{} says: {text}", short(from)),
            Line::MessageDelivered { to, bytes } => {
                write!(f, "message of {bytes} bytes delivered to {}", short(to))
            }
            Line::Receiving { from, name, bytes, resumed_at } => {
                write!(f, "receiving {name} ({}) from {}", Bytes(*bytes), short(from))?;
                write_resumed(f, *resumed_at)
            }
            Line::Received { from, file, bytes, resumed_at, sha256 } => {
                write!(f, "received {file} ({}) from {}", Bytes(*bytes), short(from))?;
                write_resumed(f, *resumed_at)?;
                write!(f, "; hash verified: {sha256}")
            }
            Line::Sending { to, name, bytes } => {
                write!(f, "sending {name} ({}) to {}", Bytes(*bytes), short(to))
            }
            Line::Sent { to, name, stored_as, bytes, resumed_at, mbit_per_s, sha256 } => {
                write!(f, "{name} ({}) delivered to {} as {stored_as}", Bytes(*bytes), short(to))?;
                write_resumed(f, *resumed_at)?;
                write!(f, " at {mbit_per_s:.0} Mbit/s; hash verified: {sha256}")
            }
            Line::TransferFailed { peer, cause } => write!(f, "with {}: {cause}", short(peer)),
            Line::Piped { peer } => write!(f, "piped to {}", short(peer)),
            Line::MappingWaited { .. } | Line::Server { .. } => write_network(f, self),
            Line::Packet { number, step, source, destination, bytes } => {
                write!(f, "packet {number} {step}: {source} -> {destination}, {bytes} bytes")
            }
        }
    }
}

/// What the network in front of us does.
fn write_network(f: &mut fmt::Formatter<'_>, line: &Line) -> fmt::Result {
    if let Line::MappingWaited { seconds, alive } = line {
        let became = match alive {
            Some(true) => "is still there",
            Some(false) => "is gone",
            None => "does not show whether it is there",
        };
        return write!(f, "after {seconds} s a mapping {became}");
    }
    let Line::Server { server, mapped, rtt_ms, error, .. } = line else { return Ok(()) };
    let Some(mapped) = mapped else {
        return write!(f, "{server}: {}", error.as_deref().unwrap_or("no answer"));
    };
    write!(f, "{server} sees us as {mapped}")?;
    rtt_ms.map_or(Ok(()), |rtt| write!(f, ", round trip {rtt:.1} ms"))
}

/// How a peer is reached, or why.
fn write_way(f: &mut fmt::Formatter<'_>, line: &Line) -> fmt::Result {
    if let Line::Peer { peer, path, address, rtt_ms, cause } = line {
        let Some(address) = address else {
            write!(f, "{}: not connected", short(peer))?;
            return cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"));
        };
        write!(f, "{}: {path} to {address}", short(peer))?;
        return rtt_ms.map_or(Ok(()), |rtt| write!(f, ", round trip {rtt:.1} ms"));
    }
    let Line::Explained { peer, verdict, nat_here, nat_there, mapped, pairs, .. } = line else {
        return Ok(());
    };
    let Line::Explained { candidates_here, candidates_there, .. } = line else { return Ok(()) };
    write!(f, "why, to {}: {verdict}\n    here: {nat_here}", short(peer))?;
    let lists = [("", mapped), ("candidate here: ", candidates_here)];
    lists.iter().try_for_each(|(what, all)| write_list(f, what, all))?;
    write!(f, "\n    there: {nat_there}")?;
    let lists = [("candidate there: ", candidates_there), ("tried: ", pairs)];
    lists.iter().try_for_each(|(what, all)| write_list(f, what, all))
}

fn write_list(f: &mut fmt::Formatter<'_>, what: &str, all: &[String]) -> fmt::Result {
    all.iter().try_for_each(|one| write!(f, "\n      {what}{one}"))
}

fn write_resumed(f: &mut fmt::Formatter<'_>, at: u64) -> fmt::Result {
    if at == 0 { Ok(()) } else { write!(f, ", resumed after {}", Bytes(at)) }
}

/// Enough of a peer id for people.
fn short(peer: &str) -> &str {
    peer.get(..8).unwrap_or(peer)
}

/// A number of bytes for people: `1.5 MiB`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut tenths = u128::from(self.0) * 10;
        if self.0 < 1_024 {
            return write!(f, "{} bytes", self.0);
        }
        let mut unit = "bytes";
        for next in UNITS {
            if tenths < 10_240 {
                break;
            }
            (tenths, unit) = (tenths / 1_024, next);
        }
        if tenths % 10 == 0 {
            write!(f, "{} {unit}", tenths / 10)
        } else {
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// Milliseconds with three decimals.
#[allow(clippy::cast_precision_loss)] // 2^53 microseconds are 285 years
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

/// Megabits per second with one decimal.
#[allow(clippy::cast_precision_loss)] // a rate for people
pub(crate) fn mbit_per_s(bytes: u64, took: Duration) -> f64 {
    let rate = bytes as f64 * 8.0 / 1e6 / took.as_secs_f64().max(1e-9);
    (rate * 10.0).round() / 10.0
}

/// 64 hexadecimal digits.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1_023, "1023 bytes"),
            (1_024, "1 KiB"),
            (1_536, "1.5 KiB"),
            (100 << 20, "100 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            let told = Bytes(bytes).to_string();
            assert!(told == text || (bytes == u64::MAX && told == "15.9 EiB"), "{bytes}: {told}");
        }
    }

    #[test]
    fn json_names_the_event_first() {
        let line = Line::Failed { peer: "p".into(), cause: "c".into() };
        assert_eq!(serde_json::to_string(&line).unwrap(), r#"{"event":"failed","peer":"p","cause":"c"}"#);
    }
}

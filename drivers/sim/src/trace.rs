//! What happened, as a hash, as numbers, and for whoever wants to watch.

mod digest;

use std::fmt;
use std::net::SocketAddr;

use gimlet_machine::{Ecn, Instant};

use digest::Digest;

use crate::{Fault, HostId, LinkDrop, NatEvent, NatId, Protocol, Refusal};

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// A line dropped it.
    Link(LinkDrop),
    /// A NAT did not let it through.
    Nat(Refusal),
    /// Nobody in reach has the destination address.
    NoRoute,
    /// The destination host has no socket on that port.
    NoSocket,
    /// The sender has no such address.
    NotOurAddress,
    /// The network is cut between the two ([`Fault::Cut`]).
    Cut,
    /// The destination host is stopped.
    HostDown,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::Link(LinkDrop::Lost) => "lost",
            DropReason::Link(LinkDrop::QueueFull) => "queue full",
            DropReason::Link(LinkDrop::TooBig) => "larger than the MTU",
            DropReason::Nat(Refusal::NoMapping) => "NAT: no mapping",
            DropReason::Nat(Refusal::Filtered) => "NAT: filtered",
            DropReason::Nat(Refusal::NoPort) => "NAT: no free port",
            DropReason::Nat(Refusal::TableFull) => "NAT: table full",
            DropReason::Nat(Refusal::NoHairpin) => "NAT: no hairpinning",
            DropReason::Nat(Refusal::Firewall) => "NAT: firewall",
            DropReason::Nat(Refusal::WrongFamily) => "NAT: wrong address family",
            DropReason::NoRoute => "no route",
            DropReason::NoSocket => "no socket",
            DropReason::NotOurAddress => "not the sender's address",
            DropReason::Cut => "network cut",
            DropReason::HostDown => "host down",
        })
    }
}

/// What just happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A host sent it.
    Sent {
        /// Which.
        by: HostId,
    },
    /// A line doubled it; both copies have the same number.
    Duplicated,
    /// A NAT rewrote its addresses.
    Translated {
        /// Which.
        by: NatId,
    },
    /// A host's machine was given it.
    Delivered {
        /// Which.
        to: HostId,
    },
    /// It is gone.
    Dropped {
        /// Why.
        why: DropReason,
    },
}

/// One step of one packet.
#[derive(Clone, Copy, Debug)]
pub struct PacketRecord<'a> {
    /// When.
    pub at: Instant,
    /// The packet's number: the same for every step and copy of it.
    pub number: u64,
    /// The host that sent it.
    pub sender: HostId,
    /// What happened.
    pub step: Step,
    /// Its source, as it reads after this step.
    pub source: SocketAddr,
    /// Its destination, as it reads after this step.
    pub destination: SocketAddr,
    /// What it carries.
    pub protocol: Protocol,
    /// Its mark.
    pub ecn: Ecn,
    /// Its payload; of a segment, with its header.
    pub bytes: &'a [u8],
}

impl fmt::Display for PacketRecord<'_> {
    /// `0.020000 #7 alice's packet delivered: 10.0.0.1:1 -> 10.0.0.2:2, 64 bytes`, with host numbers
    /// in place of names: names belong to the world.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{} from {} ", self.at, self.number, self.sender)?;
        match self.step {
            Step::Sent { .. } => f.write_str("sent")?,
            Step::Duplicated => f.write_str("duplicated")?,
            Step::Translated { by } => write!(f, "translated by {by}")?,
            Step::Delivered { to } => write!(f, "delivered to {to}")?,
            Step::Dropped { why } => write!(f, "dropped ({why})")?,
        }
        write!(f, ": {} -> {}, {} bytes", self.source, self.destination, self.bytes.len())
    }
}

/// Watches the world, and cannot change it.
pub trait Observer {
    /// A packet took a step.
    fn packet(&mut self, record: &PacketRecord<'_>);
    /// A NAT's table changed.
    fn nat(&mut self, _at: Instant, _nat: NatId, _event: &NatEvent) {}
    /// A fault struck.
    fn fault(&mut self, _at: Instant, _fault: &Fault) {}
}

impl<O: Observer + ?Sized> Observer for Box<O> {
    fn packet(&mut self, record: &PacketRecord<'_>) {
        (**self).packet(record);
    }

    fn nat(&mut self, at: Instant, nat: NatId, event: &NatEvent) {
        (**self).nat(at, nat, event);
    }

    fn fault(&mut self, at: Instant, fault: &Fault) {
        (**self).fault(at, fault);
    }
}

/// The hash of everything that happened: equal seeds and equal builds give equal hashes. Written as
/// 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceHash(pub [u8; 32]);

impl fmt::Display for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceHash({self})")
    }
}

gimlet_machine::counters! {
    /// What became of the packets, segments of connections included.
    pub struct Counts {
        /// Packets that machines and connections sent.
        sent,
        /// Their payload bytes.
        bytes_sent,
        /// Packets given to machines and connections.
        delivered,
        /// Their payload bytes.
        bytes_delivered,
        /// Extra copies made by lines.
        duplicated,
        /// Address rewritings by NATs.
        translated,
        /// Delivered, and refused by the machine ([`gimlet_machine::Verdict::NotMine`]).
        not_mine,
        /// Dropped by a line, at random.
        lost,
        /// Dropped by a full queue.
        queue_full,
        /// Dropped for their size.
        too_big,
        /// Dropped by NATs, for whatever reason ([`crate::Nat::counters`] has the details).
        nat_refused,
        /// Dropped with nowhere to go: [`DropReason::NoRoute`].
        no_route,
        /// See [`DropReason::NoSocket`].
        no_socket,
        /// See [`DropReason::NotOurAddress`].
        not_our_address,
        /// See [`DropReason::Cut`].
        cut,
        /// See [`DropReason::HostDown`].
        host_down,
        /// Events that nobody polled in time ([`crate::EVENTS_MAX`]).
        events_dropped,
    }
}

/// Hash, counts and observers.
pub(crate) struct Trace {
    digest: Option<Digest>,
    pub(crate) counts: Counts,
    observers: Vec<Box<dyn Observer>>,
}

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        Self { digest: Some(Digest::new(seed)), counts: Counts::default(), observers: Vec::new() }
    }

    pub(crate) fn without_hash(&mut self) {
        self.digest = None;
    }

    pub(crate) fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observers.push(observer);
    }

    pub(crate) fn hash(&self) -> Option<TraceHash> {
        self.digest.as_ref().map(Digest::hash)
    }

    pub(crate) fn packet(&mut self, record: &PacketRecord<'_>) {
        self.count(record);
        if let Some(digest) = &mut self.digest {
            digest.packet(record);
        }
        for observer in &mut self.observers {
            observer.packet(record);
        }
    }

    pub(crate) fn nat(&mut self, at: Instant, nat: NatId, event: &NatEvent) {
        for observer in &mut self.observers {
            observer.nat(at, nat, event);
        }
    }

    pub(crate) fn fault(&mut self, at: Instant, fault: &Fault) {
        if let Some(digest) = &mut self.digest {
            digest.fault(at, fault);
        }
        for observer in &mut self.observers {
            observer.fault(at, fault);
        }
    }

    fn count(&mut self, record: &PacketRecord<'_>) {
        let counts = &mut self.counts;
        let length = record.bytes.len() as u64;
        match record.step {
            Step::Sent { .. } => {
                counts.sent += 1;
                counts.bytes_sent += length;
            }
            Step::Duplicated => counts.duplicated += 1,
            Step::Translated { .. } => counts.translated += 1,
            Step::Delivered { .. } => {
                counts.delivered += 1;
                counts.bytes_delivered += length;
            }
            Step::Dropped { why } => {
                *match why {
                    DropReason::Link(LinkDrop::Lost) => &mut counts.lost,
                    DropReason::Link(LinkDrop::QueueFull) => &mut counts.queue_full,
                    DropReason::Link(LinkDrop::TooBig) => &mut counts.too_big,
                    DropReason::Nat(_) => &mut counts.nat_refused,
                    DropReason::NoRoute => &mut counts.no_route,
                    DropReason::NoSocket => &mut counts.no_socket,
                    DropReason::NotOurAddress => &mut counts.not_our_address,
                    DropReason::Cut => &mut counts.cut,
                    DropReason::HostDown => &mut counts.host_down,
                } += 1;
            }
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("hash", &self.hash()).field("counts", &self.counts).finish()
    }
}

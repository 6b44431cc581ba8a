//! Hosts: a machine, its sockets, and its line to the network.

use std::fmt;
use std::net::SocketAddr;

use gimlet_machine::{Instant, Machine, Rng};

use crate::connections::Connections;
use crate::link::{Link, LinkConfig};
use crate::net::NatId;
use crate::sockets::{OPENED_MAX, Sockets};

/// Names a host of a [`crate::World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub(crate) u32);

impl HostId {
    /// Its number: hosts count from 0 in the order in which they were added.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.0)
    }
}

/// Where a host is and how it is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// For people.
    pub name: String,
    /// Its sockets: what its machine may call `local`. Port 0 stands for every port of the address.
    pub sockets: Vec<SocketAddr>,
    /// Where it listens for TCP connections. Its machine hears of them as of those that it asks for itself, by
    /// [`gimlet_machine::Answer::Connected`]; the host chooses their names, from [`crate::ACCEPTED_FIRST`] on.
    pub listens: Vec<SocketAddr>,
    /// The NAT between it and the internet, if any. Sockets of a family that the NAT does not
    /// translate are beyond it.
    pub behind: Option<NatId>,
    /// What happens to the packets it sends.
    pub uplink: LinkConfig,
    /// What happens to the packets sent to it.
    pub downlink: LinkConfig,
    /// Datagrams that its machine may write as one train. 1: a driver without segmentation offload.
    pub segments_max: usize,
    /// Sockets and connections that its machine may open besides ([`OPENED_MAX`]).
    pub opened_max: usize,
}

impl HostConfig {
    /// A host with these sockets on a perfect line to the internet.
    pub fn new(name: impl Into<String>, sockets: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            name: name.into(),
            sockets: sockets.into_iter().collect(),
            listens: Vec::new(),
            behind: None,
            uplink: LinkConfig::default(),
            downlink: LinkConfig::default(),
            segments_max: 1,
            opened_max: OPENED_MAX,
        }
    }

    /// The same host behind `nat`.
    #[must_use]
    pub fn behind(mut self, nat: impl Into<Option<NatId>>) -> Self {
        self.behind = nat.into();
        self
    }

    /// The same host on a line that does this in each direction. A packet crosses its sender's
    /// uplink and its receiver's downlink, so latencies add up.
    #[must_use]
    pub fn link(mut self, both: LinkConfig) -> Self {
        (self.uplink, self.downlink) = (both, both);
        self
    }
}

/// What a factory of machines is told.
#[derive(Debug)]
pub struct Seat {
    /// The host that needs a machine.
    pub host: HostId,
    /// The moment it starts.
    pub now: Instant,
    /// How many machines it has had: 0 at first, then one more with each start.
    pub incarnation: u64,
    /// Dice for this machine and nobody else.
    pub rng: Rng,
}

/// Makes a machine for a host that starts.
pub(crate) type Factory<M> = Box<dyn FnMut(Seat) -> M>;

/// Acts on an event at the moment it is polled; what it returns is kept for
/// [`crate::World::poll_event`].
pub(crate) type Reaction<M> =
    Box<dyn FnMut(&mut M, Instant, <M as Machine>::Event) -> Option<<M as Machine>::Event>>;

/// When a machine is woken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alarm {
    /// When it wants to be.
    pub(crate) deadline: Option<Instant>,
    /// The earliest wake-up that is on the agenda.
    pub(crate) planned: Option<Instant>,
}

/// A host in the world.
pub(crate) struct Host<M: Machine> {
    pub(crate) name: String,
    /// `None`: stopped.
    pub(crate) machine: Option<M>,
    pub(crate) factory: Option<Factory<M>>,
    pub(crate) reaction: Option<Reaction<M>>,
    pub(crate) incarnation: u64,
    pub(crate) sockets: Sockets,
    pub(crate) connections: Connections,
    /// The networks that its IPv4 and its IPv6 sockets are in.
    pub(crate) realms: [u32; 2],
    pub(crate) uplink: Link,
    pub(crate) downlink: Link,
    pub(crate) alarm: Alarm,
    pub(crate) segments_max: usize,
}

impl<M: Machine> Host<M> {
    pub(crate) fn realm(&self, address: SocketAddr) -> u32 {
        self.realms[usize::from(address.is_ipv6())]
    }
}

impl<M: Machine> fmt::Debug for Host<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .field("sockets", &self.sockets.given())
            .field("opened", &self.sockets.opened())
            .field("is_up", &self.machine.is_some())
            .field("deadline", &self.alarm.deadline)
            .finish_non_exhaustive()
    }
}

//! How much of everything a node holds at a moment: for monitoring, and for tests that ask whether
//! anything was left behind.

use gimlet_machine::Deadline;

use crate::embedded::Embedded;
use crate::node::Node;

/// What a node holds. After [`gimlet_machine::Session::close_all`] and a few round trips, nothing but
/// the peers it remembers and what they sent that nobody has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Peers remembered, connected or not.
    pub peers: usize,
    /// Attempts to connect that are under way.
    pub attempts: usize,
    /// Authenticated connections.
    pub links: usize,
    /// ICE agents, those of links included.
    pub ice_agents: usize,
    /// QUIC connections and reservations, draining ones included.
    pub connections: usize,
    /// Application streams, those of ended connections included.
    pub streams: usize,
    /// Questions to STUN servers that are not answered yet.
    pub stun_requests: usize,
    /// Allocations on relays, those being asked for or given back included.
    pub allocations: usize,
    /// Allocations of others on the relay that we are.
    pub relaying: usize,
    /// Sockets that we asked the driver for.
    pub sockets: usize,
    /// The node's own next timer; its children's are not counted.
    pub timer: Option<Deadline>,
}

impl Node {
    /// Counts what the node holds. Linear in the number of peers.
    pub fn usage(&self) -> Usage {
        Usage {
            peers: self.peers.len(),
            attempts: self.peers.values().filter(|entry| entry.attempt.is_some()).count(),
            links: self.peers.values().filter(|entry| entry.link.is_some()).count(),
            ice_agents: self.children.ice.len(),
            connections: self.children.quic.connections(),
            streams: self.streams.len(),
            stun_requests: self.children.stun.requests(),
            allocations: self.children.relays.allocations(),
            relaying: self.children.embedded.as_ref().map_or(0, Embedded::allocations),
            sockets: self.out.requests.sockets(),
            timer: self.timers.deadline(),
        }
    }
}

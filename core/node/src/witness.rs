//! Witnesses: a public node answers STUN on a second port, so that peers who know nobody else can tell whether
//! their NAT gives every destination another port (RFC 5780 §4.3 asks a server with two for that).
//!
//! One socket is opened for each of our addresses at which a peer that takes part in introductions reaches us, when
//! the first one does. If the driver opens none, or a firewall closes it, peers know a little less.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

use gimlet_handshake::Capabilities;
use gimlet_machine::{Answer, Instant, Path, PeerId, SocketId};

use crate::control::Control;
use crate::node::Node;
use crate::requests::Owner;

/// Witnesses at once. At further addresses of ours there are none.
pub const WITNESSES_MAX: usize = 8;

/// The second port at one of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Booth {
    /// The driver is opening it.
    Asked(SocketId),
    Open(SocketId, SocketAddr),
    /// The driver could not, or has closed it.
    Refused,
}

/// Our witnesses, by the address at which we are reached.
#[derive(Debug, Default)]
pub(crate) struct Booths(BTreeMap<IpAddr, Booth>);

impl Booths {
    /// Whether this is a witness: it answers STUN and nothing else.
    pub(crate) fn contains(&self, local: SocketAddr) -> bool {
        self.0.values().any(|booth| {
            matches!(booth, Booth::Open(_, open) if open.port() == local.port()
            && (open.ip() == local.ip() || open.ip().is_unspecified()))
        })
    }
}

impl Node {
    /// Tells `peer` of our witness where it reaches us, once there is one.
    pub(crate) fn name_witness(&mut self, now: Instant, peer: PeerId) {
        if !self.config.public || self.closing.node {
            return;
        }
        let Some(reached) = self.reached_at(peer) else { return };
        match self.children.nat.booths.0.get(&reached).copied() {
            Some(Booth::Open(_, local)) => {
                self.send_control(now, peer, &Control::Witness { port: local.port() });
            }
            None if self.children.nat.booths.0.len() < WITNESSES_MAX => {
                let socket = self.out.requests.bind(Owner::Witness, SocketAddr::new(reached, 0));
                let booth = socket.map_or(Booth::Refused, Booth::Asked);
                self.children.nat.booths.0.insert(reached, booth);
            }
            Some(Booth::Asked(_) | Booth::Refused) | None => {}
        }
    }

    /// The address of ours at which a peer that takes part in introductions reaches us.
    fn reached_at(&self, peer: PeerId) -> Option<IpAddr> {
        let link = self.peers.get(&peer)?.open_link()?;
        let takes = |capabilities: Capabilities| capabilities.contains(Capabilities::INTRODUCTION);
        link.hello().filter(|hello| takes(hello.capabilities()))?;
        match self.children.quic.path(link.connection)? {
            Path::Direct(flow) => Some(flow.local.ip()),
            Path::Relayed { .. } => None,
        }
    }

    /// What became of the socket of a witness.
    pub(crate) fn on_witness_answer(&mut self, now: Instant, answer: &Answer<'_>) {
        let id = answer.id();
        let of = |booth: &Booth| matches!(booth, Booth::Asked(of) | Booth::Open(of, _) if *of == id);
        let Some((reached, booth)) = self.children.nat.booths.0.iter_mut().find(|(_, it)| of(it)) else {
            return;
        };
        match *answer {
            Answer::Bound { local, .. } => {
                *booth = Booth::Open(id, local);
                let reached = *reached;
                let peers: Vec<PeerId> = self.connected_peers().collect();
                for peer in peers
                    .into_iter()
                    .filter(|peer| self.reached_at(*peer) == Some(reached))
                    .collect::<Vec<_>>()
                {
                    self.name_witness(now, peer);
                }
            }
            Answer::Closed { .. } => *booth = Booth::Refused,
            Answer::Connected { .. } | Answer::Received { .. } | Answer::Written { .. } => {}
        }
    }

    /// The node has closed: nobody asks any more.
    pub(crate) fn close_witnesses(&mut self) {
        for (_, booth) in core::mem::take(&mut self.children.nat.booths.0) {
            if let Booth::Asked(id) | Booth::Open(id, _) = booth {
                self.out.requests.close(id);
            }
        }
    }
}

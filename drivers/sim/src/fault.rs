//! What can go wrong, as values, so that a schedule can hold it.

use std::net::SocketAddr;

use crate::{Firewall, HostId, LinkConfig, NatId};

/// Something that goes wrong, or gets better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Packets from any of these hosts no longer reach any of those. Packets under way are caught,
    /// too; a NAT stands in for its hosts and is cut off when all of them are.
    Cut {
        /// Senders.
        from: Vec<HostId>,
        /// Receivers.
        to: Vec<HostId>,
    },
    /// A cut in both directions.
    Partition(Vec<HostId>, Vec<HostId>),
    /// All cuts are mended.
    Heal,
    /// The host loses power: its machine is gone without a word, and packets to it are dropped.
    Stop(HostId),
    /// A stopped host comes back with a fresh machine from its factory.
    Start(HostId),
    /// A stop and a start in one.
    Restart(HostId),
    /// The NAT forgets every mapping.
    RebootNat(NatId),
    /// The NAT lets other packets out from here on; what it has mapped, it lets in as before.
    Firewall(NatId, Firewall),
    /// The host's line behaves differently from here on, in both directions.
    Relink(HostId, LinkConfig),
    /// The host is somewhere else: from Wi-Fi to a mobile network. Packets under way to its earlier
    /// addresses are lost. Its machine has to be told by a command of its own, as an operating system
    /// would tell it.
    Move {
        /// Who.
        host: HostId,
        /// Its sockets from here on.
        sockets: Vec<SocketAddr>,
        /// The NAT between it and the internet, if any.
        behind: Option<NatId>,
    },
}

impl Fault {
    /// A number for the trace.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Fault::Cut { .. } => 1,
            Fault::Partition(..) => 2,
            Fault::Heal => 3,
            Fault::Stop(_) => 4,
            Fault::Start(_) => 5,
            Fault::Restart(_) => 6,
            Fault::RebootNat(_) => 7,
            Fault::Relink(..) => 8,
            Fault::Move { .. } => 9,
            Fault::Firewall(..) => 10,
        }
    }
}

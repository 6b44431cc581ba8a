//! Ways between two places, as values.

use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;

use data_encoding::BASE32_NOPAD;

/// Names a peer: its Ed25519 public key (RFC 8032), 32 bytes.
///
/// Whoever knows the id can check the peer's signatures and its TLS handshake without asking
/// anyone. Written as 52 characters of lower-case base32 (RFC 4648 §6, without padding).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

/// The text is not 52 characters of base32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAPeerId;

impl PeerId {
    /// Enough of the id for a log line: its first 8 characters.
    pub fn short(&self) -> alloc::string::String {
        let mut text = alloc::format!("{self}");
        text.truncate(8);
        text
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = BASE32_NOPAD.encode(&self.0);
        text.make_ascii_lowercase();
        f.write_str(&text)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.short())
    }
}

impl FromStr for PeerId {
    type Err = NotAPeerId;

    /// Accepts either case.
    fn from_str(text: &str) -> Result<Self, NotAPeerId> {
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| NotAPeerId)?;
        bytes.try_into().map(PeerId).map_err(|_| NotAPeerId)
    }
}

impl fmt::Display for NotAPeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a peer id is 52 letters and digits (base32)")
    }
}

impl core::error::Error for NotAPeerId {}

/// The two ends of a UDP flow as this host sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FourTuple {
    /// The address of our socket.
    pub local: SocketAddr,
    /// The address packets come from and go to.
    pub remote: SocketAddr,
}

impl FourTuple {
    /// The flow between `local` (ours) and `remote`.
    pub const fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local, remote }
    }

    /// The same flow as the other end names it when no NAT is between.
    #[must_use]
    pub const fn flipped(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }
}

impl fmt::Display for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.local, self.remote)
    }
}

/// A way to a peer: straight, or through a relay. A path is a value; ICE checks it and QUIC moves
/// onto it without knowing how relays work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Our socket straight to the peer's address.
    Direct(FourTuple),
    /// Through a relay that forwards to `peer`.
    Relayed {
        /// Our flow to the relay.
        relay: FourTuple,
        /// The peer's address as the relay sees it.
        peer: SocketAddr,
    },
}

impl Path {
    /// The address that names the far end: the peer's, even behind a relay.
    pub const fn peer_address(&self) -> SocketAddr {
        match self {
            Path::Direct(tuple) => tuple.remote,
            Path::Relayed { peer, .. } => *peer,
        }
    }

    /// The flow on our socket that carries this path.
    pub const fn on_wire(&self) -> FourTuple {
        match self {
            Path::Direct(tuple) => *tuple,
            Path::Relayed { relay, .. } => *relay,
        }
    }

    /// Whether no relay is between.
    pub const fn is_direct(&self) -> bool {
        matches!(self, Path::Direct(_))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Direct(tuple) => write!(f, "direct {tuple}"),
            Path::Relayed { relay, peer } => write!(f, "relayed {relay} -> {peer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_peer_id_survives_being_written_down_in_either_case() {
        let id = PeerId([0xa7; 32]);
        assert_eq!(id.to_string().len(), 52);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        assert_eq!("too short".parse::<PeerId>(), Err(NotAPeerId));
    }
}

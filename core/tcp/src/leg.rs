//! Where a frame comes from and goes to, and what the driver knows about it that is not in its bytes.

/// One of the two sides of the box. A flow is oriented by the side its SYN came from, never by the order
/// of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Where the programs are that call `connect`.
    Client,
    /// Where the servers are.
    Server,
}

impl Side {
    /// The side across the box.
    #[must_use]
    pub const fn across(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What the checksum field of a frame's TCP header holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checksum {
    /// The checksum of RFC 9293 §3.1.
    #[default]
    Complete,
    /// Only the sum of the pseudo-header: the sender's kernel left the rest to a network card that is not
    /// there (`VIRTIO_NET_HDR_F_NEEDS_CSUM`). No field of the TCP header is part of it, so a translator
    /// that changes some leaves it alone.
    Partial,
}

/// The path of a frame: its side, and what the driver was told beside the bytes.
///
/// A frame that passes leaves on the leg [`across`](Leg::across). Everything but the side goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Leg {
    /// Where the frame comes from, or leaves to.
    pub side: Side,
    /// What its checksum field holds.
    pub checksum: Checksum,
    /// How many bytes of payload each segment gets when somebody cuts the frame up later; 0: it leaves as it
    /// is.
    pub gso: u16,
    /// The VLAN tag (TCI) that the driver holds out of band and puts back when the frame leaves. Tags in the
    /// bytes are not repeated here.
    pub tag: Option<u16>,
}

impl Leg {
    /// A frame of its own, with a complete checksum and no tag.
    pub const fn new(side: Side) -> Self {
        Self { side, checksum: Checksum::Complete, gso: 0, tag: None }
    }

    /// The same frame on its way out of the other side.
    #[must_use]
    pub const fn across(self) -> Self {
        Self { side: self.side.across(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_side_changes_across_the_box() {
        let leg = Leg { side: Side::Client, checksum: Checksum::Partial, gso: 1448, tag: Some(42) };
        assert_eq!(leg.across(), Leg { side: Side::Server, ..leg });
        assert_eq!(leg.across().across(), leg);
    }
}

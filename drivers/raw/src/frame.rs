//! What a driver has to know of a frame: where a VLAN tag goes.

/// Two Ethernet addresses: what stands before a VLAN tag (IEEE 802.1Q §9).
pub(crate) const ADDRESSES_LEN: usize = 12;
/// A VLAN tag: what it is, and which.
pub(crate) const TAG_LEN: usize = 4;
/// What a tag of the ordinary kind is announced by.
pub(crate) const TPID_8021Q: u16 = 0x8100;

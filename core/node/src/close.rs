//! Application codes in QUIC's CONNECTION_CLOSE (RFC 9000 §19.19).

/// An orderly end.
pub(crate) const GOODBYE: u32 = 0;
/// The policy does not admit the peer, or a limit is reached.
pub(crate) const REFUSED: u32 = 1;
/// Another connection to the same peer stands.
pub(crate) const REPLACED: u32 = 2;
/// The hello was not acceptable.
pub(crate) const HELLO: u32 = 3;
/// The attempt was given up.
pub(crate) const CANCELLED: u32 = 4;
/// A control stream broke its framing.
pub(crate) const CONTROL: u32 = 5;

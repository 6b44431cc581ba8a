//! The first message of the older network generation.

use alloc::string::String;
use alloc::vec::Vec;

use crate::EnvelopeError;
use crate::fixint::{Sink, Source};

/// `Handshake { role, id }` as the generation before [`crate::NetEnvelope`]'s opened a connection:
/// the dialer says it first, the listener answers in kind. It shares variant number 0 with
/// [`crate::NetEnvelope::Handshake`], so only the connection's ALPN tells the two apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyHandshake {
    /// `CLIENT` or `SERVER` in practice; any string on the wire.
    pub role: String,
    /// The node's number.
    pub id: u64,
}

impl LegacyHandshake {
    /// The role of an external client.
    pub const CLIENT: &'static str = "CLIENT";
    /// The role of a party.
    pub const SERVER: &'static str = "SERVER";

    /// Reads the message; also says how many bytes it was. Bytes after it are not looked at.
    pub fn parse(bytes: &[u8]) -> Result<(LegacyHandshake, usize), EnvelopeError> {
        let mut source = Source::new(bytes);
        match source.u32()? {
            0 => {
                let (role, id) = (source.text()?, source.u64()?);
                Ok((LegacyHandshake { role, id }, source.position()))
            }
            number => Err(EnvelopeError::UnknownVariant { of: "legacy envelope", number }),
        }
    }

    /// Appends the message to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut sink = Sink::new(out);
        sink.u32(0);
        sink.text(&self.role);
        sink.u64(self.id);
    }
}

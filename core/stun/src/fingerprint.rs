//! FINGERPRINT (RFC 8489 §14.7): a checksum that tells STUN from look-alikes on the same port.

/// What the CRC is combined with: "STUN" in ASCII, so that a protocol which puts a plain CRC-32 in
/// the same place does not look right by accident.
const MASK: u32 = 0x5354_554e;

/// The value over everything in front of the attribute, whose length field already counts it.
pub(crate) fn fingerprint(before: &[u8]) -> u32 {
    crc32fast::hash(before) ^ MASK
}

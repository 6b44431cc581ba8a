//! HMAC (RFC 2104) over SHA-1 and SHA-256, from midstates.
//!
//! The compression functions are RustCrypto's; only the arrangement of blocks is ours. HMAC begins
//! with one block that depends on the key alone, inside and outside. Computing those two once per
//! key saves two of the five compressions that a connectivity check costs, and feeding whole blocks
//! straight from the message saves the copying of a buffered hasher: together about half the time.
//! `hmac_agrees_with_an_independent_implementation` holds it against the `hmac` crate.

/// Bytes in a block of either hash.
const BLOCK_LEN: usize = 64;

/// A hash of the SHA family with 64-byte blocks, reduced to its compression function.
pub(crate) trait Compression {
    /// The chaining value, in words.
    type State: Copy + AsRef<[u32]>;
    /// Where every hash begins (FIPS 180-4 §5.3).
    const START: Self::State;
    /// Feeds whole blocks.
    fn compress(state: &mut Self::State, blocks: &[[u8; BLOCK_LEN]]);
}

/// SHA-1: what MESSAGE-INTEGRITY uses (RFC 8489 §14.5).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sha1 {}

impl Compression for Sha1 {
    type State = [u32; 5];
    const START: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    fn compress(state: &mut Self::State, blocks: &[[u8; BLOCK_LEN]]) {
        sha1::block_api::compress(state, blocks);
    }
}

/// SHA-256: what MESSAGE-INTEGRITY-SHA256 uses (RFC 8489 §14.6).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sha256 {}

impl Compression for Sha256 {
    type State = [u32; 8];
    const START: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    fn compress(state: &mut Self::State, blocks: &[[u8; BLOCK_LEN]]) {
        sha2::block_api::compress256(state, blocks);
    }
}

/// The longest tag of either hash. Bytes.
pub(crate) const TAG_MAX: usize = 32;

/// A tag in the front of a fixed array; SHA-1 fills 20 bytes of it, SHA-256 all 32.
pub(crate) type Tag = [u8; TAG_MAX];

/// The two chaining values that a key determines.
#[derive(Clone, Copy)]
pub(crate) struct Midstates<C: Compression> {
    inner: C::State,
    outer: C::State,
}

impl<C: Compression> Midstates<C> {
    /// Absorbs a key of any length (RFC 2104 §2): one longer than a block is hashed first.
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK_LEN];
        if key.len() <= BLOCK_LEN {
            block[..key.len()].copy_from_slice(key);
        } else {
            let (blocks, tail) = key.as_chunks();
            let mut state = C::START;
            C::compress(&mut state, blocks);
            let (last, count) = pad(tail, key.len());
            C::compress(&mut state, &last[..count]);
            block[..TAG_MAX].copy_from_slice(&digest::<C>(&state));
        }
        let (mut inner, mut outer) = (C::START, C::START);
        C::compress(&mut inner, &[block.map(|byte| byte ^ 0x36)]);
        C::compress(&mut outer, &[block.map(|byte| byte ^ 0x5c)]);
        Self { inner, outer }
    }

    /// The tag over `message` as if its length field said `length`: a STUN message is hashed with
    /// another length than the one it travels with (RFC 8489 §14.5).
    pub(crate) fn tag(&self, message: &[u8], length: u16) -> Tag {
        let mut state = self.inner;
        let (blocks, tail) = message.as_chunks::<BLOCK_LEN>();
        let (mut last, count) = pad(tail, BLOCK_LEN + message.len());
        if let Some((first, blocks)) = blocks.split_first() {
            let mut first = *first;
            set_length(&mut first, length);
            C::compress(&mut state, &[first]);
            if !blocks.is_empty() {
                C::compress(&mut state, blocks);
            }
        } else {
            set_length(&mut last[0], length);
        }
        C::compress(&mut state, &last[..count]);

        let inner = digest::<C>(&state);
        let len = size_of::<C::State>();
        let (last, count) = pad(&inner[..len], BLOCK_LEN + len);
        let mut state = self.outer;
        C::compress(&mut state, &last[..count]);
        digest::<C>(&state)
    }
}

fn set_length(first: &mut [u8; BLOCK_LEN], length: u16) {
    first[2..4].copy_from_slice(&length.to_be_bytes());
}

/// The last bytes of a message, less than a block, with the padding of FIPS 180-4 §5.1.1 behind
/// them: one block or two. `hashed` is how many bytes there were in all.
#[inline]
fn pad(tail: &[u8], hashed: usize) -> ([[u8; BLOCK_LEN]; 2], usize) {
    let mut last = [[0; BLOCK_LEN]; 2];
    last[0][..tail.len()].copy_from_slice(tail);
    last[0][tail.len()] = 0x80;
    let count = if tail.len() + 9 <= BLOCK_LEN { 1 } else { 2 };
    let bits = hashed as u64 * 8;
    last[count - 1][BLOCK_LEN - 8..].copy_from_slice(&bits.to_be_bytes());
    (last, count)
}

#[inline]
fn digest<C: Compression>(state: &C::State) -> Tag {
    let mut tag = [0; TAG_MAX];
    for (out, word) in tag.as_chunks_mut::<4>().0.iter_mut().zip(state.as_ref()) {
        *out = word.to_be_bytes();
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use hmac::{KeyInit, Mac};
    use proptest::prelude::*;

    fn reference<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    }

    #[test]
    fn rfc_2202_case_2_and_rfc_4231_case_2() {
        let (message, at_2) = (b"what do ya want for nothing?", u16::from_be_bytes(*b"at"));
        let sha1 = Midstates::<Sha1>::new(b"Jefe").tag(message, at_2);
        assert_eq!(sha1[..4], [0xef, 0xfc, 0xdf, 0x6a]);
        let sha256 = Midstates::<Sha256>::new(b"Jefe").tag(message, at_2);
        assert_eq!(sha256[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }

    proptest! {
        /// Every length around the block boundaries, of key and message.
        #[test]
        fn hmac_agrees_with_an_independent_implementation(
            key in prop::collection::vec(any::<u8>(), 0..140),
            message in prop::collection::vec(any::<u8>(), 20..260),
            length in any::<u16>(),
        ) {
            let sha1 = Midstates::<Sha1>::new(&key).tag(&message, length);
            let sha256 = Midstates::<Sha256>::new(&key).tag(&message, length);
            let mut message = message;
            message[2..4].copy_from_slice(&length.to_be_bytes());
            prop_assert_eq!(&sha1[..20], reference::<hmac::Hmac<sha1::Sha1>>(&key, &message));
            prop_assert_eq!(&sha256[..], reference::<hmac::Hmac<sha2::Sha256>>(&key, &message));
        }
    }
}

//! Keys: what both sides know and nobody else does.

use alloc::vec::Vec;
use core::fmt;

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

use crate::hmac::{Midstates, Sha1, Sha256, Tag};

/// How a long-term password becomes a key (RFC 8489 §18.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum PasswordAlgorithm {
    /// MD5: what RFC 5389 knew.
    Md5 = 0x0001,
    /// SHA-256.
    Sha256 = 0x0002,
}

impl PasswordAlgorithm {
    /// The algorithm of a number in PASSWORD-ALGORITHM, if it is one of ours.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            0x0001 => Some(PasswordAlgorithm::Md5),
            0x0002 => Some(PasswordAlgorithm::Sha256),
            _ => None,
        }
    }
}

/// Which of the two integrity attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IntegrityAlgorithm {
    /// MESSAGE-INTEGRITY: HMAC-SHA1, 20 bytes (RFC 8489 §14.5).
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256: HMAC-SHA256, 16 to 32 bytes (RFC 8489 §14.6).
    Sha256,
}

/// A key for MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256, made once per credential: the work that
/// depends on the key alone is done here.
///
/// Passwords and names are taken as the bytes they are. RFC 8489 §9 prepares them with the
/// OpaqueString profile (RFC 8265) first. For ICE and for every generated credential that changes
/// nothing (they are ASCII), and the tables of Unicode normalisation outweigh the rest of this crate
/// many times over, so an application that lets people type passwords prepares them before.
#[derive(Clone, Copy)]
pub struct Key {
    sha1: Midstates<Sha1>,
    sha256: Midstates<Sha256>,
}

impl Key {
    /// The key of the short-term mechanism: the password itself (RFC 8489 §9.1.1).
    pub fn short_term(password: &[u8]) -> Self {
        Self { sha1: Midstates::new(password), sha256: Midstates::new(password) }
    }

    /// The key of the long-term mechanism: a digest of `username ":" realm ":" password`
    /// (RFC 8489 §9.2.2).
    pub fn long_term(username: &[u8], realm: &[u8], password: &[u8], algorithm: PasswordAlgorithm) -> Self {
        let joined: Vec<u8> = [username, realm, password].join(&b':');
        match algorithm {
            PasswordAlgorithm::Md5 => Self::short_term(&Md5::digest(&joined)),
            PasswordAlgorithm::Sha256 => Self::short_term(&sha2::Sha256::digest(&joined)),
        }
    }

    /// The tag over `message` as if its length field said `length`. SHA-1 fills 20 bytes.
    #[inline]
    pub(crate) fn tag(&self, algorithm: IntegrityAlgorithm, message: &[u8], length: u16) -> Tag {
        match algorithm {
            IntegrityAlgorithm::Sha1 => self.sha1.tag(message, length),
            IntegrityAlgorithm::Sha256 => self.sha256.tag(message, length),
        }
    }
}

/// Keys are secrets.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The value of USERHASH: names a user to the server without showing the name to others
/// (RFC 8489 §14.4).
pub fn userhash(username: &[u8], realm: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest([username, realm].join(&b':')).into()
}

/// Whether `received`, a multiple of four bytes, is the front of `computed`, in time that depends on
/// neither: every difference is gathered before one look at them all.
pub(crate) fn is_tag(computed: &Tag, received: &[u8]) -> bool {
    let ((computed, _), (received, rest)) = (computed.as_chunks::<4>(), received.as_chunks::<4>());
    debug_assert!(rest.is_empty() && received.len() <= computed.len(), "`Message::parse` saw to that");
    let difference = |(a, b): (&[u8; 4], &[u8; 4])| u32::from_ne_bytes(*a) ^ u32::from_ne_bytes(*b);
    let differences = computed.iter().zip(received).map(difference).fold(0, |all, one| all | one);
    differences.ct_eq(&0).into()
}

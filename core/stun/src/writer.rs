//! Writing messages.

mod behavior;
mod ice;
mod turn;

use alloc::vec::Vec;
use core::net::SocketAddr;

use gimlet_wire::Writer;

use crate::address;
use crate::attribute::{self as kind, ATTRIBUTE_HEADER_LEN};
use crate::credentials::USERNAME_MAX;
use crate::error_code::ErrorCode;
use crate::fingerprint::fingerprint;
use crate::header::{Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId, message_type};
use crate::key::{IntegrityAlgorithm, Key, PasswordAlgorithm};

/// The most that the length field can say, in whole attributes: everything behind the header. Bytes.
const BODY_MAX: usize = 65_532;

/// The longest text that RFC 8489 lets REALM, NONCE, SOFTWARE and a reason phrase be (§14.8–14.14:
/// 127 characters, at most six bytes each in the encoding of its time). Bytes.
pub const TEXT_MAX: usize = 763;

/// Where the length field stands in the header.
const LENGTH_AT: usize = 2;

/// Appends one message to a `Vec`, attribute by attribute. What stands there is a valid message after
/// every step, because the length is kept right; nothing is allocated if the `Vec` has room.
///
/// Attributes are signed in the order of RFC 8489 §14.5–14.7, and the types see to it: after
/// [`MessageWriter::integrity`] there is only a [`Sealed`] writer, after [`Sealed::fingerprint`] none.
///
/// ```
/// use gimlet_stun::{Class, Key, Message, MessageWriter, Method, TransactionId};
///
/// let key = Key::short_term(b"a password of 22 chars");
/// let mut out = Vec::with_capacity(128);
/// MessageWriter::new(&mut out, Class::Request, Method::BINDING, TransactionId([7; 12]))
///     .username(b"remote:local")
///     .priority(1_862_270_975)
///     .ice_controlling(1)
///     .integrity(&key)
///     .fingerprint();
///
/// let message = Message::parse(&out).unwrap();
/// assert_eq!(message.username(), Some(&b"remote:local"[..]));
/// assert_eq!(message.verify(&key), Ok(()));
/// ```
///
/// # Panics
///
/// A message longer than its length field can say is the caller's mistake, and every method that
/// appends asserts against it: values from outside are bounded where they come in.
#[derive(Debug)]
#[must_use = "the message is complete, but an unsigned one may not be what was meant"]
pub struct MessageWriter<'b> {
    out: Writer<'b>,
}

/// A message that is signed: it can be signed once more with SHA-256, sealed with FINGERPRINT, or
/// left as it is.
#[derive(Debug)]
#[must_use = "the message is complete, but one without FINGERPRINT may not be what was meant"]
pub struct Sealed<'b>(MessageWriter<'b>);

impl<'b> MessageWriter<'b> {
    /// Begins a message behind what `out` holds.
    pub fn new(out: &'b mut Vec<u8>, class: Class, method: Method, id: TransactionId) -> Self {
        let mut header = [0; HEADER_LEN];
        header[..2].copy_from_slice(&message_type(class, method).to_be_bytes());
        header[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        header[8..].copy_from_slice(&id.0);
        let mut out = Writer::new(out);
        out.bytes(&header);
        Self { out }
    }

    /// Any attribute.
    #[inline]
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.head(kind, value.len());
        self.out.bytes(value);
        self.out.zeros(value.len().next_multiple_of(4) - value.len());
        self
    }

    /// USERNAME (RFC 8489 §14.3): at most [`USERNAME_MAX`] bytes.
    pub fn username(self, username: &[u8]) -> Self {
        debug_assert!(username.len() <= USERNAME_MAX, "RFC 8489 §14.3");
        self.attribute(kind::USERNAME, username)
    }

    /// USERHASH (RFC 8489 §14.4): made by [`userhash`](crate::userhash).
    pub fn userhash(self, userhash: &[u8; 32]) -> Self {
        self.attribute(kind::USERHASH, userhash)
    }

    /// REALM (RFC 8489 §14.9): at most [`TEXT_MAX`] bytes.
    pub fn realm(self, realm: &[u8]) -> Self {
        self.text(kind::REALM, realm)
    }

    /// NONCE (RFC 8489 §14.10): at most [`TEXT_MAX`] bytes.
    pub fn nonce(self, nonce: &[u8]) -> Self {
        self.text(kind::NONCE, nonce)
    }

    /// PASSWORD-ALGORITHMS (RFC 8489 §14.11), most preferred first.
    pub fn password_algorithms(mut self, algorithms: &[PasswordAlgorithm]) -> Self {
        self.head(kind::PASSWORD_ALGORITHMS, algorithms.len() * 4);
        for algorithm in algorithms {
            self.out.u16(*algorithm as u16);
            self.out.u16(0); // neither has parameters (RFC 8489 §18.5)
        }
        self
    }

    /// PASSWORD-ALGORITHM (RFC 8489 §14.12).
    pub fn password_algorithm(mut self, algorithm: PasswordAlgorithm) -> Self {
        self.head(kind::PASSWORD_ALGORITHM, 4);
        self.out.u16(algorithm as u16);
        self.out.u16(0);
        self
    }

    /// XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    pub fn xor_mapped_address(self, address: SocketAddr) -> Self {
        self.xored(kind::XOR_MAPPED_ADDRESS, address)
    }

    /// MAPPED-ADDRESS (RFC 8489 §14.1).
    pub fn mapped_address(self, address: SocketAddr) -> Self {
        self.address(kind::MAPPED_ADDRESS, address)
    }

    /// ERROR-CODE (RFC 8489 §14.8): 300 to 699, and a reason of at most [`TEXT_MAX`] bytes.
    pub fn error_code(mut self, code: u16, reason: &str) -> Self {
        debug_assert!(reason.len() <= TEXT_MAX, "RFC 8489 §14.8");
        let len = 4 + reason.len();
        self.head(kind::ERROR_CODE, len);
        self.out.bytes(&ErrorCode::head(code));
        self.out.bytes(reason.as_bytes());
        self.out.zeros(len.next_multiple_of(4) - len);
        self
    }

    /// UNKNOWN-ATTRIBUTES (RFC 8489 §14.13).
    pub fn unknown_attributes(mut self, kinds: &[u16]) -> Self {
        self.head(kind::UNKNOWN_ATTRIBUTES, kinds.len() * 2);
        for kind in kinds {
            self.out.u16(*kind);
        }
        self.out.zeros(kinds.len() % 2 * 2);
        self
    }

    /// SOFTWARE (RFC 8489 §14.14): at most [`TEXT_MAX`] bytes.
    pub fn software(self, software: &str) -> Self {
        self.text(kind::SOFTWARE, software.as_bytes())
    }

    /// ALTERNATE-SERVER (RFC 8489 §14.15).
    pub fn alternate_server(self, address: SocketAddr) -> Self {
        self.address(kind::ALTERNATE_SERVER, address)
    }

    /// ALTERNATE-DOMAIN (RFC 8489 §14.16): a domain name, at most 255 bytes.
    pub fn alternate_domain(self, domain: &str) -> Self {
        debug_assert!(domain.len() <= 255, "RFC 8489 §14.16");
        self.attribute(kind::ALTERNATE_DOMAIN, domain.as_bytes())
    }

    /// MESSAGE-INTEGRITY (RFC 8489 §14.5): signs everything so far. Only signatures and FINGERPRINT
    /// may follow.
    pub fn integrity(self, key: &Key) -> Sealed<'b> {
        Sealed(self.sign(kind::MESSAGE_INTEGRITY, IntegrityAlgorithm::Sha1, 20, key))
    }

    /// MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6): signs everything so far.
    pub fn integrity_sha256(self, key: &Key) -> Sealed<'b> {
        Sealed(self.sign(kind::MESSAGE_INTEGRITY_SHA256, IntegrityAlgorithm::Sha256, 32, key))
    }

    /// Signs with the attribute that belongs to `algorithm`: an answer uses the one of its request.
    pub fn integrity_with(self, key: &Key, algorithm: IntegrityAlgorithm) -> Sealed<'b> {
        match algorithm {
            IntegrityAlgorithm::Sha1 => self.integrity(key),
            IntegrityAlgorithm::Sha256 => self.integrity_sha256(key),
        }
    }

    /// FINGERPRINT (RFC 8489 §14.7), the end of the message; returns the whole message.
    pub fn fingerprint(mut self) -> &'b [u8] {
        self.head(kind::FINGERPRINT, 4);
        let before = self.out.position() - ATTRIBUTE_HEADER_LEN;
        let value = fingerprint(&self.out.written()[..before]);
        self.out.u32(value);
        self.finish()
    }

    /// Ends the message as it is; returns the whole message.
    pub fn finish(self) -> &'b [u8] {
        self.out.into_written()
    }

    /// Ends the message, with FINGERPRINT if `wanted`; returns the whole message.
    pub fn fingerprint_if(self, wanted: bool) -> &'b [u8] {
        if wanted { self.fingerprint() } else { self.finish() }
    }

    /// How long the message is so far. Bytes.
    pub fn len(&self) -> usize {
        self.out.position()
    }

    /// Whether the message has no attribute yet.
    pub fn is_empty(&self) -> bool {
        self.len() == HEADER_LEN
    }

    /// Type and length of an attribute, and the message's length with it, which it returns.
    #[inline]
    fn head(&mut self, kind: u16, len: usize) -> u16 {
        let body = self.out.position() - HEADER_LEN + ATTRIBUTE_HEADER_LEN + len.next_multiple_of(4);
        assert!(body <= BODY_MAX, "a STUN message of {body} bytes does not fit its length field");
        self.out.patch_u16(LENGTH_AT, body as u16);
        let [k0, k1] = kind.to_be_bytes();
        let [l0, l1] = (len as u16).to_be_bytes();
        self.out.bytes(&[k0, k1, l0, l1]);
        body as u16
    }

    fn text(self, kind: u16, text: &[u8]) -> Self {
        debug_assert!(text.len() <= TEXT_MAX, "RFC 8489 §14.9–14.14");
        self.attribute(kind, text)
    }

    fn address(self, kind: u16, address: SocketAddr) -> Self {
        let (bytes, len) = address::value(address);
        self.attribute(kind, &bytes[..len])
    }

    fn xored(self, kind: u16, address: SocketAddr) -> Self {
        let mut id = TransactionId([0; 12]);
        id.0.copy_from_slice(&self.out.written()[8..HEADER_LEN]);
        self.address(kind, address::xor(address, &id))
    }

    fn sign(mut self, kind: u16, algorithm: IntegrityAlgorithm, len: usize, key: &Key) -> Self {
        // RFC 8489 §14.5: hashed with the length that counts this attribute.
        let before = self.out.position();
        let length = self.head(kind, len);
        let tag = key.tag(algorithm, &self.out.written()[..before], length);
        self.out.bytes(&tag[..len]);
        self
    }
}

impl<'b> Sealed<'b> {
    /// MESSAGE-INTEGRITY-SHA256 behind MESSAGE-INTEGRITY, for a server of unknown age
    /// (RFC 8489 §9.1.2).
    pub fn integrity_sha256(self, key: &Key) -> Sealed<'b> {
        self.0.integrity_sha256(key)
    }

    /// FINGERPRINT (RFC 8489 §14.7), the end of the message; returns the whole message.
    pub fn fingerprint(self) -> &'b [u8] {
        self.0.fingerprint()
    }

    /// Ends the message as it is; returns the whole message.
    pub fn finish(self) -> &'b [u8] {
        self.0.finish()
    }

    /// Ends the message, with FINGERPRINT if `wanted`; returns the whole message.
    pub fn fingerprint_if(self, wanted: bool) -> &'b [u8] {
        self.0.fingerprint_if(wanted)
    }
}

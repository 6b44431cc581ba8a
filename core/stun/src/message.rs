//! The message as a view of borrowed bytes.

mod behavior;
mod ice;
mod stun;
mod turn;

use core::fmt;

pub use behavior::ChangeRequest;
pub use turn::Icmp;

use crate::attribute::{self, ATTRIBUTE_HEADER_LEN, Attribute, Run};
use crate::error::{IntegrityError, ParseError};
use crate::fingerprint::fingerprint;
use crate::header::{self, Class, HEADER_LEN, MAGIC_COOKIE, Method, TransactionId};
use crate::key::{IntegrityAlgorithm, Key, is_tag};

/// The most attributes a message may have; one more and [`Message::parse`] refuses it. The longest
/// legitimate messages (an ICE check, a TURN Allocate) have about a dozen.
pub const ATTRIBUTES_MAX: usize = 64;

/// The length of MESSAGE-INTEGRITY's value (RFC 8489 §14.5). Bytes.
const SHA1_TAG_LEN: usize = 20;

/// A parsed message: a view of the bytes it came in, with the places of the attributes that sign and
/// seal it. Everything else is found when asked for.
///
/// What the view shows obeys the RFC's rules of order. Attributes between an integrity attribute and
/// the end of the message are unsigned, so only what may stand there is visible: behind
/// MESSAGE-INTEGRITY nothing but MESSAGE-INTEGRITY-SHA256 and FINGERPRINT, behind
/// MESSAGE-INTEGRITY-SHA256 nothing but FINGERPRINT (RFC 8489 §14.5–14.6). Where an attribute occurs
/// twice, the first one counts (§14).
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Where the ordinary attributes end: at the first that signs or seals, or at the end.
    ordinary_end: usize,
    /// Where MESSAGE-INTEGRITY begins; 0 without it.
    sha1_at: usize,
    /// Where MESSAGE-INTEGRITY-SHA256 begins; 0 without it.
    sha256_at: usize,
    /// Where FINGERPRINT begins; 0 without it.
    fingerprint_at: usize,
}

impl<'a> Message<'a> {
    /// Reads a whole message: its structure, the order of its attributes, and FINGERPRINT if it has
    /// one. One pass, no allocation.
    ///
    /// Signatures are not looked at: that takes a key ([`Message::verify`]).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        parse_header(bytes)?;
        let mut message = Message { bytes, ordinary_end: 0, sha1_at: 0, sha256_at: 0, fingerprint_at: 0 };
        let (mut at, mut count) = (HEADER_LEN, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Some((Attribute { kind, value }, rest)) = attribute::split_attribute(rest) else {
                return Err(ParseError::AttributeOverrun { kind: kind_at(rest) });
            };
            count += 1;
            if count > ATTRIBUTES_MAX {
                return Err(ParseError::TooManyAttributes);
            }
            match kind {
                attribute::MESSAGE_INTEGRITY if message.sha1_at | message.sha256_at == 0 => {
                    if value.len() != SHA1_TAG_LEN {
                        return Err(ParseError::IntegrityLength { kind, len: value.len() });
                    }
                    message.sha1_at = at;
                }
                attribute::MESSAGE_INTEGRITY_SHA256 if message.sha256_at == 0 => {
                    // RFC 8489 §14.6: at least 16 bytes, at most 32, a multiple of four.
                    if !matches!(value.len(), 16 | 20 | 24 | 28 | 32) {
                        return Err(ParseError::IntegrityLength { kind, len: value.len() });
                    }
                    message.sha256_at = at;
                }
                attribute::FINGERPRINT => {
                    if !rest.is_empty() {
                        return Err(ParseError::FingerprintNotLast);
                    }
                    if value != fingerprint(&bytes[..at]).to_be_bytes() {
                        return Err(ParseError::WrongFingerprint);
                    }
                    message.fingerprint_at = at;
                }
                _ => {}
            }
            if message.ordinary_end == 0 && message.sha1_at | message.sha256_at | message.fingerprint_at != 0
            {
                message.ordinary_end = at;
            }
            at = bytes.len() - rest.len();
        }
        if message.ordinary_end == 0 {
            message.ordinary_end = bytes.len();
        }
        Ok(message)
    }

    /// What the message is for.
    pub const fn class(&self) -> Class {
        header::class_of(self.message_type())
    }

    /// What is asked for, or was.
    pub const fn method(&self) -> Method {
        header::method_of(self.message_type())
    }

    /// Ties an answer to its request.
    pub fn transaction_id(&self) -> TransactionId {
        let mut id = TransactionId([0; 12]);
        id.0.copy_from_slice(&self.bytes[8..HEADER_LEN]);
        id
    }

    /// The whole message.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes that count, in order: see [`Message`] for the rules.
    pub fn attributes(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let message = *self;
        let seals = [message.sha1_at, message.sha256_at, message.fingerprint_at];
        self.ordinary().chain(seals.into_iter().filter_map(move |at| message.attribute_at(at)))
    }

    /// The value of the first attribute of type `kind`, be it one that signs or seals or any other.
    pub fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        self.all(kind).next()
    }

    /// The values of all attributes of type `kind`. For the few that may repeat, such as
    /// XOR-PEER-ADDRESS (RFC 8656 §10.1).
    pub fn all(&self, kind: u16) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let found = self.attributes().filter(move |attribute| attribute.kind == kind);
        found.map(|attribute| attribute.value)
    }

    /// The comprehension-required attributes that this codec cannot read. A receiver that finds any
    /// refuses a request with 420 and ignores everything else (RFC 8489 §6.3.1–6.3.4).
    pub fn unknown_required(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.ordinary().map(|attribute| attribute.kind).filter(|kind| {
            attribute::is_comprehension_required(*kind) && !attribute::is_known_required(*kind)
        })
    }

    /// The comprehension-required attributes outside `understood`: for a receiver that acts on less
    /// than the codec can read, as a Binding server does not act on CHANGE-REQUEST.
    pub fn required_outside<'u>(&self, understood: &'u [u16]) -> impl Iterator<Item = u16> + use<'a, 'u> {
        self.ordinary()
            .map(|attribute| attribute.kind)
            .filter(|kind| attribute::is_comprehension_required(*kind) && !understood.contains(kind))
    }

    /// Whether the message carries either integrity attribute.
    pub const fn has_integrity(&self) -> bool {
        self.sha1_at | self.sha256_at != 0
    }

    /// Which integrity attribute [`Message::verify`] checks: the stronger one of those present.
    pub const fn integrity_algorithm(&self) -> Option<IntegrityAlgorithm> {
        match (self.sha256_at, self.sha1_at) {
            (0, 0) => None,
            (0, _) => Some(IntegrityAlgorithm::Sha1),
            _ => Some(IntegrityAlgorithm::Sha256),
        }
    }

    /// Whether the message carries FINGERPRINT. If it does, it is right: [`Message::parse`] saw to
    /// that.
    pub const fn has_fingerprint(&self) -> bool {
        self.fingerprint_at != 0
    }

    /// Checks the signature, in constant time. If both integrity attributes are present the SHA-256
    /// one decides: it is the stronger, and it covers the other. It cannot tell that one was taken
    /// away; who knows that both sides can do SHA-256 asks [`Message::integrity_algorithm`].
    pub fn verify(&self, key: &Key) -> Result<(), IntegrityError> {
        let algorithm = self.integrity_algorithm().ok_or(IntegrityError::Missing)?;
        let at = match algorithm {
            IntegrityAlgorithm::Sha1 => self.sha1_at,
            IntegrityAlgorithm::Sha256 => self.sha256_at,
        };
        let Attribute { value, .. } = self.attribute_at(at).ok_or(IntegrityError::Missing)?;
        // RFC 8489 §14.5: the length that was hashed counts up to the end of this attribute.
        let length = (at + ATTRIBUTE_HEADER_LEN + value.len() - HEADER_LEN) as u16;
        let computed = key.tag(algorithm, &self.bytes[..at], length);
        if is_tag(&computed, value) { Ok(()) } else { Err(IntegrityError::Mismatch) }
    }

    const fn message_type(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The attributes that neither sign nor seal: all a reader may act on.
    fn ordinary(&self) -> Run<'a> {
        Run(&self.bytes[HEADER_LEN..self.ordinary_end])
    }

    /// The value of the first ordinary attribute of type `kind`.
    fn value(&self, kind: u16) -> Option<&'a [u8]> {
        self.ordinary().find(|attribute| attribute.kind == kind).map(|attribute| attribute.value)
    }

    fn attribute_at(&self, at: usize) -> Option<Attribute<'a>> {
        if at == 0 { None } else { Run(&self.bytes[at..]).next() }
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {} ", self.method(), self.class(), self.transaction_id())?;
        f.debug_list().entries(self.attributes()).finish()
    }
}

/// The rules of RFC 8489 §5 and §6.3, with the reason when one is broken.
#[inline]
fn parse_header(bytes: &[u8]) -> Result<(), ParseError> {
    if header::is_stun(bytes) {
        return Ok(());
    }
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(ParseError::TooShort { len: bytes.len() });
    };
    if header[0] & 0xc0 != 0 || header[4..8] != MAGIC_COOKIE.to_be_bytes() {
        return Err(ParseError::NotStun);
    }
    let declared = usize::from(u16::from_be_bytes([header[2], header[3]]));
    Err(ParseError::WrongLength { declared, actual: body.len() })
}

fn kind_at(bytes: &[u8]) -> u16 {
    bytes.first_chunk().copied().map_or(0, u16::from_be_bytes)
}

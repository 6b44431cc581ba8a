//! What the hand-written peer says: requests and answers as bytes.

use std::fmt::Write as _;
use std::net::SocketAddr;

use gimlet_stun::{Class, Key, Message, MessageWriter, Method, TransactionId, attribute};

/// The credentials of the agent under judgement.
pub(crate) const OUR_UFRAG: &str = "ourUfrag";
/// Its password.
pub(crate) const OUR_PWD: &str = "ourPasswordOfManyChars";
/// The hand-written peer's credentials.
pub(crate) const PEER_UFRAG: &str = "peerUfrag";
/// Its password.
pub(crate) const PEER_PWD: &str = "peerPasswordOfManyChars";
/// PRIORITY in the peer's checks: a peer-reflexive one (RFC 8445 §7.1.1).
pub(crate) const PEER_PRIORITY: u32 = 110 << 24 | 0xffff << 8 | 255;
/// A comprehension-required attribute that nobody has assigned.
pub(crate) const UNKNOWN_REQUIRED: u16 = 0x7f00;

/// Which role a request claims, and with which tiebreaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// ICE-CONTROLLING.
    Controlling(u64),
    /// ICE-CONTROLLED.
    Controlled(u64),
}

/// How a request is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// With the agent's password.
    Well,
    /// With some other password.
    Wrongly,
    /// Not at all.
    Not,
}

/// A check as the peer writes it, with room for one fault.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) claim: Claim,
    pub(crate) use_candidate: bool,
    pub(crate) usernames: Vec<String>,
    /// An attribute that nobody knows, before the signature.
    pub(crate) extra: Option<u16>,
    pub(crate) signed: Signed,
    /// An attribute after the signature, where it does not count (RFC 8489 §14.5).
    pub(crate) after: Option<(u16, Vec<u8>)>,
    /// Bits turned over in FINGERPRINT.
    pub(crate) fingerprint: u32,
}

impl Ask {
    pub(crate) fn new(claim: Claim) -> Self {
        Self {
            claim,
            use_candidate: false,
            usernames: vec![format!("{OUR_UFRAG}:{PEER_UFRAG}")],
            extra: None,
            signed: Signed::Well,
            after: None,
            fingerprint: 0,
        }
    }

    /// An ordinary check of a controlling peer.
    pub(crate) fn controlling() -> Self {
        Self::new(Claim::Controlling(1))
    }

    /// An ordinary check of a controlled peer.
    pub(crate) fn controlled() -> Self {
        Self::new(Claim::Controlled(1))
    }

    /// A check with USE-CANDIDATE.
    pub(crate) fn nominating() -> Self {
        Self { use_candidate: true, ..Self::controlling() }
    }

    /// The bytes, under `id`.
    pub(crate) fn write(&self, id: TransactionId) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = MessageWriter::new(&mut out, Class::Request, Method::BINDING, id);
        for username in &self.usernames {
            writer = writer.username(username.as_bytes());
        }
        writer = writer.priority(PEER_PRIORITY);
        writer = match self.claim {
            Claim::Controlling(tiebreaker) => writer.ice_controlling(tiebreaker),
            Claim::Controlled(tiebreaker) => writer.ice_controlled(tiebreaker),
        };
        if self.use_candidate {
            writer = writer.use_candidate();
        }
        if let Some(kind) = self.extra {
            writer = writer.attribute(kind, &[0; 4]);
        }
        match self.signed {
            Signed::Well => writer.integrity(&Key::short_term(OUR_PWD.as_bytes())).finish(),
            Signed::Wrongly => writer.integrity(&Key::short_term(b"anotherPasswordOfSomeLength")).finish(),
            Signed::Not => writer.finish(),
        };
        if let Some((kind, value)) = &self.after {
            append(&mut out, *kind, value);
        }
        fingerprint(&mut out, self.fingerprint);
        out
    }
}

/// A success answer to `check`, signed by the peer.
pub(crate) fn success(check: &[u8], mapped: SocketAddr) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Success, Method::BINDING, id_of(check))
        .xor_mapped_address(mapped)
        .integrity(&Key::short_term(PEER_PWD.as_bytes()))
        .fingerprint();
    out
}

/// An error answer to `check`; signed with `password`, if any.
pub(crate) fn refusal(check: &[u8], code: u16, password: Option<&str>) -> Vec<u8> {
    refusal_with(check, &[0, 0, (code / 100) as u8, (code % 100) as u8], password)
}

/// An error answer with this value of ERROR-CODE (RFC 8489 §14.8).
pub(crate) fn refusal_with(check: &[u8], value: &[u8], password: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    let writer = MessageWriter::new(&mut out, Class::Error, Method::BINDING, id_of(check))
        .attribute(attribute::ERROR_CODE, value);
    match password {
        Some(password) => writer.integrity(&Key::short_term(password.as_bytes())).fingerprint(),
        None => writer.fingerprint(),
    };
    out
}

/// An answer with any value of XOR-MAPPED-ADDRESS, well signed.
pub(crate) fn success_with_address(check: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Success, Method::BINDING, id_of(check))
        .attribute(attribute::XOR_MAPPED_ADDRESS, value)
        .integrity(&Key::short_term(PEER_PWD.as_bytes()))
        .fingerprint();
    out
}

/// The transaction id in the header.
pub(crate) fn id_of(message: &[u8]) -> TransactionId {
    let mut id = [0; 12];
    if let Some(bytes) = message.get(8..20) {
        id.copy_from_slice(bytes);
    }
    TransactionId(id)
}

/// Adds an attribute behind everything and corrects the length in the header.
pub(crate) fn append(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&(value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    while !message.len().is_multiple_of(4) {
        message.push(0);
    }
    let length = (message.len() - 20) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Adds FINGERPRINT (RFC 8489 §14.7), wrong by `flipped`.
pub(crate) fn fingerprint(message: &mut Vec<u8>, flipped: u32) {
    let length = (message.len() - 20 + 8) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let value = crc32(message) ^ 0x5354_554e ^ flipped;
    append(message, attribute::FINGERPRINT, &value.to_be_bytes());
}

/// The checksum of ISO/IEC 13239, bit by bit: the judge shares no code with those it judges.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// What a message says, for people.
pub(crate) fn describe(bytes: &[u8]) -> String {
    let Ok(message) = Message::parse(bytes) else {
        return format!("{} bytes that are not STUN", bytes.len());
    };
    let mut text = match message.class() {
        Class::Request => "request".to_owned(),
        Class::Indication => "indication".to_owned(),
        Class::Success => "success".to_owned(),
        Class::Error => {
            message.error_code().map_or_else(|| "error".into(), |error| format!("error {}", error.code))
        }
    };
    if message.use_candidate() {
        text += " USE-CANDIDATE";
    }
    if let Some(tiebreaker) = message.ice_controlling() {
        let _ = write!(text, " ICE-CONTROLLING {tiebreaker}");
    }
    if let Some(tiebreaker) = message.ice_controlled() {
        let _ = write!(text, " ICE-CONTROLLED {tiebreaker}");
    }
    if let Some(mapped) = message.xor_mapped_address() {
        let _ = write!(text, " XOR-MAPPED-ADDRESS {mapped}");
    }
    text
}

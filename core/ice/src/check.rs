//! The messages: checks, answers, keepalives.

use alloc::vec::Vec;

use gimlet_stun::{Class, IntegrityAlgorithm, Key, Message, MessageWriter, Method, TransactionId};

use crate::Role;
use crate::answers::{Answer, AnswerKind, Unknown};
use crate::credentials::Peer;
use crate::pair::Nominated;
use crate::role::{Claim, Tiebreak};

/// An authenticated request, reduced to what the agent acts on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) priority: u32,
    pub(crate) nominates: Option<Nominated>,
    /// `None`: the peer says nothing about its role, and no conflict can be seen.
    pub(crate) claim: Option<Claim>,
}

/// What is wrong with an authenticated request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRequest {
    /// It demands what we do not understand (RFC 8489 §6.3.1).
    Unknown(Unknown),
    /// It lacks PRIORITY or claims both roles (RFC 8445 §7.1).
    Attributes,
}

impl Request {
    /// Reads what RFC 8445 §7.1 asks a check to carry.
    pub(crate) fn read(message: &Message<'_>) -> Result<Self, BadRequest> {
        let unknown = Unknown::first_of(message.unknown_required());
        if !unknown.is_empty() {
            return Err(BadRequest::Unknown(unknown));
        }
        let claim = match (message.ice_controlling(), message.ice_controlled()) {
            (None, None) => None,
            (Some(tiebreaker), None) => Some(Claim { role: Role::Controlling, tiebreaker }),
            (None, Some(tiebreaker)) => Some(Claim { role: Role::Controlled, tiebreaker }),
            (Some(_), Some(_)) => return Err(BadRequest::Attributes),
        };
        let priority = message.priority().ok_or(BadRequest::Attributes)?;
        Ok(Self { priority, nominates: nomination(message), claim })
    }
}

/// NOMINATION (draft-thatcher-ice-renomination): a number that grows with every choice. A peer that does
/// not know it takes USE-CANDIDATE beside it for a plain nomination.
const NOMINATION: u16 = 0xC001;

/// How `message` nominates, if it does. A NOMINATION of another length, or of 0, says nothing.
fn nomination(message: &Message<'_>) -> Option<Nominated> {
    let number =
        message.attribute(NOMINATION).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes);
    match number.filter(|number| *number > 0) {
        Some(number) => Some(Nominated::Numbered(number)),
        None => message.use_candidate().then_some(Nominated::Plainly),
    }
}

/// Writes a check (RFC 8445 §7.2.2). Its bytes depend on the arguments alone, so a retransmission is
/// identical.
pub(crate) fn write_check(
    out: &mut Vec<u8>,
    id: TransactionId,
    peer: &Peer,
    priority: u32,
    tiebreak: &Tiebreak,
    nominates: Option<Nominated>,
) {
    let writer = MessageWriter::new(out, Class::Request, Method::BINDING, id)
        .username(&peer.username)
        .priority(priority);
    let writer = match tiebreak.role() {
        Role::Controlling => writer.ice_controlling(tiebreak.tiebreaker()),
        Role::Controlled => writer.ice_controlled(tiebreak.tiebreaker()),
    };
    let writer = match nominates {
        None => writer,
        Some(Nominated::Plainly) => writer.use_candidate(),
        Some(Nominated::Numbered(number)) => {
            writer.use_candidate().attribute(NOMINATION, &number.to_be_bytes())
        }
    };
    writer.integrity(&peer.key).fingerprint();
}

/// Writes an answer.
pub(crate) fn write_answer(out: &mut Vec<u8>, answer: &Answer, key: &Key) {
    let Answer { path, id, kind, era: _ } = *answer;
    let begin = |out, class| MessageWriter::new(out, class, Method::BINDING, id);
    match kind {
        AnswerKind::Success(algorithm) => {
            seal(begin(out, Class::Success).xor_mapped_address(path.peer_address()), algorithm, key);
        }
        AnswerKind::Error(algorithm, code) => {
            seal(begin(out, Class::Error).error_code(code, reason(code)), algorithm, key);
        }
        AnswerKind::UnknownAttributes(algorithm, unknown) => {
            let code = gimlet_stun::error_code::UNKNOWN_ATTRIBUTE;
            let writer = begin(out, Class::Error).error_code(code, reason(code));
            seal(writer.unknown_attributes(unknown.as_slice()), algorithm, key);
        }
        AnswerKind::Unsigned(code) => {
            begin(out, Class::Error).error_code(code, "").fingerprint();
        }
    }
}

/// Signs an answer as its request was signed (RFC 8489 §9.1.3).
fn seal(writer: MessageWriter<'_>, algorithm: IntegrityAlgorithm, key: &Key) {
    writer.integrity_with(key, algorithm).fingerprint();
}

/// Writes a keepalive (RFC 8445 §11): an indication, so nobody answers.
pub(crate) fn write_keepalive(out: &mut Vec<u8>, id: TransactionId) {
    MessageWriter::new(out, Class::Indication, Method::BINDING, id).fingerprint();
}

fn reason(code: u16) -> &'static str {
    match code {
        gimlet_stun::error_code::BAD_REQUEST => "Bad Request",
        gimlet_stun::error_code::UNKNOWN_ATTRIBUTE => "Unknown Attribute",
        gimlet_stun::error_code::ROLE_CONFLICT => "Role Conflict",
        _ => "",
    }
}

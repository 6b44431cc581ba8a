//! ICE descriptions: what two peers must know of each other before they can check paths.
//!
//! A description travels through a common peer (the introducer), end to end signed. The introducer
//! reads it, as every signalling server does, but cannot alter or forge one, and cannot replay one
//! either: sequence numbers only grow.

use gimlet_ice::{Candidate, Credentials, OUTSIDE_MAX};
use gimlet_machine::PeerId;
use serde::{Deserialize, Serialize};

use crate::identity::{Identity, Purpose, SIGNATURE_LEN, verify};
use crate::punch::Word;

/// Length of an encoded description with its signature; longer ones are refused unread. Bytes.
pub const DESCRIPTION_MAX: usize = 4_096;
/// Candidates in one description; more are not sent, and a description with more is refused.
pub const DESCRIPTION_CANDIDATES_MAX: usize = 16;

/// Which message of an attempt this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// "I want to connect": opens attempt `attempt` and makes the sender the controlling side.
    Offer,
    /// "Yes": answers the offer with the same attempt number.
    Answer,
    /// More candidates for a running attempt (RFC 8838).
    Trickle,
    /// For a link: these are the candidates of the sender from here on.
    Update,
    /// The same, and whatever is not among them is gone.
    Moved,
    /// For a link on which nothing works: fresh credentials and all candidates (RFC 8445 §9).
    Restart,
    /// The answer to a restart, with the same.
    Restarted,
    /// About a punch: see [`crate::punch`]. It has no candidates.
    Punch,
    /// "I have your answer, and check from here on." It has no candidates.
    Began,
}

/// One signed message about one attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) kind: Kind,
    pub(crate) from: [u8; 32],
    pub(crate) to: [u8; 32],
    /// Chosen by the offerer; ties answers and trickled candidates to their offer.
    pub(crate) attempt: u64,
    /// Grows with every description from the same sender, across restarts too: nanoseconds since
    /// the Unix epoch, pushed forward where the clock is too slow.
    pub(crate) sequence: u64,
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    /// RFC 8839 §5.1 candidate-attribute values.
    pub(crate) candidates: Vec<String>,
    /// No more candidates will follow (RFC 8838 §14).
    pub(crate) end_of_candidates: bool,
    /// The sender follows renominations (`ice-options:renomination`).
    pub(crate) renomination: bool,
    /// What [`Kind::Punch`] has to say.
    pub(crate) punch: Option<Word>,
}

/// Why a description was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DescriptionError {
    /// Not a description, or over a limit.
    Malformed,
    /// The signature is not the named sender's.
    Forged,
    /// It is meant for somebody else, or names another sender than the introducer did.
    Misdirected,
}

impl Description {
    /// Encodes and signs.
    pub(crate) fn seal(&self, identity: &Identity) -> Vec<u8> {
        debug_assert_eq!(self.from, identity.peer_id().0, "we sign only what we say ourselves");
        let mut bytes = postcard::to_allocvec(self).unwrap_or_default();
        let signature = identity.sign(Purpose::Description, &bytes);
        bytes.extend_from_slice(&signature);
        bytes
    }

    /// Decodes a description that claims to come from `from` and to be meant for `to`.
    pub(crate) fn open(bytes: &[u8], from: PeerId, to: PeerId) -> Result<Description, DescriptionError> {
        if bytes.len() > DESCRIPTION_MAX {
            return Err(DescriptionError::Malformed);
        }
        let (content, signature) =
            bytes.split_last_chunk::<SIGNATURE_LEN>().ok_or(DescriptionError::Malformed)?;
        if !verify(from, Purpose::Description, content, signature) {
            return Err(DescriptionError::Forged);
        }
        let (description, rest) =
            postcard::take_from_bytes::<Description>(content).map_err(|_| DescriptionError::Malformed)?;
        let outside = description.punch.as_ref().map_or(0, |word| word.outside.len());
        if !rest.is_empty()
            || description.candidates.len() > DESCRIPTION_CANDIDATES_MAX
            || outside > OUTSIDE_MAX
        {
            return Err(DescriptionError::Malformed);
        }
        if description.credentials().validate().is_err() {
            return Err(DescriptionError::Malformed);
        }
        if description.from != from.0 || description.to != to.0 {
            return Err(DescriptionError::Misdirected);
        }
        Ok(description)
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials { ufrag: self.ufrag.clone(), pwd: self.pwd.clone() }
    }

    /// The candidates we can use. What we cannot read (another transport, a name) is left out, as
    /// RFC 8839 §5.1 asks.
    pub(crate) fn usable_candidates(&self) -> impl Iterator<Item = Candidate> {
        self.candidates.iter().filter_map(|line| line.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(from: &Identity, to: PeerId) -> Description {
        Description {
            kind: Kind::Offer,
            from: from.peer_id().0,
            to: to.0,
            attempt: 5,
            sequence: 1,
            ufrag: "abcd".into(),
            pwd: "0123456789012345678901".into(),
            candidates: vec![Candidate::host("192.0.2.1:5000".parse().unwrap()).to_string()],
            end_of_candidates: true,
            renomination: true,
            punch: None,
        }
    }

    #[test]
    fn an_introducer_can_neither_alter_nor_forge_nor_misdirect() {
        let (a, b, liar) =
            (Identity::from_secret([1; 32]), Identity::from_secret([2; 32]), Identity::from_secret([3; 32]));
        let sealed = offer(&a, b.peer_id()).seal(&a);
        assert_eq!(Description::open(&sealed, a.peer_id(), b.peer_id()), Ok(offer(&a, b.peer_id())));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(Description::open(&altered, a.peer_id(), b.peer_id()), Err(DescriptionError::Forged));
        }
        assert_eq!(
            Description::open(&sealed, liar.peer_id(), b.peer_id()),
            Err(DescriptionError::Forged),
            "the introducer claims another sender"
        );
        assert_eq!(
            Description::open(&sealed, a.peer_id(), liar.peer_id()),
            Err(DescriptionError::Misdirected),
            "the introducer hands it to somebody else"
        );
    }

    #[test]
    fn oversized_and_truncated_ones_are_refused() {
        let (a, b) = (Identity::from_secret([1; 32]).peer_id(), Identity::from_secret([2; 32]).peer_id());
        assert_eq!(Description::open(&[0; DESCRIPTION_MAX + 1], a, b), Err(DescriptionError::Malformed));
        assert_eq!(Description::open(&[0; 10], a, b), Err(DescriptionError::Malformed));
    }

    #[test]
    fn credentials_that_ice_cannot_use_are_refused_before_anything_begins() {
        let (a, b) = (Identity::from_secret([1; 32]), Identity::from_secret([2; 32]).peer_id());
        let sealed = Description { pwd: "too short".into(), ..offer(&a, b) }.seal(&a);
        assert_eq!(Description::open(&sealed, a.peer_id(), b), Err(DescriptionError::Malformed));
    }
}

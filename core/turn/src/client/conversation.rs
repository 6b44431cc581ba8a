//! The long-term mechanism as a conversation (RFC 8489 §9.2): challenged, answered, challenged again.

use alloc::vec::Vec;

use gimlet_stun::{
    IntegrityAlgorithm, Key, Message, MessageWriter, PasswordAlgorithm, TEXT_MAX, attribute, userhash,
};

use crate::credentials::{Challenge, LongTerm};
use crate::event::Failure;
use crate::nonce::Features;

/// The longest PASSWORD-ALGORITHMS that is echoed: a server that offers more than this offers
/// nonsense, and is refused. Bytes.
pub const ALGORITHMS_MAX: usize = 64;

/// Who we are, and what the server wants to hear with it.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    credentials: LongTerm,
    challenge: Option<Known>,
    /// What signed requests that are under way with the credentials before these.
    former: Option<Known>,
}

/// What the server's last challenge said, and the key that follows from it.
#[derive(Clone, Debug)]
struct Known {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    /// PASSWORD-ALGORITHMS as it came: it is echoed byte for byte.
    offered: Option<Vec<u8>>,
    algorithm: PasswordAlgorithm,
    anonymous: bool,
    key: Key,
}

impl Conversation {
    pub(crate) const fn new(credentials: LongTerm) -> Self {
        Self { credentials, challenge: None, former: None }
    }

    /// Forgets the challenge: another server has another.
    pub(crate) fn forget(&mut self) {
        self.challenge = None;
        self.former = None;
    }

    /// From here on these credentials. What is under way may still be answered to the ones before.
    pub(crate) fn renew(&mut self, credentials: LongTerm, challenge: &Challenge) -> Result<(), Failure> {
        let offered = Some(&challenge.algorithms[..]).filter(|offered| !offered.is_empty());
        let known = Known::new(&credentials, &challenge.realm, &challenge.nonce, offered)?;
        self.former = self.challenge.replace(known);
        self.credentials = credentials;
        Ok(())
    }

    /// Takes REALM and NONCE from a 401 or 438 (RFC 8489 §9.2.5). A 438 may leave out the realm.
    pub(crate) fn learn(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        let known = self.challenge.as_ref().map(|challenge| &challenge.realm[..]);
        let (Some(realm), Some(nonce)) = (message.realm().or(known), message.nonce()) else {
            return Err(Failure::Incomplete);
        };
        let known = Known::new(&self.credentials, realm, nonce, message.password_algorithms())?;
        self.challenge = Some(known);
        Ok(())
    }

    /// Ends a request: with name and signature if the server has challenged us. Says whether it did.
    pub(crate) fn seal(&self, writer: MessageWriter<'_>) -> bool {
        let Some(challenge) = &self.challenge else {
            writer.finish();
            return false;
        };
        let username = self.credentials.username();
        let mut writer = if challenge.anonymous {
            writer.userhash(&userhash(username, &challenge.realm))
        } else {
            writer.username(username)
        };
        writer = writer.realm(&challenge.realm).nonce(&challenge.nonce);
        if let Some(offered) = &challenge.offered {
            writer = writer.attribute(attribute::PASSWORD_ALGORITHMS, offered);
            writer = writer.password_algorithm(challenge.algorithm);
        }
        writer.integrity_with(&challenge.key, challenge.signature()).finish();
        true
    }

    /// Whether `message` is signed as we sign: a weaker signature than agreed is none
    /// (RFC 8489 §9.2.5).
    pub(crate) fn is_authentic(&self, message: &Message<'_>) -> bool {
        let mut known = self.challenge.iter().chain(&self.former);
        known.any(|challenge| {
            message.integrity_algorithm() == Some(challenge.signature())
                && message.verify(&challenge.key).is_ok()
        })
    }
}

impl Known {
    fn new(
        credentials: &LongTerm,
        realm: &[u8],
        nonce: &[u8],
        offered: Option<&[u8]>,
    ) -> Result<Self, Failure> {
        if realm.len() > TEXT_MAX || nonce.len() > TEXT_MAX {
            return Err(Failure::Incomplete);
        }
        let features = Features::of(nonce);
        if features.password_algorithms && offered.is_none() {
            return Err(Failure::BidDown);
        }
        let algorithm = match offered {
            None => PasswordAlgorithm::Md5,
            Some(offered) if offered.len() > ALGORITHMS_MAX => return Err(Failure::NoAlgorithm),
            Some(offered) => PasswordAlgorithm::offered_in(offered).max().ok_or(Failure::NoAlgorithm)?,
        };
        let key = Key::long_term(credentials.username(), realm, credentials.password(), algorithm);
        Ok(Known {
            realm: realm.to_vec(),
            nonce: nonce.to_vec(),
            offered: offered.map(<[u8]>::to_vec),
            algorithm,
            anonymous: features.username_anonymity,
            key,
        })
    }

    /// RFC 8489 §9.2.4: who offers password algorithms gets SHA-256 signatures.
    const fn signature(&self) -> IntegrityAlgorithm {
        match self.offered {
            Some(_) => IntegrityAlgorithm::Sha256,
            None => IntegrityAlgorithm::Sha1,
        }
    }
}

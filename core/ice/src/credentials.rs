//! Username fragments and passwords, and the keys they make.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use gimlet_machine::{Id, Rng};
use gimlet_stun::Key;

use crate::foundation::{ice_char, is_ice_chars};
use crate::pair::Pair;
use crate::{CredentialsError, PASSWORD_MAX, UFRAG_MAX};

/// Characters in a fragment we make: 48 bits, twice what RFC 8445 §5.3 asks for, so that agents sharing
/// a socket tell their requests apart.
pub(crate) const UFRAG_LEN: usize = 8;

/// Characters in a password we make: 144 bits, where RFC 8445 §5.3 asks for 128.
const PASSWORD_LEN: usize = 24;

/// The username fragment and the password of one agent (RFC 8445 §5.3). They travel over signalling.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the agent's session: 4 to 256 `ice-char`s.
    pub ufrag: String,
    /// Proves who was signalled to: 22 to 256 `ice-char`s.
    pub pwd: String,
}

impl Credentials {
    /// Fresh credentials.
    pub(crate) fn generate(rng: &mut Rng) -> Self {
        let ufrag = rng.bytes::<UFRAG_LEN>().into_iter().map(ice_char).collect();
        let pwd = rng.bytes::<PASSWORD_LEN>().into_iter().map(ice_char).collect();
        Self { ufrag, pwd }
    }

    /// Whether both are well-formed (RFC 8839 §5.4).
    pub fn validate(&self) -> Result<(), CredentialsError> {
        if !(4..=UFRAG_MAX).contains(&self.ufrag.len()) || !is_ice_chars(&self.ufrag) {
            return Err(CredentialsError::Ufrag);
        }
        if !(22..=PASSWORD_MAX).contains(&self.pwd.len()) || !is_ice_chars(&self.pwd) {
            return Err(CredentialsError::Password);
        }
        Ok(())
    }
}

impl fmt::Debug for Credentials {
    /// The password is not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.ufrag)
    }
}

/// The credentials of both sides, with the keys made of them once.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) local: Credentials,
    /// Verifies requests and signs answers.
    local_key: Key,
    pub(crate) peer: Option<Peer>,
    /// The peer's answer to everything is yes (RFC 8445 §2.5).
    pub(crate) peer_is_lite: bool,
    /// Other agents have ours too: the bases tell whose a request is.
    pub(crate) is_shared: bool,
    /// The generation before, as long as its path carries data (RFC 8445 §9).
    pub(crate) retired: Option<Box<Retired>>,
}

/// An earlier generation, of which one pair is still in use.
#[derive(Debug)]
pub(crate) struct Retired {
    local: Credentials,
    local_key: Key,
    peer: Peer,
    pub(crate) pair: Id<Pair>,
}

/// Which of our credentials a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// The current ones.
    Current,
    /// Those of before the restart.
    Retired,
}

/// What is known once the peer's credentials have arrived.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) credentials: Credentials,
    /// Signs requests and verifies answers.
    pub(crate) key: Key,
    /// The USERNAME of our requests: the peer's fragment, a colon, ours (RFC 8445 §7.2.2).
    pub(crate) username: Vec<u8>,
}

impl Session {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let local = Credentials::generate(rng);
        let local_key = Key::short_term(local.pwd.as_bytes());
        Self { local, local_key, peer: None, peer_is_lite: false, is_shared: false, retired: None }
    }

    /// Begins a new generation (RFC 8445 §9). `pair`, of the current one, stays in use meanwhile; an
    /// earlier generation stays if it is the one in use.
    pub(crate) fn restart(&mut self, rng: &mut Rng, pair: Option<Id<Pair>>) {
        let fresh = Session::new(rng);
        let local = core::mem::replace(&mut self.local, fresh.local);
        let local_key = core::mem::replace(&mut self.local_key, fresh.local_key);
        if let Some((pair, peer)) = pair.zip(self.peer.take()) {
            self.retired = Some(Box::new(Retired { local, local_key, peer, pair }));
        }
    }

    /// Verifies requests of `era` and signs the answers to them.
    pub(crate) fn key(&self, era: Era) -> &Key {
        match (era, &self.retired) {
            (Era::Retired, Some(retired)) => &retired.local_key,
            (Era::Retired, None) | (Era::Current, _) => &self.local_key,
        }
    }

    /// The peer as the credentials of `era` know it.
    pub(crate) fn peer(&self, era: Era) -> Option<&Peer> {
        match era {
            Era::Current => self.peer.as_ref(),
            Era::Retired => self.retired.as_ref().map(|retired| &retired.peer),
        }
    }

    /// The pair of the retired generation that is still in use.
    pub(crate) fn retired_pair(&self) -> Option<Id<Pair>> {
        self.retired.as_ref().map(|retired| retired.pair)
    }

    /// Takes credentials that the owner assigned.
    pub(crate) fn set_local(&mut self, local: Credentials) {
        debug_assert!(local.validate().is_ok(), "the caller has looked");
        self.local_key = Key::short_term(local.pwd.as_bytes());
        self.local = local;
    }

    /// Whether `sender` has our password and is not the peer that we were told of.
    pub(crate) fn is_stranger(&self, sender: &[u8]) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.credentials.ufrag.as_bytes() != sender)
    }

    pub(crate) fn set_peer(&mut self, credentials: Credentials) {
        let username = [credentials.ufrag.as_bytes(), b":", self.local.ufrag.as_bytes()].concat();
        let key = Key::short_term(credentials.pwd.as_bytes());
        self.peer = Some(Peer { credentials, key, username });
    }

    /// The sender's fragment, if `username` addresses us (RFC 8445 §7.3), and by which of our fragments.
    /// One that is longer than a fragment can be is nobody's.
    pub(crate) fn sender<'a>(&self, username: &'a [u8]) -> Option<(Era, &'a [u8])> {
        let after = |ufrag: &str| username.strip_prefix(ufrag.as_bytes())?.strip_prefix(b":");
        let current = after(&self.local.ufrag).map(|sender| (Era::Current, sender));
        let retired = || Some((Era::Retired, after(&self.retired.as_ref()?.local.ufrag)?));
        current.or_else(retired).filter(|(_, sender)| sender.len() <= UFRAG_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn fresh_credentials_are_well_formed_and_differ() {
        let mut rng = Rng::from_u64(1);
        let (a, b) = (Credentials::generate(&mut rng), Credentials::generate(&mut rng));
        assert_eq!((a.validate(), b.validate()), (Ok(()), Ok(())));
        assert!(a.ufrag != b.ufrag && a.pwd != b.pwd);
    }

    #[test]
    fn lengths_and_alphabet_are_checked() {
        let with = |ufrag: &str, pwd: &str| Credentials { ufrag: ufrag.to_string(), pwd: pwd.to_string() };
        let pwd = "p".repeat(22);
        assert_eq!(with("abc", &pwd).validate(), Err(CredentialsError::Ufrag));
        assert_eq!(with("ab:d", &pwd).validate(), Err(CredentialsError::Ufrag));
        assert_eq!(with(&"u".repeat(257), &pwd).validate(), Err(CredentialsError::Ufrag));
        assert_eq!(with("abcd", &"p".repeat(21)).validate(), Err(CredentialsError::Password));
        assert_eq!(with("abcd", &"p".repeat(257)).validate(), Err(CredentialsError::Password));
        assert_eq!(with("abcd", &pwd).validate(), Ok(()));
    }

    #[test]
    fn a_username_addresses_us_only_with_our_whole_fragment_and_a_colon() {
        let session = Session::new(&mut Rng::from_u64(1));
        let ours = session.local.ufrag.clone();
        assert_eq!(
            session.sender([ours.as_bytes(), b":peer"].concat().as_slice()),
            Some((Era::Current, &b"peer"[..]))
        );
        assert_eq!(session.sender(ours.as_bytes()), None);
        assert_eq!(session.sender([ours.as_bytes(), b"x:peer"].concat().as_slice()), None);
        assert_eq!(session.sender(b""), None);
        let endless = [ours.as_bytes(), b":", &[b'x'; UFRAG_MAX + 1]].concat();
        assert_eq!(session.sender(&endless), None);
    }

    #[test]
    fn debug_output_hides_the_password() {
        let credentials = Credentials::generate(&mut Rng::from_u64(1));
        assert!(!alloc::format!("{credentials:?}").contains(&credentials.pwd));
    }
}

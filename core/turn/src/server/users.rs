//! Who has which password.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use gimlet_stun::{Key, Message, PasswordAlgorithm, USERNAME_MAX, userhash};

use super::{SECRETS_MAX, ServerConfig, USERS_MAX};
use crate::credentials::{derived_password, expiry};

/// The keys of named users, and the secrets from which the keys of all others follow.
#[derive(Clone)]
pub(super) struct Users {
    realm: Vec<u8>,
    named: BTreeMap<Vec<u8>, Keys>,
    hashes: BTreeMap<[u8; 32], Vec<u8>>,
    secrets: Vec<Vec<u8>>,
}

#[derive(Clone, Copy)]
struct Keys {
    md5: Key,
    sha256: Key,
}

impl Users {
    pub(super) fn new(config: &ServerConfig) -> Self {
        let realm = config.realm.as_bytes().to_vec();
        let users = config.users.iter().take(USERS_MAX);
        let key = |name, password, algorithm| Key::long_term(name, &realm, password, algorithm);
        let named = users.clone().map(|user| {
            let (name, password) = (user.username(), user.password());
            let md5 = key(name, password, PasswordAlgorithm::Md5);
            (name.to_vec(), Keys { md5, sha256: key(name, password, PasswordAlgorithm::Sha256) })
        });
        let hashes = users.clone().map(|user| {
            let name = user.username();
            (userhash(name, &realm), name.to_vec())
        });
        let (named, hashes) = (named.collect(), hashes.collect());
        let secrets = config.secrets.iter().take(SECRETS_MAX).cloned().collect();
        Self { realm, named, hashes, secrets }
    }

    pub(super) fn realm(&self) -> &[u8] {
        &self.realm
    }

    /// Whether every user is known by name, so that a hash can name it. The names that secrets make
    /// are not known before they are used.
    pub(super) fn are_all_named(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The name in a request, plain or hashed.
    pub(super) fn name<'a>(&'a self, request: &Message<'a>) -> Option<&'a [u8]> {
        match request.username() {
            Some(name) => Some(name).filter(|name| name.len() <= USERNAME_MAX),
            None => self.hashes.get(request.userhash()?).map(Vec::as_slice),
        }
    }

    /// Whether the time of `name` is not over: named users have all the time there is.
    pub(super) fn is_current(&self, unix: Duration, name: &[u8]) -> bool {
        self.named.contains_key(name) || expiry(name).is_some_and(|until| until > unix.as_secs())
    }

    /// Where in `name` the user begins: names that carry a time change with it, and the user behind it stays.
    pub(super) fn user_at(&self, name: &[u8]) -> usize {
        let timed = !self.named.contains_key(name) && expiry(name).is_some();
        let colon = if timed { name.iter().position(|byte| *byte == b':') } else { None };
        colon.map(|at| at + 1).filter(|at| *at < name.len()).unwrap_or(0)
    }

    /// Every key that `name` may have: one if it is a named user, otherwise one for each secret,
    /// while the name's time is not over.
    pub(super) fn keys<'u>(
        &'u self,
        unix: Duration,
        name: &'u [u8],
        algorithm: PasswordAlgorithm,
    ) -> impl Iterator<Item = Key> + 'u {
        let named = self.named.get(name).map(|keys| match algorithm {
            PasswordAlgorithm::Md5 => keys.md5,
            PasswordAlgorithm::Sha256 => keys.sha256,
        });
        let derives = named.is_none() && self.is_current(unix, name);
        let secrets = if derives { &self.secrets[..] } else { &[] };
        let derived = secrets.iter().map(move |secret| {
            let password = derived_password(secret, name);
            Key::long_term(name, &self.realm, password.as_bytes(), algorithm)
        });
        named.into_iter().chain(derived)
    }
}

/// Names are public, keys and secrets are not.
impl core::fmt::Debug for Users {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Users({} named, {} secrets)", self.named.len(), self.secrets.len())
    }
}

//! A name and the key that goes with it, for the short-term mechanism (RFC 8489 §9.1).

use alloc::vec::Vec;
use core::fmt;

use crate::key::Key;

/// The longest USERNAME that may be sent (RFC 8489 §14.3: fewer than 509 bytes).
pub const USERNAME_MAX: usize = 508;

/// What signs a request and its answer.
#[derive(Clone)]
pub struct Credentials {
    username: Vec<u8>,
    key: Key,
}

impl Credentials {
    /// A name and a password that both sides know. `None` if the name is longer than
    /// [`USERNAME_MAX`].
    pub fn short_term(username: &[u8], password: &[u8]) -> Option<Self> {
        let fits = username.len() <= USERNAME_MAX;
        fits.then(|| Self { username: username.to_vec(), key: Key::short_term(password) })
    }

    /// The name.
    pub fn username(&self) -> &[u8] {
        &self.username
    }

    /// The key.
    pub const fn key(&self) -> &Key {
        &self.key
    }
}

/// The name is public, the key is not.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.username.escape_ascii())
    }
}

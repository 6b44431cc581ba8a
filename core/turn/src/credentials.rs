//! Long-term credentials (RFC 8489 §9.2), and those that expire by themselves.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;

use data_encoding::BASE64;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;

use gimlet_stun::USERNAME_MAX;

/// The longest password. Bytes; a longer one is refused.
pub const PASSWORD_MAX: usize = 508;

/// A name and a password: what a user of a TURN server has.
///
/// Both are taken as the bytes they are; see [`gimlet_stun::Key`] for why.
#[derive(Clone, PartialEq, Eq)]
pub struct LongTerm {
    username: Vec<u8>,
    password: Vec<u8>,
}

impl LongTerm {
    /// `None` if the name is empty or longer than [`USERNAME_MAX`], or the password longer than
    /// [`PASSWORD_MAX`].
    pub fn new(username: &[u8], password: &[u8]) -> Option<Self> {
        let fits = !username.is_empty() && username.len() <= USERNAME_MAX && password.len() <= PASSWORD_MAX;
        fits.then(|| Self { username: username.to_vec(), password: password.to_vec() })
    }

    /// Credentials that a server which knows `secret` accepts until `expires` (seconds since
    /// 1970-01-01): the name is `expires:user`, the password is made from it. This is what services
    /// hand to their users over REST (draft-uberti-behave-turn-rest-00 §2.2); coturn calls it
    /// `use-auth-secret`.
    ///
    /// ```
    /// let credentials = gimlet_turn::LongTerm::until(b"north", 1_433_895_918, "alice").unwrap();
    /// assert_eq!(credentials.username(), b"1433895918:alice");
    /// ```
    pub fn until(secret: &[u8], expires: u64, user: &str) -> Option<Self> {
        let mut username: String = expires.to_string();
        if !user.is_empty() {
            username.push(':');
            username.push_str(user);
        }
        Self::new(username.as_bytes(), derived_password(secret, username.as_bytes()).as_bytes())
    }

    /// The name.
    pub fn username(&self) -> &[u8] {
        &self.username
    }

    /// The password. Handle with care.
    pub fn password(&self) -> &[u8] {
        &self.password
    }
}

/// The name is public, the password is not.
impl fmt::Debug for LongTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LongTerm({})", self.username.escape_ascii())
    }
}

/// What a server wants to hear besides name and signature. A client that learns it beforehand, from somebody
/// it trusts, is not challenged first and saves a round trip ([`Client::renew`](crate::Client::renew)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What the password belongs to.
    pub realm: Vec<u8>,
    /// The server's nonce for this client.
    pub nonce: Vec<u8>,
    /// The value of PASSWORD-ALGORITHMS; empty: the server offers none.
    pub algorithms: Vec<u8>,
}

/// `base64(HMAC-SHA1(secret, username))`.
pub(crate) fn derived_password(secret: &[u8], username: &[u8]) -> String {
    let mut mac =
        <Hmac<Sha1> as hmac::KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(username);
    BASE64.encode(&mac.finalize().into_bytes())
}

/// When a name of the form `expires` or `expires:user` stops being good. `None`: it has another form.
pub(crate) fn expiry(username: &[u8]) -> Option<u64> {
    let digits = username.split(|byte| *byte == b':').next()?;
    let decimal = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    decimal.then(|| core::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_password_is_what_other_servers_derive() {
        // openssl: printf '1433895918:alice' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(derived_password(b"north", b"1433895918:alice"), "RqMvcGPYTJMGThVLSi4amT4zFtI=");
    }

    #[test]
    fn names_that_expire_are_told_from_others() {
        let cases: [(&[u8], Option<u64>); 7] = [
            (b"1433895918:alice", Some(1_433_895_918)),
            (b"1433895918", Some(1_433_895_918)),
            (b"0:", Some(0)),
            (b"alice", None),
            (b":alice", None),
            (b"-1:alice", None),
            (b"99999999999999999999:alice", None),
        ];
        for (username, expected) in cases {
            assert_eq!(expiry(username), expected);
        }
    }

    #[test]
    fn names_and_passwords_have_limits_and_stay_out_of_logs() {
        assert!(LongTerm::new(b"", b"p").is_none());
        assert!(LongTerm::new(&[b'u'; USERNAME_MAX + 1], b"p").is_none());
        assert!(LongTerm::new(b"u", &[b'p'; PASSWORD_MAX + 1]).is_none());
        let shown = alloc::format!("{:?}", LongTerm::new(b"alice", b"hush").unwrap());
        assert_eq!(shown, "LongTerm(alice)");
    }
}

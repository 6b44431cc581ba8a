//! What the front of a nonce promises (RFC 8489 §9.2.1).
//!
//! A server that offers more than MD5 says so inside the nonce, which the client's signature covers.
//! Whoever strips the offer from a challenge cannot strip the promise too, and the client notices.

use data_encoding::BASE64;

/// The front of a nonce that promises something (RFC 8489 §9.2).
pub(crate) const COOKIE: &[u8] = b"obMatJos2";

/// Bit 0 of the 24, counted from the left (RFC 8489 §18.1), and where the example of appendix B.1
/// would have it, counted from the right. Reading both costs nothing: an unexpected promise can only
/// make a client more careful.
const PASSWORD_ALGORITHMS: u32 = 0x80_0000 | 0x00_0001;

/// Bit 1, likewise.
const USERNAME_ANONYMITY: u32 = 0x40_0000 | 0x00_0002;

/// What a nonce promises about its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    /// It sends PASSWORD-ALGORITHMS.
    pub(crate) password_algorithms: bool,
    /// It wants USERHASH.
    pub(crate) username_anonymity: bool,
}

impl Features {
    /// Reads the front of a nonce; one without the cookie promises nothing.
    pub(crate) fn of(nonce: &[u8]) -> Self {
        let flags = nonce.strip_prefix(COOKIE).and_then(|rest| rest.get(..4)).and_then(|text| {
            let mut bytes = [0; 3];
            let len = BASE64.decode_mut(text, &mut bytes).ok()?;
            (len == 3).then_some(bytes)
        });
        let [a, b, c] = flags.unwrap_or_default();
        let flags = u32::from_be_bytes([0, a, b, c]);
        Self {
            password_algorithms: flags & PASSWORD_ALGORITHMS != 0,
            username_anonymity: flags & USERNAME_ANONYMITY != 0,
        }
    }

    /// The four characters behind the cookie, counted from the left.
    pub(crate) const fn text(self) -> &'static [u8; 4] {
        match (self.password_algorithms, self.username_anonymity) {
            (true, true) => b"wAAA",
            (true, false) => b"gAAA",
            (false, true) => b"QAAA",
            (false, false) => b"AAAA",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_survive_being_written_and_the_rfcs_example_is_understood() {
        for (password_algorithms, username_anonymity) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let features = Features { password_algorithms, username_anonymity };
            let nonce = [COOKIE, features.text(), b"whatever"].concat();
            assert_eq!(Features::of(&nonce), features);
        }
        // RFC 8489 appendix B.1.
        let example = Features::of(b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA");
        assert!(example.username_anonymity && !example.password_algorithms);
    }

    #[test]
    fn nonces_without_a_whole_cookie_promise_nothing() {
        for nonce in [&b""[..], b"f//499k954d6OL34", b"obMatJos2", b"obMatJos2gA", b"obMatJos2!!!!"] {
            assert_eq!(Features::of(nonce), Features::default());
        }
    }
}

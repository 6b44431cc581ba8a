//! Who may ask, and what strangers hear.
//!
//! A stranger costs no memory: the nonce is a keyed hash over its address and the time, so that it can
//! be checked without having been kept; and what strangers hear is short and rationed, so that a
//! forged source address is not worth forging.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::Hasher as _;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use data_encoding::BASE64URL;
use gimlet_machine::{FourTuple, Instant, Rng};
use gimlet_stun::{IntegrityAlgorithm, Key, Message, PasswordAlgorithm};
use siphasher::sip::SipHasher24;

use super::users::Users;
use crate::credentials::Challenge;
use crate::nonce::{COOKIE, Features};

/// How long a nonce is good (RFC 8656 §5 advises an hour).
pub const NONCE_LIFETIME: Duration = Duration::from_secs(3600);

/// The most answers per second to strangers of one address (an IPv6 network of 64 bits counts as
/// one), and the most at once. What else they send is dropped and counted.
pub const STRANGERS_PER_SECOND: u32 = 10;

/// How many addresses are told apart; those that fall together share a ration.
const RATIONS: usize = 1024;

/// The answers that a server offers, as PASSWORD-ALGORITHMS carries them, most preferred first.
pub(super) const OFFERED: [PasswordAlgorithm; 2] = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];

/// The value of PASSWORD-ALGORITHMS: [`OFFERED`] on the wire.
const OFFERED_BYTES: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

/// Time and hash in a nonce, before base64. Bytes.
const STAMP_LEN: usize = 3;
const TAG_LEN: usize = 6;

/// Characters in a nonce.
pub(super) const NONCE_LEN: usize = COOKIE.len() + 4 + (STAMP_LEN + TAG_LEN) / 3 * 4;

/// Who signed a request, and how the answer is signed.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) username: Vec<u8>,
    /// Where in it the user's name begins: behind the time, if the name carries one.
    user_at: usize,
    pub(crate) key: Key,
    pub(crate) password_algorithm: PasswordAlgorithm,
    pub(crate) integrity: IntegrityAlgorithm,
}

impl Signer {
    /// Who it is: the same before and after credentials of limited time were renewed.
    pub(super) fn user(&self) -> &[u8] {
        &self.username[self.user_at..]
    }
}

/// Why a request is not authentic (RFC 8489 §9.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// 400: something that authentication needs is missing.
    BadRequest,
    /// 401: no signature, no such user, or a wrong signature.
    Unauthenticated,
    /// 438: not a nonce of ours, or no longer.
    StaleNonce,
}

/// The door.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    key: (u64, u64),
    users: Users,
    rations: Box<[Instant]>,
}

impl Gate {
    pub(super) fn new(rng: &mut Rng, users: Users) -> Self {
        let rations = alloc::vec![Instant::ZERO; RATIONS].into_boxed_slice();
        Self { key: (rng.u64(), rng.u64()), users, rations }
    }

    pub(super) fn realm(&self) -> &[u8] {
        self.users.realm()
    }

    /// A nonce for whoever asks on `path`.
    pub(super) fn nonce(&self, now: Instant, path: FourTuple) -> [u8; NONCE_LEN] {
        let stamp = stamp(now);
        let mut binary = [0; STAMP_LEN + TAG_LEN];
        binary[..STAMP_LEN].copy_from_slice(&stamp);
        binary[STAMP_LEN..].copy_from_slice(&self.tag(stamp, path));
        let mut nonce = [0; NONCE_LEN];
        let (front, rest) = nonce.split_at_mut(COOKIE.len() + 4);
        front[..COOKIE.len()].copy_from_slice(COOKIE);
        front[COOKIE.len()..].copy_from_slice(self.features().text());
        BASE64URL.encode_mut(&binary, rest);
        nonce
    }

    /// What a client on `path` would be challenged with.
    pub(super) fn challenge(&self, now: Instant, path: FourTuple) -> Challenge {
        Challenge {
            realm: self.realm().to_vec(),
            nonce: self.nonce(now, path).to_vec(),
            algorithms: OFFERED_BYTES.to_vec(),
        }
    }

    fn features(&self) -> Features {
        Features { password_algorithms: true, username_anonymity: self.users.are_all_named() }
    }

    fn is_fresh(&self, now: Instant, path: FourTuple, nonce: &[u8]) -> bool {
        let Some((front, rest)) = nonce.split_at_checked(COOKIE.len() + 4) else { return false };
        let mut binary = [0; STAMP_LEN + TAG_LEN];
        let known = front.starts_with(COOKIE) && front[COOKIE.len()..] == *self.features().text();
        if !known || nonce.len() != NONCE_LEN || BASE64URL.decode_mut(rest, &mut binary).is_err() {
            return false;
        }
        let Some((&made, tag)) = binary.split_first_chunk::<STAMP_LEN>() else { return false };
        let [_, s0, s1, s2] = seconds(stamp(now)).wrapping_sub(seconds(made)).to_be_bytes();
        let age = Duration::from_secs(u64::from(seconds([s0, s1, s2])));
        age < NONCE_LIFETIME && *tag == self.tag(made, path)
    }

    fn tag(&self, stamp: [u8; STAMP_LEN], path: FourTuple) -> [u8; TAG_LEN] {
        let mut hash = SipHasher24::new_with_keys(self.key.0, self.key.1);
        hash.write(&stamp);
        write_address(&mut hash, path.remote);
        write_address(&mut hash, path.local);
        let [t0, t1, t2, t3, t4, t5, ..] = hash.finish().to_be_bytes();
        [t0, t1, t2, t3, t4, t5]
    }

    /// Decides whether `request` is authentic. The nonce comes before the signature, so that a flood
    /// of forged sources costs one short hash each. `known` is who signed before on this path: its
    /// key need not be made again.
    pub(super) fn authenticate(
        &self,
        now: Instant,
        unix: Duration,
        path: FourTuple,
        request: &Message<'_>,
        known: Option<&Signer>,
    ) -> Result<Signer, Stranger> {
        let integrity = request.integrity_algorithm().ok_or(Stranger::Unauthenticated)?;
        let (Some(realm), Some(nonce)) = (request.realm(), request.nonce()) else {
            return Err(Stranger::BadRequest);
        };
        if request.username().is_none() && request.userhash().is_none() {
            return Err(Stranger::BadRequest);
        }
        if !self.is_fresh(now, path, nonce) {
            return Err(Stranger::StaleNonce);
        }
        let password_algorithm = algorithm(request)?;
        if realm != self.realm() {
            return Err(Stranger::Unauthenticated);
        }
        let user = self.users.name(request).filter(|user| self.users.is_current(unix, user));
        let user = user.ok_or(Stranger::Unauthenticated)?;
        let known =
            known.filter(|known| known.username == user && known.password_algorithm == password_algorithm);
        let known = known.map(|known| known.key).filter(|key| request.verify(key).is_ok());
        let key = known.or_else(|| {
            let mut keys = self.users.keys(unix, user, password_algorithm);
            keys.find(|key| request.verify(key).is_ok())
        });
        let key = key.ok_or(Stranger::Unauthenticated)?;
        let user_at = self.users.user_at(user);
        Ok(Signer { username: user.to_vec(), user_at, key, password_algorithm, integrity })
    }

    /// Whether a stranger at `address` may hear something at `now`.
    pub(super) fn may_answer(&mut self, now: Instant, address: IpAddr) -> bool {
        let mut hash = SipHasher24::new_with_keys(self.key.1, self.key.0);
        match address.to_canonical() {
            IpAddr::V4(ip) => hash.write(&ip.octets()),
            IpAddr::V6(ip) => hash.write(&ip.octets()[..8]),
        }
        let ration = &mut self.rations[hash.finish() as usize % RATIONS];
        let each = Duration::from_secs(1) / STRANGERS_PER_SECOND;
        let next = (*ration).max(now) + each;
        let fits = next.since(now) <= Duration::from_secs(1);
        if fits {
            *ration = next;
        }
        fits
    }
}

/// RFC 8489 §9.2.4: a client that has seen the offer repeats it and chooses from it; one that has not
/// means MD5. Anything else was tampered with.
fn algorithm(request: &Message<'_>) -> Result<PasswordAlgorithm, Stranger> {
    let chosen = request.attribute(gimlet_stun::attribute::PASSWORD_ALGORITHM);
    match (request.password_algorithms(), chosen) {
        (None, None) => Ok(PasswordAlgorithm::Md5),
        (Some(offered), Some(_)) if offered == OFFERED_BYTES => {
            request.password_algorithm().ok_or(Stranger::BadRequest)
        }
        (Some(_) | None, Some(_) | None) => Err(Stranger::BadRequest),
    }
}

/// Seconds, of which 24 bits are kept: they come round after 194 days.
fn stamp(now: Instant) -> [u8; STAMP_LEN] {
    let [_, _, _, _, _, s0, s1, s2] = (now.as_millis() / 1000).to_be_bytes();
    [s0, s1, s2]
}

const fn seconds([s0, s1, s2]: [u8; STAMP_LEN]) -> u32 {
    u32::from_be_bytes([0, s0, s1, s2])
}

fn write_address(hash: &mut SipHasher24, address: SocketAddr) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => hash.write(&ip.octets()),
        IpAddr::V6(ip) => hash.write(&ip.octets()),
    }
    hash.write(&address.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ServerConfig;

    fn gate() -> Gate {
        Gate::new(&mut Rng::from_u64(1), Users::new(&ServerConfig::default()))
    }

    fn path(remote: &str) -> FourTuple {
        FourTuple::new("192.0.2.1:3478".parse().unwrap(), remote.parse().unwrap())
    }

    #[test]
    fn a_nonce_is_good_for_its_address_and_its_hour() {
        let (gate, here, start) = (gate(), path("198.51.100.7:61000"), Instant::from_millis(5_000));
        let nonce = gate.nonce(start, here);
        assert!(gate.is_fresh(start, here, &nonce));
        assert!(gate.is_fresh(start + NONCE_LIFETIME - Duration::from_secs(1), here, &nonce));
        assert!(!gate.is_fresh(start + NONCE_LIFETIME, here, &nonce));
        assert!(!gate.is_fresh(start, path("198.51.100.7:61001"), &nonce));
        assert!(!gate.is_fresh(start, path("198.51.100.8:61000"), &nonce));
        for at in 0..nonce.len() {
            let mut forged = nonce;
            forged[at] = if forged[at] == b'B' { b'C' } else { b'B' };
            assert!(!gate.is_fresh(start, here, &forged), "byte {at} counts");
            assert!(!gate.is_fresh(start, here, &nonce[..at]));
        }
    }

    #[test]
    fn the_offer_on_the_wire_is_the_offer_in_the_table() {
        let mut bytes = Vec::new();
        let id = gimlet_stun::TransactionId([0; 12]);
        gimlet_stun::MessageWriter::new(
            &mut bytes,
            gimlet_stun::Class::Error,
            gimlet_stun::Method::ALLOCATE,
            id,
        )
        .password_algorithms(&OFFERED)
        .finish();
        assert_eq!(Message::parse(&bytes).unwrap().password_algorithms(), Some(&OFFERED_BYTES[..]));
    }

    #[test]
    fn strangers_of_one_address_hear_ten_answers_a_second() {
        let (mut gate, one, other) =
            (gate(), "198.51.100.7".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let mut heard = |millis, address| gate.may_answer(Instant::from_millis(millis), address);
        assert_eq!((0..100).filter(|_| heard(0, one)).count(), 10);
        assert!(heard(0, other), "another address has a ration of its own");
        assert_eq!((1..=2000).filter(|millis| heard(*millis, one)).count(), 20);
    }
}

//! Connection ids that we recognise as ours without remembering them.

use std::fmt;
use std::time::Duration;

use gimlet_machine::Rng;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use siphasher::sip::SipHasher24;

/// Random part, bytes. Ids never repeat in practice, not even across restarts with the same key: a
/// repeated id would hand out its stateless reset token (RFC 9000 §21.11).
const NONCE_LEN: usize = 8;
/// Keyed part, bytes. A guess passes once in 2^32 packets, and what it earns is a stateless reset
/// that is smaller than the guess.
const TAG_LEN: usize = 4;
/// Length of every connection id that we issue, bytes.
pub(crate) const CID_LEN: usize = NONCE_LEN + TAG_LEN;

/// The secret that marks connection ids as ours.
#[derive(Clone)]
pub(crate) struct CidKey([u8; 16]);

impl CidKey {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// Whether `cid` was issued under this key.
    pub(crate) fn recognises(&self, cid: &[u8]) -> bool {
        let Some((nonce, tag)) = cid.split_at_checked(NONCE_LEN) else { return false };
        tag == self.tag(nonce)
    }

    fn tag(&self, nonce: &[u8]) -> [u8; TAG_LEN] {
        let hash = SipHasher24::new_with_key(&self.0).hash(nonce).to_le_bytes();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl fmt::Debug for CidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CidKey")
    }
}

/// Draws ids from the seed and marks them, so that random bytes that look like a packet draw no
/// stateless reset: quinn-proto's own generators ask the thread's random number generator.
#[derive(Clone, Debug)]
pub(crate) struct CidGenerator {
    rng: Rng,
    key: CidKey,
}

impl CidGenerator {
    pub(crate) fn new(rng: Rng, key: CidKey) -> Self {
        Self { rng, key }
    }
}

impl ConnectionIdGenerator for CidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut cid = [0; CID_LEN];
        let nonce = self.rng.bytes::<NONCE_LEN>();
        cid[..NONCE_LEN].copy_from_slice(&nonce);
        cid[NONCE_LEN..].copy_from_slice(&self.key.tag(&nonce));
        ConnectionId::new(&cid)
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        if self.key.recognises(cid) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        // Rotation hides a moving client from observers; ICE announces our addresses anyway.
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_seeded_recognised_and_not_forgeable_by_chance() {
        let key = CidKey::new([7; 16]);
        let mut a = CidGenerator::new(Rng::from_u64(1), key.clone());
        let mut b = CidGenerator::new(Rng::from_u64(1), key.clone());
        let cid = a.generate_cid();
        assert_eq!(cid, b.generate_cid());
        assert_ne!(cid, a.generate_cid());
        assert!(a.validate(&cid).is_ok());
        assert!(!CidKey::new([8; 16]).recognises(&cid));
        let mut rng = Rng::from_u64(2);
        assert!((0..10_000).all(|_| !key.recognises(&rng.bytes::<CID_LEN>())));
        assert!(!key.recognises(&cid[..CID_LEN - 1]) && !key.recognises(&[]));
    }
}

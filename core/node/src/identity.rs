//! Who we are: an Ed25519 key, and signatures that name what they sign.

use core::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use gimlet_machine::PeerId;

/// Length of a signature (RFC 8032 §5.1.6). Bytes.
pub(crate) const SIGNATURE_LEN: usize = 64;

/// An Ed25519 key pair. The public half is the [`PeerId`]; the secret half signs tickets and ICE
/// descriptions and authenticates TLS.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

/// What a signature is for. The label is signed with the content, so that a signature made for one
/// purpose is worthless for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Ticket,
    Description,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Purpose::Ticket => b"gimlet ticket v1\0",
            Purpose::Description => b"gimlet ice description v1\0",
        }
    }
}

impl Identity {
    /// The identity with this 32-byte Ed25519 secret.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(&secret) }
    }

    /// The secret, for storing it. Whoever has it is us.
    pub fn secret(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Our public name.
    pub fn peer_id(&self) -> PeerId {
        PeerId(self.key.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, purpose: Purpose, content: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.key.sign(&[purpose.label(), content].concat()).to_bytes()
    }
}

/// Whether `signature` is `signer`'s, for this purpose. Strict: weak keys and malleable signatures
/// are refused.
pub(crate) fn verify(
    signer: PeerId,
    purpose: Purpose,
    content: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&signer.0) else { return false };
    key.verify_strict(&[purpose.label(), content].concat(), &Signature::from_bytes(signature)).is_ok()
}

impl fmt::Debug for Identity {
    /// Never shows the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.peer_id().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_for_its_content_its_signer_and_its_purpose_only() {
        let (us, other) = (Identity::from_secret([1; 32]), Identity::from_secret([2; 32]));
        let signature = us.sign(Purpose::Ticket, b"content");
        assert!(verify(us.peer_id(), Purpose::Ticket, b"content", &signature));
        assert!(!verify(us.peer_id(), Purpose::Ticket, b"c0ntent", &signature));
        assert!(!verify(us.peer_id(), Purpose::Description, b"content", &signature));
        assert!(!verify(other.peer_id(), Purpose::Ticket, b"content", &signature));
    }

    #[test]
    fn debug_output_does_not_hold_the_secret() {
        let shown = format!("{:?}", Identity::from_secret([0xab; 32]));
        assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
    }

    /// RFC 8032 §7.1, test 1: the public key that belongs to a known secret.
    #[test]
    fn the_peer_id_is_the_public_key_of_rfc_8032() {
        let secret = data_encoding::HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
        let id = Identity::from_secret(secret.try_into().unwrap()).peer_id();
        let public = data_encoding::HEXLOWER.encode(&id.0);
        assert_eq!(public, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }
}

//! TLS whose every byte follows from a seed. **For simulations and recordings only.**

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gimlet_machine::Rng;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
    aws_lc_rs,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use x25519_dalek::{PublicKey, StaticSecret};

/// A rustls provider whose random numbers and key exchanges come from `rng`: two runs with equal
/// seeds put equal bytes on the wire.
///
/// **Never use it in production**: whoever knows the seed knows every key. It exists so that
/// a simulation can be replayed and a recording can be checked.
///
/// It is aws-lc-rs's default provider with two parts exchanged: the random number generator, and the
/// key exchange groups, of which only X25519 remains. Signatures need a key type that signs
/// deterministically: Ed25519 does (RFC 8032 §5.1.6), ECDSA does not.
///
/// rustls wants both parts for ever, so each call leaks about two hundred bytes. Make one provider
/// per node: with a shared one, the order of two nodes' draws would leak from one into the other.
pub fn seeded_provider(rng: Rng) -> Arc<CryptoProvider> {
    let dice: &'static Dice = Box::leak(Box::new(Dice(Mutex::new(rng))));
    let group: &'static SeededX25519 = Box::leak(Box::new(SeededX25519(dice)));
    Arc::new(CryptoProvider { kx_groups: vec![group], secure_random: dice, ..aws_lc_rs::default_provider() })
}

/// One node's dice.
struct Dice(Mutex<Rng>);

impl Dice {
    fn fill(&self, out: &mut [u8]) {
        // A panic elsewhere cannot leave the generator half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(out);
    }
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dice")
    }
}

impl SecureRandom for Dice {
    fn fill(&self, out: &mut [u8]) -> Result<(), GetRandomFailed> {
        Dice::fill(self, out);
        Ok(())
    }
}

/// X25519 (RFC 7748) with private keys from the dice.
#[derive(Debug)]
struct SeededX25519(&'static Dice);

impl SupportedKxGroup for SeededX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        self.0.fill(&mut secret);
        let secret = StaticSecret::from(secret);
        let public = PublicKey::from(&secret);
        Ok(Box::new(Exchange { secret, public }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// One key exchange, half done.
struct Exchange {
    secret: StaticSecret,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer_key: &[u8]) -> Result<SharedSecret, Error> {
        let invalid = || Error::from(PeerMisbehaved::InvalidKeyShare);
        let peer_key: [u8; 32] = peer_key.try_into().map_err(|_| invalid())?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(peer_key));
        // RFC 8446 §7.4.2: an all-zero result means that the peer sent a point of low order.
        if !shared.was_contributory() {
            return Err(invalid());
        }
        Ok(SharedSecret::from(&shared.as_bytes()[..]))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[cfg(test)]
mod tests;

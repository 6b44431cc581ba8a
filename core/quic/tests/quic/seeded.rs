//! With a seeded crypto provider a run repeats byte for byte.

use std::fmt;
use std::sync::{Arc, Mutex};

use gimlet_machine::Rng;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
    aws_lc_rs,
};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::world::{Wire, World};

/// All randomness of one node's TLS.
struct Seeded(Mutex<Rng>);

impl fmt::Debug for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seeded")
    }
}

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.0.lock().map_err(|_| GetRandomFailed)?.fill(bytes);
        Ok(())
    }
}

#[derive(Debug)]
struct SeededX25519(&'static Seeded);

struct Exchange {
    secret: StaticSecret,
    public: PublicKey,
}

impl SupportedKxGroup for SeededX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = [0; 32];
        self.0.fill(&mut bytes)?;
        let secret = StaticSecret::from(bytes);
        let public = PublicKey::from(&secret);
        Ok(Box::new(Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, Error> {
        let theirs: [u8; 32] = theirs.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(theirs));
        if !shared.was_contributory() {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(&shared.as_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

fn provider(seed: u64) -> Arc<CryptoProvider> {
    // `secure_random` must outlive everything; a test can spare the bytes.
    let seeded: &'static Seeded = Box::leak(Box::new(Seeded(Mutex::new(Rng::from_u64(seed)))));
    let group: &'static SeededX25519 = Box::leak(Box::new(SeededX25519(seeded)));
    Arc::new(CryptoProvider {
        kx_groups: vec![group],
        secure_random: seeded,
        ..aws_lc_rs::default_provider()
    })
}

#[test]
fn the_same_seed_gives_the_same_datagrams_byte_for_byte() {
    let run = |seed: u64| {
        let mut world =
            World::with(seed, |config| config.provider = provider(seed + u64::from(config.identity[0])));
        world.wire = Wire { loss_per_million: 50_000, ..Wire::default() };
        let ids = world.connect_stranger();
        world.transfer(ids, 100_000, |_, _| {});
        world.on(1, |b, now| b.close(now, ids.1, 0, b"enough"));
        world.run_for(std::time::Duration::from_secs(5));
        (world.log, world.events)
    };
    let (log, events) = run(80);
    let (again, events_again) = run(80);
    assert_eq!(events, events_again);
    assert!(log == again, "{} datagrams", log.len());
    assert!(log != run(81).0, "another seed is another run");
}

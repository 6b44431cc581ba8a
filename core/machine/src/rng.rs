//! The one source of randomness, seeded at construction.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// A ChaCha12 generator whose children are decided by labels, not by the order of draws: one more
/// draw in one place does not shift another.
#[derive(Clone, Debug)]
pub struct Rng {
    seed: [u8; 32],
    stream: ChaCha12Rng,
}

impl Rng {
    /// A generator for `seed`. In production the driver takes the seed from the operating system.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, stream: ChaCha12Rng::from_seed(seed) }
    }

    /// A generator for a small seed: simulations and tests.
    pub fn from_u64(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self::from_seed(bytes)
    }

    /// The child named `label`. The same label always gives the same child, however much has been
    /// drawn from this generator.
    ///
    /// ```
    /// # use gimlet_machine::Rng;
    /// let (mut a, b) = (Rng::from_u64(1), Rng::from_u64(1));
    /// a.u64();
    /// assert_eq!(a.fork("ice").u64(), b.fork("ice").u64());
    /// assert_ne!(a.fork("ice").u64(), a.fork("quic").u64());
    /// ```
    #[must_use]
    pub fn fork(&self, label: &str) -> Rng {
        self.fork_nth(label, 0)
    }

    /// The `nth` child named `label`: one per connection, host or link.
    #[must_use]
    pub fn fork_nth(&self, label: &str, nth: u64) -> Rng {
        let mut child = ChaCha12Rng::from_seed(self.seed);
        // Stream 0 is our own; a label is never empty, so FNV never leaves it there in practice.
        child.set_stream(fnv1a(label.as_bytes(), nth));
        let mut seed = [0; 32];
        child.fill_bytes(&mut seed);
        Rng::from_seed(seed)
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.stream.fill_bytes(out);
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A random 32-bit number.
    pub fn u32(&mut self) -> u32 {
        self.stream.next_u32()
    }

    /// A random 64-bit number.
    pub fn u64(&mut self) -> u64 {
        self.stream.next_u64()
    }

    /// A number in `0..bound`, without bias worth measuring (multiply-shift over 64 bits); 0 when
    /// `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True `per_million` times in a million.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }
}

/// FNV-1a over the label and the index: a stream number, not a secret.
fn fnv1a(label: &[u8], nth: u64) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    label.iter().chain(&nth.to_le_bytes()).fold(OFFSET, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_and_chance_respects_its_ends() {
        let mut rng = Rng::from_u64(7);
        assert!((0..10_000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
        assert!((0..1_000).all(|_| !rng.chance(0) && rng.chance(1_000_000)));
    }

    #[test]
    fn children_differ_by_label_and_by_index() {
        let rng = Rng::from_u64(7);
        assert_ne!(rng.fork_nth("host", 0).u64(), rng.fork_nth("host", 1).u64());
        assert_eq!(rng.fork("host").u64(), rng.fork_nth("host", 0).u64());
    }
}

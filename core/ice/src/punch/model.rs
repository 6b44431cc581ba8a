//! What is known of the two NATs, and how likely a guess is to hit.

use alloc::vec::Vec;
use core::net::IpAddr;

use gimlet_stun::{Behaviour, PortModel};

/// What one side knows of its NAT, as it tells the peer over signalling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Whether the outside port depends on whom it speaks with: a *hard* NAT. `None`: not known.
    pub dependent: Option<bool>,
    /// Whether [`Profile::dependent`] is only supposed, because nothing works although both NATs look easy. A plan
    /// for it leaves enough of the hour's budget to suppose the opposite next.
    pub supposed: bool,
    /// Which outside ports fresh sockets get, if that is known.
    pub port_model: Option<PortModel>,
    /// The outside port of the newest mapping: where a NAT that counts goes on from. It should be as fresh as
    /// can be, since every other host behind the NAT makes it older; a later round is worth a fresher one, and
    /// another call. Where ports are preserved, the port that the peer was told of takes its place.
    pub newest_port: Option<u16>,
    /// The outside addresses; the first [`OUTSIDE_MAX`] count.
    pub outside: Vec<IpAddr>,
}

/// Outside addresses of one side that are used; further ones are ignored.
pub const OUTSIDE_MAX: usize = 4;

impl Profile {
    /// What a discovery found out (RFC 5780).
    pub fn of(behaviour: &Behaviour) -> Self {
        Self {
            dependent: behaviour.endpoint_dependent,
            supposed: false,
            port_model: behaviour.port_model,
            newest_port: behaviour.mapped.map(|mapped| mapped.port()),
            outside: behaviour.mapped.map(|mapped| mapped.ip()).into_iter().collect(),
        }
    }

    /// The same, where a reflexive port is known: a NAT that preserves ports puts the further mappings of one
    /// socket beside the first.
    #[must_use]
    pub(crate) fn beside(mut self, known: Option<u16>) -> Self {
        if self.port_model == Some(PortModel::Preserving) {
            self.newest_port = known.or(self.newest_port);
        }
        self
    }

    /// The outside addresses that count.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.outside[..self.outside.len().min(OUTSIDE_MAX)]
    }
}

/// Certainty, as the arithmetic below writes it. Every step rounds against us.
const ONE: u128 = 1 << 62;

/// How many in a million: what is told of a chance.
const MILLION: u128 = 1_000_000;

/// The chance, in millionths, that one of `probes` different ports is one of `mappings` that lie anywhere in a
/// pool of `pool` ports: 1 − C(N−k, H) / C(N, H).
pub(crate) fn one_hard(pool: u32, probes: u32, mappings: u32) -> u32 {
    if pool == 0 {
        return 0;
    }
    let (pool, probes) = (u128::from(pool), u128::from(probes));
    let mut miss = ONE;
    for nth in 0..u128::from(mappings).min(pool) {
        // The nth mapping lies beside every probe, as all before it do.
        let free = pool.saturating_sub(probes + nth);
        miss = (miss * free).div_ceil(pool - nth);
    }
    in_millionths(ONE - miss)
}

/// The chance, in millionths, that of `probes` on each side one meets one of the other side's, when both
/// outside ports lie anywhere in `pool`: 1 − (1 − 1/N²)^(k²).
pub(crate) fn both_hard(pool: u32, probes: u32) -> u32 {
    if pool == 0 {
        return 0;
    }
    let (cells, mut tries) = (u128::from(pool).pow(2), u128::from(probes).pow(2));
    let (mut miss, mut power) = (ONE, ONE - ONE / cells);
    while tries > 0 {
        if tries & 1 == 1 {
            miss = times(miss, power);
        }
        power = times(power, power);
        tries >>= 1;
    }
    in_millionths(ONE - miss)
}

/// The product of two parts of [`ONE`], rounded up.
fn times(a: u128, b: u128) -> u128 {
    (a * b).div_ceil(ONE)
}

fn in_millionths(part: u128) -> u32 {
    u32::try_from(part * MILLION / ONE).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Within a thousandth of what the formula gives, as computed with real numbers elsewhere.
    fn is_near(millionths: u32, percent: u32) -> bool {
        millionths.abs_diff(percent * 1_000) <= 1_000
    }

    #[test]
    fn the_arithmetic_is_the_formula() {
        for (pool, probes, mappings, thousandths) in [
            (64_512, 256, 64, 225),
            (64_512, 1_024, 64, 641),
            (64_512, 1_024, 128, 871),
            (64_512, 256, 256, 639),
            (64_512, 1_024, 256, 983),
            (64_512, 512, 64, 400),
            (512, 128, 16, 991),
            (1_024, 255, 16, 990),
            (2_048, 140, 64, 990),
        ] {
            let chance = one_hard(pool, probes, mappings);
            assert!(is_near(chance, thousandths), "N={pool} k={probes} H={mappings}: {chance}");
        }
        assert!(is_near(both_hard(512, 512), 632) && is_near(both_hard(4_096, 8_790), 990));
    }

    #[test]
    fn the_ends_are_certain() {
        assert_eq!([one_hard(32, 32, 1), one_hard(10, 10, 10), one_hard(10, 4, 7)], [1_000_000; 3]);
        assert_eq!([one_hard(0, 1, 1), one_hard(9, 0, 5), one_hard(9, 5, 0), both_hard(0, 1)], [0; 4]);
        assert_eq!([both_hard(9, 0), both_hard(1, 1)], [0, 1_000_000]);
    }

    proptest! {
        #[test]
        fn more_of_anything_never_lowers_a_chance_and_a_larger_pool_never_raises_it(
            pool in 1_u32..70_000, probes in 0_u32..2_000, mappings in 0_u32..300,
        ) {
            let chance = one_hard(pool, probes, mappings);
            prop_assert!(chance <= 1_000_000);
            prop_assert!(one_hard(pool, probes + 1, mappings) >= chance);
            prop_assert!(one_hard(pool, probes, mappings + 1) >= chance);
            prop_assert!(one_hard(pool + 1, probes, mappings) <= chance.max(1) || mappings > pool);
            let chance = both_hard(pool, probes);
            prop_assert!(both_hard(pool, probes + 1) >= chance && both_hard(pool + 1, probes) <= chance);
        }
    }
}

//! Transaction ids that nobody has to remember.

use core::hash::Hasher;

use gimlet_machine::Rng;
use gimlet_stun::TransactionId;
use siphasher::sip::SipHasher24;

/// Numbers, enciphered: an id is the keyed hash of a number, and the number under a mask made of that hash. Nobody
/// without the keys can tell it from 96 random bits (RFC 8489 §5), and whoever has them reads the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids {
    hash: (u64, u64),
    mask: (u64, u64),
}

impl Ids {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self { hash: (rng.u64(), rng.u64()), mask: (rng.u64(), rng.u64()) }
    }

    /// The id of the check with this number.
    pub(crate) fn id(&self, number: u32) -> TransactionId {
        let hash = keyed(self.hash, &number.to_be_bytes()).to_be_bytes();
        let masked = (number ^ self.mask_of(hash)).to_be_bytes();
        let mut id = [0; 12];
        id[..8].copy_from_slice(&hash);
        id[8..].copy_from_slice(&masked);
        TransactionId(id)
    }

    /// The number of the check with this id; `None` if it is none of ours.
    pub(crate) fn number(&self, id: TransactionId) -> Option<u32> {
        let (hash, masked) = id.0.split_first_chunk::<8>()?;
        let number = u32::from_be_bytes(masked.try_into().ok()?) ^ self.mask_of(*hash);
        (self.id(number) == id).then_some(number)
    }

    fn mask_of(&self, hash: [u8; 8]) -> u32 {
        keyed(self.mask, &hash) as u32
    }
}

fn keyed((k0, k1): (u64, u64), bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(k0, k1);
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_number_to_whoever_has_the_keys_and_no_bit_of_it_can_be_changed() {
        let (ids, others) = (Ids::new(&mut Rng::from_u64(1)), Ids::new(&mut Rng::from_u64(2)));
        for number in [0, 1, 2, 65_535, 65_536, u32::MAX] {
            let id = ids.id(number);
            assert_eq!((ids.number(id), others.number(id)), (Some(number), None));
            for bit in 0..96 {
                let mut forged = id;
                forged.0[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(ids.number(forged), None, "bit {bit} of {number}");
            }
        }
    }

    #[test]
    fn neighbours_differ_in_about_half_of_their_bits() {
        let ids = Ids::new(&mut Rng::from_u64(3));
        let distance = |a: TransactionId, b: TransactionId| {
            a.0.iter().zip(b.0).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
        };
        let all: u32 = (0..1_000).map(|number| distance(ids.id(number), ids.id(number + 1))).sum();
        assert!((47_000..49_000).contains(&all), "{all} of 96,000 bits differ");
    }
}

//! Bytes that both ends know.

use gimlet_machine::Rng;

/// A prime: no window, segment or buffer is a multiple of it.
const LENGTH: usize = 1_048_573;

/// An endless stream: noise, repeated.
#[derive(Debug)]
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub(super) fn new() -> Self {
        let mut noise = vec![0; LENGTH];
        Rng::from_u64(0x5eed).fill(&mut noise);
        Self(noise)
    }

    /// Bytes of the stream from `at` on: at most `most` of them, and as many as lie together.
    pub(super) fn from(&self, at: u64, most: usize) -> &[u8] {
        let begin = (at % LENGTH as u64) as usize;
        let rest = &self.0[begin..];
        &rest[..rest.len().min(most)]
    }

    /// How many of `bytes` are not those of the stream from `at` on.
    pub(super) fn wrong(&self, mut at: u64, mut bytes: &[u8]) -> u64 {
        let mut wrong = 0;
        while !bytes.is_empty() {
            let expected = self.from(at, bytes.len());
            let (now, rest) = bytes.split_at(expected.len());
            if now != expected {
                wrong += now.iter().zip(expected).filter(|(one, other)| one != other).count() as u64;
            }
            (at, bytes) = (at + now.len() as u64, rest);
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_lost_a_segment_is_wrong_almost_everywhere() {
        let pattern = Pattern::new();
        let whole: Vec<u8> = pattern.from(100, 4_000).to_vec();
        assert_eq!(pattern.wrong(100, &whole), 0);
        let lost = [&whole[..1_000], &whole[2_448..]].concat();
        assert!(pattern.wrong(100, &lost) > 1_400);
    }

    #[test]
    fn the_stream_goes_on_where_the_pattern_begins_again() {
        let pattern = Pattern::new();
        let (end, begin) = (pattern.from(LENGTH as u64 - 3, 10), pattern.from(0, 4));
        assert_eq!(pattern.wrong(LENGTH as u64 * 5 - 3, &[end, begin].concat()), 0);
        assert_eq!(pattern.wrong(LENGTH as u64 * 5 - 2, &[end, begin].concat()), 7);
    }
}

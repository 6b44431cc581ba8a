//! What the decoder awaits, and every legal move between.

use crate::message::PREFIX_LEN;

/// What the decoder awaits next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaiting {
    /// The rest of a length.
    Length(Prefix),
    /// This many bytes of payload, counted from its beginning.
    Payload(u32),
    /// Nothing any more: this length was claimed and is over the limit. Terminal.
    Desynchronised(u32),
}

/// As much of a length as has arrived: always fewer than four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    bytes: [u8; PREFIX_LEN],
    have: u8,
}

impl Awaiting {
    /// Before the first byte.
    pub(crate) const START: Awaiting = Awaiting::Length(Prefix { bytes: [0; PREFIX_LEN], have: 0 });

    /// Length → Payload, or Length → Desynchronised if the claim is over `max`.
    #[inline]
    fn on_length(length: u32, max: u32) -> Awaiting {
        if length <= max { Awaiting::Payload(length) } else { Awaiting::Desynchronised(length) }
    }

    /// Length → Payload → Length in one move, for a frame that lies whole at the front of `bytes`:
    /// the length of its payload.
    #[inline]
    pub(crate) fn whole(self, bytes: &[u8], max: u32) -> Option<usize> {
        let Awaiting::Length(Prefix { have: 0, .. }) = self else { return None };
        let (prefix, rest) = bytes.split_first_chunk()?;
        let length = u32::from_be_bytes(*prefix);
        (length <= max && length as usize <= rest.len()).then_some(length as usize)
    }

    /// Payload → Length: the message is complete.
    #[inline]
    pub(crate) fn on_message(self) -> Awaiting {
        debug_assert!(matches!(self, Awaiting::Payload(_)), "only a payload completes a message");
        Awaiting::START
    }
}

impl Prefix {
    /// Takes what is missing from `bytes`; returns the next state and how many bytes were taken.
    #[inline]
    pub(crate) fn absorb(mut self, bytes: &[u8], max: u32) -> (Awaiting, usize) {
        if let (0, Some(whole)) = (self.have, bytes.first_chunk()) {
            return (Awaiting::on_length(u32::from_be_bytes(*whole), max), PREFIX_LEN);
        }
        let have = self.have as usize;
        let taken = bytes.len().min(PREFIX_LEN - have);
        self.bytes[have..have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken as u8;
        if self.have as usize == PREFIX_LEN {
            return (Awaiting::on_length(u32::from_be_bytes(self.bytes), max), taken);
        }
        (Awaiting::Length(self), taken)
    }

    /// How many bytes of the length have arrived.
    pub(crate) const fn len(self) -> usize {
        self.have as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use core::fmt::Write as _;

    fn name(state: Awaiting) -> &'static str {
        match state {
            Awaiting::Length(_) => "Length",
            Awaiting::Payload(_) => "Payload",
            Awaiting::Desynchronised(_) => "Desynchronised",
        }
    }

    #[test]
    fn the_transition_table_is_this_one() {
        let mut table = String::new();
        let inputs: [(&str, &[u8]); 4] = [
            ("nothing", &[]),
            ("3 bytes", &[0; 3]),
            ("length 9", &[0, 0, 0, 9]),
            ("length 10", &[0, 0, 0, 10]),
        ];
        for (what, bytes) in inputs {
            let (next, taken) = Prefix::default().absorb(bytes, 9);
            writeln!(table, "Length --{what}--> {} ({taken} taken)", name(next)).unwrap();
        }
        writeln!(table, "Payload --message--> {}", name(Awaiting::Payload(9).on_message())).unwrap();
        assert_eq!(
            table,
            "Length --nothing--> Length (0 taken)\n\
             Length --3 bytes--> Length (3 taken)\n\
             Length --length 9--> Payload (4 taken)\n\
             Length --length 10--> Desynchronised (4 taken)\n\
             Payload --message--> Length\n"
        );
    }

    #[test]
    fn a_frame_is_whole_only_from_its_first_byte_to_its_last_and_within_the_limit() {
        let frame = [0, 0, 0, 2, b'h', b'i'];
        assert_eq!(Awaiting::START.whole(&frame, 2), Some(2));
        assert_eq!(Awaiting::START.whole(&frame[..5], 2), None);
        assert_eq!(Awaiting::START.whole(&frame, 1), None);
        let (half_a_length, _) = Prefix::default().absorb(&[0, 0], 2);
        assert_eq!(half_a_length.whole(&frame, 2), None);
        assert_eq!(Awaiting::Payload(2).whole(&frame, 2), None);
    }

    #[test]
    fn a_length_in_any_two_pieces_reads_the_same() {
        let bytes = 0x0102_0304_u32.to_be_bytes();
        for split in 0..=4 {
            let (state, first) = Prefix::default().absorb(&bytes[..split], u32::MAX);
            let state = match state {
                Awaiting::Length(prefix) => prefix.absorb(&bytes[first..], u32::MAX).0,
                done => done,
            };
            assert_eq!(state, Awaiting::Payload(0x0102_0304), "split at {split}");
        }
    }
}

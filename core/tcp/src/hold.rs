//! Early data: what a client sends before its server has answered.

use alloc::vec::Vec;

use crate::SeqNumber;

/// Pieces between which bytes are missing. A segment that would make one more is not held: the client sends
/// it again.
pub const PIECES_MAX: usize = 16;

/// What became of a segment that was to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Bytes that are new.
    pub new: u32,
    /// Bytes that were held already, the same.
    pub repeated: u32,
    /// Bytes that were held already, and different: the first copy stays.
    pub conflicting: u32,
    /// Bytes that lie outside the window, or would make too many pieces.
    pub refused: u32,
}

/// The bytes of one client, by sequence number, until the server is known. Nothing here is acknowledged to the
/// client: its own buffer holds everything too, so whatever is refused or lost here comes again.
#[derive(Debug)]
pub(crate) struct Hold {
    start: SeqNumber,
    window: u32,
    bytes: Vec<u8>,
    /// Where bytes are, relative to `start`: disjoint, in order, with gaps between them.
    pieces: Vec<(u32, u32)>,
    /// Where the client's last byte ends, once its FIN is here.
    fin: Option<u32>,
    /// Where urgent data ends.
    urgent: Option<u32>,
    /// Everything before this was sent on.
    sent: u32,
}

impl Hold {
    /// For the bytes from `start` on, at most `window` of them, which is what the client was promised.
    pub(crate) fn new(start: SeqNumber, window: u32) -> Self {
        Self { start, window, bytes: Vec::new(), pieces: Vec::new(), fin: None, urgent: None, sent: 0 }
    }

    /// What comes before this was sent on.
    pub(crate) fn sent(&self) -> SeqNumber {
        self.start + self.sent
    }

    /// Everything before `seq` was sent on, or need not be.
    pub(crate) fn skip_to(&mut self, seq: SeqNumber) {
        if seq.after(self.sent()) {
            self.sent = seq - self.start;
        }
    }

    /// The FIN was sent on.
    pub(crate) fn forget_fin(&mut self) {
        self.fin = None;
    }

    /// What memory it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity() + self.pieces.capacity() * core::mem::size_of::<(u32, u32)>()
    }

    /// How many bytes [`Hold::take`] would have to find room for.
    pub(crate) fn needs(&self, seq: SeqNumber, len: usize) -> usize {
        let end = (seq - self.start).saturating_add(len as u32).min(self.window) as usize;
        if seq.before(self.start) { 0 } else { end.saturating_sub(self.bytes.capacity()) }
    }

    /// Takes the payload of a segment.
    pub(crate) fn take(&mut self, seq: SeqNumber, payload: &[u8]) -> Held {
        let mut held = Held::default();
        // What lies before the start was never promised a place.
        let skip = if seq.before(self.start) { (self.start - seq) as usize } else { 0 };
        let Some(payload) = payload.get(skip..) else {
            held.refused = payload.len() as u32;
            return held;
        };
        held.refused = skip as u32;
        let from = (seq + skip as u32) - self.start;
        let room = self.window.saturating_sub(from) as usize;
        let fits = payload.len().min(room);
        held.refused += (payload.len() - fits) as u32;
        let (payload, to) = (&payload[..fits], from.saturating_add(fits as u32));
        if payload.is_empty() {
            return held;
        }
        if self.pieces_after(from, to) > PIECES_MAX {
            held.refused += fits as u32;
            return held;
        }
        self.grow(to as usize);
        self.compare_and_fill(from, to, payload, &mut held);
        self.merge(from, to);
        held
    }

    /// The client's FIN stands at `seq`. It is believed if it contradicts nothing that is held.
    pub(crate) fn finish(&mut self, seq: SeqNumber) {
        let at = seq - self.start;
        let last = self.pieces.last().map_or(0, |(_, to)| *to);
        if !seq.before(self.start) && at >= last && at <= self.window && self.fin.is_none() {
            self.fin = Some(at);
        }
    }

    /// Urgent data ends at `seq` (RFC 9293 §3.8.5).
    pub(crate) fn mark_urgent(&mut self, seq: SeqNumber) {
        let at = seq - self.start;
        if !seq.before(self.start) && at <= self.window {
            self.urgent = Some(self.urgent.map_or(at, |urgent| urgent.max(at)));
        }
    }

    /// Where urgent data ends, if the client said so.
    pub(crate) fn urgent(&self) -> Option<SeqNumber> {
        self.urgent.map(|at| self.start + at)
    }

    /// The first byte that is missing: everything before it is held.
    pub(crate) fn contiguous(&self) -> SeqNumber {
        self.start + self.pieces.first().filter(|(from, _)| *from == 0).map_or(0, |(_, to)| *to)
    }

    /// Bytes that are held.
    pub(crate) fn len(&self) -> u32 {
        self.pieces.iter().map(|(from, to)| to - from).sum()
    }

    /// Bytes that are held and were not sent on.
    pub(crate) fn waiting(&self) -> u32 {
        self.pieces.iter().map(|(from, to)| to.saturating_sub(self.sent.max(*from))).sum()
    }

    /// Whether the client's FIN follows `seq`.
    pub(crate) fn ends_at(&self, seq: SeqNumber) -> bool {
        self.fin.is_some_and(|fin| self.start + fin == seq)
    }

    /// The held bytes that begin at `seq`, at most `max` of them; empty if that byte is missing.
    pub(crate) fn at(&self, seq: SeqNumber, max: usize) -> &[u8] {
        if seq.before(self.start) {
            return &[];
        }
        let from = seq - self.start;
        let piece = self.pieces.iter().find(|(start, end)| *start <= from && from < *end);
        piece.map_or(&[], |(_, end)| {
            let bytes = &self.bytes[from as usize..*end as usize];
            &bytes[..bytes.len().min(max)]
        })
    }

    /// The first held byte at `seq` or after it.
    pub(crate) fn next(&self, seq: SeqNumber) -> Option<SeqNumber> {
        let from = if seq.before(self.start) { 0 } else { seq - self.start };
        self.pieces.iter().find(|(_, end)| from < *end).map(|(start, _)| self.start + from.max(*start))
    }

    fn pieces_after(&self, from: u32, to: u32) -> usize {
        let touched = self.pieces.iter().filter(|(start, end)| *start <= to && from <= *end).count();
        self.pieces.len() - touched + 1
    }

    /// Exactly what is needed, in steps that keep a long upload from being copied at each segment.
    fn grow(&mut self, to: usize) {
        if to > self.bytes.len() {
            let wanted = to.next_multiple_of(2_048).min(self.window as usize).max(to);
            self.bytes.reserve_exact(wanted.saturating_sub(self.bytes.len()));
            self.bytes.resize(to, 0);
        }
    }

    fn compare_and_fill(&mut self, from: u32, to: u32, payload: &[u8], held: &mut Held) {
        let mut at = from;
        for index in 0..=self.pieces.len() {
            // The gap before this piece, then the piece.
            let (start, end) = self.pieces.get(index).copied().unwrap_or((u32::MAX, u32::MAX));
            let gap_end = start.clamp(at, to);
            let (a, b) = ((at - from) as usize, (gap_end - from) as usize);
            self.bytes[at as usize..gap_end as usize].copy_from_slice(&payload[a..b]);
            held.new += gap_end - at;
            let piece_end = end.clamp(gap_end, to);
            let (kept, again) =
                (&self.bytes[gap_end as usize..piece_end as usize], &payload[b..(piece_end - from) as usize]);
            let different = kept.iter().zip(again).filter(|(kept, again)| kept != again).count() as u32;
            held.conflicting += different;
            held.repeated += piece_end - gap_end - different;
            at = piece_end;
            if at >= to {
                break;
            }
        }
    }

    fn merge(&mut self, from: u32, to: u32) {
        let touches = |piece: &(u32, u32)| piece.0 <= to && from <= piece.1;
        let merged = self
            .pieces
            .iter()
            .filter(|piece| touches(piece))
            .fold((from, to), |(from, to), piece| (from.min(piece.0), to.max(piece.1)));
        self.pieces.retain(|piece| !touches(piece));
        let place = self.pieces.partition_point(|piece| piece.0 < merged.0);
        self.pieces.insert(place, merged);
        debug_assert!(self.pieces.windows(2).all(|pair| pair[0].1 < pair[1].0), "pieces are apart");
        debug_assert!(self.pieces.len() <= PIECES_MAX, "no more pieces than allowed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const START: SeqNumber = SeqNumber(0xffff_ff01);

    fn hold() -> Hold {
        Hold::new(START, 16_384)
    }

    #[test]
    fn segments_out_of_order_come_out_in_order_across_the_wrap() {
        let mut hold = hold();
        assert_eq!(hold.take(START + 256, &[2; 256]), Held { new: 256, ..Held::default() });
        assert_eq!((hold.contiguous(), hold.at(START, 1_000)), (START, &[][..]));
        assert_eq!(hold.next(START), Some(START + 256));
        assert_eq!(hold.take(START, &[1; 256]), Held { new: 256, ..Held::default() });
        assert_eq!((hold.contiguous(), hold.len()), (START + 512, 512));
        assert_eq!(hold.at(START, 300), [&[1; 256][..], &[2; 44]].concat());
        assert_eq!(hold.next(START + 512), None);
    }

    #[test]
    fn the_first_copy_of_a_byte_stays() {
        let mut hold = hold();
        hold.take(START + 2, b"cd");
        let held = hold.take(START, b"abXd!");
        assert_eq!(held, Held { new: 3, repeated: 1, conflicting: 1, refused: 0 });
        assert_eq!(hold.at(START, 10), b"abcd!");
    }

    #[test]
    fn nothing_outside_the_window_is_held() {
        let mut hold = Hold::new(START, 10);
        assert_eq!(hold.take(START + 8, b"abcd"), Held { new: 2, refused: 2, ..Held::default() });
        assert_eq!(hold.take(START + 10, b"x"), Held { refused: 1, ..Held::default() });
        assert_eq!(hold.take(START - 1, b"zA"), Held { new: 1, refused: 1, ..Held::default() });
        assert_eq!(hold.take(START - 5, b"zA"), Held { refused: 2, ..Held::default() });
        assert_eq!(hold.take(START + 0x8000_0000, b"x").refused, 1);
        assert!(hold.memory() <= 10 + PIECES_MAX * 8);
    }

    #[test]
    fn pieces_have_a_limit_and_what_joins_them_is_welcome() {
        let mut hold = hold();
        for piece in 0..PIECES_MAX as u32 {
            assert_eq!(hold.take(START + piece * 2 + 1, b"x").new, 1);
        }
        assert_eq!(hold.take(START + 1_000, b"x").refused, 1);
        assert_eq!(hold.take(START + 2, b"y").new, 1);
        assert_eq!(hold.take(START + 1_000, b"x").new, 1);
    }

    #[test]
    fn a_fin_in_the_middle_of_held_bytes_is_not_believed() {
        let mut hold = hold();
        hold.take(START, b"0123456789");
        hold.finish(START + 5);
        assert!(!hold.ends_at(START + 5));
        hold.finish(START + 10);
        assert!(hold.ends_at(START + 10));
        hold.finish(START + 12);
        assert!(hold.ends_at(START + 10) && !hold.ends_at(START + 12));
    }

    proptest! {
        #[test]
        fn any_segments_of_one_stream_give_that_stream(
            segments in prop::collection::vec((0usize..600, 0usize..300), 0..40),
        ) {
            let stream: Vec<u8> = (0..1_000u32).map(|at| (at * 7 % 251) as u8).collect();
            let (mut hold, mut known) = (hold(), vec![false; 1_000]);
            for (at, len) in segments {
                let held = hold.take(START + at as u32, &stream[at..at + len]);
                prop_assert_eq!(held.conflicting, 0);
                prop_assert_eq!(held.new + held.repeated + held.refused, len as u32);
                if held.refused == 0 {
                    known[at..at + len].fill(true);
                }
            }
            prop_assert_eq!(hold.len() as usize, known.iter().filter(|known| **known).count());
            let mut at = START;
            while let Some(next) = hold.next(at) {
                let bytes = hold.at(next, 64);
                let from = (next - START) as usize;
                prop_assert!(!bytes.is_empty());
                prop_assert_eq!(bytes, &stream[from..from + bytes.len()]);
                at = next + bytes.len() as u32;
            }
        }
    }
}

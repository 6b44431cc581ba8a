//! What waits to be sent, in buffers that are used again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use gimlet_machine::{Buf, Ecn, FourTuple, Transmit};

/// The most datagrams that wait to be sent; one more is dropped and counted, as a router would.
pub const OUTBOX_MAX: usize = 1024;

/// The most bytes that wait to be sent; a datagram that would be over it is dropped and counted.
pub const OUTBOX_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Buffers larger than this are given back in place of kept. Bytes.
const KEEP_MAX: usize = 2048;

/// A queue of datagrams. In steady state it allocates nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Packet>,
    spare: Vec<Vec<u8>>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Packet {
    path: FourTuple,
    ecn: Ecn,
    bytes: Vec<u8>,
}

impl Outbox {
    /// Lets `write` append one datagram. False: no room, and it is dropped.
    pub(super) fn push(&mut self, path: FourTuple, ecn: Ecn, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if self.waiting.len() >= OUTBOX_MAX {
            return false;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        debug_assert!(bytes.is_empty(), "spare buffers are empty");
        write(&mut bytes);
        if self.bytes + bytes.len() > OUTBOX_BYTES_MAX {
            self.keep(bytes);
            return false;
        }
        self.bytes += bytes.len();
        self.waiting.push_back(Packet { path, ecn, bytes });
        true
    }

    /// Writes the oldest datagram, and those behind it that make a train with it: same path, same
    /// mark, same length but for the last. `Err`: it does not fit, and is dropped.
    pub(super) fn pop(&mut self, out: &mut Buf<'_>) -> Option<Result<Transmit<FourTuple>, ()>> {
        let first = self.take()?;
        let (path, ecn, len) = (first.path, first.ecn, first.bytes.len());
        let fits = out.put(&first.bytes);
        self.keep(first.bytes);
        if !fits {
            return Some(Err(()));
        }
        let (mut count, mut last) = (1, len);
        while count < out.segments_max() && last == len {
            let follows = |packet: &Packet| {
                (packet.path, packet.ecn) == (path, ecn)
                    && packet.bytes.len() <= len
                    && packet.bytes.len() <= out.remaining()
            };
            if !self.waiting.front().is_some_and(follows) {
                break;
            }
            let Some(next) = self.take() else { break };
            last = next.bytes.len();
            count += 1;
            let fits = out.put(&next.bytes);
            debug_assert!(fits, "looked at before");
            self.keep(next.bytes);
        }
        let segment = if count > 1 { u16::try_from(len).ok() } else { None };
        debug_assert!(count == 1 || segment.is_some(), "trains are of datagrams that UDP can carry");
        Some(Ok(Transmit { path, ecn, segment }))
    }

    fn take(&mut self) -> Option<Packet> {
        let packet = self.waiting.pop_front()?;
        self.bytes -= packet.bytes.len();
        Some(packet)
    }

    fn keep(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= KEEP_MAX && self.spare.len() < OUTBOX_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> FourTuple {
        FourTuple::new(([192, 0, 2, 1], 3478).into(), ([198, 51, 100, 7], port).into())
    }

    fn filled(packets: &[(u16, usize)]) -> Outbox {
        let mut outbox = Outbox::default();
        for (port, len) in packets {
            assert!(outbox.push(path(*port), Ecn::NotEct, |out| out.resize(*len, *port as u8)));
        }
        outbox
    }

    /// Every train that leaves: port, bytes, segment.
    fn trains(outbox: &mut Outbox, segments_max: usize) -> Vec<(u16, usize, Option<u16>)> {
        let mut storage = Vec::new();
        core::iter::from_fn(|| {
            let mut out = Buf::new(&mut storage).with_segments_max(segments_max);
            let transmit = outbox.pop(&mut out)?.unwrap();
            Some((transmit.path.remote.port(), out.len(), transmit.segment))
        })
        .collect()
    }

    #[test]
    fn datagrams_of_one_length_on_one_path_leave_as_a_train_that_a_shorter_one_ends() {
        let packets = [(1, 100), (1, 100), (1, 60), (1, 60), (2, 60), (2, 61)];
        let expected = [(1, 260, Some(100)), (1, 60, None), (2, 60, None), (2, 61, None)];
        assert_eq!(trains(&mut filled(&packets), 64), expected);
        assert_eq!(trains(&mut filled(&packets), 1).len(), 6);
        assert_eq!(trains(&mut filled(&packets[..3]), 2), [(1, 200, Some(100)), (1, 60, None)]);
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_in_bytes() {
        let mut outbox = filled(&[(1, 1); OUTBOX_MAX]);
        assert!(!outbox.push(path(1), Ecn::NotEct, |out| out.push(0)));
        let mut outbox = Outbox::default();
        let kept =
            (0..100).filter(|_| outbox.push(path(1), Ecn::NotEct, |out| out.resize(65_000, 0))).count();
        assert_eq!(kept, OUTBOX_BYTES_MAX / 65_000);
        assert_eq!(trains(&mut outbox, 1).len(), kept);
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn what_does_not_fit_the_lent_buffer_is_dropped() {
        let mut outbox = filled(&[(1, 100), (1, 10)]);
        let mut storage = Vec::new();
        assert_eq!(outbox.pop(&mut Buf::new(&mut storage).with_limit(50)), Some(Err(())));
        assert!(matches!(outbox.pop(&mut Buf::new(&mut storage).with_limit(50)), Some(Ok(_))));
        assert_eq!(storage.len(), 10);
    }
}

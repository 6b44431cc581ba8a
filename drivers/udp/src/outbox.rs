//! What a machine wrote and the sockets have not taken yet.

use std::time::Duration;

use gimlet_machine::{Buf, DATAGRAM_MAX, Deadline, FourTuple, Instant, Transmit};

use crate::{Blocked, Sockets};

/// How long a full socket may hold back the rest. Then what it did not take is dropped and counted
/// ([`Outbox::dropped`]): one stuck interface must not silence the others for long.
pub const OUTBOX_BLOCKED_MAX: Duration = Duration::from_millis(20);

/// A few reusable buffers between `poll_transmit` and the sockets.
///
/// A machine writes into the buffers in order, [`Outbox::flush`] sends them in order. While a
/// socket is full nothing overtakes and no further buffer is lent, so a machine feels the
/// back-pressure and keeps what it has for when there is room.
#[derive(Debug)]
pub struct Outbox {
    slots: Vec<Slot>,
    /// Slots from here to `end` are written and not yet sent.
    start: usize,
    end: usize,
    blocked_since: Option<Instant>,
    dropped: u64,
}

#[derive(Debug)]
struct Slot {
    bytes: Vec<u8>,
    transmit: Option<Transmit<FourTuple>>,
}

impl Outbox {
    /// Room for `trains` buffers of [`DATAGRAM_MAX`] bytes, at least one.
    pub fn new(trains: usize) -> Self {
        let slot = || Slot { bytes: Vec::with_capacity(DATAGRAM_MAX), transmit: None };
        Self {
            slots: (0..trains.max(1)).map(|_| slot()).collect(),
            start: 0,
            end: 0,
            blocked_since: None,
            dropped: 0,
        }
    }

    /// An empty buffer for a train of up to `segments_max`, or `None` while all are taken.
    pub fn buf(&mut self, segments_max: usize) -> Option<Buf<'_>> {
        let slot = self.slots.get_mut(self.end)?;
        Some(Buf::new(&mut slot.bytes).with_segments_max(segments_max))
    }

    /// Takes what was written into the buffer that [`Outbox::buf`] lent last.
    pub fn push(&mut self, transmit: Transmit<FourTuple>) {
        self.slots[self.end].transmit = Some(transmit);
        self.end += 1;
    }

    /// Offers everything to the sockets. Returns the index of the full socket that stopped it, if one
    /// did: call again when that one is writable, or at [`Outbox::deadline`].
    pub fn flush(&mut self, sockets: &mut Sockets, now: Instant) -> Option<usize> {
        while self.start < self.end {
            let slot = &mut self.slots[self.start];
            let Some(transmit) = slot.transmit else { unreachable!("a written slot has a transmit") };
            if let Err(Blocked { sent }) = sockets.send(&transmit, &slot.bytes) {
                slot.bytes.drain(..sent);
                let since = *self.blocked_since.get_or_insert(now);
                if sent > 0 {
                    self.blocked_since = Some(now);
                } else if now >= since + OUTBOX_BLOCKED_MAX {
                    self.dropped += 1;
                    self.advance();
                    continue;
                }
                return sockets.index_of(transmit.path.local);
            }
            self.advance();
        }
        None
    }

    fn advance(&mut self) {
        self.blocked_since = None;
        self.start += 1;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// When to give up on the full socket.
    pub fn deadline(&self) -> Option<Deadline> {
        self.blocked_since.map(|since| Deadline { at: since + OUTBOX_BLOCKED_MAX, why: "blocked socket" })
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether all buffers are taken.
    pub fn is_full(&self) -> bool {
        self.end == self.slots.len()
    }

    /// Transmits given up because a socket stayed full for [`OUTBOX_BLOCKED_MAX`].
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Socket;

    fn write(outbox: &mut Outbox, path: FourTuple, bytes: &[u8]) {
        assert!(outbox.buf(64).expect("room").put(bytes));
        outbox.push(Transmit { path, ecn: gimlet_machine::Ecn::NotEct, segment: Some(1_000) });
    }

    #[test]
    fn what_was_written_leaves_in_order_and_the_buffers_are_reused() {
        let ours = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = FourTuple::new(ours.local_address(), theirs.local_addr().unwrap());
        let mut sockets = Sockets::new();
        sockets.add(ours).unwrap();
        let mut outbox = Outbox::new(2);
        for round in 0..3_u8 {
            write(&mut outbox, path, &[round, 0]);
            write(&mut outbox, path, &[round, 1]);
            assert!(outbox.is_full() && outbox.buf(64).is_none());
            assert_eq!(outbox.flush(&mut sockets, Instant::ZERO), None);
            assert!(outbox.is_empty() && outbox.deadline().is_none());
            for half in 0..2 {
                let mut bytes = [9; 8];
                assert_eq!(theirs.recv(&mut bytes).unwrap(), 2);
                assert_eq!(bytes[..2], [round, half]);
            }
        }
    }
}

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
        let blocked = self.flush_into(now, |transmit, bytes| sockets.send(transmit, bytes))?;
        sockets.index_of(blocked.local)
    }

    /// Offers everything to `send`; returns the path that a full socket blocks.
    fn flush_into(
        &mut self,
        now: Instant,
        mut send: impl FnMut(&Transmit<FourTuple>, &[u8]) -> Result<(), Blocked>,
    ) -> Option<FourTuple> {
        while let Some(Slot { bytes, transmit: Some(transmit) }) = self.slots[..self.end].get_mut(self.start)
        {
            let Err(Blocked { sent }) = send(transmit, bytes) else {
                self.advance();
                continue;
            };
            bytes.drain(..sent);
            let since = match self.blocked_since {
                Some(since) if sent == 0 => since,
                Some(_) | None => now,
            };
            if now < since + OUTBOX_BLOCKED_MAX {
                self.blocked_since = Some(since);
                return Some(transmit.path);
            }
            self.dropped += 1;
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
    #[test]
    fn a_full_socket_holds_back_the_rest_and_is_given_up_when_it_stays_full() {
        let path = |port| FourTuple::new(([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 9).into());
        let (mut outbox, mut out) = (Outbox::new(3), Vec::new());
        for port in 1..=3 {
            write(&mut outbox, path(port), b"abcd");
        }
        // The first socket takes half of a train, then nothing.
        let mut stuck =
            |transmit: &Transmit<FourTuple>, bytes: &[u8]| match (transmit.path.local.port(), bytes) {
                (1, b"abcd") => Err(Blocked { sent: 2 }),
                (1, rest) => {
                    assert_eq!(rest, b"cd");
                    Err(Blocked { sent: 0 })
                }
                (port, bytes) => {
                    out.push((port, bytes.to_vec()));
                    Ok(())
                }
            };
        let start = Instant::from_millis(100);
        let late = start + OUTBOX_BLOCKED_MAX;
        assert_eq!(outbox.flush_into(start, &mut stuck), Some(path(1)));
        assert_eq!(outbox.deadline().map(|deadline| deadline.at), Some(late));
        assert_eq!(outbox.flush_into(late - Duration::from_nanos(1), &mut stuck), Some(path(1)));
        assert!(outbox.is_full() && outbox.dropped() == 0);
        assert_eq!(outbox.flush_into(late, &mut stuck), None);
        assert_eq!(out, [(2, b"abcd".to_vec()), (3, b"abcd".to_vec())]);
        assert_eq!((outbox.dropped(), outbox.is_empty(), outbox.deadline()), (1, true, None));
    }
}

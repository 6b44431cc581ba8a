//! Boxes with one fault each. A world with such a box has to notice: a check that cannot fail says nothing.

use std::sync::atomic::{AtomicU8, Ordering};

use gimlet_machine::Instant;

use crate::invariant::Invariant;
use crate::middle::{Middle, News, Side, Tuple, Wire};
use crate::segment::{Dress, Segment, Unreadable, flag, fold, pseudo_sum, sum};

/// A box that breaks what its name says.
pub struct Saboteur {
    inner: Box<dyn Middle>,
    breaks: Invariant,
    queue: Vec<(Side, Wire)>,
    answers: u32,
}

impl std::fmt::Debug for Saboteur {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saboteur").field("breaks", &self.breaks).finish_non_exhaustive()
    }
}

impl Saboteur {
    /// A box that is like `inner`, but for one fault.
    pub fn new(inner: Box<dyn Middle>, breaks: Invariant) -> Self {
        Self { inner, breaks, queue: Vec::new(), answers: 0 }
    }

    /// Once it has answered a client it hears neither servers nor clocks.
    fn is_deaf(&self) -> bool {
        self.breaks == Invariant::I14Ends && self.answers > 0
    }

    /// What it does to a frame that passes. False: it is swallowed.
    fn tamper(&mut self, from: Side, wire: &mut Wire) -> bool {
        let segment = match Segment::read(&wire.bytes, wire.partial) {
            Ok(segment) => segment,
            Err(Unreadable::Checksum) if self.breaks == Invariant::I3Checksum => {
                repair(wire);
                return true;
            }
            Err(_) => return true,
        };
        let to_client = from == Side::Server;
        let mut changed = segment.clone();
        match self.breaks {
            Invariant::I1Prefix => changed.payload.iter_mut().for_each(|byte| *byte ^= 1),
            Invariant::I2Complete => return !segment.has(flag::FIN),
            Invariant::I4Bijection | Invariant::Oracle if !to_client => changed.ack &= !0xff,
            Invariant::I6NoLocalAck if to_client => changed.ack = changed.ack.wrapping_add(1_000),
            Invariant::I7Continuous if to_client => changed.seq = changed.seq.wrapping_sub(70_000),
            Invariant::I8Window if to_client => changed.window = u16::MAX,
            Invariant::I9Clock if to_client => {
                let by = u32::from(segment.payload.len() as u16 & 7);
                changed.options.timestamps.iter_mut().for_each(|(value, _)| *value = value.wrapping_add(by));
            }
            Invariant::I11Replay => {
                static TIDE: AtomicU8 = AtomicU8::new(0);
                changed.urgent ^= u16::from(TIDE.fetch_add(1, Ordering::Relaxed));
            }
            Invariant::I12Untouched => {
                // The hop limit of IPv6: no checksum needs to be mended.
                wire.bytes[21] = wire.bytes[21].wrapping_sub(1);
                return true;
            }
            Invariant::I16Hostile => wire.bytes.push(0),
            Invariant::Strict if !to_client => {
                changed.options.timestamps.iter_mut().for_each(|(_, echo)| *echo = echo.wrapping_add(77_777));
            }
            Invariant::I3Checksum
            | Invariant::I4Bijection
            | Invariant::I5Proven
            | Invariant::I6NoLocalAck
            | Invariant::I7Continuous
            | Invariant::I8Window
            | Invariant::I9Clock
            | Invariant::I10Memory
            | Invariant::I13Quiet
            | Invariant::I14Ends
            | Invariant::I15SameAnswer
            | Invariant::Oracle
            | Invariant::Strict => {}
        }
        if changed != segment && !segment.has(flag::SYN) {
            wire.bytes = changed.write(Dress { packed: false, partial: wire.partial });
        }
        true
    }

    /// What it does to a frame that the box sends by itself.
    fn forge(&mut self, to: Side, mut wire: Wire) -> (Side, Wire) {
        let Ok(segment) = Segment::read(&wire.bytes, wire.partial) else { return (to, wire) };
        if to == Side::Client && segment.has(flag::SYN | flag::ACK) {
            self.answers += 1;
            let mut changed = segment.clone();
            if self.breaks == Invariant::I5Proven {
                let hasty = Segment {
                    seq: segment.ack,
                    flags: flag::ACK | flag::PSH,
                    payload: b"early".to_vec(),
                    ..Segment::new(segment.to, segment.from)
                };
                self.queue.push((
                    Side::Server,
                    Wire { bytes: hasty.write(Dress::default()), partial: false, segment: 0 },
                ));
            }
            if self.breaks == Invariant::I15SameAnswer {
                changed.window ^= self.answers as u16;
                wire.bytes = changed.write(Dress { packed: false, partial: wire.partial });
            }
        }
        (to, wire)
    }
}

/// Writes the sum that the frame should have.
fn repair(wire: &mut Wire) {
    let v4 = wire.bytes[12..14] == [8, 0];
    let start = if v4 { 14 + usize::from(wire.bytes[14] & 15) * 4 } else { 54 };
    let end = if v4 {
        14 + usize::from(u16::from_be_bytes([wire.bytes[16], wire.bytes[17]]))
    } else {
        wire.bytes.len()
    };
    let length = end - start;
    wire.bytes[start + 16..start + 18].fill(0);
    // The addresses lie one behind the other in both headers.
    let addresses = if v4 { &wire.bytes[26..34] } else { &wire.bytes[22..54] };
    let nothing = std::net::Ipv4Addr::UNSPECIFIED.into();
    let pseudo = sum(addresses) + pseudo_sum(nothing, nothing, length);
    let field = !fold(pseudo + sum(&wire.bytes[start..end]));
    wire.bytes[start + 16..start + 18].copy_from_slice(&field.to_be_bytes());
}

impl Middle for Saboteur {
    fn input(&mut self, now: Instant, from: Side, frame: &mut Wire) -> bool {
        if self.is_deaf() && from == Side::Server {
            return false;
        }
        self.inner.input(now, from, frame) && self.tamper(from, frame)
    }

    fn timeout(&mut self, now: Instant) {
        if !self.is_deaf() {
            self.inner.timeout(now);
        }
    }

    fn transmit(&mut self, now: Instant) -> Option<(Side, Wire)> {
        let (to, wire) = self.queue.pop().or_else(|| self.inner.transmit(now))?;
        Some(self.forge(to, wire))
    }

    fn due(&self) -> Option<Instant> {
        match self.breaks {
            Invariant::I13Quiet => Some(Instant::ZERO),
            Invariant::I14Ends if self.is_deaf() => None,
            Invariant::I1Prefix
            | Invariant::I2Complete
            | Invariant::I3Checksum
            | Invariant::I4Bijection
            | Invariant::I5Proven
            | Invariant::I6NoLocalAck
            | Invariant::I7Continuous
            | Invariant::I8Window
            | Invariant::I9Clock
            | Invariant::I10Memory
            | Invariant::I11Replay
            | Invariant::I12Untouched
            | Invariant::I14Ends
            | Invariant::I15SameAnswer
            | Invariant::I16Hostile
            | Invariant::Oracle
            | Invariant::Strict => self.inner.due(),
        }
    }

    fn news(&mut self) -> Option<(Option<Tuple>, News, String)> {
        self.inner.news()
    }

    fn memory(&self) -> (usize, usize) {
        let (used, most) = self.inner.memory();
        if self.breaks == Invariant::I10Memory { (most + 1, most) } else { (used, most) }
    }

    fn half_open(&self) -> usize {
        self.inner.half_open()
    }

    fn knows(&self, tuple: Tuple) -> bool {
        self.inner.knows(tuple)
    }

    fn restart(&mut self, now: Instant, keeps_table: bool) -> Box<dyn Middle> {
        Box::new(Saboteur::new(self.inner.restart(now, keeps_table), self.breaks))
    }
}

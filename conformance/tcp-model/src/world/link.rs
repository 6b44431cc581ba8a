//! A link and the network card in front of it.

use std::collections::VecDeque;
use std::time::Duration;

use gimlet_machine::{Instant, Rng};

use crate::endpoint::Ghost;
use crate::middle::Wire;
use crate::segment::{Segment, flag, fold, sum};

/// The Ethernet header, which no fault touches.
const ETHERNET: usize = 14;

/// Whether a frame leaves the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// It does not: trains and unfinished checksums arrive as they were sent.
    Virtual,
    /// It does: the card cuts trains and finishes checksums.
    Real,
}

/// What a link does to frames. Chances are in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// Of the network card.
    pub card: Card,
    /// One way.
    pub delay: Duration,
    /// Up to so much more, drawn for each frame: what is drawn less overtakes.
    pub jitter: Duration,
    /// A frame is lost.
    pub loss: u32,
    /// A frame arrives twice.
    pub duplicate: u32,
    /// A frame arrives with bits flipped.
    pub damage: u32,
}

/// Who decides what becomes of frames.
pub(super) enum Dice<'a> {
    /// Nothing happens to them.
    Calm,
    /// Chance.
    Chance(&'a mut Rng),
    /// A byte for each frame, and nothing happens after the last.
    Script(&'a mut VecDeque<u8>),
}

/// What becomes of one frame.
#[derive(Debug, Default)]
struct Fate {
    is_lost: bool,
    /// It arrives once more, so much later than it should.
    again: Option<Duration>,
    damage: Option<Rng>,
    late: Duration,
}

/// Who wrote a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// One of the two hosts.
    Host,
    /// A box.
    Box,
    /// Somebody else.
    Stranger,
}

/// A frame under way, and what is known about it.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) wire: Wire,
    pub(super) origin: Origin,
    pub(super) damaged: bool,
    pub(super) ghost: Option<Ghost>,
}

impl Frame {
    /// Whether it must be right.
    pub(super) fn is_genuine(&self) -> bool {
        self.origin != Origin::Stranger && !self.damaged
    }
}

impl LinkPlan {
    pub(super) fn draw(rng: &mut Rng, calm: bool) -> Self {
        let card = if rng.below(3) == 0 { Card::Virtual } else { Card::Real };
        let delay =
            Duration::from_micros([50, 500, 5_000, 25_000, 100_000][rng.below(5) as usize] + rng.below(400));
        let one_in =
            |rng: &mut Rng, n: u64, most: u64| if rng.below(n) == 0 { rng.below(most) as u32 } else { 0 };
        if calm {
            return Self { card, delay, jitter: Duration::ZERO, loss: 0, duplicate: 0, damage: 0 };
        }
        let jitter = if rng.below(3) == 0 {
            delay / 2 + Duration::from_micros(rng.below(20_000))
        } else {
            Duration::ZERO
        };
        Self {
            card,
            delay,
            jitter,
            loss: one_in(rng, 2, 150_000),
            duplicate: one_in(rng, 3, 100_000),
            damage: one_in(rng, 4, 50_000),
        }
    }

    /// What becomes of a frame: when and how it arrives, nothing if it is lost.
    pub(super) fn carry(&self, now: Instant, dice: &mut Dice<'_>, frame: Frame) -> Vec<(Instant, Frame)> {
        let mut out = Vec::new();
        for mut frame in self.leave(frame) {
            let fate = self.fate(dice);
            let at = now + self.delay + fate.late;
            if fate.is_lost {
                continue;
            }
            if let Some(again) = fate.again {
                out.push((now + self.delay + again, frame.clone()));
            }
            // A checksum that is not there yet notices nothing: such frames cross no real wire.
            if let Some(mut rng) = fate.damage.filter(|_| !frame.wire.partial) {
                damage(&mut rng, &mut frame);
                if Segment::read(&frame.wire.bytes, false).is_ok() {
                    continue;
                }
            }
            out.push((at, frame));
        }
        out
    }

    fn fate(&self, dice: &mut Dice<'_>) -> Fate {
        let mut fate = Fate::default();
        match dice {
            Dice::Calm => {}
            Dice::Chance(rng) => {
                let late = |rng: &mut Rng| Duration::from_nanos(rng.below(self.jitter.as_nanos() as u64 + 1));
                fate.is_lost = rng.chance(self.loss);
                fate.again = rng.chance(self.duplicate).then(|| late(rng));
                fate.damage = rng.chance(self.damage).then(|| rng.fork_nth("damage", rng.clone().u64()));
                fate.late = late(rng);
            }
            Dice::Script(script) => {
                let word = script.pop_front().unwrap_or(0);
                let amount = u64::from(word & 31);
                match word >> 5 {
                    0..=3 => {}
                    4 => fate.is_lost = true,
                    5 => fate.again = Some(Duration::from_millis(amount * amount)),
                    6 => fate.late = Duration::from_millis(1 + amount * amount * 2),
                    _ => fate.damage = Some(Rng::from_u64(amount)),
                }
            }
        }
        fate
    }

    /// The network card of the sender.
    fn leave(&self, mut frame: Frame) -> Vec<Frame> {
        match self.card {
            Card::Virtual => vec![frame],
            Card::Real if frame.wire.segment > 0 => cut(&frame),
            Card::Real => {
                if frame.wire.partial {
                    finish(&mut frame.wire);
                }
                vec![frame]
            }
        }
    }
}

fn damage(rng: &mut Rng, frame: &mut Frame) {
    frame.damaged = true;
    for _ in 0..=rng.below(3) {
        let length = frame.wire.bytes.len().saturating_sub(ETHERNET);
        if length == 0 {
            return;
        }
        // Headers more often than their share.
        let reach = if rng.below(2) == 0 { length.min(60) } else { length };
        let at = ETHERNET + rng.below(reach as u64) as usize;
        frame.wire.bytes[at] ^= 1 << rng.below(8);
    }
}

/// Where TCP begins, and whether the frame is IPv4. Frames of ours have no extension headers.
fn tcp_at(bytes: &[u8]) -> (usize, bool) {
    let v4 = bytes[12..14] == [8, 0];
    (ETHERNET + if v4 { usize::from(bytes[ETHERNET] & 15) * 4 } else { 40 }, v4)
}

/// Sums what the field does not hold yet.
pub(super) fn finish(wire: &mut Wire) {
    let (start, _) = tcp_at(&wire.bytes);
    let field = !fold(sum(&wire.bytes[start..]));
    wire.bytes[start + 16..start + 18].copy_from_slice(&field.to_be_bytes());
    wire.partial = false;
}

/// Cuts a train into segments as a card does: headers again for each, numbers counted on.
fn cut(frame: &Frame) -> Vec<Frame> {
    let bytes = &frame.wire.bytes;
    let (start, v4) = tcp_at(bytes);
    let header = start + usize::from(bytes[start + 12] >> 4) * 4;
    let data = &bytes[header..];
    let size = usize::from(frame.wire.segment).max(1);
    let pieces = data.len().div_ceil(size).max(1);
    let piece = |nth: usize| {
        let part = &data[nth * size..data.len().min((nth + 1) * size)];
        let mut wire = Wire { bytes: bytes[..header].to_vec(), partial: frame.wire.partial, segment: 0 };
        let out = &mut wire.bytes;
        let seq = u32::from_be_bytes(out[start + 4..start + 8].try_into().expect("four bytes"));
        out[start + 4..start + 8].copy_from_slice(&seq.wrapping_add((nth * size) as u32).to_be_bytes());
        if nth + 1 < pieces {
            out[start + 13] &= !(flag::FIN | flag::PSH);
        }
        if nth > 0 {
            out[start + 13] &= !flag::URG & 0x7f;
        }
        out.extend_from_slice(part);
        let tcp_length = (out.len() - start) as u16;
        let whole = (bytes.len() - start) as u16;
        if v4 {
            let total = (out.len() - ETHERNET) as u16;
            out[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&total.to_be_bytes());
            out[ETHERNET + 10..ETHERNET + 12].fill(0);
            let field = !fold(sum(&out[ETHERNET..start]));
            out[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&field.to_be_bytes());
        } else {
            out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&tcp_length.to_be_bytes());
        }
        // The pseudo header has the length in it.
        let pseudo = u64::from(u16::from_be_bytes([out[start + 16], out[start + 17]]));
        let field = fold(pseudo + u64::from(!whole) + u64::from(tcp_length));
        out[start + 16..start + 18].copy_from_slice(&field.to_be_bytes());
        finish(&mut wire);
        let mut ghost = frame.ghost.clone();
        if let Some(ghost) = &mut ghost {
            ghost.seq += (nth * size) as i64;
            ghost.flags = wire.bytes[start + 13];
        }
        Frame { wire, origin: frame.origin, damaged: frame.damaged, ghost }
    };
    (0..pieces).map(piece).collect()
}

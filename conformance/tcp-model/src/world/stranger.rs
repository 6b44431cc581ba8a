//! Somebody who guesses: frames into other people's connections, and noise.

use std::net::SocketAddr;

use gimlet_machine::Rng;

use super::plan::Plan;
use crate::middle::{Side, Wire};
use crate::segment::{Dress, Options, Segment, flag};

/// A frame from nobody, and the side from which it comes.
pub(super) fn draw(rng: &mut Rng, plan: &Plan) -> (Side, Wire) {
    let from = if rng.below(2) == 0 { Side::Client } else { Side::Server };
    let nth = rng.below(plan.flows.len() as u64) as usize;
    let (client, server) = plan.flows[nth].tuple;
    let (source, destination) = if from == Side::Client { (client, server) } else { (server, client) };
    let mut segment = Segment {
        seq: rng.u32(),
        ack: rng.u32(),
        window: rng.u32() as u16,
        ..Segment::new(source, destination)
    };
    match rng.below(8) {
        0 => segment.flags = flag::RST,
        1 => segment.flags = flag::RST | flag::ACK,
        2 => segment.flags = flag::ACK,
        3 => {
            segment.flags = flag::ACK | flag::PSH;
            segment.payload = rng.bytes::<33>().to_vec();
        }
        4 => segment.flags = flag::ACK | flag::FIN,
        5 if from == Side::Server => segment.flags = flag::SYN | flag::ACK,
        // Somebody else's connection, which nobody answers.
        5 | 6 => {
            segment.flags = flag::SYN;
            segment.ack = 0;
            let stranger = SocketAddr::new(segment.from.ip(), 1_000 + rng.below(30_000) as u16);
            if from == Side::Client {
                segment.from = stranger;
            } else {
                segment.to = stranger;
            }
            segment.options = Options { mss: Some(1_460), shift: Some(7), ..Options::default() };
        }
        _ => return (from, noise(rng, &segment)),
    }
    if rng.below(2) == 0 && !segment.has(flag::SYN) {
        segment.options.timestamps = Some((rng.u32(), rng.u32()));
    }
    (from, Wire { bytes: segment.write(Dress::default()), partial: false, segment: 0 })
}

/// A frame with anything in it: damaged headers more often than nothing but noise.
fn noise(rng: &mut Rng, segment: &Segment) -> Wire {
    let mut bytes = Segment { flags: rng.u32() as u8, ..segment.clone() }.write(Dress::default());
    if rng.below(4) == 0 {
        bytes.resize(14 + rng.below(200) as usize, 0);
        rng.fill(&mut bytes[12..]);
    } else {
        for _ in 0..=rng.below(4) {
            let at = 12 + rng.below(bytes.len() as u64 - 12) as usize;
            bytes[at] = rng.u32() as u8;
        }
        bytes.truncate(14 + rng.below(bytes.len() as u64) as usize);
    }
    Wire { bytes, partial: false, segment: 0 }
}

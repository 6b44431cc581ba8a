//! The table of rules, a second time and on its own: sixty lines that read with etherparse, write into a copy,
//! and sum everything anew. What the translator makes of a frame has to be the same bytes.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::middle::Side;
use crate::segment::{flag, fold, pseudo_sum, sum};

/// What is moved, by how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `S' - Sr`: what the server's numbers are moved by on their way to the client.
    pub delta: u32,
    /// `T' - T`, if both use timestamps: what the server's clock is moved by.
    pub clock: Option<u32>,
    /// Shifts that the client was told, and that the server uses, if they are to be told apart.
    pub server_shifts: Option<(u8, u8)>,
    /// Shifts that the client uses, and that the server expects.
    pub client_shifts: Option<(u8, u8)>,
    /// SACK was promised to the client, and the server does not know it.
    pub hides_sack: bool,
}

/// The frame as it has to leave towards the other side. `None`: not a TCP frame over IP.
pub fn translate(frame: &[u8], from: Side, partial: bool, rules: &Rules) -> Option<Vec<u8>> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let (source, destination) = match sliced.net? {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Arp(_) => return None,
    };
    let TransportSlice::Tcp(tcp) = sliced.transport? else { return None };
    let (start, header) = (tcp.slice().as_ptr() as usize - frame.as_ptr() as usize, tcp.header_slice().len());
    let end = start + tcp.slice().len();
    let mut out = frame.to_vec();
    let (acknowledges, is_syn) = (tcp.ack(), tcp.syn());
    let shift = |out: &mut [u8], at: usize, by: u32| {
        let value = u32::from_be_bytes(out[at..at + 4].try_into().expect("four bytes")).wrapping_add(by);
        out[at..at + 4].copy_from_slice(&value.to_be_bytes());
    };
    let back = rules.delta.wrapping_neg();
    match from {
        Side::Server => shift(&mut out, start + 4, rules.delta),
        Side::Client if acknowledges => shift(&mut out, start + 8, back),
        Side::Client => {}
    }
    let mut at = start + 20;
    while at < start + header && out[at] != 0 {
        let length = if out[at] == 1 { 1 } else { usize::from(out[at + 1]) };
        match (out[at], from, rules.clock) {
            (5, Side::Client, _) if rules.hides_sack => out[at..at + length].fill(1),
            (5, Side::Client, _) => {
                (at + 2..at + length).step_by(4).for_each(|edge| shift(&mut out, edge, back));
            }
            (8, Side::Server, Some(clock)) => shift(&mut out, at + 2, clock),
            (8, Side::Client, Some(clock)) if acknowledges => shift(&mut out, at + 6, clock.wrapping_neg()),
            _ => {}
        }
        at += length;
    }
    let shifts = if from == Side::Server { rules.server_shifts } else { rules.client_shifts };
    if let Some((told, used)) = shifts.filter(|_| !is_syn) {
        let (reads, writes) = if from == Side::Server { (used, told) } else { (told, used) };
        let window = ((u64::from(tcp.window_size()) << reads) >> writes).min(0xffff) as u16;
        out[start + 14..start + 16].copy_from_slice(&window.to_be_bytes());
    }
    if !partial {
        // What was wrong with the sum before is wrong with it after: `wrong` is 0 (or -0) for a good frame.
        let whole =
            |bytes: &[u8]| fold(pseudo_sum(source, destination, end - start) + sum(&bytes[start..end]));
        let wrong = whole(frame);
        out[start + 16..start + 18].fill(0);
        let field = !fold(u64::from(whole(&out)) + u64::from(!wrong));
        out[start + 16..start + 18].copy_from_slice(&field.to_be_bytes());
    }
    Some(out)
}

/// The rules that undo these. Windows and hidden blocks do not come back.
pub fn inverse(rules: &Rules) -> Rules {
    Rules { delta: rules.delta.wrapping_neg(), clock: rules.clock.map(u32::wrapping_neg), ..Rules::default() }
}

/// Whether two frames are the same, but for the two ways to write a sum of zero and the fields at `besides`.
pub fn agree(one: &[u8], other: &[u8]) -> bool {
    let sums = |frame: &[u8]| {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let TransportSlice::Tcp(tcp) = sliced.transport? else { return None };
        Some((tcp.slice().as_ptr() as usize - frame.as_ptr() as usize + 16, tcp.checksum()))
    };
    match (sums(one), sums(other)) {
        (Some((at, 0 | 0xffff)), Some((there, 0 | 0xffff))) if at == there => {
            one[..at] == other[..at] && one[at + 2..] == other[at + 2..]
        }
        _ => one == other,
    }
}

/// Whether a segment with these flags is translated at all: a SYN is answered or handed on, never moved.
pub const fn is_translated(flags: u8) -> bool {
    flags & flag::SYN == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Dress, Segment};

    const RULES: Rules = Rules {
        delta: 0xffff_ffd0,
        clock: Some(0x7fff_fc18),
        server_shifts: None,
        client_shifts: None,
        hides_sack: false,
    };

    fn segment() -> Segment {
        let (client, server) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:8080".parse().unwrap());
        Segment { seq: 0xffff_ff01, ack: 0x55, flags: flag::ACK, window: 502, ..Segment::new(client, server) }
    }

    #[test]
    fn the_worked_numbers_of_the_derivation_come_out() {
        let mut ack = segment();
        ack.options.sacks = vec![(0xb9, 0x11d)];
        ack.options.timestamps = Some((7, 0x8000_0032));
        let out = translate(&ack.write(Dress::default()), Side::Client, false, &RULES).unwrap();
        let out = Segment::read(&out, false).expect("a right checksum");
        assert_eq!((out.seq, out.ack), (0xffff_ff01, 0x85));
        assert_eq!(out.options.sacks, [(0xe9, 0x14d)]);
        assert_eq!(out.options.timestamps, Some((7, 0x41a)));
        let mut answer = Segment { from: ack.to, to: ack.from, seq: 0x21, ack: 0x2d, ..ack };
        answer.options.timestamps = Some((0x41a, 7));
        let out = translate(&answer.write(Dress::default()), Side::Server, false, &RULES).unwrap();
        let out = Segment::read(&out, false).expect("a right checksum");
        assert_eq!((out.seq, out.ack, out.options.timestamps), (0xffff_fff1, 0x2d, Some((0x8000_0032, 7))));
        assert_eq!(out.options.sacks, [(0xb9, 0x11d)]);
    }

    #[test]
    fn a_reset_without_acknowledgment_keeps_its_zero() {
        let reset = Segment { ack: 0, flags: flag::RST, ..segment() };
        let frame = reset.write(Dress::default());
        assert_eq!(translate(&frame, Side::Client, false, &RULES), Some(frame));
    }

    #[test]
    fn a_wrong_sum_stays_wrong_by_as_much() {
        let mut frame = segment().write(Dress::default());
        let at = 14 + 20 + 16;
        frame[at] ^= 0x40;
        let mut out = translate(&frame, Side::Client, false, &RULES).unwrap();
        assert!(Segment::read(&out, false).is_err());
        out[at] ^= 0x40;
        let right = translate(&segment().write(Dress::default()), Side::Client, false, &RULES).unwrap();
        assert!(Segment::read(&right, false).is_ok());
    }

    #[test]
    fn windows_are_scaled_again_and_never_rounded_up() {
        let server = Rules { server_shifts: Some((7, 10)), ..Rules::default() };
        let window = |rules: &Rules, window: u16, from| {
            let frame = Segment { window, ..segment() }.write(Dress::default());
            let out = translate(&frame, from, false, rules).unwrap();
            Segment::read(&out, false).unwrap().window
        };
        assert_eq!(window(&server, 64, Side::Server), 512);
        assert_eq!(window(&server, 65_535, Side::Server), 65_535);
        let coarse = Rules { server_shifts: Some((10, 7)), ..Rules::default() };
        assert_eq!((window(&coarse, 7, Side::Server), window(&coarse, 8, Side::Server)), (0, 1));
        let unscaled = Rules { client_shifts: Some((10, 0)), ..Rules::default() };
        assert_eq!(
            (window(&unscaled, 63, Side::Client), window(&unscaled, 64, Side::Client)),
            (64_512, 65_535)
        );
    }

    #[test]
    fn a_translation_is_undone_by_its_inverse() {
        let frame = segment().write(Dress::default());
        let out = translate(&frame, Side::Client, false, &RULES).unwrap();
        assert!(agree(&translate(&out, Side::Client, false, &inverse(&RULES)).unwrap(), &frame));
    }
}

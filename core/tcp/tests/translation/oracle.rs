//! The rule again, written to be read: every field is taken out, changed by the table, and put back, and every
//! checksum computed from nothing. Parsing and sums are etherparse's.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use gimlet_tcp::{Side, Translation};

/// What the oracle knows of a flow, in the words of the handshake that made it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handshake {
    pub(crate) ours: u32,
    pub(crate) servers: u32,
    pub(crate) our_clock: u32,
    pub(crate) servers_clock: u32,
    /// Shifts of client, our answer, server.
    pub(crate) shifts: (Option<u8>, Option<u8>, Option<u8>),
    pub(crate) no_sack: bool,
    pub(crate) no_timestamps: bool,
    pub(crate) no_ecn: bool,
}

/// A window in bytes as its sender means it, written down for somebody who shifts by `shift`.
fn written(bytes: u64, shift: u8) -> u16 {
    (bytes >> shift).min(0xffff) as u16
}

/// The frame as the other side should get it.
pub(crate) fn translated(flow: &Handshake, side: Side, frame: &[u8]) -> Vec<u8> {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a frame");
    let Some(TransportSlice::Tcp(slice)) = sliced.transport else { panic!("a segment") };
    let at = slice.slice().as_ptr() as usize - frame.as_ptr() as usize;
    let mut header = slice.to_header();
    let scaled = match flow.shifts {
        (Some(client), Some(promised), server) => {
            Some((client.min(14), promised.min(14), server.map(|s| s.min(14))))
        }
        _ => None,
    };
    let window = u64::from(header.window_size);
    match side {
        Side::Client => {
            if header.ack {
                header.acknowledgment_number =
                    header.acknowledgment_number.wrapping_sub(flow.ours).wrapping_add(flow.servers);
            }
            if let (false, Some((client, _, None))) = (header.syn, scaled) {
                header.window_size = written(window << client, 0);
            }
        }
        Side::Server => {
            header.sequence_number =
                header.sequence_number.wrapping_sub(flow.servers).wrapping_add(flow.ours);
            if let (false, Some((_, promised, server))) = (header.syn, scaled) {
                header.window_size = written(window << server.unwrap_or(0), promised);
            }
            header.ece &= !flow.no_ecn;
        }
    }
    let options = options(flow, side, header.ack, slice.options());
    header.set_options_raw(&options).expect("as long as before");
    let payload = slice.payload();
    header.checksum = match sliced.net.expect("a packet") {
        NetSlice::Ipv4(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), payload).unwrap(),
        NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), payload).unwrap(),
        NetSlice::Arp(_) => unreachable!("a packet"),
    };
    let mut out = frame[..at].to_vec();
    header.write(&mut out).expect("a vector grows");
    out.extend_from_slice(&frame[at + slice.header_len()..]);
    out
}

fn options(flow: &Handshake, side: Side, ack: bool, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < out.len() && out[at] != 0 {
        if out[at] == 1 {
            at += 1;
            continue;
        }
        let Some(length) = out.get(at + 1).map(|length| usize::from(*length)) else { break };
        if length < 2 || at + length > out.len() {
            break;
        }
        let moved = |out: &mut Vec<u8>, at: usize, from: u32, to: u32| {
            let old = u32::from_be_bytes(out[at..at + 4].try_into().unwrap());
            out[at..at + 4].copy_from_slice(&old.wrapping_sub(from).wrapping_add(to).to_be_bytes());
        };
        match (side, out[at], length) {
            (Side::Client, 8, 10) if flow.no_timestamps => out[at..at + length].fill(1),
            (Side::Client, 5, _) if flow.no_sack => out[at..at + length].fill(1),
            (Side::Client, 8, 10) if ack => moved(&mut out, at + 6, flow.our_clock, flow.servers_clock),
            (Side::Server, 8, 10) => moved(&mut out, at + 2, flow.servers_clock, flow.our_clock),
            (Side::Client, 5, 10 | 18 | 26 | 34) => {
                for edge in (2..length).step_by(4) {
                    moved(&mut out, at + edge, flow.ours, flow.servers);
                }
            }
            _ => {}
        }
        at += length;
    }
    out
}

/// The translation that the code under test makes of the same handshake.
pub(crate) fn translation(flow: &Handshake) -> Translation {
    use gimlet_tcp::{Strip, Windows};
    let strip =
        [(flow.no_sack, Strip::SACK), (flow.no_timestamps, Strip::TIMESTAMPS), (flow.no_ecn, Strip::ECN)];
    let strip = strip.into_iter().filter(|(is, _)| *is).fold(Strip::NOTHING, |all, (_, one)| all.and(one));
    let (client, promised, server) = flow.shifts;
    Translation {
        delta: flow.ours.wrapping_sub(flow.servers),
        clock: flow.our_clock.wrapping_sub(flow.servers_clock),
        windows: Windows::new(client, promised, server),
        strip,
    }
}

//! What happens to the packets that ICMP errors quote.

use gimlet_tcp::{Checksum, Side, Translation};
use gimlet_wire::{Envelope, IcmpQuote, Layout, Segment, TcpFlags};

use crate::fixture::{ACK, READY, envelope, envelope_v6, frame, segment};

const C: Side = Side::Client;
const S: Side = Side::Server;

/// An error from `side` about `quoted`, of which it shows `shown` bytes behind the IP header.
fn error(around: fn(Side) -> Envelope, side: Side, quoted: &Segment<'_>, shown: usize) -> Vec<u8> {
    // Whoever sends the error got the packet: its envelope is that of the other side.
    let packet = frame(&around(side.across()), quoted);
    let layout = Layout::of(&packet).unwrap();
    let range = layout.packet_range();
    let end = usize::from(layout.transport_at).saturating_add(shown);
    let mut error = Vec::new();
    around(side).write_packet_too_big(&mut error, 1400, &packet[range.start..end.min(range.end)]);
    error
}

fn translate(translation: &Translation, side: Side, checksum: Checksum, frame: &mut [u8]) {
    let layout = Layout::of(frame).unwrap();
    let quote = IcmpQuote::of(frame, &layout).unwrap().expect("an error");
    translation.apply_to_quote(side, checksum, frame, &layout, &quote);
}

/// Translating the error about `before` gives the error about `after`.
#[track_caller]
fn becomes(side: Side, before: &Segment<'_>, after: &Segment<'_>) {
    for around in [envelope as fn(Side) -> Envelope, envelope_v6] {
        for shown in [8, 12, 16, 18, 20, usize::MAX] {
            let mut found = error(around, side, before, shown);
            translate(&READY, side, Checksum::Complete, &mut found);
            let expected = error(around, side, after, shown);
            assert!(Layout::of(&found).unwrap().transport_checksum_holds(&found), "{shown} bytes shown");
            assert_eq!(found, expected, "{shown} bytes shown");
        }
    }
}

#[test]
fn case_24_an_error_about_the_servers_data_names_a_number_that_the_server_sent() {
    // The router is on the client's side: it saw S', the server knows Sr.
    let quoted = Segment { payload: &[9; 40], ..segment(S, ACK, 0xffff_fff1, 0x2d) };
    becomes(C, &quoted, &Segment { seq: 0x21, ..quoted });
}

#[test]
fn case_25_an_error_about_the_clients_data_keeps_its_number_and_gets_its_acknowledgement_back() {
    let quoted = Segment { payload: &[9; 40], ..segment(C, ACK, 0x2d, 0x21) };
    let mut found = error(envelope, S, &quoted, 8);
    let before = found.clone();
    translate(&READY, S, Checksum::Complete, &mut found);
    assert_eq!(found, before, "eight bytes show no acknowledgement");
    becomes_where_shown(&quoted, &Segment { ack: 0xffff_fff1, ..quoted });
    // A segment without the flag acknowledges nothing.
    let reset = segment(C, TcpFlags::RST, 0x2d, 0);
    for shown in [16, 20] {
        let mut found = error(envelope, S, &reset, shown);
        translate(&READY, S, Checksum::Complete, &mut found);
        assert_eq!(found, error(envelope, S, &reset, shown));
    }
}

#[track_caller]
fn becomes_where_shown(before: &Segment<'_>, after: &Segment<'_>) {
    for around in [envelope as fn(Side) -> Envelope, envelope_v6] {
        for shown in [12, 16, 18, 20, usize::MAX] {
            let mut found = error(around, S, before, shown);
            translate(&READY, S, Checksum::Complete, &mut found);
            assert_eq!(found, error(around, S, after, shown), "{shown} bytes shown");
        }
    }
}

#[test]
fn a_partial_checksum_of_an_error_stays_and_so_does_everything_without_an_offset() {
    let quoted = segment(S, ACK, 0xffff_fff1, 0x2d);
    let mut found = error(envelope_v6, C, &quoted, 20);
    let field = 14 + 40 + 2;
    let before = found[field..field + 2].to_vec();
    translate(&READY, C, Checksum::Partial, &mut found);
    assert_eq!(found[field..field + 2], before);
    assert_eq!(found[14 + 40 + 8 + 40 + 4..][..4], [0, 0, 0, 0x21]);

    let mut found = error(envelope, C, &quoted, 20);
    let before = found.clone();
    translate(&Translation { delta: 0, ..READY }, C, Checksum::Complete, &mut found);
    assert_eq!(found, before);
}

#[test]
fn a_corrupted_error_stays_corrupted() {
    let mut found = error(envelope, C, &segment(S, ACK, 0xffff_fff1, 0x2d), 20);
    *found.last_mut().unwrap() ^= 0x40;
    translate(&READY, C, Checksum::Complete, &mut found);
    assert!(!Layout::of(&found).unwrap().transport_checksum_holds(&found));
}

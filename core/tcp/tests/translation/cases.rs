//! What happens to segments.

use gimlet_tcp::{Checksum, Leg, Side, Strip, Translation, Windows};
use gimlet_wire::{Envelope, Fragment, Layout, Segment, TcpFlags, TcpOption, TcpOptionList, Transport};

use crate::fixture::{
    ACK, D, O, READY, becomes, envelope, envelope_v6, frame, ready_with, segment, tcp, translate,
};

const C: Side = Side::Client;
const S: Side = Side::Server;

fn with(options: TcpOptionList, segment: Segment<'static>) -> Segment<'static> {
    Segment { options, ..segment }
}

#[test]
fn case_01_an_acknowledgement_of_our_number_reaches_the_server_as_one_of_its_own() {
    let mut frame = frame(&envelope(C), &segment(C, ACK, 0xffff_ff01, 0xffff_fff1));
    assert_eq!(tcp(&frame).checksum(), 0xdf17);
    translate(&READY, C, Checksum::Complete, &mut frame);
    let tcp = tcp(&frame);
    assert_eq!((tcp.seq(), tcp.ack(), tcp.checksum()), (0xffff_ff01, 0x21, 0xdee8));
}

#[test]
fn case_02_data_of_the_server_reaches_the_client_behind_our_number() {
    let payload: Vec<u8> = (0..100).collect();
    let flags = ACK | TcpFlags::PSH;
    let data = Segment { window: 509, payload: &payload, ..segment(S, flags, 0x21, 0x2d) };
    let mut frame = frame(&envelope(S), &data);
    assert_eq!(tcp(&frame).checksum(), 0x417d);
    translate(&READY, S, Checksum::Complete, &mut frame);
    let tcp = tcp(&frame);
    assert_eq!((tcp.seq(), tcp.ack(), tcp.checksum()), (0xffff_fff1, 0x2d, 0x41ac));
}

#[test]
fn case_03_an_acknowledgement_of_data_is_shifted_like_the_data() {
    becomes(&READY, C, &segment(C, ACK, 0x2d, 0x55), &segment(C, ACK, 0x2d, 0x85));
}

#[test]
fn case_04_the_clients_sack_block_is_shifted() {
    let list = TcpOptionList::new().no_operation().no_operation();
    let before = with(list.sack(&[(0xb9, 0x11d)]), segment(C, ACK, 0x2d, 0x55));
    becomes(&READY, C, &before, &with(list.sack(&[(0xe9, 0x14d)]), segment(C, ACK, 0x2d, 0x85)));
}

#[test]
fn case_05_every_edge_of_every_block_is_shifted() {
    let padding = TcpOptionList::new().no_operation().no_operation();
    let blocks = [(1, 2), (3, 0xffff_ffff), (0x8000_0000, 0x30), (0x2f, 0x31)];
    let shifted = blocks.map(|(left, right): (u32, u32)| (left.wrapping_sub(D), right.wrapping_sub(D)));
    let of = |blocks: &[(u32, u32)]| with(padding.sack(blocks), segment(C, ACK, 0, 0));
    let to = |blocks: &[(u32, u32)]| with(padding.sack(blocks), segment(C, ACK, 0, 0x30));
    becomes(&READY, C, &of(&blocks), &to(&shifted));
    assert_eq!(of(&blocks).options.as_slice().len(), 36);

    // Beside timestamps there is room for three.
    let of = |echo, blocks: &[(u32, u32)]| {
        with(padding.timestamps(7, echo).no_operation().no_operation().sack(blocks), segment(C, ACK, 0, 0))
    };
    let expected = Segment { ack: 0x30, ..of(0x41a, &shifted[..3]) };
    becomes(&READY, C, &of(0x8000_0032, &blocks[..3]), &expected);
    assert_eq!(expected.options.as_slice().len(), 40);
}

#[test]
fn case_06_a_duplicate_that_is_reported_below_the_acknowledgement_is_shifted_too() {
    let list = TcpOptionList::new().no_operation().no_operation();
    let before = with(list.sack(&[(0xffff_fff1, 0x10), (0x60, 0x70)]), segment(C, ACK, 0x2d, 0x55));
    let after = with(list.sack(&[(0x21, 0x40), (0x90, 0xa0)]), segment(C, ACK, 0x2d, 0x85));
    becomes(&READY, C, &before, &after);
}

#[test]
fn case_07_the_servers_sack_blocks_number_bytes_of_the_client_and_stay() {
    let list = TcpOptionList::new().no_operation().no_operation().sack(&[(0xffff_ff01, 0x2d), (0x40, 0x50)]);
    becomes(&READY, S, &with(list, segment(S, ACK, 0x21, 0)), &with(list, segment(S, ACK, 0xffff_fff1, 0)));
}

#[test]
fn case_08_the_servers_clock_is_shifted_and_the_clients_is_not() {
    let stamps = |value, echo| TcpOptionList::new().no_operation().no_operation().timestamps(value, echo);
    let from = with(stamps(0x41a, 0x1234), segment(S, ACK, 0x21, 0x2d));
    becomes(&READY, S, &from, &with(stamps(0x8000_0032, 0x1234), segment(S, ACK, 0xffff_fff1, 0x2d)));
    let from = with(stamps(0x1234, 0x8000_0032), segment(C, ACK, 0x2d, 0x55));
    becomes(&READY, C, &from, &with(stamps(0x1234, 0x41a), segment(C, ACK, 0x2d, 0x85)));
    // An echo means something with an acknowledgement only.
    let reset = with(stamps(0x1234, 0x8000_0032), segment(C, TcpFlags::RST, 0x2d, 0));
    becomes(&READY, C, &reset, &reset);
}

#[test]
fn case_09_timestamps_on_an_odd_offset_are_summed_with_bytes_exchanged() {
    // No segment of an established flow has a window scale; whoever sends one gets the same sum.
    let list = |value| TcpOptionList::new().window_scale(7).timestamps(value, 0x5566_7788);
    let before = with(list(0x1122_3344), segment(S, ACK, 0x21, 0x2d));
    let after = with(list(0x9122_2f5c), segment(S, ACK, 0xffff_fff1, 0x2d));
    becomes(&READY, S, &before, &after);

    // The known sums, for the clock alone.
    let clock_alone = Translation { delta: 0, ..READY };
    let mut frame = frame(&envelope(S), &before);
    let layout = Layout::of(&frame).unwrap();
    layout.tcp_mut(&mut frame).unwrap().set_checksum(0x35c7);
    translate(&clock_alone, S, Checksum::Complete, &mut frame);
    assert_eq!(tcp(&frame).checksum(), 0x1d4b);
}

#[test]
fn case_10_a_reset_without_acknowledgement_keeps_its_empty_field() {
    let reset = segment(C, TcpFlags::RST, 0x2d, 0);
    becomes(&READY, C, &reset, &reset);
}

#[test]
fn case_11_a_reset_of_the_server_is_shifted() {
    let flags = TcpFlags::RST | ACK;
    becomes(&READY, S, &segment(S, flags, 0x21, 0x2d), &segment(S, flags, 0xffff_fff1, 0x2d));
}

#[test]
fn case_12_the_urgent_pointer_counts_from_the_sequence_number_and_stays() {
    for (side, seq, ack) in [(C, (0x2d, 0x2d), (0x55, 0x85)), (S, (0x21, 0xffff_fff1), (0x2d, 0x2d))] {
        let urgent = |seq, ack| {
            let payload = &[7; 9];
            let mut frame =
                frame(&envelope(side), &Segment { payload, ..segment(side, ACK | TcpFlags::URG, seq, ack) });
            let layout = Layout::of(&frame).unwrap();
            let sum = layout.pseudo_header(&frame);
            let mut tcp = layout.tcp_mut(&mut frame).unwrap();
            tcp.as_mut_slice()[18..20].copy_from_slice(&[0, 5]);
            let computed = tcp.computed_checksum(sum);
            tcp.set_checksum(computed);
            frame
        };
        let mut frame = urgent(seq.0, ack.0);
        translate(&READY, side, Checksum::Complete, &mut frame);
        assert_eq!(frame, urgent(seq.1, ack.1));
        assert_eq!(tcp(&frame).urgent(), 5);
    }
}

#[test]
fn case_13_keepalives_of_either_side_keep_their_distance_from_what_was_sent() {
    becomes(&READY, C, &segment(C, ACK, 0x2c, 0x55), &segment(C, ACK, 0x2c, 0x85));
    becomes(&READY, S, &segment(S, ACK, 0x84, 0x2d), &segment(S, ACK, 0x54, 0x2d));
}

#[test]
fn case_14_a_closed_window_stays_closed_and_its_opening_passes() {
    for windows in [Windows::default(), Windows::new(Some(10), Some(7), Some(10))] {
        let ready = ready_with(windows);
        for (window, opened) in [(0, 0), (1, if windows == Windows::default() { 1 } else { 8 })] {
            let from = Segment { window, ..segment(S, ACK, 0x85, 0x2d) };
            becomes(&ready, S, &from, &Segment { window: opened, seq: 0x55, ..from });
            let probe = Segment { window, ..segment(C, ACK, 0x2c, 0x55) };
            becomes(&ready, C, &probe, &Segment { ack: 0x85, ..probe });
        }
    }
}

#[test]
fn case_15_the_servers_window_is_rescaled_and_never_rounded_up() {
    let shown = |server, promised, window| {
        let windows = Windows::new(Some(9), Some(promised), Some(server));
        let ready = ready_with(windows);
        let from = Segment { window, ..segment(S, ACK, 0x21, 0x2d) };
        let expected = windows.to_client(window);
        becomes(&ready, S, &from, &Segment { window: expected, seq: 0xffff_fff1, ..from });
        expected
    };
    assert_eq!((shown(10, 7, 64), shown(10, 7, 65535)), (512, 65535));
    // 896 bytes are no full unit of 1024.
    assert_eq!((shown(7, 10, 7), shown(7, 10, 8)), (0, 1));
    assert_eq!((shown(14, 0, 3), shown(14, 0, 4), shown(0, 14, 65535)), (49152, 65535, 3));
    // RFC 7323 §2.3: more than 14 counts as 14.
    assert_eq!((shown(255, 14, 9), shown(7, 7, 9)), (9, 9));
}

#[test]
fn case_16_a_server_that_does_not_scale_reads_the_clients_windows_in_full() {
    let windows = Windows::new(Some(10), Some(7), None);
    let ready = ready_with(windows);
    for (window, expected) in [(63, 64512), (64, 65535), (0, 0), (65535, 65535)] {
        let from = Segment { window, ..segment(C, ACK, 0x2d, 0x55) };
        becomes(&ready, C, &from, &Segment { window: expected, ack: 0x85, ..from });
    }
    // Its own windows are what they say; the client shifts what it is shown by 7.
    let from = Segment { window: 65535, ..segment(S, ACK, 0x21, 0x2d) };
    becomes(&ready, S, &from, &Segment { window: 511, seq: 0xffff_fff1, ..from });
    // Windows beside a SYN are not scaled, whoever sends them.
    let ready = Translation { windows, ..Translation::IDENTITY };
    for side in [C, S] {
        let syn = Segment { window: 64, ..segment(side, TcpFlags::SYN | ACK, 1, 2) };
        becomes(&ready, side, &syn, &syn);
    }
}

#[test]
fn case_17_equal_numbers_leave_every_bit_even_of_an_unusual_checksum() {
    let stamps = TcpOptionList::new().no_operation().no_operation().timestamps(1, 2);
    for side in [C, S] {
        for checksum in [0x1234, 0x0000, 0xffff] {
            let mut before = frame(&envelope(side), &with(stamps, segment(side, ACK, 5, 6)));
            let layout = Layout::of(&before).unwrap();
            layout.tcp_mut(&mut before).unwrap().set_checksum(checksum);
            let mut after = before.clone();
            translate(&Translation::IDENTITY, side, Checksum::Complete, &mut after);
            assert_eq!(after, before);
        }
    }
}

#[test]
fn case_18_without_an_offset_of_clocks_timestamps_stay_and_without_timestamps_nothing_is_missed() {
    let stamps = TcpOptionList::new().no_operation().no_operation().timestamps(1, 2);
    let still = Translation { clock: 0, ..READY };
    becomes(&still, C, &with(stamps, segment(C, ACK, 1, 0x55)), &with(stamps, segment(C, ACK, 1, 0x85)));
    becomes(&still, S, &with(stamps, segment(S, ACK, 0x85, 1)), &with(stamps, segment(S, ACK, 0x55, 1)));
    let none = TcpOptionList::new().raw(&[1, 1, 8, 2]);
    becomes(&READY, C, &with(none, segment(C, ACK, 1, 0x55)), &with(none, segment(C, ACK, 1, 0x85)));
    becomes(&READY, S, &with(none, segment(S, ACK, 0x85, 1)), &with(none, segment(S, ACK, 0x55, 1)));
}

#[test]
fn case_19_there_and_back_is_where_it_was() {
    for delta in [1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let ready = Translation { delta, ..READY };
        for number in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            // The server sends byte `number`, and the client acknowledges the byte that it was shown.
            let mut data = frame(&envelope(S), &segment(S, ACK, number, 0));
            translate(&ready, S, Checksum::Complete, &mut data);
            let mut answer = frame(&envelope(C), &segment(C, ACK, 0, tcp(&data).seq()));
            translate(&ready, C, Checksum::Complete, &mut answer);
            assert_eq!(tcp(&answer).ack(), number);
        }
    }
}

#[test]
fn case_20_extension_headers_are_passed_over_and_authenticated_ones_left_alone() {
    let mut data = frame(&envelope_v6(S), &segment(S, ACK, 0x21, 0x2d));
    let extensions = [[60, 0, 1, 4, 0, 0, 0, 0], [6, 1, 1, 12, 0, 0, 0, 0], [0; 8]].concat();
    data.splice(54..54, extensions);
    data[18..20].copy_from_slice(&44u16.to_be_bytes());
    data[20] = 0;
    let before = data.clone();
    translate(&READY, S, Checksum::Complete, &mut data);
    assert_eq!(tcp(&data).seq(), 0xffff_fff1);
    assert!(Layout::of(&data).unwrap().transport_checksum_holds(&data));
    assert_eq!(data[..78], before[..78]);

    data[20] = 51;
    assert_eq!(Layout::of(&data).unwrap().transport, Transport::Other(51));
}

#[test]
fn case_21_a_first_fragment_is_translated_and_the_others_pass() {
    let payload = [0x5a; 64];
    let whole = frame(&envelope(S), &Segment { payload: &payload, ..segment(S, ACK, 0x21, 0x2d) });
    let cut = |range: core::ops::Range<usize>, field: u16| {
        let mut part = [&whole[..34], &whole[34..][range]].concat();
        let length = (part.len() - 14) as u16;
        part[16..18].copy_from_slice(&length.to_be_bytes());
        part[20..22].copy_from_slice(&field.to_be_bytes());
        part
    };
    let (mut first, second) = (cut(0..48, 0x2000), cut(48..84, 6));
    translate(&READY, S, Checksum::Complete, &mut first);
    let mut passed = second.clone();
    translate(&READY, S, Checksum::Complete, &mut passed);
    assert_eq!(passed, second);
    assert_eq!(Layout::of(&second).unwrap().fragment, Fragment::Later);

    // Whoever puts them together has the segment that was never cut.
    let mut expected = whole.clone();
    translate(&READY, S, Checksum::Complete, &mut expected);
    assert_eq!([&first[34..], &passed[34..]].concat(), expected[34..]);
    assert!(Layout::of(&expected).unwrap().transport_checksum_holds(&expected));
    assert_eq!(tcp(&first).seq(), 0xffff_fff1);

    // A first fragment with a part of the header says nothing about the rest of it (RFC 3128).
    let tiny = cut(0..16, 0x2000);
    assert!(Layout::of(&tiny).unwrap().tcp(&tiny).is_err());
}

#[test]
fn case_22_a_partial_checksum_stays_and_a_train_changes_its_head_alone() {
    let payload = vec![0xa5; 45_000];
    let options = TcpOptionList::new().no_operation().no_operation().timestamps(0x41a, 9);
    let train = Segment { payload: &payload, options, ..segment(S, ACK, 0x21, 0x2d) };
    let mut frame = frame(&envelope(S), &train);
    let layout = Layout::of(&frame).unwrap();
    let pseudo = !layout.pseudo_header(&frame).finish();
    layout.tcp_mut(&mut frame).unwrap().set_checksum(pseudo);
    let before = frame.clone();
    translate(&READY, S, Checksum::Partial, &mut frame);
    let segment = tcp(&frame);
    assert_eq!((segment.seq(), segment.checksum()), (0xffff_fff1, pseudo));
    let changed: Vec<usize> = (0..frame.len()).filter(|at| frame[*at] != before[*at]).collect();
    assert!(changed.iter().all(|at| (38..42).contains(at) || (58..62).contains(at)), "{changed:?}");
    // Whoever completes the sum later completes the right one.
    layout.tcp_mut(&mut frame).unwrap().set_checksum(0);
    let sum = tcp(&frame).computed_checksum(layout.pseudo_header(&frame));
    layout.tcp_mut(&mut frame).unwrap().set_checksum(sum);
    assert!(layout.transport_checksum_holds(&frame));
}

#[test]
fn case_23_tags_in_the_bytes_stay_there_and_a_tag_beside_them_goes_along() {
    let tagged = Envelope { tags: [7, 42], tag_count: 2, ..envelope(S) };
    let mut data = frame(&tagged, &segment(S, ACK, 0x21, 0x2d));
    translate(&READY, S, Checksum::Complete, &mut data);
    assert_eq!(data, frame(&tagged, &segment(S, ACK, 0xffff_fff1, 0x2d)));
    let leg = Leg { tag: Some(42), ..Leg::new(S) };
    assert_eq!(leg.across(), Leg { tag: Some(42), ..Leg::new(C) });
}

#[test]
fn promised_in_vain_timestamps_and_blocks_become_no_operations() {
    let list = TcpOptionList::new();
    let both = list.no_operation().no_operation().timestamps(7, 0x8000_0032).sack(&[(0xb9, 0x11d)]);
    let from = with(both, segment(C, ACK, 0x2d, 0x55));
    let to = |strip| {
        let ready = Translation { strip, ..READY };
        let mut data = frame(&envelope(C), &from);
        translate(&ready, C, Checksum::Complete, &mut data);
        assert!(Layout::of(&data).unwrap().transport_checksum_holds(&data));
        let tcp = tcp(&data);
        assert_eq!((tcp.header_len(), tcp.ack()), (44, 0x85));
        let of_kind = |wanted: fn(&TcpOption<'_>) -> bool| {
            tcp.options().map(|option| option.unwrap().1).filter(wanted).count()
        };
        (
            of_kind(|option| matches!(option, TcpOption::Timestamps { echo: 0x41a, .. })),
            of_kind(|option| matches!(option, TcpOption::Sack(_))),
            of_kind(|option| matches!(option, TcpOption::NoOperation)),
        )
    };
    assert_eq!(to(Strip::NOTHING), (1, 1, 4));
    assert_eq!(to(Strip::SACK), (1, 0, 14));
    assert_eq!(to(Strip::TIMESTAMPS), (0, 1, 14));
    assert_eq!(to(Strip::SACK.and(Strip::TIMESTAMPS)), (0, 0, 24));
    // On an odd offset, too.
    let odd = with(list.no_operation().sack(&[(0xb9, 0x11d)]), segment(C, ACK, 0x2d, 0x55));
    let nothing = with(list.raw(&[1; 12]), segment(C, ACK, 0x2d, 0x85));
    becomes(&Translation { strip: Strip::SACK, ..READY }, C, &odd, &nothing);
}

#[test]
fn echoes_of_congestion_that_nobody_agreed_to_are_silenced() {
    let ready = Translation { strip: Strip::ECN, ..READY };
    let flags = ACK | TcpFlags::ECE | TcpFlags::CWR;
    becomes(&ready, S, &segment(S, flags, 0x21, 0x2d), &segment(S, ACK | TcpFlags::CWR, 0xffff_fff1, 0x2d));
    becomes(&READY, S, &segment(S, flags, 0x21, 0x2d), &segment(S, flags, 0xffff_fff1, 0x2d));
}

#[test]
fn options_behind_one_that_is_malformed_stay_as_they_are() {
    let broken = TcpOptionList::new().raw(&[1, 200, 0, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1]);
    let ended = TcpOptionList::new().raw(&[1, 0, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1]);
    let beyond = TcpOptionList::new().raw(&[1, 1, 1, 1, 1, 1, 8, 10, 0, 0, 0, 1]);
    for list in [broken, ended, beyond] {
        becomes(&READY, C, &with(list, segment(C, ACK, 1, 0x55)), &with(list, segment(C, ACK, 1, 0x85)));
        becomes(&READY, S, &with(list, segment(S, ACK, 0x85, 1)), &with(list, segment(S, ACK, 0x55, 1)));
    }
}

#[test]
fn regression_timestamps_behind_aligned_timestamps_are_shifted_too() {
    let twice = |value, echo| {
        let list = TcpOptionList::new().no_operation().no_operation().timestamps(value, echo);
        list.timestamps(value, echo).no_operation().no_operation()
    };
    let from = with(twice(0x41a, 7), segment(S, ACK, 0x21, 0x2d));
    becomes(&READY, S, &from, &with(twice(0x8000_0032, 7), segment(S, ACK, 0xffff_fff1, 0x2d)));
    let from = with(twice(7, 0x8000_0032), segment(C, ACK, 0x2d, 0x55));
    becomes(&READY, C, &from, &with(twice(7, 0x41a), segment(C, ACK, 0x2d, 0x85)));
}

#[test]
fn the_offset_of_clocks_keeps_their_order() {
    // PAWS: from T on the server's clock runs ahead, and so does the shown one from T'.
    let shown = |value: u32| value.wrapping_add(O);
    assert_eq!((shown(0x3e8), shown(0x41a)), (0x8000_0000, 0x8000_0032));
}

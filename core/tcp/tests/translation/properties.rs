//! The rule against the oracle, and what holds whatever the numbers are.

use gimlet_tcp::{Checksum, Side, Strip, Translation, Windows};
use gimlet_wire::{Envelope, Layout, Segment, TcpFlags, TcpOptionList};
use proptest::prelude::*;

use crate::fixture::{self, tcp, translate};
use crate::oracle::{Handshake, translated, translation};

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Server)]
}

fn shift() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![Just(None), (0u8..15).prop_map(Some), any::<u8>().prop_map(Some)]
}

/// Numbers near the places where they wrap, and any others.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (0u32..4).prop_map(|n| n.wrapping_sub(2)),
        (0u32..4).prop_map(|n| n + 0x7fff_fffe)
    ]
}

prop_compose! {
    fn handshakes()(
        ours in number(), servers in number(), our_clock in number(), servers_clock in number(),
        shifts in (shift(), shift(), shift()), strip in any::<(bool, bool, bool)>(),
    ) -> Handshake {
        let (no_sack, no_timestamps, no_ecn) = strip;
        Handshake { ours, servers, our_clock, servers_clock, shifts, no_sack, no_timestamps, no_ecn }
    }
}

/// Options as stacks write them, unaligned ones, and noise.
fn options() -> impl Strategy<Value = TcpOptionList> {
    let blocks = prop::collection::vec(any::<(u32, u32)>(), 1..5);
    let one = prop_oneof![
        4 => Just(None),
        3 => any::<(u32, u32)>().prop_map(|(value, echo)| Some(TcpOptionList::new().timestamps(value, echo))),
        3 => blocks.prop_map(|blocks| Some(TcpOptionList::new().sack(&blocks))),
        1 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..6))
            .prop_map(|(kind, bytes)| Some(TcpOptionList::new().option(kind, &bytes))),
        1 => prop::collection::vec(any::<u8>(), 1..8).prop_map(|bytes| Some(TcpOptionList::new().raw(&bytes))),
    ];
    prop::collection::vec(one, 0..6).prop_map(|all| {
        all.into_iter().fold(TcpOptionList::new(), |list, option| match option {
            None => list.no_operation(),
            // A list is padded with no-operations to a whole word; not all of them, so that offsets are odd.
            Some(option) => {
                let bytes = option.as_slice();
                let end = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 1).count().min(3);
                list.raw(&bytes[..end])
            }
        })
    })
}

prop_compose! {
    fn frames()(
        side in side(), v6: bool, tag_count in 0u8..3, seq in number(), ack in number(), flags in 0u16..0x200,
        window: u16, options in options(), payload in prop::collection::vec(any::<u8>(), 0..100),
    ) -> (Side, Vec<u8>) {
        let around = if v6 { fixture::envelope_v6(side) } else { fixture::envelope(side) };
        let segment = Segment {
            flags: TcpFlags(flags), window, options, payload: &payload, ..fixture::segment(side, TcpFlags::NONE, seq, ack)
        };
        (side, fixture::frame(&Envelope { tags: [0; 2], tag_count, ..around }, &segment))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_rewrite_in_place_is_what_the_oracle_writes_anew(flow in handshakes(), (side, mut frame) in frames()) {
        let expected = translated(&flow, side, &frame);
        translate(&translation(&flow), side, Checksum::Complete, &mut frame);
        prop_assert_eq!(frame, expected);
    }

    /// I3.
    #[test]
    fn a_checksum_holds_afterwards_if_and_only_if_it_held_before(
        flow in handshakes(), (side, mut frame) in frames(), damage in prop::option::of((any::<prop::sample::Index>(), 1u8..)),
    ) {
        let layout = Layout::of(&frame).unwrap();
        if let Some((at, bits)) = damage {
            // Anywhere but in the length of the header, and where options are told from each other.
            let start = usize::from(layout.transport_at);
            let at = start + at.index(frame.len() - start);
            prop_assume!(at != start + 12);
            frame[at] ^= bits;
        }
        let held = layout.transport_checksum_holds(&frame);
        prop_assert_eq!(held, damage.is_none());
        let residue = |frame: &[u8]| {
            let tcp = tcp(frame);
            let sum = u32::from(tcp.computed_checksum(layout.pseudo_header(frame))) + u32::from(!tcp.checksum());
            // Both zeros are the same.
            (sum % 0xffff) as u16
        };
        let before = residue(&frame);
        translate(&translation(&flow), side, Checksum::Complete, &mut frame);
        prop_assert_eq!(layout.transport_checksum_holds(&frame), held);
        prop_assert_eq!(residue(&frame), before, "what was wrong is as wrong as it was");
    }

    /// I4.
    #[test]
    fn a_translation_can_be_undone(flow in handshakes(), (side, frame) in frames()) {
        let forth = Translation { windows: Windows::default(), strip: Strip::NOTHING, ..translation(&flow) };
        let back = Translation {
            delta: forth.delta.wrapping_neg(), clock: forth.clock.wrapping_neg(), ..forth
        };
        let mut there = frame.clone();
        translate(&forth, side, Checksum::Complete, &mut there);
        translate(&back, side, Checksum::Complete, &mut there);
        prop_assert_eq!(there, frame);
    }

    /// I16, as far as bytes go: the translator adds that it passes or eats them.
    #[test]
    fn any_segment_is_translated_without_panic_and_keeps_its_length(
        flow in handshakes(), side in side(), mut bytes in prop::collection::vec(any::<u8>(), 20..80), words in 5u8..16,
    ) {
        bytes[12] = bytes[12] & 0xf | words << 4;
        let (before, header) = (bytes.clone(), usize::from(words) * 4);
        if let Ok(mut tcp) = gimlet_wire::TcpView::new(&mut bytes[..]) {
            translation(&flow).apply(side, Checksum::Complete, &mut tcp);
            prop_assert_eq!(&bytes[header..], &before[header..], "payload stays");
            prop_assert_eq!(&bytes[..4], &before[..4], "ports stay");
        } else {
            prop_assert!(header > before.len());
        }
    }

    /// I8.
    #[test]
    fn no_window_is_shown_that_the_server_did_not_open(flow in handshakes(), window: u16) {
        let (client, promised, server) = flow.shifts;
        let shown = u64::from(translation(&flow).windows.to_client(window));
        let scales = client.is_some() && promised.is_some();
        let by = |shift: Option<u8>| if scales { shift.unwrap_or(0).min(14) } else { 0 };
        prop_assert!(shown << by(promised) <= u64::from(window) << by(server));
    }
}

#[test]
fn the_oracle_knows_a_wrong_rule() {
    let flow = Handshake {
        ours: 0xffff_fff0,
        servers: 0x20,
        our_clock: 0,
        servers_clock: 0,
        shifts: (None, None, None),
        no_sack: false,
        no_timestamps: false,
        no_ecn: false,
    };
    // What the original design does: SEQ of the client and ACK of the server, the two that must not move.
    let segment = fixture::segment(Side::Client, TcpFlags::ACK, 0xffff_ff01, 0xffff_fff1);
    let right = translated(&flow, Side::Client, &fixture::frame(&fixture::envelope(Side::Client), &segment));
    let wrong = Segment { seq: segment.seq.wrapping_add(fixture::D), ..segment };
    assert_ne!(right, fixture::frame(&fixture::envelope(Side::Client), &wrong));
    assert_eq!((tcp(&right).seq(), tcp(&right).ack()), (0xffff_ff01, 0x21));
}

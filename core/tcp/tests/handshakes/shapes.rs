//! Frames of every shape through the machine: tags, extension headers, fragments, trains, ICMP errors.

use gimlet_machine::{Buf, Input, Instant, Machine, Verdict};
use gimlet_tcp::{Checksum, Leg, Role, Translation, Windows};
use gimlet_testkit::Checked;
use gimlet_wire::{Envelope, Layout, Segment, TcpFlags, TcpOptionList};
use proptest::prelude::*;

use crate::lab::{ACK, C, CI, Lab, PSH, Ready, S, SR, SYN, Seg, T, syn, syn_ack};

/// A tag that is in the bytes, and one behind it.
const TAGS: [u16; 2] = [0x2064, 42];

fn ready() -> (Lab, Ready) {
    let mut lab = Lab::warm(Role::Single);
    let ready = lab.ready();
    (lab, ready)
}

/// What the rule makes of a frame of the flow, whatever its shape.
fn ruled(ready: Ready, leg: Leg, frame: &[u8]) -> Vec<u8> {
    let rule = Translation {
        delta: ready.isn.wrapping_sub(SR),
        clock: ready.clock.wrapping_sub(T),
        windows: Windows::default(),
        ..Translation::IDENTITY
    };
    let mut frame = frame.to_vec();
    let layout = Layout::of(&frame).expect("a frame");
    rule.apply(leg.side, leg.checksum, &mut layout.tcp_mut(&mut frame).expect("a segment"));
    frame
}

/// Puts `headers` between the IP header and the segment of an IPv6 frame without any.
fn extended(mut frame: Vec<u8>, first: u8, headers: &[u8]) -> Vec<u8> {
    frame.splice(54..54, headers.iter().copied());
    let payload = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&payload.to_be_bytes());
    frame[20] = first;
    frame
}

fn v6(envelope: Envelope) -> Envelope {
    let wide = |address| match address {
        core::net::IpAddr::V4(address) => address.to_ipv6_compatible().into(),
        core::net::IpAddr::V6(_) => address,
    };
    Envelope { source: wide(envelope.source), destination: wide(envelope.destination), ..envelope }
}

/// A frame as it passed, if it did, and what was said besides.
type Reaction = (Option<Vec<u8>>, Vec<(Leg, Vec<u8>)>);

/// A translator alone, for frames that the lab does not write.
struct Alone {
    machine: Checked<gimlet_tcp::Translator>,
    now: Instant,
}

impl Alone {
    fn new() -> Self {
        let mut config = crate::lab::config(Role::Single);
        let everyone = gimlet_tcp::Block::new(core::net::Ipv6Addr::UNSPECIFIED.into(), 0).expect("a block");
        config.allowed.push(gimlet_tcp::Allow { servers: everyone, ports: 1..=65_535, idempotent: false });
        let machine = gimlet_tcp::Translator::new(Instant::ZERO, gimlet_machine::Rng::from_u64(3), config);
        Self { machine: Checked::new(machine.expect("a good configuration")), now: Instant::ZERO }
    }

    fn hears(&mut self, leg: Leg, frame: &[u8]) -> Reaction {
        let mut frame = frame.to_vec();
        // To foresee changes nothing, whether it is done or not.
        if frame.len().is_multiple_of(2) {
            self.machine.inner().foresee(leg, &frame);
        }
        let passed = match self.machine.handle_input(self.now, Input::new(leg, &mut frame)) {
            Verdict::Pass { path, .. } => {
                assert_eq!(path, leg.across(), "all that the driver said about it goes along");
                Some(frame)
            }
            Verdict::Consumed | Verdict::NotMine => None,
        };
        let (mut out, mut said) = (Vec::new(), Vec::new());
        while let Some(transmit) = self.machine.poll_transmit(self.now, &mut Buf::new(&mut out)) {
            said.push((transmit.path, out.clone()));
        }
        while self.machine.poll_event().is_some() {}
        (passed, said)
    }

    /// Learns the destination and joins a flow whose frames all look like `around` makes them, with `tag` beside.
    fn join(&mut self, around: fn(Envelope) -> Envelope, tag: Option<u16>) -> Ready {
        let leg = |side| Leg { tag, ..Leg::new(side) };
        let frame = |segment: &Seg| segment.frame_in(&around(segment.envelope()));
        let first = |segment: Seg| frame(&segment.port(39_999));
        self.hears(leg(C), &first(syn()));
        self.hears(leg(S), &first(syn_ack()));
        let (passed, said) = self.hears(leg(C), &frame(&syn()));
        assert_eq!(passed, Some(frame(&syn())));
        let [(path, spoof)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(*path, leg(C), "the answer carries the tag that the driver holds");
        let (ours, theirs) = (Layout::of(spoof).unwrap(), Layout::of(&frame(&syn())).unwrap());
        assert_eq!(ours.tags(), theirs.tags(), "and those in the bytes");
        let ready = Ready::new(&Seg::read(C, spoof));
        self.hears(leg(S), &frame(&syn_ack()));
        let (_, said) = self.hears(leg(C), &frame(&ready.client(ACK, 0)));
        assert!(said.iter().all(|(path, _)| *path == leg(S)), "{said:?}");
        ready
    }
}

#[test]
fn case_23_flows_of_tagged_frames_are_flows_of_their_vlan() {
    let once = |envelope| Envelope { tags: [TAGS[0], 0], tag_count: 1, ..envelope };
    let twice = |envelope| Envelope { tags: TAGS, tag_count: 2, ..envelope };
    let plain = |envelope| envelope;
    for (around, tag) in [
        (plain as fn(Envelope) -> Envelope, None),
        (plain, Some(42)),
        (once, None),
        (once, Some(42)),
        (twice, None),
        (v6, None),
        (v6, Some(0)),
    ] {
        let mut alone = Alone::new();
        let ready = alone.join(around, tag);
        for segment in [ready.server(ACK | PSH, 0, 0).data(b"news"), ready.client(ACK | PSH, 0).data(b"ask")]
        {
            let frame = segment.frame_in(&around(segment.envelope()));
            let leg = Leg { tag, ..Leg::new(segment.side) };
            assert_eq!(alone.hears(leg, &frame), (Some(ruled(ready, leg, &frame)), vec![]));
            // The same ends in another VLAN are strangers.
            let other = Leg { tag: Some(77), ..leg };
            assert_eq!(alone.hears(other, &frame), (Some(frame.clone()), vec![]), "{tag:?}");
        }
    }
}

#[test]
fn frames_with_more_tags_than_a_key_has_pass_untouched() {
    let (around, leg) = (|envelope| Envelope { tags: TAGS, tag_count: 2, ..envelope }, Leg::new(C));
    let mut alone = Alone::new();
    alone.join(around, None);
    let frame = syn().frame_in(&around(syn().envelope()));
    let third = Leg { tag: Some(1), ..leg };
    assert_eq!(alone.hears(third, &frame), (Some(frame), vec![]));
}

#[test]
fn case_20_authenticated_segments_pass_untouched_and_others_are_found_behind_their_headers() {
    let mut alone = Alone::new();
    let ready = alone.join(v6, None);
    let segment = ready.server(ACK | PSH, 0, 0).data(b"news");
    let frame = segment.frame_in(&v6(segment.envelope()));
    let options = [[60, 0, 1, 4, 0, 0, 0, 0], [6, 0, 1, 4, 0, 0, 0, 0]].concat();
    let options = extended(frame.clone(), 0, &options);
    let ruled = ruled(ready, Leg::new(S), &options);
    assert_ne!(ruled, options);
    assert_eq!(alone.hears(Leg::new(S), &options), (Some(ruled), vec![]));

    // RFC 4302 §2: next header, four words more than two, and then what vouches for the rest.
    let sealed = [[6, 4, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 9, 9, 9, 9], [9; 8]].concat();
    let sealed = extended(frame, 51, &sealed);
    assert_eq!(alone.hears(Leg::new(S), &sealed), (Some(sealed), vec![]));
}

#[test]
fn case_21_of_a_segment_in_fragments_the_first_alone_changes() {
    let (mut lab, ready) = ready();
    let whole = ready.server(ACK, 0, 0).data(&[0x5a; 100]).frame();
    let cut = |range: core::ops::Range<usize>, field: u16| {
        let mut part = [&whole[..34], &whole[34..][range]].concat();
        let length = (part.len() - 14) as u16;
        part[16..18].copy_from_slice(&length.to_be_bytes());
        part[20..22].copy_from_slice(&field.to_be_bytes());
        part
    };
    let (first, second, tiny) = (cut(0..64, 0x2000), cut(64..132, 8), cut(0..16, 0x2000));
    // Out of order, as fragments may come.
    lab.hear_frame(Leg::new(S), &second);
    assert_eq!(lab.frame_to(C), second);
    lab.hear_frame(Leg::new(S), &first);
    assert_eq!(lab.frame_to(C), ruled(ready, Leg::new(S), &first));
    let before = lab.counters().fragments;
    lab.hear_frame(Leg::new(S), &tiny);
    assert_eq!((lab.frame_to(C), lab.counters().fragments), (tiny, before + 1));
}

#[test]
fn case_22_a_train_with_a_partial_checksum_is_translated_as_one() {
    let (mut lab, ready) = ready();
    let mut train = ready.server(ACK, 0, 0).data(&vec![7; 45_000]).frame();
    let layout = Layout::of(&train).unwrap();
    let pseudo = !layout.pseudo_header(&train).finish();
    layout.tcp_mut(&mut train).unwrap().set_checksum(pseudo);
    let leg = Leg { checksum: Checksum::Partial, gso: 1_448, ..Leg::new(S) };
    lab.hear_frame(leg, &train);
    let found = lab.frame_to(C);
    assert_eq!(found, ruled(ready, leg, &train));
    let tcp = layout.tcp(&found).unwrap();
    assert_eq!((tcp.checksum(), tcp.seq(), found.len()), (pseudo, ready.isn.wrapping_add(1), train.len()));
}

/// An ICMP error from `side` that quotes a segment as it left on that side.
fn too_big(side: gimlet_tcp::Side, around: fn(Envelope) -> Envelope, quoted: &Seg, shown: usize) -> Vec<u8> {
    let packet = quoted.frame_in(&around(quoted.envelope()));
    let layout = Layout::of(&packet).unwrap();
    let start = usize::from(layout.network_at);
    let end = (usize::from(layout.transport_at) + shown).min(packet.len());
    let mut frame = Vec::new();
    let envelope = around(Seg::of(side, ACK, 0, 0).envelope());
    envelope.write_packet_too_big(&mut frame, 1_280, &packet[start..end]);
    frame
}

#[test]
fn case_24_and_25_errors_quote_what_their_receiver_sent() {
    for around in [(|envelope| envelope) as fn(Envelope) -> Envelope, v6] {
        let mut alone = Alone::new();
        let ready = alone.join(around, None);
        for shown in [8, 20, 60] {
            // A router on the client's side about the server's data, as the client was to get it.
            let sent = Seg { options: TcpOptionList::new(), ..ready.server(ACK, 7, 0).data(&[1; 40]) };
            let got = Seg { seq: ready.isn.wrapping_add(8), ..sent.clone() };
            let error = too_big(C, around, &got, shown);
            let (passed, said) = alone.hears(Leg::new(C), &error);
            assert_eq!((passed, said), (Some(too_big(C, around, &sent, shown)), vec![]));

            // A router on the server's side about the client's data, as the server was to get it.
            let sent = Seg { options: TcpOptionList::new(), ..ready.client(ACK, 7).data(&[1; 40]) };
            let got = Seg { ack: SR + 1, ..sent.clone() };
            let error = too_big(S, around, &got, shown);
            let (passed, said) = alone.hears(Leg::new(S), &error);
            let shows_ack = shown > 8;
            let expected = if shows_ack { too_big(S, around, &sent, shown) } else { error };
            assert_eq!((passed, said), (Some(expected), vec![]));
        }
    }
}

#[test]
fn case_26_an_error_about_nobodys_segment_passes_untouched_and_is_counted() {
    let (mut lab, ready) = ready();
    for (nth, side) in [C, S].into_iter().enumerate() {
        let quoted = if side == C { ready.server(ACK, 7, 0) } else { ready.client(ACK, 7) };
        let error = too_big(side, |envelope| envelope, &quoted.port(50_000), 20);
        lab.hear_frame(Leg::new(side), &error);
        assert_eq!(lab.frame_to(side.across()), error);
        assert_eq!(lab.counters().quotes_unknown, nth as u64 + 1);
    }
    assert_eq!(lab.counters().quotes_translated, 0);
}

prop_compose! {
    fn segments()(
        from_client: bool, flags in 0u16..0x200, seq: u32, ack: u32, window: u16,
        stamps in prop::option::of((any::<u32>(), any::<u32>())), blocks in prop::collection::vec(any::<(u32, u32)>(), 0..3),
        aligned: bool, payload in prop::collection::vec(any::<u8>(), 0..40),
    ) -> (gimlet_tcp::Side, Segment<'static>, Vec<u8>) {
        let mut options = TcpOptionList::new();
        if aligned {
            options = options.no_operation().no_operation();
        }
        if let Some((value, echo)) = stamps {
            options = options.timestamps(value, echo);
        }
        if !blocks.is_empty() {
            options = options.sack(&blocks);
        }
        // Segments with SYN, FIN or RST do more than to be translated.
        let flags = TcpFlags(flags) & !(SYN | TcpFlags::FIN | TcpFlags::RST);
        let (source_port, destination_port) = if from_client { (40_000, 8_080) } else { (8_080, 40_000) };
        let segment = Segment { source_port, destination_port, seq, ack, flags, window, options, payload: &[] };
        (if from_client { C } else { S }, segment, payload)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The short way of usual frames and the long way of all others are one rule.
    #[test]
    fn whatever_the_shape_the_rule_is_the_same(
        segments in prop::collection::vec(segments(), 1..40), is_v6: bool, partial: bool, padding in 0usize..4, routed: bool,
    ) {
        let around = if is_v6 { v6 } else { |envelope| envelope };
        let mut alone = Alone::new();
        let ready = alone.join(around, None);
        for (side, segment, payload) in segments {
            let mut frame = Vec::new();
            let envelope = around(Seg::of(side, ACK, 0, 0).envelope());
            envelope.write(&mut frame, &Segment { payload: &payload, ..segment });
            if routed && is_v6 {
                frame = extended(frame, 60, &[6, 0, 1, 4, 0, 0, 0, 0]);
            } else if routed {
                // Four bytes of IPv4 options that do nothing.
                frame.splice(34..34, [1, 1, 1, 0]);
                frame[14] = 0x46;
                let total = (frame.len() - 14) as u16;
                frame[16..18].copy_from_slice(&total.to_be_bytes());
            }
            frame.resize(frame.len() + padding, 0);
            let checksum = if partial { Checksum::Partial } else { Checksum::Complete };
            let leg = Leg { checksum, ..Leg::new(side) };
            prop_assert_eq!(alone.hears(leg, &frame), (Some(ruled(ready, leg, &frame)), vec![]));
        }
    }
}

#[test]
fn the_numbers_of_these_tests_are_those_of_the_lab() {
    let (_, ready) = ready();
    assert_ne!((ready.isn, ready.clock), (SR, T), "or nothing would be translated");
    assert_eq!(ready.client(ACK, 0).seq, CI.wrapping_add(1));
}

//! Frames: ours read by etherparse, and hostile ones read by both.

use std::net::IpAddr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use gimlet_wire::*;
use proptest::prelude::*;

const CLIENT: &str = "10.0.0.1";
const SERVER: &str = "10.0.0.2";

fn envelope(source: &str, destination: &str) -> Envelope {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    let ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    Envelope::new(ethernet, source, destination)
}

fn acknowledgement(ack: u32) -> Segment<'static> {
    Segment {
        source_port: 40_000,
        destination_port: 8080,
        seq: 0xffff_ff01,
        ack,
        flags: TcpFlags::ACK,
        window: 502,
        options: TcpOptionList::new(),
        payload: &[],
    }
}

fn frame_of(envelope: &Envelope, segment: &Segment<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    envelope.write(&mut frame, segment);
    frame
}

fn checksum_of(frame: &[u8]) -> u16 {
    Layout::of(frame).unwrap().tcp(frame).unwrap().checksum()
}

#[test]
fn a_known_segment_has_its_known_checksum_before_and_after_translation() {
    let before = frame_of(&envelope(CLIENT, SERVER), &acknowledgement(0xffff_fff1));
    let after = frame_of(&envelope(CLIENT, SERVER), &acknowledgement(0x21));
    assert_eq!((checksum_of(&before), checksum_of(&after)), (0xdf17, 0xdee8));
    assert_eq!(Sum::from_checksum(0xdf17).replace_u32(0xffff_fff1, 0x21).finish(), 0xdee8);
}

#[test]
fn extension_headers_are_walked_to_the_transport_header() {
    let mut frame = frame_of(&envelope("fd00::1", "fd00::2"), &acknowledgement(1));
    // Hop-by-hop options of 8 bytes, destination options of 16.
    let extensions = [[60, 0, 1, 4, 0, 0, 0, 0], [6, 1, 1, 12, 0, 0, 0, 0], [0; 8]].concat();
    frame.splice(54..54, extensions);
    frame[20] = 0;
    frame[18..20].copy_from_slice(&44u16.to_be_bytes());
    let layout = Layout::of(&frame).unwrap();
    assert_eq!((layout.transport, layout.transport_at, layout.end), (Transport::Tcp, 78, 98));
    assert!(!layout.options && layout.transport_checksum_holds(&frame));

    // A routing header in their place is one that somebody should know about.
    frame[20] = 43;
    assert!(Layout::of(&frame).unwrap().options);
    // An authentication header is opaque.
    frame[20] = 51;
    assert_eq!(Layout::of(&frame).unwrap().transport, Transport::Other(51));
    // A header that claims more than the packet has.
    (frame[20], frame[55]) = (60, 10);
    assert_eq!(Layout::of(&frame), Err(Malformed::Truncated));
}

#[test]
fn extension_headers_have_an_end() {
    let chain = |count: usize, words: u8| {
        let length = 8 + usize::from(words) * 8;
        let mut frame = frame_of(&envelope("fd00::1", "fd00::2"), &acknowledgement(1));
        for nth in 0..count {
            let mut header = vec![0; length];
            (header[0], header[1]) = (if nth == 0 { 6 } else { 60 }, words);
            frame.splice(54..54, header);
        }
        frame[20] = if count == 0 { 6 } else { 60 };
        let payload = (20 + count * length) as u16;
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        Layout::of(&frame).map(|layout| usize::from(layout.transport_at) - 54)
    };
    assert_eq!(chain(0, 0), Ok(0));
    assert_eq!(chain(EXTENSIONS_MAX, 0), Ok(64));
    assert_eq!(chain(EXTENSIONS_MAX + 1, 0), Err(Malformed::Extensions));
    assert_eq!(chain(1, 31), Ok(EXTENSION_BYTES_MAX));
    assert_eq!(chain(1, 32), Err(Malformed::Extensions));
}

#[test]
fn fragments_say_which_part_they_are() {
    let mut frame = frame_of(&envelope(CLIENT, SERVER), &acknowledgement(1));
    let part = |frame: &[u8]| Layout::of(frame).unwrap().fragment;
    for (field, expected) in [
        (0x4000u16, Fragment::Whole),
        (0x0000, Fragment::Whole),
        (0x2000, Fragment::First),
        (0x2001, Fragment::Later),
        (0x0001, Fragment::Later),
    ] {
        frame[20..22].copy_from_slice(&field.to_be_bytes());
        assert_eq!(part(&frame), expected, "{field:04x}");
    }

    let mut frame = frame_of(&envelope("fd00::1", "fd00::2"), &acknowledgement(1));
    frame.splice(54..54, [6, 0, 0, 0, 0, 0, 0, 1]);
    (frame[19], frame[20]) = (28, 44);
    // RFC 6946: a fragment that is all there is.
    for (field, expected) in [(0u16, Fragment::Whole), (1, Fragment::First), (8, Fragment::Later)] {
        frame[56..58].copy_from_slice(&field.to_be_bytes());
        assert_eq!((part(&frame), Layout::of(&frame).unwrap().transport_at), (expected, 62), "{field:04x}");
    }
}

#[test]
fn tags_are_counted_and_a_third_is_too_many() {
    let tagged = |count: u8| {
        let tags = [0x2064, 42];
        let envelope = Envelope { tags, tag_count: count.min(2), ..envelope(CLIENT, SERVER) };
        let mut frame = frame_of(&envelope, &acknowledgement(1));
        if count > 2 {
            frame.splice(12..12, [0x88, 0xa8, 0, 7]);
        }
        frame
    };
    for count in 0..=2 {
        let frame = tagged(count);
        let layout = Layout::of(&frame).unwrap();
        assert_eq!(layout.tags(), &[0x2064, 42][..usize::from(count)]);
        assert_eq!(usize::from(layout.network_at), ETHERNET_HEADER + usize::from(count) * 4);
        assert_eq!(layout.tcp(&frame).unwrap().window(), 502);
        assert_eq!(Envelope::of(&frame, &layout).reversed().reversed(), Envelope::of(&frame, &layout));
    }
    assert_eq!(Layout::of(&tagged(3)), Err(Malformed::Tags));
}

#[test]
fn what_is_not_a_packet_is_refused_with_its_reason() {
    let good = frame_of(&envelope(CLIENT, SERVER), &acknowledgement(1));
    let with = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        Layout::of(&frame)
    };
    assert_eq!(Layout::of(&good[..13]), Err(Malformed::Truncated));
    assert_eq!(Layout::of(&good[..33]), Err(Malformed::Truncated));
    assert_eq!(Layout::of(&good[..53]), Err(Malformed::TotalLength));
    assert_eq!(with(13, 6), Err(Malformed::NotIp(0x0806)));
    assert_eq!(with(14, 0x65), Err(Malformed::Version));
    assert_eq!(with(14, 0x44), Err(Malformed::HeaderLength));
    assert_eq!(with(17, 19), Err(Malformed::TotalLength));
    assert_eq!(with(17, 41), Err(Malformed::TotalLength));
    let v6 = frame_of(&envelope("fd00::1", "fd00::2"), &acknowledgement(1));
    let mut jumbogram = v6.clone();
    jumbogram[19] = 0;
    assert_eq!(Layout::of(&jumbogram), Err(Malformed::TotalLength));
    assert_eq!(Layout::of(&v6[..53]), Err(Malformed::Truncated));

    let segment = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        Layout::of(&frame).unwrap().tcp(&frame).map(|tcp| tcp.header_len())
    };
    assert_eq!(segment(46, 0x40), Err(MalformedTcp::DataOffset));
    assert_eq!(segment(46, 0x60), Err(MalformedTcp::Truncated));
    assert_eq!(segment(17, 39), Err(MalformedTcp::Truncated));
}

#[test]
fn options_are_found_where_they_are() {
    let sack = TcpOptionList::new().no_operation().sack(&[(1, 2), (0xffff_ffff, 5)]);
    let all: Vec<_> = TcpOptions::new(sack.as_slice(), 20).map(Result::unwrap).collect();
    assert_eq!(all[0], (20, TcpOption::NoOperation));
    let (21, TcpOption::Sack(blocks)) = all[1] else { panic!("{all:?}") };
    assert_eq!(blocks.edges().collect::<Vec<_>>(), [(1, 2), (0xffff_ffff, 5)]);

    let list = TcpOptionList::new()
        .maximum_segment_size(1460)
        .window_scale(7)
        .sack_permitted()
        .timestamps(1, 2)
        .fast_open(&[9; 8])
        .option(200, &[5]);
    let read: Vec<_> = TcpOptions::new(list.as_slice(), 20).map(|option| option.unwrap()).collect();
    let expected = [
        (20, TcpOption::MaximumSegmentSize(1460)),
        (24, TcpOption::WindowScale(7)),
        (27, TcpOption::SackPermitted),
        (29, TcpOption::Timestamps { value: 1, echo: 2 }),
        (39, TcpOption::FastOpen(&[9; 8])),
        (49, TcpOption::Other { kind: 200, bytes: &[5] }),
    ];
    assert_eq!(read, expected);
    assert!(!list.is_full() && list.option(1, &[0; 7]).is_full());
}

#[test]
fn options_that_lie_about_their_length_end_the_list() {
    fn last(bytes: &[u8]) -> Result<(usize, TcpOption<'_>), MalformedOption> {
        TcpOptions::new(bytes, 20).last().unwrap()
    }
    assert_eq!(last(&[8, 0, 1, 1]), Err(MalformedOption::Length { at: 20, kind: 8 }));
    assert_eq!(last(&[1, 200, 1, 1]), Err(MalformedOption::Length { at: 21, kind: 200 }));
    assert_eq!(last(&[2, 3, 1, 1]), Err(MalformedOption::Length { at: 20, kind: 2 }));
    assert_eq!(
        last(&[5, 11, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        Err(MalformedOption::Length { at: 20, kind: 5 })
    );
    assert_eq!(last(&[1, 1, 8, 10]), Err(MalformedOption::Truncated { at: 22, kind: 8 }));
    assert_eq!(last(&[1, 1, 1, 8]), Err(MalformedOption::Truncated { at: 23, kind: 8 }));
    assert_eq!(last(&[1, 0, 8, 0]), Ok((21, TcpOption::EndOfList)));
    assert!(TcpOptions::new(&[], 20).next().is_none());
}

#[test]
fn an_icmp_error_shows_the_segment_that_it_quotes() {
    for (ours, theirs) in [(CLIENT, SERVER), ("fd00::1", "fd00::2")] {
        let inner = frame_of(&envelope(ours, theirs), &acknowledgement(0xffff_fff1));
        let packet = &inner[Layout::of(&inner).unwrap().packet_range()];
        let header = packet.len() - 20;
        for (kept, ack, flags) in
            [(20, Some(0xffff_fff1), Some(TcpFlags::ACK)), (12, Some(0xffff_fff1), None), (8, None, None)]
        {
            let mut frame = Vec::new();
            envelope(theirs, ours).write_packet_too_big(&mut frame, 1400, &packet[..header + kept]);
            let layout = Layout::of(&frame).unwrap();
            assert!(layout.transport_checksum_holds(&frame));
            let quote = IcmpQuote::of(&frame, &layout).unwrap().expect("an error");
            assert_eq!(quote.error, IcmpError::PacketTooBig { mtu: 1400 });
            assert_eq!(quote.packet.addresses(&frame), (ours.parse().unwrap(), theirs.parse().unwrap()));
            let segment = quote.segment(&frame).expect("eight bytes suffice");
            let ports = (segment.source_port, segment.destination_port);
            assert_eq!((ports, segment.seq), ((40_000, 8080), 0xffff_ff01));
            assert_eq!((segment.ack, segment.flags), (ack, flags));
        }
        let mut frame = Vec::new();
        envelope(theirs, ours).write_packet_too_big(&mut frame, 1400, &packet[..header + 7]);
        let quote = IcmpQuote::of(&frame, &Layout::of(&frame).unwrap()).unwrap().unwrap();
        assert_eq!(quote.segment(&frame), None);
        let mut frame = Vec::new();
        envelope(theirs, ours).write_packet_too_big(&mut frame, 1400, &packet[..header - 1]);
        assert_eq!(IcmpQuote::of(&frame, &Layout::of(&frame).unwrap()), Err(Malformed::Truncated));
    }
}

#[test]
fn only_errors_quote_and_some_of_them_are_hard() {
    let inner = frame_of(&envelope(CLIENT, SERVER), &acknowledgement(1));
    let mut frame = Vec::new();
    envelope(SERVER, CLIENT).write_packet_too_big(&mut frame, 1400, &inner[14..]);
    let mut read = |kind: u8, code: u8| {
        (frame[34], frame[35]) = (kind, code);
        IcmpQuote::of(&frame, &Layout::of(&frame).unwrap()).unwrap().map(|quote| quote.error)
    };
    assert_eq!((read(0, 0), read(8, 0)), (None, None), "echo");
    for (kind, code, hard) in [
        (3, 0, false),
        (3, 1, false),
        (3, 2, true),
        (3, 3, true),
        (3, 4, false),
        (3, 9, true),
        (3, 10, true),
        (3, 13, true),
        (4, 0, false),
        (11, 0, false),
        (12, 0, false),
    ] {
        assert_eq!(read(kind, code).map(IcmpError::is_hard), Some(hard), "{kind}/{code}");
    }
}

fn flags() -> impl Strategy<Value = TcpFlags> {
    (0u16..0x200).prop_map(TcpFlags)
}

fn options() -> impl Strategy<Value = TcpOptionList> {
    prop::collection::vec(0u8..6, 0..5).prop_map(|kinds| {
        kinds.into_iter().fold(TcpOptionList::new(), |list, kind| match kind {
            0 => list.maximum_segment_size(1460),
            1 => list.window_scale(7),
            2 => list.sack_permitted(),
            3 => list.timestamps(0x1122_3344, 0x5566_7788),
            4 => list.sack(&[(1, 2)]),
            _ => list.no_operation(),
        })
    })
}

prop_compose! {
    fn segments()(
        ports: (u16, u16), seq: u32, ack: u32, flags in flags(), window: u16, options in options(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) -> (Segment<'static>, Vec<u8>) {
        let (source_port, destination_port) = ports;
        (Segment { source_port, destination_port, seq, ack, flags, window, options, payload: &[] }, payload)
    }
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let addresses = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ];
    (any::<[u8; 12]>(), 0u8..3, addresses, any::<(u8, u8)>(), 0u32..0x10_0000).prop_map(
        |(ethernet, tag_count, (source, destination), (hop_limit, traffic_class), label)| Envelope {
            ethernet,
            tags: [if tag_count > 0 { 7 } else { 0 }, if tag_count > 1 { 42 } else { 0 }],
            tag_count,
            source,
            destination,
            hop_limit,
            traffic_class,
            flow_label: if source.is_ipv6() { label } else { 0 },
        },
    )
}

/// What etherparse takes for the TCP header of `frame`: its offset, and the whole packet's view of it.
fn theirs(frame: &[u8]) -> Option<(usize, etherparse::TcpSlice<'_>)> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let authenticated = match sliced.net.as_ref()? {
        NetSlice::Ipv4(packet) => packet.extensions().auth.is_some(),
        NetSlice::Ipv6(packet) => packet
            .extensions()
            .clone()
            .into_iter()
            .any(|header| matches!(header, etherparse::Ipv6ExtensionSlice::Authentication(_))),
        NetSlice::Arp(_) => true,
    };
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return None };
    (!authenticated && sliced.link_exts.len() <= TAGS_MAX)
        .then(|| (tcp.slice().as_ptr() as usize - frame.as_ptr() as usize, tcp))
}

proptest! {
    #[test]
    fn a_frame_of_ours_is_read_alike_by_etherparse(
        envelope in envelopes(), (segment, payload) in segments(),
    ) {
        let segment = Segment { payload: &payload, ..segment };
        let frame = frame_of(&envelope, &segment);
        let layout = Layout::of(&frame).unwrap();
        prop_assert_eq!(Envelope::of(&frame, &layout), envelope);
        let ours = layout.tcp(&frame).unwrap();
        let (at, tcp) = theirs(&frame).expect("etherparse reads it");
        prop_assert_eq!(at, usize::from(layout.transport_at));
        prop_assert_eq!((tcp.source_port(), tcp.destination_port()), (ours.source_port(), ours.destination_port()));
        prop_assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (ours.seq(), ours.ack()));
        prop_assert_eq!((tcp.syn(), tcp.ack(), tcp.fin(), tcp.rst()), (
            ours.flags().contains(TcpFlags::SYN), ours.flags().contains(TcpFlags::ACK),
            ours.flags().contains(TcpFlags::FIN), ours.flags().contains(TcpFlags::RST),
        ));
        prop_assert_eq!((tcp.window_size(), tcp.payload()), (ours.window(), &payload[..]));
        let computed = match (envelope.source, envelope.destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => tcp.calc_checksum_ipv4(a.octets(), b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => tcp.calc_checksum_ipv6(a.octets(), b.octets()),
            _ => unreachable!("one family"),
        };
        prop_assert_eq!(computed.unwrap(), ours.checksum());
        prop_assert_eq!(ours.computed_checksum(layout.pseudo_header(&frame)), ours.checksum());
        prop_assert!(layout.transport_checksum_holds(&frame));
        if let Some(NetSlice::Ipv4(ip)) = SlicedPacket::from_ethernet(&frame).unwrap().net {
            prop_assert_eq!(ip.header().to_header().calc_header_checksum(), ip.header().header_checksum());
        }
        let ours: Vec<_> = ours.options().flatten().map(|(_, option)| option).collect();
        for (option, theirs) in ours.iter().filter(|o| **o != TcpOption::NoOperation).zip(
            tcp.options_iterator().map(Result::unwrap)
                .filter(|theirs| *theirs != etherparse::TcpOptionElement::Noop),
        ) {
            use etherparse::TcpOptionElement as Theirs;
            let same = match (*option, theirs) {
                (TcpOption::MaximumSegmentSize(a), Theirs::MaximumSegmentSize(b)) => a == b,
                (TcpOption::WindowScale(a), Theirs::WindowScale(b)) => a == b,
                (TcpOption::SackPermitted, Theirs::SelectiveAcknowledgementPermitted) => true,
                (TcpOption::Timestamps { value, echo }, Theirs::Timestamp(a, b)) => (value, echo) == (a, b),
                (TcpOption::Sack(blocks), Theirs::SelectiveAcknowledgement(first, _)) => {
                    blocks.edges().next() == Some(first)
                }
                _ => false,
            };
            prop_assert!(same, "{option:?}");
        }
    }

    #[test]
    fn setting_fields_changes_those_fields_alone(
        envelope in envelopes(), (segment, payload) in segments(), (other, _) in segments(),
    ) {
        let mut frame = frame_of(&envelope, &Segment { payload: &payload, ..segment });
        let layout = Layout::of(&frame).unwrap();
        let mut tcp = layout.tcp_mut(&mut frame).unwrap();
        tcp.set_seq(other.seq);
        tcp.set_ack(other.ack);
        tcp.set_flags(other.flags);
        tcp.set_window(other.window);
        let expected = Segment {
            seq: other.seq, ack: other.ack, flags: other.flags, window: other.window, payload: &payload, ..segment
        };
        let expected = frame_of(&envelope, &expected);
        let sum = checksum_of(&expected);
        layout.tcp_mut(&mut frame).unwrap().set_checksum(sum);
        prop_assert_eq!(frame, expected);
    }

    #[test]
    fn damaged_frames_are_read_alike_or_refused(
        envelope in envelopes(), (segment, payload) in segments(),
        damage in prop::collection::vec((0usize..80, any::<u8>()), 0..4), cut in 0usize..40,
    ) {
        let mut frame = frame_of(&envelope, &Segment { payload: &payload, ..segment });
        let length = frame.len();
        for (at, byte) in damage {
            frame[at % length] = byte;
        }
        frame.truncate(length - cut.saturating_sub(20));
        let ours = Layout::of(&frame);
        let is_plain = |network, at: u16| {
            ours.ok().filter(|layout| {
                let whole = (layout.transport, layout.fragment) == (Transport::Tcp, Fragment::Whole);
                whole && (layout.network, layout.network_at, layout.transport_at) == (network, 14, at)
            })
        };
        prop_assert_eq!(Layout::plain_v4(&frame), is_plain(Network::V4, 34));
        prop_assert_eq!(Layout::plain_v6(&frame), is_plain(Network::V6, 54).filter(|layout| layout.end > 54));
        if let Some((at, _)) = theirs(&frame) {
            let layout = ours.expect("what etherparse reads, we read");
            prop_assert_eq!((layout.transport, usize::from(layout.transport_at)), (Transport::Tcp, at));
            prop_assert!(layout.fragment != Fragment::Later);
        }
        if let Ok(layout) = ours {
            prop_assert!(layout.end as usize <= frame.len() && u32::from(layout.transport_at) <= layout.end);
            if let Ok(tcp) = layout.tcp(&frame) {
                prop_assert!(tcp.options().count() <= TCP_OPTIONS_MAX);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), ipv4: bool) {
        let mut frame = bytes.clone();
        if frame.len() > 14 {
            frame[12..15].copy_from_slice(if ipv4 { &[8, 0, 0x45] } else { &[0x86, 0xdd, 0x60] });
        }
        for frame in [&bytes, &frame] {
            if let Ok(layout) = Layout::of(frame) {
                let _ = (layout.tcp(frame).map(|tcp| tcp.options().count()), IcmpQuote::of(frame, &layout));
                layout.transport_checksum_holds(frame);
                let _ = Envelope::of(frame, &layout);
            }
        }
        prop_assert!(TcpOptions::new(&bytes, 0).count() <= bytes.len());
    }
}

#[test]
fn a_frame_of_etherparse_is_read_alike() {
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 0, 0, 2], [10, 0, 0, 1], 57)
        .tcp(8080, 40_000, 0x21, 509)
        .ack(0x2d)
        .psh();
    let payload: Vec<u8> = (0..100).collect();
    let mut frame = Vec::new();
    builder.write(&mut frame, &payload).unwrap();
    let layout = Layout::of(&frame).unwrap();
    assert_eq!(checksum_of(&frame), 0x417d);
    assert_eq!((layout.hop_limit(&frame), layout.traffic_class(&frame)), (57, 0));
    assert!(layout.transport_checksum_holds(&frame));
    assert_eq!(layout.tcp(&frame).unwrap().seq_len(), 100);
}

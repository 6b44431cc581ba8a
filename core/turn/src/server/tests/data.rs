//! Data, both ways.

use super::*;

fn from_peer(port: u16) -> FourTuple {
    FourTuple::new(relay(), peer(port))
}

fn send(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Indication, Method::SEND, TransactionId([9; 12]))
        .xor_peer_address(peer)
        .data(data)
        .finish();
    out
}

fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ChannelData { number, data }.write(&mut out);
    out
}

/// What `bytes` become on the way to a peer.
fn passed(server: &mut Server, now: Instant, mut bytes: Vec<u8>) -> Option<(FourTuple, Vec<u8>)> {
    match server.handle_input(now, Input::new(path(), &mut bytes)) {
        Verdict::Pass { path, range } => Some((path, bytes[range].to_vec())),
        Verdict::Consumed | Verdict::NotMine => None,
    }
}

fn tell(server: &mut Server, now: Instant, mut bytes: Vec<u8>) {
    assert_eq!(server.handle_input(now, Input::new(path(), &mut bytes)), Verdict::Consumed);
    while server.poll_transmit(now, &mut Buf::new(&mut Vec::new())).is_some() {}
}

/// A server whose client may send to any port of `peer`.
fn permitted() -> (Server, Guest) {
    let (mut server, mut guest) = bare();
    let request = guest.request(Method::CREATE_PERMISSION, |writer| writer.xor_peer_address(peer(0)));
    tell(&mut server, Instant::ZERO, request);
    (server, guest)
}

#[test]
fn a_send_indication_passes_in_place_while_the_permission_lasts() {
    let (mut server, _) = permitted();
    let expected = Some((from_peer(9), b"hello".to_vec()));
    assert_eq!(passed(&mut server, Instant::ZERO, send(peer(9), b"hello")), expected);
    assert_eq!(passed(&mut server, secs(299), send(peer(9), b"hello")), expected);
    assert_eq!(passed(&mut server, secs(300), send(peer(9), b"hello")), None);
    assert_eq!(passed(&mut server, Instant::ZERO, send("203.0.113.6:9".parse().unwrap(), b"x")), None);
    assert_eq!((server.counters().to_peers, server.counters().unpermitted), (2, 2));
}

#[test]
fn channel_data_passes_in_place_while_the_channel_and_its_permission_last() {
    let (mut server, mut guest) = bare();
    let request = guest.request(Method::CHANNEL_BIND, |writer| {
        writer.channel_number(0x4001).xor_peer_address(peer(9)).lifetime(Duration::ZERO)
    });
    tell(&mut server, Instant::ZERO, request);
    let expected = Some((from_peer(9), b"hello".to_vec()));
    assert_eq!(passed(&mut server, Instant::ZERO, channel_data(0x4001, b"hello")), expected);
    assert_eq!(passed(&mut server, Instant::ZERO, channel_data(0x4001, b"")), Some((from_peer(9), vec![])));
    // A permission ends after five minutes, a channel after ten.
    assert_eq!(passed(&mut server, secs(299), channel_data(0x4001, b"hello")), expected);
    assert_eq!(passed(&mut server, secs(300), channel_data(0x4001, b"hello")), None);
    assert_eq!(server.counters().unpermitted, 1);
    let request = guest.request(Method::CREATE_PERMISSION, |writer| writer.xor_peer_address(peer(0)));
    tell(&mut server, secs(301), request);
    let mut padded = channel_data(0x4001, b"hello");
    padded.extend([0; 3]);
    assert_eq!(passed(&mut server, secs(599), padded), expected);
    assert_eq!(passed(&mut server, secs(600), channel_data(0x4001, b"hello")), None);
    assert_eq!(passed(&mut server, secs(600), channel_data(0x4002, b"hello")), None);
    assert_eq!(passed(&mut server, secs(600), channel_data(0x4001, b"hello")[..8].to_vec()), None);
    assert_eq!(server.counters().unknown_channel, 3);
}

#[test]
fn incomplete_indications_and_denied_ports_go_nowhere() {
    let (mut server, _) = permitted();
    let write = |write: fn(MessageWriter<'_>) -> MessageWriter<'_>| {
        let mut out = Vec::new();
        write(MessageWriter::new(&mut out, Class::Indication, Method::SEND, TransactionId([9; 12]))).finish();
        out
    };
    let hostile = [
        write(|writer| writer.data(b"hello")),
        write(|writer| writer.xor_peer_address(peer(9))),
        write(|writer| writer.xor_peer_address(peer(9)).data(b"hello").dont_fragment()),
        write(|writer| writer.xor_peer_address(peer(9)).data(b"hello").attribute(0x7fff, b"")),
    ];
    for bytes in hostile {
        assert_eq!(passed(&mut server, Instant::ZERO, bytes), None);
    }
    assert_eq!(passed(&mut server, Instant::ZERO, send(peer(0), b"hello")), None);
    assert_eq!((server.counters().incomplete, server.counters().denied_peer), (4, 1));
    let mut bytes = send(peer(9), b"hello");
    let stranger = path_from(1);
    assert_eq!(server.handle_input(Instant::ZERO, Input::new(stranger, &mut bytes)), Verdict::Consumed);
    assert_eq!(server.counters().no_allocation, 1);
}

#[test]
fn from_peers_only_the_permitted_come_through_as_indication_or_on_their_channel() {
    let (mut server, mut guest) = permitted();
    let (mut storage, now) = (Vec::new(), Instant::ZERO);
    let mut ecn = |server: &mut Server, path: FourTuple, mark: Ecn| {
        let input = Input { path, ecn: mark, bytes: &mut b"hello".to_vec() };
        assert_eq!(server.handle_input(now, input), Verdict::Consumed);
        let transmit = server.poll_transmit(now, &mut Buf::new(&mut storage))?;
        Some((transmit, storage.clone()))
    };
    let (transmit, bytes) = ecn(&mut server, from_peer(9), Ecn::Ce).unwrap();
    assert_eq!(transmit, Transmit { path: path(), ecn: Ecn::Ce, segment: None });
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
    assert_eq!((message.xor_peer_address(), message.data()), (Some(peer(9)), Some(&b"hello"[..])));

    let bind =
        guest.request(Method::CHANNEL_BIND, |writer| writer.channel_number(0x4001).xor_peer_address(peer(9)));
    tell(&mut server, now, bind);
    let (_, bytes) = ecn(&mut server, from_peer(9), Ecn::NotEct).unwrap();
    assert_eq!(bytes, channel_data(0x4001, b"hello"));
    let mapped = FourTuple::new(relay(), "[::ffff:203.0.113.5]:9".parse().unwrap());
    assert!(ecn(&mut server, mapped, Ecn::NotEct).is_some(), "as a dual-stack socket names it");
    let stranger = FourTuple::new(relay(), "203.0.113.6:9".parse().unwrap());
    assert_eq!(ecn(&mut server, stranger, Ecn::NotEct), None);
    assert_eq!((server.counters().to_clients, server.counters().unpermitted), (3, 1));
}

#[test]
fn a_burst_to_one_client_leaves_as_a_train() {
    let (mut server, mut guest) = bare();
    let bind =
        guest.request(Method::CHANNEL_BIND, |writer| writer.channel_number(0x4001).xor_peer_address(peer(9)));
    tell(&mut server, Instant::ZERO, bind);
    for _ in 0..10 {
        server.handle_input(Instant::ZERO, Input::new(from_peer(9), &mut vec![7; 1200]));
    }
    let mut storage = Vec::new();
    let mut out = Buf::new(&mut storage).with_segments_max(64);
    let transmit = server.poll_transmit(Instant::ZERO, &mut out).unwrap();
    assert_eq!((transmit.segment, storage.len()), (Some(1204), 12_040));
    assert!(storage.chunks(1204).all(|one| ChannelData::parse(one).unwrap().data == [7; 1200]));
}

#[test]
fn more_than_can_wait_is_dropped_and_counted() {
    let (mut server, _) = permitted();
    for _ in 0..OUTBOX_MAX + 10 {
        server.handle_input(Instant::ZERO, Input::new(from_peer(9), &mut b"hello".to_vec()));
    }
    server.handle_input(Instant::ZERO, Input::new(from_peer(9), &mut vec![0; 65_507]));
    assert_eq!((server.counters().to_clients, server.counters().overflow), (OUTBOX_MAX as u64, 11));
}

#[test]
fn what_was_relayed_is_told_at_the_end() {
    let (mut server, _) = permitted();
    passed(&mut server, Instant::ZERO, send(peer(9), b"hello")).unwrap();
    server.handle_input(Instant::ZERO, Input::new(from_peer(9), &mut b"hi".to_vec()));
    server.handle_timeout(secs(600));
    let events: Vec<_> = core::iter::from_fn(|| server.poll_event()).collect();
    let released = |event: &ServerEvent| matches!(event, ServerEvent::Released { relayed: (5, 2), .. });
    assert!(events.iter().any(released), "{events:?}");
    let mut late = b"late".to_vec();
    let verdict = server.handle_input(secs(600), Input::new(from_peer(9), &mut late));
    assert_eq!(verdict, Verdict::NotMine, "the socket is nobody's");
}

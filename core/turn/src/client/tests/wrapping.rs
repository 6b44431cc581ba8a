//! The way out, and streams.

use super::channels::bound;
use super::*;
use crate::error::WrapError;

fn to(peer: SocketAddr) -> Path {
    Path::Relayed { relay: flow(), peer }
}

/// Wraps `payload` as one datagram, or as a train of `segment` bytes each.
fn wrapped(
    client: &mut Client,
    peer: SocketAddr,
    payload: &[u8],
    segment: Option<u16>,
) -> Result<(Vec<u8>, Option<u16>), WrapError> {
    let mut storage = Vec::new();
    let mut out = Buf::new(&mut storage);
    assert!(out.put(payload));
    let transmit = Transmit { path: to(peer), ecn: gimlet_machine::Ecn::Ect0, segment };
    let transmit = client.wrap(START, transmit, &mut out)?;
    assert_eq!((transmit.path, transmit.ecn), (path(), gimlet_machine::Ecn::Ect0));
    Ok((storage, transmit.segment))
}

#[test]
fn on_a_channel_a_datagram_grows_by_four_bytes_and_each_of_a_train_does() {
    let mut client = bound(quiet()).machine().inner().clone();
    let (bytes, segment) = wrapped(&mut client, peer(9), b"hello", None).unwrap();
    assert_eq!((&bytes[..], segment), (&b"\x40\x00\x00\x05hello"[..], None));
    assert_eq!(client.channel_header(START, peer(9), 5), Some([0x40, 0, 0, 5]));
    assert_eq!(client.channel_header(START, peer(10), 5), None);
    let (bytes, segment) = wrapped(&mut client, peer(9), b"abcdefgh", Some(3)).unwrap();
    assert_eq!(segment, Some(7));
    assert_eq!(bytes, b"\x40\0\0\x03abc\x40\0\0\x03def\x40\0\0\x02gh");
    let (bytes, _) = wrapped(&mut client, peer(9), b"", None).unwrap();
    assert_eq!(bytes, [0x40, 0, 0, 0], "a datagram may be empty");
}

#[test]
fn before_the_channel_is_bound_data_goes_as_send_indications_without_waiting() {
    let mut play = allocated(quiet());
    run(&mut play, |client, now| assert!(client.bind_channel(now, peer(9)).is_ok()));
    let mut client = play.machine().inner().clone();
    for payload in [&b""[..], b"a", b"hello", &[7; 1200]] {
        let (bytes, _) = wrapped(&mut client, peer(9), payload, None).unwrap();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.class(), message.method()), (Class::Indication, Method::SEND));
        assert_eq!((message.xor_peer_address(), message.data()), (Some(peer(9)), Some(payload)));
        assert!(bytes.len() <= payload.len() + WRAP_MAX);
    }
    let (bytes, segment) = wrapped(&mut client, peer(9), &[7; 25], Some(10)).unwrap();
    let segment = usize::from(segment.unwrap());
    let messages: Vec<_> = bytes.chunks(segment).map(|one| Message::parse(one).unwrap()).collect();
    assert_eq!(messages.iter().map(|one| one.data().unwrap().len()).collect::<Vec<_>>(), [10, 10, 5]);
    assert_ne!(messages[0].transaction_id(), messages[1].transaction_id());
}

#[test]
fn a_send_indication_to_an_ipv6_peer_is_as_long_as_promised() {
    let (mut play, request) = challenged(quiet(), Families::V6);
    assert_eq!(Message::parse(&request).unwrap().requested_address_family(), Some(AddressFamily::V6));
    let six: SocketAddr = "[2001:db8::7]:9".parse().unwrap();
    let granted = answer_with(&request, Class::Success, Some(&key()), |writer| {
        writer.xor_relayed_address(six).xor_mapped_address(peer(1))
    });
    play.hears(path(), &granted).tells(|event| matches!(event, ClientEvent::Allocated(_)));
    run(&mut play, |client, now| client.permit(now, six.ip()).unwrap());
    said(&mut play);
    let mut client = play.machine().inner().clone();
    let (bytes, _) = wrapped(&mut client, six, b"a", None).unwrap();
    assert_eq!(bytes.len(), 1 + WRAP_MAX);
    assert_eq!(Message::parse(&bytes).unwrap().xor_peer_address(), Some(six));
}

#[test]
fn what_cannot_be_wrapped_is_left_as_it_was() {
    let mut client = bound(quiet()).machine().inner().clone();
    let stranger: SocketAddr = "203.0.113.1:1".parse().unwrap();
    let refused = wrapped(&mut client, stranger, b"hello", None);
    assert_eq!(refused, Err(WrapError::NotPermitted { peer: stranger }));

    let mut storage = Vec::new();
    let mut out = Buf::new(&mut storage).with_limit(8);
    out.put(b"hello");
    assert_eq!(client.wrap(START, Transmit::new(to(peer(9))), &mut out), Err(WrapError::TooBig));
    assert_eq!(client.wrap(START, Transmit::new(path()), &mut out), Err(WrapError::NotOurs));
    assert_eq!(out.as_slice(), b"hello");
    let mut fresh = Client::new(Rng::from_u64(7), flow(), alice(), quiet());
    assert_eq!(fresh.wrap(START, Transmit::new(to(peer(9))), &mut out), Err(WrapError::NotAllocated));
    assert_eq!(wrapped(&mut client, peer(9), &vec![0; 65_507], None), Err(WrapError::TooBig));
}

/// The frames of a stream, one after the other.
fn stream(frames: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        out.extend_from_slice(frame);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

#[test]
fn over_a_stream_requests_are_sent_once_and_frames_may_be_cut_anywhere() {
    for cut in 1..60 {
        let config = ClientConfig { transport: Transport::Stream, ..quiet() };
        let mut play = bound(config);
        play.at(secs(30)).quiet();
        let indication = {
            let mut out = Vec::new();
            let id = gimlet_stun::TransactionId([3; 12]);
            MessageWriter::new(&mut out, Class::Indication, Method::DATA, id)
                .xor_peer_address(peer(77))
                .data(b"world")
                .finish();
            out
        };
        let bytes = stream(&[b"\x40\x00\x00\x05hello", &indication, b"\x4f\xff\x00\x01x"]);
        for chunk in bytes.chunks(cut) {
            play.hears(path(), chunk);
        }
        let hello = ClientEvent::Received { peer: peer(9), datagram: b"hello".to_vec() };
        let world = ClientEvent::Received { peer: peer(77), datagram: b"world".to_vec() };
        play.tells(|event| *event == hello).tells(|event| *event == world).quiet();
        assert_eq!(play.machine().inner().counters().unknown_channel, 1);
    }
}

#[test]
fn over_a_stream_channel_data_is_padded() {
    let config = ClientConfig { transport: Transport::Stream, ..quiet() };
    let mut client = bound(config).machine().inner().clone();
    let (bytes, _) = wrapped(&mut client, peer(9), b"hello", None).unwrap();
    assert_eq!(bytes, b"\x40\x00\x00\x05hello\0\0\0");
}

#[test]
fn a_stream_out_of_step_fails_and_a_new_connection_begins_again() {
    let config = ClientConfig { transport: Transport::Stream, ..quiet() };
    let mut play = bound(config);
    play.hears(path(), b"SSH-2.0-OpenSSH_9.2");
    play.tells(|event| matches!(event, ClientEvent::Failed { cause: Failure::Framing(_) })).quiet();
    let again = FourTuple { local: "10.0.0.2:5001".parse().unwrap(), ..flow() };
    run(&mut play, |client, now| client.reconnected(now, again));
    play.says_that(Path::Direct(again), |bytes| {
        assert_eq!(Message::parse(bytes).unwrap().method(), Method::ALLOCATE);
    });
}

#[test]
fn without_a_connection_nothing_is_asked_until_there_is_another() {
    let config = ClientConfig { transport: Transport::Stream, ..quiet() };
    let mut play = bound(config);
    run(&mut play, |client, _| client.disconnected());
    play.tells(|event| *event == ClientEvent::Expired).at(secs(3_600)).quiet();
    assert_eq!(state(&play), AllocationState::Moving);
    let again = FourTuple { local: "10.0.0.2:5001".parse().unwrap(), ..flow() };
    run(&mut play, |client, now| client.reconnected(now, again));
    play.says_that(Path::Direct(again), |bytes| {
        assert_eq!(Message::parse(bytes).unwrap().method(), Method::ALLOCATE);
    });
    // What was being given back is gone with the connection.
    let mut leaving = bound(ClientConfig { transport: Transport::Stream, ..quiet() });
    run(&mut leaving, Client::release);
    said(&mut leaving);
    run(&mut leaving, |client, _| client.disconnected());
    leaving.tells(|event| *event == ClientEvent::Released).at(secs(3_600)).quiet();
}

#[test]
fn over_a_stream_a_redirection_waits_for_the_connection() {
    let config = ClientConfig { transport: Transport::Stream, ..quiet() };
    let mut play = client(config);
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    let first = said(&mut play);
    let server: SocketAddr = "192.0.2.9:443".parse().unwrap();
    play.hears(path(), &redirection(&first, "192.0.2.9:443"));
    play.tells(|event| *event == ClientEvent::Redirected { server }).at(secs(60)).quiet();
    assert_eq!(state(&play), AllocationState::Moving);
    let there = FourTuple { remote: server, ..flow() };
    run(&mut play, |client, now| client.reconnected(now, there));
    play.says_that(Path::Direct(there), |bytes| {
        assert_eq!(Message::parse(bytes).unwrap().method(), Method::ALLOCATE);
    });
}

#[test]
fn an_owner_that_does_not_listen_to_a_stream_loses_datagrams_and_nothing_else() {
    let config = ClientConfig { transport: Transport::Stream, ..quiet() };
    let mut client = bound(config).machine().inner().clone();
    for _ in 0..RECEIVED_MAX + 10 {
        client.handle_input(START, Input::new(path(), &mut b"\x40\x00\x00\x04data".to_vec()));
    }
    assert_eq!(client.counters().received_overflow, 10);
    client.release(START);
    client.handle_timeout(secs(60));
    let events: Vec<_> = core::iter::from_fn(|| client.poll_event()).collect();
    assert_eq!(events.len(), RECEIVED_MAX + 1);
    assert_eq!(events.last(), Some(&ClientEvent::Released));
    client.handle_input(START, Input::new(path(), &mut [0x40, 0, 0, 0]));
    assert_eq!(client.poll_event(), None, "nothing passes without an allocation");
}

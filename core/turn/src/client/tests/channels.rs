//! Permissions and channels: cases 54 and 55.

use super::*;

fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    gimlet_stun::ChannelData { number, data }.write(&mut out);
    out
}

fn data_indication(peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let id = gimlet_stun::TransactionId([3; 12]);
    MessageWriter::new(&mut out, Class::Indication, Method::DATA, id)
        .xor_peer_address(peer)
        .data(data)
        .finish();
    out
}

/// A client with a bound channel 0x4000 to `peer(9)`.
pub(super) fn bound(config: ClientConfig) -> Play {
    let mut play = allocated(config);
    run(&mut play, |client, now| assert_eq!(client.bind_channel(now, peer(9)), Ok(0x4000)));
    let (permission, channel) = (said(&mut play), said(&mut play));
    play.hears(path(), &success(&permission)).hears(path(), &success(&channel));
    play.tells(|event| *event == ClientEvent::PermissionInstalled { peer: peer(9).ip() });
    let bound = ClientEvent::ChannelBound { peer: peer(9), number: 0x4000 };
    play.tells(|event| *event == bound).quiet();
    play
}

#[test]
fn nothing_waits_permissions_and_channels_follow_the_allocation_at_once_and_share_a_request() {
    let mut play = client(quiet());
    run(&mut play, |client, now| {
        client.allocate(now, Families::V4).unwrap();
        client.bind_channel(now, peer(9)).unwrap();
        client.permit(now, "203.0.113.1".parse().unwrap()).unwrap();
        client.permit(now, "203.0.113.1".parse().unwrap()).unwrap();
    });
    let first = said(&mut play);
    play.quiet().hears(path(), &challenge(&first, 401, b"one"));
    let second = said(&mut play);
    play.quiet().hears(path(), &grant(&second, 600));
    play.tells(|event| matches!(event, ClientEvent::Allocated(_)));
    let (permissions, channel) = (said(&mut play), said(&mut play));
    let ips: Vec<_> =
        Message::parse(&permissions).unwrap().xor_peer_addresses().flatten().map(|peer| peer.ip()).collect();
    assert_eq!(ips, [peer(9).ip(), "203.0.113.1".parse::<IpAddr>().unwrap()]);
    let message = Message::parse(&channel).unwrap();
    assert_eq!((message.channel_number(), message.xor_peer_address()), (Some(0x4000), Some(peer(9))));
    play.quiet();
}

#[test]
fn case_54_permissions_are_renewed_together_after_four_minutes() {
    let mut play = allocated(quiet());
    run(&mut play, |client, now| client.permit(now, peer(1).ip()).unwrap());
    let first = said(&mut play);
    play.hears(path(), &success(&first))
        .tells(|event| matches!(event, ClientEvent::PermissionInstalled { .. }));
    play.at(secs(20));
    run(&mut play, |client, now| client.permit(now, "203.0.113.1".parse().unwrap()).unwrap());
    let second = said(&mut play);
    play.hears(path(), &success(&second))
        .tells(|event| matches!(event, ClientEvent::PermissionInstalled { .. }));
    play.at(secs(239)).quiet().at(secs(240));
    let renewal = said(&mut play);
    let message = Message::parse(&renewal).unwrap();
    assert_eq!((message.method(), message.xor_peer_addresses().count()), (Method::CREATE_PERMISSION, 2));
    play.hears(path(), &success(&renewal)).quiet().at(secs(479)).quiet().at(secs(480));
    assert_eq!(Message::parse(&said(&mut play)).unwrap().xor_peer_addresses().count(), 2);
}

#[test]
fn case_54_a_channel_is_renewed_after_nine_minutes_with_its_number() {
    let mut play = bound(ClientConfig { keepalive: None, ..ClientConfig::default() });
    for at in [240, 480] {
        play.at(secs(at));
        let permission = said(&mut play);
        play.hears(path(), &success(&permission)).quiet();
    }
    play.at(secs(540));
    let (refresh, channel) = (said(&mut play), said(&mut play));
    assert_eq!(Message::parse(&refresh).unwrap().method(), Method::REFRESH);
    let message = Message::parse(&channel).unwrap();
    assert_eq!((message.method(), message.channel_number()), (Method::CHANNEL_BIND, Some(0x4000)));
    play.hears(path(), &prolong(&refresh, 600)).hears(path(), &success(&channel)).quiet();
    assert_eq!(play.machine().inner().channel(secs(1139), peer(9)), Some(0x4000));
    assert_eq!(play.machine().inner().channel(secs(1140), peer(9)), None, "ten minutes and no more");
}

#[test]
fn case_54_a_number_that_was_let_go_rests_unless_the_same_peer_wants_it() {
    let mut play = bound(quiet());
    run(&mut play, |client, now| {
        client.unbind_channel(now, peer(9));
        assert_eq!(client.channel(now, peer(9)), None);
        assert_eq!(client.bind_channel(now, peer(10)), Ok(0x4001), "another peer, another number");
        assert_eq!(client.bind_channel(now, peer(9)), Ok(0x4000), "the same couple at any time");
        client.unbind_channel(now, peer(9));
    });
    let first = said(&mut play);
    assert_eq!(Message::parse(&first).unwrap().channel_number(), Some(0x4001));
    // Bound until 600, cooling until 900: the client must not mix the couple up before that.
    let mut peers = play.machine().inner().peers.clone();
    peers.expire(secs(899));
    assert!(peers.channel(0x4000).is_some());
    peers.expire(secs(900));
    assert!(peers.channel(0x4000).is_none());
}

#[test]
fn case_54_numbers_stay_in_range_and_too_many_peers_are_refused() {
    let mut client = Client::new(Rng::from_u64(7), flow(), alice(), quiet());
    let numbers: Vec<u16> =
        (0..CHANNELS_MAX as u16).map(|port| client.bind_channel(START, peer(port + 1)).unwrap()).collect();
    assert!(numbers.iter().all(|number| (0x4000..=0x4fff).contains(number)));
    assert!(numbers.is_sorted_by(|a, b| a < b), "each its own");
    assert_eq!(client.bind_channel(START, peer(99)), Err(PeerError::TooMany));
    for last in 1..PERMISSIONS_MAX as u8 {
        client.permit(START, IpAddr::from([203, 0, 113, last])).unwrap();
    }
    assert_eq!(client.permit(START, IpAddr::from([203, 0, 113, 99])), Err(PeerError::TooMany));
    client.forbid(START, IpAddr::from([203, 0, 113, 1]));
    assert_eq!(client.permit(START, IpAddr::from([203, 0, 113, 99])), Ok(()));
}

#[test]
fn case_54_numbers_come_round() {
    let mut client = Client::new(Rng::from_u64(7), flow(), alice(), quiet());
    for _ in 0..5000 {
        let number = client.bind_channel(START, peer(1)).unwrap();
        assert!((0x4000..=0x4fff).contains(&number));
        // Never asked for, so nothing has to cool down.
        client.unbind_channel(START, peer(1));
    }
}

#[test]
fn a_channel_that_was_let_go_is_not_asked_for_again() {
    let mut play = allocated(quiet());
    run(&mut play, |client, now| assert_eq!(client.bind_channel(now, peer(9)), Ok(0x4000)));
    let (permission, channel) = (said(&mut play), said(&mut play));
    run(&mut play, |client, now| client.unbind_channel(now, peer(9)));
    play.hears(path(), &challenge(&channel, 438, b"two")).quiet();
    play.hears(path(), &challenge(&permission, 438, b"two"));
    assert_eq!(Message::parse(&said(&mut play)).unwrap().method(), Method::CREATE_PERMISSION);
    run(&mut play, |client, now| assert_eq!(client.bind_channel(now, peer(10)), Ok(0x4001)));
    said(&mut play);
}

#[test]
fn a_datagram_from_a_peer_passes_in_place_as_relayed() {
    let mut play = bound(quiet());
    let mut client = play.at(START).machine().clone();
    let from = |peer| Path::Relayed { relay: flow(), peer };
    let mut bytes = channel_data(0x4000, b"hello");
    let verdict = client.handle_input(START, Input::new(path(), &mut bytes));
    assert_eq!(verdict, Verdict::Pass { path: from(peer(9)), range: 4..9 });
    assert_eq!(&bytes[4..9], b"hello");
    // Another port of a permitted address comes as an indication.
    let mut bytes = data_indication(peer(77), b"hello");
    let Verdict::Pass { path, range } = client.handle_input(START, Input::new(path(), &mut bytes)) else {
        panic!("a permitted peer")
    };
    assert_eq!((path, &bytes[range]), (from(peer(77)), &b"hello"[..]));
}

#[test]
fn a_peer_is_heard_on_a_channel_that_was_let_go_until_its_binding_ends() {
    let mut play = bound(quiet());
    run(&mut play, |client, now| client.unbind_channel(now, peer(9)));
    let mut client = play.machine().clone();
    let hear = |client: &mut gimlet_testkit::Checked<Client>, now| {
        client.handle_input(now, Input::new(path(), &mut channel_data(0x4000, b"hello")))
    };
    let from = Path::Relayed { relay: flow(), peer: peer(9) };
    assert_eq!(
        hear(&mut client, secs(1)),
        Verdict::Pass { path: from, range: 4..9 },
        "another path is in use"
    );
    // Wanted again, it is the same couple.
    client.command(secs(2), |client| assert_eq!(client.bind_channel(secs(2), peer(9)), Ok(0x4000)));
    assert_eq!(hear(&mut client, secs(2)), Verdict::Pass { path: from, range: 4..9 });
    client.command(secs(3), |client| client.unbind_channel(secs(3), peer(9)));
    let mut late = client.clone();
    late.command(secs(3), |client| client.forbid(secs(3), peer(9).ip()));
    assert_eq!(hear(&mut late, secs(3)), Verdict::NotMine, "whoever is not let in is not heard");
    client.command(secs(250), |client| client.permit(secs(250), peer(9).ip())).unwrap();
    assert_eq!(hear(&mut client, secs(601)), Verdict::NotMine, "over");
}

#[test]
fn case_55_data_on_unknown_numbers_cut_short_or_without_permission_is_dropped() {
    let mut play = bound(quiet());
    play.ignores(path(), &channel_data(0x4001, b"hello"));
    play.ignores(path(), &channel_data(0x4000, b"hello")[..8]);
    play.ignores(path(), &[0x40]);
    play.hears(path(), &data_indication("203.0.113.1:1".parse().unwrap(), b"hello"));
    let elsewhere = Path::Direct(FourTuple { remote: peer(3478), ..flow() });
    play.ignores(elsewhere, &channel_data(0x4000, b"hello")).quiet();
    run(&mut play, |client, now| client.forbid(now, peer(9).ip()));
    play.ignores(path(), &channel_data(0x4000, b"hello"));
    let expected = ClientCounters {
        unknown_channel: 4,
        unpermitted: 1,
        not_from_server: 1,
        ..ClientCounters::default()
    };
    assert_eq!(*play.machine().inner().counters(), expected);
}

#[test]
fn case_55_without_an_allocation_nothing_passes() {
    let mut play = client(quiet());
    play.ignores(path(), &channel_data(0x4000, b"hello"));
    play.hears(path(), &data_indication(peer(9), b"hello"));
    run(&mut play, |client, now| client.permit(now, peer(9).ip()).unwrap());
    play.hears(path(), &data_indication(peer(9), b"hello")).quiet();
}

#[test]
fn what_a_router_said_is_told_as_a_hint() {
    let mut play = bound(quiet());
    let icmp = gimlet_stun::Icmp { kind: 3, code: 3, error_data: [0; 4] };
    let mut bytes = Vec::new();
    let id = gimlet_stun::TransactionId([3; 12]);
    MessageWriter::new(&mut bytes, Class::Indication, Method::DATA, id)
        .xor_peer_address(peer(9))
        .icmp(icmp)
        .finish();
    play.hears(path(), &bytes);
    play.tells(|event| *event == ClientEvent::PeerUnreachable { peer: peer(9), icmp }).quiet();
}

#[test]
fn a_forbidden_peer_loses_its_channel_and_nothing_renews_what_it_had() {
    let mut play = bound(quiet());
    run(&mut play, |client, now| client.forbid(now, peer(9).ip()));
    let now = secs(0);
    let client = play.machine().inner();
    assert!(!client.is_permitted(now, peer(9).ip()) && client.channel(now, peer(9)).is_none());
    play.ignores(path(), &channel_data(0x4000, b"still there?")).quiet();
    // Neither the permission nor the channel, which would permit it again.
    play.at(secs(539)).quiet();
}

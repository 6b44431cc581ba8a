//! Two clients of one server, users whose names change with time, and how much anybody may relay.

use super::*;

fn neighbour() -> SocketAddr {
    "192.0.2.1:50002".parse().unwrap()
}

/// A server with two clients: alice has `relay()`, bob `neighbour()`.
fn neighbours(config: ServerConfig) -> (Play, Guest, Guest) {
    let mut play = server(config);
    let mut one = Guest::new(&mut play, path(), alice());
    one.allocates(&mut play, relay());
    let mut other = Guest::new(&mut play, path_from(61_001), bob());
    other.allocates(&mut play, neighbour());
    (play, one, other)
}

fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ChannelData { number, data }.write(&mut out);
    out
}

fn denying_itself() -> ServerConfig {
    let denied = vec![SocketAddr::new(relay().ip(), 0)];
    ServerConfig { peers: PeerPolicy { denied, ..PeerPolicy::default() }, ..config() }
}

#[test]
fn what_one_client_sends_to_another_never_leaves_the_server() {
    let (mut play, mut one, mut other) = neighbours(denying_itself());
    assert_eq!(one.binds(&mut play, 0x4000, neighbour()), None);
    assert_eq!(other.binds(&mut play, 0x4fff, relay()), None);
    play.hears(path(), &channel_data(0x4000, b"hello"));
    assert_eq!(heard_from(&mut play, path_from(61_001)), channel_data(0x4fff, b"hello"));
    play.hears(path_from(61_001), &channel_data(0x4fff, b"and back"));
    assert_eq!(heard_from(&mut play, path()), channel_data(0x4000, b"and back"));
    let counters = play.machine().inner().counters();
    assert_eq!((counters.to_peers, counters.to_clients), (2, 2));
    assert_eq!((counters.bytes_to_peers, counters.bytes_to_clients), (13, 13));
}

#[test]
fn a_neighbour_that_has_not_permitted_us_hears_nothing() {
    let (mut play, mut one, _) = neighbours(config());
    assert_eq!(one.binds(&mut play, 0x4000, neighbour()), None);
    play.hears(path(), &channel_data(0x4000, b"hello")).quiet();
    assert_eq!(play.machine().inner().counters().unpermitted, 1);
}

#[test]
fn behind_the_servers_own_address_only_neighbours_are_reached() {
    let (mut play, mut one, _) = neighbours(denying_itself());
    let beside: SocketAddr = "192.0.2.1:22".parse().unwrap();
    assert_eq!(one.permits(&mut play, beside), None, "neighbours have the same address");
    assert_eq!(one.binds(&mut play, 0x4000, beside), Some(403));
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Indication, Method::SEND, TransactionId([9; 12]))
        .xor_peer_address(beside)
        .data(b"hello")
        .finish();
    play.hears(path(), &out).quiet();
    assert_eq!(play.machine().inner().counters().denied_peer, 1);
}

#[test]
fn a_server_inside_a_private_network_lets_its_clients_reach_each_other_and_nobody_else_there() {
    let (local, other): (SocketAddr, SocketAddr) =
        ("10.0.0.9:50000".parse().unwrap(), "10.0.0.9:50001".parse().unwrap());
    let mut play = server(config());
    let mut one = Guest::new(&mut play, path(), alice());
    one.allocates(&mut play, local);
    Guest::new(&mut play, path_from(61_001), bob()).allocates(&mut play, other);
    assert_eq!(one.binds(&mut play, 0x4000, other), None);
    assert_eq!(one.permits(&mut play, "10.0.0.8:1".parse().unwrap()), Some(403));
}

#[test]
fn renewed_credentials_belong_to_the_same_user() {
    let limits = ServerLimits { per_user_max: 1, ..ServerLimits::default() };
    let mut play = server(ServerConfig { secrets: vec![b"north".to_vec()], limits, ..config() });
    let user = |expires, name| LongTerm::until(b"north", expires, name).unwrap();
    let mut early = Guest::new(&mut play, path(), user(1_000, "carol"));
    early.allocates(&mut play, relay());
    let mut late = Guest { user: user(2_000, "carol"), ..early.clone() };
    assert_eq!(late.permits(&mut play, peer(0)), None, "the allocation is hers");
    let mut stranger = Guest { user: user(2_000, "dave"), ..late.clone() };
    assert_eq!(stranger.permits(&mut play, peer(0)), Some(441));
    let mut again = Guest::new(&mut play, path_from(61_001), user(3_000, "carol"));
    assert_eq!(again.asks(&mut play, Method::ALLOCATE, |writer| writer.requested_transport(17)), Some(486));
}

#[test]
fn what_a_client_relays_beyond_its_rate_is_dropped_and_counted() {
    let limits = ServerLimits { bytes_per_second_max: 1_000, ..ServerLimits::default() };
    let (mut server, mut guest) = bare_with(ServerConfig { limits, ..config() });
    let mut bind =
        guest.request(Method::CHANNEL_BIND, |writer| writer.channel_number(0x4000).xor_peer_address(peer(9)));
    server.handle_input(Instant::ZERO, Input::new(path(), &mut bind));
    let mut passed = |now| {
        let verdict = server.handle_input(now, Input::new(path(), &mut channel_data(0x4000, &[7; 100])));
        matches!(verdict, Verdict::Pass { .. })
    };
    assert_eq!((0..20).filter(|_| passed(Instant::ZERO)).count(), 10);
    assert_eq!((0..20).filter(|_| passed(secs(1))).count(), 10);
    server.handle_input(secs(1), Input::new(FourTuple::new(relay(), peer(9)), &mut [7; 100]));
    assert_eq!((server.counters().over_rate, server.counters().to_clients), (21, 0), "both ways share it");
}

#[test]
fn a_socket_that_closed_by_itself_ends_its_allocation_and_all_end_at_once() {
    let mut play = server(config());
    let mut one = Guest::new(&mut play, path(), alice());
    let request = one.request(Method::ALLOCATE, |writer| writer.requested_transport(17));
    play.hears(path(), &request);
    let id = opens(&mut play, relay());
    assert_eq!(one.hears(&mut play), None);
    play.tells(|event| matches!(event, ServerEvent::Allocated { .. }));
    run(&mut play, |server, now| server.relay_gone(now, id));
    play.tells(|event| matches!(event, ServerEvent::CloseRelay { .. }));
    play.tells(|event| matches!(event, ServerEvent::Released { .. })).quiet();
    assert_eq!(one.permits(&mut play, peer(0)), Some(437), "the next request tells the client");
    one.allocates(&mut play, relay());
    run(&mut play, |server, _| server.close_all());
    play.tells(|event| matches!(event, ServerEvent::CloseRelay { .. }));
    play.tells(|event| matches!(event, ServerEvent::Released { .. })).quiet();
    run(&mut play, |server, now| server.relay_gone(now, id));
    assert_eq!(play.machine().inner().counters().stale_relay, 1);
}

use std::collections::VecDeque;

use gimlet_ice::Role;
use gimlet_stun::{Server, ServerConfig};
use gimlet_turn::LongTerm;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn hear(peer: &mut Peer, now: Instant, line: &str) {
    peer.hear(now, &Line::Text(line.to_owned()));
}

fn peer(seed: u64, role: Role, socket: &str, servers: &[&str]) -> Peer {
    let servers =
        Servers { stun: servers.iter().map(|server| address(server)).collect(), ..Servers::default() };
    let config = Config { role, ..Config::default() };
    Peer::new(Instant::ZERO, &Rng::from_u64(seed), config, &[address(socket)], &servers).unwrap()
}

/// Does what is due, and returns what leaves.
fn drain(peer: &mut Peer, now: Instant) -> Vec<(FourTuple, Vec<u8>)> {
    if peer.poll_timeout().is_some_and(|deadline| deadline.at <= now) {
        peer.handle_timeout(now);
    }
    let mut sent = Vec::new();
    let mut storage = Vec::new();
    while let Some(transmit) = peer.poll_transmit(now, &mut Buf::new(&mut storage)) {
        sent.push((transmit.path, storage.clone()));
    }
    sent
}

/// Lets both live through `time` on one network.
fn live(a: &mut Peer, b: &mut Peer, from: Instant, time: Duration) -> Instant {
    let mut now = from;
    while now < from + time {
        now += Duration::from_millis(1);
        for _ in 0..4 {
            for (path, mut bytes) in drain(a, now) {
                b.handle_input(now, Input::new(path.flipped(), &mut bytes));
            }
            for (path, mut bytes) in drain(b, now) {
                a.handle_input(now, Input::new(path.flipped(), &mut bytes));
            }
        }
    }
    now
}

/// Two peers that were introduced.
fn introduced(servers: &[&str]) -> (Peer, Peer) {
    let mut a = peer(1, Role::Controlling, "192.0.2.1:1000", servers);
    let mut b = peer(2, Role::Controlled, "192.0.2.2:2000", &[]);
    let (of_a, of_b) = (a.take_lines(), b.take_lines());
    for (lines, to) in [(of_a, &mut b), (of_b, &mut a)] {
        for line in lines {
            hear(to, Instant::ZERO, &line);
        }
        hear(to, Instant::ZERO, "start");
    }
    assert_eq!((a.take_lines().len(), b.take_lines().len()), (0, 0));
    (a, b)
}

/// Two peers that have met.
fn met() -> (Peer, Peer, Instant) {
    let (mut a, mut b) = introduced(&[]);
    let now = live(&mut a, &mut b, Instant::ZERO, Duration::from_millis(100));
    assert_eq!(
        (a.take_lines(), b.take_lines()),
        (vec!["state connected".into()], vec!["state connected".into()])
    );
    (a, b, now)
}

#[test]
fn a_peer_introduces_itself_and_ends_at_once_without_servers() {
    let mut peer = peer(1, Role::Controlling, "192.0.2.1:1000", &[]);
    assert_eq!((peer.poll_event(), peer.poll_event()), (Some(Spoke), None));
    let lines = peer.take_lines();
    let verbs: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(verbs, ["ufrag", "pwd", "cand", "end"]);
    assert!(
        lines[2].starts_with("cand candidate:") && lines[2].ends_with("192.0.2.1 1000 typ host"),
        "{lines:?}"
    );
    assert_eq!(peer.poll_event(), None);
}

#[test]
fn two_peers_meet_and_carry_datagrams_both_ways() {
    let (mut a, mut b, now) = met();
    assert_eq!((a.meeting(), b.meeting()), (Meeting::Connected, Meeting::Connected));
    hear(&mut a, now, "send C0FFEE");
    hear(&mut b, now, "send 80");
    live(&mut a, &mut b, now, Duration::from_millis(2));
    assert_eq!((a.take_lines(), b.take_lines()), (vec!["recv 80".into()], vec!["recv c0ffee".into()]));
    assert!(a.is_flushed() && b.is_flushed());
}

#[test]
fn a_mapped_address_is_offered_before_the_end() {
    let mut peer = peer(1, Role::Controlling, "10.0.0.1:1000", &["198.51.100.1:3478"]);
    assert!(!peer.take_lines().contains(&"end".to_owned()));
    let mut server = Server::new(ServerConfig::default());
    let (path, mut bytes) = drain(&mut peer, Instant::ZERO).remove(0);
    assert_eq!(path, FourTuple::new(address("10.0.0.1:1000"), address("198.51.100.1:3478")));
    let seen = FourTuple::new(path.remote, address("203.0.113.9:4096"));
    server.handle_input(Instant::ZERO, Input::new(seen, &mut bytes));
    let mut answer = Vec::new();
    server.poll_transmit(Instant::ZERO, &mut Buf::new(&mut answer)).unwrap();
    assert_eq!(peer.handle_input(Instant::ZERO, Input::new(path, &mut answer)), Verdict::Consumed);
    let lines = peer.take_lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("203.0.113.9 4096 typ srflx raddr 10.0.0.1 rport 1000"), "{lines:?}");
    assert_eq!(lines[1], "end");
}

#[test]
fn a_silent_server_holds_up_the_end_for_some_seconds_only() {
    let mut peer = peer(1, Role::Controlling, "10.0.0.1:1000", &["198.51.100.1:3478"]);
    let mut now = Instant::ZERO;
    for _ in 0..40 {
        drain(&mut peer, now);
        let Some(deadline) = peer.poll_timeout() else { break };
        now = deadline.at;
    }
    assert!(now <= Instant::from_millis(6_000), "{now}");
    let lines = peer.take_lines();
    assert!(lines[3].starts_with("error 198.51.100.1:3478: no answer") && lines[4] == "end", "{lines:?}");
}

#[test]
fn datagrams_of_strangers_are_counted_and_not_shown() {
    let (mut a, _, now) = met();
    let stranger = FourTuple::new(address("192.0.2.1:1000"), address("192.0.2.66:6"));
    assert_eq!(a.handle_input(now, Input::new(stranger, &mut [0xc0])), Verdict::Consumed);
    assert_eq!((a.take_lines().len(), a.counters().strangers), (0, 1));
}

#[test]
fn a_flood_that_nobody_reads_leaves_room_for_what_matters() {
    let (mut a, _, now) = met();
    let path = FourTuple::new(address("192.0.2.1:1000"), address("192.0.2.2:2000"));
    for _ in 0..2 * LINES_MAX {
        a.handle_input(now, Input::new(path, &mut [0xc0]));
    }
    hear(&mut a, now, "nonsense");
    let lines = a.take_lines();
    assert_eq!(lines.len(), LINES_MAX - LINES_RESERVED + 1);
    assert!(lines.last().unwrap().starts_with("error "));
    assert_eq!(a.counters().received_dropped as usize, 2 * LINES_MAX - (LINES_MAX - LINES_RESERVED));
}

#[test]
fn what_cannot_be_done_is_answered_with_an_error() {
    let mut peer = peer(1, Role::Controlling, "192.0.2.1:1000", &[]);
    peer.take_lines();
    let now = Instant::ZERO;
    let early = ["", "start", "send 00", "cand", "cand x", "end now", "dance", "quit now"];
    for line in early {
        hear(&mut peer, now, line);
        assert!(matches!(&peer.take_lines()[..], [error] if error.starts_with("error ")), "{line}");
    }
    peer.hear(now, &Line::Damaged("the line is too long"));
    assert_eq!(peer.take_lines(), ["error the line is too long"]);
    for line in ["ufrag abc", "pwd short"] {
        hear(&mut peer, now, line);
    }
    hear(&mut peer, now, "start");
    assert!(peer.take_lines()[0].starts_with("error "), "malformed credentials are found at the start");
    assert_eq!(peer.meeting(), Meeting::Introducing);
    for line in ["ufrag they", "pwd theirpasswordtheirpassword", "start"] {
        hear(&mut peer, now, line);
    }
    assert!(peer.take_lines().is_empty());
    hear(&mut peer, now, "ufrag other");
    assert_eq!(peer.take_lines(), ["error ufrag and pwd come before start"]);
    hear(&mut peer, now, "quit");
    assert!(peer.is_over());
}

#[test]
fn a_peer_that_nobody_answers_says_that_it_failed() {
    let mut a = peer(1, Role::Controlling, "192.0.2.1:1000", &[]);
    a.take_lines();
    let lines = ["ufrag they", "pwd theirpasswordtheirpassword", "end", "start"];
    for line in lines {
        hear(&mut a, Instant::ZERO, line);
    }
    hear(&mut a, Instant::ZERO, "cand 1 1 UDP 1 192.0.2.2 2000 typ host");
    assert!(a.take_lines()[0].starts_with("error "), "nothing follows the end");
    let mut now = Instant::ZERO;
    while a.meeting() != Meeting::Failed {
        now = a.poll_timeout().expect("something is awaited").at;
        drain(&mut a, now);
    }
    assert!(now <= Instant::from_millis(60_000), "{now}");
    assert!(a.take_lines()[0].starts_with("state failed "));
    hear(&mut a, now, "send 00");
    assert!(a.take_lines()[0].starts_with("error "));
}

#[test]
fn a_datagram_more_than_may_wait_is_refused() {
    let (mut a, _, now) = met();
    for _ in 0..OUTGOING_MAX {
        hear(&mut a, now, "send c0");
    }
    assert!(a.take_lines().is_empty());
    hear(&mut a, now, "send c0");
    assert!(a.take_lines()[0].starts_with("error "));
    assert!(!a.is_flushed());
    assert!(drain(&mut a, now).len() >= OUTGOING_MAX);
    assert!(a.is_flushed());
}

#[test]
fn a_lite_peer_is_found_by_one_that_was_told_so() {
    let config = Config { role: Role::Controlled, lite: true, ..Config::default() };
    let lite = &[address("192.0.2.2:2000")];
    let mut lite = Peer::new(Instant::ZERO, &Rng::from_u64(2), config, lite, &Servers::default()).unwrap();
    let mut full = peer(1, Role::Controlling, "192.0.2.1:1000", &[]);
    hear(&mut full, Instant::ZERO, "ice-lite");
    let (of_full, of_lite) = (full.take_lines(), lite.take_lines());
    for (lines, to) in [(of_full, &mut lite), (of_lite, &mut full)] {
        for line in lines {
            hear(to, Instant::ZERO, &line);
        }
        hear(to, Instant::ZERO, "start");
    }
    live(&mut full, &mut lite, Instant::ZERO, Duration::from_millis(100));
    let connected = ["state connected"];
    assert_eq!(
        (full.take_lines(), lite.take_lines()),
        (connected.map(Into::into).into(), connected.map(Into::into).into())
    );
}

/// A relay at 198.51.100.1:3478 that knows alice, and everything that is sent to it or to what it gave.
struct TurnServer(gimlet_turn::Server);

impl TurnServer {
    const ADDRESS: &str = "198.51.100.1:3478";
    const RELAYED: &str = "198.51.100.1:50000";

    fn alice() -> Relay {
        let credentials = LongTerm::new(b"alice", b"her password").unwrap();
        Relay { address: address(Self::ADDRESS), credentials }
    }

    fn new() -> Self {
        let config = gimlet_turn::ServerConfig {
            users: vec![Self::alice().credentials],
            ..gimlet_turn::ServerConfig::default()
        };
        Self(gimlet_turn::Server::new(Rng::from_u64(9), config))
    }

    /// Takes what was sent to it; returns what leaves, to whom.
    fn take(&mut self, now: Instant, sent: FourTuple, bytes: &mut [u8]) -> Vec<(FourTuple, Vec<u8>)> {
        let mut out = Vec::new();
        if let Verdict::Pass { path, range } = self.0.handle_input(now, Input::new(sent.flipped(), bytes)) {
            out.push((path, bytes[range].to_vec()));
        }
        while let Some(event) = self.0.poll_event() {
            if let gimlet_turn::ServerEvent::OpenRelay { id, .. } = event {
                self.0.relay_opened(now, id, address(Self::RELAYED), address(Self::RELAYED));
            }
        }
        let mut storage = Vec::new();
        while let Some(transmit) = self.0.poll_transmit(now, &mut Buf::new(&mut storage)) {
            out.push((transmit.path, storage.clone()));
        }
        out
    }
}

/// Lets `a`, which has a relay, and `b` live through `time`; nothing passes between them but through the relay.
fn live_beside(a: &mut Peer, b: &mut Peer, relay: &mut TurnServer, from: Instant, time: Duration) -> Instant {
    let (of_a, of_b) = (address("10.0.0.1:1000"), address("192.0.2.2:2000"));
    let mut now = from;
    while now < from + time {
        now += Duration::from_millis(1);
        let mut flying: VecDeque<_> = drain(a, now).into_iter().chain(drain(b, now)).collect();
        while let Some((path, mut bytes)) = flying.pop_front() {
            if path.remote.ip() == address(TurnServer::ADDRESS).ip() {
                flying.extend(relay.take(now, path, &mut bytes));
            } else if path.local.ip() == address(TurnServer::ADDRESS).ip() {
                let to = if path.remote == of_a { &mut *a } else { &mut *b };
                assert!(path.remote == of_a || path.remote == of_b, "{path}");
                to.handle_input(now, Input::new(path.flipped(), &mut bytes));
            }
        }
    }
    now
}

#[test]
fn through_a_relay_alone_they_meet_and_carry_datagrams_both_ways() {
    let servers = Servers { turn: vec![TurnServer::alice()], relay_only: true, ..Servers::default() };
    let config = Config { role: Role::Controlling, ..Config::default() };
    let ours = [address("10.0.0.1:1000")];
    let mut a = Peer::new(Instant::ZERO, &Rng::from_u64(1), config, &ours, &servers).unwrap();
    let mut b = peer(2, Role::Controlled, "192.0.2.2:2000", &[]);
    let mut relay = TurnServer::new();
    assert!(!a.take_lines().contains(&"end".to_owned()), "the relay's answer is awaited");

    let now = live_beside(&mut a, &mut b, &mut relay, Instant::ZERO, Duration::from_millis(10));
    let of_a = a.take_lines();
    assert_eq!(of_a.len(), 2, "one candidate and the end: {of_a:?}");
    assert!(of_a[0].contains(" 198.51.100.1 50000 typ relay "), "{of_a:?}");
    let credentials = a.agent.local_credentials().clone();
    hear(&mut b, now, &format!("ufrag {}", credentials.ufrag));
    hear(&mut b, now, &format!("pwd {}", credentials.pwd));
    let of_b = b.take_lines();
    for line in &of_a {
        hear(&mut b, now, line);
    }
    for line in &of_b {
        hear(&mut a, now, line);
    }
    hear(&mut a, now, "start");
    hear(&mut b, now, "start");
    let now = live_beside(&mut a, &mut b, &mut relay, now, Duration::from_millis(200));
    assert_eq!(
        (a.take_lines(), b.take_lines()),
        (vec!["state connected".into()], vec!["state connected".into()])
    );

    hear(&mut a, now, "send c0ffee");
    hear(&mut b, now, "send 80");
    let now = live_beside(&mut a, &mut b, &mut relay, now, Duration::from_millis(5));
    assert_eq!((a.take_lines(), b.take_lines()), (vec!["recv 80".into()], vec!["recv c0ffee".into()]));
    assert_eq!(relay.0.allocations(), 1);
    a.release(now);
    live_beside(&mut a, &mut b, &mut relay, now, Duration::from_millis(5));
    assert_eq!(relay.0.allocations(), 0, "what was lent is given back");
}

#[test]
fn a_relay_that_does_not_know_us_is_said_and_the_end_follows() {
    let credentials = LongTerm::new(b"alice", b"a guess").unwrap();
    let turn = vec![Relay { credentials, ..TurnServer::alice() }];
    let servers = Servers { turn, ..Servers::default() };
    let ours = [address("10.0.0.1:1000")];
    let mut a = Peer::new(Instant::ZERO, &Rng::from_u64(1), Config::default(), &ours, &servers).unwrap();
    let mut b = peer(2, Role::Controlled, "192.0.2.2:2000", &[]);
    live_beside(&mut a, &mut b, &mut TurnServer::new(), Instant::ZERO, Duration::from_millis(10));
    let lines = a.take_lines();
    assert!(lines[3].starts_with("error 198.51.100.1:3478: the relay does not know"), "{lines:?}");
    assert_eq!(lines[4], "end");
}

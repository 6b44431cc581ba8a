//! The server alone, on a timeline.

mod data;
mod neighbours;
mod requests;

use alloc::vec;

use super::*;
use gimlet_machine::{Ecn, Transmit};
use gimlet_stun::{
    ChannelData, Key, MessageWriter, PasswordAlgorithm, TransactionId, attribute, error_code, userhash,
};
use gimlet_testkit::{Checked, Script};

type Play = Script<Checked<Server>>;

fn secs(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

fn path_from(port: u16) -> FourTuple {
    FourTuple::new("192.0.2.1:3478".parse().unwrap(), ([198, 51, 100, 7], port).into())
}

fn path() -> FourTuple {
    path_from(61_000)
}

fn relay() -> SocketAddr {
    "192.0.2.1:50000".parse().unwrap()
}

fn peer(port: u16) -> SocketAddr {
    ([203, 0, 113, 5], port).into()
}

fn alice() -> LongTerm {
    LongTerm::new(b"alice", b"her password").unwrap()
}

fn bob() -> LongTerm {
    LongTerm::new(b"bob", b"his password").unwrap()
}

fn config() -> ServerConfig {
    ServerConfig { users: vec![alice(), bob()], ..ServerConfig::default() }
}

fn server(config: ServerConfig) -> Play {
    Script::new(Checked::new(Server::new(Rng::from_u64(7), config)))
}

fn run(play: &mut Play, command: impl FnOnce(&mut Server, Instant)) {
    play.does(|server, now| server.command(now, |server| command(server, now)));
}

fn heard_from(play: &mut Play, path: FourTuple) -> Vec<u8> {
    let mut heard = Vec::new();
    play.says_that(path, |bytes| heard = bytes.to_vec());
    heard
}

/// A request of a stranger.
fn stranger(method: Method, number: u8) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Request, method, TransactionId([number; 12]))
        .requested_transport(17)
        .finish();
    out
}

/// Somebody who has a nonce and signs with it.
#[derive(Clone)]
struct Guest {
    path: FourTuple,
    user: LongTerm,
    nonce: Vec<u8>,
    number: u8,
}

impl Guest {
    /// Asks, and is challenged.
    fn new(play: &mut Play, path: FourTuple, user: LongTerm) -> Self {
        play.hears(path, &stranger(Method::ALLOCATE, 0));
        let challenge = heard_from(play, path);
        let message = Message::parse(&challenge).unwrap();
        assert_eq!(message.error_code().map(|error| error.code), Some(401));
        Self { path, user, nonce: message.nonce().unwrap().to_vec(), number: 0 }
    }

    fn key(&self) -> Key {
        Key::long_term(self.user.username(), b"gimlet", self.user.password(), PasswordAlgorithm::Md5)
    }

    /// A request with a transaction id of its own.
    fn request(
        &mut self,
        method: Method,
        write: impl FnOnce(MessageWriter<'_>) -> MessageWriter<'_>,
    ) -> Vec<u8> {
        self.number += 1;
        let mut out = Vec::new();
        let id = TransactionId([self.number; 12]);
        let writer = write(MessageWriter::new(&mut out, Class::Request, method, id));
        let writer = writer.username(self.user.username()).realm(b"gimlet").nonce(&self.nonce);
        writer.integrity(&self.key()).finish();
        out
    }

    /// Asks; returns the signed answer's error code, or `None` for success.
    fn asks(
        &mut self,
        play: &mut Play,
        method: Method,
        write: impl FnOnce(MessageWriter<'_>) -> MessageWriter<'_>,
    ) -> Option<u16> {
        let request = self.request(method, write);
        play.hears(self.path, &request);
        self.hears(play)
    }

    fn hears(&self, play: &mut Play) -> Option<u16> {
        let answer = heard_from(play, self.path);
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.verify(&self.key()), Ok(()), "what is answered to a signature is signed");
        match message.class() {
            Class::Success => None,
            _ => Some(message.error_code().unwrap().code),
        }
    }

    /// Allocates; the socket opens at `local`.
    fn allocates(&mut self, play: &mut Play, local: SocketAddr) {
        let request = self.request(Method::ALLOCATE, |writer| writer.requested_transport(17));
        play.hears(self.path, &request);
        opens(play, local);
        assert_eq!(self.hears(play), None);
        play.tells(|event| matches!(event, ServerEvent::Allocated { .. })).quiet();
    }

    fn permits(&mut self, play: &mut Play, peer: SocketAddr) -> Option<u16> {
        self.asks(play, Method::CREATE_PERMISSION, |writer| writer.xor_peer_address(peer))
    }

    fn binds(&mut self, play: &mut Play, number: u16, peer: SocketAddr) -> Option<u16> {
        self.asks(play, Method::CHANNEL_BIND, |writer| writer.channel_number(number).xor_peer_address(peer))
    }
}

/// The owner opens the socket that is asked for.
fn opens(play: &mut Play, local: SocketAddr) -> RelayId {
    let mut asked = None;
    play.tells(|event| {
        let ServerEvent::OpenRelay { id, .. } = event else { return false };
        asked = Some(*id);
        true
    });
    let id = asked.unwrap();
    run(play, |server, now| server.relay_opened(now, id, local, local));
    id
}

/// A server with one client that has `relay()`.
fn relaying() -> (Play, Guest) {
    let mut play = server(config());
    let mut guest = Guest::new(&mut play, path(), alice());
    guest.allocates(&mut play, relay());
    (play, guest)
}

#[test]
fn strangers_hear_little_and_leave_nothing_behind() {
    let mut play = server(config());
    for method in [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let request = stranger(method, 1);
        play.hears(path(), &request);
        let challenge = heard_from(&mut play, path());
        let message = Message::parse(&challenge).unwrap();
        assert_eq!(message.error_code().map(|error| error.code), Some(401));
        assert!(!message.has_integrity(), "there is no key to sign with");
        let headers = 28;
        let growth = (challenge.len() + headers) * 10 / (request.len() + headers);
        assert!(growth <= 20, "{} bytes for {}", challenge.len(), request.len());
    }
    let server = play.machine().inner();
    assert_eq!((server.allocations(), server.clients.len(), server.poll_timeout()), (0, 0, None));
}

#[test]
fn a_flood_of_forged_sources_costs_nothing_and_is_answered_ten_times_a_second_each() {
    let mut server = Server::new(Rng::from_u64(7), config());
    let mut storage = Vec::new();
    let mut answers = 0;
    for number in 0..20_000u32 {
        let path = path_from(1 + (number % 50_000) as u16);
        server.handle_input(secs(1), Input::new(path, &mut stranger(Method::ALLOCATE, number as u8)));
        while server.poll_transmit(secs(1), &mut Buf::new(&mut storage)).is_some() {
            answers += 1;
        }
    }
    assert_eq!((answers, server.counters().challenged), (10, 10));
    assert_eq!(server.counters().rationed, 19_990);
    assert_eq!((server.allocations(), server.poll_event()), (0, None));
}

/// A bare server with one client that has `relay()`.
fn bare() -> (Server, Guest) {
    bare_with(config())
}

fn bare_with(config: ServerConfig) -> (Server, Guest) {
    let mut server = Server::new(Rng::from_u64(7), config);
    let (mut storage, start) = (Vec::new(), Instant::ZERO);
    server.handle_input(start, Input::new(path(), &mut stranger(Method::ALLOCATE, 0)));
    server.poll_transmit(start, &mut Buf::new(&mut storage)).unwrap();
    let nonce = Message::parse(&storage).unwrap().nonce().unwrap().to_vec();
    let mut guest = Guest { path: path(), user: alice(), nonce, number: 0 };
    let mut request = guest.request(Method::ALLOCATE, |writer| writer.requested_transport(17));
    server.handle_input(start, Input::new(path(), &mut request));
    let Some(ServerEvent::OpenRelay { id, .. }) = server.poll_event() else { panic!("asks for a socket") };
    server.relay_opened(start, id, relay(), relay());
    while server.poll_event().is_some() {}
    while server.poll_transmit(start, &mut Buf::new(&mut storage)).is_some() {}
    (server, guest)
}

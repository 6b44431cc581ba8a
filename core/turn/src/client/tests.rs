//! The client alone, on a timeline; cases 15 to 17 and 52 to 56.

mod channels;
mod refusals;
mod wrapping;

use alloc::vec;

use super::*;
use crate::event::{Allocated, Failure};
use gimlet_stun::{Class, Key, Message, MessageWriter, Method, PasswordAlgorithm, error_code};
use gimlet_testkit::{Checked, Script};

const START: Instant = Instant::ZERO;

fn secs(secs: u64) -> Instant {
    Instant::from_millis(secs * 1000)
}

fn flow() -> FourTuple {
    FourTuple::new("10.0.0.2:5000".parse().unwrap(), "192.0.2.1:3478".parse().unwrap())
}

fn path() -> Path {
    Path::Direct(flow())
}

fn peer(port: u16) -> SocketAddr {
    ([198, 51, 100, 7], port).into()
}

fn relayed() -> SocketAddr {
    "192.0.2.1:50000".parse().unwrap()
}

fn alice() -> LongTerm {
    LongTerm::new(b"alice", b"her password").unwrap()
}

/// What a server of the time of RFC 5389 knows: MD5 and SHA-1.
fn key() -> Key {
    Key::long_term(b"alice", b"home", b"her password", PasswordAlgorithm::Md5)
}

/// No keepalive, so that only the lifetimes of the RFC move anything.
fn quiet() -> ClientConfig {
    ClientConfig { keepalive: None, ..ClientConfig::default() }
}

type Play = Script<Checked<Client>>;

fn client(config: ClientConfig) -> Play {
    Script::new(Checked::new(Client::new(Rng::from_u64(7), flow(), alice(), config)))
}

/// Runs a command at the script's time.
fn run(play: &mut Play, command: impl FnOnce(&mut Client, Instant)) {
    play.does(|client, now| client.command(now, |client| command(client, now)));
}

/// The next request said.
fn said(play: &mut Play) -> Vec<u8> {
    let mut sent = Vec::new();
    play.says_that(path(), |bytes| sent = bytes.to_vec());
    sent
}

fn answer_with(
    request: &[u8],
    class: Class,
    sign: Option<&Key>,
    write: impl FnOnce(MessageWriter<'_>) -> MessageWriter<'_>,
) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut out = Vec::new();
    let writer = write(MessageWriter::new(&mut out, class, request.method(), request.transaction_id()));
    match sign {
        Some(key) => writer.integrity(key).finish(),
        None => writer.finish(),
    };
    out
}

/// 401 or 438 with this nonce.
fn challenge(request: &[u8], code: u16, nonce: &[u8]) -> Vec<u8> {
    answer_with(request, Class::Error, None, |writer| writer.error_code(code, "").realm(b"home").nonce(nonce))
}

fn refusal(request: &[u8], code: u16) -> Vec<u8> {
    answer_with(request, Class::Error, Some(&key()), |writer| writer.error_code(code, "no"))
}

fn success(request: &[u8]) -> Vec<u8> {
    answer_with(request, Class::Success, Some(&key()), |writer| writer)
}

fn grant(request: &[u8], lifetime: u64) -> Vec<u8> {
    answer_with(request, Class::Success, Some(&key()), |writer| {
        writer
            .xor_relayed_address(relayed())
            .xor_mapped_address(peer(61_000))
            .lifetime(Duration::from_secs(lifetime))
    })
}

fn prolong(request: &[u8], lifetime: u64) -> Vec<u8> {
    answer_with(request, Class::Success, Some(&key()), |writer| {
        writer.lifetime(Duration::from_secs(lifetime))
    })
}

/// A client that has asked and been challenged, and its signed request.
fn challenged(config: ClientConfig, families: Families) -> (Play, Vec<u8>) {
    let mut play = client(config);
    run(&mut play, |client, now| client.allocate(now, families).unwrap());
    let first = said(&mut play);
    play.hears(path(), &challenge(&first, 401, b"one"));
    let second = said(&mut play);
    (play, second)
}

/// A client with an allocation of 600 seconds.
fn allocated(config: ClientConfig) -> Play {
    let (mut play, request) = challenged(config, Families::V4);
    play.hears(path(), &grant(&request, 600));
    play.tells(|event| matches!(event, ClientEvent::Allocated(_))).quiet();
    play
}

fn state(play: &Play) -> AllocationState {
    play.machine().inner().state()
}

fn failed(cause: Failure) -> impl FnOnce(&ClientEvent) -> bool {
    move |event| *event == ClientEvent::Failed { cause }
}

#[test]
fn case_15_a_challenge_is_answered_once_and_the_same_answer_twice_is_final() {
    let mut play = client(quiet());
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    let first = said(&mut play);
    let message = Message::parse(&first).unwrap();
    assert_eq!((message.method(), message.requested_transport()), (Method::ALLOCATE, Some(17)));
    assert!(!message.has_integrity() && message.username().is_none(), "a stranger shows no name");

    play.hears(path(), &challenge(&first, 401, b"one"));
    let second = said(&mut play);
    let message = Message::parse(&second).unwrap();
    assert_ne!(first[8..20], second[8..20], "another question, another transaction");
    assert_eq!((message.username(), message.realm()), (Some(&b"alice"[..]), Some(&b"home"[..])));
    assert_eq!((message.nonce(), message.verify(&key())), (Some(&b"one"[..]), Ok(())));

    play.hears(path(), &challenge(&second, 401, b"two")).tells(failed(Failure::BadCredentials)).quiet();
    assert_eq!((state(&play), play.machine().poll_timeout()), (AllocationState::Failed, None));
}

#[test]
fn case_15_a_stale_nonce_is_replaced_three_times_in_a_row_and_not_a_fourth() {
    let (mut play, mut request) = challenged(quiet(), Families::V4);
    for nonce in [b"2", b"3", b"4"] {
        play.hears(path(), &challenge(&request, 438, nonce));
        request = said(&mut play);
        assert_eq!(Message::parse(&request).unwrap().nonce(), Some(&nonce[..]));
    }
    play.hears(path(), &challenge(&request, 438, b"5")).tells(failed(Failure::StaleNonces)).quiet();
}

#[test]
fn case_15_every_kind_of_request_survives_a_stale_nonce() {
    let mut play = allocated(quiet());
    run(&mut play, |client, now| assert!(client.bind_channel(now, peer(9)).is_ok()));
    for method in [Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let request = said(&mut play);
        play.hears(path(), &challenge(&request, 438, b"two"));
        let again = said_after_others(&mut play, method);
        assert_eq!(Message::parse(&again).unwrap().nonce(), Some(&b"two"[..]));
        play.hears(path(), &success(&again));
    }
    play.tells(|event| matches!(event, ClientEvent::PermissionInstalled { .. }));
    play.tells(|event| matches!(event, ClientEvent::ChannelBound { .. })).quiet();
}

/// The next request of `method`; the first of another is put back by being asked for later.
fn said_after_others(play: &mut Play, method: Method) -> Vec<u8> {
    let sent = said(play);
    if Message::parse(&sent).unwrap().method() == method {
        return sent;
    }
    let again = said(play);
    assert_eq!(Message::parse(&again).unwrap().method(), method);
    play.hears(path(), &challenge(&sent, 438, b"two"));
    again
}

#[test]
fn case_16_a_promise_without_the_offer_is_a_bid_down_and_ends_everything() {
    for code in [401, 438] {
        let (mut play, mut request) = challenged(quiet(), Families::V4);
        if code == 401 {
            play = client(quiet());
            run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
            request = said(&mut play);
        }
        let nonce = b"obMatJos2gAAArest";
        play.hears(path(), &challenge(&request, code, nonce)).tells(failed(Failure::BidDown)).quiet();
    }
}

#[test]
fn case_16_the_offer_is_echoed_exactly_and_the_stronger_algorithm_is_chosen() {
    // Algorithm 9 is unknown and has three bytes of parameters: it too has to come back as it went.
    let offer = [0, 9, 0, 3, b'a', b'b', b'c', 0xee, 0, 1, 0, 0, 0, 2, 0, 0];
    let mut play = client(quiet());
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    let first = said(&mut play);
    let offered = answer_with(&first, Class::Error, None, |writer| {
        let writer = writer.error_code(401, "").realm(b"home").nonce(b"obMatJos2wAAArest");
        writer.attribute(gimlet_stun::attribute::PASSWORD_ALGORITHMS, &offer)
    });
    play.hears(path(), &offered);
    let second = said(&mut play);
    let message = Message::parse(&second).unwrap();
    assert_eq!(message.password_algorithms(), Some(&offer[..]));
    assert_eq!(message.password_algorithm(), Some(PasswordAlgorithm::Sha256));
    assert_eq!(message.userhash(), Some(&gimlet_stun::userhash(b"alice", b"home")));
    assert_eq!(message.username(), None, "the nonce asks for anonymity");
    let strong = Key::long_term(b"alice", b"home", b"her password", PasswordAlgorithm::Sha256);
    assert_eq!(message.verify(&strong), Ok(()));

    // A weaker signature than agreed is none, even with the right key.
    let grant = |sign: fn(MessageWriter<'_>, &Key)| {
        let mut out = Vec::new();
        let writer = MessageWriter::new(&mut out, Class::Success, Method::ALLOCATE, message.transaction_id());
        sign(writer.xor_relayed_address(relayed()).xor_mapped_address(peer(1)), &strong);
        out
    };
    play.hears(path(), &grant(|writer, key| assert!(!writer.integrity(key).finish().is_empty()))).quiet();
    assert_eq!(play.machine().inner().counters().unauthentic, 1);
    play.hears(path(), &grant(|writer, key| assert!(!writer.integrity_sha256(key).finish().is_empty())));
    play.tells(|event| matches!(event, ClientEvent::Allocated(_)));
}

#[test]
fn case_16_only_unknown_algorithms_are_no_algorithms() {
    let mut play = client(quiet());
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    let first = said(&mut play);
    let offered = answer_with(&first, Class::Error, None, |writer| {
        let writer = writer.error_code(401, "").realm(b"home").nonce(b"plain");
        writer.attribute(gimlet_stun::attribute::PASSWORD_ALGORITHMS, &[0, 9, 0, 0])
    });
    play.hears(path(), &offered).tells(failed(Failure::NoAlgorithm)).quiet();
}

fn redirection(request: &[u8], server: &str) -> Vec<u8> {
    answer_with(request, Class::Error, None, |writer| {
        writer.error_code(300, "").alternate_server(server.parse().unwrap())
    })
}

/// The next request, wherever it goes.
fn said_to(play: &mut Play, server: &str) -> Vec<u8> {
    let to = Path::Direct(FourTuple { remote: server.parse().unwrap(), ..flow() });
    let mut sent = Vec::new();
    play.says_that(to, |bytes| sent = bytes.to_vec());
    sent
}

#[test]
fn case_17_a_redirection_is_followed_and_a_circle_is_not() {
    let mut play = client(quiet());
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    let first = said(&mut play);
    play.hears(path(), &redirection(&first, "192.0.2.9:3478"));
    play.tells(|event| *event == ClientEvent::Redirected { server: "192.0.2.9:3478".parse().unwrap() });
    let second = said_to(&mut play, "192.0.2.9:3478");
    play.ignores(path(), &challenge(&second, 401, b"one"));
    let there = Path::Direct(FourTuple { remote: "192.0.2.9:3478".parse().unwrap(), ..flow() });
    play.hears(there, &redirection(&second, "192.0.2.1:3478")).tells(failed(Failure::Redirects)).quiet();
}

#[test]
fn case_17_the_fourth_server_and_another_family_are_not_followed() {
    let mut play = client(quiet());
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    let mut request = said(&mut play);
    let mut here = path();
    for server in ["192.0.2.9:1", "192.0.2.9:2", "192.0.2.9:3"] {
        play.hears(here, &redirection(&request, server));
        play.tells(|event| matches!(event, ClientEvent::Redirected { .. }));
        request = said_to(&mut play, server);
        here = Path::Direct(FourTuple { remote: server.parse().unwrap(), ..flow() });
    }
    play.hears(here, &redirection(&request, "192.0.2.9:4")).tells(failed(Failure::Redirects)).quiet();

    let mut play = client(quiet());
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    let request = said(&mut play);
    play.hears(path(), &redirection(&request, "[2001:db8::1]:3478")).tells(failed(Failure::Redirects));
}

#[test]
fn case_52_a_dual_allocation_is_asked_for_in_one_request_and_one_family_will_do() {
    let (mut play, request) = challenged(quiet(), Families::Both);
    let message = Message::parse(&request).unwrap();
    assert_eq!(message.requested_transport(), Some(17));
    assert_eq!(message.additional_address_family(), Some(AddressFamily::V6));
    assert_eq!(message.requested_address_family(), None, "never both (RFC 8656 §7.1)");
    let partial = answer_with(&request, Class::Success, Some(&key()), |writer| {
        writer
            .xor_relayed_address(relayed())
            .xor_mapped_address(peer(61_000))
            .lifetime(Duration::from_secs(600))
            .address_error_code(AddressFamily::V6, 440)
    });
    let expected = Allocated {
        relayed_v4: Some(relayed()),
        relayed_v6: None,
        mapped: peer(61_000),
        lifetime: Duration::from_secs(600),
        refused: Some((AddressFamily::V6, 440)),
    };
    play.hears(path(), &partial).tells(|event| *event == ClientEvent::Allocated(expected)).quiet();
    let client = play.machine().inner();
    assert_eq!((client.relayed(AddressFamily::V4), client.mapped()), (Some(relayed()), Some(peer(61_000))));
    run(&mut play, |client, now| {
        assert_eq!(client.permit(now, "2001:db8::1".parse().unwrap()), Err(PeerError::Family));
    });
}

#[test]
fn case_52_both_addresses_of_a_dual_allocation_are_told() {
    let (mut play, request) = challenged(quiet(), Families::Both);
    let other: SocketAddr = "[2001:db8::1]:50000".parse().unwrap();
    let dual = answer_with(&request, Class::Success, Some(&key()), |writer| {
        let writer = writer.xor_relayed_address(other).xor_relayed_address(relayed());
        writer.xor_mapped_address(peer(61_000))
    });
    play.hears(path(), &dual).tells(|event| {
        let ClientEvent::Allocated(it) = event else { return false };
        (it.relayed_v4, it.relayed_v6) == (Some(relayed()), Some(other))
    });
}

#[test]
fn case_53_an_allocation_is_refreshed_a_minute_before_its_end() {
    let mut play = allocated(quiet());
    play.at(secs(539)).quiet().at(secs(540));
    let refresh = said(&mut play);
    let message = Message::parse(&refresh).unwrap();
    assert_eq!((message.method(), message.lifetime()), (Method::REFRESH, None));
    assert_eq!(state(&play), AllocationState::Refreshing);
    // The lifetime of the answer rules, however short.
    play.hears(path(), &prolong(&refresh, 100)).quiet().at(secs(589)).quiet().at(secs(590));
    assert_eq!(Message::parse(&said(&mut play)).unwrap().method(), Method::REFRESH);
}

#[test]
fn case_53_release_asks_for_lifetime_zero_and_any_answer_will_do() {
    for code in [None, Some(437), Some(401), Some(500)] {
        let mut play = allocated(quiet());
        run(&mut play, Client::release);
        let delete = said(&mut play);
        let message = Message::parse(&delete).unwrap();
        assert_eq!((message.method(), message.lifetime()), (Method::REFRESH, Some(Duration::ZERO)));
        let answer = code.map_or_else(|| prolong(&delete, 0), |code| refusal(&delete, code));
        play.hears(path(), &answer).tells(|event| *event == ClientEvent::Released).quiet();
        assert_eq!((state(&play), play.machine().poll_timeout()), (AllocationState::Released, None));
    }
}

/// What cannot be understood ends it too: an unsigned refusal that depends on an attribute nobody knows, or one
/// without a code.
#[test]
fn case_53_a_release_ends_whatever_comes_back() {
    let strange = |delete: &[u8]| {
        answer_with(delete, Class::Error, None, |writer| {
            writer.error_code(438, "Stale Nonce").attribute(0x7ffe, b"what is this")
        })
    };
    let codeless = |delete: &[u8]| answer_with(delete, Class::Error, Some(&key()), |writer| writer);
    for answer in [strange as fn(&[u8]) -> Vec<u8>, codeless] {
        let mut play = allocated(quiet());
        run(&mut play, Client::release);
        let delete = said(&mut play);
        play.hears(path(), &answer(&delete)).tells(|event| *event == ClientEvent::Released).quiet();
        assert_eq!((state(&play), play.machine().poll_timeout()), (AllocationState::Released, None));
    }
}

#[test]
fn case_53_a_success_after_the_end_revives_nothing_and_another_is_asked_for() {
    let mut play = allocated(quiet());
    play.at(secs(540));
    let refresh = said(&mut play);
    // The client slept through the end: its owner wakes it an hour later.
    let mut client = play.machine().clone();
    let late = secs(4140);
    client.handle_timeout(late);
    assert_eq!(client.poll_event(), Some(ClientEvent::Expired));
    let mut bytes = prolong(&refresh, 600);
    let verdict = client.handle_input(late, Input::new(path(), &mut bytes));
    assert_eq!(verdict, Verdict::NotMine, "the request it answers is forgotten");
    let mut storage = Vec::new();
    assert!(client.poll_transmit(late, &mut Buf::new(&mut storage)).is_some());
    let message = Message::parse(&storage).unwrap();
    assert_eq!((message.method(), message.verify(&key())), (Method::ALLOCATE, Ok(())));
    assert_eq!(client.inner().state(), AllocationState::Allocating);
}

#[test]
fn a_server_that_forgets_the_flow_is_found_out_by_the_keepalive() {
    let mut play = allocated(ClientConfig::default());
    for at in [25, 50, 75] {
        play.at(secs(at));
        let refresh = said(&mut play);
        play.hears(path(), &prolong(&refresh, 600)).quiet();
    }
}

#[test]
fn a_retransmission_is_the_same_bytes_and_an_unanswered_one_fails() {
    let mut play = client(ClientConfig { rc: 3, ..quiet() });
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    let first = said(&mut play);
    let at = Instant::from_millis;
    play.at(at(500)).says(path(), &first).at(at(1500)).says(path(), &first).at(at(9499)).quiet();
    play.at(at(9500)).tells(failed(Failure::TimedOut)).quiet();
    // A failed client can be told to try again.
    run(&mut play, |client, now| client.allocate(now, Families::V4).unwrap());
    said(&mut play);
    assert_eq!(state(&play), AllocationState::Allocating);
}

#[test]
fn a_server_that_falls_silent_is_told_as_a_failure() {
    let mut play = allocated(ClientConfig { rc: 3, rm: 2, ..ClientConfig::default() });
    play.at(secs(25));
    let refresh = said(&mut play);
    play.at(Instant::from_millis(25_500)).says(path(), &refresh);
    play.at(Instant::from_millis(26_500)).says(path(), &refresh);
    play.at(Instant::from_millis(27_500)).tells(failed(Failure::TimedOut)).quiet();
}

#[test]
fn answers_from_elsewhere_and_forgeries_settle_nothing() {
    let (mut play, request) = challenged(quiet(), Families::V4);
    let elsewhere = Path::Direct(FourTuple { remote: peer(3478), ..flow() });
    play.ignores(elsewhere, &grant(&request, 600));
    play.ignores(Path::Relayed { relay: flow(), peer: peer(1) }, &grant(&request, 600));
    let unsigned = answer_with(&request, Class::Success, None, |writer| {
        writer.xor_relayed_address(relayed()).xor_mapped_address(peer(1))
    });
    let quota = answer_with(&request, Class::Error, None, |writer| writer.error_code(486, ""));
    let wrong = answer_with(&request, Class::Success, Some(&Key::short_term(b"guess")), |writer| {
        writer.xor_relayed_address(relayed()).xor_mapped_address(peer(1))
    });
    play.hears(path(), &unsigned).hears(path(), &quota).hears(path(), &wrong).quiet();
    let expected = ClientCounters { not_from_server: 2, unauthentic: 3, ..ClientCounters::default() };
    assert_eq!(*play.machine().inner().counters(), expected);
    play.hears(path(), &grant(&request, 600));
    play.tells(|event| matches!(event, ClientEvent::Allocated(_)));
}

#[test]
fn a_second_allocation_is_refused_while_there_is_one() {
    let mut play = allocated(quiet());
    run(&mut play, |client, now| {
        assert_eq!(client.allocate(now, Families::V4), Err(AllocateError::Busy));
    });
}

#[test]
fn a_new_flow_to_the_server_asks_for_everything_again() {
    let mut play = allocated(quiet());
    run(&mut play, |client, now| client.permit(now, peer(1).ip()).unwrap());
    said(&mut play);
    let moved = FourTuple { local: "10.0.0.3:6000".parse().unwrap(), ..flow() };
    run(&mut play, |client, now| client.reconnected(now, moved));
    play.tells(|event| *event == ClientEvent::Expired);
    let mut request = Vec::new();
    play.says_that(Path::Direct(moved), |bytes| request = bytes.to_vec());
    assert_eq!(Message::parse(&request).unwrap().method(), Method::ALLOCATE);
    play.hears(Path::Direct(moved), &grant(&request, 600));
    play.tells(|event| matches!(event, ClientEvent::Allocated(_)));
    play.says_that(Path::Direct(moved), |bytes| {
        assert_eq!(Message::parse(bytes).unwrap().method(), Method::CREATE_PERMISSION);
    });
}

//! The client alone, on a timeline; cases 12 to 14.

use alloc::vec;

use super::*;
use gimlet_testkit::{Checked, Script};

const START: Instant = Instant::ZERO;

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn path() -> FourTuple {
    FourTuple::new("10.0.0.2:5000".parse().unwrap(), "192.0.2.1:3478".parse().unwrap())
}

fn mapped() -> SocketAddr {
    "198.51.100.7:61000".parse().unwrap()
}

fn client(config: ClientConfig) -> Script<Checked<Client>> {
    Script::new(Checked::new(Client::new(Rng::from_u64(7), config)))
}

/// A client that has asked at the start, the request it sent, and the request's name.
fn asked(config: ClientConfig) -> (Script<Checked<Client>>, Vec<u8>, RequestId) {
    let (mut script, mut sent, mut id) = (client(config), Vec::new(), None);
    script
        .does(|client, now| id = client.command(now, |client| client.binding(now, path())).ok())
        .says_that(path(), |bytes| sent = bytes.to_vec());
    (script, sent, id.expect("the request was begun"))
}

/// The answer of a server that saw `request` come from [`mapped`].
fn answer(request: &[u8]) -> Vec<u8> {
    let id = Message::parse(request).unwrap().transaction_id();
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Success, Method::BINDING, id)
        .xor_mapped_address(mapped())
        .fingerprint();
    out
}

fn refusal(request: &[u8], code: u16) -> Vec<u8> {
    let id = Message::parse(request).unwrap().transaction_id();
    let mut out = Vec::new();
    let writer = MessageWriter::new(&mut out, Class::Error, Method::BINDING, id);
    // The address has no business here and must not turn the refusal into a success.
    writer.error_code(code, "no").xor_mapped_address(mapped()).finish();
    out
}

#[test]
fn case_12_without_an_answer_the_same_bytes_go_seven_times_and_then_it_fails() {
    let (mut script, sent, id) = asked(ClientConfig::default());
    for at in [500, 1_500, 3_500, 7_500, 15_500, 31_500] {
        script.at(ms(at - 1)).quiet().at(ms(at)).says(path(), &sent);
    }
    let failed = ClientEvent::Failed { id, path: path(), cause: Failure::TimedOut };
    script.at(ms(39_499)).quiet().at(ms(39_500)).tells(|event| *event == failed).quiet();
    assert_eq!(script.machine().poll_timeout(), None);
}

#[test]
fn case_12_two_requests_keep_their_own_ladders() {
    let (mut script, first, _) = asked(ClientConfig { rc: 2, ..ClientConfig::default() });
    let mut second = Vec::new();
    script
        .at(ms(100))
        .does(|client, now| assert!(client.command(now, |client| client.binding(now, path())).is_ok()))
        .says_that(path(), |bytes| second = bytes.to_vec());
    assert_ne!(first[8..20], second[8..20], "each has a transaction id of its own");
    script.at(ms(500)).says(path(), &first).at(ms(600)).says(path(), &second);
    let is_failure = |event: &ClientEvent| matches!(event, ClientEvent::Failed { .. });
    script.at(ms(8_500)).tells(is_failure).quiet().at(ms(8_600)).tells(is_failure).quiet();
}

#[test]
fn case_13_the_first_answer_settles_the_request_and_measures_the_round_trip() {
    let (mut script, sent, id) = asked(ClientConfig::default());
    let rtt = Some(Duration::from_millis(80));
    let answered = ClientEvent::Answered { id, path: path(), mapped: mapped(), rtt };
    script.at(ms(80)).hears(path(), &answer(&sent)).tells(|event| *event == answered);
    script.ignores(path(), &answer(&sent)).quiet().at(ms(60_000)).quiet();
    let counters = script.machine().inner().counters();
    assert_eq!(*counters, ClientCounters { unknown_transaction: 1, ..ClientCounters::default() });
}

#[test]
fn case_13_an_answer_after_a_retransmission_counts_and_measures_nothing() {
    let (mut script, sent, id) = asked(ClientConfig::default());
    script.at(ms(500)).says(path(), &sent);
    let answered = ClientEvent::Answered { id, path: path(), mapped: mapped(), rtt: None };
    script.at(ms(520)).hears(path(), &answer(&sent)).tells(|event| *event == answered).quiet();
}

#[test]
fn case_13_an_answer_in_the_last_wait_still_counts() {
    let (mut script, sent, _) = asked(ClientConfig { rc: 1, rm: 4, ..ClientConfig::default() });
    script.at(ms(1_999)).hears(path(), &answer(&sent));
    script.tells(|event| matches!(event, ClientEvent::Answered { .. })).quiet();
}

#[test]
fn case_14_an_answer_from_elsewhere_or_to_elsewhere_settles_nothing() {
    let (mut script, sent, _) = asked(ClientConfig::default());
    let elsewhere = "6.6.6.6:3478".parse().unwrap();
    let from = FourTuple { remote: elsewhere, ..path() };
    let to = FourTuple { local: elsewhere, ..path() };
    script.at(ms(80)).hears(from, &answer(&sent)).hears(to, &answer(&sent)).quiet();
    assert_eq!(script.machine().inner().counters().wrong_path, 2);
    script.at(ms(90)).hears(path(), &answer(&sent));
    script.tells(|event| matches!(event, ClientEvent::Answered { .. }));
}

#[test]
fn a_refusal_is_a_refusal_even_if_it_names_an_address() {
    let (mut script, sent, id) = asked(ClientConfig::default());
    let failed = ClientEvent::Failed { id, path: path(), cause: Failure::Refused { code: 500 } };
    script.hears(path(), &refusal(&sent, 500)).tells(|event| *event == failed).quiet();
}

#[test]
fn an_answer_without_an_address_or_a_code_is_incomplete() {
    for class in [Class::Success, Class::Error] {
        let (mut script, sent, _) = asked(ClientConfig::default());
        let mut bytes = Vec::new();
        let id = Message::parse(&sent).unwrap().transaction_id();
        MessageWriter::new(&mut bytes, class, Method::BINDING, id).finish();
        let is_incomplete =
            |event: &ClientEvent| matches!(event, ClientEvent::Failed { cause: Failure::Incomplete, .. });
        script.hears(path(), &bytes).tells(is_incomplete);
    }
}

#[test]
fn an_answer_to_another_method_is_somebody_elses() {
    let (mut script, sent, _) = asked(ClientConfig::default());
    let mut bytes = Vec::new();
    let id = Message::parse(&sent).unwrap().transaction_id();
    MessageWriter::new(&mut bytes, Class::Success, Method::ALLOCATE, id).finish();
    script.ignores(path(), &bytes).quiet();
}

#[test]
fn requests_indications_and_noise_are_left_to_others_and_counted() {
    let (mut script, sent, _) = asked(ClientConfig::default());
    let mut damaged = answer(&sent);
    *damaged.last_mut().unwrap() ^= 1;
    script.ignores(path(), &sent).ignores(path(), b"").ignores(path(), b"noise").ignores(path(), &damaged);
    let expected = ClientCounters { not_an_answer: 1, not_stun: 3, ..ClientCounters::default() };
    assert_eq!(*script.machine().inner().counters(), expected);
}

#[test]
fn a_cancelled_request_is_forgotten() {
    let (mut script, sent, id) = asked(ClientConfig::default());
    script.does(|client, now| assert!(client.command(now, |client| client.cancel(id))));
    script.does(|client, now| assert!(!client.command(now, |client| client.cancel(id)), "only once"));
    script.ignores(path(), &answer(&sent)).at(ms(60_000)).quiet();
    assert_eq!(script.machine().poll_timeout(), None);
}

#[test]
fn one_request_more_than_the_limit_is_refused_until_events_are_polled() {
    let mut client = Client::new(Rng::from_u64(7), ClientConfig { rc: 1, rm: 1, ..ClientConfig::default() });
    for _ in 0..REQUESTS_MAX {
        assert!(client.binding(START, path()).is_ok());
    }
    assert_eq!(client.binding(START, path()), Err(RequestError::TooMany));
    client.handle_timeout(ms(500));
    assert_eq!(client.requests(), 0);
    assert_eq!(client.binding(ms(500), path()), Err(RequestError::TooMany), "32 events wait");
    assert!(client.poll_event().is_some());
    assert!(client.binding(ms(500), path()).is_ok());
    assert_eq!(client.binding(ms(500), path()), Err(RequestError::TooMany));
}

#[test]
fn with_credentials_only_a_signed_answer_counts() {
    let alice = Credentials::short_term(b"alice", b"her password").unwrap();
    let config = ClientConfig { credentials: Some(alice.clone()), ..ClientConfig::default() };
    let (mut script, sent, _) = asked(config.clone());
    let request = Message::parse(&sent).unwrap();
    assert_eq!((request.username(), request.verify(alice.key())), (Some(&b"alice"[..]), Ok(())));

    let signed = |key: &crate::Key| {
        let mut out = Vec::new();
        MessageWriter::new(&mut out, Class::Success, Method::BINDING, request.transaction_id())
            .xor_mapped_address(mapped())
            .integrity_sha256(key)
            .finish();
        out
    };
    script.hears(path(), &answer(&sent)).hears(path(), &signed(&crate::Key::short_term(b"guess"))).quiet();
    assert_eq!(script.machine().inner().counters().unauthentic, 2);
    script.hears(path(), &signed(alice.key()));
    script.tells(|event| matches!(event, ClientEvent::Answered { .. })).quiet();

    // Nothing but forgeries until the end: the failure says so.
    let (mut script, sent, _) = asked(ClientConfig { rc: 1, rm: 1, ..config });
    script.hears(path(), &refusal(&sent, 401)).quiet().at(ms(500));
    script.tells(|event| matches!(event, ClientEvent::Failed { cause: Failure::Unauthentic, .. }));
}

#[test]
fn software_is_sent_if_it_is_short_enough() {
    for len in [0, SOFTWARE_MAX, SOFTWARE_MAX + 1] {
        let software = String::from_utf8(vec![b'g'; len]).unwrap();
        let (_, sent, _) = asked(ClientConfig { software: Some(software), ..ClientConfig::default() });
        let sent = Message::parse(&sent).unwrap().software().map(str::len);
        assert_eq!(sent, (len <= SOFTWARE_MAX).then_some(len));
    }
}

#[test]
fn a_buffer_without_room_costs_one_send_and_is_counted() {
    let mut client = Client::new(Rng::from_u64(7), ClientConfig::default());
    client.binding(START, path()).unwrap();
    let mut storage = Vec::new();
    assert_eq!(client.poll_transmit(START, &mut Buf::new(&mut storage).with_limit(20)), None);
    assert_eq!((storage.len(), client.counters().no_room), (0, 1));
    client.handle_timeout(ms(500));
    assert!(client.poll_transmit(ms(500), &mut Buf::new(&mut storage)).is_some());
}

#[test]
fn a_driver_that_does_not_send_for_a_while_sends_one_copy() {
    let mut client = Client::new(Rng::from_u64(7), ClientConfig::default());
    client.binding(START, path()).unwrap();
    client.handle_timeout(ms(500));
    let mut storage = Vec::new();
    assert!(client.poll_transmit(ms(600), &mut Buf::new(&mut storage)).is_some());
    assert_eq!(client.poll_transmit(ms(600), &mut Buf::new(&mut Vec::new())), None);
    client.handle_input(ms(650), Input::new(path(), &mut answer(&storage)));
    let Some(ClientEvent::Answered { rtt, .. }) = client.poll_event() else { panic!() };
    assert_eq!(rtt, None, "it was due twice, so it does not count as sent once");
}

#[test]
fn the_same_seed_asks_with_the_same_bytes() {
    assert_eq!(asked(ClientConfig::default()).1, asked(ClientConfig::default()).1);
}

#[test]
fn a_driver_that_wakes_hours_late_sends_once_and_goes_on() {
    let mut client = Checked::new(Client::new(Rng::from_u64(7), ClientConfig::default()));
    client.command(START, |client| client.binding(START, path())).unwrap();
    let mut storage = Vec::new();
    let late = ms(3_600_000);
    for now in [START, late] {
        client.handle_timeout(now);
        assert!(client.poll_transmit(now, &mut Buf::new(&mut storage)).is_some());
        assert_eq!(client.poll_transmit(now, &mut Buf::new(&mut storage)), None);
    }
    let expected = Deadline { at: late + Duration::from_secs(1), why: "retransmit" };
    assert_eq!(client.poll_timeout(), Some(expected));
}

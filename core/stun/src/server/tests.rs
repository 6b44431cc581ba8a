//! The server alone, on a timeline.

use super::*;
use alloc::vec;
use gimlet_testkit::{Checked, Script};

fn path_from(remote: &str) -> FourTuple {
    FourTuple::new("192.0.2.1:3478".parse().unwrap(), remote.parse().unwrap())
}

fn path() -> FourTuple {
    path_from("198.51.100.7:61000")
}

fn open() -> Script<Checked<Server>> {
    Script::new(Checked::new(Server::new(ServerConfig::default())))
}

fn request(number: u8) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Request, Method::BINDING, TransactionId([number; 12])).finish();
    out
}

fn answer(number: u8, mapped: &str) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Success, Method::BINDING, TransactionId([number; 12]))
        .xor_mapped_address(mapped.parse().unwrap())
        .finish();
    out
}

#[test]
fn the_answer_is_where_the_request_came_from_and_nothing_else() {
    let mut script = open();
    for remote in ["198.51.100.7:61000", "[2001:db8::7]:61000"] {
        script.hears(path_from(remote), &request(1)).says(path_from(remote), &answer(1, remote)).quiet();
    }
}

#[test]
fn an_ipv4_client_of_a_dual_stack_socket_gets_an_ipv4_answer() {
    let path = path_from("[::ffff:198.51.100.7]:61000");
    open().hears(path, &request(1)).says(path, &answer(1, "198.51.100.7:61000"));
}

#[test]
fn answers_leave_in_the_order_of_requests() {
    let mut script = open();
    script.hears(path(), &request(1)).hears(path(), &request(2)).hears(path(), &request(1));
    for number in [1, 2, 1] {
        script.says(path(), &answer(number, "198.51.100.7:61000"));
    }
    script.quiet();
}

#[test]
fn fingerprint_is_answered_with_fingerprint() {
    let mut bytes = Vec::new();
    MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12])).fingerprint();
    open().hears(path(), &bytes).says_that(path(), |answer| {
        assert!(Message::parse(answer).unwrap().has_fingerprint());
    });
}

#[test]
fn what_is_no_binding_request_is_left_to_others_and_counted() {
    let mut script = open();
    for (class, method) in [
        (Class::Success, Method::BINDING),
        (Class::Error, Method::BINDING),
        (Class::Request, Method::ALLOCATE),
        (Class::Indication, Method::SEND),
    ] {
        let mut bytes = Vec::new();
        MessageWriter::new(&mut bytes, class, method, TransactionId([1; 12])).finish();
        script.ignores(path(), &bytes);
    }
    script.ignores(path(), b"noise").quiet();
    let expected =
        ServerCounters { not_a_request: 2, other_method: 2, not_stun: 1, ..ServerCounters::default() };
    assert_eq!(*script.machine().inner().counters(), expected);
}

#[test]
fn a_request_from_port_zero_cannot_be_answered() {
    let mut script = open();
    script.hears(path_from("198.51.100.7:0"), &request(1)).quiet();
    assert_eq!(script.machine().inner().counters().unanswerable, 1);
}

#[test]
fn a_flood_evicts_the_oldest_answers_and_counts_them() {
    let mut server = Server::new(ServerConfig::default());
    for number in 0..REPLIES_MAX + 10 {
        let mut bytes = request(number as u8);
        let verdict = server.handle_input(Instant::ZERO, Input::new(path(), &mut bytes));
        assert_eq!(verdict, Verdict::Consumed);
    }
    assert_eq!(server.counters().evicted, 10);
    let (mut storage, mut numbers) = (Vec::new(), Vec::new());
    while server.poll_transmit(Instant::ZERO, &mut Buf::new(&mut storage)).is_some() {
        numbers.push(storage[8]);
    }
    assert_eq!(numbers, (10..REPLIES_MAX as u8 + 10).collect::<Vec<_>>());
}

#[test]
fn software_is_named_only_where_it_does_not_lengthen_the_answer() {
    let config = ServerConfig { software: Some("gimlet".into()), ..ServerConfig::default() };
    let mut script = Script::new(Checked::new(Server::new(config)));
    // Header 20, SOFTWARE 12, XOR-MAPPED-ADDRESS 12: it fits a request of 44 bytes.
    for (padding, named) in [(0, false), (16, false), (20, true), (200, true)] {
        let mut bytes = Vec::new();
        MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12]))
            .attribute(0xfffe, &vec![0; padding])
            .finish();
        script.hears(path(), &bytes).says_that(path(), |answer| {
            assert_eq!(Message::parse(answer).unwrap().software().is_some(), named, "{padding}");
            assert!(!named || answer.len() <= bytes.len());
        });
    }
}

#[test]
fn software_leaves_room_for_the_seals_that_follow() {
    let alice = Credentials::short_term(b"a", b"password").unwrap();
    let config = ServerConfig { credentials: vec![alice.clone()], software: Some("gimlet".into()) };
    let mut script = Script::new(Checked::new(Server::new(config)));
    let mut seen = Vec::new();
    for padding in (0..100).step_by(4) {
        let mut bytes = Vec::new();
        MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12]))
            .username(b"a")
            .attribute(0xfffe, &vec![0; padding])
            .integrity_sha256(alice.key())
            .fingerprint();
        script.hears(path(), &bytes).says_that(path(), |answer| {
            let named = Message::parse(answer).unwrap().software().is_some();
            assert!(!named || answer.len() <= bytes.len(), "{padding}");
            seen.push(named);
        });
    }
    assert!(seen.contains(&false) && seen.contains(&true) && seen.is_sorted());
}

#[test]
fn a_software_or_a_user_past_the_limit_is_left_out() {
    let user = |number: usize| Credentials::short_term(&number.to_be_bytes(), b"password").unwrap();
    let credentials = (0..=CREDENTIALS_MAX).map(user).collect();
    let software = Some(String::from_utf8(vec![b'g'; SOFTWARE_MAX + 1]).unwrap());
    let server = Server::new(ServerConfig { credentials, software });
    assert_eq!((server.config.credentials.len(), server.config.software), (CREDENTIALS_MAX, None));
    assert!(Credentials::short_term(&[b'u'; crate::USERNAME_MAX + 1], b"").is_none());
}

#[test]
fn more_unknown_attributes_than_fit_are_cut_off() {
    let mut bytes = Vec::new();
    let mut writer = MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12]));
    for kind in 0..12 {
        writer = writer.attribute(0x7000 + kind, &[]);
    }
    writer.finish();
    open().hears(path(), &bytes).says_that(path(), |answer| {
        let listed: Vec<u16> = Message::parse(answer).unwrap().unknown_attributes().collect();
        assert_eq!(listed, (0x7000..0x7000 + UNKNOWN_MAX as u16).collect::<Vec<_>>());
    });
}

#[test]
fn a_buffer_without_room_costs_the_answer_and_is_counted() {
    let mut server = Server::new(ServerConfig::default());
    server.handle_input(Instant::ZERO, Input::new(path(), &mut request(1)));
    let mut storage = Vec::new();
    assert_eq!(server.poll_transmit(Instant::ZERO, &mut Buf::new(&mut storage).with_limit(20)), None);
    assert_eq!((storage.len(), server.counters().no_room), (0, 1));
}

/// The shortest request that gets each kind of answer, over IPv6, with the shortest signature.
#[test]
fn no_answer_outgrows_its_request_by_more_than_the_limit() {
    let alice = Credentials::short_term(b"a", b"password").unwrap();
    let remote = path_from("[2001:db8::7]:61000");
    let server = |credentials| {
        Script::new(Checked::new(Server::new(ServerConfig { credentials, ..ServerConfig::default() })))
    };
    let (mut open, mut guarded) = (server(vec![]), server(vec![alice.clone()]));
    let mut growth = Vec::new();
    for (unknown, signed) in [(0, false), (1, false), (8, false), (0, true), (1, true), (8, true)] {
        for script in [&mut open, &mut guarded] {
            let mut bytes = Vec::new();
            let mut writer =
                MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12]));
            for kind in 0..unknown {
                writer = writer.attribute(0x7000 + kind, &[]);
            }
            if signed {
                writer.username(b"a").integrity(alice.key()).finish();
                if script.machine().inner().config.credentials.is_empty() {
                    continue;
                }
            } else {
                writer.finish();
            }
            let request_len = bytes.len();
            script.hears(remote, &bytes).says_that(remote, |answer| {
                growth.push(answer.len().saturating_sub(request_len));
            });
        }
    }
    assert!(growth.iter().all(|growth| *growth <= REPLY_GROWTH_MAX), "{growth:?}");
    assert!(growth.len() == 9 && growth.iter().max() > Some(&24), "{growth:?}");
}

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

fn faces() -> Faces {
    Faces::new("192.0.2.1:3478".parse().unwrap(), "192.0.2.2:3479".parse().unwrap()).unwrap()
}

fn with_faces() -> Script<Checked<Server>> {
    Script::new(Checked::new(Server::with_faces(ServerConfig::default(), faces())))
}

fn change(address: bool, port: bool) -> Vec<u8> {
    let mut out = Vec::new();
    MessageWriter::new(&mut out, Class::Request, Method::BINDING, TransactionId([1; 12]))
        .change_request(crate::ChangeRequest { address, port })
        .finish();
    out
}

/// RFC 5780 §6.1, tables 1 and 2, from each of the four faces.
#[test]
fn each_face_answers_from_the_face_that_was_asked_for() {
    let all = faces().addresses();
    assert_eq!(
        all.map(|face| alloc::format!("{face}")),
        ["192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478", "192.0.2.2:3479",]
    );
    let remote: SocketAddr = "198.51.100.7:61000".parse().unwrap();
    let mut script = with_faces();
    for (place, face) in all.into_iter().enumerate() {
        for (address, port) in [(false, false), (false, true), (true, false), (true, true)] {
            let from = all[place ^ usize::from(port) ^ (usize::from(address) << 1)];
            let arrives = FourTuple::new(face, remote);
            script.hears(arrives, &change(address, port)).says_that(FourTuple::new(from, remote), |answer| {
                let answer = Message::parse(answer).unwrap();
                assert_eq!((answer.class(), answer.xor_mapped_address()), (Class::Success, Some(remote)));
                assert_eq!(
                    (answer.response_origin(), answer.other_address()),
                    (Some(from), Some(all[place ^ 3]))
                );
            });
        }
    }
}

#[test]
fn a_plain_request_at_a_face_learns_of_the_other_address() {
    with_faces().hears(path(), &request(1)).says_that(path(), |answer| {
        let answer = Message::parse(answer).unwrap();
        assert_eq!(answer.other_address(), "192.0.2.2:3479".parse().ok());
        assert_eq!(answer.response_origin(), Some(path().local));
    });
}

#[test]
fn at_an_address_that_is_no_face_the_server_is_an_ordinary_one() {
    let elsewhere = FourTuple::new("192.0.2.9:3478".parse().unwrap(), path().remote);
    for (mut script, path) in [(open(), path()), (with_faces(), elsewhere)] {
        script.hears(path, &request(1)).says(path, &answer(1, "198.51.100.7:61000"));
        script.hears(path, &change(true, true)).says_that(path, |answer| {
            let answer = Message::parse(answer).unwrap();
            assert_eq!(answer.unknown_attributes().collect::<Vec<_>>(), [attribute::CHANGE_REQUEST]);
        });
    }
}

#[test]
fn response_port_and_padding_are_refused_where_they_arrived() {
    let mut script = with_faces();
    for kind in [attribute::RESPONSE_PORT, attribute::PADDING] {
        let mut bytes = Vec::new();
        MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12]))
            .change_request(crate::ChangeRequest { address: true, port: true })
            .attribute(kind, &[0x12, 0x34, 0, 0])
            .finish();
        script.hears(path(), &bytes).says_that(path(), |answer| {
            let answer = Message::parse(answer).unwrap();
            assert_eq!(answer.unknown_attributes().collect::<Vec<_>>(), [kind]);
        });
    }
}

#[test]
fn a_change_request_that_cannot_be_read_is_a_bad_request() {
    let mut bytes = Vec::new();
    MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12]))
        .attribute(attribute::CHANGE_REQUEST, &[0; 2])
        .finish();
    let mut script = with_faces();
    script.hears(path(), &bytes).says_that(path(), |answer| {
        let error = Message::parse(answer).unwrap().error_code().map(|error| error.code);
        assert_eq!(error, Some(error_code::BAD_REQUEST));
    });
    assert_eq!(script.machine().inner().counters().refused_bad_request, 1);
}

#[test]
fn two_addresses_that_share_anything_have_no_four_faces() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let primary = at("192.0.2.1:3478");
    for other in ["192.0.2.1:3479", "192.0.2.2:3478", "0.0.0.0:3479", "192.0.2.2:0", "[2001:db8::1]:3479"] {
        assert_eq!(Faces::new(primary, at(other)), None, "{other}");
    }
}

/// The shortest requests there are, over IPv6 too, and signed in the shortest way.
#[test]
fn the_faces_do_not_make_an_answer_outgrow_its_request() {
    let alice = Credentials::short_term(b"a", b"password").unwrap();
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let v6 = Faces::new(at("[2001:db8::1]:3478"), at("[2001:db8::2]:3479")).unwrap();
    for (faces, remote) in [(faces(), at("198.51.100.7:61000")), (v6, at("[2001:db8::7]:61000"))] {
        let path = FourTuple::new(faces.addresses()[0], remote);
        for signed in [false, true] {
            let mut bytes = Vec::new();
            let writer =
                MessageWriter::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([1; 12]));
            let mut credentials = vec![];
            if signed {
                credentials.push(alice.clone());
                writer.username(b"a").integrity_sha256(alice.key()).finish();
                // RFC 8489 §14.6 lets the signature be cut to 16 bytes.
                let at = bytes.len() - 32;
                let length = (at + 32 - 20) as u16;
                bytes[2..4].copy_from_slice(&(length - 16).to_be_bytes());
                bytes[at - 2..at].copy_from_slice(&16u16.to_be_bytes());
                bytes.truncate(at);
                let tag = alice.key().tag(IntegrityAlgorithm::Sha256, &bytes[..at - 4], length - 16);
                bytes.extend_from_slice(&tag.as_ref()[..16]);
            } else {
                writer.finish();
            }
            let config = ServerConfig { credentials, ..ServerConfig::default() };
            let mut script = Script::new(Checked::new(Server::with_faces(config, faces)));
            script.hears(path, &bytes).says_that(path, |answer| {
                assert!(answer.len() <= bytes.len() + REPLY_GROWTH_MAX);
                let answer = Message::parse(answer).unwrap();
                assert_eq!(answer.class(), Class::Success);
                assert_eq!(answer.other_address().is_some(), !signed || remote.is_ipv4());
            });
        }
    }
}

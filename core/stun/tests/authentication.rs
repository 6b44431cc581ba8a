//! Cases 8 to 10: who may ask, and what is refused. Client and server face each other, or the
//! messages are written by hand.

use std::net::SocketAddr;

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Rng, Verdict};
use gimlet_stun::{
    Class, Client, ClientConfig, ClientEvent, Credentials, Failure, HEADER_LEN, IntegrityError, Key, Message,
    MessageWriter, Method, ParseError, Server, ServerConfig, TransactionId, attribute,
};
use gimlet_testkit::Checked;

const ID: TransactionId = TransactionId(*b"abcdefghijkl");

fn path() -> FourTuple {
    let (server, client): (SocketAddr, SocketAddr) =
        ("192.0.2.1:3478".parse().unwrap(), "198.51.100.7:61000".parse().unwrap());
    FourTuple::new(server, client)
}

fn alice() -> Credentials {
    Credentials::short_term(b"alice", b"her password").unwrap()
}

fn guarded() -> Checked<Server> {
    let mallory = Credentials::short_term(b"mallory", b"his password").unwrap();
    Checked::new(Server::new(ServerConfig { credentials: vec![mallory, alice()], software: None }))
}

fn open() -> Checked<Server> {
    Checked::new(Server::new(ServerConfig::default()))
}

fn request(write: impl FnOnce(MessageWriter<'_>) -> &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(MessageWriter::new(&mut out, Class::Request, Method::BINDING, ID));
    out
}

/// What the server answers.
fn ask(server: &mut Checked<Server>, request: &[u8]) -> Option<Vec<u8>> {
    let verdict = server.handle_input(Instant::ZERO, Input::new(path(), &mut request.to_vec()));
    let mut storage = Vec::new();
    let transmit = server.poll_transmit(Instant::ZERO, &mut Buf::new(&mut storage));
    assert_eq!(verdict == Verdict::Consumed, transmit.is_some());
    assert!(transmit.is_none_or(|transmit| transmit.path == path()));
    transmit.map(|_| storage)
}

fn code_of(answer: &[u8]) -> Option<u16> {
    let message = Message::parse(answer).unwrap();
    assert_eq!(message.transaction_id(), ID);
    message.error_code().map(|error| error.code)
}

#[test]
fn case_08_unknown_required_attributes_of_a_request_are_refused_and_listed() {
    let bytes = request(|writer| {
        writer.attribute(0x7ffe, b"a").attribute(0xfffe, b"optional").attribute(0x0002, b"").fingerprint()
    });
    let mut server = open();
    let answer = ask(&mut server, &bytes).unwrap();
    let message = Message::parse(&answer).unwrap();
    assert_eq!((message.class(), code_of(&answer)), (Class::Error, Some(420)));
    assert_eq!(message.unknown_attributes().collect::<Vec<_>>(), [0x7ffe, 0x0002]);
    assert!(message.has_fingerprint());
    assert_eq!(server.inner().counters().refused_unknown_attribute, 1);
}

#[test]
fn case_08_the_refusal_of_an_authentic_request_is_signed() {
    for sha256 in [false, true] {
        let alice = alice();
        let bytes = request(|writer| {
            let writer = writer.username(b"alice").attribute(0x7ffe, b"a");
            if sha256 { writer.integrity_sha256(alice.key()) } else { writer.integrity(alice.key()) }.finish()
        });
        let answer = ask(&mut guarded(), &bytes).unwrap();
        let message = Message::parse(&answer).unwrap();
        assert_eq!(code_of(&answer), Some(420));
        assert_eq!(message.verify(alice.key()), Ok(()));
        assert_eq!(message.attribute(attribute::MESSAGE_INTEGRITY_SHA256).is_some(), sha256);
    }
}

#[test]
fn case_08_attributes_that_this_server_does_not_act_on_are_refused_too() {
    let bytes = request(|writer| writer.change_request(gimlet_stun::ChangeRequest::default()).finish());
    assert_eq!(Message::parse(&bytes).unwrap().unknown_required().count(), 0, "the codec reads it");
    assert_eq!(code_of(&ask(&mut open(), &bytes).unwrap()), Some(420));
}

#[test]
fn case_08_an_unknown_required_attribute_in_an_answer_fails_the_request() {
    let mut client = Checked::new(Client::new(Rng::from_u64(8), ClientConfig::default()));
    client.command(Instant::ZERO, |client| client.binding(Instant::ZERO, path().flipped())).unwrap();
    let mut storage = Vec::new();
    client.poll_transmit(Instant::ZERO, &mut Buf::new(&mut storage)).unwrap();
    let id = Message::parse(&storage).unwrap().transaction_id();
    let mut answer = Vec::new();
    MessageWriter::new(&mut answer, Class::Success, Method::BINDING, id)
        .xor_mapped_address(path().remote)
        .attribute(0x7ffe, b"")
        .finish();
    client.handle_input(Instant::ZERO, Input::new(path().flipped(), &mut answer));
    let Some(ClientEvent::Failed { cause, .. }) = client.poll_event() else { panic!("it succeeded") };
    assert_eq!(cause, Failure::UnknownAttribute { kind: 0x7ffe });
}

#[test]
fn case_08_indications_are_never_answered_whatever_they_carry() {
    let mut server = open();
    for kind in [None, Some(0x7ffe)] {
        let mut bytes = Vec::new();
        let mut writer = MessageWriter::new(&mut bytes, Class::Indication, Method::BINDING, ID);
        if let Some(kind) = kind {
            writer = writer.attribute(kind, b"");
        }
        writer.finish();
        server.handle_input(Instant::ZERO, Input::new(path(), &mut bytes));
        assert_eq!(server.poll_transmit(Instant::ZERO, &mut Buf::new(&mut Vec::new())), None);
    }
    assert_eq!(server.inner().counters().indications, 2);
}

#[test]
fn case_08_unknown_optional_attributes_are_ignored() {
    let bytes = request(|writer| writer.attribute(0xfffe, b"whatever").finish());
    assert_eq!(code_of(&ask(&mut open(), &bytes).unwrap()), None);
}

#[test]
fn case_09_a_wrong_key_or_an_unknown_user_gets_401_unsigned() {
    let (alice, stranger) = (alice(), Credentials::short_term(b"eve", b"her password").unwrap());
    let wrong = Key::short_term(b"a guess");
    for (username, key) in [(&b"alice"[..], &wrong), (stranger.username(), alice.key())] {
        let bytes = request(|writer| writer.username(username).integrity(key).finish());
        let mut server = guarded();
        let answer = ask(&mut server, &bytes).unwrap();
        assert_eq!(code_of(&answer), Some(401));
        assert!(!Message::parse(&answer).unwrap().has_integrity());
        assert_eq!(server.inner().counters().refused_unauthenticated, 1);
    }
}

#[test]
fn case_09_no_signature_or_no_user_name_gets_400() {
    let alice = alice();
    let requests = [
        request(|writer| writer.finish()),
        request(|writer| writer.username(b"alice").finish()),
        request(|writer| writer.integrity(alice.key()).finish()),
    ];
    for bytes in &requests {
        assert_eq!(code_of(&ask(&mut guarded(), bytes).unwrap()), Some(400));
    }
}

#[test]
fn case_09_credentials_are_checked_before_unknown_attributes() {
    let bytes = request(|writer| writer.username(b"alice").attribute(0x7ffe, b"").finish());
    assert_eq!(code_of(&ask(&mut guarded(), &bytes).unwrap()), Some(400), "not 420");
}

#[test]
fn case_09_the_right_credentials_get_a_signed_answer() {
    let alice = alice();
    let bytes = request(|writer| writer.username(b"alice").integrity(alice.key()).fingerprint());
    let answer = ask(&mut guarded(), &bytes).unwrap();
    let message = Message::parse(&answer).unwrap();
    assert_eq!((message.class(), message.xor_mapped_address()), (Class::Success, Some(path().remote)));
    assert_eq!(message.verify(alice.key()), Ok(()));
}

#[test]
fn case_09_an_open_server_leaves_signed_requests_to_others() {
    let bytes = request(|writer| writer.username(b"remote:local").integrity(alice().key()).finish());
    let mut server = open();
    assert_eq!(ask(&mut server, &bytes), None);
    assert_eq!(server.inner().counters().signed, 1);
}

#[test]
fn case_10_sha256_may_be_truncated_to_sixteen_bytes_in_steps_of_four() {
    let key = Key::short_term(b"password");
    for len in 0..=40 {
        // The hash covers the length up to the end of the truncated attribute, so it is computed
        // over a message with a placeholder of that length.
        let mut bytes = request(|writer| writer.username(b"user").finish());
        let end = bytes.len();
        bytes.extend_from_slice(&attribute::MESSAGE_INTEGRITY_SHA256.to_be_bytes());
        bytes.extend_from_slice(&(len as u16).to_be_bytes());
        bytes.resize(end + 4 + usize::next_multiple_of(len, 4), 0);
        let length = (bytes.len() - HEADER_LEN) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let tag = hmac_sha256(b"password", &bytes[..end]);
        let real = len.min(tag.len());
        bytes[end + 4..][..real].copy_from_slice(&tag[..real]);
        match Message::parse(&bytes) {
            Ok(message) => {
                assert!((16..=32).contains(&len) && len % 4 == 0, "{len} was accepted");
                assert_eq!(message.verify(&key), Ok(()), "{len}");
                assert_eq!(message.verify(&Key::short_term(b"other")), Err(IntegrityError::Mismatch));
            }
            Err(error) => {
                assert_eq!(error, ParseError::IntegrityLength { kind: 0x001c, len });
                assert!(!(16..=32).contains(&len) || len % 4 != 0, "{len} was refused");
            }
        }
    }
}

#[test]
fn case_10_message_integrity_is_twenty_bytes_and_no_other_length() {
    for len in (0..=32).filter(|len| *len != 20) {
        let bytes = request(|writer| writer.attribute(attribute::MESSAGE_INTEGRITY, &vec![0; len]).finish());
        assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::IntegrityLength { kind: 0x0008, len });
    }
}

#[test]
fn case_10_with_both_signatures_the_stronger_one_decides() {
    let (right, wrong) = (Key::short_term(b"right"), Key::short_term(b"wrong"));
    let bytes = request(|writer| writer.integrity(&right).integrity_sha256(&wrong).finish());
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.verify(&right), Err(IntegrityError::Mismatch));
    assert_eq!(message.verify(&wrong), Ok(()));
    let bytes = request(|writer| writer.finish());
    assert_eq!(Message::parse(&bytes).unwrap().verify(&right), Err(IntegrityError::Missing));
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

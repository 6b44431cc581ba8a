//! The same datagram, at the machines that it may reach.

use std::net::SocketAddr;

use gimlet_machine::{Buf, Counters as _, FourTuple, Input, Instant, Machine, Rng, Verdict};
use gimlet_stun::{
    Class, Client, ClientConfig, ClientEvent, Credentials, Discovery, DiscoveryConfig, DiscoveryEvent, Faces,
    Key, Message, MessageWriter, Method, REPLY_GROWTH_MAX, Server, ServerConfig,
};
use gimlet_testkit::Checked;

/// The credentials that the seeds are signed with.
pub(super) const USER: (&[u8], &[u8]) = (b"remote:local", b"right");

fn path() -> FourTuple {
    FourTuple::new(SocketAddr::from(([192, 0, 2, 1], 3478)), SocketAddr::from(([203, 0, 113, 9], 4000)))
}

fn credentials() -> Credentials {
    Credentials::short_term(USER.0, USER.1).expect("a user name within the limit")
}

/// A server answers a request once, where it came from, hardly longer than it was; whatever it does
/// not answer it counts.
pub(super) fn server(bytes: &[u8]) {
    for known in [vec![], vec![credentials()]] {
        let open = known.is_empty();
        let config = ServerConfig { credentials: known, software: Some("gimlet".into()) };
        let (mut server, mut storage) = (Checked::new(Server::new(config)), Vec::new());
        let now = Instant::ZERO;
        let verdict = server.handle_input(now, Input::new(path(), &mut bytes.to_vec()));
        let transmit = server.poll_transmit(now, &mut Buf::new(&mut storage));
        let Some(transmit) = transmit else {
            assert_eq!(server.inner().counters().total(), 1, "dropped and not counted");
            continue;
        };
        let request = Message::parse(bytes).expect("only a message is answered");
        let reply = Message::parse(&storage).expect("an answer is a message");
        assert_eq!((verdict, transmit.path), (Verdict::Consumed, path()));
        assert_eq!((request.class(), request.method()), (Class::Request, Method::BINDING));
        assert_eq!((reply.method(), reply.transaction_id()), (Method::BINDING, request.transaction_id()));
        assert_eq!(reply.has_fingerprint(), request.has_fingerprint());
        assert!(storage.len() <= bytes.len() + REPLY_GROWTH_MAX, "an answer worth forging a request for");
        match reply.class() {
            Class::Success => {
                assert_eq!(reply.xor_mapped_address(), Some(path().remote));
                assert!(open || request.verify(credentials().key()).is_ok(), "a stranger was served");
                assert_eq!(reply.has_integrity(), !open);
            }
            Class::Error => assert!(reply.error_code().is_some()),
            Class::Request | Class::Indication => panic!("a server only answers"),
        }
        assert!(server.poll_transmit(now, &mut Buf::new(&mut storage)).is_none(), "answered twice");
    }
}

/// A client takes an answer only on the path of its request and, if it has credentials, only with
/// their signature; each request ends in exactly one event.
pub(super) fn client(bytes: &[u8]) {
    for known in [None, Some(credentials())] {
        let signs = known.is_some();
        let mut client = Checked::new(Client::new(
            Rng::from_u64(1),
            ClientConfig { credentials: known, ..ClientConfig::default() },
        ));
        let (mut storage, mut now) = (Vec::new(), Instant::ZERO);
        client.command(now, |client| client.binding(now, path())).expect("room for a request");
        client.poll_transmit(now, &mut Buf::new(&mut storage)).expect("a request");
        let answer = as_answer_to(&storage, bytes);
        client.handle_input(now, Input::new(path().flipped(), &mut answer.clone()));
        assert!(client.poll_event().is_none(), "an answer from elsewhere counts for nothing");
        client.handle_input(now, Input::new(path(), &mut answer.clone()));
        let mut events: Vec<_> = std::iter::from_fn(|| client.poll_event()).collect();
        if let Some(event) = events.first() {
            let message = Message::parse(&answer).expect("only a message is an answer");
            assert!(!signs || message.verify(credentials().key()).is_ok(), "an unsigned answer counted");
            if let ClientEvent::Answered { mapped, .. } = event {
                assert_eq!((message.class(), message.xor_mapped_address()), (Class::Success, Some(*mapped)));
            }
        }
        while let Some(deadline) = client.poll_timeout() {
            now = deadline.at;
            client.handle_timeout(now);
            while client.poll_transmit(now, &mut Buf::new(&mut storage)).is_some() {}
            events.extend(std::iter::from_fn(|| client.poll_event()));
        }
        assert_eq!(events.len(), 1, "one request, one event");
    }
}

/// A server with four faces answers from one of them, to where the request came from, hardly longer than
/// it was.
pub(super) fn faces(bytes: &[u8]) {
    let other = SocketAddr::from(([192, 0, 2, 2], 3479));
    let faces = Faces::new(path().local, other).expect("two addresses, two ports");
    for known in [vec![], vec![credentials()]] {
        let config = ServerConfig { credentials: known, software: Some("gimlet".into()) };
        let (mut server, mut storage) = (Checked::new(Server::with_faces(config, faces)), Vec::new());
        server.handle_input(Instant::ZERO, Input::new(path(), &mut bytes.to_vec()));
        let Some(transmit) = server.poll_transmit(Instant::ZERO, &mut Buf::new(&mut storage)) else {
            continue;
        };
        let reply = Message::parse(&storage).expect("an answer is a message");
        assert_eq!(transmit.path.remote, path().remote, "an answer went to somebody who did not ask");
        assert!(faces.addresses().contains(&transmit.path.local), "an answer from nowhere");
        assert!(transmit.path.local == path().local || reply.class() == Class::Success, "a refusal moved");
        assert!(storage.len() <= bytes.len() + REPLY_GROWTH_MAX, "an answer worth forging a request for");
        assert!(server.poll_transmit(Instant::ZERO, &mut Buf::new(&mut storage)).is_none(), "answered twice");
    }
}

/// A discovery ends, once, whatever every address answers to everything; and since no answer comes from
/// anywhere but where the request went, nothing is known of filtering.
pub(super) fn discovery(bytes: &[u8]) {
    let locals: Vec<SocketAddr> = (0..3).map(|nth| SocketAddr::from(([10, 0, 0, 2], 5_000 + nth))).collect();
    let (mut now, mut storage, server) = (Instant::ZERO, Vec::new(), path().local);
    let config = DiscoveryConfig::default();
    let discovery =
        Discovery::new(now, Rng::from_u64(1), config, &locals, &[server]).expect("sound addresses");
    let (mut discovery, mut finished) = (Checked::new(discovery), None);
    loop {
        while let Some(transmit) = discovery.poll_transmit(now, &mut Buf::new(&mut storage)) {
            let mut answer = as_answer_to(&storage, bytes);
            discovery.handle_input(now, Input::new(transmit.path, &mut answer));
        }
        while let Some(event) = discovery.poll_event() {
            if let DiscoveryEvent::Finished(behaviour) = event {
                assert!(finished.replace(behaviour).is_none(), "it ended twice");
            }
        }
        let Some(deadline) = discovery.poll_timeout() else { break };
        now = deadline.at;
        discovery.handle_timeout(now);
    }
    assert!(now < Instant::from_millis(60_000), "it does not end");
    assert_eq!(finished.expect("it ends").filtering, None, "a filter without a test");
}

/// The attributes of `bytes` as an answer to `request`: signed with the right key, the wrong one or
/// none, as the old transaction id decides.
fn as_answer_to(request: &[u8], bytes: &[u8]) -> Vec<u8> {
    let request = Message::parse(request).expect("we sent it");
    let Ok(message) = Message::parse(bytes) else { return bytes.to_vec() };
    let class = if message.class() == Class::Error { Class::Error } else { Class::Success };
    let mut out = Vec::new();
    let mut writer = MessageWriter::new(&mut out, class, Method::BINDING, request.transaction_id());
    for attribute in message.attributes().filter(|attribute| !super::signs(attribute.kind)) {
        writer = writer.attribute(attribute.kind, attribute.value);
    }
    match message.transaction_id().0[1] % 4 {
        0 => writer.integrity(credentials().key()).fingerprint(),
        1 => writer.integrity_sha256(credentials().key()).finish(),
        2 => writer.integrity(&Key::short_term(b"wrong")).fingerprint(),
        _ => writer.fingerprint(),
    };
    out
}

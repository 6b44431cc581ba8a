//! What coturn said, understood; what our client said to it, said again byte for byte.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng, Transmit, Verdict};
use gimlet_stun::{AddressFamily, Class, Key, Message, Method, PasswordAlgorithm};
use gimlet_turn::{AllocationState, Client, ClientConfig, ClientEvent, Families, LongTerm};

/// One message of the conversation: whether it is ours, and its bytes.
type Line = (bool, Vec<u8>);

fn conversation() -> Vec<Line> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/coturn-4.6.1-udp.txt");
    let text = fs::read_to_string(file).unwrap();
    let (head, body) = text.split_once("\n\n").expect("a blank line before the bytes");
    assert!(head.contains("username: alice\npassword: her password\nrealm: gimlet.test"));
    let mut lines: Vec<Line> = Vec::new();
    for line in body.lines() {
        match line.chars().next() {
            Some('>') => lines.push((true, Vec::new())),
            Some('<') => lines.push((false, Vec::new())),
            _ => {}
        }
        let digits: Vec<u32> = line.chars().filter_map(|digit| digit.to_digit(16)).collect();
        let bytes = digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8);
        lines.last_mut().expect("the first line begins a message").1.extend(bytes);
    }
    lines
}

fn key() -> Key {
    Key::long_term(b"alice", b"gimlet.test", b"her password", PasswordAlgorithm::Md5)
}

#[test]
fn every_message_parses_and_every_one_after_the_challenge_is_signed() {
    let lines = conversation();
    assert_eq!(lines.len(), 11);
    let mut seen = Vec::new();
    for (ours, bytes) in &lines {
        let message = Message::parse(bytes).unwrap();
        let signed = message.verify(&key()).is_ok();
        seen.push((*ours, message.class(), message.method(), signed));
    }
    let (request, success) = (Class::Request, Class::Success);
    let expected = [
        (true, request, Method::ALLOCATE, false),
        (false, Class::Error, Method::ALLOCATE, false),
        (true, request, Method::ALLOCATE, true),
        (false, success, Method::ALLOCATE, true),
        (true, request, Method::CREATE_PERMISSION, true),
        (true, request, Method::CHANNEL_BIND, true),
        (false, success, Method::CREATE_PERMISSION, true),
        (true, Class::Indication, Method::SEND, false),
        (false, success, Method::CHANNEL_BIND, true),
        (true, request, Method::REFRESH, true),
        (false, success, Method::REFRESH, true),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_same_seed_has_the_same_conversation_again() {
    let lines = conversation();
    let granted = Message::parse(&lines[3].1).unwrap();
    let peer: SocketAddr = Message::parse(&lines[5].1).unwrap().xor_peer_address().unwrap();
    let (mapped, relayed) = (granted.xor_mapped_address().unwrap(), granted.xor_relayed_address().unwrap());
    let flow = FourTuple::new(mapped, "127.0.0.1:3478".parse().unwrap());
    let alice = LongTerm::new(b"alice", b"her password").unwrap();
    let config = ClientConfig { keepalive: Some(Duration::from_secs(1)), ..ClientConfig::default() };
    let mut client = Client::new(Rng::from_u64(7), flow, alice, config);
    let (mut now, mut storage, mut told) = (Instant::ZERO, Vec::new(), Vec::new());

    client.allocate(now, Families::V4).unwrap();
    client.bind_channel(now, peer).unwrap();
    for (number, (ours, bytes)) in lines.iter().enumerate() {
        if !ours {
            let verdict = client.handle_input(now, Input::new(Path::Direct(flow), &mut bytes.clone()));
            assert_eq!(verdict, Verdict::Consumed, "line {number}");
            told.extend(std::iter::from_fn(|| client.poll_event()));
            continue;
        }
        let mut out = Buf::new(&mut storage);
        if Message::parse(bytes).unwrap().class() == Class::Indication {
            out.put(b"as an indication");
            let path = Path::Relayed { relay: flow, peer };
            client.wrap(now, Transmit::new(path), &mut out).unwrap();
        } else if client.poll_transmit(now, &mut out).is_none() {
            now = client.poll_timeout().expect("the keepalive").at;
            client.handle_timeout(now);
            client.poll_transmit(now, &mut out).expect("a Refresh");
        }
        assert_eq!(&storage, bytes, "line {number}");
    }
    assert_eq!(client.state(), AllocationState::Allocated);
    assert_eq!(client.relayed(AddressFamily::V4), Some(relayed));
    let number = client.channel(now, peer).expect("bound");
    assert_eq!(told.last(), Some(&ClientEvent::ChannelBound { peer, number }));
}

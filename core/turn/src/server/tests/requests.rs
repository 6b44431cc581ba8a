//! Who is let in, and what each request comes to.

use super::*;

#[test]
fn a_user_gets_a_relayed_address_from_the_owners_socket() {
    let mut play = server(config());
    let mut guest = Guest::new(&mut play, path(), alice());
    let request = guest.request(Method::ALLOCATE, |writer| writer.requested_transport(17));
    play.hears(path(), &request);
    let mut id = None;
    play.tells(|event| {
        let ServerEvent::OpenRelay { id: asked, client, family, even: false } = event else { return false };
        id = Some(*asked);
        *family == AddressFamily::V4 && *client == path()
    });
    play.hears(path(), &request).quiet();
    let (local, public) = ("10.0.0.9:50000".parse().unwrap(), relay());
    run(&mut play, |server, now| server.relay_opened(now, id.unwrap(), local, public));
    let answer = heard_from(&mut play, path());
    let message = Message::parse(&answer).unwrap();
    assert_eq!((message.class(), message.verify(&guest.key())), (Class::Success, Ok(())));
    assert_eq!(message.xor_relayed_address(), Some(public), "clients are told the public address");
    assert_eq!(message.xor_mapped_address(), Some(path().remote));
    assert_eq!(message.lifetime(), Some(Duration::from_secs(600)));
    let told = ServerEvent::Allocated { client: path(), username: b"alice".to_vec() };
    play.tells(|event| *event == told).quiet();
    // A repeated request is answered as before; another one is a mismatch (RFC 8656 §7.2).
    play.hears(path(), &request).says(path(), &answer).quiet();
    assert_eq!(guest.asks(&mut play, Method::ALLOCATE, |writer| writer.requested_transport(17)), Some(437));
    assert_eq!(play.machine().inner().counters().repeated, 1);
}

#[test]
fn names_passwords_nonces_and_realms_all_have_to_be_right() {
    let mut play = server(config());
    let guest = Guest::new(&mut play, path(), alice());
    let mut hears = |guest: &Guest, bytes: Vec<u8>| {
        play.hears(guest.path, &bytes);
        let answer = heard_from(&mut play, guest.path);
        Message::parse(&answer).unwrap().error_code().unwrap().code
    };
    let ask = |mut guest: Guest| guest.request(Method::ALLOCATE, |writer| writer.requested_transport(17));
    let mallory = LongTerm::new(b"mallory", b"her password").unwrap();
    let wrong = LongTerm::new(b"alice", b"a guess").unwrap();
    for user in [mallory, wrong] {
        assert_eq!(hears(&guest, ask(Guest { user, ..guest.clone() })), 401);
    }
    let elsewhere = Guest { path: path_from(61_001), ..guest.clone() };
    assert_eq!(hears(&elsewhere, ask(elsewhere.clone())), 438, "a nonce is good for one address");
    assert_eq!(hears(&guest, ask(Guest { nonce: b"made up".to_vec(), ..guest.clone() })), 438);
    let without = |strip: fn(MessageWriter<'_>, &Guest)| {
        let mut out = Vec::new();
        let writer = MessageWriter::new(&mut out, Class::Request, Method::ALLOCATE, TransactionId([8; 12]));
        strip(writer, &guest);
        out
    };
    let no_name = without(|writer, guest| {
        writer.realm(b"gimlet").nonce(&guest.nonce).integrity(&guest.key()).finish();
    });
    let no_realm = without(|writer, guest| {
        writer.username(b"alice").nonce(&guest.nonce).integrity(&guest.key()).finish();
    });
    let no_nonce = without(|writer, guest| {
        writer.username(b"alice").realm(b"gimlet").integrity(&guest.key()).finish();
    });
    let other_realm = without(|writer, guest| {
        writer.username(b"alice").realm(b"other").nonce(&guest.nonce).integrity(&guest.key()).finish();
    });
    for bytes in [no_name, no_realm, no_nonce] {
        assert_eq!(hears(&guest, bytes), 400);
    }
    assert_eq!(hears(&guest, other_realm), 401);
}

#[test]
fn a_nonce_goes_stale_after_an_hour_and_the_new_one_is_good() {
    let (mut play, mut guest) = relaying();
    let lifetime = Duration::from_secs(3600);
    assert_eq!(guest.asks(&mut play, Method::REFRESH, |writer| writer.lifetime(lifetime)), None);
    play.at(secs(3599));
    assert_eq!(guest.asks(&mut play, Method::REFRESH, |writer| writer), None);
    play.at(secs(3600));
    let request = guest.request(Method::REFRESH, |writer| writer);
    play.hears(path(), &request);
    let challenge = heard_from(&mut play, path());
    let message = Message::parse(&challenge).unwrap();
    assert_eq!(message.error_code().unwrap().code, 438);
    guest.nonce = message.nonce().unwrap().to_vec();
    assert_eq!(guest.asks(&mut play, Method::REFRESH, |writer| writer), None);
}

#[test]
fn a_modern_client_is_known_by_hash_and_sha_256_and_hears_the_same() {
    let mut play = server(config());
    let guest = Guest::new(&mut play, path(), alice());
    let key = Key::long_term(b"alice", b"gimlet", b"her password", PasswordAlgorithm::Sha256);
    let both = [PasswordAlgorithm::Sha256, PasswordAlgorithm::Md5];
    let mut ask = |number, offered: &[PasswordAlgorithm], chosen: Option<PasswordAlgorithm>| {
        let mut out = Vec::new();
        let id = TransactionId([number; 12]);
        let writer = MessageWriter::new(&mut out, Class::Request, Method::ALLOCATE, id);
        let writer = writer.userhash(&userhash(b"alice", b"gimlet")).realm(b"gimlet").nonce(&guest.nonce);
        let mut writer = writer.requested_transport(99);
        if !offered.is_empty() {
            writer = writer.password_algorithms(offered);
        }
        if let Some(chosen) = chosen {
            writer = writer.password_algorithm(chosen);
        }
        writer.integrity_sha256(&key).finish();
        play.hears(path(), &out);
        let answer = heard_from(&mut play, path());
        let message = Message::parse(&answer).unwrap();
        (message.error_code().unwrap().code, message.verify(&key).is_ok())
    };
    assert_eq!(ask(1, &both, Some(PasswordAlgorithm::Sha256)), (442, true), "let in; 99 is no UDP");
    // Somebody between us tampered with the offer.
    assert_eq!(ask(2, &both[1..], Some(PasswordAlgorithm::Md5)), (400, false));
    assert_eq!(ask(3, &both, None), (400, false));
    assert_eq!(ask(4, &[], Some(PasswordAlgorithm::Sha256)), (400, false));
    assert_eq!(ask(5, &both, Some(PasswordAlgorithm::Md5)), (401, false), "another key");
}

#[test]
fn a_password_of_limited_time_is_good_until_then_under_either_secret() {
    let secrets = vec![b"new secret".to_vec(), b"old secret".to_vec()];
    let config = ServerConfig {
        secrets: secrets.clone(),
        unix_time_at_zero: Duration::from_secs(1_000_000),
        ..ServerConfig::default()
    };
    for secret in &secrets {
        let mut play = server(config.clone());
        let user = LongTerm::until(secret, 1_000_300, "carol").unwrap();
        let mut guest = Guest::new(&mut play, path(), user);
        guest.allocates(&mut play, relay());
        play.at(secs(299));
        assert_eq!(guest.asks(&mut play, Method::REFRESH, |writer| writer), None);
        play.at(secs(300));
        let late = guest.request(Method::REFRESH, |writer| writer);
        play.hears(path(), &late);
        let answer = heard_from(&mut play, path());
        assert_eq!(Message::parse(&answer).unwrap().error_code().unwrap().code, 401);
    }
    let mut play = server(config);
    let forged = LongTerm::until(b"a guess", 1_000_300, "carol").unwrap();
    let mut guest = Guest::new(&mut play, path(), forged);
    let request = guest.request(Method::ALLOCATE, |writer| writer.requested_transport(17));
    play.hears(path(), &request);
    let answer = heard_from(&mut play, path());
    assert_eq!(Message::parse(&answer).unwrap().error_code().unwrap().code, 401);
}

#[test]
fn an_allocate_that_asks_for_what_is_not_there_hears_which_part() {
    let mut play = server(config());
    let mut guest = Guest::new(&mut play, path(), alice());
    let mut ask =
        |write: fn(MessageWriter<'_>) -> MessageWriter<'_>| guest.asks(&mut play, Method::ALLOCATE, write);
    assert_eq!(ask(|writer| writer), Some(400));
    assert_eq!(ask(|writer| writer.requested_transport(6)), Some(442));
    assert_eq!(ask(|writer| writer.requested_transport(17).dont_fragment()), Some(420));
    assert_eq!(ask(|writer| writer.requested_transport(17).even_port(true)), Some(508));
    assert_eq!(ask(|writer| writer.requested_transport(17).reservation_token(&[0; 8])), Some(508));
    assert_eq!(
        ask(|writer| writer.requested_transport(17).requested_address_family(AddressFamily::V6)),
        Some(440)
    );
    assert_eq!(
        ask(|writer| writer
            .requested_transport(17)
            .attribute(attribute::REQUESTED_ADDRESS_FAMILY, &[9, 0, 0, 0])),
        Some(440)
    );
    assert_eq!(
        ask(|writer| writer.requested_transport(17).additional_address_family(AddressFamily::V4)),
        Some(400)
    );
    assert_eq!(
        ask(|writer| {
            let writer = writer.requested_transport(17).requested_address_family(AddressFamily::V4);
            writer.additional_address_family(AddressFamily::V6)
        }),
        Some(400)
    );
    assert_eq!(
        ask(|writer| writer.requested_transport(17).reservation_token(&[0; 8]).even_port(false)),
        Some(400)
    );
    assert_eq!(play.machine().inner().counters().refused, 10);
}

#[test]
fn unknown_attributes_are_listed() {
    let mut play = server(config());
    let mut guest = Guest::new(&mut play, path(), alice());
    let request = guest.request(Method::ALLOCATE, |writer| {
        writer.requested_transport(17).dont_fragment().attribute(0x7ffe, b"").attribute(0xc000, b"")
    });
    play.hears(path(), &request);
    let answer = heard_from(&mut play, path());
    let message = Message::parse(&answer).unwrap();
    let listed: Vec<_> = message.unknown_attributes().collect();
    assert_eq!(listed, [attribute::DONT_FRAGMENT, 0x7ffe]);
}

#[test]
fn case_52_one_family_of_two_is_given_with_the_reason_for_the_other() {
    let mut play = server(config());
    let mut guest = Guest::new(&mut play, path(), alice());
    let request = guest.request(Method::ALLOCATE, |writer| {
        writer.requested_transport(17).additional_address_family(AddressFamily::V6)
    });
    play.hears(path(), &request);
    opens(&mut play, relay());
    let answer = heard_from(&mut play, path());
    let message = Message::parse(&answer).unwrap();
    let relayed: Vec<_> = message.xor_relayed_addresses().flatten().collect();
    assert_eq!(relayed, [relay()]);
    let (family, error) = message.address_error_code().unwrap();
    assert_eq!((family, error.code), (AddressFamily::V6, 440));
}

#[test]
fn case_52_both_families_are_given_when_both_sockets_open() {
    let families = vec![AddressFamily::V4, AddressFamily::V6];
    let mut play = server(ServerConfig { families, ..config() });
    let mut guest = Guest::new(&mut play, path(), alice());
    let request = guest.request(Method::ALLOCATE, |writer| {
        writer.requested_transport(17).additional_address_family(AddressFamily::V6)
    });
    play.hears(path(), &request);
    let mut ids = Vec::new();
    for _ in 0..2 {
        play.tells(|event| {
            let ServerEvent::OpenRelay { id, .. } = event else { return false };
            ids.push(*id);
            true
        });
    }
    let six: SocketAddr = "[2001:db8::9]:50000".parse().unwrap();
    run(&mut play, |server, now| server.relay_opened(now, ids[0], relay(), relay()));
    play.quiet();
    run(&mut play, |server, now| server.relay_opened(now, ids[1], six, six));
    let answer = heard_from(&mut play, path());
    let relayed: Vec<_> = Message::parse(&answer).unwrap().xor_relayed_addresses().flatten().collect();
    assert_eq!(relayed, [relay(), six]);
    play.tells(|event| matches!(event, ServerEvent::Allocated { .. }));
    assert_eq!(guest.permits(&mut play, "[2001:db8::5]:1".parse().unwrap()), None);
    let mut refresh =
        |family| guest.asks(&mut play, Method::REFRESH, |writer| writer.requested_address_family(family));
    assert_eq!((refresh(AddressFamily::V6), refresh(AddressFamily::V4)), (None, None));
}

#[test]
fn an_owner_without_sockets_means_508_at_once_and_a_silent_one_after_a_while() {
    for silent in [false, true] {
        let mut play = server(config());
        let mut guest = Guest::new(&mut play, path(), alice());
        let request = guest.request(Method::ALLOCATE, |writer| writer.requested_transport(17));
        play.hears(path(), &request);
        let mut asked = None;
        play.tells(|event| {
            let ServerEvent::OpenRelay { id, .. } = event else { return false };
            asked = Some(*id);
            true
        });
        let id = asked.unwrap();
        if silent {
            play.at(Instant::ZERO + OPEN_WAIT);
        } else {
            run(&mut play, |server, now| server.relay_failed(now, id));
        }
        assert_eq!(guest.hears(&mut play), Some(508));
        assert_eq!(play.machine().inner().allocations(), 0);
        // A socket that opens after all is closed again.
        run(&mut play, |server, now| server.relay_opened(now, id, relay(), relay()));
        play.tells(|event| *event == ServerEvent::CloseRelay { id, local: relay() }).quiet();
        assert_eq!(play.machine().inner().counters().stale_relay, 1);
    }
}

#[test]
fn quotas_hold_for_users_addresses_and_the_whole() {
    let limits =
        ServerLimits { allocations_max: 3, per_user_max: 2, per_address_max: 3, ..ServerLimits::default() };
    let mut play = server(ServerConfig { limits, ..config() });
    for port in 1..=2 {
        let mut guest = Guest::new(&mut play, path_from(port), alice());
        guest.allocates(&mut play, SocketAddr::new(relay().ip(), 50_000 + port));
    }
    let mut third = Guest::new(&mut play, path_from(3), alice());
    let ask = |play: &mut Play, guest: &mut Guest| {
        guest.asks(play, Method::ALLOCATE, |writer| writer.requested_transport(17))
    };
    assert_eq!(ask(&mut play, &mut third), Some(486), "two are enough for alice");
    let mut bob_here = Guest::new(&mut play, path_from(4), bob());
    bob_here.allocates(&mut play, SocketAddr::new(relay().ip(), 50_004));
    let mut again = Guest::new(&mut play, path_from(5), bob());
    assert_eq!(ask(&mut play, &mut again), Some(486), "three are enough for one address");
    let elsewhere = FourTuple { remote: "198.51.100.99:1".parse().unwrap(), ..path() };
    let mut other = Guest::new(&mut play, elsewhere, bob());
    assert_eq!(ask(&mut play, &mut other), Some(508), "three are enough for the server");
}

#[test]
fn refresh_prolongs_limits_and_ends() {
    let (mut play, mut guest) = relaying();
    let mut lifetime_after = |play: &mut Play, asked: u64| {
        let request = guest.request(Method::REFRESH, |writer| writer.lifetime(Duration::from_secs(asked)));
        play.hears(path(), &request);
        let answer = heard_from(play, path());
        Message::parse(&answer).unwrap().lifetime().unwrap().as_secs()
    };
    assert_eq!(lifetime_after(&mut play, 1), 600, "never less than the default (RFC 8656 §8.2)");
    assert_eq!(lifetime_after(&mut play, 1000), 1000);
    assert_eq!(lifetime_after(&mut play, 1_000_000), 3600);
    assert_eq!(lifetime_after(&mut play, 0), 0);
    play.tells(|event| matches!(event, ServerEvent::CloseRelay { local, .. } if *local == relay()));
    play.tells(|event| matches!(event, ServerEvent::Released { .. })).quiet();
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        assert_eq!(guest.asks(&mut play, method, |writer| writer), Some(437));
    }
}

#[test]
fn an_allocation_that_nobody_refreshes_ends() {
    let (mut play, _) = relaying();
    play.at(secs(599)).quiet().at(secs(600));
    play.tells(|event| matches!(event, ServerEvent::CloseRelay { .. }));
    let released = ServerEvent::Released { client: path(), username: b"alice".to_vec(), relayed: (0, 0) };
    play.tells(|event| *event == released).quiet();
    let server = play.machine().inner();
    assert_eq!((server.allocations(), server.clients.len(), server.relays.len()), (0, 0, 0));
}

#[test]
fn nobody_touches_an_allocation_that_another_user_made() {
    let (mut play, guest) = relaying();
    let mut other = Guest { user: bob(), ..guest };
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let code = other.asks(&mut play, method, |writer| {
            writer.lifetime(Duration::ZERO).channel_number(0x4000).xor_peer_address(peer(1))
        });
        assert_eq!(code, Some(error_code::WRONG_CREDENTIALS));
    }
    assert_eq!(play.machine().inner().allocations(), 1);
}

#[test]
fn permissions_are_given_all_or_none_and_not_to_places_inside() {
    let limits = ServerLimits { permissions_max: 3, ..ServerLimits::default() };
    let mut play = server(ServerConfig { limits, ..config() });
    let mut guest = Guest::new(&mut play, path(), alice());
    guest.allocates(&mut play, relay());
    let ip = |last: u8| SocketAddr::from(([203, 0, 113, last], 0));
    assert_eq!(guest.asks(&mut play, Method::CREATE_PERMISSION, |writer| writer), Some(400));
    for inside in ["127.0.0.1:1", "10.0.0.1:1", "169.254.169.254:80", "224.0.0.1:1", "0.0.0.0:1"] {
        let code = guest.asks(&mut play, Method::CREATE_PERMISSION, |writer| {
            writer.xor_peer_address(ip(1)).xor_peer_address(inside.parse().unwrap())
        });
        assert_eq!(code, Some(403), "{inside}");
    }
    assert_eq!(guest.permits(&mut play, "[2001:db8::5]:1".parse().unwrap()), Some(443));
    let malformed = guest.asks(&mut play, Method::CREATE_PERMISSION, |writer| {
        writer.xor_peer_address(ip(1)).attribute(attribute::XOR_PEER_ADDRESS, &[0; 7])
    });
    assert_eq!(malformed, Some(400));
    let too_many = guest.asks(&mut play, Method::CREATE_PERMISSION, |writer| {
        (1..=4).fold(writer, |writer, last| writer.xor_peer_address(ip(last)))
    });
    assert_eq!(too_many, Some(508));
    for last in [1, 2, 3, 3, 1] {
        assert_eq!(guest.permits(&mut play, ip(last)), None);
    }
    assert_eq!(guest.permits(&mut play, ip(4)), Some(508));
    play.at(secs(300));
    assert_eq!(guest.permits(&mut play, ip(4)), None, "the others are over");
}

#[test]
fn a_channel_joins_one_number_and_one_peer() {
    let limits = ServerLimits { channels_max: 2, ..ServerLimits::default() };
    let denied = vec![path().local];
    let peers = PeerPolicy { denied, ..PeerPolicy::default() };
    let mut play = server(ServerConfig { peers, limits, ..config() });
    let mut guest = Guest::new(&mut play, path(), alice());
    guest.allocates(&mut play, relay());
    for number in [0x3fff, 0x5000, 0x7fff, 0] {
        assert_eq!(guest.binds(&mut play, number, peer(1)), Some(400));
    }
    assert_eq!(
        guest.asks(&mut play, Method::CHANNEL_BIND, |writer| writer.channel_number(0x4000)),
        Some(400)
    );
    assert_eq!(guest.binds(&mut play, 0x4000, path().local), Some(403), "the server's own socket");
    assert_eq!(guest.binds(&mut play, 0x4000, "[2001:db8::5]:1".parse().unwrap()), Some(443));
    assert_eq!(guest.binds(&mut play, 0x4000, peer(1)), None);
    assert_eq!(guest.binds(&mut play, 0x4000, peer(1)), None, "prolonged");
    assert_eq!(guest.binds(&mut play, 0x4000, peer(2)), Some(400), "the number has a peer");
    assert_eq!(guest.binds(&mut play, 0x4001, peer(1)), Some(400), "the peer has a number");
    assert_eq!(guest.binds(&mut play, 0x4fff, peer(2)), None);
    assert_eq!(guest.binds(&mut play, 0x4002, peer(3)), Some(508));
    // Over time the couple parts.
    play.at(secs(599));
    assert_eq!(guest.asks(&mut play, Method::REFRESH, |writer| writer), None);
    play.at(secs(600));
    assert_eq!(guest.binds(&mut play, 0x4001, peer(1)), None);
}

#[test]
fn methods_and_classes_that_are_not_turns_are_left_to_others() {
    let mut play = server(config());
    play.ignores(path(), &stranger(Method::BINDING, 1));
    let mut bytes = Vec::new();
    MessageWriter::new(&mut bytes, Class::Success, Method::ALLOCATE, TransactionId([1; 12])).finish();
    play.ignores(path(), &bytes).ignores(path(), b"").ignores(path(), b"noise");
    play.ignores(path(), &[0x40, 0, 0, 1, b'x']);
    play.hears(
        FourTuple { remote: "198.51.100.7:0".parse().unwrap(), ..path() },
        &stranger(Method::ALLOCATE, 1),
    );
    let expected = ServerCounters {
        other_method: 2,
        not_turn: 2,
        no_allocation: 1,
        unanswerable: 1,
        ..ServerCounters::default()
    };
    assert_eq!(*play.quiet().machine().inner().counters(), expected);
}

#[test]
fn an_even_port_is_asked_of_the_owner_and_an_odd_one_is_refused() {
    for (port, expected) in [(50_000, None), (50_001, Some(508))] {
        let mut play = server(config());
        let mut guest = Guest::new(&mut play, path(), alice());
        let request = guest.request(Method::ALLOCATE, |it| it.requested_transport(17).even_port(false));
        play.hears(path(), &request);
        let local = SocketAddr::new(relay().ip(), port);
        let mut asked = None;
        play.tells(|event| {
            let ServerEvent::OpenRelay { id, even: true, .. } = event else { return false };
            asked = Some(*id);
            true
        });
        let id = asked.unwrap();
        run(&mut play, |server, now| server.relay_opened(now, id, local, local));
        assert_eq!(guest.hears(&mut play), expected);
        match expected {
            None => play.tells(|event| matches!(event, ServerEvent::Allocated { .. })),
            Some(_) => play.tells(|event| *event == ServerEvent::CloseRelay { id, local }),
        };
        play.quiet();
    }
}

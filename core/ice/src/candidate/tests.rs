use super::*;
use alloc::format;
use alloc::string::{String, ToString};

fn parse(line: &str) -> Result<Candidate, CandidateError> {
    line.parse()
}

#[test]
fn case_25_lines_round_trip() {
    for line in [
        "candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host",
        "candidate:a+/9 256 UDP 1 2001:db8::1 65535 typ srflx raddr fd00::1 rport 9",
        "candidate:x 2 TCP 2147483647 192.0.2.1 9 typ host tcptype active",
        "candidate:x 2 TCP 77 192.0.2.1 9 typ prflx raddr 10.0.0.1 rport 1 tcptype so ufrag abcd",
        "candidate:r 1 UDP 255 203.0.113.7 49152 typ relay raddr 0.0.0.0 rport 0",
    ] {
        assert_eq!(parse(line).unwrap().to_string(), line);
    }
}

#[test]
fn case_25_lines_with_names_round_trip_and_are_no_candidates_yet() {
    for line in [
        "candidate:1 1 UDP 2130706431 1f4712db-d17f-4a8b-9d1c-a2b0bb6ad3a8.local 4000 typ host",
        "candidate:1 2 TCP 9 f3a1.local 9 typ host tcptype passive ufrag abcd",
        "candidate:1 1 UDP 9 f3a1.local 9 typ srflx raddr 0.0.0.0 rport 9",
    ] {
        let Ok(Line::Named(name, candidate)) = Line::read(line) else { panic!("{line}") };
        assert_eq!((candidate.to_string().as_str(), candidate.mdns_name()), (line, Some(&name)));
        assert!(candidate.validate().is_err(), "there is nowhere to send to");
        assert_eq!(parse(line), Err(CandidateError::UnresolvedName(name.to_string().into())));
    }
    let candidate = parse("candidate:1 1 UDP 9 192.0.2.1 1 typ host").unwrap();
    assert_eq!(Line::read(&candidate.to_string()), Ok(Line::Addressed(candidate)));
}

#[test]
fn case_25_tolerated_deviations_are_read() {
    let plain = parse("candidate:1 1 UDP 99 192.0.2.1 4000 typ host").unwrap();
    for line in [
        "a=candidate:1 1 UDP 99 192.0.2.1 4000 typ host",
        "CANDIDATE:1 1 udp 99 192.0.2.1 4000 TYP HOST",
        "candidate:1 1 UDP 99 192.0.2.1 4000 typ host generation 0 network-cost 50",
        "candidate:1  1 UDP 99 192.0.2.1 4000 typ host ",
    ] {
        assert_eq!(parse(line), Ok(plain.clone()), "{line}");
    }
    // A reflexive candidate that keeps its base to itself.
    assert_eq!(parse("candidate:1 1 UDP 99 192.0.2.1 4000 typ srflx").unwrap().related, None);
}

#[test]
fn case_25_what_cannot_be_used_is_refused_by_field() {
    use CandidateError::{Syntax, TooLong, UnknownKind, UnknownTransport, UnresolvedName};
    let foundation = "f".repeat(33);
    let cases: [(String, CandidateError); 22] = [
        (String::new(), Syntax("candidate:")),
        ("host:1 1 UDP 9 192.0.2.1 1 typ host".into(), Syntax("candidate:")),
        (format!("candidate:{foundation} 1 UDP 9 192.0.2.1 1 typ host"), Syntax("foundation")),
        ("candidate:1 0 UDP 9 192.0.2.1 1 typ host".into(), Syntax("component")),
        ("candidate:1 257 UDP 9 192.0.2.1 1 typ host".into(), Syntax("component")),
        ("candidate:1 +1 UDP 9 192.0.2.1 1 typ host".into(), Syntax("component")),
        ("candidate:1 1 SCTP 9 192.0.2.1 1 typ host".into(), UnknownTransport),
        ("candidate:1 1 UDP 0 192.0.2.1 1 typ host".into(), Syntax("priority")),
        ("candidate:1 1 UDP 2147483648 192.0.2.1 1 typ host".into(), Syntax("priority")),
        ("candidate:1 1 UDP 9 fe80::1%eth0 1 typ host".into(), Syntax("address")),
        ("candidate:1 1 UDP 9 300.0.0.1 1 typ host".into(), Syntax("address")),
        ("candidate:1 1 UDP 9 f3a1.local 1 typ host".into(), UnresolvedName("f3a1.local".into())),
        ("candidate:1 1 UDP 9 192.0.2.1 65536 typ host".into(), Syntax("port")),
        ("candidate:1 1 UDP 9 192.0.2.1 -1 typ host".into(), Syntax("port")),
        ("candidate:1 1 UDP 9 192.0.2.1 1 tip host".into(), Syntax("typ")),
        ("candidate:1 1 UDP 9 192.0.2.1 1 typ cloud".into(), UnknownKind),
        ("candidate:1 1 UDP 9 192.0.2.1 1 typ host lonely".into(), Syntax("extension")),
        ("candidate:1 1 UDP 9 192.0.2.1 1 typ host ufrag a:b".into(), Syntax("ufrag")),
        ("candidate:1 1 TCP 9 192.0.2.1 1 typ host".into(), Syntax("tcptype")),
        ("candidate:1 1 UDP 9 192.0.2.1 1 typ host\r\na=evil".into(), Syntax("line")),
        ("candidate:1 1 UDP 9".into(), Syntax("address")),
        (format!("candidate:1 1 UDP 9 192.0.2.1 1 typ host{}", " x y".repeat(1024)), TooLong),
    ];
    for (line, error) in cases {
        assert_eq!(parse(&line), Err(error), "{line}");
    }
}

#[test]
fn addresses_that_reach_nobody_or_everybody_are_unusable() {
    for address in ["0.0.0.0:1", "[::]:1", "224.0.0.1:1", "[ff02::1]:1", "255.255.255.255:1", "192.0.2.1:0"] {
        let address: SocketAddr = address.parse().unwrap();
        assert_eq!(Candidate::host(address).validate(), Err(CandidateError::Unusable(address)));
    }
}

#[test]
fn case_21_only_compatible_candidates_pair() {
    let host = |address: &str| Candidate::host(address.parse().unwrap());
    let (v4, v6, link) = (host("192.0.2.1:1"), host("[2001:db8::1]:1"), host("[fe80::1]:1"));
    assert!(v4.pairs_with(&v4) && v6.pairs_with(&v6) && link.pairs_with(&link));
    assert!(!v4.pairs_with(&v6) && !v6.pairs_with(&v4));
    assert!(!v6.pairs_with(&link) && !link.pairs_with(&v6));
    assert!(!v4.pairs_with(&v4.clone().with_component(2)));

    let tcp = |kind| Candidate { transport: Transport::Tcp(kind), ..v4.clone() };
    let (active, passive, so) = (tcp(TcpType::Active), tcp(TcpType::Passive), tcp(TcpType::SimultaneousOpen));
    assert!(active.pairs_with(&passive) && passive.pairs_with(&active) && so.pairs_with(&so));
    for (a, b) in [(&active, &active), (&passive, &passive), (&so, &active), (&passive, &so), (&v4, &active)]
    {
        assert!(!a.pairs_with(b) && !b.pairs_with(a), "{a} {b}");
    }
}

#[test]
fn a_path_leaves_from_the_base() {
    let [mapped, base, peer, server] =
        ["203.0.113.1:7", "10.0.0.1:5", "198.51.100.2:6", "192.0.2.9:3478"].map(|a| a.parse().unwrap());
    let reflexive = Candidate::server_reflexive(mapped, base, Some(server));
    assert_eq!(reflexive.path_to(peer), Path::Direct(FourTuple::new(base, peer)));
    assert!(reflexive.shares_base_with(&Candidate::host(base)));
    assert!(!reflexive.shares_base_with(&Candidate::host(mapped)));

    let relay = FourTuple::new(base, server);
    let relayed = Candidate::relayed(mapped, relay, None);
    assert_eq!(relayed.path_to(peer), Path::Relayed { relay, peer });
    assert!(relayed.is_base_of(&Path::Relayed { relay, peer }));
    assert!(!relayed.is_base_of(&Path::Direct(FourTuple::new(base, peer))));
}

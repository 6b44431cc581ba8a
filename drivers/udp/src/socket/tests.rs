use std::thread;
use std::time::{Duration, Instant};

use super::*;

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

fn bind(address: &str) -> Socket {
    Socket::bind(address.parse().unwrap()).unwrap()
}

/// What arrives at `socket` until `count` datagrams have, or nothing comes for two seconds.
fn hear(socket: &mut Socket, count: usize) -> Vec<(FourTuple, Ecn, Vec<u8>)> {
    let (mut batch, mut heard) = (RecvBatch::new(), Vec::new());
    let patience = Instant::now() + Duration::from_secs(2);
    while heard.len() < count && Instant::now() < patience {
        socket.recv(&mut batch).unwrap();
        if batch.is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        heard.extend(batch.inputs().map(|input| (input.path, input.ecn, input.bytes.to_vec())));
    }
    heard
}

#[test]
fn ecn_marks_survive_alone_and_in_trains_on_both_families() {
    for family in [V4, V6] {
        let (mut ours, mut theirs) = (bind(family), bind(family));
        let path = FourTuple::new(ours.local_address(), theirs.local_address());
        for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
            ours.send(&Transmit { path, ecn, segment: None }, b"alone").unwrap();
            ours.send(&Transmit { path, ecn, segment: Some(2) }, b"abcde").unwrap();
            let expected =
                [&b"alone"[..], b"ab", b"cd", b"e"].map(|text| (path.flipped(), ecn, text.to_vec()));
            assert_eq!(hear(&mut theirs, 4), expected);
        }
    }
}

#[test]
fn a_wildcard_socket_reports_the_address_that_was_meant_and_answers_from_it() {
    let (mut server, mut client) = (bind("0.0.0.0:0"), bind(V4));
    let meant = SocketAddr::new([127, 0, 0, 7].into(), server.local_address().port());
    let path = FourTuple::new(client.local_address(), meant);
    client.send(&Transmit::new(path), b"question").unwrap();
    let heard = hear(&mut server, 1);
    assert_eq!(heard[0].0, path.flipped());
    server.send(&Transmit::new(heard[0].0), b"answer").unwrap();
    assert_eq!(hear(&mut client, 1)[0].0, path);
}

#[test]
fn a_full_train_of_64_arrives_as_64_datagrams() {
    let (mut ours, mut theirs) = (bind(V4), bind(V4));
    let path = FourTuple::new(ours.local_address(), theirs.local_address());
    let bytes: Vec<u8> = (0..64_u8).flat_map(|n| [n; 1_000]).collect();
    ours.send(&Transmit { path, ecn: Ecn::Ect0, segment: Some(1_000) }, &bytes).unwrap();
    let heard = hear(&mut theirs, 64);
    assert_eq!(heard.len(), 64);
    assert!(heard.iter().zip(0..).all(|((.., bytes), n)| *bytes == [n; 1_000]));
}

#[test]
fn when_trains_are_refused_the_same_bytes_go_one_by_one() {
    let (mut ours, mut theirs) = (bind(V4), bind(V4));
    let path = FourTuple::new(ours.local_address(), theirs.local_address());
    // No kernel cuts a train of 1,000.
    ours.segments_max = 1_000;
    let bytes: Vec<u8> = (0..1_000_u16).flat_map(u16::to_be_bytes).collect();
    ours.send(&Transmit { path, ecn: Ecn::Ect0, segment: Some(2) }, &bytes).unwrap();
    assert_eq!((ours.segments_max(), ours.counters().gso_refused), (1, 1));
    let heard = hear(&mut theirs, 1_000);
    assert!(heard.iter().map(|(.., bytes)| &bytes[..]).eq(bytes.chunks(2)));
    assert!(heard.iter().all(|(_, ecn, _)| *ecn == Ecn::Ect0));
}

#[test]
fn a_bad_path_costs_its_datagrams_and_nothing_else() {
    let (mut ours, mut theirs) = (bind("0.0.0.0:0"), bind(V4));
    let from = |ip: [u8; 4]| SocketAddr::new(ip.into(), ours.local_address().port());
    let good = FourTuple::new(from([127, 0, 0, 1]), theirs.local_address());
    // 192.0.2.0/24 is documentation space (RFC 5737): never an address of this host.
    let foreign_source = FourTuple::new(from([192, 0, 2, 1]), theirs.local_address());
    let no_port = FourTuple::new(good.local, "127.0.0.1:0".parse().unwrap());
    let broadcast = FourTuple::new(good.local, "255.255.255.255:9".parse().unwrap());
    for path in [foreign_source, no_port, broadcast] {
        ours.send(&Transmit { path, ecn: Ecn::Ect0, segment: Some(2) }, b"abcd").unwrap();
        ours.send(&Transmit { path, ecn: Ecn::Ect0, segment: None }, b"abcd").unwrap();
    }
    let lost = ours.counters();
    assert_eq!(lost.send_failed + lost.send_unreachable + lost.send_denied, 9, "{lost:?}");
    assert_eq!((lost.gso_refused, ours.segments_max()), (0, 64));
    ours.send(&Transmit { path: good, ecn: Ecn::Ect0, segment: None }, b"ok").unwrap();
    assert_eq!(hear(&mut theirs, 1), [(good.flipped(), Ecn::Ect0, b"ok".to_vec())]);
}

#[test]
fn a_closed_port_and_an_oversized_datagram_are_not_fatal() {
    let (mut ours, gone) = (bind(V4), bind(V4));
    let path = FourTuple::new(ours.local_address(), gone.local_address());
    drop(gone);
    for _ in 0..3 {
        ours.send(&Transmit::new(path), b"anyone?").unwrap();
    }
    ours.send(&Transmit::new(path), &vec![0; 65_508]).unwrap();
    assert_eq!(ours.counters().send_too_large, 1);
    ours.recv(&mut RecvBatch::new()).unwrap();
}

#[test]
fn an_empty_datagram_is_dropped_and_counted() {
    let (ours, mut theirs) = (UdpSocket::bind(V4).unwrap(), bind(V4));
    ours.send_to(b"", theirs.local_address()).unwrap();
    ours.send_to(b"full", theirs.local_address()).unwrap();
    assert_eq!(hear(&mut theirs, 1)[0].2, b"full");
    assert_eq!(theirs.counters().recv_empty, 1);
}

#[test]
fn a_taken_port_is_named_with_its_remedy() {
    let holder = bind(V4);
    let error = Socket::bind(holder.local_address()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[test]
fn both_families_share_a_port_number() {
    let v6 = bind("[::]:0");
    let v4 = SocketAddr::new([0, 0, 0, 0].into(), v6.local_address().port());
    assert!(Socket::bind(v4).is_ok());
}

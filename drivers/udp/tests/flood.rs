//! Machines that ask for more than there is. They have a process to themselves, because they take every file that
//! the process may have.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use gimlet_machine::{CloseReason, Instant, SocketId};
use gimlet_udp::{CONNECTIONS_MAX, Connections, REQUESTED_SOCKETS_MAX, Sockets};

/// One flood at a time.
static FILES: Mutex<()> = Mutex::new(());

#[test]
fn a_flood_of_binds_ends_at_the_limit_and_leaves_nothing_behind() {
    let _alone = FILES.lock();
    let (mut sockets, asked) = (Sockets::new(), REQUESTED_SOCKETS_MAX as u64 + 100);
    let open = |sockets: &mut Sockets, id| sockets.open(SocketId(id), "127.0.0.1:0".parse().unwrap());
    let mut opened = Vec::new();
    for id in 0..asked {
        match open(&mut sockets, id) {
            Ok(index) => opened.push((SocketId(id), index)),
            // The system may allow fewer files than the limit; its word is the same.
            Err(why) => assert_eq!(why, CloseReason::TooMany),
        }
    }
    assert!(!opened.is_empty() && opened.len() <= REQUESTED_SOCKETS_MAX);
    assert_eq!(
        (sockets.len(), sockets.counters().open_too_many),
        (opened.len(), asked - opened.len() as u64)
    );
    for (id, index) in opened {
        assert_eq!(sockets.requested(id), Some(index));
        assert!(sockets.remove(index).is_some() && sockets.requested(id).is_none());
    }
    assert!(sockets.is_empty() && sockets.iter().next().is_none());
    assert!(open(&mut sockets, asked).is_ok(), "there is room again");
}

#[test]
fn a_flood_of_connects_ends_at_the_limit_and_leaves_nothing_behind() {
    let _alone = FILES.lock();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut connections, asked) = (Connections::new(), CONNECTIONS_MAX as u64 + 100);
    let address = listener.local_addr().unwrap();
    let open = |connections: &mut Connections, id| {
        connections.connect(Instant::ZERO, SocketId(id), Ipv4Addr::UNSPECIFIED.into(), address)
    };
    let mut opened = Vec::new();
    for id in 0..asked {
        match open(&mut connections, id) {
            Ok(index) => opened.push(index),
            Err(why) => assert_eq!(why, CloseReason::TooMany),
        }
    }
    assert!(!opened.is_empty() && opened.len() <= CONNECTIONS_MAX && connections.len() == opened.len());
    assert_eq!(connections.counters().connect_too_many, asked - opened.len() as u64);
    for index in opened {
        connections.remove(index);
    }
    assert!(connections.is_empty() && connections.deadline().is_none());
    assert!(open(&mut connections, asked).is_ok(), "there is room again");
}

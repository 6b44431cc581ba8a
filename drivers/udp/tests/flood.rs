//! A machine that asks for more sockets than there are. It has a process to itself, because it takes every
//! file that the process may have.

use gimlet_machine::{CloseReason, SocketId};
use gimlet_udp::{REQUESTED_SOCKETS_MAX, Sockets};

#[test]
fn a_flood_of_requests_ends_at_the_limit_and_leaves_nothing_behind() {
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

//! Liars, floods and garbage. Each has a counter, and nothing that was accepted is lost.

use std::sync::Arc;
use std::time::Duration;

use gimlet_machine::{Counters, Direction, FourTuple, Input, Instant, Machine, PeerId, Session};
use gimlet_testkit::{Checked, Shuttle};
use proptest::prelude::*;

use crate::control::{CONTROL_MESSAGE_MAX, Control};
use crate::description::{Description, Kind};
use crate::{Allow, Config, Error, Event, Identity, Node, Ticket};

pub(crate) const PUBLIC: &str = "192.0.2.1:4433";
pub(crate) const PEER: &str = "198.51.100.2:5000";

#[allow(clippy::disallowed_methods, reason = "a driver's clock starts somewhere; the node never reads it")]
fn origin() -> std::time::Instant {
    std::time::Instant::now()
}

pub(crate) fn config(secret: u8, address: &str) -> Config {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let identity = Identity::from_secret([secret; 32]);
    let unix = Duration::from_secs(1_700_000_000);
    let locals = vec![address.parse().unwrap()];
    Config::new(identity, [secret; 32], locals, origin(), unix, provider)
}

pub(crate) fn node(secret: u8, address: &str, public: bool) -> Checked<Node> {
    let config = Config { public, ..config(secret, address) };
    Checked::new(Node::new(Instant::ZERO, config).unwrap())
}

/// A public node and a peer that is connected to it.
pub(crate) struct Pair {
    pub(crate) public: Checked<Node>,
    pub(crate) peer: Checked<Node>,
    pub(crate) wire: Shuttle<FourTuple>,
    pub(crate) events: Vec<(bool, Event)>,
}

impl Pair {
    pub(crate) fn connected() -> Self {
        Self::of(node(1, PUBLIC, true), node(2, PEER, false))
    }

    pub(crate) fn of(public: Checked<Node>, peer: Checked<Node>) -> Self {
        let wire = Shuttle::new(Duration::from_millis(10), FourTuple::flipped);
        let mut pair = Self { public, peer, wire, events: Vec::new() };
        let ticket = pair.public.inner().ticket(&[PUBLIC.parse().unwrap()], u64::MAX).unwrap();
        pair.peer.command(Instant::ZERO, |node| node.add_ticket(Instant::ZERO, &ticket)).unwrap();
        pair.run(500);
        pair
    }

    pub(crate) fn run(&mut self, millis: u64) {
        let until = self.wire.now + Duration::from_millis(millis);
        let events = &mut self.events;
        let pair = (&mut self.public, &mut self.peer);
        self.wire.run(pair, until, |_| true, |_, public, event| events.push((public, event)));
    }

    pub(crate) fn public_id(&self) -> PeerId {
        self.public.inner().peer_id()
    }

    pub(crate) fn peer_id(&self) -> PeerId {
        self.peer.inner().peer_id()
    }

    /// The public node says this on its control stream, whatever an honest node would say.
    pub(crate) fn public_says(&mut self, message: &Control) {
        let (now, to) = (self.wire.now, self.peer_id());
        self.public.command(now, |node| node.send_control(now, to, message));
        self.run(100);
    }
}

pub(crate) fn offer(from: &Identity, to: PeerId, sequence: u64) -> Description {
    Description {
        kind: Kind::Offer,
        from: from.peer_id().0,
        to: to.0,
        attempt: 9,
        sequence,
        ufrag: "ufrag".into(),
        pwd: "apasswordofenoughlength".into(),
        candidates: vec!["candidate:1 1 udp 2130706431 203.0.113.9 9 typ host".into()],
        end_of_candidates: true,
        renomination: true,
        punch: None,
    }
}

#[test]
fn a_lying_introducer_gets_nothing_but_counters() {
    let mut pair = Pair::connected();
    let (friend, liar) = (Identity::from_secret([3; 32]), Identity::from_secret([1; 32]));
    let to = pair.peer_id();
    let says = |description| Control::Introduced { from: friend.peer_id().0, description, seen: None };

    let mut altered = offer(&friend, to, 1).seal(&friend);
    altered[40] ^= 1;
    pair.public_says(&says(altered));
    let forged = Description { from: liar.peer_id().0, ..offer(&friend, to, 1) }.seal(&liar);
    pair.public_says(&says(forged));
    let for_somebody_else = offer(&friend, PeerId([8; 32]), 1).seal(&friend);
    pair.public_says(&says(for_somebody_else));
    pair.public_says(&says(vec![0; 10]));
    let counters = pair.peer.inner().counters();
    assert_eq!((counters.forged_descriptions, counters.malformed_descriptions), (2, 2));
    assert_eq!(pair.peer.inner().is_connected(friend.peer_id()), Err(Error::NotConnected(friend.peer_id())));

    // An honest one passes, once: the second time it is a replay.
    let honest = says(offer(&friend, to, 5).seal(&friend));
    pair.public_says(&honest);
    pair.public_says(&honest);
    assert_eq!(pair.peer.inner().is_connected(friend.peer_id()), Ok(false), "an attempt is under way");
    assert_eq!(pair.peer.inner().counters().replayed_descriptions, 1);
    assert_eq!(pair.peer.inner().is_connected(pair.public_id()), Ok(true), "and the link stands");
}

#[test]
fn control_messages_of_no_known_kind_are_passed_over() {
    let mut pair = Pair::connected();
    let (now, to) = (pair.wire.now, pair.peer_id());
    pair.public.command(now, |node| {
        let link = node.peers.get_mut(&to).and_then(|entry| entry.link.as_mut()).unwrap();
        link.control.queue.push_message(&[250, 1, 2, 3], CONTROL_MESSAGE_MAX).unwrap();
        node.flush_control(now, to);
    });
    pair.run(100);
    assert_eq!(pair.peer.inner().counters().unknown_control, 1);
    assert_eq!(pair.peer.inner().is_connected(pair.public_id()), Ok(true));
}

#[test]
fn a_control_stream_without_framing_ends_the_link() {
    let mut pair = Pair::connected();
    let (now, to) = (pair.wire.now, pair.peer_id());
    pair.public.command(now, |node| {
        let link = node.peers.get_mut(&to).and_then(|entry| entry.link.as_mut()).unwrap();
        link.control.queue.push_bytes(&[0xff; 64], CONTROL_MESSAGE_MAX);
        node.flush_control(now, to);
    });
    pair.run(100);
    assert!(pair.events.iter().any(|(public, event)| !public && matches!(event, Event::Lost { .. })));
}

#[test]
fn introductions_are_limited_per_peer() {
    let mut pair = Pair::connected();
    let (now, from, to) = (pair.wire.now, pair.public_id(), PeerId([9; 32]));
    pair.peer.command(now, |node| {
        for _ in 0..100 {
            node.send_control(now, from, &Control::Introduce { to: to.0, description: vec![0; 64] });
        }
    });
    pair.run(200);
    let counters = pair.public.inner().counters();
    let asked = counters.introductions_over_rate + counters.introductions_undeliverable;
    assert_eq!(asked, 100);
    assert!(counters.introductions_over_rate >= 60, "{counters:?}");
}

#[test]
fn who_is_not_admitted_is_refused_and_counted() {
    let closed = Config { public: true, allow: Allow::Nobody, ..config(1, PUBLIC) };
    let public = Checked::new(Node::new(Instant::ZERO, closed).unwrap());
    let pair = Pair::of(public, node(2, PEER, false));
    assert!(pair.public.inner().counters().refused_peers >= 1);
    assert_ne!(pair.peer.inner().is_connected(pair.public_id()), Ok(true));
}

#[test]
fn an_expired_or_foreign_ticket_changes_nothing() {
    let mut peer = node(2, PEER, false);
    let expired = Ticket::issue(&Identity::from_secret([1; 32]), &[PUBLIC.parse().unwrap()], 5).unwrap();
    let result = peer.command(Instant::ZERO, |node| node.add_ticket(Instant::ZERO, &expired));
    assert_eq!(result, Err(crate::TicketError::Expired { at: 5 }));
    assert_eq!(peer.poll_timeout(), None);
}

#[test]
fn somebody_else_at_the_address_of_a_ticket_is_noticed() {
    let mut pair = Pair {
        public: node(7, PUBLIC, true),
        peer: node(2, PEER, false),
        wire: Shuttle::new(Duration::from_millis(10), FourTuple::flipped),
        events: Vec::new(),
    };
    let ticket =
        Ticket::issue(&Identity::from_secret([1; 32]), &[PUBLIC.parse().unwrap()], u64::MAX).unwrap();
    pair.peer.command(Instant::ZERO, |node| node.add_ticket(Instant::ZERO, &ticket)).unwrap();
    pair.run(2_000);
    let wrong = |event: &Event| matches!(event, Event::Failed { cause: crate::ConnectError::WrongPeer, .. });
    assert!(pair.events.iter().any(|(public, event)| !public && wrong(event)), "{:?}", pair.events);
}

#[test]
fn a_claimed_length_of_100_mib_costs_no_memory_and_a_longer_one_ends_the_stream() {
    let mut pair = Pair::connected();
    let (now, to, from) = (pair.wire.now, pair.public_id(), pair.peer_id());
    let claims: [&[u8]; 2] = [&[6, 0x40, 0, 0, 1, 2, 3], &[0xff; 7]];
    for claim in claims {
        pair.peer.command(now, |node| {
            let stream = node.open(now, to, Direction::Unidirectional).unwrap().unwrap();
            assert_eq!(node.write(now, stream, claim), Ok(claim.len()));
        });
    }
    pair.run(100);
    let now = pair.wire.now;
    let results: Vec<_> = (0..2)
        .map(|_| {
            pair.public.command(now, |node| {
                let stream = node.accept_stream(now, from).unwrap().unwrap();
                node.receive(now, stream)
            })
        })
        .collect();
    assert_eq!(results[0], Ok(None));
    assert!(matches!(&results[1], Err(Error::Framing(_))), "{results:?}");
}

#[test]
fn garbage_before_during_and_after_moves_counters_only() {
    let mut pair = Pair::connected();
    let path = FourTuple::new(PUBLIC.parse().unwrap(), "203.0.113.66:666".parse().unwrap());
    let before = pair.public.inner().counters().total() + pair.public.inner().quic_counters().total();
    for first in 0..=255u8 {
        for length in [0usize, 1, 19, 20, 60, 1200] {
            let mut bytes = vec![first; length];
            pair.public.handle_input(pair.wire.now, Input::new(path, &mut bytes));
        }
    }
    let after = pair.public.inner().counters().total() + pair.public.inner().quic_counters().total();
    assert!(after >= before + 1_000, "{before} to {after}");
    assert_eq!(pair.public.inner().connected_peers().count(), 1);
    pair.run(100);
    assert_eq!(pair.peer.inner().is_connected(pair.public_id()), Ok(true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_datagrams_at_any_times_break_no_law(
        datagrams in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80), 0..50u64), 1..40)
    ) {
        let mut pair = Pair::connected();
        for (public, mut bytes, wait) in datagrams {
            let (now, target, local) = if public {
                (pair.wire.now, &mut pair.public, PUBLIC)
            } else {
                (pair.wire.now, &mut pair.peer, PEER)
            };
            let other = if public { PEER } else { PUBLIC };
            let path = FourTuple::new(local.parse().unwrap(), other.parse().unwrap());
            target.handle_input(now, Input::new(path, &mut bytes));
            pair.run(wait);
        }
        prop_assert_eq!(pair.peer.inner().is_connected(pair.public_id()), Ok(true));
    }
}

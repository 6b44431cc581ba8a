//! Attempts to connect: glare, repetition, restarts, reordering, and what is left of each.

use core::net::SocketAddr;

use gimlet_ice::Role;
use gimlet_machine::{FourTuple, Instant, PeerId, Session};
use gimlet_testkit::Checked;

use crate::connect::ANSWERS_MAX;
use crate::control::Control;
use crate::description::{Description, Kind};
use crate::gather::REFLEXIVE_MAX;
use crate::hostile_tests::{PEER, PUBLIC, Pair, config, node, offer};
use crate::sequence::Sequences;
use crate::state::AttemptState;
use crate::{Config, ConnectError, Error, Event, Identity, Node};

/// Somebody whose descriptions the public node carries to the peer.
fn friend(secret: u8) -> Identity {
    Identity::from_secret([secret; 32])
}

fn says(pair: &mut Pair, from: &Identity, change: impl FnOnce(Description) -> Description) {
    let description = change(offer(from, pair.peer_id(), 1)).seal(from);
    pair.public_says(&Control::Introduced { from: from.peer_id().0, description, seen: None });
}

fn agents_towards(pair: &Pair, peer: PeerId) -> Vec<(u64, Role)> {
    let all = pair.peer.inner().children.ice.iter();
    all.filter(|(_, ice)| ice.peer == peer).map(|(_, ice)| (ice.attempt, ice.agent.role())).collect()
}

/// Identities on both sides of the peer's own id: the outcome of glare depends on the order.
fn smaller_and_larger(than: PeerId) -> (Identity, Identity) {
    let all = || (3..=255).map(friend);
    let smaller = all().find(|one| one.peer_id() < than).unwrap();
    (smaller, all().find(|one| one.peer_id() > than).unwrap())
}

#[test]
fn an_offer_repeated_through_another_introducer_is_answered_again_and_not_begun_again() {
    let mut pair = Pair::connected();
    let them = friend(3);
    says(&mut pair, &them, |offer| offer);
    let before = agents_towards(&pair, them.peer_id());
    assert_eq!(before, [(9, Role::Controlled)]);
    let ufrag = |pair: &Pair| {
        let mut agents = pair.peer.inner().children.ice.iter();
        agents.find(|(_, ice)| ice.peer == them.peer_id()).unwrap().1.agent.local_credentials().clone()
    };
    let credentials = ufrag(&pair);
    pair.events.clear();
    says(&mut pair, &them, |offer| Description { sequence: 2, ..offer });
    assert_eq!(ufrag(&pair), credentials, "the first answer still counts");
    let answered = |(public, event): &(bool, Event)| {
        !public && matches!(event, Event::Progress { step: crate::Progress::AnswerSent { .. }, .. })
    };
    assert!(pair.events.iter().any(answered), "{:?}", pair.events);
    assert_eq!(pair.peer.inner().usage().connections, 2, "the link and one reservation");
}

#[test]
fn a_peer_that_restarted_while_our_offer_was_on_its_way_gets_the_offer_again() {
    let mut pair = Pair::connected();
    let (_, larger) = smaller_and_larger(pair.peer_id());
    let them = larger.peer_id();
    let now = pair.wire.now;
    pair.peer.command(now, |node| node.connect(now, them)).unwrap();
    // The introducer does not answer at all: our offer went to somebody who is gone.
    while gimlet_machine::Machine::poll_event(&mut pair.peer).is_some() {}
    let state = |pair: &Pair| pair.peer.inner().peers[&them].attempt.as_ref().unwrap().state();
    assert_eq!(state(&pair), AttemptState::AwaitAnswer);
    let sequence = 1;
    let description = Description { sequence, ..offer(&larger, pair.peer_id(), 1) };
    let glare = Control::Introduced { from: them.0, description: description.seal(&larger), seen: None };
    let via = pair.public_id();
    let sent = pair.peer.inner().sequences.ours();
    pair.peer.command(now, |node| node.on_control(now, via, glare));
    assert_eq!(state(&pair), AttemptState::AwaitAnswer, "ours stands");
    assert!(pair.peer.inner().sequences.ours() > sent, "and is said again");
}

#[test]
fn an_offer_from_a_peer_that_had_answered_ours_begins_anew() {
    let mut pair = Pair::connected();
    let (_, larger) = smaller_and_larger(pair.peer_id());
    let them = larger.peer_id();
    let (now, via) = (pair.wire.now, pair.public_id());
    pair.peer.command(now, |node| node.connect(now, them)).unwrap();
    let number = pair.peer.inner().peers[&them].attempt.as_ref().unwrap().number;
    let introduced = |pair: &Pair, change: &dyn Fn(Description) -> Description| {
        let description = change(offer(&larger, pair.peer_id(), 1)).seal(&larger);
        Control::Introduced { from: them.0, description, seen: None }
    };
    let answer = introduced(&pair, &|offer| Description { kind: Kind::Answer, attempt: number, ..offer });
    pair.peer.command(now, |node| node.on_control(now, via, answer));
    let anew = introduced(&pair, &|offer| Description { sequence: 2, ..offer });
    pair.peer.command(now, |node| node.on_control(now, via, anew));
    assert_eq!(agents_towards(&pair, them), [(9, Role::Controlled)], "they restarted, and we answer");
}

#[test]
fn a_trickle_that_overtakes_its_answer_does_not_spoil_the_attempt() {
    let mut pair = Pair::connected();
    let them = friend(3);
    let (now, via, to) = (pair.wire.now, pair.public_id(), them.peer_id());
    pair.peer.command(now, |node| node.connect(now, to)).unwrap();
    let attempt = pair.peer.inner().peers[&to].attempt.as_ref().unwrap().number;
    let ours = pair.peer_id();
    for (kind, sequence) in [(Kind::Trickle, 2), (Kind::Answer, 3)] {
        let description = Description { kind, attempt, sequence, ..offer(&them, ours, 1) }.seal(&them);
        let control = Control::Introduced { from: to.0, description, seen: None };
        pair.peer.command(now, |node| node.on_control(now, via, control));
    }
    let state = pair.peer.inner().peers[&to].attempt.as_ref().unwrap().state();
    assert_eq!(state, AttemptState::AwaitPath);
    assert_eq!(pair.peer.inner().counters().stale_descriptions, 1, "it came before its answer");
}

#[test]
fn who_begins_in_another_session_than_the_one_that_was_answered_makes_nobody_check() {
    let mut pair = Pair::connected();
    let them = friend(3);
    let (now, via, ours) = (pair.wire.now, pair.public_id(), pair.peer_id());
    let began = Description { kind: Kind::Began, candidates: Vec::new(), ..offer(&them, ours, 1) };
    let foreign = [
        Description { sequence: 2, ufrag: "another".into(), ..began.clone() },
        Description { sequence: 3, attempt: began.attempt + 1, ..began.clone() },
    ];
    let stale = |pair: &Pair| pair.peer.inner().counters().stale_descriptions;
    let before = stale(&pair);
    for description in [offer(&them, ours, 1)].into_iter().chain(foreign) {
        let description = description.seal(&them);
        let control = Control::Introduced { from: them.peer_id().0, description, seen: None };
        pair.peer.command(now, |node| node.on_control(now, via, control));
    }
    assert_eq!(stale(&pair) - before, 2);
    let description = Description { sequence: 4, ..began }.seal(&them);
    let control = Control::Introduced { from: them.peer_id().0, description, seen: None };
    pair.peer.command(now, |node| node.on_control(now, via, control));
    assert_eq!(stale(&pair) - before, 2, "this one is of the session");
}

#[test]
fn candidates_that_come_after_their_end_are_told_and_taken() {
    let mut pair = Pair::connected();
    let them = friend(3);
    let (now, via, ours) = (pair.wire.now, pair.public_id(), pair.peer_id());
    let ended = Description { end_of_candidates: true, ..offer(&them, ours, 1) };
    let attempt = ended.attempt;
    let late = gimlet_ice::Candidate::host("192.0.2.77:7".parse().unwrap());
    let candidates = vec![late.to_string()];
    let more = Description { kind: Kind::Trickle, sequence: 2, candidates, ..offer(&them, ours, 1) };
    for description in [ended, more] {
        let description = description.seal(&them);
        let control = Control::Introduced { from: them.peer_id().0, description, seen: None };
        pair.peer.command(now, |node| node.on_control(now, via, control));
    }
    pair.peer.command(now, |node| {
        node.stop_gathering();
        let (id, _) = node.children.ice.iter().find(|(_, ice)| ice.attempt == attempt).unwrap();
        let agent = &node.children.ice.get(id).unwrap().agent;
        assert!(agent.remote_candidates().any(|known| known.address == late.address), "theirs");

        node.write_description(now, id, Kind::Answer).unwrap();
        assert!(node.children.ice.get(id).unwrap().told_end);
        let flow = FourTuple::new(PEER.parse().unwrap(), "192.0.2.8:1".parse().unwrap());
        node.children.gathering.remember(now, flow, "203.0.113.1:1".parse().unwrap());
        assert_eq!(node.add_gathered(now, id).len(), 1, "ours");
    });
}

#[test]
fn a_failed_offer_of_a_connected_peer_leaves_the_link_and_the_wish_for_it_alone() {
    let mut pair = Pair::connected();
    let (now, via, to) = (pair.wire.now, pair.peer_id(), pair.public_id());
    // The public node has no address in the peer's memory: it is wanted by its id alone.
    pair.peer.command(now, |node| node.peers.get_mut(&to).unwrap().addresses.clear());
    let them = friend(1);
    assert_eq!(them.peer_id(), to);
    says(&mut pair, &them, |offer| offer);
    assert!(pair.peer.inner().peers[&to].attempt.is_some(), "{via:?} answers");
    pair.events.clear();
    pair.run(40_000);
    assert!(pair.peer.inner().peers[&to].attempt.is_none(), "nothing came of it");
    assert_eq!(pair.peer.inner().is_connected(to), Ok(true));
    assert!(pair.peer.inner().peers[&to].wanted);
    let failed = |(public, event): &(bool, Event)| !public && matches!(event, Event::Failed { .. });
    assert!(!pair.events.iter().any(failed), "{:?}", pair.events);
}

#[test]
fn a_flood_of_offers_leaves_room_for_our_own_attempts() {
    let mut pair = Pair::connected();
    for n in 0..400u32 {
        let mut secret = [9; 32];
        secret[..4].copy_from_slice(&n.to_le_bytes());
        let them = Identity::from_secret(secret);
        let now = pair.wire.now;
        let (via, to) = (pair.public_id(), pair.peer_id());
        let description = offer(&them, to, 1).seal(&them);
        let control = Control::Introduced { from: them.peer_id().0, description, seen: None };
        pair.peer.command(now, |node| node.on_control(now, via, control));
    }
    let usage = pair.peer.inner().usage();
    assert!(usage.attempts <= ANSWERS_MAX && usage.ice_agents <= ANSWERS_MAX, "{usage:?}");
    assert!(pair.peer.inner().counters().refused_offers >= 400 - ANSWERS_MAX as u64);
    let (now, wanted) = (pair.wire.now, friend(200).peer_id());
    pair.peer.command(now, |node| node.connect(now, wanted)).unwrap();
    assert_eq!(pair.peer.inner().usage().ice_agents, usage.ice_agents + 1);
    // And when none of it came to anything, nothing is left.
    pair.run(60_000);
    let usage = pair.peer.inner().usage();
    assert_eq!((usage.attempts, usage.ice_agents, usage.timer), (0, 0, None), "{usage:?}");
    assert_eq!(usage.connections, 1, "the link");
}

#[test]
fn an_offer_that_cannot_be_taken_up_does_not_cost_us_our_own() {
    let mut pair = Pair::connected();
    let (smaller, _) = smaller_and_larger(pair.peer_id());
    let them = smaller.peer_id();
    let now = pair.wire.now;
    pair.peer.command(now, |node| node.connect(now, them)).unwrap();
    for n in 0..ANSWERS_MAX as u32 {
        let mut secret = [9; 32];
        secret[..4].copy_from_slice(&n.to_le_bytes());
        let one = Identity::from_secret(secret);
        let (via, to) = (pair.public_id(), pair.peer_id());
        let description = offer(&one, to, 1).seal(&one);
        let control = Control::Introduced { from: one.peer_id().0, description, seen: None };
        pair.peer.command(now, |node| node.on_control(now, via, control));
    }
    let (via, to) = (pair.public_id(), pair.peer_id());
    let description = offer(&smaller, to, 1).seal(&smaller);
    let control = Control::Introduced { from: them.0, description, seen: None };
    pair.peer.command(now, |node| node.on_control(now, via, control));
    let entry = &pair.peer.inner().peers[&them];
    assert!(entry.attempt.as_ref().is_some_and(|attempt| attempt.ours), "{entry:?}");
}

#[test]
fn an_attempt_goes_on_through_the_next_introducer_when_its_own_is_lost() {
    let mut pair = Pair::connected();
    let (now, to, via) = (pair.wire.now, friend(3).peer_id(), pair.public_id());
    pair.peer.command(now, |node| node.connect(now, to)).unwrap();
    let state = |pair: &Pair| pair.peer.inner().peers[&to].attempt.as_ref().unwrap().state();
    assert_eq!(state(&pair), AttemptState::AwaitAnswer);
    pair.peer.command(now, |node| {
        node.close_link(now, via, 0, b"", crate::LostCause::TimedOut);
    });
    assert_eq!(state(&pair), AttemptState::AwaitIntroducer);
    pair.run(2_000);
    // The introducer is back, asked again, and says that it knows nobody of that name.
    let answer = pair.peer.inner().peers[&to].attempt.as_ref().and_then(|attempt| attempt.refusal);
    let failed = pair.peer.inner().is_connected(to);
    assert!(answer.is_some() || matches!(failed, Err(Error::Connect(ConnectError::Unreachable(_)))));
}

#[test]
fn what_is_signalled_is_what_the_agent_says() {
    let mut pair = Pair::connected();
    let now = pair.wire.now;
    let local: SocketAddr = PEER.parse().unwrap();
    let (first, second) = ("203.0.113.1:1".parse().unwrap(), "203.0.113.2:2".parse().unwrap());
    pair.peer.command(now, |node| {
        let via = PeerId([1; 32]);
        let id = node.new_agent(now, PeerId([9; 32]), (5, via), Role::Controlling).unwrap();
        for (server, mapped) in [("192.0.2.8:1", first), ("192.0.2.9:1", second)] {
            let flow = FourTuple::new(local, server.parse().unwrap());
            node.children.gathering.remember(now, flow, mapped);
        }
        let lines = node.add_gathered(now, id);
        let agent = &node.children.ice.get(id).unwrap().agent;
        let known: Vec<String> = agent.local_candidates().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| known.contains(line)), "{lines:?} are not of {known:?}");
        node.children.ice.remove(id);
    });
}

#[test]
fn old_mappings_make_room_for_new_ones() {
    let mut node = node(2, PEER, false);
    let local: SocketAddr = PEER.parse().unwrap();
    for n in 0..3 * REFLEXIVE_MAX as u16 {
        let now = Instant::from_millis(u64::from(n));
        let flow = FourTuple::new(local, SocketAddr::from(([192, 0, 2, 9], 1_000 + n)));
        node.command(now, |node| node.children.gathering.remember(now, flow, flow.remote));
    }
    assert_eq!(node.inner().reflexive_addresses().count(), REFLEXIVE_MAX);
    let now = Instant::from_millis(600_000);
    node.command(now, |node| {
        node.gather_from(now, "192.0.2.7:3478".parse().unwrap());
        assert_eq!(node.usage().stun_requests, 1, "a full memory does not stop us from asking");
    });
}

#[test]
fn strangers_with_great_numbers_do_not_make_us_forget_those_we_heard_last() {
    let mut sequences = Sequences::new();
    let friend = PeerId([1; 32]);
    for n in 0..2 * crate::SEQUENCES_MAX as u64 {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        assert!(sequences.accept(friend, 10 + n));
        assert!(sequences.accept(PeerId(id), u64::MAX));
    }
    assert!(!sequences.accept(friend, 10), "a replay, however many strangers came between");
}

#[test]
fn a_connection_that_had_to_give_way_is_not_the_end_of_the_wish() {
    let mut pair = Pair::connected();
    let (now, to) = (pair.wire.now, pair.peer_id());
    pair.peer.command(now, |node| {
        node.peers.values_mut().for_each(|entry| entry.addresses.clear());
    });
    pair.public.command(now, |node| {
        node.close_link(now, to, crate::close::REPLACED, b"replaced", crate::LostCause::Replaced);
    });
    pair.run(100);
    let from = pair.public_id();
    assert_eq!(pair.peer.inner().is_connected(from), Ok(false), "it is to be tried again");
}

#[test]
fn a_peer_that_never_says_hello_is_not_tried_for_ever() {
    let mut pair = Pair::connected();
    let (now, to) = (pair.wire.now, pair.public_id());
    pair.peer.command(now, |node| {
        let entry = node.peers.get_mut(&to).unwrap();
        entry.addresses.clear();
        let old = entry.link.take().unwrap();
        let link = crate::peer::Link::new(now, old.connection, true, node.hello.clone(), 1);
        node.peers.get_mut(&to).unwrap().link = Some(link);
        node.timers.set(crate::timer::Timer::Hello(to), now + gimlet_handshake::HELLO_WAIT);
    });
    pair.run(26_000);
    assert!(matches!(pair.peer.inner().is_connected(to), Err(Error::Connect(ConnectError::Hello(_)))));
}

#[test]
fn two_peers_that_choose_the_same_attempt_number_get_different_passwords() {
    let mut pair = Pair::connected();
    for secret in [3, 4] {
        says(&mut pair, &friend(secret), |offer| offer);
    }
    let agents = pair.peer.inner().children.ice.iter();
    let passwords: Vec<String> = agents.map(|(_, ice)| ice.agent.local_credentials().pwd.clone()).collect();
    assert_eq!(passwords.len(), 2);
    assert_ne!(passwords[0], passwords[1]);
}

#[test]
fn a_peer_that_restarts_gets_back_into_a_node_that_is_full() {
    let mut small = config(1, PUBLIC);
    (small.public, small.limits.peers_max) = (true, 1);
    let public = Checked::new(Node::new(Instant::ZERO, small).unwrap());
    let mut pair = Pair::of(public, node(2, PEER, false));
    pair.run(1_000);
    let to = pair.public_id();
    let ticket = pair.public.inner().ticket(&[PUBLIC.parse().unwrap()], u64::MAX).unwrap();
    let now = pair.wire.now;
    let restarted = Config { seed: [77; 32], ..config(2, PEER) };
    pair.peer = Checked::new(Node::new(now, restarted).unwrap());
    pair.peer.command(now, |node| node.add_ticket(now, &ticket)).unwrap();
    pair.run(1_000);
    assert_eq!(pair.peer.inner().is_connected(to), Ok(true));
    assert_eq!(pair.public.inner().usage().peers, 1);
}

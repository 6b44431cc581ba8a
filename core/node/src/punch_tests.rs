//! What peers say about punches, honest or not.

use gimlet_ice::Profile;
use gimlet_machine::PeerId;
use gimlet_stun::PortModel;
use gimlet_testkit::Checked;

use super::*;
use crate::Identity;
use crate::description::DescriptionError;
use crate::hostile_tests::{Pair, offer};

const VICTIM: &str = "192.0.2.66";

/// Somebody who leads when it speaks with `peer`, and somebody who does not.
fn leader_and_follower(peer: PeerId) -> (Identity, Identity) {
    let all = || (3..=255).map(|secret| Identity::from_secret([secret; 32]));
    let leader = all().find(|one| one.peer_id() < peer).expect("there are many");
    (leader, all().find(|one| one.peer_id() > peer).expect("there are many"))
}

fn hard_at(ip: &str) -> Profile {
    Profile {
        dependent: Some(true),
        port_model: Some(PortModel::Block { first: 20_480, last: 20_900 }),
        newest_port: Some(20_700),
        supposed: false,
        outside: vec![ip.parse().unwrap()],
    }
}

fn sure(profile: &Profile) -> View {
    View { profile: profile.clone(), doubtful: false }
}

/// The public node carries this from `from`, which it sees at `seen`.
fn says(pair: &mut Pair, from: &Identity, sequence: u64, say: Say, profile: &Profile, seen: Option<&str>) {
    let punch = Some(Word::new(say, Duration::ZERO, &sure(profile)));
    let candidates = Vec::new();
    let word = Description { kind: Kind::Punch, candidates, punch, ..offer(from, pair.peer_id(), sequence) };
    let seen = seen.map(|ip| SocketAddr::new(ip.parse().unwrap(), 1_000));
    let description = word.seal(from);
    pair.public_says(&Control::Introduced { from: from.peer_id().0, description, seen });
}

fn offers(pair: &mut Pair, from: &Identity) {
    let description = offer(from, pair.peer_id(), 1).seal(from);
    pair.public_says(&Control::Introduced { from: from.peer_id().0, description, seen: None });
}

fn probes(pair: &Pair) -> u64 {
    pair.peer.inner().children.ice.iter().map(|(_, ice)| ice.agent.counters().probes_sent).sum()
}

/// The peer is told of a hard NAT at [`VICTIM`] by somebody whom the public node sees at `seen`.
fn spray(seen: Option<&str>) -> (u64, Option<PunchState>) {
    let mut pair = Pair::connected();
    let (leader, _) = leader_and_follower(pair.peer_id());
    offers(&mut pair, &leader);
    says(&mut pair, &leader, 2, Say::Ask, &hard_at(VICTIM), seen);
    // No driver opens sockets here, so nobody knows how our NAT deals out ports; there is none.
    pair.run(500);
    says(&mut pair, &leader, 3, Say::Begin, &hard_at(VICTIM), seen);
    pair.run(4_000);
    let state = pair.peer.inner().children.ice.iter().find_map(|(_, ice)| ice.agent.punch_state());
    (probes(&pair), state)
}

#[test]
fn case_63_a_victim_that_only_the_peer_names_is_never_sprayed() {
    assert_eq!(spray(Some("198.51.100.66")), (0, Some(PunchState::Planned)), "it is elsewhere");
    assert_eq!(spray(None), (0, Some(PunchState::Planned)), "nobody saw it");
    let (probes, _) = spray(Some(VICTIM));
    assert!(probes >= 100, "who is there may ask for it: {probes}");
}

#[test]
fn only_nodes_whose_tickets_we_have_are_believed_about_others() {
    let mut pair = Pair::connected();
    let (leader, _) = leader_and_follower(pair.peer_id());
    let public = pair.public_id();
    let now = pair.wire.now;
    let forget = |node: &mut Node| node.peers.get_mut(&public).expect("connected").addresses.clear();
    pair.peer.command(now, forget);
    offers(&mut pair, &leader);
    says(&mut pair, &leader, 2, Say::Ask, &hard_at(VICTIM), Some(VICTIM));
    pair.run(2_500);
    says(&mut pair, &leader, 3, Say::Begin, &hard_at(VICTIM), Some(VICTIM));
    pair.run(4_000);
    assert_eq!(probes(&pair), 0);
}

#[test]
fn a_flood_of_questions_is_answered_once_and_counted() {
    let mut pair = Pair::connected();
    let (leader, follower) = leader_and_follower(pair.peer_id());
    offers(&mut pair, &leader);
    for sequence in 2..12 {
        says(&mut pair, &leader, sequence, Say::Ask, &hard_at(VICTIM), None);
    }
    assert_eq!(pair.peer.inner().counters().punches_refused, 9);
    offers(&mut pair, &follower);
    says(&mut pair, &follower, 2, Say::Ask, &hard_at(VICTIM), None);
    assert_eq!(pair.peer.inner().counters().punches_refused, 10, "it is for us to ask");
    let learnt = |(public, event): &&(bool, crate::Event)| {
        !public
            && matches!(
                event,
                crate::Event::Progress { step: Progress::Punch(PunchProgress::Nat { .. }), .. }
            )
    };
    assert_eq!(pair.events.iter().filter(learnt).count(), 1, "one look at our NAT");
    assert_eq!(pair.peer.inner().usage().sockets, 0, "and nothing is left of it");
}

#[test]
fn words_without_a_question_or_an_agent_are_counted() {
    let mut pair = Pair::connected();
    let (leader, follower) = leader_and_follower(pair.peer_id());
    says(&mut pair, &leader, 1, Say::Ask, &hard_at(VICTIM), None);
    assert_eq!(pair.peer.inner().counters().stale_descriptions, 1, "no agent");
    for (who, say) in [
        (&leader, Say::Begin),
        (&leader, Say::Answer),
        (&leader, Say::Decline),
        (&follower, Say::Begin),
        (&follower, Say::Answer),
        (&follower, Say::Decline),
    ] {
        let mut pair = Pair::connected();
        offers(&mut pair, who);
        says(&mut pair, who, 2, say, &hard_at(VICTIM), None);
        assert_eq!(pair.peer.inner().counters().stale_descriptions, 1, "{say:?}");
    }
}

#[test]
fn a_node_that_punches_nothing_says_nothing_about_it() {
    let config = crate::hostile_tests::config(2, crate::hostile_tests::PEER);
    let limits = crate::Limits { punch: None, ..config.limits };
    let peer = Node::new(Instant::ZERO, crate::Config { limits, ..config }).unwrap();
    let public = crate::hostile_tests::node(1, crate::hostile_tests::PUBLIC, true);
    let mut pair = Pair::of(public, Checked::new(peer));
    let (leader, _) = leader_and_follower(pair.peer_id());
    offers(&mut pair, &leader);
    says(&mut pair, &leader, 2, Say::Ask, &hard_at(VICTIM), None);
    assert_eq!(pair.peer.inner().counters().punches_refused, 1);
    assert_eq!(pair.peer.inner().usage().sockets, 0);
}

#[test]
fn profiles_survive_the_wire_and_overlong_ones_are_refused() {
    for port_model in [
        None,
        Some(PortModel::Preserving),
        Some(PortModel::Sequential { delta: -3 }),
        Some(PortModel::Block { first: 1, last: u16::MAX }),
        Some(PortModel::Random),
    ] {
        let profile = Profile { port_model, ..hard_at("2001:db8::1") };
        assert_eq!(Word::new(Say::Answer, Duration::MAX, &sure(&profile)).view().profile, profile);
    }
    let (from, to) = (Identity::from_secret([3; 32]), Identity::from_secret([4; 32]).peer_id());
    let mut word = Word::new(Say::Ask, Duration::ZERO, &sure(&hard_at(VICTIM)));
    word.outside = vec![[192, 0, 2, 1].into(); OUTSIDE_MAX + 1];
    let sealed = Description { punch: Some(word), kind: Kind::Punch, ..offer(&from, to, 1) }.seal(&from);
    assert_eq!(Description::open(&sealed, from.peer_id(), to), Err(DescriptionError::Malformed));
}

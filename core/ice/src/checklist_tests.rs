use super::*;
use crate::candidates::{Added, Candidates};
use crate::{Candidate, CandidateKind, Limits, candidate_priority};
use alloc::format;
use alloc::vec::Vec;
use gimlet_machine::{FourTuple, Path};

const WIDE: Limits = Limits {
    local_candidates_max: 64,
    remote_candidates_max: 256,
    peer_reflexive_max: 16,
    pairs_max: 100,
    checks_max: 128,
    early_requests_max: 8,
    answers_max: 32,
    unauthenticated_answers_max: 10,
    events_max: 64,
};

struct Fixture {
    candidates: Candidates,
    checklist: Checklist,
    limits: Limits,
}

impl Fixture {
    fn new(max: usize) -> Self {
        Self { candidates: Candidates::new(), checklist: Checklist::new(max), limits: WIDE }
    }

    fn local(&mut self, candidate: Candidate) {
        self.candidates.add_local(candidate, &self.limits).unwrap();
    }

    /// Adds the remote candidate and forms its pairs, as the agent does.
    fn remote(&mut self, candidate: Candidate) -> Vec<Formed> {
        let Ok(Added::New(id)) = self.candidates.add_remote(candidate, &self.limits) else {
            panic!("the address is new")
        };
        let locals: Vec<_> = self.candidates.representatives().map(|(id, _)| id).collect();
        let pairs = locals.into_iter().filter_map(|local| self.candidates.ends(local, id));
        pairs.map(|ends| self.checklist.form(ends, Role::Controlling, false)).collect()
    }

    fn states(&self) -> Vec<PairState> {
        self.checklist.iter().map(|(_, pair)| pair.state()).collect()
    }

    fn remote_port(&self, id: Id<Pair>) -> u16 {
        let remote = self.checklist.get(id).unwrap().remote;
        self.candidates.remote(remote).unwrap().candidate.address.port()
    }

    /// Checks every pair once; the ports of the remote candidates in that order.
    fn check_all(&mut self) -> Vec<u16> {
        let mut ports = Vec::new();
        while let Some(id) = self.checklist.pick_ordinary() {
            assert!(self.checklist.step(id, PairStep::Check));
            ports.push(self.remote_port(id));
        }
        ports
    }
}

fn host(ip: &str, port: u16) -> Candidate {
    Candidate::host(format!("{ip}:{port}").parse().unwrap())
}

fn reflexive(ip: &str, port: u16) -> Candidate {
    let base = "10.9.9.9:9".parse().unwrap();
    Candidate::server_reflexive(format!("{ip}:{port}").parse().unwrap(), base, None)
}

#[test]
fn case_22_a_reflexive_candidate_adds_no_pair_beside_its_base() {
    let mut fixture = Fixture::new(100);
    let base = host("10.0.0.1", 1);
    let mapped = "203.0.113.1:7".parse().unwrap();
    fixture.local(base.clone());
    fixture.local(Candidate::server_reflexive(mapped, base.address, None));
    assert_eq!(fixture.remote(host("192.0.2.1", 1)).len(), 1);
    let (_, pair) = fixture.checklist.iter().next().unwrap();
    assert_eq!(fixture.candidates.local(pair.local).unwrap().candidate, base, "the preferred one stands");
}

#[test]
fn a_reflexive_candidate_whose_base_comes_later_hands_its_place_over() {
    let mut fixture = Fixture::new(100);
    let base = host("10.0.0.1", 1);
    let mapped = "203.0.113.1:7".parse().unwrap();
    fixture.local(Candidate::server_reflexive(mapped, base.address, None));
    let path = Path::Direct(FourTuple::new(base.address, "192.0.2.1:1".parse().unwrap()));
    let before = fixture.candidates.base_of(&path).unwrap();
    fixture.local(base);
    let after = fixture.candidates.base_of(&path).unwrap();
    assert_ne!(before, after);
    assert_eq!(fixture.candidates.local(after).unwrap().candidate.kind, CandidateKind::Host);
}

#[test]
fn case_24_the_best_pair_of_each_foundation_waits_and_the_others_are_frozen() {
    use PairState::{Frozen, Waiting};
    let mut fixture = Fixture::new(100);
    fixture.local(host("10.0.0.1", 1));
    // Two foundations; within the first the better candidate arrives second.
    fixture.remote(host("192.0.2.1", 1).with_local_preference(5));
    fixture.remote(host("192.0.2.1", 2).with_local_preference(9));
    fixture.remote(host("192.0.2.1", 3).with_local_preference(7));
    fixture.remote(host("192.0.2.2", 4).with_local_preference(1));
    assert_eq!(fixture.states(), [Frozen, Waiting, Frozen, Waiting]);
}

#[test]
fn case_24_success_unfreezes_its_foundation_and_no_other() {
    use PairState::{Frozen, InProgress, Waiting};
    let mut fixture = Fixture::new(100);
    fixture.local(host("10.0.0.1", 1));
    for (ip, port) in [("192.0.2.1", 1), ("192.0.2.1", 2), ("192.0.2.2", 3), ("192.0.2.2", 4)] {
        fixture.remote(host(ip, port).with_local_preference(100 - port));
    }
    assert_eq!(fixture.check_all(), [1, 3]);
    assert_eq!(fixture.states(), [InProgress, Frozen, InProgress, Frozen]);
    let foundation = fixture.checklist.iter().next().unwrap().1.foundation;
    fixture.checklist.unfreeze(foundation);
    assert_eq!(fixture.states(), [InProgress, Waiting, InProgress, Frozen]);
}

#[test]
fn a_frozen_pair_gets_its_turn_when_its_foundation_has_failed() {
    let mut fixture = Fixture::new(100);
    fixture.local(host("10.0.0.1", 1));
    fixture.remote(host("192.0.2.1", 1).with_local_preference(9));
    fixture.remote(host("192.0.2.1", 2).with_local_preference(8));
    assert_eq!(fixture.check_all(), [1]);
    let first = fixture.checklist.iter().next().unwrap().0;
    assert!(!fixture.checklist.has_ordinary(), "the first is still in progress");
    fixture.checklist.step(first, PairStep::Fail);
    assert_eq!(fixture.check_all(), [2]);
}

#[test]
fn case_23_a_full_list_drops_its_least_likely_pair_and_keeps_working() {
    let mut fixture = Fixture::new(100);
    fixture.local(host("10.0.0.1", 1));
    for port in 1..=150 {
        fixture.remote(host(&format!("192.0.2.{port}"), port).with_local_preference(1000 + port));
    }
    let mut ports = fixture.check_all();
    assert!(ports.windows(2).all(|pair| pair[0] > pair[1]), "best first");
    ports.sort_unstable();
    assert_eq!(ports, (51..=150).collect::<Vec<_>>(), "the lowest were dropped");
    // All are in progress: nothing gives way any more, for however good a candidate.
    assert_eq!(fixture.remote(host("198.51.100.1", 1)), [Formed::Refused]);
}

#[test]
fn case_23_a_worse_pair_than_all_in_a_full_list_is_not_formed() {
    let mut fixture = Fixture::new(2);
    fixture.local(host("10.0.0.1", 1));
    fixture.remote(host("192.0.2.1", 1).with_local_preference(9));
    fixture.remote(host("192.0.2.2", 2).with_local_preference(8));
    assert_eq!(fixture.remote(host("192.0.2.3", 3).with_local_preference(7)), [Formed::Refused]);
    assert!(matches!(
        fixture.remote(host("192.0.2.4", 4).with_local_preference(10))[..],
        [Formed::Replaced(..)]
    ));
    assert_eq!(fixture.check_all(), [4, 1]);
}

#[test]
fn a_crowd_of_host_pairs_leaves_room_for_a_reflexive_one() {
    let mut fixture = Fixture::new(10);
    fixture.local(host("10.0.0.1", 1));
    for port in 1..=20 {
        fixture.remote(host(&format!("192.0.2.{port}"), port));
    }
    fixture.remote(reflexive("203.0.113.1", 500).with_local_preference(0));
    let order = fixture.check_all();
    assert_eq!((order.len(), order[1]), (10, 500), "and it goes second, because kinds take turns");
}

#[test]
fn families_take_turns_whatever_the_peer_prefers() {
    let mut fixture = Fixture::new(100);
    fixture.local(host("[2001:db8::1]", 1));
    for port in 1..=6 {
        fixture.remote(host(&format!("[2001:db8:1::{port}]"), port).with_local_preference(1_000 + port));
    }
    fixture.remote(host("192.0.2.1", 500).with_local_preference(0));
    let order = fixture.check_all();
    assert_eq!(order, [6, 500, 5, 4, 3, 2, 1]);
}

#[test]
fn a_crowd_of_one_family_leaves_room_for_the_other_in_a_full_list() {
    let mut fixture = Fixture::new(10);
    fixture.local(host("[2001:db8::1]", 1));
    fixture.local(host("10.0.0.1", 1));
    for port in 1..=20 {
        fixture.remote(host(&format!("[2001:db8:1::{port}]"), port));
    }
    fixture.remote(host("192.0.2.1", 500).with_local_preference(0));
    let order = fixture.check_all();
    assert_eq!((order.len(), order[1]), (10, 500), "{order:?}");
}

#[test]
fn a_pair_that_the_peer_used_takes_the_place_of_any_unchecked_one() {
    let mut fixture = Fixture::new(2);
    fixture.local(host("10.0.0.1", 1));
    fixture.remote(host("192.0.2.1", 1));
    fixture.remote(host("192.0.2.2", 2));
    let priority = candidate_priority(CandidateKind::PeerReflexive, 0, 1);
    let learned = fixture.candidates.add_peer_reflexive("192.0.2.3:3".parse().unwrap(), false, priority);
    let local = fixture.candidates.locals().next().unwrap().0;
    let ends = fixture.candidates.ends(local, learned).unwrap();
    assert!(matches!(fixture.checklist.form(ends, Role::Controlling, true), Formed::Replaced(..)));
    assert!(fixture.checklist.find(local, learned).is_some());
}

#[test]
fn triggered_pairs_queue_once_and_in_order() {
    let mut fixture = Fixture::new(10);
    fixture.local(host("10.0.0.1", 1));
    for port in 1..=3 {
        fixture.remote(host(&format!("192.0.2.{port}"), port));
    }
    let ids: Vec<_> = fixture.checklist.iter().map(|(id, _)| id).collect();
    for id in [ids[2], ids[0], ids[2], ids[1]] {
        fixture.checklist.trigger(id);
    }
    fixture.checklist.dequeue(ids[0]);
    let order: Vec<_> = core::iter::from_fn(|| fixture.checklist.pop_triggered()).collect();
    assert_eq!(order, [ids[2], ids[1]]);
}

#[test]
fn case_19_a_role_change_gives_every_pair_the_priority_that_the_peer_computes() {
    let mut ours = Fixture::new(10);
    ours.local(host("10.0.0.1", 1).with_local_preference(3));
    ours.remote(host("192.0.2.1", 1).with_local_preference(5));
    let mut theirs = Fixture::new(10);
    theirs.local(host("192.0.2.1", 1).with_local_preference(5));
    theirs.remote(host("10.0.0.1", 1).with_local_preference(3));

    let rank = |fixture: &mut Fixture, role| {
        let (id, pair) = fixture.checklist.iter().next().unwrap();
        let ends = fixture.candidates.ends(pair.local, pair.remote).unwrap();
        fixture.checklist.get_mut(id).unwrap().rank(ends, role);
        fixture.checklist.get(id).unwrap().priority
    };
    let (a, b) = (rank(&mut ours, Role::Controlling), rank(&mut theirs, Role::Controlled));
    let (c, d) = (rank(&mut ours, Role::Controlled), rank(&mut theirs, Role::Controlling));
    assert_eq!((a, c), (b, d));
    assert_ne!(a, c, "G > D changes with the role");
}

#[test]
fn pairs_and_checks_stay_small_because_there_are_hundreds_of_them() {
    assert!(size_of::<Pair>() <= 88, "{}", size_of::<Pair>());
    assert!(size_of::<crate::checks::Check>() <= 72, "{}", size_of::<crate::checks::Check>());
}

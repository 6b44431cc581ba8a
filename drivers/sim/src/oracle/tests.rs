use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use gimlet_machine::{Instant, Rng};

use super::*;
use crate::{Leg, Nat, PortAllocation, Side};

const MAPPINGS: [Mapping; 3] =
    [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];

fn edges() -> impl Iterator<Item = Edge> {
    MAPPINGS.into_iter().flat_map(|mapping| FILTERINGS.map(|filtering| Edge { mapping, filtering }))
}

/// One side of an attempt to meet: a socket behind a real [`Nat`].
struct Party {
    nat: Nat,
    socket: SocketAddr,
    /// Endpoints of the other side that it has heard of.
    known: BTreeSet<SocketAddr>,
}

impl Party {
    fn new(nth: u8, edge: Edge) -> Self {
        // Random ports, so that nothing is the same by luck.
        let config = NatConfig {
            ports: PortAllocation::Random,
            ..NatConfig::new([203, 0, 113, nth], edge.mapping, edge.filtering)
        };
        let rng = Rng::from_u64(9).fork_nth("side", u64::from(nth));
        Self {
            nat: Nat::new(rng, config),
            socket: SocketAddr::from(([10, 0, 0, nth], 5_000)),
            known: BTreeSet::new(),
        }
    }

    fn outside(&mut self, destination: SocketAddr) -> SocketAddr {
        let leg = Leg { side: Side::Inside, source: self.socket, destination };
        self.nat.translate(Instant::ZERO, leg).unwrap().source
    }

    fn hears(&mut self, source: SocketAddr, destination: SocketAddr) -> bool {
        self.nat.translate(Instant::ZERO, Leg { side: Side::Outside, source, destination }).is_ok()
    }
}

/// Both sides do what ICE does, over NATs and without loss: ask a server, swap what it saw, send to
/// every endpoint they know, learn from what arrives, answer to where it came from. Connected is who
/// gets an answer from where it was asked for (RFC 8445 §7.2.5.2.1).
fn do_they_meet(a: Edge, b: Edge) -> bool {
    let server = SocketAddr::from(([198, 51, 100, 1], 3_478));
    let mut sides = [Party::new(1, a), Party::new(2, b)];
    let [seen_a, seen_b] = [0, 1].map(|nth| sides[nth].outside(server));
    sides[0].known.insert(seen_b);
    sides[1].known.insert(seen_a);
    let mut tried = BTreeMap::new();
    for _ in 0..8 {
        for nth in [0, 1] {
            let known: Vec<SocketAddr> = sides[nth].known.iter().copied().collect();
            for destination in known {
                *tried.entry((nth, destination)).or_insert(0) += 1;
                let [one, two] = &mut sides;
                let (asks, hears) = if nth == 0 { (one, two) } else { (two, one) };
                let source = asks.outside(destination);
                if !hears.hears(source, destination) {
                    continue;
                }
                hears.known.insert(source);
                let answers_from = hears.outside(source);
                if answers_from == destination && asks.hears(answers_from, source) {
                    return true;
                }
            }
        }
    }
    assert!(tried.values().all(|times| *times <= 8));
    false
}

#[test]
fn reasoning_and_trying_agree_on_all_eighty_one_pairs() {
    let mut possible = 0;
    for a in edges() {
        for b in edges() {
            let reasoned = direct_path_possible(a, b);
            assert_eq!(reasoned, do_they_meet(a, b), "{a:?} {b:?}");
            assert_eq!(reasoned, direct_path_possible(b, a), "{a:?} {b:?}");
            possible += usize::from(reasoned);
        }
    }
    // 9 with both mappings independent, 2 × 12 with one, 9 with none.
    assert_eq!(possible, 42);
}

#[test]
fn an_open_host_meets_everybody_and_two_symmetric_ones_do_not_meet() {
    assert!(edges().all(|edge| direct_path_possible(Edge::OPEN, edge)));
    let symmetric =
        Edge { mapping: Mapping::AddressAndPortDependent, filtering: Filtering::AddressAndPortDependent };
    assert!(!direct_path_possible(symmetric, symmetric));
}

#[test]
fn a_port_is_as_unknown_as_the_outermost_nat_that_minds_makes_it() {
    let easy = NatConfig::new([203, 0, 113, 1], Mapping::EndpointIndependent, Filtering::EndpointIndependent);
    let hard = |ports| {
        let mapping = Mapping::AddressAndPortDependent;
        NatConfig { ports, ..NatConfig::new([203, 0, 113, 2], mapping, Filtering::AddressAndPortDependent) }
    };
    let [near, block, full] = [
        PortAllocation::Sequential { step: 2 },
        PortAllocation::Block { first: 1_024, size: 512 },
        PortAllocation::Random,
    ]
    .map(hard);
    let shuffling = NatConfig { ports: PortAllocation::Random, ..easy.clone() };
    assert_eq!(PortSpan::of([]), PortSpan::One);
    assert_eq!(PortSpan::of([&easy, &shuffling]), PortSpan::One);
    assert_eq!(PortSpan::of([&near, &easy]), PortSpan::Near);
    assert_eq!(PortSpan::of([&near, &shuffling]), PortSpan::Full);
    assert_eq!(
        PortSpan::of([&full, &easy]),
        PortSpan::Full,
        "an outer NAT that preserves ports shows the inner one's"
    );
    assert_eq!(PortSpan::of([&easy, &block]), PortSpan::Block(512));
    assert_eq!(PortSpan::of([&hard(PortAllocation::Preserving)]), PortSpan::Near);
}

#[test]
fn punching_adds_the_pairs_with_one_side_to_guess() {
    let strict = |mapping| NatConfig::new([203, 0, 113, 1], mapping, Filtering::AddressAndPortDependent);
    let (easy, hard) = (strict(Mapping::EndpointIndependent), strict(Mapping::AddressAndPortDependent));
    let huge = PortAllocation::Block { first: 1_024, size: 8_192 };
    let huge = NatConfig { ports: huge, ..hard.clone() };
    assert!(!direct_path_possible(Edge::of([&easy]), Edge::of([&hard])));
    assert!(punch_possible(&[&easy], &[&hard]) && punch_possible(&[&hard], &[&easy]));
    assert!(punch_possible(&[&easy], &[&easy]) && punch_possible(&[], &[&hard]));
    assert!(!punch_possible(&[&hard], &[&hard]) && !punch_possible(&[&easy], &[&huge]));
}

#[test]
fn a_chain_is_as_hard_as_its_hardest_parts() {
    let home =
        NatConfig::new([203, 0, 113, 1], Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    let carrier = NatConfig::new([203, 0, 113, 2], Mapping::AddressDependent, Filtering::EndpointIndependent);
    let edge = Edge { mapping: Mapping::AddressDependent, filtering: Filtering::AddressAndPortDependent };
    assert_eq!(Edge::of([&home, &carrier]), edge);
    assert_eq!(Edge::of([]), Edge::OPEN);
}

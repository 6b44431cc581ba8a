//! Canaries: one fault for each invariant. A world with it has to notice, by name.

use gimlet_tcp_model::{Breach, Invariant, Middle, Plan, Saboteur, Topology, World, boxes};

/// Worlds that are tried until one notices. Most faults show in the first.
const WORLDS: u64 = 400;

/// The first world in which a box that breaks `what` is noticed at all, and what is said there.
fn first(what: Invariant) -> Option<(u64, Vec<Breach>)> {
    (0..WORLDS).find_map(|seed| {
        let plan = Plan::draw_in(seed, Topology::Single);
        let boxes = boxes(&plan).into_iter();
        let boxes = boxes.map(|inner| Box::new(Saboteur::new(inner, what)) as Box<dyn Middle>).collect();
        let breaches = World::new(&plan, boxes, None).play().breaches;
        breaches.iter().any(|breach| breach.invariant == what).then_some((seed, breaches))
    })
}

#[test]
fn canary_every_invariant_is_noticed_by_name_when_it_is_broken() {
    for what in Invariant::ALL {
        // Two runs of one world are needed for that: the next test.
        if what == Invariant::I11Replay {
            continue;
        }
        let found = first(what);
        assert!(found.is_some(), "{what:?} was broken in {WORLDS} worlds, and nobody noticed");
    }
}

#[test]
fn canary_a_box_that_does_not_repeat_itself_is_noticed() {
    let plan = Plan::draw_in(3, Topology::Single);
    let play = |breaks: Option<Invariant>| {
        let boxes = boxes(&plan).into_iter().map(|inner| match breaks {
            Some(what) => Box::new(Saboteur::new(inner, what)) as Box<dyn Middle>,
            None => inner,
        });
        World::new(&plan, boxes.collect(), None).play().trace
    };
    assert_eq!(play(None), play(None));
    assert_ne!(play(Some(Invariant::I11Replay)), play(Some(Invariant::I11Replay)));
}

/// Nothing at all is noticed of the same worlds without a fault.
#[test]
fn worlds_of_canaries_are_quiet_without_them() {
    for seed in 0..60 {
        let plan = Plan::draw_in(seed, Topology::Single);
        let breaches = World::new(&plan, boxes(&plan), None).play().breaches;
        assert_eq!(breaches, [], "seed {seed}");
    }
}

/// What the checks see is worth seeing: most worlds have connections that a box answered and that came to
/// their end.
#[test]
fn boxes_answer_enough_connections() {
    let mut answered = 0;
    for seed in 0..100 {
        let plan = Plan::draw_in(seed, Topology::Single);
        let played = World::new(&plan, boxes(&plan), None).play();
        answered += played.flows.iter().filter(|(_, answered)| *answered).count();
    }
    assert!(answered > 80, "{answered} of 100 worlds");
}

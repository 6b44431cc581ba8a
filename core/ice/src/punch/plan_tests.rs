use super::*;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

fn at(last: u8) -> Vec<IpAddr> {
    vec![[203, 0, 113, last].into()]
}

fn easy() -> Profile {
    Profile { dependent: Some(false), outside: at(1), ..Profile::default() }
}

fn hard(model: Option<PortModel>) -> Profile {
    Profile {
        dependent: Some(true),
        port_model: model,
        newest_port: Some(40_000),
        outside: at(2),
        supposed: false,
    }
}

fn planned(model: Option<PortModel>) -> Plan {
    plan(&easy(), &hard(model), &PunchLimits::default()).unwrap()
}

#[test]
fn the_cheapest_plan_that_is_likely_enough_is_taken() {
    let window = planned(Some(PortModel::Sequential { delta: 2 }));
    assert_eq!((window.part, window.sockets, window.probes, window.passes), (Part::Probe, 4, 32, 3));
    assert_eq!(window.ports, Ports::Ahead { newest: 40_000, step: 2, shuffled: 0 });

    let block = planned(Some(PortModel::Block { first: 10_030, last: 10_470 }));
    assert_eq!((block.sockets, block.probes, block.passes), (16, 128, 2));
    assert!((990_000..992_000).contains(&block.chance), "{}", block.chance);

    for model in [Some(PortModel::Random), None] {
        let full = planned(model);
        assert_eq!((full.sockets, full.probes, full.passes), (256, 1_024, 1));
        assert!((983_000..984_000).contains(&full.chance), "{}", full.chance);
    }
}

#[test]
fn larger_blocks_cost_more_and_stay_likely() {
    for (size, cost) in [(512_u16, 144), (1_024, 160), (2_048, 192), (4_096, 320)] {
        let plan = planned(Some(PortModel::Block { first: 20_000, last: 20_000 + size - 1 }));
        assert_eq!(plan.sockets + plan.probes, cost, "{plan:?}");
        assert!(plan.chance >= 950_000);
    }
}

#[test]
fn a_counter_without_a_newest_port_is_no_window() {
    let unknown = Profile { newest_port: None, ..hard(Some(PortModel::Sequential { delta: 1 })) };
    let plan = plan(&easy(), &unknown, &PunchLimits::default()).unwrap();
    assert_eq!((plan.sockets, plan.probes), (256, 1_024));
}

#[test]
fn what_cannot_help_is_declined_and_says_why() {
    let limits = PunchLimits::default();
    let decline =
        |ours: &Profile, theirs: &Profile, limits: &PunchLimits| plan(ours, theirs, limits).unwrap_err();
    assert_eq!(decline(&Profile::default(), &easy(), &limits), Declined::Unknown);
    let theirs = Profile { outside: at(9), ..hard(None) };
    assert_eq!(decline(&hard(None), &theirs, &limits), Declined::BothDependent);
    assert_eq!(decline(&easy(), &Profile { outside: at(1), ..hard(None) }, &limits), Declined::NoAddress);
    let sixth = Profile { outside: vec!["2001:db8::1".parse().unwrap()], ..hard(None) };
    assert_eq!(decline(&easy(), &sixth, &limits), Declined::NoAddress);
    let loopback = Profile { outside: vec!["127.0.0.1".parse().unwrap()], ..hard(None) };
    assert_eq!(decline(&easy(), &loopback, &limits), Declined::NoAddress);
    // 64 sockets and 1,024 probes: 64 in 100.
    let few = PunchLimits { sockets_max: 64, ..limits };
    let Declined::Unlikely(chance) = decline(&easy(), &hard(None), &few) else { panic!() };
    assert!((640_000..642_000).contains(&chance), "{chance}");
}

#[test]
fn both_hard_is_tried_only_by_whoever_asks_for_it_and_knows_the_odds() {
    let theirs = Profile { outside: at(9), ..hard(Some(PortModel::Sequential { delta: 1 })) };
    let ours = hard(Some(PortModel::Sequential { delta: 1 }));
    let brave = PunchLimits { both_dependent: true, ..PunchLimits::default() };
    let Err(Declined::Unlikely(chance)) = plan(&ours, &theirs, &brave) else { panic!() };
    assert!((620_000..650_000).contains(&chance), "{chance}");
    let gambler = PunchLimits { chance_min: 600_000, ..brave };
    let plan = plan(&ours, &theirs, &gambler).unwrap();
    assert_eq!((plan.part, plan.sockets, plan.probes), (Part::Probe, 0, 32));
}

#[test]
fn what_is_only_supposed_leaves_room_in_the_hour_for_the_opposite() {
    let limits = PunchLimits::default();
    let random = |supposed, last| Profile { supposed, outside: at(last), ..hard(Some(PortModel::Random)) };
    let known = plan(&random(false, 2), &easy(), &limits).unwrap();
    assert_eq!((known.sockets, known.opens, known.probes, known.cost()), (256, 2, 1_024, 1_024));
    let [opens, probes] =
        [plan(&random(true, 2), &easy(), &limits), plan(&easy(), &random(true, 2), &limits)]
            .map(Result::unwrap);
    assert_eq!((opens.sockets, opens.opens, opens.cost()), (256, 1, 256));
    assert_eq!((probes.probes, probes.passes, probes.cost()), (760, 1, 760));
    // One round of each, a packet from the usual socket in each pass, and a few that others spent.
    assert_eq!(opens.cost() + probes.cost() + 8, limits.probes_max);
    assert!(opens.chance >= limits.chance_min && opens.chance < known.chance, "{}", opens.chance);
    // Small plans lose nothing by it.
    let counts = |supposed| Profile { supposed, ..hard(Some(PortModel::Sequential { delta: 1 })) };
    let [sure, unsure] = [false, true].map(|supposed| plan(&counts(supposed), &easy(), &limits).unwrap());
    assert_eq!((sure.opens, sure.passes, sure.probes), (unsure.opens, unsure.passes, unsure.probes));
}

#[test]
fn two_easy_nats_wait_for_each_other() {
    let theirs = Profile { outside: at(2), ..easy() };
    let plan = plan(&easy(), &theirs, &PunchLimits::default()).unwrap();
    assert_eq!((plan.part, plan.cost()), (Part::Meet, 0));
}

fn models() -> impl Strategy<Value = Option<PortModel>> {
    prop_oneof![
        Just(None),
        Just(Some(PortModel::Preserving)),
        Just(Some(PortModel::Random)),
        any::<i32>().prop_map(|delta| Some(PortModel::Sequential { delta })),
        any::<(u16, u16)>().prop_map(|(first, last)| Some(PortModel::Block { first, last })),
    ]
}

fn profiles() -> impl Strategy<Value = Profile> {
    let outside = prop::collection::vec(any::<u8>().prop_map(|last| IpAddr::from([203, 0, 113, last])), 0..6);
    (any::<Option<bool>>(), any::<bool>(), models(), any::<Option<u16>>(), outside).prop_map(
        |(dependent, supposed, port_model, newest_port, outside)| Profile {
            dependent,
            supposed,
            port_model,
            newest_port,
            outside,
        },
    )
}

proptest! {
    /// Whatever a peer claims.
    #[test]
    fn the_two_sides_plan_the_same_thing_within_their_limits(
        ours in profiles(), theirs in profiles(), sockets_max in any::<u16>(), probes_max in any::<u16>(),
        both_dependent in any::<bool>(), chance_min in 0_u32..1_000_000,
    ) {
        let limits = PunchLimits { sockets_max, probes_max, chance_min, both_dependent };
        match (plan(&ours, &theirs, &limits), plan(&theirs, &ours, &limits)) {
            (Ok(a), Ok(b)) => {
                let parts = (a.part, b.part);
                let both = matches!((ours.dependent, theirs.dependent), (Some(true), Some(true)));
                let fits = matches!(parts, (Part::Open, Part::Probe) | (Part::Probe, Part::Open))
                    || (parts == (Part::Meet, Part::Meet) && a.sockets == 0)
                    || (both && parts == (Part::Probe, Part::Probe));
                prop_assert!(fits, "{parts:?}");
                prop_assert_eq!((a.sockets, a.passes, a.chance), (b.sockets, b.passes, b.chance));
                prop_assert!(a.sockets <= sockets_max.min(PUNCH_SOCKETS_MAX));
                prop_assert!(a.cost() <= probes_max.min(PUNCH_PROBES_MAX));
                prop_assert!(a.chance >= chance_min || a.part == Part::Meet);
            }
            (a, b) => prop_assert_eq!(a.unwrap_err(), b.unwrap_err()),
        }
    }
}

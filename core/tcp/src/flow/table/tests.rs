//! The table against a model, with crowds, and with memory that somebody left half written.

use alloc::collections::BTreeMap;
use alloc::vec;

use gimlet_machine::Rng;
use proptest::prelude::*;

use super::*;
use crate::rewrite::{Strip, Translation, Windows};

type Owned = Table<Vec<Slot>>;

fn key(n: u32) -> FlowKey {
    let client = core::net::SocketAddr::from(([10, 0, (n >> 24) as u8, (n >> 16) as u8], n as u16));
    FlowKey::new(client, core::net::SocketAddr::from(([10, 1, 0, 1], 8080)))
}

fn flow(n: u32) -> Flow {
    let windows = Windows { to_client: -3, to_server: 14 };
    let translation = Translation { delta: n, clock: !n, windows, strip: Strip::SACK };
    Flow { key: key(n), translation, segment_size: 536, state: 4, mark: n, seen: Tick(n) }
}

fn table(flows: usize, seed: u64) -> Owned {
    Table::new(vec![Slot::EMPTY; slots_for(flows)], Rng::from_u64(seed)).expect("enough slots")
}

/// Keys whose home is within `near` of the one of `key(0)`: only whoever knows the secret can find them.
fn crowd(table: &Owned, near: usize) -> impl Iterator<Item = u32> + use<'_> {
    let home = table.home(&key(0));
    (0..).filter(move |n| table.home(&key(*n)).abs_diff(home) < near)
}

/// What the table says of itself, checked flow by flow.
fn sound(table: &Owned) {
    assert_eq!(table.iter().count(), table.len());
    for slot in table.iter() {
        let place = table.find(&slot.key()).expect("every flow is found");
        assert!(core::ptr::eq(table.slot(place), slot), "and found where it is");
        assert!(slot.holds(|slot| table.seal(slot)));
    }
}

#[test]
fn a_slot_keeps_all_of_a_flow_in_one_cache_line() {
    assert_eq!((size_of::<Slot>(), align_of::<Slot>()), (64, 64));
    let mut table = table(10, 1);
    let place = table.insert(&flow(7)).unwrap();
    assert_eq!(table.slot(place).flow(), flow(7));
    table.slot_mut(place).update(9, 0xabcd, Tick(u32::MAX));
    let changed = Flow { state: 9, mark: 0xabcd, seen: Tick(u32::MAX), ..flow(7) };
    assert_eq!(table.slot(place).flow(), changed);
    table.slot_mut(place).touch(Tick(3));
    assert_eq!(table.slot(place).flow(), Flow { seen: Tick(3), ..changed });
    sound(&table);
}

#[test]
fn a_table_holds_as_many_flows_as_it_was_made_for_and_then_is_full() {
    for flows in [1, 128, 129, 1000, 5000] {
        let mut table = table(flows, 2);
        assert!(table.limit() >= flows && table.limit() < flows.max(PROBE_MAX) * 2);
        for n in 0..table.limit() as u32 {
            table.insert(&flow(n)).unwrap();
        }
        assert_eq!(table.insert(&flow(u32::MAX)), Err(InsertError::Full));
        // One that is there is not one more.
        assert!(table.insert(&Flow { mark: 1, ..flow(0) }).is_ok());
        assert_eq!((table.len(), table.reseeds()), (table.limit(), 0));
        sound(&table);
    }
}

#[test]
fn too_few_slots_are_no_table() {
    assert!(Table::new(vec![Slot::EMPTY; slots_for(1) - 1], Rng::from_u64(1)).is_none());
    assert!(Table::new(Vec::<Slot>::new(), Rng::from_u64(1)).is_none());
}

#[test]
fn runs_of_random_flows_stay_far_below_the_bound() {
    let mut table = table(1 << 15, 3);
    for n in 0..1 << 15 {
        table.insert(&flow(n)).unwrap();
    }
    let distance = |slot: &Slot| {
        let place = table.find(&slot.key()).unwrap();
        place - table.home(&slot.key())
    };
    let (sum, most) =
        table.iter().map(distance).fold((0, 0), |(sum, most), d| (sum + d, usize::max(most, d)));
    // Knuth: half a slot on average at half load.
    assert!(sum < table.len() * 6 / 10, "{sum}");
    assert!(most < PROBE_MAX / 2, "{most}");
    assert_eq!(table.reseeds(), 0);
}

#[test]
fn case_64_keys_that_collide_make_the_table_change_its_secret_and_not_slow_down() {
    let mut table = table(1 << 10, 4);
    let attack: Vec<u32> = crowd(&table, 1).take(PROBE_MAX + 40).collect();
    for (nth, n) in attack.iter().enumerate() {
        table.insert(&flow(*n)).unwrap();
        assert_eq!(table.reseeds(), u64::from(nth >= PROBE_MAX), "{nth}");
    }
    assert_eq!((table.len(), table.lost()), (attack.len(), 0));
    sound(&table);

    // Whoever could see through the new secret at once would be refused, not served at everyone's expense.
    let again: Vec<u32> = crowd(&table, 1).filter(|n| !attack.contains(n)).take(PROBE_MAX + 40).collect();
    let refused = again.iter().filter(|n| table.insert(&flow(**n)) == Err(InsertError::Crowded)).count();
    assert!(refused > 0 && table.reseeds() == 1, "{refused}");
    sound(&table);
}

#[test]
fn a_sweep_sees_every_flow_once_though_others_move_up() {
    let mut table = table(1 << 10, 5);
    for n in 0..1000 {
        table.insert(&flow(n)).unwrap();
    }
    let (mut seen, mut from) = (vec![0; 1000], 0);
    loop {
        from = table.sweep(from, 100, |slot| {
            seen[slot.seen().0 as usize] += 1;
            slot.seen().0 % 3 == 0
        });
        if from == 1 {
            break;
        }
    }
    assert!(seen.iter().all(|times| *times == 1));
    assert_eq!(table.len(), 334);
    sound(&table);
}

#[test]
fn a_table_is_attached_to_as_it_was_left() {
    let mut left = table(1 << 10, 6);
    for n in 0..1000 {
        left.insert(&flow(n)).unwrap();
    }
    for n in 0..100 {
        left.remove(left.find(&key(n)).unwrap());
    }
    let (found, attached) = Table::attach(left.slots.clone(), Rng::from_u64(99), Tick(500)).unwrap();
    assert_eq!(attached, Attached { flows: 900, discarded: 0 });
    for n in 100..1000 {
        let expected = Flow { seen: Tick(n.min(500)), ..flow(n) };
        assert_eq!(found.slot(found.find(&key(n)).unwrap()).flow(), expected, "{n}");
    }
    sound(&found);
}

#[test]
fn memory_that_holds_no_table_becomes_an_empty_one() {
    let noise: Vec<Slot> = {
        let mut rng = Rng::from_u64(7);
        (0..slots_for(1)).map(|_| Slot::from_words(core::array::from_fn(|_| rng.u64()))).collect()
    };
    let (table, attached) = Table::attach(noise, Rng::from_u64(8), Tick(0)).unwrap();
    assert_eq!((table.len(), attached), (0, Attached::default()));
    // A table of another size is not this one.
    let mut longer = table.slots.clone();
    longer.resize(slots_for(1000), Slot::EMPTY);
    let (table, attached) = Table::attach(longer, Rng::from_u64(8), Tick(0)).unwrap();
    assert_eq!((table.limit(), attached), (1024, Attached::default()));
}

#[test]
fn slots_of_an_earlier_table_in_the_same_memory_are_not_flows() {
    let mut first = table(100, 9);
    for n in 0..100 {
        first.insert(&flow(n)).unwrap();
    }
    let second = Table::new(first.slots.clone(), Rng::from_u64(9)).unwrap();
    assert_eq!(second.secret, first.secret, "the worst case");
    // The header of the second table, and what a crash before the slots were emptied would leave.
    let mut mixed = first.slots.clone();
    mixed[0] = second.slots[0];
    let (table, attached) = Table::attach(mixed, Rng::from_u64(10), Tick(0)).unwrap();
    assert_eq!((table.len(), attached.discarded), (0, 100));
}

#[test]
fn a_flow_that_was_being_moved_when_the_process_died_is_there_once() {
    let mut left = table(1 << 10, 11);
    let run: Vec<u32> = crowd(&left, 1).take(5).collect();
    for n in &run {
        left.insert(&flow(*n)).unwrap();
    }
    // `close_gap` copies before it clears: here the third has been copied over the second.
    let (second, third) = (left.find(&key(run[1])).unwrap(), left.find(&key(run[2])).unwrap());
    left.slots[second] = left.slots[third];
    let (table, attached) = Table::attach(left.slots.clone(), Rng::from_u64(12), Tick(u32::MAX)).unwrap();
    assert_eq!(attached, Attached { flows: 4, discarded: 1 });
    assert!([0, 2, 3, 4].iter().all(|nth| table.find(&key(run[*nth])).is_some()));
    sound(&table);
}

proptest! {
    #[test]
    fn the_table_is_a_map(seed: u64, steps in prop::collection::vec((0u32..400, 0u8..4), 0..600)) {
        let (mut table, mut model) = (table(100, seed), BTreeMap::new());
        // Few homes for many flows: runs grow together.
        let keys: Vec<u32> = crowd(&table, 20).take(400).collect();
        for (nth, (n, what)) in steps.into_iter().enumerate() {
            let n = keys[n as usize];
            let flow = Flow { mark: nth as u32, ..flow(n) };
            if what == 0 {
                if let Some(place) = table.find(&key(n)) {
                    table.remove(place);
                }
                model.remove(&n);
            } else if let Ok(place) = table.insert(&flow) {
                prop_assert_eq!(table.slot(place).flow(), flow);
                model.insert(n, flow);
            }
            prop_assert_eq!(table.len() + table.lost() as usize, model.len());
        }
        sound(&table);
        for n in keys {
            let found = table.find(&key(n)).map(|place| table.slot(place).flow());
            prop_assert_eq!(found, model.get(&n).copied());
        }
    }

    #[test]
    fn a_torn_slot_is_noticed_and_costs_that_flow_alone(
        seed: u64, tears in prop::collection::vec((1u32..100, 0usize..8), 1..8), word: u64,
    ) {
        let mut left = table(100, seed);
        for n in 1..100 {
            left.insert(&flow(n)).unwrap();
        }
        let mut torn = alloc::collections::BTreeSet::new();
        for (n, at) in tears {
            let place = left.find(&key(n));
            let Some(place) = place else { continue };
            let mut words = *left.slot(place).words();
            // Word 6 may be anything: it is never half written. An empty slot is not torn.
            if at != 6 && words[at] != word && !(at == 7 && word == 0) {
                words[at] = word;
                left.slots[place] = Slot::from_words(words);
                torn.insert(n);
                if at < 5 {
                    break;
                }
            }
        }
        let (table, attached) = Table::attach(left.slots.clone(), Rng::from_u64(1), Tick(u32::MAX)).unwrap();
        prop_assert_eq!(attached, Attached { flows: 99 - torn.len(), discarded: torn.len() });
        for n in 1..100 {
            let found = table.find(&key(n)).map(|place| table.slot(place).flow());
            prop_assert_eq!(found, (!torn.contains(&n)).then(|| flow(n)));
        }
        sound(&table);
    }

    #[test]
    fn any_memory_can_be_attached_to(
        seed: u64, wrecks in prop::collection::vec((0usize..385, any::<[u64; 8]>()), 0..60),
    ) {
        let mut left = table(100, seed);
        for n in 0..100 {
            left.insert(&flow(n)).unwrap();
        }
        for (place, words) in wrecks {
            left.slots[place] = Slot::from_words(words);
        }
        let (table, attached) = Table::attach(left.slots.clone(), Rng::from_u64(1), Tick(5)).unwrap();
        prop_assert_eq!(table.len(), attached.flows);
        prop_assert!(table.len() <= 100);
        sound(&table);
    }
}

use std::collections::BTreeSet;
use std::net::SocketAddr;

use gimlet_machine::{FourTuple, Instant};

use super::*;
use crate::toy::Toy;
use crate::{Counts, Fault, HostConfig, HostId, TraceHash, World};

#[test]
fn a_thousand_draws_meet_every_feature_with_and_without() {
    let mut rng = Rng::from_u64(1);
    let mut seen = BTreeSet::new();
    for _ in 0..1_000 {
        let link = LinkConfig::draw(&mut rng);
        seen.insert(format!(
            "link {:?}",
            (
                link.jitter.is_zero(),
                link.loss == Chance::NEVER,
                link.duplicate == Chance::NEVER,
                link.reorder == Chance::NEVER,
                link.rate.is_none(),
                link.mtu == 1_500,
            )
        ));
        assert!((1_280..=1_500).contains(&link.mtu) && link.loss <= Chance::percent(10), "{link:?}");
        let nat = NatConfig::draw(&mut rng, [203, 0, 113, 1]);
        let ports = std::mem::discriminant(&nat.ports);
        seen.insert(format!("nat {:?}", (nat.mapping, nat.filtering, ports)));
        seen.insert(format!(
            "nat {:?}",
            (nat.hairpin, nat.early_inbound, nat.when_full, nat.expiry.inbound_refresh)
        ));
    }
    let links = seen.iter().filter(|seen| seen.starts_with("link")).count();
    // 2^6 mixtures of line features; 3 × 3 × 4 and 2^4 mixtures of NAT features.
    assert_eq!((links, seen.len() - links), (64, 36 + 16));
}

/// A network from the dice with traffic and faults from the dice.
fn run(seed: u64) -> (TraceHash, Counts) {
    let mut world = World::new(seed);
    let mut dice = world.rng("swarm", 0);
    let mut nats = Vec::new();
    for nth in 0..dice.below(5) as u8 {
        let config = NatConfig::draw(&mut dice, [203, 0, 113, nth]);
        let link = LinkConfig::draw(&mut dice);
        nats.push(if nth > 0 && dice.below(3) == 0 {
            world.add_nat_behind(nats[dice.below(u64::from(nth)) as usize], config, link)
        } else {
            world.add_nat(config, link)
        });
    }
    let hosts: Vec<(HostId, SocketAddr)> = (0..2 + dice.below(8) as u8)
        .map(|nth| {
            let socket = SocketAddr::from(([10, 0, 0, nth], 5_000));
            let nat = nats.get(dice.below(6) as usize).copied();
            let config = HostConfig::new(format!("host-{nth}"), [socket]).behind(nat);
            let config = config.link(LinkConfig::draw(&mut dice));
            (world.add_host_with(config, |_| Toy::default()), socket)
        })
        .collect();
    let mut pick = |world: &World<Toy>| {
        let (host, socket) = hosts[dice.below(hosts.len() as u64) as usize];
        (host, socket, Instant::from_nanos(world.now().as_nanos() + dice.below(5_000_000_000)))
    };
    for round in 0..20 {
        let ((host, local, at), (other, remote, _)) = (pick(&world), pick(&world));
        let fault = match round % 5 {
            0 => Fault::Restart(host),
            1 => Fault::Partition(vec![host], vec![other]),
            2 => nats.first().map_or(Fault::Heal, |nat| Fault::RebootNat(*nat)),
            3 => Fault::Relink(host, LinkConfig::draw(&mut world.rng("relink", round))),
            _ => Fault::Heal,
        };
        world.schedule(at, fault);
        let every = Duration::from_millis(10 + round);
        world.touch(host, |toy, now| toy.ping(now, FourTuple::new(local, remote), every, 50));
        world.run_for(Duration::from_millis(500));
    }
    assert!(world.run_to_quiet(Instant::from_millis(600_000)), "seed {seed} never ends");
    (world.trace_hash(), *world.counts())
}

/// Two more laws of the world: nothing vanishes, and everything repeats.
#[test]
fn in_any_network_every_packet_is_accounted_for_and_every_run_repeats() {
    let mut hashes = BTreeSet::new();
    for seed in 0..60 {
        let (hash, counts) = run(seed);
        assert_eq!((hash, counts), run(seed), "seed {seed}");
        hashes.insert(hash);
        let came = counts.sent + counts.duplicated;
        let dropped = counts.lost + counts.queue_full + counts.too_big + counts.nat_refused;
        let stranded =
            counts.no_route + counts.no_socket + counts.not_our_address + counts.cut + counts.host_down;
        assert_eq!(came, counts.delivered + dropped + stranded, "seed {seed}: {counts:?}");
        assert!(counts.delivered > 0, "seed {seed}: {counts:?}");
    }
    assert_eq!(hashes.len(), 60);
}

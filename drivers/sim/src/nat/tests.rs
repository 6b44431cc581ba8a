use std::time::Duration;

use gimlet_machine::{Counters as _, Rng};
use gimlet_testkit::Checked;
use proptest::prelude::*;

use super::*;

const MAPPINGS: [Mapping; 3] =
    [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];

const OUTSIDE: [u8; 4] = [203, 0, 113, 1];
const TWO_MINUTES: Duration = Duration::from_secs(120);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn inside() -> SocketAddr {
    at("192.168.0.2:5000")
}

fn server() -> SocketAddr {
    at("198.51.100.1:3478")
}

fn nat(config: NatConfig) -> Nat {
    Nat::new(Rng::from_u64(5), config)
}

fn kind(kind: NatKind) -> NatConfig {
    NatConfig::of_kind(kind, OUTSIDE).unwrap()
}

/// A packet goes out; its outside endpoint.
fn out(
    nat: &mut Nat,
    now: Instant,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<SocketAddr, Refusal> {
    let leg = nat.translate(now, Leg { side: Side::Inside, source, destination })?;
    assert_eq!((leg.side, leg.destination), (Side::Outside, destination));
    Ok(leg.source)
}

/// A packet comes in; the inside endpoint it is for.
fn into(
    nat: &mut Nat,
    now: Instant,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<SocketAddr, Refusal> {
    let leg = nat.translate(now, Leg { side: Side::Outside, source, destination })?;
    assert_eq!((leg.side, leg.source), (Side::Inside, source));
    Ok(leg.destination)
}

/// RFC 4787 §4.1 and §5, all nine combinations: the tests of RFC 5780 §4.3 and §4.4, asked directly.
#[test]
fn every_mapping_and_filtering_behaves_as_rfc_4787_says() {
    let other_port = SocketAddr::new(server().ip(), 3479);
    let other_address = at("198.51.100.2:3478");
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let mut nat = nat(NatConfig::new(OUTSIDE, mapping, filtering));
            let now = Instant::ZERO;
            let first = out(&mut nat, now, inside(), server()).unwrap();
            assert_eq!(out(&mut nat, now, inside(), server()), Ok(first), "a flow keeps its mapping");

            let lets_in = [server(), other_port, other_address]
                .map(|remote| into(&mut nat, now, remote, first) == Ok(inside()));
            let expected = match filtering {
                Filtering::EndpointIndependent => [true, true, true],
                Filtering::AddressDependent => [true, true, false],
                Filtering::AddressAndPortDependent => [true, false, false],
            };
            assert_eq!(lets_in, expected, "{mapping:?} {filtering:?}");

            let is_shared =
                [other_port, other_address].map(|remote| out(&mut nat, now, inside(), remote) == Ok(first));
            let expected = match mapping {
                Mapping::EndpointIndependent => [true, true],
                Mapping::AddressDependent => [true, false],
                Mapping::AddressAndPortDependent => [false, false],
            };
            assert_eq!(is_shared, expected, "{mapping:?} {filtering:?}");
        }
    }
}

#[test]
fn the_old_names_stand_for_the_mixtures_that_rfc_3489_described() {
    let of = |kind| NatConfig::of_kind(kind, OUTSIDE).map(|nat| (nat.mapping, nat.filtering));
    let independent = Mapping::EndpointIndependent;
    assert_eq!(of(NatKind::None), None);
    assert_eq!(of(NatKind::FullCone), Some((independent, Filtering::EndpointIndependent)));
    assert_eq!(of(NatKind::AddressRestricted), Some((independent, Filtering::AddressDependent)));
    assert_eq!(of(NatKind::PortRestricted), Some((independent, Filtering::AddressAndPortDependent)));
    let symmetric = (Mapping::AddressAndPortDependent, Filtering::AddressAndPortDependent);
    assert_eq!(of(NatKind::Symmetric), Some(symmetric));
}

#[test]
fn a_mapping_dies_of_idleness_and_its_place_is_free_again() {
    let mut nat = nat(kind(NatKind::FullCone));
    let first = out(&mut nat, Instant::ZERO, inside(), server()).unwrap();
    let just_before = Instant::ZERO + TWO_MINUTES - Duration::from_nanos(1);
    assert_eq!(into(&mut nat, just_before, server(), first), Ok(inside()));
    let after = Instant::ZERO + TWO_MINUTES;
    assert_eq!(
        into(&mut nat, after, server(), first),
        Err(Refusal::NoMapping),
        "inbound refreshes nothing here"
    );
    let events: Vec<NatEvent> = std::iter::from_fn(|| nat.poll_event()).collect();
    let (inside, outside, remote) = (inside(), first, server());
    assert_eq!(events, [NatEvent::Mapped { inside, outside, remote }, NatEvent::Expired { inside, outside }]);
}

#[test]
fn outbound_packets_always_refresh_and_inbound_ones_if_configured() {
    for inbound_refresh in [false, true] {
        let expiry = Expiry { after: TWO_MINUTES, inbound_refresh };
        for filtering in FILTERINGS {
            let mut nat = nat(NatConfig { expiry, ..NatConfig::new(OUTSIDE, MAPPINGS[0], filtering) });
            let outside = out(&mut nat, Instant::ZERO, inside(), server()).unwrap();
            let minute = |nth: u64| Instant::ZERO + Duration::from_secs(60 * nth);
            assert_eq!(out(&mut nat, minute(1), inside(), server()), Ok(outside));
            assert_eq!(into(&mut nat, minute(2), server(), outside), Ok(inside()));
            // Three minutes after the last packet out, one and a half after the last one in.
            let alive = into(&mut nat, minute(3) + Duration::from_secs(30), server(), outside).is_ok();
            assert_eq!(alive, inbound_refresh, "{filtering:?}");
        }
    }
}

#[test]
fn a_filter_entry_expires_on_its_own_while_the_mapping_lives() {
    let mut nat = nat(kind(NatKind::PortRestricted));
    let (peer, minute) = (at("198.51.100.7:7"), |nth: u64| Instant::ZERO + Duration::from_secs(60 * nth));
    let outside = out(&mut nat, minute(0), inside(), peer).unwrap();
    assert_eq!(out(&mut nat, minute(1), inside(), server()), Ok(outside));
    assert_eq!(into(&mut nat, minute(2), peer, outside), Err(Refusal::Filtered));
    assert_eq!(into(&mut nat, minute(2), server(), outside), Ok(inside()));
}

#[test]
fn hairpinned_packets_come_from_the_outside_endpoint_and_pass_the_filter() {
    let other = at("192.168.0.3:6000");
    let mut nat = nat(NatConfig { hairpin: true, ..kind(NatKind::PortRestricted) });
    let now = Instant::ZERO;
    let [one, two] = [inside(), other].map(|source| out(&mut nat, now, source, server()).unwrap());
    let hairpin = |nat: &mut Nat, source, destination| {
        nat.translate(now, Leg { side: Side::Inside, source, destination })
    };
    assert_eq!(hairpin(&mut nat, inside(), two), Err(Refusal::Filtered), "the other has not sent yet");
    let back = Leg { side: Side::Inside, source: two, destination: inside() };
    assert_eq!(hairpin(&mut nat, other, one), Ok(back));
    let there = Leg { side: Side::Inside, source: one, destination: other };
    assert_eq!(hairpin(&mut nat, inside(), two), Ok(there));
}

#[test]
fn without_hairpinning_a_nat_does_not_turn_packets_round() {
    let mut nat = nat(kind(NatKind::FullCone));
    let outside = out(&mut nat, Instant::ZERO, inside(), server()).unwrap();
    assert_eq!(out(&mut nat, Instant::ZERO, at("192.168.0.3:6000"), outside), Err(Refusal::NoHairpin));
    assert_eq!(nat.mappings().count(), 1, "and makes no mapping for them");
}

fn clashing() -> Nat {
    nat(NatConfig { early_inbound: EarlyInbound::TakesTuple, ..kind(NatKind::PortRestricted) })
}

/// What Linux does with plain `masquerade` and no rule that drops what comes in uninvited.
#[test]
fn an_early_packet_takes_the_flow_and_moves_the_mapping_for_its_sender_alone() {
    let mut nat = clashing();
    let (peer, now) = (at("198.51.100.7:7"), Instant::ZERO);
    let usual = out(&mut nat, now, inside(), server()).unwrap();
    assert_eq!(usual.port(), inside().port(), "ports are preserved");
    assert_eq!(into(&mut nat, now, peer, usual), Err(Refusal::Filtered));

    let moved = out(&mut nat, now, inside(), peer).unwrap();
    assert_ne!(moved, usual);
    assert_eq!(
        into(&mut nat, now, peer, usual),
        Err(Refusal::Filtered),
        "the peer still knows the usual one"
    );
    assert_eq!(into(&mut nat, now, peer, moved), Ok(inside()));
    assert_eq!(out(&mut nat, now, inside(), peer), Ok(moved), "the flow stays where it is");
    assert_eq!(out(&mut nat, now, inside(), server()), Ok(usual), "and others stay where they were");
    assert_eq!(out(&mut nat, now, inside(), at("198.51.100.8:8")), Ok(usual));
    assert_eq!(nat.counters().moved, 1);
}

#[test]
fn an_early_packet_clashes_even_before_the_first_packet_out() {
    let mut nat = clashing();
    let (peer, now) = (at("198.51.100.7:7"), Instant::ZERO);
    let usual = SocketAddr::new(OUTSIDE.into(), inside().port());
    assert_eq!(into(&mut nat, now, peer, usual), Err(Refusal::NoMapping));
    assert_ne!(out(&mut nat, now, inside(), peer), Ok(usual));
    assert_eq!(out(&mut nat, now, inside(), server()), Ok(usual), "to others the port is free");
}

#[test]
fn an_early_packet_gives_the_flow_back_after_half_a_minute() {
    let over = Instant::ZERO + EARLY_INBOUND_LIFETIME;
    for (now, is_moved) in [(over - Duration::from_nanos(1), true), (over, false)] {
        let mut nat = clashing();
        let peer = at("198.51.100.7:7");
        let usual = out(&mut nat, Instant::ZERO, inside(), server()).unwrap();
        assert!(into(&mut nat, Instant::ZERO, peer, usual).is_err());
        assert_eq!(out(&mut nat, now, inside(), peer) != Ok(usual), is_moved);
    }
}

#[test]
fn a_nat_that_ignores_early_packets_keeps_its_mapping() {
    let mut nat = nat(kind(NatKind::PortRestricted));
    let peer = at("198.51.100.7:7");
    let usual = out(&mut nat, Instant::ZERO, inside(), server()).unwrap();
    assert!(into(&mut nat, Instant::ZERO, peer, usual).is_err());
    assert_eq!(out(&mut nat, Instant::ZERO, inside(), peer), Ok(usual));
}

#[test]
fn early_packets_are_remembered_up_to_a_limit() {
    let mut nat = clashing();
    let usual = out(&mut nat, Instant::ZERO, inside(), server()).unwrap();
    let peer = |nth: u32| SocketAddr::from(((0xc633_6400 + nth).to_be_bytes(), 7));
    for nth in 2..EARLY_MAX as u32 + 12 {
        assert!(into(&mut nat, Instant::ZERO, peer(nth), usual).is_err());
    }
    assert_eq!((nat.early.len(), nat.counters().early_ignored), (EARLY_MAX, 10));
    let later = Instant::ZERO + EARLY_INBOUND_LIFETIME;
    assert!(into(&mut nat, later, peer(2), usual).is_err());
    assert_eq!(nat.early.len(), 1, "what has expired makes room");
}

#[test]
fn a_full_table_refuses_or_evicts_as_configured() {
    let config = NatConfig { mappings_max: 3, ..kind(NatKind::FullCone) };
    let host = |nth: u64| SocketAddr::from(([192, 168, 0, nth as u8], 5_000));
    let fill = |nat: &mut Nat| {
        for nth in 0..3 {
            out(nat, Instant::from_millis(nth), host(nth), server()).unwrap();
        }
        // The first to come is not the idlest any more.
        out(nat, Instant::from_millis(10), host(0), server()).unwrap();
        out(nat, Instant::from_millis(20), host(3), server())
    };
    let mut refusing = nat(config.clone());
    assert_eq!(fill(&mut refusing), Err(Refusal::TableFull));
    assert_eq!(refusing.mappings().count(), 3);

    let mut evicting = nat(NatConfig { when_full: TablePolicy::EvictIdlest, ..config });
    assert!(fill(&mut evicting).is_ok());
    let mut left: Vec<_> = evicting.mappings().map(|(inside, _)| inside).collect();
    left.sort_unstable();
    assert_eq!((left, evicting.counters().evicted), (vec![host(0), host(2), host(3)], 1));
}

#[test]
fn a_sender_to_everybody_keeps_a_bounded_filter() {
    let mut nat = nat(kind(NatKind::PortRestricted));
    let peer = |nth: u64| SocketAddr::from(([198, 51, 100, (nth >> 12) as u8], nth as u16 & 0xfff));
    let count = table::PERMISSIONS_MAX as u64 + 1;
    let mut outside = inside();
    for nth in 0..count {
        outside = out(&mut nat, Instant::from_nanos(nth), inside(), peer(nth)).unwrap();
    }
    let now = Instant::from_nanos(count);
    assert_eq!(into(&mut nat, now, peer(0), outside), Err(Refusal::Filtered), "the idlest gave way");
    assert_eq!(into(&mut nat, now, peer(1), outside), Ok(inside()));
    assert_eq!(into(&mut nat, now, peer(count - 1), outside), Ok(inside()));
}

#[test]
fn a_reboot_forgets_everything() {
    let mut nat = nat(kind(NatKind::FullCone));
    let outside = out(&mut nat, Instant::ZERO, inside(), server()).unwrap();
    nat.reboot(Instant::ZERO);
    assert_eq!(into(&mut nat, Instant::ZERO, server(), outside), Err(Refusal::NoMapping));
    assert_eq!(nat.poll_timeout(), None);
}

#[test]
fn no_port_is_a_refusal() {
    let ports = PortAllocation::Block { first: 60_000, size: 1 };
    let mut nat = nat(NatConfig { ports, ..kind(NatKind::Symmetric) });
    assert!(out(&mut nat, Instant::ZERO, inside(), server()).is_ok());
    assert_eq!(out(&mut nat, Instant::ZERO, inside(), at("198.51.100.2:1")), Err(Refusal::NoPort));
}

#[test]
fn as_a_machine_it_passes_bytes_untouched_and_counts_what_it_does_not() {
    let mut nat = nat(kind(NatKind::PortRestricted));
    let mut bytes = *b"payload";
    let path = Leg { side: Side::Inside, source: inside(), destination: server() };
    let Verdict::Pass { path: leg, range } = nat.handle_input(Instant::ZERO, Input::new(path, &mut bytes))
    else {
        panic!("an outbound packet passes");
    };
    assert_eq!((leg.side, &bytes[range]), (Side::Outside, &b"payload"[..]));
    let stranger = Leg { side: Side::Outside, source: at("192.0.2.1:1"), destination: leg.source };
    assert_eq!(nat.handle_input(Instant::ZERO, Input::new(stranger, &mut bytes)), Verdict::Consumed);
    assert_eq!((nat.counters().filtered, nat.counters().total()), (1, 1));
    let v6 = Leg { side: Side::Inside, source: at("[fd00::1]:1"), destination: at("[2001:db8::1]:1") };
    assert_eq!(nat.handle_input(Instant::ZERO, Input::new(v6, &mut bytes)), Verdict::NotMine);
    assert_eq!(bytes, *b"payload");
}

#[test]
fn its_deadline_advances_past_every_timeout() {
    let mut nat = nat(kind(NatKind::FullCone));
    for nth in 0..50 {
        let now = Instant::from_millis(nth * 7_000);
        out(&mut nat, now, SocketAddr::new(inside().ip(), 5_000 + (nth % 10) as u16), server()).unwrap();
    }
    let mut expired = 0;
    while let Some(deadline) = nat.poll_timeout() {
        nat.handle_timeout(deadline.at);
        assert!(nat.poll_timeout().is_none_or(|next| next.at > deadline.at));
        expired += std::iter::from_fn(|| nat.poll_event())
            .filter(|event| matches!(event, NatEvent::Expired { .. }))
            .count();
    }
    assert_eq!((nat.mappings().count(), expired), (0, 10));
}

proptest! {
    /// Any traffic at any pace, both sides, every behaviour, tiny limits: the laws hold, whoever is
    /// let in has a mapping, and no two inside endpoints share an outside one.
    #[test]
    fn any_traffic_keeps_the_laws_and_the_table_consistent(
        behaviour in (0..3usize, 0..3usize, 0..4u8, any::<[bool; 4]>()),
        packets in prop::collection::vec((any::<bool>(), 0..4u8, 0..4u8, 0..40_000u64), 1..200),
    ) {
        let (mapping, filtering, ports, [hairpin, inbound_refresh, takes_tuple, evict]) = behaviour;
        let ports = match ports {
            0 => PortAllocation::Preserving,
            1 => PortAllocation::Sequential { step: 1 },
            2 => PortAllocation::Random,
            _ => PortAllocation::Block { first: 2_000, size: 4 },
        };
        let mut nat = Checked::new(nat(NatConfig {
            ports,
            hairpin,
            expiry: Expiry { after: TWO_MINUTES, inbound_refresh },
            early_inbound: if takes_tuple { EarlyInbound::TakesTuple } else { EarlyInbound::Ignored },
            mappings_max: 6,
            when_full: if evict { TablePolicy::EvictIdlest } else { TablePolicy::RefuseNew },
            ..NatConfig::new(OUTSIDE, MAPPINGS[mapping], FILTERINGS[filtering])
        }));
        let (mut now, mut storage) = (Instant::ZERO, Vec::new());
        let mut outsides = vec![SocketAddr::from((OUTSIDE, 5_000))];
        for (is_outbound, host, peer, wait) in packets {
            now += Duration::from_millis(wait);
            let inside = SocketAddr::from(([192, 168, 0, 2 + host / 2], 5_000 + u16::from(host % 2)));
            let remote = SocketAddr::from(([198, 51, 100, 1 + peer / 2], 7 + u16::from(peer % 2)));
            let known = outsides[usize::from(host + peer) % outsides.len()];
            let path = if !is_outbound {
                Leg { side: Side::Outside, source: remote, destination: known }
            } else if host == peer {
                Leg { side: Side::Inside, source: inside, destination: known }
            } else {
                Leg { side: Side::Inside, source: inside, destination: remote }
            };
            let verdict = nat.handle_input(now, Input::new(path, &mut [1, 2, 3]));
            if let Verdict::Pass { path: leg, range } = verdict {
                prop_assert_eq!(range, 0..3);
                match leg.side {
                    Side::Outside => outsides.push(leg.source),
                    Side::Inside => {
                        let has_mapping = nat.inner().mappings().any(|(inside, _)| inside == leg.destination);
                        prop_assert!(has_mapping);
                    }
                }
            }
            nat.handle_timeout(now);
            while nat.poll_event().is_some() {}
            prop_assert_eq!(nat.poll_transmit(now, &mut Buf::new(&mut storage)), None);
            prop_assert!(nat.poll_timeout().is_none_or(|deadline| deadline.at > now));
            let mut mappings: Vec<_> = nat.inner().mappings().map(|(_, outside)| outside).collect();
            prop_assert!(mappings.len() <= 6);
            mappings.sort_unstable();
            prop_assert!(mappings.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}

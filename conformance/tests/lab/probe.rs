//! Is the lab what it says? Asked with `lab-probe`, before anything of ours runs in it.

use std::net::SocketAddr;

use gimlet_conformance::lab::{BLOCK, CARRIER_PORTS, Family, Host, Lab, Nat};
use serde_json::Value;

use crate::{SOON, lab, lab_over};

const PROBE: &str = env!("CARGO_BIN_EXE_lab-probe");

fn answer(host: &Host, args: &[&str]) -> Value {
    let mut process = host.start(args[0], PROBE, args);
    process.find(SOON, "an answer", |line| serde_json::from_str(line).ok())
}

/// What a prober behind a NAT finds out about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Behaviour {
    /// Four destinations see one mapping.
    maps_once: bool,
    ports: Ports,
    /// Who may answer a socket that has spoken to one address and port: another port, another address.
    hears_other_port: bool,
    hears_other_address: bool,
}

/// Where the ports of mappings come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ports {
    Preserved,
    Block,
    Carrier,
    Any,
}

impl Ports {
    fn of(mapped: &[SocketAddr], local: SocketAddr) -> Self {
        let all = |wanted: &dyn Fn(u16) -> bool| mapped.iter().all(|address| wanted(address.port()));
        if all(&|port| port == local.port()) {
            Ports::Preserved
        } else if all(&|port| BLOCK.contains(&port)) {
            Ports::Block
        } else if all(&|port| CARRIER_PORTS.contains(&port)) {
            Ports::Carrier
        } else {
            Ports::Any
        }
    }
}

/// What its name promises of each kind.
fn promised(nat: Nat) -> Behaviour {
    let (maps_once, ports, hears_other_port, hears_other_address) = match nat {
        Nat::None | Nat::FullCone => (true, Ports::Preserved, true, true),
        Nat::AddressRestricted => (true, Ports::Preserved, true, false),
        Nat::Firewall | Nat::PortRestricted | Nat::PortRestrictedOpen => {
            (true, Ports::Preserved, false, false)
        }
        Nat::Symmetric => (false, Ports::Any, false, false),
        Nat::SymmetricBlock => (false, Ports::Block, false, false),
        Nat::Carrier => (true, Ports::Carrier, false, false),
    };
    Behaviour { maps_once, ports, hears_other_port, hears_other_address }
}

/// Asks from behind the NAT of host `a`. Both destinations' addresses and ports differ from each other
/// (RFC 5780 §4.3, §4.4).
fn behaviour(lab: &Lab) -> Behaviour {
    let ips = [lab.public.address, lab.public_other];
    let reflectors: Vec<String> =
        ips.iter().flat_map(|ip| [3478, 3479].map(|port| SocketAddr::new(*ip, port).to_string())).collect();
    let mut args = vec!["reflect"];
    args.extend(reflectors.iter().map(String::as_str));
    let mut reflector = lab.public.start("reflector", PROBE, &args);
    reflector.find(SOON, "ready", |line| (line == "ready").then_some(()));
    let local = lab.a.socket(4000);
    let text = local.to_string();
    args[0] = "classify";
    args.insert(1, &text);
    let found = answer(&lab.a, &args);
    let mapped: Option<Vec<SocketAddr>> = found["mapped"]
        .as_array()
        .and_then(|all| all.iter().map(|address| address.as_str()?.parse().ok()).collect());
    let mapped = mapped.unwrap_or_else(|| panic!("four mappings: {found}"));
    assert!(mapped.len() == 4 && mapped.iter().all(|address| address.ip() == lab.a.seen_as), "{found}");
    let heard = |key: &str| found[key].as_bool().unwrap_or_else(|| panic!("{key}: {found}"));
    Behaviour {
        maps_once: mapped.iter().all(|address| *address == mapped[0]),
        ports: Ports::of(&mapped, local),
        hears_other_port: heard("heard_other_port"),
        hears_other_address: heard("heard_other_address"),
    }
}

/// Builds every kind and asks it what it does.
fn every_kind_does_what_its_name_says(family: Family) {
    let mut kinds = Vec::new();
    for nat in Nat::ALL {
        let Some(lab) = lab_over(family, nat, Nat::None) else { return };
        let found = behaviour(&lab);
        assert_eq!(found, promised(nat), "{nat} over {family}");
        assert_eq!(lab.a.address == lab.a.seen_as, matches!(nat, Nat::None | Nat::Firewall), "{nat}");
        kinds.push(found);
    }
    // The canary: a prober that cannot tell NATs apart would find one behaviour. Of the nine, three are
    // alike to it, and no NAT looks like a full cone.
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 6, "{kinds:?}");
}

#[test]
fn over_ipv4_every_nat_does_what_its_name_says() {
    every_kind_does_what_its_name_says(Family::V4);
}

#[test]
fn over_ipv6_every_nat_does_what_its_name_says() {
    every_kind_does_what_its_name_says(Family::V6);
}

/// The oracle reasons about what the kinds are said to be, so that has to be what they are.
#[test]
fn the_oracle_is_told_what_the_probe_finds() {
    use gimlet_sim::{Filtering, Mapping};
    for nat in Nat::ALL {
        let (edge, promised) = (nat.edge(), promised(nat));
        assert_eq!(edge.mapping == Mapping::EndpointIndependent, promised.maps_once, "{nat}");
        assert_eq!(edge.filtering < Filtering::AddressAndPortDependent, promised.hears_other_port, "{nat}");
        assert_eq!(edge.filtering == Filtering::EndpointIndependent, promised.hears_other_address, "{nat}");
    }
}

/// Two levels, not one: what the home's box makes of a socket is seen between the boxes, what the carrier's
/// makes of that is seen on the internet.
#[test]
fn behind_a_carrier_there_are_two_boxes_and_both_translate() {
    for family in [Family::V4, Family::V6] {
        let Some(lab) = lab_over(family, Nat::Carrier, Nat::PortRestricted) else { return };
        assert_eq!((lab.a.boxes.len(), lab.b.boxes.len()), (2, 1));
        let (home, carrier) = (&lab.a.boxes[0], &lab.a.boxes[1]);
        let between = carrier.socket(3478).to_string();
        let mut reflector = carrier.start("reflector", PROBE, &["reflect", &between]);
        reflector.find(SOON, "ready", |line| (line == "ready").then_some(()));
        let local = lab.a.socket(4000).to_string();
        let args = ["classify", &local, &between, &between, &between, &between];
        let found = answer(&lab.a, &args);
        assert_eq!(found["mapped"][0], home.seen_socket(4000).to_string(), "{found}");
        assert!(home.seen_as != lab.a.seen_as && home.seen_as != lab.a.address);
    }
}

/// Reads the line in which a puncher says whom it has heard, if anyone.
fn heard(line: &str) -> Option<Value> {
    serde_json::from_str::<Value>(line).ok()?.get("heard").cloned()
}

/// Both hosts send to where the other would be seen if its NAT kept ports.
fn punched(nat_a: Nat, nat_b: Nat) -> Option<(Value, Value)> {
    let lab = lab(nat_a, nat_b)?;
    let (local_a, local_b) = (lab.a.socket(4000).to_string(), lab.b.socket(4000).to_string());
    let (seen_a, seen_b) = (lab.a.seen_socket(4000).to_string(), lab.b.seen_socket(4000).to_string());
    let mut a = lab.a.start("a", PROBE, &["punch", &local_a, &seen_b]);
    let mut b = lab.b.start("b", PROBE, &["punch", &local_b, &seen_a]);
    Some((a.find(SOON, "an answer", heard), b.find(SOON, "an answer", heard)))
}

#[test]
fn two_hosts_behind_port_restricted_nats_hear_each_other_when_both_send() {
    let Some((a, b)) = punched(Nat::PortRestricted, Nat::PortRestricted) else { return };
    assert_eq!((a.as_str(), b.as_str()), (Some("203.0.113.2:4000"), Some("192.0.2.2:4000")));
}

/// The canary of the lab: a hole that cannot be bored must not be bored.
#[test]
fn two_hosts_behind_symmetric_nats_do_not_hear_each_other() {
    let Some((a, b)) = punched(Nat::Symmetric, Nat::Symmetric) else { return };
    assert_eq!((a, b), (Value::Null, Value::Null));
}

#[test]
fn a_lab_leaves_nothing_behind_even_when_a_test_panics() {
    let Some(lab) = lab(Nat::PortRestricted, Nat::None) else { return };
    let name = lab.a.command("true").get_args().nth(2).expect("a name").to_string_lossy().into_owned();
    let exists = || std::path::Path::new("/var/run/netns").join(&name).exists();
    assert!(exists());
    let process = lab.a.start("sleeper", "sleep", &["60"]);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = (lab, process);
        panic!("on purpose");
    }));
    assert!(panicked.is_err() && !exists());
}

/// Why [`Nat::PortRestricted`] has a firewall: without one, a packet from the peer that comes first takes
/// the port, and the host's own packets leave from another.
#[test]
fn an_early_packet_takes_the_port_on_a_nat_without_a_firewall() {
    for (nat, keeps_port) in [(Nat::PortRestricted, true), (Nat::PortRestrictedOpen, false)] {
        let Some(lab) = lab(nat, Nat::None) else { return };
        let (local_a, seen_a) = (lab.a.socket(4000).to_string(), lab.a.seen_socket(4000).to_string());
        let local_b = lab.b.socket(4000).to_string();
        let mut b = lab.b.start("b", PROBE, &["punch", &local_b, &seen_a]);
        b.find(SOON, "that it has sent", |line| line.contains("sent").then_some(()));
        let _a = lab.a.start("a", PROBE, &["punch", &local_a, &local_b]);
        let heard = b.find(SOON, "an answer", heard);
        assert_eq!(heard == seen_a, keeps_port, "{nat:?}: heard {heard}");
    }
}

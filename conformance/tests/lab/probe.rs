//! Is the lab what it says? Asked with `lab-probe`, before anything of ours runs in it.

use gimlet_conformance::lab::{Host, Lab, Nat};
use serde_json::Value;

use crate::{SOON, lab};

const PROBE: &str = env!("CARGO_BIN_EXE_lab-probe");

fn answer(host: &Host, args: &[&str]) -> Value {
    let mut process = host.start(args[0], PROBE, args);
    process.find(SOON, "an answer", |line| serde_json::from_str(line).ok())
}

/// What a prober behind `nat` finds out: its answer, and whether all four mappings were the same.
fn classified(nat: Nat) -> Option<(Lab, Value, bool)> {
    let lab = lab(nat, Nat::None)?;
    let ips = [lab.public.address, lab.public_other];
    let reflectors: Vec<String> =
        ips.iter().flat_map(|ip| [format!("{ip}:3478"), format!("{ip}:3479")]).collect();
    let mut args = vec!["reflect"];
    args.extend(reflectors.iter().map(String::as_str));
    let mut reflector = lab.public.start("reflector", PROBE, &args);
    reflector.find(SOON, "ready", |line| (line == "ready").then_some(()));
    let local = lab.a.socket(4000).to_string();
    args[0] = "classify";
    args.insert(1, &local);
    let found = answer(&lab.a, &args);
    let mapped = found["mapped"].as_array().expect("four answers").clone();
    let same = mapped.iter().all(|address| *address == mapped[0]);
    Some((lab, found, same))
}

#[test]
fn without_a_nat_a_host_is_seen_at_its_own_address() {
    let Some((lab, found, same)) = classified(Nat::None) else { return };
    assert!(same, "{found}");
    assert_eq!(found["mapped"][0], lab.a.socket(4000).to_string());
    assert_eq!(
        (&found["heard_other_port"], &found["heard_other_address"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
}

#[test]
fn a_full_cone_maps_once_and_lets_everyone_in() {
    let Some((lab, found, same)) = classified(Nat::FullCone) else { return };
    assert!(same, "{found}");
    assert_eq!(found["mapped"][0], format!("{}:4000", lab.a.seen_as));
    assert_eq!(
        (&found["heard_other_port"], &found["heard_other_address"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
}

#[test]
fn a_port_restricted_nat_maps_once_and_lets_in_whom_it_knows() {
    let Some((lab, found, same)) = classified(Nat::PortRestricted) else { return };
    assert!(same, "{found}");
    assert_eq!(found["mapped"][0], format!("{}:4000", lab.a.seen_as));
    assert_eq!(
        (&found["heard_other_port"], &found["heard_other_address"]),
        (&Value::Bool(false), &Value::Bool(false))
    );
}

#[test]
fn a_symmetric_nat_maps_every_destination_differently() {
    let Some((lab, found, same)) = classified(Nat::Symmetric) else { return };
    assert!(!same, "{found}");
    assert!(found["mapped"][0].as_str().is_some_and(|text| text.starts_with(&lab.a.seen_as.to_string())));
    assert_eq!(
        (&found["heard_other_port"], &found["heard_other_address"]),
        (&Value::Bool(false), &Value::Bool(false))
    );
}

/// Reads the line in which a puncher says whom it has heard, if anyone.
fn heard(line: &str) -> Option<Value> {
    serde_json::from_str::<Value>(line).ok()?.get("heard").cloned()
}

/// Both hosts send to where the other would be seen if its NAT kept ports.
fn punched(nat_a: Nat, nat_b: Nat) -> Option<(Value, Value)> {
    let lab = lab(nat_a, nat_b)?;
    let (local_a, local_b) = (lab.a.socket(4000).to_string(), lab.b.socket(4000).to_string());
    let (seen_a, seen_b) = (format!("{}:4000", lab.a.seen_as), format!("{}:4000", lab.b.seen_as));
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
        let (local_a, seen_a) = (lab.a.socket(4000).to_string(), format!("{}:4000", lab.a.seen_as));
        let local_b = lab.b.socket(4000).to_string();
        let mut b = lab.b.start("b", PROBE, &["punch", &local_b, &seen_a]);
        b.find(SOON, "that it has sent", |line| line.contains("sent").then_some(()));
        let _a = lab.a.start("a", PROBE, &["punch", &local_a, &local_b]);
        let heard = b.find(SOON, "an answer", heard);
        assert_eq!(heard == seen_a, keeps_port, "{nat:?}: heard {heard}");
    }
}

//! Does our ICE agent agree with somebody else's? `gimlet ice-peer` meets aioice 0.13.0 in network
//! namespaces: both roles, both conflicts of roles, NATs on both sides, ICE-lite, relays, datagrams both ways.
//!
//! Needs what the lab needs, coturn, and Python with its `venv` and `pip`: aioice is installed from the package
//! index into the target folder, once. Without these every test says so and passes, unless `GIMLET_LAB=1`
//! says that they must be there.

mod agents;

use std::io::Write as _;
use std::time::Duration;

use agents::{Agent, Python, gimlet, introduce};
use gimlet_conformance::lab::{Host, Lab, Nat, Process};
use tempfile::TempDir;

/// How long anything may take that takes no time.
const SOON: Duration = Duration::from_secs(20);

/// The most that two agents may need. A lost role or a lost check shows as half a minute of silence.
const CONNECT: Duration = Duration::from_secs(20);

/// The lab and a Python with aioice; `None` where they are missing and need not be there.
fn scene(nat_a: Nat, nat_b: Nat) -> Option<(Lab, Python)> {
    // Nothing is installed where there is no lab to use it in.
    let python = Lab::available().map_err(|missing| missing.to_string()).and_then(|()| Python::available());
    let missing = match python {
        Ok(python) => return Some((Lab::new(nat_a, nat_b), python)),
        Err(missing) => missing,
    };
    let demanded = std::env::var_os("GIMLET_LAB").is_some_and(|value| value == "1");
    assert!(!demanded, "GIMLET_LAB=1 demands a lab with aioice: {missing}");
    // Not `eprintln!`, which the test harness would swallow.
    let _ = writeln!(std::io::stderr(), "skipped, no lab with aioice: {missing}");
    None
}

fn ours(host: &Host, args: &[&str]) -> Agent {
    let mut command = host.command(gimlet());
    command.arg("ice-peer").args(args);
    Agent::start("gimlet", command)
}

fn theirs(host: &Host, python: &Python, args: &[&str]) -> Agent {
    let mut command = host.command(python.program());
    command.arg(Python::script()).args(args);
    Agent::start("aioice", command)
}

/// Introduces the two, and asserts that they connect and that datagrams arrive, whole, both ways.
fn assert_meet(ours: &mut Agent, theirs: &mut Agent) {
    introduce(ours, theirs);
    ours.find(CONNECT, "state connected");
    theirs.find(CONNECT, "state connected");
    // What we send has to differ from STUN in its first bits (RFC 7983 §7).
    for size in [1, 100, 1_200] {
        let ping = format!("c0{}", "5a".repeat(size - 1));
        let pong = format!("80{}", "a5".repeat(size - 1));
        ours.say(&format!("send {ping}"));
        theirs.find(SOON, &format!("recv {ping}"));
        theirs.say(&format!("send {pong}"));
        ours.find(SOON, &format!("recv {pong}"));
    }
    ours.say("quit");
    assert!(ours.ends_well(SOON), "{}\n--\n{}", ours.said(), theirs.said());
    theirs.say("quit");
    assert!(theirs.ends_well(SOON), "{}\n--\n{}", ours.said(), theirs.said());
}

#[test]
fn case_67_we_control_and_aioice_follows() {
    let Some((lab, python)) = scene(Nat::None, Nat::None) else { return };
    let (mut a, mut b) = (ours(&lab.a, &["--controlling"]), theirs(&lab.b, &python, &[]));
    assert_meet(&mut a, &mut b);
    assert!(b.has_said("role controlled"), "{}", b.said());
}

#[test]
fn case_67_aioice_controls_and_we_follow() {
    let Some((lab, python)) = scene(Nat::None, Nat::None) else { return };
    let (mut a, mut b) = (ours(&lab.a, &[]), theirs(&lab.b, &python, &["--controlling"]));
    assert_meet(&mut a, &mut b);
    assert!(b.has_said("role controlling"), "{}", b.said());
}

/// The tiebreakers decide, and they are drawn: a few times, so that both outcomes have a chance.
#[test]
fn case_67_two_that_want_to_control_settle_it() {
    for _ in 0..3 {
        let Some((lab, python)) = scene(Nat::None, Nat::None) else { return };
        let (mut a, mut b) = (ours(&lab.a, &["--controlling"]), theirs(&lab.b, &python, &["--controlling"]));
        assert_meet(&mut a, &mut b);
    }
}

#[test]
fn case_67_two_that_want_to_be_controlled_settle_it() {
    for _ in 0..3 {
        let Some((lab, python)) = scene(Nat::None, Nat::None) else { return };
        let (mut a, mut b) = (ours(&lab.a, &[]), theirs(&lab.b, &python, &[]));
        assert_meet(&mut a, &mut b);
    }
}

#[test]
fn a_lite_agent_of_ours_is_found_by_aioice() {
    let Some((lab, python)) = scene(Nat::None, Nat::PortRestricted) else { return };
    let mut a = ours(&lab.a, &["--lite"]);
    let mut b = theirs(&lab.b, &python, &["--controlling", "--peer-is-lite"]);
    assert_meet(&mut a, &mut b);
}

/// Both learn their reflexive addresses from a node of ours.
#[test]
fn case_67_behind_two_nats_they_meet_with_what_a_stun_server_told_them() {
    let Some((lab, python)) = scene(Nat::PortRestricted, Nat::PortRestricted) else { return };
    let (_public, server) = stun_server(&lab);
    let mut a = ours(&lab.a, &["--controlling", "--stun", &server]);
    let mut b = theirs(&lab.b, &python, &["--stun", &server]);
    assert_meet(&mut a, &mut b);
    let reflexive = format!(" {} ", lab.a.seen_as);
    assert!(a.said().contains("typ srflx") && a.said().contains(&reflexive), "{}", a.said());
}

/// Nothing passes between the two: what our relayed candidate promises is kept by coturn.
#[test]
fn case_67_through_our_relay_they_meet_where_nothing_else_works() {
    let Some((lab, python)) = scene(Nat::Symmetric, Nat::Symmetric) else { return };
    let (_coturn, server) = relay(&lab);
    let mut a =
        ours(&lab.a, &["--controlling", "--turn", &server, "--turn-user", "alice", "--turn-pass", "secret"]);
    let mut b = theirs(&lab.b, &python, &["--stun", &server]);
    assert_meet(&mut a, &mut b);
    assert!(a.said().contains("typ relay"), "{}", a.said());
}

#[test]
fn case_67_two_relayed_candidates_and_nothing_else_will_do() {
    let Some((lab, python)) = scene(Nat::Symmetric, Nat::Symmetric) else { return };
    let (_coturn, server) = relay(&lab);
    let user = ["--turn", &server, "--turn-user", "alice", "--turn-pass", "secret", "--relay-only"];
    let mut a = ours(&lab.a, &user);
    let mut b = theirs(&lab.b, &python, &["--controlling", "--turn", &server, "--relay-only"]);
    assert_meet(&mut a, &mut b);
    for said in [a.said(), b.said()] {
        assert!(!said.contains("typ host") && !said.contains("typ srflx"), "{said}");
    }
}

#[test]
fn case_67_their_relay_over_udp_and_tcp_serves_us_too() {
    for transport in ["udp", "tcp"] {
        let Some((lab, python)) = scene(Nat::Symmetric, Nat::Symmetric) else { return };
        let (_coturn, server) = relay(&lab);
        // Their relay lets us through because we tell the address that we are seen at.
        let mut a = ours(&lab.a, &["--controlling", "--stun", &server]);
        let mut b = theirs(&lab.b, &python, &["--turn", &server, "--turn-transport", transport]);
        assert_meet(&mut a, &mut b);
        assert!(!a.said().contains("typ relay"), "{}", a.said());
    }
}

/// The canary: where no check can pass, neither says that it is connected.
#[test]
fn with_wrong_passwords_they_do_not_meet() {
    let Some((lab, python)) = scene(Nat::None, Nat::None) else { return };
    let (mut a, mut b) = (ours(&lab.a, &["--controlling"]), theirs(&lab.b, &python, &["--patience", "3"]));
    // Both: with one right password its owner's side of the way would work.
    a.alter("pwd ", "pwd wrong");
    b.alter("pwd ", "pwd wrong");
    introduce(&mut a, &mut b);
    b.find(CONNECT, "state failed");
    assert!(
        !a.has_said("state connected") && !b.has_said("state connected"),
        "{}\n--\n{}",
        a.said(),
        b.said()
    );
}

/// A public node, whose port answers STUN.
fn stun_server(lab: &Lab) -> (Process, String) {
    let address = lab.public.socket(4433).to_string();
    let mut command = lab.public.command(gimlet());
    let identity = tempfile::tempdir().expect("a folder");
    command.env("HOME", identity.path()).env("XDG_CONFIG_HOME", identity.path());
    command.args(["serve", "--json", "--listen", &address]);
    let mut serve = Process::start("serve", command);
    serve.event(SOON, "ready");
    (serve, address)
}

/// coturn on the public host, which knows alice.
fn relay(lab: &Lab) -> ((Process, TempDir), String) {
    let address = lab.public.socket(3478);
    let mut command = lab.public.command("turnserver");
    let folder = tempfile::tempdir().expect("a folder");
    command.current_dir(folder.path()).args(["-n", "--no-tls", "--no-dtls", "--no-cli", "--simple-log"]);
    command.args(["--lt-cred-mech", "--user=alice:secret", "--realm=gimlet.test", "--pidfile=pid"]);
    command.args(["--userdb=users", "--log-file=stdout", &format!("--listening-port={}", address.port())]);
    command.args([&format!("--listening-ip={}", address.ip()), &format!("--relay-ip={}", address.ip())]);
    let mut coturn = Process::start("turnserver", command);
    coturn.find(SOON, "that it listens", |line| line.contains("admin thread").then_some(()));
    ((coturn, folder), address.to_string())
}

//! The `gimlet` command between real hosts: a public node, a peer who waits, a peer who sends a file.

use std::fs;
use std::time::Duration;

use data_encoding::HEXLOWER;
use gimlet_conformance::lab::{Host, Lab, Nat, Process};
use gimlet_conformance::program;
use gimlet_machine::Rng;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{SOON, lab};

/// How long a transfer may take on a busy machine, build without optimisation included.
const TRANSFER: Duration = Duration::from_secs(60);
/// What is sent: enough to fill windows many times over, little enough for a slow build.
const FILE_BYTES: usize = 4 << 20;

/// A lab with a public node and a waiting peer, and where they keep their things.
struct Scene {
    /// The waiting peer and the public node. First, so that they end before the ground goes from under them.
    running: Vec<Process>,
    lab: Lab,
    folder: TempDir,
    ticket: String,
    peer: String,
}

impl Scene {
    /// With a public node that does not relay: what arrives went straight.
    fn new(nat_a: Nat, nat_b: Nat) -> Option<Self> {
        Self::with(nat_a, nat_b, &["--no-relay"])
    }

    fn with(nat_a: Nat, nat_b: Nat, more: &[&str]) -> Option<Self> {
        let lab = lab(nat_a, nat_b)?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listen = lab.public.socket(4433).to_string();
        let serve = [&["serve", "--listen", &listen], more].concat();
        let mut serve = start(&lab.public, &folder, "serve", &serve);
        let ticket = text(&serve.event(SOON, "ready"), "ticket");
        let inbox = folder.path().join("inbox").display().to_string();
        let mut join = start(&lab.b, &folder, "join", &["join", &ticket, "--folder", &inbox]);
        let peer = text(&join.event(SOON, "ready"), "peer");
        Some(Scene { running: vec![join, serve], lab, folder, ticket, peer })
    }

    fn send(&self, file: &str, more: &[&str]) -> Process {
        let args = [&["send", "--via", &self.ticket, &self.peer, file], more].concat();
        start(&self.lab.a, &self.folder, "send", &args)
    }

    /// Everything that the others have said, for people.
    fn said(&mut self) -> String {
        self.running.iter_mut().map(Process::said).collect::<Vec<_>>().join("\n--\n")
    }
}

/// Starts the command on `host` with an identity of its own.
fn start(host: &Host, folder: &TempDir, name: &str, args: &[&str]) -> Process {
    let mut command = host.command(program::gimlet());
    command.args(args).arg("--json").arg("--identity").arg(folder.path().join(name));
    Process::start(name, command)
}

fn text(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_else(|| panic!("no {key} in {event}")).to_owned()
}

/// Sends a file from `a` to `b` and asserts that it went this way and arrived whole.
fn assert_arrives(scene: &mut Scene, path: &str) {
    let mut bytes = vec![0; FILE_BYTES];
    Rng::from_u64(FILE_BYTES as u64).fill(&mut bytes);
    let file = scene.folder.path().join("cargo.bin");
    fs::write(&file, &bytes).expect("a file to send");

    let mut send = scene.send(&file.display().to_string(), &[]);
    let sent = send.event(TRANSFER, "sent");
    let done = send.event(SOON, "done");
    assert!(send.wait(SOON).success(), "{}\n--\n{}", send.said(), scene.said());
    assert_eq!((&done["ok"], &done["path"]), (&Value::Bool(true), &Value::from(path)), "{done}");

    assert_eq!(text(&sent, "sha256"), HEXLOWER.encode(&Sha256::digest(&bytes)));
    let arrived = fs::read(scene.folder.path().join("inbox/cargo.bin")).expect("the file has arrived");
    assert!(arrived == bytes, "{} bytes arrived, and they are others", arrived.len());
}

/// Sends a file where nobody relays, and asserts that it went straight there and arrived whole.
fn assert_direct(nat_a: Nat, nat_b: Nat) {
    let Some(mut scene) = Scene::new(nat_a, nat_b) else { return };
    assert_arrives(&mut scene, "direct");
}

#[test]
fn a_file_goes_straight_between_two_public_hosts() {
    assert_direct(Nat::None, Nat::None);
}

#[test]
fn a_file_goes_straight_between_two_port_restricted_nats() {
    assert_direct(Nat::PortRestricted, Nat::PortRestricted);
}

#[test]
fn a_file_goes_straight_from_a_full_cone_to_a_port_restricted_nat() {
    assert_direct(Nat::FullCone, Nat::PortRestricted);
}

#[test]
fn a_file_goes_straight_from_behind_a_symmetric_nat_to_a_public_host() {
    assert_direct(Nat::Symmetric, Nat::None);
}

#[test]
fn a_file_goes_straight_from_a_public_host_to_behind_a_symmetric_nat() {
    assert_direct(Nat::None, Nat::Symmetric);
}

#[test]
fn a_file_goes_straight_from_behind_a_symmetric_nat_to_a_full_cone() {
    assert_direct(Nat::Symmetric, Nat::FullCone);
}

/// Where an early packet may take the port, the other side has to cope with one it was not told of.
#[test]
fn a_file_goes_straight_from_behind_a_nat_without_a_firewall_to_hosts_that_let_anyone_in() {
    assert_direct(Nat::PortRestrictedOpen, Nat::None);
    assert_direct(Nat::PortRestrictedOpen, Nat::FullCone);
}

#[test]
fn between_two_symmetric_nats_the_public_node_relays() {
    let Some(mut scene) = Scene::with(Nat::Symmetric, Nat::Symmetric, &[]) else { return };
    assert_arrives(&mut scene, "relayed");
}

/// The canary: where no direct path exists, none is claimed, and the sender says why.
#[test]
fn between_two_symmetric_nats_the_sender_says_that_there_is_no_way() {
    let Some(mut scene) = Scene::new(Nat::Symmetric, Nat::Symmetric) else { return };
    let file = scene.folder.path().join("cargo.bin");
    fs::write(&file, b"never arrives").expect("a file to send");
    let mut send = scene.send(&file.display().to_string(), &["--timeout", "12"]);
    let error = send.event(TRANSFER, "error");
    assert!(!send.wait(SOON).success(), "{}\n--\n{}", send.said(), scene.said());
    assert!(!text(&error, "cause").is_empty() && !text(&error, "remedy").is_empty(), "{error}");
    assert!(!scene.folder.path().join("inbox/cargo.bin").exists());
}

//! The relay leg behind a kernel's NAT: the `gimlet` command, coturn, and what goes wrong between them.

use std::fs;
use std::thread;
use std::time::Duration;

use gimlet_conformance::lab::{Host, Lab, Nat, Process};
use gimlet_conformance::lab_matrix::{coturn, coturn_args};
use gimlet_conformance::program;
use serde_json::Value;
use tempfile::TempDir;

use crate::{SOON, lab_beside_coturn};

/// What is sent.
const CARGO: [u8; 10_000] = [7; 10_000];

/// Between two symmetric NATs: a peer `b` with an address on coturn, and a peer `a` that knows no relay.
struct Scene {
    relay: Process,
    join: Process,
    _serve: Process,
    lab: Lab,
    folder: TempDir,
    ticket: String,
    peer: String,
}

impl Scene {
    fn new(lab: Lab, coturn_options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut relay = coturn(&lab.public, folder.path(), coturn_options);
        let listen = lab.public.socket(4433).to_string();
        let mut serve = start(&lab.public, &folder, "serve", &["serve", "--listen", &listen, "--no-relay"]);
        let ticket = text(&serve.event(SOON, "ready"), "ticket");
        let inbox = folder.path().join("inbox").display().to_string();
        let access = coturn_args(&lab.public);
        let mut join = vec!["join", &ticket, "--folder", &inbox, "--verbose"];
        join.extend(access.iter().map(String::as_str));
        let mut join = start(&lab.b, &folder, "join", &join);
        let peer = text(&join.event(SOON, "ready"), "peer");
        let allocated = |line: &str| line.contains("ALLOCATE processed, success").then_some(());
        relay.find(SOON, "that it gave an address", allocated);
        Scene { relay, join, _serve: serve, lab, folder, ticket, peer }
    }

    /// Sends a file from `a` to `b`; says whether it arrived. There is no direct path.
    fn send(&mut self, name: &str, patience: &str) -> bool {
        let cargo = self.folder.path().join(name);
        fs::write(&cargo, CARGO).expect("a file to send");
        let cargo = cargo.display().to_string();
        let args = ["send", "--via", &self.ticket, &self.peer, &cargo, "--timeout", patience];
        let mut send = start(&self.lab.a, &self.folder, "send", &args);
        let ended = send.wait(SOON * 2);
        let arrived = fs::read(self.folder.path().join("inbox").join(name)).ok();
        assert_eq!(ended.success(), arrived.is_some(), "{}", send.said());
        assert!(arrived.is_none_or(|bytes| bytes == CARGO));
        ended.success()
    }

    /// What everybody has said.
    fn said(&mut self) -> String {
        format!("{}\n-- coturn:\n{}", self.join.said(), self.relay.said())
    }

    /// How often coturn has answered so, by its log.
    fn answered(&mut self, what: &str) -> usize {
        self.relay.said().lines().filter(|line| line.contains(what)).count()
    }
}

fn start(host: &Host, folder: &TempDir, name: &str, args: &[&str]) -> Process {
    let mut command = host.command(program::gimlet());
    command.args(args).arg("--json").arg("--identity").arg(folder.path().join(name));
    Process::start(name, command)
}

fn text(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_else(|| panic!("no {key} in {event}")).to_owned()
}

#[test]
fn a_relay_whose_nonce_has_gone_stale_is_asked_again_with_the_new_one() {
    let Some(lab) = lab_beside_coturn(Nat::Symmetric, Nat::Symmetric) else { return };
    let mut scene = Scene::new(lab, &["--stale-nonce=1"]);
    thread::sleep(Duration::from_secs(3));
    assert!(scene.send("cargo.bin", "20"), "{}", scene.said());
    assert!(scene.answered("error 438: Stale nonce") > 0, "{}", scene.said());
    assert_eq!(scene.answered("error 400"), 0, "{}", scene.said());
}

/// The NAT forgets the flow to the relay after three seconds of silence, so what `b` asks next comes from
/// a port that coturn has never seen. It answers 438, as to any stranger, and then 400, where
/// RFC 8656 §5 wants 437. The first attempt may be lost on that; the next must not be.
#[test]
fn a_nat_that_forgets_the_flow_to_the_relay_costs_one_attempt_at_most() {
    let Some(lab) = lab_beside_coturn(Nat::Symmetric, Nat::Symmetric) else { return };
    lab.b.boxes[0].filter(FORGETFUL);
    let mut scene = Scene::new(lab, &[]);
    thread::sleep(Duration::from_secs(5));
    scene.send("first.bin", "2");
    // The canary: without these answers this would show nothing.
    assert!(scene.answered("error 438: Wrong nonce") > 0, "{}", scene.said());
    assert!(scene.answered("error 400: Bad Request") > 0, "{}", scene.said());
    assert_eq!(scene.answered("ALLOCATE processed, success"), 2, "{}", scene.said());
    assert!(scene.send("second.bin", "20"), "{}", scene.said());
}

/// Added to the rules of a NAT: its entries for TURN end after three seconds.
const FORGETFUL: &str = "table ip forgetful {
    ct timeout soon {
        protocol udp
        l3proto ip
        policy = { unreplied : 3, replied : 3 }
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        udp dport 3478 ct timeout set \"soon\"
    }
}
";

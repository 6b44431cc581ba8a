//! One cell: a lab, a public node, two peers, a file.

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use data_encoding::HEXLOWER;
use gimlet_machine::Rng;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::expect::{Expected, PUNCH, Way, expect};
use super::relay::{RELAY, Relay};
use crate::lab::{Family, Host, Lab, Nat, Process};

/// How long anything may take that takes no time, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// How long a transfer may take, the attempt to connect included.
const TRANSFER: Duration = Duration::from_secs(90);
/// How long an attempt to connect may take, in seconds. Where a way exists it takes one or two.
const CONNECT_SECONDS: &str = "12";
/// What is sent, and how fast hosts may send: two seconds in which a relayed path can become direct.
const FILE_BYTES: usize = 2 << 20;
const RATE_MEGABITS: u32 = 8;

/// A pair of NATs, a protocol, and a relay or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The protocol.
    pub family: Family,
    /// Before the sender.
    pub a: Nat,
    /// Before the receiver, who waits.
    pub b: Nat,
    /// Whether there is a relay.
    pub relay: bool,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { family, a, b, relay } = self;
        write!(f, "{family} {a} to {b} {}", if *relay { "with a relay" } else { "without" })
    }
}

/// What happened in a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where.
    pub cell: Cell,
    /// The way that the file took at its end.
    pub way: Way,
    /// From the wish to connect to the peer's hello, if it came.
    pub connected_in: Option<Duration>,
    /// What is wrong: another way than expected, another hash, a program that does not end.
    pub complaint: Option<String>,
}

/// The parts of a cell while it runs. Programs first, so that they end before their hosts.
struct Stage<'a> {
    serve: Process,
    join: Process,
    relay: Vec<Process>,
    peer: String,
    lab: &'a Lab,
    folder: &'a Path,
}

/// What the sender has said about the way.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Where data to the peer goes.
    address: Option<SocketAddr>,
    /// Its last line.
    last: Option<Value>,
}

impl Told {
    /// Takes a line in; says whether it was the last.
    fn hear(&mut self, line: &str, peer: &str) -> bool {
        let Ok(value) = serde_json::from_str::<Value>(line) else { return false };
        match value["event"].as_str() {
            Some("connected" | "path_changed") if value["peer"] == peer => {
                self.address = value["address"].as_str().and_then(|text| text.parse().ok());
                false
            }
            Some("done" | "error") => {
                self.last = Some(value);
                true
            }
            Some(_) | None => false,
        }
    }
}

impl Cell {
    /// What has to be found.
    pub fn expected(self) -> Expected {
        expect(self.a, self.b, self.relay, PUNCH)
    }

    /// Plays the cell in a lab of its own, with the command at `program`.
    ///
    /// # Panics
    ///
    /// If the lab cannot be built, or a program does not do what it always does.
    pub fn play(self, program: &Path) -> Outcome {
        self.play_in(&Lab::over(self.family, self.a, self.b), program)
    }

    /// The same in a lab that somebody else has built.
    ///
    /// # Panics
    ///
    /// As [`Cell::play`].
    pub fn play_in(self, lab: &Lab, program: &Path) -> Outcome {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for host in [&lab.a, &lab.b] {
            host.limit_rate(RATE_MEGABITS);
        }
        let gimlet = |host: &Host, name: &str, args: &[&str]| {
            let mut command = host.command(program);
            command.args(args).arg("--json").arg("--identity").arg(folder.path().join(name));
            Process::start(name, command)
        };
        let used = if self.relay { RELAY } else { Relay::Nobody };
        let relay = used.start(&lab.public, folder.path());
        let peer_args = used.peer_args(&lab.public);
        let peer_args: Vec<&str> = peer_args.iter().map(String::as_str).collect();

        let listen = lab.public.socket(4433).to_string();
        let serve = [&["serve", "--listen", &listen][..], used.serve_args()].concat();
        let mut serve = gimlet(&lab.public, "serve", &serve);
        let ticket = text(&serve.event(SOON, "ready"), "ticket");
        let inbox = folder.path().join("inbox").display().to_string();
        let join = [&["join", &ticket, "--folder", &inbox][..], &peer_args].concat();
        let mut join = gimlet(&lab.b, "join", &join);
        let peer = text(&join.event(SOON, "ready"), "peer");

        let file = folder.path().join("cargo.bin");
        fs::write(&file, cargo()).expect("a file to send");
        let file = file.display().to_string();
        let send = ["send", "--via", &ticket, &peer, &file, "--timeout", CONNECT_SECONDS];
        let send = gimlet(&lab.a, "send", &[&send[..], &peer_args].concat());
        let stage = Stage { serve, join, relay, peer, lab, folder: folder.path() };
        self.watch(send, stage)
    }

    /// Waits for what the sender says at its end.
    fn watch(self, mut send: Process, mut stage: Stage<'_>) -> Outcome {
        let told = RefCell::new(Told::default());
        send.find(TRANSFER, "how it ended", |line| told.borrow_mut().hear(line, &stage.peer).then_some(()));
        send.wait(SOON);
        let Told { address, last } = told.into_inner();
        let last = last.unwrap_or_default();
        let relays = [stage.lab.public.address, stage.lab.public_other];
        let through_relay = address.is_some_and(|address| relays.contains(&address.ip()));
        let way = match last["path"].as_str() {
            // What goes straight to an address on the peer's relay is relayed all the same.
            Some("direct") if !through_relay => Way::Direct,
            Some("direct" | "relayed") => Way::Relayed,
            Some(_) | None => Way::Nothing,
        };
        let connected_in = last["connect_ms"].as_f64().map(|ms| Duration::from_secs_f64(ms / 1_000.0));
        let complaint = self.complaint(way, &last, stage.folder).map(|complaint| {
            let mut all = vec![("send", &mut send), ("join", &mut stage.join), ("serve", &mut stage.serve)];
            all.extend(stage.relay.iter_mut().map(|relay| ("relay", relay)));
            let said: Vec<String> =
                all.into_iter().map(|(name, it)| format!("-- {name}:\n{}", it.said())).collect();
            format!("{self}: {complaint}\n{}", said.join("\n"))
        });
        Outcome { cell: self, way, connected_in, complaint }
    }

    /// What is wrong with a file that took this way, if anything is.
    fn complaint(self, way: Way, last: &Value, folder: &Path) -> Option<String> {
        let expected = self.expected();
        if !expected.admits(way) {
            return Some(format!("expected {expected}, found {way}"));
        }
        let arrived = fs::read(folder.join("inbox/cargo.bin")).ok();
        match way {
            Way::Direct | Way::Relayed => {
                let hash = |bytes: &[u8]| HEXLOWER.encode(&Sha256::digest(bytes));
                let arrived = arrived.map(|bytes| hash(&bytes));
                (arrived != Some(hash(&cargo()))).then(|| format!("what arrived has the hash {arrived:?}"))
            }
            Way::Nothing if arrived.is_some() => Some("something arrived on no way".to_owned()),
            Way::Nothing => {
                let says_why =
                    ["cause", "remedy"].iter().all(|key| !last[key].as_str().unwrap_or("").is_empty());
                (!says_why).then(|| format!("it does not say why: {last}"))
            }
        }
    }
}

/// What is sent: always the same.
fn cargo() -> Vec<u8> {
    let mut bytes = vec![0; FILE_BYTES];
    Rng::from_u64(FILE_BYTES as u64).fill(&mut bytes);
    bytes
}

fn text(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_else(|| panic!("no {key} in {event}")).to_owned()
}

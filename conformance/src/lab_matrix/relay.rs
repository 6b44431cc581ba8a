//! The relay of a cell.

use std::path::Path;
use std::time::Duration;

use crate::lab::{Host, Missing, Process};

/// The relay of every cell that has one.
pub const RELAY: Relay = Relay::Served;

/// Where the relay listens.
const PORT: u16 = 3478;
/// The program.
const COTURN: &str = "turnserver";
const USER: &str = "lab";
const PASSWORD: &str = "a password of the lab";
/// How long starting may take on a busy machine.
const START: Duration = Duration::from_secs(20);

/// Who relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// Nobody.
    Nobody,
    /// The public node.
    Served,
    /// coturn beside the public node, known to both peers.
    Coturn,
}

impl Relay {
    /// Starts the programs that relay, beside the public node. `folder` is for files that they insist on.
    pub(super) fn start(self, public: &Host, folder: &Path) -> Vec<Process> {
        match self {
            Relay::Nobody | Relay::Served => Vec::new(),
            Relay::Coturn => vec![coturn(public, folder, &[])],
        }
    }

    /// What the public node is told on its command line.
    pub(super) fn serve_args(self) -> &'static [&'static str] {
        match self {
            Relay::Nobody | Relay::Coturn => &["--no-relay"],
            Relay::Served => &[],
        }
    }

    /// What peers are told on their command lines.
    pub(super) fn peer_args(self, public: &Host) -> Vec<String> {
        match self {
            Relay::Nobody | Relay::Served => Vec::new(),
            Relay::Coturn => coturn_args(public),
        }
    }
}

/// What peers are told on their command lines about coturn on `host`.
pub fn coturn_args(host: &Host) -> Vec<String> {
    let address = host.socket(PORT).to_string();
    ["--turn", &address, "--turn-user", USER, "--turn-pass", PASSWORD].map(str::to_owned).into()
}

/// Whether coturn is installed.
pub fn coturn_available() -> Result<(), Missing> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).any(|folder| folder.join(COTURN).is_file());
    if found { Ok(()) } else { Err(Missing::Tool { name: COTURN, package: "coturn" }) }
}

/// Starts coturn on `host`, and waits until it listens.
///
/// # Panics
///
/// If it does not come up.
pub fn coturn(host: &Host, folder: &Path, more: &[&str]) -> Process {
    let mut command = host.command(COTURN);
    command.current_dir(folder).args([
        "-n",
        "--no-tls",
        "--no-dtls",
        "--no-cli",
        "--no-tcp-relay",
        "--verbose",
    ]);
    command.args(["--simple-log", "--log-file=stdout", "--pidfile=turn.pid", "--userdb=turn.users"]);
    command.args([
        "--realm=gimlet.test",
        "--fingerprint",
        "--lt-cred-mech",
        &format!("--user={USER}:{PASSWORD}"),
    ]);
    let address = host.address;
    command.args([&format!("--listening-ip={address}"), &format!("--relay-ip={address}")]);
    command.arg(format!("--listening-port={PORT}")).args(more);
    let mut process = Process::start("coturn", command);
    process.find(START, "that it listens", |line| line.contains("UDP listener opened on").then_some(()));
    process
}

//! What a machine drags in: the closure of its dependencies as cargo resolves them for it alone.

use std::path::Path;
use std::process::Command;

use super::Complaint;

/// Crates that call the operating system. None is below a crate of `core/`.
const OPERATING_SYSTEM: [&str; 18] = [
    "async-io",
    "async-std",
    "crossbeam-channel",
    "getrandom",
    "if-addrs",
    "libc",
    "mio",
    "nix",
    "polling",
    "quinn",
    "quinn-udp",
    "rand",
    "rayon",
    "rustix",
    "smol",
    "socket2",
    "tokio",
    "windows-sys",
];

/// Where the search stops: these stand on std, and what they use is theirs to answer for. quinn-proto
/// and rustls never call the clock, sockets or entropy by themselves when `core/quic` hands them
/// seeds, instants and a provider (its tests show that by comparing bytes).
const STOP_AT: [&str; 2] = ["quinn-proto", "rustls"];

/// Crates that have to compile without std.
pub const NO_STD: [&str; 8] = [
    "gimlet-machine",
    "gimlet-wire",
    "gimlet-frame",
    "gimlet-handshake",
    "gimlet-stun",
    "gimlet-turn",
    "gimlet-ice",
    "gimlet-tcp",
];

/// One line of `cargo tree`: how deep, which crate, with which features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Steps from the crate that is judged, which has depth 0.
    pub depth: usize,
    /// The name of the package.
    pub name: String,
    /// Its enabled features.
    pub features: Vec<String>,
}

/// Asks cargo for what `package` links when it is built by itself, without tests.
///
/// # Panics
///
/// If cargo fails.
pub fn of(root: &Path, package: &str) -> Vec<Node> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["tree", "--edges", "normal", "--prefix", "depth", "--no-dedupe"]);
    let output = cargo.args(["--package", package, "--format", " {p} [{f}]"]).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// Reads lines like `1 bytes v1.12.1 [default,std]`.
pub fn parse(tree: &str) -> Vec<Node> {
    let node = |line: &str| {
        let (depth, rest) = line.split_once(' ')?;
        let features = rest.rsplit_once('[').map_or("", |(_, features)| features.trim_end_matches(']'));
        Some(Node {
            depth: depth.parse().ok()?,
            name: rest.split(' ').next()?.to_owned(),
            features: features.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        })
    };
    tree.lines().filter_map(node).collect()
}

/// Crates in the closure that call the operating system.
pub fn operating_system(tree: &[Node]) -> Vec<Complaint> {
    let package = tree.first().map_or("", |node| node.name.as_str());
    let found = above_stops(tree).filter(|node| OPERATING_SYSTEM.contains(&node.name.as_str()));
    found
        .map(|node| {
            Complaint::new(package, format!("links `{}`, which calls the operating system", node.name))
        })
        .collect()
}

/// Crates in the closure of a `no_std` crate whose feature `std` is on.
pub fn std_features(tree: &[Node]) -> Vec<Complaint> {
    let package = tree.first().map_or("", |node| node.name.as_str());
    let found = tree.iter().filter(|node| node.features.iter().any(|feature| feature == "std"));
    found.map(|node| Complaint::new(package, format!("enables `std` of `{}`", node.name))).collect()
}

/// The nodes that are not below a crate of [`STOP_AT`].
fn above_stops(tree: &[Node]) -> impl Iterator<Item = &Node> {
    let mut stopped_at = usize::MAX;
    tree.iter().filter(move |node| {
        if node.depth > stopped_at {
            return false;
        }
        stopped_at = if STOP_AT.contains(&node.name.as_str()) { node.depth } else { usize::MAX };
        true
    })
}

//! Which of our crates may use which: one table.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Complaint;

/// A crate by its folder, and the crates of ours that it may depend on outside of tests.
pub type Row = (&'static str, &'static [&'static str]);

/// The table. A crate that is not in it may not exist; rows of crates that do not exist are the plan.
///
/// Only `core/node` knows two protocols. `drivers/mio`, `tokio` and `sim` know none. The kit for tests
/// is in no row but those of `fuzz` and `conformance`: it is never linked into anything that ships.
pub const TABLE: &[Row] = &[
    ("core/machine", &[]),
    ("core/wire", &[]),
    ("core/testkit", &["core/machine"]),
    ("core/frame", &["core/machine", "core/wire"]),
    ("core/handshake", &["core/machine", "core/wire"]),
    ("core/stun", &["core/machine", "core/wire"]),
    ("core/turn", &["core/machine", "core/wire", "core/stun"]),
    ("core/ice", &["core/machine", "core/wire", "core/stun"]),
    ("core/quic", &["core/machine", "core/wire"]),
    ("core/record", &["core/machine", "core/wire"]),
    ("core/kad", &["core/machine", "core/wire", "core/record"]),
    ("core/relay", &["core/machine", "core/wire"]),
    ("core/tcp", &["core/machine", "core/wire"]),
    ("core/trace", &["core/machine", "core/wire"]),
    ("core/node", &["core/*"]),
    ("drivers/udp", &["core/machine"]),
    ("drivers/mio", &["core/machine", "drivers/udp"]),
    ("drivers/tokio", &["core/machine", "drivers/udp"]),
    ("drivers/raw", &["core/machine", "core/wire", "core/tcp"]),
    ("drivers/sim", &["core/machine"]),
    // Namespaces and long cables, for the command and for the tests, neither of which may use the other.
    ("drivers/lab", &["core/machine", "drivers/raw", "drivers/sim"]),
    ("drivers/capi", &["core/machine", "core/node"]),
    ("drivers/stoffelnet", &["core/machine", "core/handshake", "core/node", "drivers/udp", "drivers/tokio"]),
    (
        "drivers/cli",
        &[
            "core/machine",
            "core/stun",
            // For `ice-peer` and `ice-step`, which other implementations meet without a node around it.
            "core/ice",
            "core/turn",
            "core/node",
            "drivers/udp",
            "drivers/mio",
            "drivers/tokio",
            "drivers/sim",
            "drivers/raw",
            "drivers/lab",
            // The configuration of the translator, for `splice`.
            "core/tcp",
        ],
    ),
    // For the provider that makes TLS repeat itself: an input that finds a bug must find it again.
    // The model of TCP that the translator is judged by is also what one target fuzzes it against.
    ("fuzz", &["core/*", "core/testkit", "drivers/raw", "drivers/sim", "conformance/tcp-model"]),
    ("conformance/tcp-model", &["core/machine", "core/tcp"]),
    ("conformance/splice", &["core/machine", "core/wire", "core/tcp", "drivers/raw", "drivers/lab"]),
    ("conformance", &["core/*", "core/testkit", "drivers/*"]),
];

/// What crates that only teach may use: everything, and nothing may use them.
const EXAMPLES: Row = ("examples", &["core/*", "drivers/*"]);

/// The row of a crate, by its folder.
pub fn row(folder: &str) -> Option<&'static Row> {
    TABLE.iter().chain([&EXAMPLES]).find(|(name, _)| *name == folder)
}

/// What one crate of ours depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its folder from the top of the tree: `core/stun`.
    pub folder: String,
    /// The folders of ours that it uses when it is built for use, sorted.
    pub ours: Vec<String>,
    /// The names of everything else that it uses, tests included, sorted.
    pub others: Vec<String>,
    /// Its cargo features, sorted.
    pub features: Vec<String>,
}

/// Asks cargo for every member of the workspace at `root`.
///
/// # Panics
///
/// If cargo fails or answers something else.
pub fn members(root: &Path) -> Vec<Member> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["metadata", "--format-version", "1", "--no-deps"]);
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let folder = |path: &str| {
        let inside = Path::new(path).strip_prefix(root).ok()?;
        Some(inside.to_string_lossy().replace('\\', "/"))
    };
    each(&metadata["packages"])
        .map(|package| {
            let manifest = folder(text(&package["manifest_path"])).expect("members lie in the tree");
            let dependencies = || each(&package["dependencies"]);
            let ours = dependencies().filter(|dependency| text(&dependency["kind"]) != "dev");
            let ours = ours.filter_map(|dependency| folder(text(&dependency["path"])));
            let others = dependencies().filter(|dependency| dependency["path"].is_null());
            Member {
                folder: manifest.trim_end_matches("/Cargo.toml").to_owned(),
                ours: sorted(ours.collect()),
                others: sorted(others.map(|dependency| text(&dependency["name"]).to_owned()).collect()),
                features: package["features"]
                    .as_object()
                    .map(|all| all.keys().cloned().collect())
                    .unwrap_or_default(),
            }
        })
        .collect()
}

/// Dependencies between our crates that the table does not allow.
pub fn edges(members: &[Member]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for member in members {
        let Some((_, allowed)) = row(&member.folder) else {
            complaints.push(Complaint::new(&member.folder, "has no row in the table of edges"));
            continue;
        };
        for used in member.ours.iter().filter(|used| !allows(allowed, used)) {
            complaints.push(Complaint::new(&member.folder, format!("may not depend on {used}")));
        }
    }
    complaints
}

/// Cargo features under `core/`: optional means another crate.
pub fn features(members: &[Member]) -> Vec<Complaint> {
    let core =
        members.iter().filter(|member| member.folder.starts_with("core/") && !member.features.is_empty());
    core.map(|member| {
        let features = member.features.join(", ");
        Complaint::new(&member.folder, format!("has the features {features}; optional means another crate"))
    })
    .collect()
}

/// Dependencies on other people's crates for which `page` (`CONTRIBUTING.md`) gives no reason: a row
/// of its table that begins with the name.
pub fn reasons(members: &[Member], page: &str) -> Vec<Complaint> {
    let unexplained = |name: &&String| !page.contains(&format!("| `{name}` |"));
    let mut complaints = Vec::new();
    for member in members {
        for name in member.others.iter().filter(unexplained) {
            let what =
                format!("depends on `{name}`, for which CONTRIBUTING.md has no row `| \\`{name}\\` | why |`");
            complaints.push(Complaint::new(&member.folder, what));
        }
    }
    complaints
}

/// `core/*` stands for every protocol crate; the kit for tests has to be named.
fn allows(allowed: &[&str], used: &str) -> bool {
    allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => used.starts_with(prefix) && used != "core/testkit",
        None => used == *pattern,
    })
}

fn each(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

//! What lies where.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Complaint, edges};

/// What the top of the tree holds, and nothing else.
const TOP: [&str; 18] = [
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".deny.toml",
    ".gitignore",
    ".rustfmt.toml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "conformance",
    "core",
    "drivers",
    "examples",
    "fuzz",
];

/// Version control and build output: there, but not part of the tree.
const NOT_OURS: [&str; 2] = [".git", "target"];

/// Files that stand beside the crates in `core` and `drivers`.
const BESIDE_CRATES: [&str; 2] = ["README.md", ".clippy.toml"];

/// The names in a folder, sorted.
///
/// # Panics
///
/// If the folder cannot be read.
pub fn list(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("a readable folder entry").file_name().to_string_lossy().into_owned()
    };
    let names: BTreeSet<String> = entries.map(name).collect();
    names.into_iter().collect()
}

/// Judges the names at the top of the tree: all that belong there and nothing more.
pub fn top(names: &[String]) -> Vec<Complaint> {
    let missing = TOP.iter().filter(|wanted| !names.iter().any(|name| name == **wanted));
    let missing =
        missing.map(|name| Complaint::new(*name, "belongs at the top of the tree and is not there"));
    let surplus =
        names.iter().filter(|name| !TOP.contains(&name.as_str()) && !NOT_OURS.contains(&name.as_str()));
    let surplus = surplus.map(|name| Complaint::new(name, "does not belong at the top of the tree"));
    missing.chain(surplus).collect()
}

/// Judges the names in `core` or `drivers`: crates that the table of edges knows, and a page of prose.
pub fn crates(folder: &str, names: &[String]) -> Vec<Complaint> {
    let known = |name: &String| edges::row(&format!("{folder}/{name}")).is_some();
    let strangers = names.iter().filter(|name| !BESIDE_CRATES.contains(&name.as_str()) && !known(name));
    strangers
        .map(|name| Complaint::new(format!("{folder}/{name}"), "has no row in the table of edges"))
        .collect()
}

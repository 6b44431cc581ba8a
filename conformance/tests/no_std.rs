//! The protocol crates build and link where there is no std, and call nothing of the operating system.
//!
//! A static library with its own panic handler and allocator uses them all. If any crate below it linked
//! std, there would be two panic handlers, and the compiler would refuse. That is what building for a
//! target without std would show, without needing such a target to be installed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gimlet_conformance::tidy::{closure, root};

const PROOF: &str = include_str!("no_std/proof.rs");

/// Functions of the operating system's C library, as symbol tables spell them. Only names that nobody
/// would give to a function or field of their own: debug information is full of those.
const OPERATING_SYSTEM: [&str; 8] = [
    "clock_gettime",
    "epoll_wait",
    "getenv",
    "getrandom",
    "nanosleep",
    "open64",
    "pthread_create",
    "sendmsg",
];

/// Makes a package beside the build output, outside of the workspace, that links `crates` (name and
/// folder), with the versions that the workspace has locked.
fn package(name: &str, crates: &[(&str, PathBuf)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut manifest = format!(
        "[package]\nname = \"{name}\"\nedition = \"2024\"\n[workspace]\n[profile.dev]\npanic = \"abort\"\n\
         [lib]\ncrate-type = [\"staticlib\"]\n[dependencies]\n"
    );
    let mut source = PROOF.to_owned();
    for (crate_, path) in crates {
        writeln!(manifest, "{crate_} = {{ path = '{}' }}", path.display()).expect("a string grows");
        writeln!(source, "extern crate {};", crate_.replace('-', "_")).expect("a string grows");
    }
    fs::create_dir_all(folder.join("src")).expect("a folder for the proof");
    fs::write(folder.join("Cargo.toml"), manifest).expect("its manifest");
    fs::write(folder.join("src/lib.rs"), source).expect("its source");
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).expect("the workspace's lock file");
    folder
}

fn build(package: &Path) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    // The workspace's own build settings are for programs that have std.
    cargo.current_dir(package).args(["build", "--target-dir"]).arg(package.join("target"));
    cargo.env_remove("RUSTFLAGS").output().expect("cargo runs")
}

fn system_calls(archive: &[u8]) -> Vec<&'static str> {
    let named = |symbol: &&str| {
        let entry = [b"\0", symbol.as_bytes(), b"\0"].concat();
        archive.windows(entry.len()).any(|window| window == entry)
    };
    OPERATING_SYSTEM.into_iter().filter(named).collect()
}

#[test]
fn the_protocol_crates_build_and_link_without_std() {
    let folder = |name: &&'static str| (*name, root().join("core").join(name.trim_start_matches("gimlet-")));
    let crates: Vec<_> = closure::NO_STD.iter().map(folder).collect();
    let package = package("no-std-proof", &crates);
    let output = build(&package);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let archive = fs::read(package.join("target/debug/libno_std_proof.a")).expect("the static library");
    assert_eq!(system_calls(&archive), Vec::<&str>::new(), "symbols in the static library");
}

/// Canary: one crate that links std, and the same build is refused for that reason.
#[test]
fn a_crate_that_links_std_is_noticed() {
    let impostor = Path::new(env!("CARGO_TARGET_TMPDIR")).join("impostor");
    fs::create_dir_all(impostor.join("src")).expect("a folder for the impostor");
    let manifest = "[package]\nname = \"impostor\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(impostor.join("Cargo.toml"), manifest).expect("its manifest");
    fs::write(impostor.join("src/lib.rs"), "pub use std::time::Instant;\n").expect("its source");
    let output = build(&package("no-std-canary", &[("impostor", impostor)]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("E0152") && said.contains("panic_impl"), "{said}");
}

/// Canary: this very program reads the clock, and its symbol table says so.
#[test]
fn a_program_that_reads_the_clock_is_noticed() {
    let program = fs::read(std::env::current_exe().expect("the test knows itself")).expect("it can be read");
    assert!(system_calls(&program).contains(&"clock_gettime"));
}

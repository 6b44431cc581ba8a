//! The `gimlet` command, for those who run it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::tidy::root;

/// The command: `GIMLET_BIN`, or built here, into the target folder that the caller was built into.
///
/// # Panics
///
/// If there is no such file, or it cannot be built.
pub fn gimlet() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(find_or_build).clone()
}

fn find_or_build() -> PathBuf {
    if let Some(path) = std::env::var_os("GIMLET_BIN") {
        let path = root().join(path);
        assert!(path.is_file(), "GIMLET_BIN: there is no {}", path.display());
        return path;
    }
    let own = std::env::current_exe().expect("a program has a path");
    // Cargo marks its target folders with this file.
    let target = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    let target = target.expect("the caller lies in a target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args(["build", "--package", "gimlet-cli", "--bin", "gimlet", "--target-dir"]);
    let output = cargo.arg(target).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug").join("gimlet")
}

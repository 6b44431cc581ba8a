//! Every committed input, through its body; and whether each body would notice.

use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use gimlet_fuzz::{TARGETS, Target};

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The files of a target's folder by name; empty if there is no folder.
fn corpus(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder(target)).into_iter().flatten();
    let paths = files.map(|file| file.expect("a readable folder").path());
    paths
        .map(|path| {
            let name = path.file_name().expect("files have names").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable file"))
        })
        .collect()
}

#[test]
fn every_committed_input_passes_its_body() {
    for target in TARGETS {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{} is empty: cargo run -p gimlet-fuzz --bin corpus", target.name);
        for (name, bytes) in corpus {
            let passed = catch_unwind(|| (target.body)(&bytes)).is_ok();
            assert!(passed, "{}/{name} fails; the reason is printed above", target.name);
        }
    }
}

#[test]
fn every_body_notices_its_planted_bug_on_its_own_corpus() {
    for target in TARGETS {
        let corpus = corpus(target);
        let found = corpus.values().any(|bytes| catch_unwind(|| (target.planted)(bytes)).is_err());
        assert!(found, "{}: a bug was planted and no input found it", target.name);
    }
}

#[test]
fn the_committed_seeds_are_the_ones_the_generator_makes() {
    for target in TARGETS {
        let corpus = corpus(target);
        for (name, bytes) in (target.seeds)() {
            assert!(
                corpus.get(name) == Some(&bytes),
                "{}/{name} is missing or old: cargo run -p gimlet-fuzz --bin corpus",
                target.name
            );
        }
    }
}

#[test]
fn every_corpus_folder_belongs_to_a_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(root).expect("the corpus is committed") {
        let name = entry.expect("a readable folder").file_name();
        assert!(TARGETS.iter().any(|target| name == target.name), "{} replays nowhere", name.display());
    }
}

/// A cheap stand-in for a fuzzer between campaigns: every input changed, and cut, at places spread over
/// it.
#[test]
fn neighbours_of_every_input_pass_too() {
    for target in TARGETS {
        for (name, bytes) in corpus(target) {
            let step = bytes.len().div_ceil(target.neighbours).max(1);
            for at in (0..bytes.len()).step_by(step) {
                let mut changed = bytes.clone();
                for change in [0x01, 0x80, 0xff] {
                    changed[at] = bytes[at] ^ change;
                    let passed = catch_unwind(|| (target.body)(&changed)).is_ok();
                    assert!(passed, "{}/{name} fails with byte {at} ^ {change:#04x}", target.name);
                }
                let passed = catch_unwind(|| (target.body)(&bytes[..at])).is_ok();
                assert!(passed, "{}/{name} fails when cut at {at}", target.name);
            }
        }
    }
}

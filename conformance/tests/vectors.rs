//! Every room carries the bytes that somebody else published for it, unaltered.
//!
//! The rooms judge themselves by these files; what is judged here is that nobody can lose one, add one
//! without saying whose it is, or rewrite the given bytes together with the expected meaning.

use std::fs;
use std::path::Path;

use gimlet_conformance::tidy::{layout, root};

/// A room and one of its files, who published it, and the bytes that it begins with.
type Row = (&'static str, &'static str, &'static str, &'static str);

const INDEX: &[Row] = &[
    ("stun", "rfc5769-2.1-request.txt", "RFC 5769 §2.1", "000100582112a442b7e7a701bc34d686fa87dfae"),
    ("stun", "rfc5769-2.2-ipv4-response.txt", "RFC 5769 §2.2", "0101003c2112a442b7e7a701bc34d686fa87dfae"),
    ("stun", "rfc5769-2.3-ipv6-response.txt", "RFC 5769 §2.3", "010100482112a442b7e7a701bc34d686fa87dfae"),
    ("stun", "rfc5769-2.4-long-term.txt", "RFC 5769 §2.4", "000100602112a44278ad3433c6ad72c029da412e"),
    (
        "stun",
        "rfc8489-b.1-userhash-sha256.txt",
        "RFC 8489 appendix B.1",
        "000100902112a44278ad3433c6ad72c029da412e",
    ),
    (
        "handshake",
        "envelope.txt",
        "the network that speaks it, releases 0.1.0 and 0.1.1",
        "000000002a00000000000000",
    ),
    ("handshake", "legacy.txt", "the same network's first generation", ""),
    ("turn", "coturn-4.6.1-udp.txt", "coturn 4.6.1", "011300582112a4421ff2e763adbafcd371893eae"),
];

/// The text without anything that separates digits.
fn digits(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace()).collect()
}

/// What is wrong with the vectors below `core`, going by `index`.
fn complaints(core: &Path, index: &[Row]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (room, file, publisher, begins) in index {
        match fs::read_to_string(core.join(room).join("vectors").join(file)) {
            Err(error) => complaints.push(format!("{room}/{file} ({publisher}): {error}")),
            Ok(text) if !digits(&text).contains(begins) => {
                complaints.push(format!("{room}/{file}: the bytes of {publisher} are not there"));
            }
            Ok(_) if !core.join(room).join("tests/vectors.rs").exists() => {
                complaints.push(format!("{room}: vectors, but no tests/vectors.rs that reads them"));
            }
            Ok(_) => {}
        }
    }
    for room in layout::list(core) {
        let folder = core.join(&room).join("vectors");
        let files = if folder.is_dir() { layout::list(&folder) } else { Vec::new() };
        let strangers = files.iter().filter(|file| !index.iter().any(|row| (row.0, row.1) == (&room, file)));
        complaints
            .extend(strangers.map(|file| format!("{room}/{file}: whose is it? It has no row in the index")));
    }
    complaints
}

#[test]
fn every_room_carries_the_vectors_that_others_published() {
    assert_eq!(complaints(&root().join("core"), INDEX), Vec::<String>::new());
}

#[test]
fn a_lost_an_altered_and_an_unknown_vector_are_noticed() {
    let core = root().join("core");
    let with = |row: Row| complaints(&core, &[INDEX, &[row]].concat());
    let [lost] = &with(("stun", "lost.txt", "nobody", ""))[..] else { panic!("one is lost") };
    assert!(lost.contains("lost.txt"), "{lost}");
    let [altered] = &with(("stun", INDEX[0].1, "RFC 5769 §2.1", "000100582112a443"))[..] else {
        panic!("one is altered")
    };
    assert!(altered.contains("not there"), "{altered}");
    let [unknown] = &complaints(&core, &INDEX[1..])[..] else { panic!("one is unknown") };
    assert!(unknown.contains("whose is it"), "{unknown}");
}

//! The house rules. Each is asked twice: of the tree, where it must find nothing, and of a planted
//! violation, where it must find it. Run with `cargo tidy`.

use gimlet_conformance::tidy::sizes::Exception;
use gimlet_conformance::tidy::{
    Complaint, Source, closure, edges, headers, layout, root, sizes, sources, words,
};

/// Functions over the limit. This list may only shrink.
const LONG_FUNCTIONS: &[Exception] = &[];
/// Structs with more fields than the limit. This list may only shrink.
const WIDE_STRUCTS: &[Exception] = &[];
/// Structs with more flags than the limit. This list may only shrink.
const FLAGGED_STRUCTS: &[Exception] = &[Exception {
    path: "fuzz/src/ice_agent/world.rs",
    name: "Side",
    size: 3,
    why: "a model of one agent: independent facts, each of which another invariant asks for",
}];
/// What files under `core/` may name although machines may not. This list may only shrink.
const OUTSIDE_THE_CORE: &[(&str, &str)] = &[
    // quinn-proto and rustls ask their owner what time it is, in std's types. The answer is computed from
    // the `Instant` that was handed in.
    ("core/quic/src/clock.rs", "SystemTime"),
    ("core/quic/src/clock.rs", "UNIX_EPOCH"),
    // Std's instant cannot be had from anything but the clock. These tests take one as their origin and
    // look only at differences from it.
    ("core/node/src/hostile_tests.rs", "Instant::now"),
    ("core/quic/src/testing.rs", "Instant::now"),
    ("core/quic/tests/quic/world.rs", "Instant::now"),
    // Test equipment, which nothing but tests depends on: committed state graphs are read, and rewritten on
    // request.
    ("core/testkit/src/graph.rs", "std::env"),
    ("core/testkit/src/graph.rs", "std::fs"),
];

fn assert_tidy(complaints: &[Complaint]) {
    let lines: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} broken rules:\n{}", lines.len(), lines.join("\n"));
}

/// A canary: exactly one complaint, at this place, with these words in it.
fn assert_noticed(complaints: &[Complaint], place: &str, words: &str) {
    let [complaint] = complaints else { panic!("one violation was planted: {complaints:?}") };
    assert!(complaint.place.starts_with(place) && complaint.what.contains(words), "{complaint}");
}

fn plant(path: &str, text: &str) -> [Source; 1] {
    [Source::planted(path, text)]
}

#[test]
fn the_tree_is_found() {
    let sources = sources();
    for path in ["core/machine/src/lib.rs", "conformance/tests/tidy.rs"] {
        assert!(sources.iter().any(|source| source.path == path), "{path}");
    }
}

#[test]
fn files_hold_at_most_800_production_lines() {
    assert_tidy(&sizes::files(&sources()));
    let long = "const A: u8 = 0;\n".repeat(sizes::FILE_LINES_MAX) + "const B: u8 = 0;\n";
    assert_noticed(
        &sizes::files(&plant("core/x/src/y.rs", &long)),
        "core/x/src/y.rs",
        "801 production lines",
    );
    let tested = "#[cfg(test)]\nmod tests {\n".to_owned() + &long + "}\n";
    assert_tidy(&sizes::files(&plant("core/x/src/y.rs", &tested)));
    assert_tidy(&sizes::files(&plant("core/x/src/y_tests.rs", &long)));
}

#[test]
fn functions_fit_a_screen() {
    assert_tidy(&sizes::functions(&sources(), LONG_FUNCTIONS));
    let long = "impl A {\n    fn b() {\n".to_owned() + &"        c();\n".repeat(69) + "    }\n}\n";
    let planted = plant("core/x/src/y.rs", &long);
    assert_noticed(&sizes::functions(&planted, &[]), "core/x/src/y.rs:2", "`b` has 71 lines");
    let excused = Exception { path: "core/x/src/y.rs", name: "b", size: 71, why: "canary" };
    assert_tidy(&sizes::functions(&planted, &[excused]));
    let grown = Exception { size: 70, ..excused };
    assert_eq!(sizes::functions(&planted, &[grown]).len(), 2, "it grew, and the exception is wrong");
    let stale = Exception { name: "gone", ..excused };
    assert_noticed(&sizes::functions(&[], &[stale]), "core/x/src/y.rs", "`gone`");
}

#[test]
fn structs_have_at_most_12_fields() {
    assert_tidy(&sizes::fields(&sources(), WIDE_STRUCTS));
    let wide = format!("struct Wide({});\n", "u8,".repeat(13));
    assert_noticed(&sizes::fields(&plant("core/x/src/y.rs", &wide), &[]), "core/x/src/y.rs:1", "13 fields");
}

#[test]
fn structs_have_at_most_2_flags() {
    assert_tidy(&sizes::bools(&sources(), FLAGGED_STRUCTS));
    let flagged = "struct Flagged { a: bool, b: bool, c: bool }\n";
    assert_noticed(&sizes::bools(&plant("core/x/src/y.rs", flagged), &[]), "core/x/src/y.rs:1", "3 bools");
}

#[test]
fn names_say_what_things_are() {
    assert_tidy(&words::names(&sources()));
    let name = |text| words::names(&plant("core/x/src/y.rs", text));
    assert_noticed(&name("struct PathManager;"), "core/x/src/y.rs:1", "manager");
    assert_noticed(&name("mod common {}"), "core/x/src/y.rs:1", "common");
    assert_noticed(&name("fn send_helper() {}"), "core/x/src/y.rs:1", "helper");
    assert_noticed(&name("trait T { fn get_peer(&self); }"), "core/x/src/y.rs:1", "a getter is a noun");
    assert_tidy(&name("#[test]\nfn both_take_the_newest_common_version() {}"));
    assert_tidy(&name("fn utilise() {}\nstruct Commonwealth;\nfn get(get_it: u8) {}"));
    assert_noticed(&words::names(&plant("core/x/src/utils.rs", "")), "core/x/src/utils.rs", "utils");
    assert_noticed(&words::names(&plant("core/x/src/y/mod.rs", "")), "core/x/src/y/mod.rs", "not `mod.rs`");
    assert_tidy(&words::names(&plant("drivers/stoffelnet/src/y.rs", "struct QuicNetworkManager;")));
}

#[test]
fn nothing_is_unfinished() {
    assert_tidy(&words::unfinished(&sources()));
    for mark in [concat!("// TO", "DO: later"), concat!("    unimplement", "ed!()"), concat!("#[ign", "ore]")]
    {
        let planted = plant("core/x/src/y.rs", &format!("fn a() {{}}\n{mark}\n"));
        assert_noticed(&words::unfinished(&planted), "core/x/src/y.rs:2", "finish it");
    }
}

#[test]
fn the_core_names_no_clock_socket_thread_or_environment() {
    assert_tidy(&words::outside_the_core(&sources(), OUTSIDE_THE_CORE));
    let core = |text| words::outside_the_core(&plant("core/x/src/y.rs", text), &[]);
    assert_noticed(&core("fn a() { let b = std::time::Instant::now(); }"), "core/x/src/y.rs", "Instant::now");
    assert_noticed(&core("use std::env;"), "core/x/src/y.rs", "std::env");
    assert_noticed(&core("fn a() { b(std :: thread :: current().id()) }"), "core/x/src/y.rs", "std::thread");
    assert_tidy(&core("//! Never calls `Instant::now`.\nconst A: &str = \"SystemTime\"; // std::env"));
    let stale = words::outside_the_core(&[], &[("core/x/src/y.rs", "SystemTime")]);
    assert_noticed(&stale, "core/x/src/y.rs", "strike the exception");
    assert_tidy(&core("#[cfg(test)]\nmod tests { use std::fs; }"));
    assert_noticed(&core("#[cfg(test)]\nmod tests { use std::thread; }"), "core/x/src/y.rs", "std::thread");
    let driver = plant("drivers/x/src/y.rs", "fn a() { let b = std::time::Instant::now(); }");
    assert_tidy(&words::outside_the_core(&driver, &[]));
}

#[test]
fn libraries_begin_with_a_page_of_prose_and_hold_only_exports() {
    assert_tidy(&headers::libraries(&sources()));
    let header = "//! a\n".repeat(9) + "//! # What it deliberately does not do\n//! ```\n//! ```\n";
    let promises = "#![no_std]\n#![forbid(unsafe_code)]\n#![deny(missing_docs)]\n";
    let library = |path, text: &str| headers::libraries(&plant(path, text));
    let good = header.clone() + promises + "mod b;\npub use b::B;\n";
    let place = "core/x/src/lib.rs";
    assert_tidy(&library(place, &good));
    assert_noticed(
        &library(place, &(good.clone() + "fn a() {}\n")),
        "core/x/src/lib.rs:18",
        "prose and exports",
    );
    assert_noticed(&library(place, &good.replace("#![no_std]\n", "")), place, "no_std");
    assert_noticed(&library(place, &good.replace("unsafe_code", "x")), place, "unsafe_code");
    assert_noticed(&library(place, &good.replace("missing_docs", "x")), place, "missing_docs");
    assert_noticed(&library(place, &good.replace("does not do", "does")), place, "does not do");
    assert_noticed(&library(place, &good.replace("```", "")), place, "no example");
    assert_noticed(&library("drivers/x/src/lib.rs", "//! does not do\n"), "drivers/x", "page of prose");
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let members = edges::members(&root());
    assert!(
        members.iter().any(|member| member.folder == "core/ice" && !member.ours.is_empty()),
        "{members:?}"
    );
    assert_tidy(&edges::edges(&members));
    let member = |folder: &str, used: &str| edges::Member {
        folder: folder.to_owned(),
        ours: vec![used.to_owned()],
        others: vec!["leftpad".to_owned()],
        features: vec!["extra".to_owned()],
    };
    assert_noticed(&edges::edges(&[member("core/frame", "core/stun")]), "core/frame", "core/stun");
    assert_noticed(&edges::edges(&[member("core/node", "core/testkit")]), "core/node", "core/testkit");
    assert_noticed(&edges::edges(&[member("drivers/mio", "core/node")]), "drivers/mio", "core/node");
    assert_noticed(&edges::edges(&[member("core/stranger", "core/wire")]), "core/stranger", "no row");
    assert_tidy(&edges::edges(&[member("core/ice", "core/stun"), member("core/node", "core/ice")]));

    assert_tidy(&edges::features(&members));
    assert_noticed(&edges::features(&[member("core/ice", "core/stun")]), "core/ice", "extra");

    let page = std::fs::read_to_string(root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    assert_tidy(&edges::reasons(&members, &page));
    assert_noticed(&edges::reasons(&[member("core/ice", "core/stun")], &page), "core/ice", "leftpad");
}

#[test]
fn the_core_links_nothing_that_calls_the_operating_system() {
    let members = edges::members(&root());
    let core = members.iter().filter_map(|member| member.folder.strip_prefix("core/"));
    let mut judged = 0;
    for package in core.map(|name| format!("gimlet-{name}")) {
        let tree = closure::of(&root(), &package);
        assert_eq!(tree.first().map(|node| node.name.as_str()), Some(package.as_str()));
        assert_tidy(&closure::operating_system(&tree));
        judged += 1;
    }
    assert!(judged >= closure::NO_STD.len(), "{judged} crates were judged");
    let planted = closure::parse("0 gimlet-x v1 []\n1 bytes v1 []\n2 mio v1 [net]\n");
    assert_noticed(&closure::operating_system(&planted), "gimlet-x", "mio");
    let excepted = closure::parse("0 gimlet-x v1 []\n1 rustls v1 []\n2 libc v1 []\n1 libc v1 []\n");
    assert_noticed(&closure::operating_system(&excepted), "gimlet-x", "libc");
}

#[test]
fn the_protocol_crates_enable_std_nowhere() {
    for package in closure::NO_STD {
        assert_tidy(&closure::std_features(&closure::of(&root(), package)));
    }
    let planted = closure::parse("0 gimlet-x v1 []\n1 bytes v1.12.1 [default,std]\n");
    assert_noticed(&closure::std_features(&planted), "gimlet-x", "`std` of `bytes`");
}

#[test]
fn the_top_of_the_tree_holds_what_it_should() {
    let names = layout::list(&root());
    assert_tidy(&layout::top(&names));
    let with = [names.clone(), vec!["scripts".to_owned()]].concat();
    assert_noticed(&layout::top(&with), "scripts", "does not belong");
    let without: Vec<String> = names.into_iter().filter(|name| name != "README.md").collect();
    assert_noticed(&layout::top(&without), "README.md", "not there");
    for folder in ["core", "drivers"] {
        assert_tidy(&layout::crates(folder, &layout::list(&root().join(folder))));
    }
    assert_noticed(&layout::crates("core", &["toolbox".to_owned()]), "core/toolbox", "no row");
}

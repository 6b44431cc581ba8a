//! What the first page of a crate has to say.

use super::{Complaint, Source, is_cfg_test, lines};

/// The words that begin the most useful section of a header.
const OMISSIONS: &str = "does not do";

/// Crates under `core/` that stand on quinn-proto and so on std. All others there are `no_std`.
const STD_IN_CORE: [&str; 3] = ["core/quic", "core/node", "core/testkit"];

/// Judges every `lib.rs` that belongs to a crate: prose that says what the crate leaves out, exports,
/// and nothing else; under `core/` also the attributes that keep the promises of `core/README.md`.
pub fn libraries(sources: &[Source]) -> Vec<Complaint> {
    let libraries = sources.iter().filter(|source| source.path.ends_with("/src/lib.rs"));
    libraries.flat_map(library).collect()
}

fn library(source: &Source) -> Vec<Complaint> {
    let file = source.syntax();
    let mut complaints = Vec::new();
    let mut complain = |line: usize, what: &str| {
        complaints.push(Complaint::new(format!("{}:{line}", source.path), what));
    };
    let prose: Vec<&str> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
    if prose.len() < 10 {
        complain(1, "a library begins with a page of prose (`//!`)");
    }
    let prose = prose.join("\n");
    if !prose.contains(OMISSIONS) {
        complain(1, "the header has no section about what the crate deliberately does not do");
    }
    for item in &file.items {
        let is_export = match item {
            syn::Item::Use(_) | syn::Item::ExternCrate(_) => true,
            syn::Item::Mod(module) => module.content.is_none() || is_cfg_test(&module.attrs),
            _ => false,
        };
        if !is_export {
            complain(lines(item).0, "`lib.rs` is prose and exports; code lives in a module");
        }
    }
    if source.is_under("core") {
        for (line, what) in core_promises(source, &file, &prose) {
            complain(line, &what);
        }
    }
    complaints
}

fn core_promises(source: &Source, file: &syn::File, prose: &str) -> Vec<(usize, String)> {
    let has = |name: &str, argument: Option<&str>| {
        file.attrs.iter().any(|attribute| {
            attribute.path().is_ident(name)
                && argument.is_none_or(|wanted| {
                    attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident(wanted))
                })
        })
    };
    let wants_no_std = !STD_IN_CORE.iter().any(|crate_| source.is_under(crate_));
    let promises = [
        (has("forbid", Some("unsafe_code")), "`#![forbid(unsafe_code)]` is missing"),
        (has("deny", Some("missing_docs")), "`#![deny(missing_docs)]` is missing"),
        (!wants_no_std || has("no_std", None), "`#![no_std]` is missing"),
        (prose.contains("```"), "the header has no example"),
    ];
    promises.into_iter().filter(|(kept, _)| !kept).map(|(_, what)| (1, what.to_owned())).collect()
}

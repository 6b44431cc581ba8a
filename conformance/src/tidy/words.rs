//! What no file may say.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::visit::{self, Visit};

use super::{Complaint, Source, attributes_of, is_cfg_test};

/// Words that say nothing about what a thing is, as whole words of a name in any case.
const EMPTY_WORDS: [&str; 8] = ["manager", "util", "utils", "helper", "helpers", "common", "misc", "stuff"];

/// What a machine cannot have: a clock, entropy, sockets, threads. Looked for in all code under `core/`,
/// but not in comments or string literals.
const OUTSIDE_THE_CORE: [&str; 10] = [
    "Instant::now",
    "SystemTime",
    "UNIX_EPOCH",
    "thread_rng",
    "OsRng",
    "getrandom",
    "std::net::Udp",
    "std::net::Tcp",
    "UdpSocket",
    "std::thread",
];

/// What only tests may have, which read their vectors from files and rewrite them on request.
const TESTS_ONLY: [&str; 2] = ["std::env", "std::fs"];

/// Marks of unfinished work, pieced together so that this file does not contain them.
const UNFINISHED: [&str; 6] = [
    concat!("to", "do!"),
    concat!("unimplement", "ed!"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("#[ign", "ore"),
];

/// Unfinished work, in code and in comments alike.
pub fn unfinished(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            for mark in UNFINISHED.iter().filter(|mark| line.contains(**mark)) {
                let place = format!("{}:{}", source.path, number + 1);
                complaints.push(Complaint::new(place, format!("`{mark}`: finish it or leave it out")));
            }
        }
    }
    complaints
}

/// Clocks, entropy, sockets, threads, files and the environment in crates under `core/`.
/// `exceptions` are pairs of a file and what it may name; one that is not needed is a complaint too.
pub fn outside_the_core(sources: &[Source], exceptions: &[(&str, &str)]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut unused = exceptions.to_vec();
    for source in sources.iter().filter(|source| source.is_under("core")) {
        let mut file = source.syntax();
        let code = code_without_spaces(file.to_token_stream());
        file.items.retain(|item| !source.is_test() && !is_cfg_test(attributes_of(item)));
        let production = code_without_spaces(file.to_token_stream());
        let named = OUTSIDE_THE_CORE.iter().filter(|name| code.contains(**name));
        for name in named.chain(TESTS_ONLY.iter().filter(|name| production.contains(**name))) {
            let used = |exception: &(&str, &str)| *exception == (source.path.as_str(), *name);
            if !exceptions.iter().any(used) {
                let what = format!("names `{name}`; what it stands for is handed in by the owner");
                complaints.push(Complaint::new(&source.path, what));
            }
            unused.retain(|exception| !used(exception));
        }
    }
    let stale = |(path, name): (&str, &str)| {
        Complaint::new(path, format!("does not name `{name}`: strike the exception"))
    };
    complaints.extend(unused.into_iter().map(stale));
    complaints
}

/// Names with empty words, getters named `get_…`, and modules in `mod.rs`. The names of tests are
/// sentences, in which any word may be right; the drop-in crate keeps the names of the library that it
/// stands in for.
pub fn names(sources: &[Source]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !source.is_under("drivers/stoffelnet")) {
        if source.stem() == "mod" {
            complaints.push(Complaint::new(
                &source.path,
                "a module is `name.rs` with a folder `name`, not `mod.rs`",
            ));
        }
        let mut found = Names::default();
        found.0.push((0, source.stem().to_owned()));
        found.visit_file(&source.syntax());
        for (line, name) in found.0 {
            let place = || format!("{}:{line}", source.path);
            if let Some(word) = words(&name).into_iter().find(|word| EMPTY_WORDS.contains(&word.as_str())) {
                let what = format!("`{name}`: \"{word}\" does not say what it is");
                complaints.push(Complaint::new(place(), what));
            }
            if name.starts_with("get_") && name != "get_mut" {
                complaints.push(Complaint::new(place(), format!("`{name}`: a getter is a noun")));
            }
        }
    }
    complaints
}

/// The text of all tokens except literals, with paths closed up: `Instant :: now` is `Instant::now`.
fn code_without_spaces(tokens: TokenStream) -> String {
    let mut code = String::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                code.push(' ');
                code.push_str(&code_without_spaces(group.stream()));
                code.push(' ');
            }
            TokenTree::Ident(ident) => {
                if code.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                    code.push(' ');
                }
                code.push_str(&ident.to_string());
            }
            TokenTree::Punct(punct) => code.push(punct.as_char()),
            TokenTree::Literal(_) => code.push(' '),
        }
    }
    code
}

/// `NatManager2` and `nat_manager` are both `["nat", "manager"]`, give or take the number.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() || letter.is_numeric() {
            words.push(String::new());
        }
        if letter.is_alphabetic() {
            words.last_mut().expect("never empty").extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[derive(Default)]
struct Names(Vec<(usize, String)>);

impl Names {
    fn push(&mut self, ident: &syn::Ident) {
        self.0.push((ident.span().start().line, ident.to_string()));
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_cfg_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }
    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.push(&signature.ident);
        visit::visit_signature(self, signature);
    }
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.push(&item.ident);
    }
    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.push(&item.ident);
    }
    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.push(&item.ident);
        visit::visit_item_trait(self, item);
    }
    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.push(&item.ident);
    }
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.push(&item.ident);
        visit::visit_item_mod(self, item);
    }
}

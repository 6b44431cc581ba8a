//! The house rules as functions: sources in, complaints out.
//!
//! Every rule takes what it judges as an argument, so that `tests/tidy.rs` can run it twice: over the
//! tree, where it must find nothing, and over a planted violation, where it must find something.

pub mod closure;
pub mod edges;
pub mod headers;
pub mod layout;
pub mod sizes;
pub mod words;

use std::fmt;
use std::path::{Path, PathBuf};

/// A broken rule: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// A path from the top of the tree, with a line where there is one, or the name of a crate.
    pub place: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl Complaint {
    pub(crate) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// One file of Rust.
#[derive(Clone, Debug)]
pub struct Source {
    /// From the top of the tree, with forward slashes: `core/stun/src/message.rs`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Source {
    /// A file that exists only in a test.
    pub fn planted(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// Whether the whole file is test code, going by its place and name: what lies in a `tests`
    /// folder, `tests.rs`, or `something_tests.rs`.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
            || self.path.ends_with("_tests.rs")
    }

    /// Whether the file belongs to a crate below `folder`, which is `core` or `drivers/stoffelnet`.
    pub fn is_under(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The name without folders and without `.rs`.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.strip_suffix(".rs").unwrap_or(name)
    }

    /// The parsed file.
    ///
    /// # Panics
    ///
    /// If the text is not Rust: then it does not compile either.
    pub fn syntax(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.path))
    }
}

/// The top of the tree that this crate was built from.
pub fn root() -> PathBuf {
    let conformance = Path::new(env!("CARGO_MANIFEST_DIR"));
    conformance.parent().expect("the crate lies in the tree").to_path_buf()
}

/// Every `.rs` file of the tree, in path order. Build output and hidden folders are not part of it.
///
/// # Panics
///
/// If a folder or file cannot be read.
pub fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    visit(&root(), &root(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn visit(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable folder entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                visit(root, &path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let inside = path.strip_prefix(root).expect("below the root");
            found.push(Source { path: inside.to_string_lossy().replace('\\', "/"), text });
        }
    }
}

/// Whether an item is compiled for tests only.
fn is_cfg_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// The first and last line of a piece of syntax.
fn lines(piece: &impl syn::spanned::Spanned) -> (usize, usize) {
    let span = piece.span();
    (span.start().line, span.end().line)
}

/// How many lines of the file are not compiled for tests only. Comments and blank lines count: they
/// have to be read too.
fn production_lines(file: &syn::File, text: &str) -> usize {
    let all = text.lines().count();
    let tests = file.items.iter().filter(|item| is_cfg_test(attributes_of(item)));
    all - tests.map(lines).map(|(first, last)| last - first + 1).sum::<usize>()
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

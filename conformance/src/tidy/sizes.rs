//! How big a thing may get before it has to become two things.

use syn::visit::{self, Visit};

use super::{Complaint, Source, is_cfg_test, production_lines};

/// Production lines of one file. Test code is not counted.
pub const FILE_LINES_MAX: usize = 800;
/// Lines of one function, from `fn` to its closing brace: a screen.
pub const FUNCTION_LINES_MAX: usize = 70;
/// Fields of one struct. Over that, a smaller machine wants out.
pub const FIELDS_MAX: usize = 12;
/// Flags in one struct. A flag that is valid in one phase belongs in that phase's variant.
pub const BOOLS_MAX: usize = 2;

/// Something that is over a limit and may not grow. The list of them may only shrink: an exception
/// that is no longer needed, or allows more than is there, is a complaint of its own.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// The file.
    pub path: &'static str,
    /// The function or struct.
    pub name: &'static str,
    /// Its size: lines, fields or flags.
    pub size: usize,
    /// Why it is that big.
    pub why: &'static str,
}

/// Files of more than [`FILE_LINES_MAX`] production lines.
pub fn files(sources: &[Source]) -> Vec<Complaint> {
    let production = sources.iter().filter(|source| !source.is_test());
    production
        .filter_map(|source| {
            let lines = production_lines(&source.syntax(), &source.text);
            let what = format!("{lines} production lines; a file holds at most {FILE_LINES_MAX}: split it");
            (lines > FILE_LINES_MAX).then(|| Complaint::new(&source.path, what))
        })
        .collect()
}

/// Functions of more than [`FUNCTION_LINES_MAX`] lines that `exceptions` does not allow.
pub fn functions(sources: &[Source], exceptions: &[Exception]) -> Vec<Complaint> {
    let judge = Judge { unit: "lines", limit: FUNCTION_LINES_MAX, exceptions };
    judge.complaints(sources, |found| &found.functions)
}

/// Structs of more than [`FIELDS_MAX`] fields that `exceptions` does not allow.
pub fn fields(sources: &[Source], exceptions: &[Exception]) -> Vec<Complaint> {
    let judge = Judge { unit: "fields", limit: FIELDS_MAX, exceptions };
    judge.complaints(sources, |found| &found.fields)
}

/// Structs of more than [`BOOLS_MAX`] `bool` fields that `exceptions` does not allow.
pub fn bools(sources: &[Source], exceptions: &[Exception]) -> Vec<Complaint> {
    let judge = Judge { unit: "bools", limit: BOOLS_MAX, exceptions };
    judge.complaints(sources, |found| &found.bools)
}

struct Judge<'a> {
    unit: &'static str,
    limit: usize,
    exceptions: &'a [Exception],
}

impl Judge<'_> {
    fn complaints(&self, sources: &[Source], pick: impl Fn(&Measured) -> &Vec<Found>) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut used = Vec::new();
        for source in sources.iter().filter(|source| !source.is_test()) {
            let mut measured = Measured::default();
            measured.visit_file(&source.syntax());
            for Found { name, line, size } in pick(&measured).iter().filter(|found| found.size > self.limit) {
                let allowed = self.exceptions.iter().position(|e| e.path == source.path && e.name == name);
                let allowance = allowed.map_or(self.limit, |index| self.exceptions[index].size);
                used.extend(allowed.filter(|index| self.exceptions[*index].size == *size));
                if *size > allowance {
                    let what = format!("`{name}` has {size} {}; at most {allowance}", self.unit);
                    complaints.push(Complaint::new(format!("{}:{line}", source.path), what));
                }
            }
        }
        let stale = self.exceptions.iter().enumerate().filter(|(index, _)| !used.contains(index));
        complaints.extend(stale.map(|(_, e)| {
            let what = format!(
                "the exception for `{}` allows {} {}, which it does not have",
                e.name, e.size, self.unit
            );
            Complaint::new(e.path, what)
        }));
        complaints
    }
}

struct Found {
    name: String,
    line: usize,
    size: usize,
}

#[derive(Default)]
struct Measured {
    functions: Vec<Found>,
    fields: Vec<Found>,
    bools: Vec<Found>,
}

impl Measured {
    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let line = signature.fn_token.span.start().line;
        let last = body.brace_token.span.close().end().line;
        self.functions.push(Found { name: signature.ident.to_string(), line, size: last - line + 1 });
    }
}

impl<'ast> Visit<'ast> for Measured {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_cfg_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_cfg_test(&function.attrs) {
            self.function(&function.sig, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.function(&function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let name = item.ident.to_string();
        let line = item.struct_token.span.start().line;
        let is_bool =
            |field: &&syn::Field| matches!(&field.ty, syn::Type::Path(ty) if ty.path.is_ident("bool"));
        self.fields.push(Found { name: name.clone(), line, size: item.fields.len() });
        self.bools.push(Found { name, line, size: item.fields.iter().filter(is_bool).count() });
    }
}

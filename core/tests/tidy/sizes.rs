//! What fits on a page and into a head: lines of a file and of a function, fields of a type.

use std::path::PathBuf;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::{name, none, read, tracked};

/// Lines of a file: one idea fits into them.
const FILE_LINES_MAX: usize = 500;

/// Lines of a function: it fits on a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Fields of a type. What has more says why, in a comment above it that begins with `WHY_MANY`.
const FIELDS_MAX: usize = 12;

const WHY_MANY: &str = "// Many fields: ";

#[test]
fn no_source_file_is_long() {
    let lines = |path: &PathBuf| read(path).lines().count();
    let long = tracked(".rs")
        .into_iter()
        .map(|path| (lines(&path), path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX);
    none(
        &long
            .map(|(lines, path)| format!("{} has {lines} lines", name(&path)))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_function_is_long() {
    let measured = measure();
    let long = measured.functions.iter();
    none(
        &long
            .filter(|(_, lines)| *lines > FUNCTION_LINES_MAX)
            .map(|(place, lines)| format!("{place} has {lines} lines"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn a_type_of_many_fields_says_why() {
    let measured = measure();
    let wide = measured.types.iter();
    none(
        &wide
            .filter(|(_, fields, why)| *fields > FIELDS_MAX && !why)
            .map(|(place, fields, _)| {
                format!("{place} has {fields} fields and no comment {WHY_MANY:?}")
            })
            .collect::<Vec<_>>(),
    );
}

/// What was found in all sources.
#[derive(Default)]
struct Measured {
    /// The file that is read.
    file: String,
    lines: Vec<String>,
    /// Where, and how many lines.
    functions: Vec<(String, usize)>,
    /// Where, how many fields, and whether a comment says why.
    types: Vec<(String, usize, bool)>,
}

fn measure() -> Measured {
    let mut measured = Measured::default();
    let sources = tracked(".rs");
    for path in &sources {
        let source = read(path);
        let parsed =
            syn::parse_file(&source).unwrap_or_else(|error| panic!("{}: {error}", name(path)));
        measured.file = name(path);
        measured.lines = source.lines().map(str::to_owned).collect();
        measured.visit_file(&parsed);
    }
    assert!(sources.is_empty() || measured.functions.len() > 1000);
    assert!(sources.is_empty() || measured.types.len() > 100);
    measured
}

impl Measured {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (from, to) = (signature.span().start().line, block.span().end().line);
        let place = format!("{}:{from} {}", self.file, signature.ident);
        self.functions.push((place, to - from + 1));
    }

    /// Whether the comments and attributes right above this line say why there are so many fields.
    fn says_why(&self, line: usize) -> bool {
        let above = self.lines[..line - 1].iter().rev();
        above
            .map(|line| line.trim_start())
            .take_while(|line| line.starts_with("//") || line.starts_with('#'))
            .any(|line| line.starts_with(WHY_MANY))
    }
}

impl<'ast> Visit<'ast> for Measured {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let line = item.struct_token.span().start().line;
        let place = format!("{}:{line} {}", self.file, item.ident);
        let why = self.says_why(line);
        self.types.push((place, item.fields.len(), why));
        visit::visit_item_struct(self, item);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        let line = variant.ident.span().start().line;
        let place = format!("{}:{line} {}", self.file, variant.ident);
        let why = self.says_why(line);
        self.types.push((place, variant.fields.len(), why));
        visit::visit_variant(self, variant);
    }
}

//! The modules of a crate as its sources declare them, and which names another: what the compiler sees, without tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The names of a path, from the crate's root.
pub(crate) type Names = Vec<String>;

/// How often a name may lead on to another one: more is a circle of re-exports, which no compiler takes.
const EXPORTS_DEEP: usize = 16;

/// One file of a crate.
pub(crate) struct Module {
    pub(crate) file: PathBuf,
    /// What a `use` of it makes known under a name of its own.
    exports: HashMap<String, Names>,
    /// Every path that it names, from the crate's root.
    named: Vec<Names>,
}

/// A crate's files by the name of their module.
pub(crate) struct Tree {
    pub(crate) modules: BTreeMap<Names, Module>,
}

impl Tree {
    /// Follows the `mod` declarations from a crate's root file.
    pub(crate) fn load(root: &Path) -> Self {
        let mut tree = Self {
            modules: BTreeMap::new(),
        };
        let beside = root.parent().expect("a file has a folder").to_owned();
        tree.load_module(root, &Vec::new(), &beside);
        tree
    }

    /// Which modules each one needs, with the names that it takes from them.
    pub(crate) fn edges(&self) -> BTreeMap<&Names, BTreeMap<&Names, BTreeSet<String>>> {
        let mut edges: BTreeMap<_, BTreeMap<_, BTreeSet<String>>> = BTreeMap::new();
        for (name, module) in &self.modules {
            let needs = edges.entry(name).or_default();
            for path in &module.named {
                if let Some(to) = self.owner(path, 0)
                    && to != name
                {
                    let what = path.last().cloned().unwrap_or_default();
                    needs.entry(to).or_default().insert(what);
                }
            }
        }
        edges
    }

    /// The file that defines what this path names. None if that is only a module, as its name alone needs nothing of it.
    fn owner(&self, path: &[String], depth: usize) -> Option<&Names> {
        let length = (0..=path.len()).rev();
        let (name, module, rest) = length
            .filter_map(|length| {
                let (name, module) = self.modules.get_key_value(&path[..length])?;
                Some((name, module, &path[length..]))
            })
            .next()?;
        let first = rest.first()?;
        match module.exports.get(first) {
            Some(target) if depth < EXPORTS_DEEP => {
                let further = [target, &rest[1..]].concat();
                if self.modules.contains_key(&further) {
                    return None;
                }
                self.owner(&further, depth + 1)
            }
            _ => Some(name),
        }
    }

    fn load_module(&mut self, file: &Path, name: &Names, children: &Path) {
        let source = std::fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let parsed =
            syn::parse_file(&source).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reader = Reader::new(name.clone());
        reader.declare(&parsed.items, name);
        reader.visit_file(&parsed);
        let (exports, named) = reader.finish();
        let module = Module {
            file: file.to_owned(),
            exports,
            named,
        };
        self.modules.insert(name.clone(), module);
        self.load_children(&parsed.items, file, name, children);
    }

    fn load_children(&mut self, items: &[syn::Item], file: &Path, name: &Names, children: &Path) {
        for item in items {
            let syn::Item::Mod(module) = item else {
                continue;
            };
            if is_test(&module.attrs) {
                continue;
            }
            let ident = module.ident.to_string();
            let child = [name.as_slice(), std::slice::from_ref(&ident)].concat();
            let folder = children.join(&ident);
            if let Some((_, inner)) = &module.content {
                self.load_children(inner, file, &child, &folder);
            } else if let Some(named) = path_attribute(&module.attrs) {
                let path = file.parent().expect("a file has a folder").join(named);
                let beside = path.parent().expect("a file has a folder").to_owned();
                self.load_module(&path, &child, &beside);
            } else {
                let beside = children.join(format!("{ident}.rs"));
                let path = if beside.is_file() {
                    beside
                } else {
                    folder.join("mod.rs")
                };
                self.load_module(&path, &child, &folder);
            }
        }
    }
}

/// The value of `#[path = "…"]`.
fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|a| a.path().is_ident("path"))?;
    let syn::Meta::NameValue(pair) = &attribute.meta else {
        return None;
    };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(text),
            ..
        }) => Some(text.value()),
        _ => None,
    }
}

/// Whether an item is there only for the tests of its own crate.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

/// Reads what one file names.
struct Reader {
    /// The file's module.
    file: Names,
    /// Where the visitor is: the file's module, or one inside of the file.
    here: Names,
    /// Modules and items that each module of this file declares.
    declared: BTreeMap<Names, BTreeSet<String>>,
    /// What `use` makes known, by name.
    aliases: HashMap<String, Names>,
    /// Every path as written, and the module in which it is.
    written: Vec<(Names, Names)>,
}

impl Reader {
    fn new(file: Names) -> Self {
        Self {
            here: file.clone(),
            file,
            declared: BTreeMap::new(),
            aliases: HashMap::new(),
            written: Vec::new(),
        }
    }

    /// Notes the modules that these items declare.
    fn declare(&mut self, items: &[syn::Item], name: &Names) {
        for item in items {
            if let syn::Item::Mod(module) = item
                && !is_test(&module.attrs)
            {
                let ident = module.ident.to_string();
                let child = [name.as_slice(), std::slice::from_ref(&ident)].concat();
                self.declared.entry(name.clone()).or_default().insert(ident);
                if let Some((_, inner)) = &module.content {
                    self.declare(inner, &child);
                }
            }
        }
    }

    fn finish(self) -> (HashMap<String, Names>, Vec<Names>) {
        let paths = self.written.iter();
        let named = paths.filter_map(|(here, path)| self.absolute(here, path, 0));
        (self.aliases.clone(), named.collect())
    }

    /// A path from the crate's root. None if it leads out of the crate, or to something of this scope.
    fn absolute(&self, here: &Names, path: &[String], depth: usize) -> Option<Names> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([here.as_slice(), rest].concat()),
            "super" => {
                let parent = &here[..here.len().checked_sub(1)?];
                let mut at = parent.to_vec();
                let mut rest = rest;
                while let Some((next, further)) = rest.split_first()
                    && next == "super"
                {
                    at.pop()?;
                    rest = further;
                }
                Some([at.as_slice(), rest].concat())
            }
            name if self.declared.get(here).is_some_and(|d| d.contains(name)) => {
                Some([here.as_slice(), path].concat())
            }
            name => match self.aliases.get(name) {
                Some(target) if depth == 0 && !rest.is_empty() => {
                    Some([target.as_slice(), rest].concat())
                }
                _ => None,
            },
        }
    }

    /// Takes a `use` apart: each name that it makes known, and the path behind it.
    fn flatten(tree: &syn::UseTree, before: &Names, found: &mut Vec<(Option<String>, Names)>) {
        let with = |ident: &syn::Ident| [before.as_slice(), &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => Self::flatten(&path.tree, &with(&path.ident), found),
            syn::UseTree::Name(name) if name.ident == "self" => {
                found.push((before.last().cloned(), before.clone()));
            }
            syn::UseTree::Name(name) => {
                found.push((Some(name.ident.to_string()), with(&name.ident)));
            }
            syn::UseTree::Rename(renamed) => {
                let target = if renamed.ident == "self" {
                    before.clone()
                } else {
                    with(&renamed.ident)
                };
                found.push((Some(renamed.rename.to_string()), target));
            }
            syn::UseTree::Glob(_) => {
                found.push((None, [before.as_slice(), &["*".to_owned()]].concat()));
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    Self::flatten(tree, before, found);
                }
            }
        }
    }

    /// Paths among the tokens of a macro, which no parser knows.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Names = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.name(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.name(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.name(path);
    }

    fn name(&mut self, path: Names) {
        if path.len() > 1 {
            self.written.push((self.here.clone(), path));
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !attributes(item).is_some_and(|attributes| is_test(attributes)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            self.here.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.here.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut found = Vec::new();
        Self::flatten(&item.tree, &Vec::new(), &mut found);
        let is_export = !matches!(item.vis, syn::Visibility::Inherited);
        for (name, path) in found {
            let Some(target) = self.absolute(&self.here.clone(), &path, 1) else {
                continue;
            };
            let is_own = target.starts_with(&self.file);
            if !(is_export && is_own) {
                let below = [["crate".to_owned()].as_slice(), &target].concat();
                self.written.push((self.here.clone(), below));
            }
            if let Some(name) = name {
                self.aliases.insert(name, target);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|s| s.ident.to_string());
        self.name(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

fn attributes(item: &syn::Item) -> Option<&Vec<syn::Attribute>> {
    match item {
        syn::Item::Const(item) => Some(&item.attrs),
        syn::Item::Fn(item) => Some(&item.attrs),
        syn::Item::Impl(item) => Some(&item.attrs),
        syn::Item::Struct(item) => Some(&item.attrs),
        syn::Item::Enum(item) => Some(&item.attrs),
        syn::Item::Use(item) => Some(&item.attrs),
        _ => None,
    }
}

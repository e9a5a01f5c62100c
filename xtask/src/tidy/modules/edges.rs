//! The modules of its crate that a file names.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// What the root of the crate declares: its modules, and the names that it re-exports from them.
#[derive(Default)]
pub(crate) struct Root {
    modules: BTreeSet<String>,
    /// Names to the modules that they are re-exported from.
    exports: BTreeMap<String, Vec<String>>,
    test_modules: Vec<Vec<String>>,
}

impl Root {
    /// Adds what a root file (a crate may have a library and a program) declares.
    pub(crate) fn add(&mut self, file: &ParsedFile) {
        for item in &file.file.items {
            if let Item::Mod(module) = item {
                self.modules.insert(module.ident.to_string());
            }
        }
        for item in &file.file.items {
            let Item::Use(item) = item else { continue };
            let mut paths = Vec::new();
            flatten(&item.tree, &mut Vec::new(), &mut paths);
            for (path, name) in paths {
                let path = if path[0] == "crate" || path[0] == "self" { &path[1..] } else { &path };
                if path.first().is_some_and(|first| self.modules.contains(first)) {
                    self.exports.insert(name, path[..path.len() - 1].to_vec());
                }
            }
        }
        self.test_modules.extend(file.test_modules());
    }

    /// Modules that exist only in tests.
    pub(crate) fn test_modules(&self) -> Vec<Vec<String>> {
        self.test_modules.clone()
    }

    /// The target of a path below the root: for a name that the root re-exports, its module.
    fn resolve(&self, path: &[String]) -> Vec<String> {
        let exported = self.exports.get(&path[0]).filter(|_| !self.modules.contains(&path[0]));
        exported.cloned().into_iter().flatten().chain(path.iter().cloned()).collect()
    }
}

/// A file of the crate, and its module.
pub(crate) struct ParsedFile {
    module: Vec<String>,
    file: syn::File,
}

impl ParsedFile {
    /// Parses a file; `inside` is its path below `src`.
    pub(crate) fn new(inside: &str, text: &str) -> syn::Result<Self> {
        let file = syn::parse_file(text)?;
        let stem = inside.trim_end_matches(".rs");
        let module = match stem {
            "lib" | "main" => Vec::new(),
            stem => stem.split('/').map(str::to_owned).collect(),
        };
        Ok(Self { module, file })
    }

    /// The path of the module below the root; empty for the root.
    pub(crate) fn module(&self) -> &[String] {
        &self.module
    }

    /// Modules that this file declares for tests only.
    pub(crate) fn test_modules(&self) -> Vec<Vec<String>> {
        let modules = self.file.items.iter().filter_map(|item| match item {
            Item::Mod(item) if is_test(&item.attrs) => Some(item.ident.to_string()),
            _ => None,
        });
        modules.map(|name| self.module.iter().cloned().chain([name]).collect()).collect()
    }

    /// The paths inside its crate that this file names, from the root on.
    pub(crate) fn paths(&self, root: &Root) -> BTreeSet<Vec<String>> {
        let mut finder = Finder { module: self.module.clone(), root, found: BTreeSet::new() };
        finder.visit_file(&self.file);
        finder.found
    }
}

struct Finder<'a> {
    module: Vec<String>,
    root: &'a Root,
    found: BTreeSet<Vec<String>>,
}

impl Finder<'_> {
    /// Records the target of a path, if it is in this crate.
    fn note(&mut self, path: &[String]) {
        let mut depth = self.module.len();
        let mut rest = path;
        match rest.first().map(String::as_str) {
            Some("crate" | "$crate") => {
                depth = 0;
                rest = &rest[1..];
            }
            Some("self" | "super") => {}
            _ => return,
        }
        while let Some(first) = rest.first() {
            match first.as_str() {
                "self" => {}
                "super" => depth = depth.saturating_sub(1),
                _ if depth == 0 => {
                    self.found.insert(self.root.resolve(rest));
                    return;
                }
                _ => {
                    self.found.insert([&self.module[..depth], rest].concat());
                    return;
                }
            }
            rest = &rest[1..];
        }
    }

    /// Macros contain tokens, not syntax: searches them for `crate::name` and `super::name`.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note(&path);
                        path.clear();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.note(&path);
                    path.clear();
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut paths);
        for (path, _) in paths {
            self.note(&path);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.note(&parts);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.scan(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// Every path of a `use`, with the name that it introduces.
fn flatten(tree: &UseTree, before: &mut Vec<String>, out: &mut Vec<(Vec<String>, String)>) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, out);
            before.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, out)),
        UseTree::Name(name) => push(before, &name.ident.to_string(), &name.ident.to_string(), out),
        UseTree::Rename(name) => {
            push(before, &name.ident.to_string(), &name.rename.to_string(), out)
        }
        UseTree::Glob(_) => push(before, "*", "*", out),
    }
}

fn push(before: &[String], last: &str, name: &str, out: &mut Vec<(Vec<String>, String)>) {
    out.push((before.iter().cloned().chain([last.to_owned()]).collect(), name.to_owned()));
}

/// Whether attributes exclude the item from every build but tests.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

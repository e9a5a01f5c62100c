//! Inside a crate, the modules below the root form no cycle, nor do those below any other module.
//!
//! An edge goes from module `a` to its sibling `b` if a file of `a` names `crate::b`, or reaches
//! `b` through `super`. A name that the root re-exports counts as its module. Only modules with the
//! same parent are compared: a module and its children may depend on each other. The root does not
//! count: it names all modules. Code under `#[cfg(test)]` is ignored: tests may use everything.

mod edges;

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::lengths::is_test_file;
use crate::source::Tree;
use edges::{ParsedFile, Root};

/// Each module with the modules that it names, and the file that does so.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// An allowed edge: directory of the crate, module, module that it names, and why avoiding it would
/// make the code worse.
type Exception = (&'static str, &'static str, &'static str, &'static str);

/// Deliberate cycles.
const EXCEPTIONS: &[Exception] = &[];

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    let roots: BTreeSet<&str> = tree
        .paths()
        .filter_map(|path| path.strip_suffix("src/lib.rs").or(path.strip_suffix("src/main.rs")))
        .collect();
    for package in roots {
        check_package(tree, package, EXCEPTIONS, report);
    }
}

fn check_package(tree: &Tree, package: &str, exceptions: &[Exception], report: &mut Report) {
    let source_dir = format!("{package}src/");
    let mut files = Vec::new();
    let mut root = Root::default();
    for (path, text) in tree.texts_ending(".rs") {
        let Some(inside) = path.strip_prefix(&source_dir) else { continue };
        if is_test_file(path) || inside.starts_with("bin/") {
            continue;
        }
        let file = match ParsedFile::new(inside, text) {
            Ok(file) => file,
            Err(error) => {
                report.fail(path, error.span().start().line, format_args!("{error}"));
                continue;
            }
        };
        if file.module().is_empty() {
            root.add(&file);
        } else {
            files.push((path, file));
        }
    }
    let test_modules: Vec<Vec<String>> =
        files.iter().flat_map(|(_, file)| file.test_modules()).chain(root.test_modules()).collect();
    let all = modules_of(files.iter().map(|(_, file)| file.module()));
    let mut graphs: BTreeMap<&[String], Graph> = BTreeMap::new();
    for (path, file) in &files {
        if test_modules.iter().any(|module| file.module().starts_with(module)) {
            continue;
        }
        for target in file.paths(&root) {
            let Some((parent, from, to)) = siblings(file.module(), &target, &all) else { continue };
            let is_excepted = exceptions.iter().any(|(dir, excepted_from, excepted_to, _)| {
                package == format!("{dir}/") && from == *excepted_from && to == *excepted_to
            });
            if !is_excepted {
                let edges = graphs.entry(parent).or_default().entry(from).or_default();
                edges.entry(to).or_insert_with(|| (*path).to_owned());
            }
        }
    }
    for knot in graphs.values().flat_map(knots) {
        report.fail(&source_dir, 0, format_args!("modules form a cycle: {}", knot.join(", ")));
    }
}

/// The modules as paths, and all their ancestors.
fn modules_of<'a>(paths: impl Iterator<Item = &'a [String]>) -> BTreeSet<&'a [String]> {
    paths.flat_map(|path| (1..=path.len()).map(|len| &path[..len])).collect()
}

/// Where the paths to `module` and `target` part: the module that contains both, and the two
/// modules below it, as paths. `None` if they do not part at modules.
fn siblings<'a>(
    module: &'a [String],
    target: &[String],
    all: &BTreeSet<&[String]>,
) -> Option<(&'a [String], String, String)> {
    let depth = module.iter().zip(target).take_while(|(own, other)| own == other).count();
    let from = module.get(..=depth)?;
    let to = target.get(..=depth).filter(|to| all.contains(to))?;
    Some((&module[..depth], from.join("::"), to.join("::")))
}

/// For every set of modules that all reach each other: its edges, as text.
fn knots(graph: &Graph) -> Vec<Vec<String>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|module| (module.as_str(), reach(graph, module))).collect();
    let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|set| set.contains(to));
    let mut done = BTreeSet::new();
    let mut knots = Vec::new();
    for start in graph.keys().filter(|module| reaches(module, module)) {
        let is_member = |module: &str| reaches(start, module) && reaches(module, start);
        if !done.insert(start.as_str()) {
            continue;
        }
        let mut edges = Vec::new();
        for (from, targets) in graph.iter().filter(|(from, _)| is_member(from)) {
            done.insert(from);
            for (to, path) in targets.iter().filter(|(to, _)| is_member(to)) {
                edges.push(format!("{from} -> {to} ({path})"));
            }
        }
        knots.push(edges);
    }
    knots
}

/// The modules reachable from `start`; itself only through a cycle.
fn reach<'a>(graph: &'a Graph, start: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = vec![start];
    while let Some(module) = open.pop() {
        let targets = graph.get(module).into_iter().flat_map(BTreeMap::keys);
        open.extend(targets.map(String::as_str).filter(|target| found.insert(*target)));
    }
    found
}

#[cfg(test)]
mod tests;

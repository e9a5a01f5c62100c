//! Inside a crate, the modules below the root form no cycle.
//!
//! An edge goes from module `a` to module `b` when a file of `a` names `crate::b`, or reaches `b`
//! through `super`. A name that the root re-exports counts as its module. Only the modules directly
//! below the root are compared: a module and its children may know each other. The root is no
//! module: it names them all. Code under `#[cfg(test)]` is left out: a test may know everything.

mod edges;

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use super::lengths::is_test_file;
use crate::source::Tree;
use edges::{ParsedFile, Root};

/// A module to the modules that it names, each with the file that does.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

pub(crate) fn check(tree: &Tree, report: &mut Report) {
    let roots: BTreeSet<&str> = tree
        .paths()
        .filter_map(|path| path.strip_suffix("src/lib.rs").or(path.strip_suffix("src/main.rs")))
        .collect();
    for package in roots {
        check_package(tree, package, report);
    }
}

fn check_package(tree: &Tree, package: &str, report: &mut Report) {
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
    let mut graph = Graph::new();
    for (path, file) in &files {
        if test_modules.iter().any(|module| file.module().starts_with(module)) {
            continue;
        }
        for target in file.edges(&root) {
            let edges = graph.entry(file.module()[0].clone()).or_default();
            edges.entry(target).or_insert_with(|| (*path).to_owned());
        }
    }
    if let Some(cycle) = find_cycle(&graph) {
        report.fail(&source_dir, 0, format_args!("modules form a cycle: {cycle}"));
    }
}

/// A cycle as text: each module, and the file through which it names the next.
fn find_cycle(graph: &Graph) -> Option<String> {
    let mut done = BTreeSet::new();
    for start in graph.keys() {
        let mut path = Vec::new();
        if let Some(cycle) = search(graph, start, &mut path, &mut done) {
            let steps: Vec<String> = cycle
                .windows(2)
                .map(|pair| format!("{} ({})", pair[0], graph[&pair[0]][&pair[1]]))
                .collect();
            return Some(format!("{} -> {}", steps.join(" -> "), cycle[0]));
        }
    }
    None
}

/// Depth-first; `path` is the way here. The cycle found starts and ends with the same module.
fn search(
    graph: &Graph,
    module: &str,
    path: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(start) = path.iter().position(|on_path| on_path == module) {
        let mut cycle = path[start..].to_vec();
        cycle.push(module.to_owned());
        return Some(cycle);
    }
    if !done.insert(module.to_owned()) {
        return None;
    }
    path.push(module.to_owned());
    for target in graph.get(module).into_iter().flat_map(BTreeMap::keys) {
        let cycle = search(graph, target, path, done);
        if cycle.is_some() {
            return cycle;
        }
    }
    path.pop();
    None
}

#[cfg(test)]
mod tests;

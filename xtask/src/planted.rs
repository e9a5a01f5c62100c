//! `cargo xtask planted`: enables each defect planted in the engine, and reports which harness
//! finds it.
//!
//! Defects are found by their sites, `planted::is("name")`, so adding one takes one line in the
//! engine. The tests are built once, with `--cfg esker_planted`; `ESKER_PLANTED` then enables one
//! defect in each run. First the test that found it when the table was last written runs, alone. If
//! it no longer finds the defect, or there is none, harnesses run in a fixed order, nearest first,
//! until one fails. Whatever failed must pass with no defect enabled.
//!
//! Of all defects, the table is written. With `--by HARNESS`, they meet only that harness, and the
//! table is only printed: what it would notice of a defect that has no test yet.
//!
//! A defect that nothing finds shows that tests are too weak: they must be strengthened, and the
//! defect stays.

mod binaries;
mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::document::{self, RELIABILITY};
use crate::source::Tree;
use binaries::Binaries;
use harness::{Harness, Verdict};

/// How many defects are tried in parallel.
const WORKER_COUNT: usize = 2;

/// The name of the table in the document.
const TABLE: &str = "planted defects";

/// A few that are found in seconds: the first half by tests of the crates that they are in, the
/// second by harnesses of the whole engine (crash, faults, simulator, mixtures).
const SHORT: [&str; 8] = [
    "skip-log-sync",
    "block-checksum-not-checked",
    "tombstone-dropped-early",
    "wrong-bound-in-seek-for-prev",
    "sync-passes-buffered-by",
    "full-disk-poisons",
    "acknowledge-before-sync",
    "later-log-taken-for-an-orphan",
];

/// Which defects to try.
#[derive(Clone, Copy)]
pub(crate) enum Choice<'a> {
    /// All.
    All,
    /// Some that are found quickly.
    Short,
    /// Those with these names.
    Only(&'a [&'a str]),
    /// All, with only the harness of this name.
    By(&'a str),
}

/// A defect and its result.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    /// Its file, relative to the root of the repository.
    site: String,
    name: String,
    /// The harness and test that found it; none if nothing did.
    caught_by: Option<String>,
}

/// Runs the harnesses against the chosen defects; returns what to print, and whether all were
/// caught.
///
/// # Errors
/// If the tests do not build, a chosen defect does not exist, or a harness fails without any.
pub(crate) fn run(root: &Path, choice: Choice<'_>) -> Result<(String, bool), String> {
    let sites = sites(root)?;
    let is_chosen = |name: &str| match choice {
        Choice::All | Choice::By(_) => true,
        Choice::Short => SHORT.contains(&name),
        Choice::Only(names) => names.contains(&name),
    };
    let names: &[&str] = match choice {
        Choice::All | Choice::By(_) => &[],
        Choice::Short => &SHORT,
        Choice::Only(names) => names,
    };
    if let Some(unknown) = names.iter().find(|name| !sites.contains_key(**name)) {
        return Err(format!("no defect is named {unknown}"));
    }
    let chosen: Vec<_> = sites.into_iter().filter(|(name, _)| is_chosen(name)).collect();
    let is_short = matches!(choice, Choice::Short);
    let binaries = Binaries::build(root, !is_short)?;
    let document = std::fs::read_to_string(root.join(RELIABILITY)).map_err(|e| e.to_string())?;
    let (known, clean) = (known(&document), Mutex::default());
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<(), String> {
        while let Some((name, site)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let harnesses = match choice {
                Choice::By(harness) => vec![Harness::of_the_whole(harness)?],
                _ => Harness::in_order(site, known.get(&**name).copied()),
            };
            let caught_by = catch(&binaries, &clean, name, &harnesses)?;
            eprintln!("{name}: {}", caught_by.as_deref().unwrap_or("NOT CAUGHT"));
            let row = Row { site: site.clone(), name: name.clone(), caught_by };
            rows.lock().map_err(|_poisoned| "a worker panicked")?.push(row);
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<(), String> {
        let workers: Vec<_> = (0..WORKER_COUNT).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|w| w.join().map_err(|_panic| "a worker panicked")?)
    })?;
    let mut rows = rows.into_inner().map_err(|_poisoned| "a worker panicked")?;
    rows.sort();
    let table = table(&rows);
    let need_not_be = matches!(choice, Choice::By(_));
    Ok((table, need_not_be || rows.iter().all(|row| row.caught_by.is_some())))
}

/// Writes the table of all defects into the document.
///
/// # Errors
/// If the document cannot be written, or has no place for it.
pub(crate) fn write(root: &Path, table: &str) -> Result<(), String> {
    document::write(root, RELIABILITY, TABLE, table)
}

/// The defects, each with its file.
fn sites(root: &Path) -> Result<BTreeMap<String, String>, String> {
    Ok(sites_of(&Tree::read(root).map_err(|error| error.to_string())?))
}

/// The same of the crates in `tree`.
pub(crate) fn sites_of(tree: &Tree) -> BTreeMap<String, String> {
    let mut sites = BTreeMap::new();
    for (path, text) in tree.texts() {
        if path.starts_with("crates/") && path.ends_with(".rs") {
            for (at, call) in text.match_indices("planted::is(\"") {
                let name = text[at + call.len()..].split('"').next().unwrap_or_default();
                sites.insert(name.to_owned(), path.to_owned());
            }
        }
    }
    sites
}

/// The first of `harnesses` that finds the defect `name`, if any does.
fn catch(
    binaries: &Binaries,
    clean: &Mutex<BTreeMap<String, bool>>,
    name: &str,
    harnesses: &[Harness],
) -> Result<Option<String>, String> {
    for harness in harnesses {
        let Verdict::Failed(how) = harness.run(binaries, Some(name))? else { continue };
        // Held meanwhile, so that nobody else runs the same one.
        let mut clean = clean.lock().map_err(|_poisoned| "a worker panicked")?;
        let key = harness.key();
        if !clean.contains_key(&key) {
            let passes = harness.run(binaries, None)? == Verdict::Passed;
            clean.insert(key.clone(), passes);
        }
        if clean.get(&key) != Some(&true) {
            return Err(format!("{harness}: tests fail with no defect awake"));
        }
        return Ok(Some(format!("{harness}: {how}")));
    }
    Ok(None)
}

/// What found each defect, according to the table in `document`.
pub(crate) fn known(document: &str) -> BTreeMap<&str, &str> {
    let lines = document::between(document, TABLE).unwrap_or_default().lines();
    let rows = lines.skip_while(|line| !line.starts_with("|---")).filter_map(row_of);
    rows.collect()
}

/// The name of the defect in a row of the table, and what caught it.
fn row_of(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
    Some((cells.next()?, cells.nth(1)?))
}

/// The table, and how many defects were caught.
fn table(rows: &[Row]) -> String {
    let caught = rows.iter().filter(|row| row.caught_by.is_some()).count();
    let mut text = format!("{caught} of {} planted defects are caught.\n\n", rows.len());
    text.push_str("| defect | site | caught by |\n|---|---|---|\n");
    for Row { site, name, caught_by } in rows {
        let by = caught_by.as_deref().unwrap_or("**nothing**");
        text.push_str(&format!("| {name} | `{site}` | {by} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_what_is_caught_by_nothing_and_is_read_again() {
        let row = |name: &str, caught_by: Option<&str>| Row {
            site: "crates/a.rs".to_owned(),
            name: name.to_owned(),
            caught_by: caught_by.map(str::to_owned),
        };
        let table = table(&[row("one", Some("model: x")), row("two", None)]);
        assert_eq!(
            table,
            "1 of 2 planted defects are caught.\n\n| defect | site | caught by |\n|---|---|---|\n\
             | one | `crates/a.rs` | model: x |\n| two | `crates/a.rs` | **nothing** |\n"
        );
        let document =
            format!("<!-- {TABLE}: begin -->\n{table}<!-- {TABLE}: end -->\n| a | b | c |\n");
        assert_eq!(known(&document)["one"], "model: x");
        assert!(!known(&document).contains_key("a"));
        assert_eq!(known("no marks").len(), 0);
    }

    #[test]
    fn every_defect_of_the_short_run_is_planted() {
        let sites = sites(&crate::repository()).unwrap();
        assert!(SHORT.iter().all(|name| sites.contains_key(*name)));
        assert!(sites.len() >= 30, "{} defects", sites.len());
    }
}

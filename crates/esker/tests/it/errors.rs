//! What users see: the kind and the exact words of errors, and that a failed open changes nothing
//! on disk.
//!
//! Each file of `testdata/errors/` is a list of cases: a name, `----`, and the resulting error.
//! `UPDATE=1` rewrites them.

mod open_cases;
mod use_cases;

use std::path::PathBuf;

use esker::Error;
use esker_env::{FileExt, FileSystem, OsFileSystem};

fn text(error: &Error) -> String {
    let process = format!("process {}", std::process::id());
    let text = format!("{}: {error}", error.kind().name()).replace(&process, "process PID");
    // With the feature a build reads one version more of tables.
    let is_of_table = cfg!(feature = "zstd") && text.contains(" is a table of format version ");
    if is_of_table { text.replace("versions up to 4", "versions up to 3") } else { text }
}

/// Runs `case` for each name in the file, and compares.
fn check(file: &str, case: impl Fn(&str) -> Error) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "testdata/errors", file].iter().collect();
    let recorded = std::fs::read_to_string(&path).unwrap();
    let mut found = String::new();
    for block in recorded.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let name = block.trim_start().lines().next().expect("a block is not empty");
        found += &format!("{name}\n----\n{}\n\n", text(&case(name)));
    }
    let found = found.trim_end().to_owned() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        let fs = OsFileSystem::new();
        let out = fs.open_for_write(&path).unwrap();
        out.truncate(0).unwrap();
        out.write_all_at(0, found.as_bytes()).unwrap();
        return;
    }
    assert_eq!(found, recorded, "{file}; UPDATE=1 rewrites it");
}

#[test]
fn opening_says_what_is_wrong_and_changes_nothing() {
    check("open.txt", open_cases::error);
}

#[test]
fn calls_say_what_is_wrong() {
    check("use.txt", use_cases::error);
}

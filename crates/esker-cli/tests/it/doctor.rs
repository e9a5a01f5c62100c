//! `esker doctor` on a database on disk.

use std::path::{Path, PathBuf};

use crate::program::{Run, TestDir, program, run};

/// Runs `esker doctor TASK DIR`.
fn doctor(task: &str, dir: &Path, arguments: &[&str]) -> Run {
    program("doctor", Path::new(task), &[&[dir.to_str().unwrap()], arguments].concat())
        .output()
        .unwrap()
        .into()
}

/// A database whose entries are all in one table, and that table.
fn database(dir: &TestDir) -> (PathBuf, PathBuf) {
    let path = dir.path("db");
    let lines: String = (0..3000).map(|n| format!("key{n:04}\tvalue {n}\n")).collect();
    let input = dir.path("in.tsv");
    std::fs::write(&input, lines).unwrap();
    let loaded = run("load", &path, &["--format", "tsv", "--from", input.to_str().unwrap()]);
    assert_eq!(loaded.status, Some(0), "{loaded:?}");
    assert_eq!(run("flush", &path, &[]).status, Some(0));
    let entries = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let mut tables = entries.filter(|path| path.extension().is_some_and(|e| e == "table"));
    let table = tables.next().unwrap();
    assert_eq!(tables.next(), None);
    (path, table)
}

#[test]
fn a_sound_database_is_verified_and_not_repaired() {
    let dir = TestDir::new("doctor-sound");
    let (path, _) = database(&dir);
    let verified = doctor("verify", &path, &[]);
    assert_eq!(verified.status, Some(0), "{verified:?}");
    assert!(verified.out.ends_with("\nsound\n"), "{verified:?}");
    let quiet = doctor("verify", &path, &["--quiet"]);
    assert_eq!((quiet.status, quiet.out.as_str(), quiet.errors.as_str()), (Some(0), "", ""));
    let repaired = doctor("repair", &path, &[]);
    assert_eq!(repaired.status, Some(0));
    assert_eq!(repaired.out, "sound: nothing to repair, and nothing was changed\n");
    assert_eq!(doctor("verify", &dir.path("nowhere"), &[]).status, Some(1));
}

#[test]
fn a_damaged_table_is_found_and_repaired() {
    let dir = TestDir::new("doctor-damaged");
    let (path, table) = database(&dir);
    let name = table.file_name().unwrap().to_str().unwrap().to_owned();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[10_000] ^= 1;
    std::fs::write(&table, &bytes).unwrap();

    let verified = doctor("verify", &path, &["--json"]);
    assert_eq!(verified.status, Some(4), "{verified:?}");
    let report: serde_json::Value = serde_json::from_str(&verified.out).unwrap();
    assert_eq!(report["sound"], false);
    assert_eq!(report["findings"][0]["file"], name.as_str());
    let affected = &report["findings"][0]["affected"];
    assert_eq!(affected["keyspace"], "default");
    let from = affected["from"].as_str().unwrap().to_owned();
    let to = affected["to"].as_str().unwrap().to_owned();
    let quiet = doctor("verify", &path, &["--quiet"]);
    assert_eq!((quiet.status, quiet.out.as_str(), quiet.errors.as_str()), (Some(4), "", ""));

    let planned = doctor("repair", &path, &["--dry-run"]);
    assert_eq!(planned.status, Some(4));
    assert!(planned.out.ends_with("nothing was changed\n"), "{planned:?}");
    let repaired = doctor("repair", &path, &["--json"]);
    assert_eq!(repaired.status, Some(0), "{repaired:?}");
    let report: serde_json::Value = serde_json::from_str(&repaired.out).unwrap();
    assert_eq!(report["set_aside"][0], name.as_str());
    assert_eq!(report["lost"][0]["keys"]["from"], from.as_str());
    assert_eq!(std::fs::read(path.join("damaged").join(&name)).unwrap(), bytes);
    assert_eq!(doctor("verify", &path, &[]).status, Some(0));

    let left = run("scan", &path, &["--keys-only"]).out;
    let keys: Vec<&str> = left.lines().collect();
    assert!(2700 < keys.len() && keys.len() < 3000, "{}", keys.len());
    let all: Vec<String> = (0..3000).map(|n| format!("key{n:04}")).collect();
    let missing: Vec<&String> = all.iter().filter(|key| !keys.contains(&key.as_str())).collect();
    assert!(missing.iter().all(|key| from <= **key && **key <= to), "{from} {to} {missing:?}");
}

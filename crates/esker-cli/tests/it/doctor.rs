//! `esker doctor` on a database on disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use esker::{
    CompactionPolicy, Db, IngestOptions, KeyspaceOptions, Options, TableWriter, TableWriterOptions,
};
use serde_json::Value;

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

/// The object that the program prints.
fn json(run: &Run) -> Value {
    assert_eq!(run.out.lines().count(), 1, "{run:?}");
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// Names of the fields of an object, in alphabetical order.
fn fields(object: &Value) -> Vec<&str> {
    let object = object.as_object().unwrap_or_else(|| panic!("no object: {object}"));
    let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
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

/// Names of fields are part of the interface: a script goes by them.
#[test]
fn reports_as_json_have_the_same_fields_whatever_they_say() {
    const VERIFICATION: [&str; 4] = ["findings", "sound", "totals", "unreferenced"];
    const REPAIR: [&str; 8] =
        ["dry_run", "findings", "kept", "lost", "notes", "rebuilt", "set_aside", "was_sound"];
    let dir = TestDir::new("doctor-json");
    let (path, table) = database(&dir);
    let name = table.file_name().unwrap().to_str().unwrap().to_owned();
    let sound = doctor("verify", &path, &["--json"]);
    assert_eq!(sound.status, Some(0), "{sound:?}");
    let sound = json(&sound);
    assert_eq!(fields(&sound), VERIFICATION);
    assert_eq!((&sound["sound"], &sound["findings"]), (&Value::Bool(true), &Value::Array(vec![])));
    assert_eq!(sound["totals"]["entries"], 3000);
    let repaired = json(&doctor("repair", &path, &["--json"]));
    assert_eq!(fields(&repaired), REPAIR);
    assert_eq!(repaired["was_sound"], true);

    std::fs::write(path.join("1-00000090.table"), b"left behind").unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[10_000] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let verified = doctor("verify", &path, &["--json"]);
    assert_eq!(verified.status, Some(4), "{verified:?}");
    let verified = json(&verified);
    assert_eq!(fields(&verified), VERIFICATION);
    let of_table = |finding: &&Value| finding["file"] == name.as_str();
    let findings = verified["findings"].as_array().unwrap();
    let finding = findings.iter().find(of_table).unwrap();
    assert_eq!(fields(finding), ["affected", "file", "offset", "unreadable", "what"]);
    assert!((1..=10_000).contains(&finding["offset"].as_u64().unwrap()), "{finding}");
    assert!(finding["what"].as_str().unwrap().contains("checksum"), "{finding}");
    assert_eq!(fields(&finding["affected"]), ["from", "keyspace", "to"]);
    assert_eq!(fields(&verified["totals"]), fields(&sound["totals"]));
    let unreferenced = &verified["unreferenced"][0];
    assert_eq!(fields(unreferenced), ["bytes", "file"]);
    assert_eq!(
        (&unreferenced["bytes"], &unreferenced["file"]),
        (&11.into(), &"1-00000090.table".into())
    );

    let check_repair = |report: &Value, dry_run: bool| {
        assert_eq!(fields(report), REPAIR);
        assert_eq!((&report["was_sound"], &report["dry_run"]), (&false.into(), &dry_run.into()));
        assert_eq!(report["findings"], verified["findings"]);
        let rebuilt = &report["rebuilt"][0];
        assert_eq!(fields(rebuilt), ["entries", "from"]);
        assert_eq!(rebuilt["from"], name.as_str());
        let entries = rebuilt["entries"].as_u64().unwrap();
        assert!((2700..3000).contains(&entries), "{report}");
        assert_eq!(fields(&report["lost"][0]), ["file", "keys", "what"]);
        assert_eq!(report["lost"][0]["keys"], finding["affected"]);
        assert_eq!(report["set_aside"][0], name.as_str());
        entries
    };
    let planned = doctor("repair", &path, &["--json", "--dry-run"]);
    assert_eq!(planned.status, Some(4), "{planned:?}");
    let entries = check_repair(&json(&planned), true);
    let copy = dir.path("copy");
    let salvaged = doctor("salvage", &path, &["--json", "--to", copy.to_str().unwrap()]);
    assert_eq!(salvaged.status, Some(0), "{salvaged:?}");
    let salvaged = json(&salvaged);
    assert_eq!(fields(&salvaged), ["bytes", "files", "repair", "unreadable"]);
    assert_eq!(salvaged["unreadable"], Value::Array(vec![]));
    assert!(salvaged["bytes"].as_u64().unwrap() > bytes.len() as u64, "{salvaged}");
    assert_eq!(check_repair(&salvaged["repair"], false), entries);
    let left = run("scan", &copy, &["--keys-only"]).out.lines().count() as u64;
    assert_eq!(left, entries);
    assert_eq!(std::fs::read(&table).unwrap(), bytes, "it is only read");
    assert_eq!(check_repair(&json(&doctor("repair", &path, &["--json"])), false), entries);
}

/// A repair that restores the order of entries had all tables of a keyspace open at once, and so ended where
/// a process may not have as many files open.
#[test]
fn a_repair_takes_no_descriptor_for_each_table() {
    let dir = TestDir::new("doctor-few-fds");
    let path = dir.path("db");
    let options = Options { background_threads: 0, ..Options::default() };
    let on_demand =
        KeyspaceOptions { compaction: CompactionPolicy::None, ..KeyspaceOptions::default() };
    let db = Db::builder(&path).options(options).default_keyspace(on_demand).open().unwrap();
    let loaded: Vec<PathBuf> = (0..100).map(|number| dir.path(&format!("{number}"))).collect();
    for (number, file) in loaded.iter().enumerate() {
        let mut table = TableWriter::create(file, TableWriterOptions::default()).unwrap();
        table.put(format!("loaded {number:02}"), "value").unwrap();
        table.finish().unwrap();
    }
    db.ingest(db.default_keyspace(), &loaded, IngestOptions::default()).unwrap();
    // Numbers stay as they are while it is there.
    let snapshot = db.snapshot();
    for value in ["older", "newer"] {
        db.put("written", value).unwrap();
        db.flush().unwrap();
    }
    // What has been replaced is there again, and no manifest tells.
    let ending_with = |ends: &[&str]| {
        let entries = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        let wanted = |path: &PathBuf| ends.iter().any(|end| path.to_str().unwrap().ends_with(end));
        entries.filter(wanted).collect::<Vec<_>>()
    };
    let before: Vec<(PathBuf, Vec<u8>)> = ending_with(&[".table"])
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    db.default_keyspace().compact("w"..).unwrap();
    drop(snapshot);
    db.close().unwrap();
    before.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    ending_with(&[".manifest", ".manifest.old"])
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap());

    let place = path.to_str().unwrap();
    let few = ["-c", "ulimit -n 40; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_esker")];
    let repair = ["doctor", "repair", place, "--log-dir", place];
    let repaired: Run = Command::new("sh").args(few).args(repair).output().unwrap().into();
    assert_eq!(repaired.status, Some(0), "{repaired:?}");
    assert!(repaired.out.contains("merged by sequence number"), "{repaired:?}");
    let db = Db::open(&path).unwrap();
    assert_eq!(db.get("written").unwrap().unwrap(), "newer");
    assert_eq!(db.prefix("loaded ").count(), loaded.len());
}

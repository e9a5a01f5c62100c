//! Names and paths that would move the cursor of a terminal, and keyspaces as they are drawn.

use esker::{Db, KeyspaceOptions, Order};

use crate::program::{Run, TestDir, program, run, shell};

const NAME: &str = "a\x1b[2J\nkeyspace b";
const SHOWN: &str = "a\\x1b[2J\\x0akeyspace b";

fn check(run: &Run) {
    for text in [&run.out, &run.errors] {
        assert!(!text.contains('\x1b') && !text.contains("\nkeyspace b"), "{text}");
    }
}

#[test]
fn names_of_keyspaces_are_shown_like_keys() {
    let dir = TestDir::new("names");
    let path = dir.path("db");
    let db = Db::open(&path).unwrap();
    let keyspace = db.keyspace(NAME, KeyspaceOptions::default()).unwrap();
    db.pause_compactions();
    for round in 0..6 {
        keyspace.put("key", format!("{round}")).unwrap();
        db.flush().unwrap();
    }
    let table = keyspace.levels().levels[0].runs[0].tables[0].file.clone();
    db.close().unwrap();
    let in_keyspace = ["--keyspace", NAME];
    for (command, arguments) in [
        ("stats", &[][..]),
        ("levels", &[]),
        ("plan", &[]),
        ("what-if", &["--keyspace", NAME, "--policies", "none", "--flushes", "2"]),
    ] {
        let run = run(command, &path, arguments);
        check(&run);
        assert_eq!((run.status, run.errors.as_str()), (Some(0), ""), "{command}");
        assert!(run.out.contains(SHOWN), "{command}: {}", run.out);
    }
    let unknown = run("get", &path, &["--keyspace", "\x1b", "k"]);
    check(&unknown);
    let expected = format!(
        "error: there is no keyspace '\\x1b'; there are: default, {}\n",
        SHOWN.replace("\\x0a", " ")
    );
    assert_eq!(unknown.errors, expected);
    let refused = shell(&path, &[&in_keyspace[..], &["--order", "reverse-bytewise"]].concat(), "");
    check(&refused);
    // The library says some names as Rust does.
    let said = shell(&path, &in_keyspace, "merge k v\nlevels\nstats\n");
    check(&said);

    let table = path.join(table);
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    for task in ["verify", "repair"] {
        let arguments: &[&str] = if task == "repair" { &["--dry-run"] } else { &[] };
        let arguments = [&[path.to_str().unwrap()], arguments].concat();
        let report: Run = program("doctor", task.as_ref(), &arguments).output().unwrap().into();
        check(&report);
        assert_eq!(report.status, Some(4));
        assert!(report.out.contains(SHOWN), "{}", report.out);
    }
}

#[test]
fn paths_and_fields_are_shown_like_keys() {
    let dir = TestDir::new("odd-paths");
    let missing = run("get", &dir.path("no\x1b[2J\nkeyspace b"), &["k"]);
    check(&missing);
    assert!(missing.errors.contains("no\\x1b[2J keyspace b"), "{}", missing.errors);
    let input = dir.path("in\x1b.jsonl");
    std::fs::write(&input, "{\"key\":\"k\",\"\\u001b[2J\":1}\n").unwrap();
    let from = ["--format", "jsonl", "--from", input.to_str().unwrap()];
    let refused = run("load", &dir.path("db"), &from);
    check(&refused);
    assert!(refused.errors.contains("has a field '\\x1b[2J'; use"), "{}", refused.errors);
}

/// Their runs were drawn at the right edge, and blob files not told of at all.
#[test]
fn levels_draw_any_order_and_count_blob_files() {
    let dir = TestDir::new("levels");
    let path = dir.path("db");
    let options = KeyspaceOptions {
        order: Order::reverse_bytewise(),
        blob_threshold_bytes: Some(1000),
        ..KeyspaceOptions::default()
    };
    let db = Db::open(&path).unwrap();
    let keyspace = db.keyspace("back", options).unwrap();
    for key in ["a", "m", "z"] {
        keyspace.put(key, "v".repeat(5000)).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let levels = run("levels", &path, &[]).out;
    assert!(levels.contains("keys z ... a\n"), "{levels}");
    assert!(levels.contains(&format!("  [{}]\n", "=".repeat(58))), "{levels}");
    let blobs = levels.lines().last().unwrap();
    assert!(
        blobs.starts_with("blob files: 1, ") && blobs.ends_with(", 0 B of it garbage"),
        "{levels}"
    );
}

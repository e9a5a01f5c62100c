//! `esker plan` and `esker what-if`.

use serde_json::Value;

use crate::program::{TestDir, run};

/// A database of 12 flushes of the same keys, each with the compactions that follow from it.
fn written(dir: &TestDir) -> std::path::PathBuf {
    let path = dir.path("db");
    let db = esker::Db::open(&path).unwrap();
    for round in 0..12 {
        for key in 0..40 {
            db.put(format!("key{key:03}"), format!("value{round}")).unwrap();
        }
        db.flush().unwrap();
        db.wait_until_settled().unwrap();
    }
    db.close().unwrap();
    path
}

#[test]
fn what_if_compares_policies() {
    let dir = TestDir::new("what-if");
    let path = written(&dir);
    let done = run("what-if", &path, &["--policies", "universal,none", "--flushes", "20"]);
    assert_eq!((done.status, done.errors.as_str()), (Some(0), ""));
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines[0].starts_with("keyspace default: 12 flushes and "), "{}", done.out);
    let names: Vec<&str> = lines[2..].iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["leveled", "universal", "none"], "{}", done.out);

    let json = run("what-if", &path, &["--policies", "none", "--flushes", "20", "--json"]);
    let answer: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(answer["overwrite_percent"], 100);
    let none = &answer["outcomes"][1];
    assert_eq!(
        (&none["policy"], &none["flushes"], &none["write_amplification"]),
        (&"none".into(), &20.into(), &1.0.into())
    );
    assert!(none["levels"][0]["runs"].as_u64().unwrap() >= 20, "{none}");
}

#[test]
fn what_if_refuses_what_cannot_be() {
    let dir = TestDir::new("what-if-refused");
    let path = written(&dir);
    let refused = |arguments: &[&str], what: &str| {
        let done = run("what-if", &path, arguments);
        assert_eq!((done.status, done.out.as_str()), (Some(1), ""));
        assert!(done.errors.contains(what), "{}", done.errors);
    };
    refused(&["--flushes", "0"], "--flushes is 0, and must be from 1 to 100000");
    refused(&["--memtable-bytes", "9"], "--memtable-bytes is 9, and must be at least 65536");
    refused(&["--policies", "rosy"], "invalid value 'rosy' for '--policies <LIST>'");
    refused(&["--keyspace", "other"], "there is no keyspace 'other'");
}

#[test]
fn plan_shows_what_comes_next() {
    let dir = TestDir::new("plan");
    let path = written(&dir);
    let quiet = run("plan", &path, &[]);
    assert_eq!((quiet.status, quiet.out.as_str()), (Some(0), "nothing to compact\n"));
    let db = esker::Db::open(&path).unwrap();
    db.pause_compactions();
    for round in 0..5 {
        db.put("key000", format!("{round}")).unwrap();
        db.flush().unwrap();
    }
    db.close().unwrap();
    let due = run("plan", &path, &[]);
    assert!(due.out.starts_with("default next, score "), "{}", due.out);
    let json = run("plan", &path, &["--json"]);
    let answer: Value = serde_json::from_str(&json.out).unwrap();
    let job = &answer["jobs"][0];
    assert_eq!((&job["reason"], &job["is_running"]), (&"level-0".into(), &false.into()));
    assert!(job["score"].as_f64().unwrap() >= 1.0 && job["input_bytes"].as_u64().unwrap() > 0);
}

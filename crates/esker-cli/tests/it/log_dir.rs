//! A database whose log lies apart.

use std::path::Path;

use crate::program::{Run, TestDir, program, run, shell};

/// Runs a command on `db`, with its log in `log`.
fn run_apart(command: &[&str], db: &Path, log: &Path, arguments: &[&str]) -> Run {
    let (first, second) = (Path::new(command[0]), command.get(1));
    let log = ["--log-dir", log.to_str().unwrap()];
    match second {
        None => run(command[0], db, &[&log[..], arguments].concat()),
        Some(task) => {
            let all = [&[db.to_str().unwrap()][..], &log, arguments].concat();
            program(first.to_str().unwrap(), Path::new(task), &all).output().unwrap().into()
        }
    }
}

/// Only the doctor knew `--log-dir`: everything else said of a sound database that it is damaged.
#[test]
fn every_command_is_told_where_the_log_lies() {
    let dir = TestDir::new("log-dir");
    let (db, log, input) = (dir.path("db"), dir.path("log"), dir.path("in.tsv"));
    std::fs::write(&input, "b\t2\n").unwrap();
    let apart = |command: &[&str], arguments: &[&str]| {
        let run = run_apart(command, &db, &log, arguments);
        assert_eq!((run.status, run.errors.as_str()), (Some(0), ""), "{command:?}");
        run.out
    };
    let made = shell(&db, &["--log-dir", log.to_str().unwrap()], "put a 1\n");
    assert_eq!((made.status, made.errors.as_str()), (Some(0), ""));
    apart(&["put"], &["c", "3", "--sync"]);
    apart(&["put"], &["d", "4"]);
    apart(&["del"], &["d"]);
    apart(&["load"], &["--format", "tsv", "--from", input.to_str().unwrap()]);
    assert_eq!(apart(&["get"], &["a"]), "1\n");
    assert_eq!(apart(&["scan"], &[]), "a=1\nb=2\nc=3\n");
    assert!(apart(&["stats"], &[]).starts_with("health good\n"));
    assert!(apart(&["levels"], &[]).starts_with("keyspace default: "));
    apart(&["plan"], &[]);
    apart(&["what-if"], &["--policies", "none", "--flushes", "2"]);
    apart(&["flush"], &[]);
    apart(&["compact"], &[]);
    assert!(apart(&["doctor", "verify"], &[]).ends_with("sound\n"));
    let names = std::fs::read_dir(&db).unwrap().map(|entry| entry.unwrap().file_name());
    let logs: Vec<_> = names.filter(|name| name.to_string_lossy().ends_with(".log")).collect();
    assert_eq!(logs, [] as [&str; 0], "no segment is beside the tables");
}

#[test]
fn who_forgets_where_the_log_lies_is_told_what_to_give() {
    let dir = TestDir::new("log-dir-forgotten");
    let (db, log) = (dir.path("db"), dir.path("log"));
    // A shell that is killed leaves its log.
    let mut child = program("shell", &db, &["--log-dir", log.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"put a 1\n").unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
    assert_eq!(line, "ok\n");
    child.kill().unwrap();
    child.wait().unwrap();
    for command in ["scan", "stats", "levels", "flush", "shell"] {
        let forgotten = run(command, &db, &[]);
        assert_eq!((forgotten.status, forgotten.out.as_str()), (Some(4), ""), "{command}");
        let hint = "it is missing: if the log lies apart, log_dir (--log-dir) must say where\n";
        assert!(forgotten.errors.ends_with(hint), "{command}: {}", forgotten.errors);
    }
    assert_eq!(run_apart(&["get"], &db, &log, &["a"]).out, "1\n");
}

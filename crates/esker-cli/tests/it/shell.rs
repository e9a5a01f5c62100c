//! The shell at the end of a pipe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::Stdio;

use crate::program::{Run, TestDir, program, run, shell};

const TRANSCRIPT: &str = "fill 1000 3000\nget 2333\nflush\nfill 1000 3000\nget 2333\nflush\n\
                          get 2333\nscan 2000 2333\n";

#[test]
fn transcript_of_the_course_works_and_survives_reopening() {
    let dir = TestDir::new("transcript");
    let db = dir.path("db");
    let first = shell(&db, &["--compaction", "none"], TRANSCRIPT);
    assert_eq!((first.status, first.errors.as_str()), (Some(0), ""));
    let lines: Vec<&str> = first.out.lines().collect();
    assert_eq!(lines[0], "filled 2001 keys at epoch 0");
    assert_eq!(lines[1], "2333=value2333@0");
    assert_eq!(lines[3], "filled 2001 keys at epoch 3");
    assert_eq!([lines[4], lines[6]], ["2333=value2333@3"; 2]);
    assert_eq!(lines.last(), Some(&"334 keys"));

    let levels = shell(&db, &[], "levels");
    assert!(levels.out.starts_with("keyspace default: 2 tables"), "{}", levels.out);
    let again = shell(&db, &["--compaction", "none"], "get 2333\nscan 2000 2333\n");
    assert_eq!(again.out.lines().next(), Some("2333=value2333@3"));
    assert_eq!(again.out.lines().skip(1).collect::<Vec<_>>(), lines[7..]);
}

#[test]
fn each_policy_gives_the_same_answers_on_one_database() {
    let dir = TestDir::new("policies");
    let db = dir.path("db");
    let policies = "none simple tiered leveled-by-bytes universal lazy fifo leveled";
    for (index, policy) in policies.split(' ').enumerate() {
        let first = shell(&db, &["--compaction", policy], TRANSCRIPT);
        assert_eq!((first.status, first.errors.as_str()), (Some(0), ""), "{policy}");
        let lines: Vec<&str> = first.out.lines().collect();
        assert_eq!(lines[1], "2333=value2333@0", "{policy}");
        assert_eq!(lines.last(), Some(&"334 keys"), "{policy} {index}");
    }
    assert_eq!(shell(&db, &["--compaction", "best"], "").status, Some(1));
}

#[test]
fn keyspace_is_created_in_an_order_and_keeps_it() {
    let dir = TestDir::new("order");
    let db = dir.path("db");
    let words = "put ab 1\nput b 2\nput a 3\n";
    let reverse = ["--keyspace", "words", "--order", "reverse-bytewise"];
    assert_eq!(shell(&db, &reverse, words).status, Some(0));
    let run = shell(&db, &["--keyspace", "words"], "scan\nscan b ab\nprefix a");
    assert_eq!(run.out, "b=2\nab=1\na=3\n3 keys\nb=2\nab=1\n2 keys\nab=1\na=3\n2 keys\n");
    let other = shell(&db, &["--keyspace", "words", "--order", "bytewise"], "");
    assert_eq!(other.status, Some(1));
    assert_eq!(
        other.errors,
        "error: keyspace words was created with the key order \
         \"reverse-bytewise\", and is opened with \"bytewise\"\n"
    );
    assert_eq!(shell(&db, &["--order", "bytewise"], "").status, Some(1), "it needs a keyspace");
}

#[test]
fn values_are_put_for_a_time() {
    let dir = TestDir::new("ttl");
    let db = dir.path("db");
    let run = shell(&db, &[], "put a 1 7d\nput b 2 1ms\nput c 3\nttl c\nttl d\nput e 5 0s\n");
    assert_eq!(run.out, "ok\nok\nok\nc does not expire\nd not found\n");
    assert_eq!(run.errors, "error: the ttl is 0, and must be more than 0\n");
    let run = shell(&db, &[], "ttl a\n");
    let rest = run.out.strip_prefix("a expires in ").and_then(|rest| rest.strip_suffix(" s\n"));
    let seconds: f64 =
        rest.and_then(|rest| rest.parse().ok()).unwrap_or_else(|| panic!("{}", run.out));
    // However long the programs take, it is less than the seven days and more than six.
    assert!((518_400.0..=604_800.0).contains(&seconds), "{seconds}");
}

#[test]
fn failed_command_is_said_and_the_shell_goes_on() {
    let dir = TestDir::new("shell-errors");
    let run = shell(&dir.path("db"), &[], "put a\nput a 1\nget 'a\nget a\n");
    assert_eq!(run.status, Some(1));
    assert_eq!(run.out, "ok\na=1\n");
    assert_eq!(run.errors, "error: usage: put K V [TTL]\nerror: a ' is not closed\n");
}

/// It ended as if all had been done, whatever stood in the pipe.
#[test]
fn shell_whose_reader_goes_away_fails_and_leaves_its_writes_whole() {
    let dir = TestDir::new("shell-broken-pipe");
    let db = dir.path("db");
    let lines: String = (0..100_000).map(|n| format!("put {n} v\n")).collect();
    for before in ["", "bogus\n"] {
        let mut child = program("shell", &db, &[]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = format!("{before}{lines}");
        let ended = std::thread::scope(|scope| {
            // Ends with the pipe.
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
            let mut line = String::new();
            let mut out = BufReader::new(child.stdout.take().unwrap());
            out.read_line(&mut line).unwrap();
            assert_eq!(line, "ok\n");
            drop(out);
            Run::from(child.wait_with_output().unwrap())
        });
        assert_eq!(ended.status, Some(1));
        let expected = "error: nobody reads the output any more, and the commands that follow were not \
                        run\n";
        assert!(ended.errors.ends_with(expected), "{}", ended.errors);
        assert!(!run("scan", &db, &["--limit", "1"]).out.is_empty());
    }
}

/// Damage that a command met counts more than that nobody reads what comes after.
#[test]
fn shell_whose_reader_goes_away_remembers_damage() {
    let dir = TestDir::new("shell-broken-pipe-damage");
    let db = dir.path("db");
    shell(&db, &[], "fill 1 1000\nflush");
    let paths = std::fs::read_dir(&db).unwrap().map(|entry| entry.unwrap().path());
    let is_table = |path: &PathBuf| path.extension().is_some_and(|found| found == "table");
    let table = paths.into_iter().find(is_table).unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let mut child = program("shell", &db, &[]).stdin(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"get 100\nget none\n").unwrap();
    drop(stdin);
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.status, Some(4), "{run:?}");
}

#[test]
fn help_is_a_table() {
    let dir = TestDir::new("shell-help");
    let help = shell(&dir.path("db"), &[], "help").out;
    let meanings = ["store value V", "delete the keys from A", "delete K, which"];
    let columns = meanings.map(|meaning| {
        let line = help.lines().find(|line| line.contains(meaning)).unwrap();
        line.find(meaning)
    });
    assert_eq!(columns, [columns[0]; 3], "{help}");
}

#[test]
fn read_only_shell_refuses_writes_and_missing_databases() {
    let dir = TestDir::new("read-only");
    let db = dir.path("db");
    assert_eq!(shell(&db, &["--read-only"], "").status, Some(1));
    assert!(!db.exists());
    shell(&db, &[], "put a 1");
    let run = shell(&db, &["--read-only"], "get a\nput b 2\nget b\n");
    assert_eq!(run.status, Some(1));
    assert_eq!(run.out, "a=1\nb not found\n");
    assert_eq!(run.errors.lines().count(), 1);
}

#[test]
fn each_result_comes_at_once_and_the_database_is_locked_meanwhile() {
    let dir = TestDir::new("locked");
    let db = dir.path("db");
    let mut child = program("shell", &db, &[]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    stdin.write_all(b"put a 1\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "ok");
    let second = run("get", &db, &["a"]);
    assert_eq!(second.status, Some(1));
    assert!(second.errors.contains(&child.id().to_string()), "{}", second.errors);
    stdin.write_all(b"get a\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "a=1");
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

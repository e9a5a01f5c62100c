//! The shell as a pipe sees it: exact output, with a database in memory.

use super::*;

/// Runs lines; returns the output, the errors, and whether a command failed.
fn run(db: &Db, script: &str) -> (String, String, bool) {
    let mut session = Session::new(db.clone(), db.default_keyspace().clone());
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    read_lines(&mut session, script.as_bytes(), &mut out, &mut errors).unwrap();
    let has_failed = session.take_failure().is_some();
    (String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap(), has_failed)
}

fn output(script: &str) -> String {
    let (out, errors, has_failed) = run(&Db::in_memory().unwrap(), script);
    assert_eq!((errors.as_str(), has_failed), ("", false));
    out
}

#[test]
fn put_get_del_scan_and_prefix_print_exactly_this() {
    let script = "
# a comment, and an empty line

put a 1
PUT 'b b' ''
put \\x00\\xff caf\u{e9}  # rest
get a
get \"b b\"
get none
del a
get a
scan
scan b c
prefix b
prefix nothing
sync
";
    let expected = "\
ok
ok
ok
a=1
b b=
none not found
ok
a not found
\\x00\\xff=caf\u{e9}
b b=
2 keys
b b=
1 keys
b b=
1 keys
0 keys
ok
";
    assert_eq!(output(script), expected);
}

#[test]
fn scan_includes_both_bounds() {
    assert_eq!(
        output("fill 1 5\nscan 2 4"),
        "filled 5 keys at epoch 0\n2=value2@0\n3=value3@0\n4=value4@0\n3 keys\n"
    );
    assert_eq!(output("put a 1\nscan b a\nscan a a"), "ok\n0 keys\na=1\n1 keys\n");
}

#[test]
fn transcript_of_the_course() {
    let script = "fill 1000 3000
get 2333
flush
fill 1000 3000
get 2333
flush
get 2333
scan 2000 2333";
    let out = output(script);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "filled 2001 keys at epoch 0",
            "2333=value2333@0",
            "ok",
            "filled 2001 keys at epoch 3",
            "2333=value2333@3",
            "ok",
            "2333=value2333@3",
        ]
    );
    assert_eq!(lines[7], "2000=value2000@3");
    assert_eq!(lines.last(), Some(&"334 keys"));
    assert_eq!(lines.len(), 7 + 334 + 1);
}

#[test]
fn fill_counts_only_commands_that_succeeded() {
    let (out, errors, has_failed) =
        run(&Db::in_memory().unwrap(), "bogus\nget x\n# c\nget\nfill 7 7\nget 7\n");
    assert_eq!(out, "x not found\nfilled 1 keys at epoch 1\n7=value7@1\n");
    assert_eq!(
        errors,
        "error: there is no command 'bogus': type help for a list\nerror: usage: get K\n"
    );
    assert!(has_failed);
}

#[test]
fn fill_reaches_the_ends_of_the_numbers() {
    let max = u64::MAX;
    let script = format!("fill {} {max}\nfill 5 4\nget {max}", max - 1);
    let expected =
        format!("filled 2 keys at epoch 0\nfilled 0 keys at epoch 1\n{max}=value{max}@0\n");
    assert_eq!(output(&script), expected);
}

#[test]
fn quit_ends_and_what_follows_is_not_run() {
    for quit in ["quit", "close", "EXIT"] {
        assert_eq!(output(&format!("put a 1\n{quit}\nput b 2\n")), "ok\n");
    }
}

#[test]
fn every_other_command_prints_something() {
    let out = output(
        "fill 1 10\nflush\ncompact\nfull_compaction\nlevels\ndump\nstats\nexplain 5\nhelp\n",
    );
    assert_eq!(out.matches("\nok\n").count() + out.matches("ok\nok\n").count(), 3);
    assert_eq!(out.matches("keyspace default: 1 tables").count(), 2);
    assert!(out.contains("write_operations 10\n"));
    assert!(out.contains("get 5 at sequence number 10: "));
    assert!(out.contains("full_compaction"));
}

#[test]
fn ranges_are_deleted_up_to_before_their_end() {
    let db = Db::in_memory().unwrap();
    let (out, errors, _) = run(&db, "put a 1\nput b 2\nput c 3\ndelete-range a c\nget a\nget c");
    assert_eq!((out.as_str(), errors.as_str()), ("ok\nok\nok\nok\na not found\nc=3\n", ""));
    let (_, errors, _) = run(&db, "delete-range c a");
    assert_eq!(errors, "error: the range to delete ends before it starts\n");
}

#[test]
fn merges_and_single_deletes_print_exactly_this() {
    let db = Db::in_memory().unwrap();
    let (out, errors, _) = run(&db, "merge n 1");
    let message = "error: the keyspace \"default\" has no merge operator\n";
    assert_eq!((out.as_str(), errors.as_str()), ("", message));
    let merge_operator = esker::operators::by_name("esker.add-i64");
    let options = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
    db.keyspace("default", options).unwrap();
    let (out, errors, _) = run(&db, "merge n 40\nmerge n -38\nget n\nmerge n x\n");
    assert_eq!(out, "ok\nok\nn=\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00\n");
    assert_eq!(errors, "error: 'x' is not a number to add\n");
    assert_eq!(run(&db, "put k v\nsingle-delete k\nget k\n").0, "ok\nok\nk not found\n");
}

//! A real writing process is killed with SIGKILL; every acknowledged write is there afterwards.
//!
//! The test starts its own binary as the writer. Several of its threads write batches over three
//! keyspaces and report each acknowledged one on a pipe, which outlives them. The moment of the
//! kill is a number of reports. `ESKER_BUDGET` multiplies the rounds.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use esker::{Db, Durability, Keyspace, KeyspaceOptions, Options};

use crate::random::{Rng, budget, seeds};
use crate::tally::Tally;
use crate::temp_dir::TempDir;
use crate::watchdog::Watchdog;

/// Tells the writer where to write.
const DIR_VARIABLE: &str = "ESKER_KILL_DIR";

const ROUND_COUNT: u64 = 20;
const THREAD_COUNT: usize = 3;
const KEYSPACES: [&str; 3] = ["a", "b", "c"];

/// Each thread writes its numbers to so many keys in turn.
const SLOT_COUNT: u64 = 400;

static KILLS: Tally = Tally::new("kills of a real process");

/// A writer that nobody kills ends by itself.
const NUMBER_MAX: u64 = 1_000_000;

fn open(dir: &Path) -> Db {
    // So small that flushes, compactions and new log segments are always under way.
    let options = Options { log_segment_bytes: 128 << 10, ..Options::default() };
    Db::builder(dir).options(options).open().unwrap()
}

fn keyspaces(db: &Db) -> Vec<Keyspace> {
    let sizes = [20 << 10, 50 << 10, 300 << 10];
    let open = |(name, memtable_bytes): (&str, u64)| {
        let options = KeyspaceOptions { memtable_bytes, ..KeyspaceOptions::default() };
        db.keyspace(name, options).unwrap()
    };
    KEYSPACES.into_iter().zip(sizes).map(open).collect()
}

fn last_key(thread: usize) -> String {
    format!("last {thread}")
}

fn slot_key(thread: usize, number: u64) -> String {
    format!("slot {thread} {:04}", number % SLOT_COUNT)
}

fn number(keyspace: &Keyspace, key: &str) -> u64 {
    let parse = |value: &[u8]| {
        let text = std::str::from_utf8(value).unwrap();
        text.split(' ').next().expect("a first word").parse().unwrap()
    };
    keyspace.get_with(key, parse).unwrap().unwrap_or(0)
}

/// The writer, when the test below has started it; nothing otherwise.
#[test]
fn writer_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE) else { return };
    let db = open(Path::new(&dir));
    let keyspaces = keyspaces(&db);
    std::thread::scope(|scope| {
        for thread in 0..THREAD_COUNT {
            let (db, keyspaces) = (&db, &keyspaces);
            scope.spawn(move || write(db, keyspaces, thread));
        }
    });
}

fn write(db: &Db, keyspaces: &[Keyspace], thread: usize) {
    let first = number(&keyspaces[0], &last_key(thread)) + 1;
    for number in first..NUMBER_MAX {
        let mut batch = db.batch();
        let value = format!("{number} {}", "x".repeat(50 + number as usize % 150));
        for keyspace in keyspaces {
            batch.put(keyspace, last_key(thread), number.to_string());
            batch.put(keyspace, slot_key(thread, number), &value);
        }
        batch.commit_with(Durability::Process).unwrap();
        // One write to the pipe, so that no report is cut in two.
        let report = format!("{thread} {number}\n");
        if std::io::stderr().write_all(report.as_bytes()).is_err() {
            return;
        }
    }
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["kill::writer_that_is_killed", "--exact", "--nocapture"])
        .env(DIR_VARIABLE, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a writer report `count` batches, kills it, and returns the last report of each thread.
fn kill_after(dir: &Path, count: u64) -> [u64; THREAD_COUNT] {
    let mut writer = start(dir);
    let mut reports = BufReader::new(writer.stderr.take().expect("it is a pipe"));
    let mut last = [0; THREAD_COUNT];
    let mut note = |line: &str| {
        let parsed = line.split_once(' ').and_then(|(thread, number)| {
            Some((thread.parse::<usize>().ok()?, number.parse::<u64>().ok()?))
        });
        let (thread, number) = parsed.unwrap_or_else(|| panic!("the writer says: {line}"));
        last[thread] = number;
    };
    for _ in 0..count {
        let mut line = String::new();
        reports.read_line(&mut line).unwrap();
        note(line.trim_end());
    }
    writer.kill().unwrap();
    let mut rest = String::new();
    reports.read_to_string(&mut rest).unwrap();
    rest.lines().for_each(&mut note);
    writer.wait().unwrap();
    last
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let seed = seeds(1)[0];
    let mut rng = Rng::new(seed);
    let _watchdog = Watchdog::start(format!("kill with ESKER_SEED={seed}"));
    let dir = TempDir::new("kill");
    let mut known = [0; THREAD_COUNT];
    for round in 0..ROUND_COUNT * budget() {
        let count = if rng.one_in(5) { rng.below(3) } else { rng.below(1500) };
        let reported = kill_after(dir.path(), count);
        let db = open(dir.path());
        let keyspaces = keyspaces(&db);
        for thread in 0..THREAD_COUNT {
            let when = format!("seed {seed}, round {round}, thread {thread}");
            let acknowledged = reported[thread].max(known[thread]);
            known[thread] = check(&keyspaces, thread, acknowledged, &when);
        }
        if rng.one_in(2) {
            db.close().unwrap();
        }
        KILLS.add(1);
    }
    KILLS.print();
}

/// Checks what a thread wrote, and returns its last number: the last that was acknowledged, or the
/// one after it, whole.
fn check(keyspaces: &[Keyspace], thread: usize, acknowledged: u64, when: &str) -> u64 {
    let last = number(&keyspaces[0], &last_key(thread));
    assert!(
        (acknowledged..=acknowledged + 1).contains(&last),
        "{when}: {last} is there, and {acknowledged} was acknowledged"
    );
    for keyspace in keyspaces {
        let when = format!("{when}, keyspace {}", keyspace.name());
        assert_eq!(number(keyspace, &last_key(thread)), last, "{when}: a batch is torn");
        for expected in last.saturating_sub(SLOT_COUNT - 1).max(1)..=last {
            assert_eq!(number(keyspace, &slot_key(thread, expected)), expected, "{when}");
        }
        let count = keyspace.prefix(format!("slot {thread} ")).map(Result::unwrap).count();
        assert_eq!(count as u64, last.min(SLOT_COUNT), "{when}");
    }
    last
}

//! A child process that writes until it is killed, and the check of what it left.
//!
//! The child is this program again. It commits batches of two keys and prints the number of each
//! batch once its commit is acknowledged, so the parent knows what must be there whenever it kills:
//! at least everything reported, without a gap, and never half a batch.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use esker::{Db, Keyspace, KeyspaceOptions};
use esker_env::Env;

use crate::arguments::DatabasePlace;
use crate::failure::{Failure, Result};

/// Keyspace of the numbers.
pub(super) const NUMBERS: &str = "numbers";
/// Holds the number of the last batch.
const LAST: &str = "last";
/// Acknowledged batches after which the child is killed.
const KILLED_AFTER: u64 = 20_000;

/// What the parent knows of the killed child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Killed {
    /// Number of the last reported batch.
    pub(super) acknowledged: u64,
}

/// What was there when the database was reopened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Recovered {
    /// Number of the last batch.
    pub(super) last: u64,
    /// How long the open took.
    pub(super) open_seconds: f64,
}

/// The child: writes and reports until it is killed or nobody listens.
pub(crate) fn write_until_killed(dir: &Path, out: &mut dyn Write) -> Result<()> {
    let db = crate::open::existing(&DatabasePlace::whole(dir))?;
    let numbers = db.keyspace(NUMBERS, KeyspaceOptions::default())?;
    let mut number = last(&numbers)?;
    loop {
        number += 1;
        let mut batch = db.batch();
        batch.put(&numbers, number_key(number), number.to_string());
        batch.put(&numbers, LAST, number.to_string());
        batch.commit()?;
        writeln!(out, "{number}")?;
        out.flush()?;
    }
}

fn number_key(number: u64) -> String {
    format!("n/{number:012}")
}

fn last(numbers: &Keyspace) -> Result<u64> {
    match numbers.get(LAST)? {
        Some(value) => number(&value).ok_or_else(|| wrong("the last number is no number")),
        None => Ok(0),
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.trim_end().parse().ok()
}

fn wrong(what: &str) -> Failure {
    Failure::Damaged(format!("the database lost a write: {what}"))
}

/// Starts a child on the database in `dir`, and kills it while it works.
pub(super) fn run_and_kill(dir: &Path) -> Result<Killed> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::other(format!("cannot {what} a child process: {error}"))
    };
    let program = std::env::current_exe().map_err(|error| failed("find the program of", error))?;
    let mut child = Command::new(program)
        .arg("tour-writer")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("start", error))?;
    let stdout = child.stdout.take().expect("the pipe was asked for above");
    let mut lines = BufReader::new(stdout);
    let mut acknowledged = 0;
    let mut count = 0_u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        lines.read_until(b'\n', &mut line).map_err(|error| failed("hear", error))?;
        // After the kill, the pipe still holds earlier reports; half a line is ignored.
        if !line.ends_with(b"\n") {
            break;
        }
        acknowledged = number(&line).ok_or_else(|| Failure::other("the child said no number"))?;
        count += 1;
        if count == KILLED_AFTER {
            child.kill().map_err(|error| failed("kill", error))?;
        }
    }
    let status = child.wait().map_err(|error| failed("wait for", error))?;
    if count < KILLED_AFTER {
        return Err(Failure::other(format!("the child process ended by itself: {status}")));
    }
    Ok(Killed { acknowledged })
}

/// Reopens the database and checks that every acknowledged batch is there, whole.
pub(super) fn check(dir: &Path, killed: &Killed) -> Result<Recovered> {
    let clock = Env::os().clock;
    let started = clock.now();
    let db: Db = crate::open::existing(&DatabasePlace::whole(dir))?;
    let open_seconds = clock.now().saturating_sub(started).as_secs_f64();
    let numbers = crate::open::keyspace(&db, Some(NUMBERS))?;
    let last = last(&numbers)?;
    if last < killed.acknowledged {
        return Err(wrong(&format!("{} was acknowledged, {last} is there", killed.acknowledged)));
    }
    let mut expected = 0;
    for entry in numbers.prefix("n/") {
        let (key, value) = entry?;
        expected += 1;
        if *key != *number_key(expected).as_bytes() || number(&value) != Some(expected) {
            return Err(wrong(&format!("number {expected} is not there")));
        }
    }
    if expected != last {
        return Err(wrong(&format!("the last number is {last}, and {expected} are there")));
    }
    db.close()?;
    Ok(Recovered { last, open_seconds })
}

//! What is left after the program was killed with SIGKILL while it wrote.
//!
//! The shell says `ok` for each put that was acknowledged. Whatever it was doing when it was
//! killed, flushes and compactions included: everything that it said ok to is there, the writes
//! are there in order without a gap, and at most the one that was not answered is there too.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use esker::Db;

use crate::program::{TestDir, program};

const ROUNDS: u64 = 12;
/// Small, so that flushes and compactions run all the time.
const MEMTABLE_BYTES: &str = "16384";

/// A number that differs from round to round, from a fixed seed.
fn acknowledged_at_kill(round: u64) -> u64 {
    200 + (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_500
}

#[test]
fn acknowledged_puts_survive_kill_9() {
    let dir = TestDir::new("kill");
    let path = dir.path("db");
    let mut next = 0;
    for round in 0..ROUNDS {
        let kill_at = acknowledged_at_kill(round);
        let mut child = program("shell", &path, &["--memtable-bytes", MEMTABLE_BYTES])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = std::thread::scope(|scope| {
            scope.spawn(move || {
                // Ends with the pipe, when the shell has been killed.
                for number in next.. {
                    let line = format!("put {:06} {}\n", number % 5_000, line_value(number));
                    if stdin.write_all(line.as_bytes()).is_err() {
                        break;
                    }
                }
            });
            let mut acknowledged = 0;
            while let Some(line) = lines.next().and_then(Result::ok) {
                assert_eq!(line, "ok");
                acknowledged += 1;
                if acknowledged == kill_at {
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
            acknowledged
        });
        assert!(kill_at <= acknowledged, "round {round}");
        next = check(&path, next + acknowledged, round);
    }
}

/// The value of the n-th put; compresses badly, so that tables fill.
fn line_value(number: u64) -> String {
    let noise = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{number}-{noise:016x}{:016x}", noise.rotate_left(29))
}

/// Checks that exactly the first puts are there, at least `acknowledged` of them, and returns how
/// many.
fn check(path: &std::path::Path, acknowledged: u64, round: u64) -> u64 {
    let db = Db::open(path).unwrap();
    let number = |value: &[u8]| -> u64 {
        std::str::from_utf8(value).unwrap().split('-').next().unwrap().parse().unwrap()
    };
    let values: Vec<u64> = db.iter().values().map(|value| number(&value.unwrap())).collect();
    let count = values.iter().max().map_or(0, |last| last + 1);
    assert!(
        (acknowledged..=acknowledged + 1).contains(&count),
        "round {round}: {acknowledged} puts were acknowledged, {count} are there"
    );
    // The newest put of each key, of the first `count` puts.
    for key in 0..count.min(5_000) {
        let newest = key + (count - 1 - key) / 5_000 * 5_000;
        let value = db.get(format!("{key:06}")).unwrap();
        assert_eq!(value.unwrap(), line_value(newest), "round {round}, key {key}");
    }
    assert_eq!(values.len() as u64, count.min(5_000));
    db.close().unwrap();
    count
}

//! Rate-limited compactions: they end with the database; a high limit delays nothing, zero is refused.

use std::path::Path;
use std::time::Duration;

use esker::env::Env;
use esker::{Db, Durability, ErrorKind, KeyspaceOptions, Options};

fn open(env: &Env, bytes_per_second: u64) -> Result<Db, esker::Error> {
    let options =
        Options { compaction_bytes_per_second: Some(bytes_per_second), ..Options::default() };
    let keyspace = KeyspaceOptions { idle_compaction: None, ..KeyspaceOptions::default() };
    Db::builder("db").env(env.clone()).options(options).default_keyspace(keyspace).open()
}

/// Two runs of a megabyte each.
fn fill(db: &Db) {
    for run in 0..2u8 {
        for number in 0..1000u32 {
            db.put(format!("{number:08}"), [run; 1000]).unwrap();
        }
        db.flush().unwrap();
    }
}

#[test]
fn compaction_that_is_held_back_ends_with_the_database() {
    // At this rate it would take half a minute.
    let env = Env::memory(1);
    let db = open(&env, 64 << 10).unwrap();
    fill(&db);
    let table_count = || {
        let entries = env.fs.list(Path::new("db")).unwrap();
        entries.iter().filter(|entry| entry.name.ends_with(".table")).count()
    };
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| db.compact::<&[u8]>(..));
        while table_count() < 3 && !compaction.is_finished() {
            std::thread::yield_now();
        }
        db.clone().close().unwrap();
        assert_eq!(compaction.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
}

#[test]
fn limit_that_is_high_enough_holds_nothing_back() {
    let db = open(&Env::memory(1), 1 << 40).unwrap();
    fill(&db);
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(db.levels().levels.iter().map(|level| level.runs.len()).sum::<usize>(), 1);
}

#[test]
fn limit_of_nothing_is_refused() {
    let error = open(&Env::memory(1), 1000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "compaction_bytes_per_second is 1000, and must be at least 65536"
    );
}

/// With one thread, it waits in the middle of the compaction for a second at a time, and frames in memory
/// waited with it.
#[test]
fn buffered_writes_are_handed_over_while_a_compaction_is_held_back() {
    let env = Env { clock: Env::os().clock, ..Env::memory(1) };
    let options = Options {
        background_threads: 1,
        compaction_bytes_per_second: Some(64 << 10),
        ..Options::default()
    };
    let keyspace = KeyspaceOptions { idle_compaction: None, ..KeyspaceOptions::default() };
    let builder = Db::builder("db").env(env.clone()).options(options).default_keyspace(keyspace);
    let db = builder.open().unwrap();
    db.pause_compactions();
    (0..3).for_each(|_| fill(&db));
    db.resume_compactions();
    // Bytes in the log, then bytes read by the compaction.
    let progress = || {
        let stats = db.stats();
        let compaction = stats.running_jobs.first();
        (stats.counters.log_bytes, compaction.map_or(0, |job| job.bytes_in))
    };
    let mut was_handed_over = false;
    for round in 0..20_u32 {
        let begun = progress().1;
        while progress().1 == begun {
            env.clock.sleep(Duration::from_millis(1));
        }
        // Where there is something to wait for, so that this does not end in the middle of a burst.
        env.clock.sleep(Duration::from_millis(20));
        db.put_with(round.to_le_bytes(), "value", Durability::Buffered).unwrap();
        let (log_bytes, bytes_in) = progress();
        let (after, read) = loop {
            env.clock.sleep(Duration::from_millis(1));
            let now = progress();
            if now.0 != log_bytes || now.1 != bytes_in {
                break now;
            }
        };
        was_handed_over = after != log_bytes && read == bytes_in;
        if was_handed_over {
            break;
        }
    }
    assert!(was_handed_over, "only when the compaction went on");
    db.close().unwrap();
}

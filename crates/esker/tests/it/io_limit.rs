//! Rate-limited compactions: they end with the database; a high limit delays nothing, zero is refused.

use std::path::Path;

use esker::env::Env;
use esker::{Db, ErrorKind, KeyspaceOptions, Options};

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

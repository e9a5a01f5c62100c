//! Values that expire: gone at once for every way to read, with nothing older reappearing, kept for
//! readers as of earlier, and removed from disk by whole tables.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use esker::env::{Env, ManualClock};
use esker::{
    Db, ErrorKind, Expiry, Keyspace, KeyspaceOptions, Merge, MergeFailure, MergeOperator, Options,
};

use crate::recovered::{DIR, options};

const START: Duration = Duration::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);

struct Timed {
    clock: Arc<ManualClock>,
    env: Env,
    db: Db,
}

impl Timed {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let env = Env { clock: clock.clone(), ..Env::memory(1) };
        let db = open(&env, options());
        Self { clock, env, db }
    }

    fn reopen(&mut self) {
        self.db = Db::in_memory().unwrap();
        self.db = open(&self.env, options());
    }

    fn after(&self, seconds: u64) {
        self.clock.advance(SECOND * u32::try_from(seconds).unwrap());
    }
}

fn open(env: &Env, options: Options) -> Db {
    Db::builder(DIR).env(env.clone()).options(options).open().unwrap()
}

fn at(seconds: u64) -> Expiry {
    Expiry::At(UNIX_EPOCH + START + Duration::from_secs(seconds))
}

/// The keys that each way to read finds, which must be the same for all.
fn keys(keyspace: &Keyspace) -> String {
    let text = |key: esker::Key| String::from_utf8(key.to_vec()).unwrap();
    let forward: Vec<String> = keyspace.iter().keys().map(|key| text(key.unwrap())).collect();
    let mut back: Vec<String> =
        keyspace.iter().keys().rev().map(|key| text(key.unwrap())).collect();
    back.reverse();
    assert_eq!(forward, back);
    let all: Vec<String> = ('a'..='f').map(String::from).collect();
    let got = keyspace.multi_get(&all).unwrap();
    let found = |(key, value): (&String, &Option<esker::Value>)| {
        let is_there = keyspace.contains(key).unwrap();
        assert_eq!(value.is_some(), is_there, "{key}");
        assert_eq!(keyspace.explain_get(key).unwrap().value_len.is_some(), is_there);
        assert_eq!(keyspace.expires_at(key).unwrap().is_some(), is_there);
        is_there.then(|| key.clone())
    };
    let point: Vec<String> = all.iter().zip(&got).filter_map(found).collect();
    assert_eq!(forward, point);
    forward.join("")
}

/// Everything in memory, in level 0, in the deepest level, and read back from the log.
const PLACES: [fn(&mut Timed); 4] = [
    |_| {},
    |timed| timed.db.flush().unwrap(),
    |timed| timed.db.compact_all().unwrap(),
    Timed::reopen,
];

#[test]
fn values_expire_at_once_wherever_they_lie_and_uncover_nothing() {
    for (number, place) in PLACES.iter().enumerate() {
        let mut timed = Timed::new();
        let keyspace = |timed: &Timed| timed.db.default_keyspace().clone();
        for key in ["a", "b", "c", "d"] {
            timed.db.put(key, "old").unwrap();
        }
        if number == 2 {
            timed.db.flush().unwrap();
        }
        timed.db.put_with_ttl("a", "short", SECOND * 10).unwrap();
        timed.db.put_with_ttl("b", "long", SECOND * 20).unwrap();
        keyspace(&timed).put_with_expiry("c", "at once", at(0)).unwrap();
        keyspace(&timed).put_with_expiry("d", "for good", Expiry::Never).unwrap();
        timed.db.put_with_ttl("e", "", Duration::MAX).unwrap();
        place(&mut timed);
        assert_eq!(keys(&keyspace(&timed)), "abde", "place {number}");
        assert_eq!(timed.db.get("a").unwrap().unwrap(), "short");
        assert_eq!(timed.db.expires_at("a").unwrap(), Some(at(10)));
        assert_eq!(timed.db.expires_at("d").unwrap(), Some(Expiry::Never));
        timed.clock.advance(SECOND * 10 - Duration::from_millis(1));
        assert_eq!(keys(&keyspace(&timed)), "abde", "place {number}");
        timed.clock.advance(Duration::from_millis(1));
        assert_eq!(keys(&keyspace(&timed)), "bde", "place {number}");
        timed.db.compact_all().unwrap();
        assert_eq!(keys(&keyspace(&timed)), "bde", "place {number}, compacted");
        timed.after(10);
        assert_eq!(keys(&keyspace(&timed)), "de", "place {number}");
        timed.db.put("a", "again").unwrap();
        timed.db.compact_all().unwrap();
        assert_eq!(keys(&keyspace(&timed)), "ade", "place {number}");
        let levels = timed.db.levels();
        let entries: u64 = levels
            .levels
            .iter()
            .flat_map(|level| &level.runs)
            .flat_map(|run| &run.tables)
            .map(|table| table.entry_count)
            .sum();
        assert_eq!(entries, 3, "nothing that expired takes space: {levels}");
    }
}

#[test]
fn a_keyspace_gives_its_ttl_to_puts_that_do_not_say_otherwise() {
    let timed = Timed::new();
    let ttl = |seconds| KeyspaceOptions {
        default_ttl: Some(SECOND * seconds),
        ..KeyspaceOptions::default()
    };
    let cache = timed.db.keyspace("cache", ttl(10)).unwrap();
    cache.put("a", "default").unwrap();
    cache.put_with_ttl("b", "own", SECOND * 30).unwrap();
    cache.put_with_expiry("c", "none", Expiry::Never).unwrap();
    let mut batch = timed.db.batch();
    batch.put(&cache, "d", "default");
    batch.put_with_ttl(&cache, "e", "own", SECOND * 30);
    batch.put_with_expiry(&cache, "f", "none", Expiry::Never);
    batch.commit().unwrap();
    assert_eq!(cache.expires_at("d").unwrap(), Some(at(10)));
    timed.after(10);
    assert_eq!(keys(&cache), "bcef");
    // Changed, it counts for what is put from now on.
    let cache = timed.db.keyspace("cache", ttl(50)).unwrap();
    assert_eq!(cache.options().default_ttl, Some(SECOND * 50));
    cache.put("a", "default").unwrap();
    timed.after(20);
    assert_eq!(keys(&cache), "acf");
    let cache = timed.db.keyspace("cache", KeyspaceOptions::default()).unwrap();
    cache.put("b", "for good").unwrap();
    timed.after(1000);
    assert_eq!(keys(&cache), "bcf");
}

#[test]
fn snapshots_scans_and_cursors_keep_the_time_at_which_they_were_made() {
    let timed = Timed::new();
    let db = &timed.db;
    db.put("a", "old").unwrap();
    db.put_with_ttl("a", "short", SECOND * 10).unwrap();
    db.put_with_ttl("b", "short", SECOND * 10).unwrap();
    db.flush().unwrap();
    let (snapshot, mut scan) = (db.snapshot(), db.iter());
    let mut cursor = db.cursor().unwrap();
    timed.after(10);
    db.compact_all().unwrap();
    assert_eq!(keys(db.default_keyspace()), "");
    assert_eq!(snapshot.get("a").unwrap().unwrap(), "short");
    assert_eq!(snapshot.scan::<&str>(..).count(), 2);
    assert_eq!(scan.next_back().unwrap().unwrap().0, "b");
    assert_eq!(scan.next().unwrap().unwrap().1, "short");
    cursor.seek_to_first().unwrap();
    assert_eq!((cursor.key(), cursor.value()), (&b"a"[..], &b"short"[..]));
    cursor.refresh().unwrap();
    assert!(!cursor.is_valid());
    // A snapshot from after the expiry does not hold the space that one from before does.
    let later = db.snapshot();
    drop((snapshot, scan, cursor));
    db.compact_all().unwrap();
    assert_eq!(db.levels().table_count(), 0);
    assert_eq!(later.scan::<&str>(..).count(), 0);
}

#[test]
fn a_clock_that_is_set_back_brings_nothing_back() {
    let timed = Timed::new();
    timed.db.put_with_ttl("a", "short", SECOND * 10).unwrap();
    timed.after(10);
    assert_eq!(keys(timed.db.default_keyspace()), "");
    timed.clock.set_wall(START);
    assert_eq!(keys(timed.db.default_keyspace()), "");
    timed.db.put_with_ttl("b", "counted from then", SECOND).unwrap();
    assert_eq!(timed.db.expires_at("b").unwrap(), Some(at(11)));
}

#[test]
fn tables_of_which_everything_has_expired_go_without_being_read() {
    let timed = Timed::new();
    let db = &timed.db;
    for round in 0..3 {
        for key in 0..100 {
            let key = format!("{round}/{key}");
            db.put_with_ttl(key, vec![b'x'; 100], SECOND * 10 * (round + 1)).unwrap();
        }
        db.delete(format!("{round}/200")).unwrap();
        db.flush().unwrap();
    }
    db.put("3/for good", "value").unwrap();
    db.flush().unwrap();
    while db.run_background_job() {}
    let count = || db.levels().table_count();
    let before = (count(), db.stats().counters.compaction_read_bytes);
    timed.after(10);
    let snapshot = db.snapshot();
    timed.after(20);
    while db.run_background_job() {}
    // What expired after the snapshot was taken is there for it.
    assert_eq!(snapshot.scan::<&str>(..).count(), 201);
    drop(snapshot);
    timed.after(5);
    while db.run_background_job() {}
    let left = db.levels();
    assert_eq!(db.iter().count(), 1);
    assert_eq!(left.table_count(), 1, "from {before:?}: {left}");
    assert_eq!(db.stats().counters.compaction_read_bytes, before.1, "nothing was read");
    assert!(db.events().iter().any(|(_, event)| format!("{event:?}").contains("expired: drop")));
}

#[test]
fn a_table_that_expired_stays_while_it_hides_something() {
    let timed = Timed::new();
    let db = &timed.db;
    db.put("a", "old").unwrap();
    db.flush().unwrap();
    db.put_with_ttl("a", "short", SECOND).unwrap();
    db.flush().unwrap();
    timed.after(100);
    while db.run_background_job() {}
    assert_eq!(db.levels().table_count(), 2);
    assert_eq!(keys(db.default_keyspace()), "");
}

#[test]
fn expiry_is_explained() {
    let timed = Timed::new();
    timed.db.put_with_ttl("a", "value", SECOND * 10).unwrap();
    timed.after(4);
    let explained = timed.db.explain_get("a").unwrap();
    assert_eq!(explained.expires_in, Some(SECOND * 6));
    let text = explained.to_string();
    assert!(text.contains("a value of 5 bytes, which expires in 6.0s"), "{text}");
    timed.after(6);
    let text = timed.db.explain_get("a").unwrap().to_string();
    assert!(text.contains("no value, it has expired"), "{text}");
}

#[test]
fn times_that_make_no_sense_are_refused_and_far_ones_never_come() {
    let timed = Timed::new();
    let error = timed.db.put_with_ttl("a", "value", Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "the ttl is 0, and must be more than 0");
    let mut batch = timed.db.batch();
    batch.put(timed.db.default_keyspace(), "b", "value");
    batch.put_with_ttl(timed.db.default_keyspace(), "a", "value", Duration::ZERO);
    assert_eq!(batch.commit().unwrap_err().to_string(), error.to_string());
    assert_eq!(timed.db.iter().count(), 0);
    let before_1970 = Expiry::At(SystemTime::UNIX_EPOCH - SECOND);
    timed.db.default_keyspace().put_with_expiry("a", "value", before_1970).unwrap();
    assert_eq!(timed.db.get("a").unwrap(), None);
    timed.db.put_with_ttl("a", "value", Duration::MAX).unwrap();
    timed.clock.set_wall(Duration::from_secs(u64::MAX / 2000));
    assert_eq!(timed.db.get("a").unwrap().unwrap(), "value");
}

/// Keeps the last operand, and does not fold.
struct Last;

impl MergeOperator for Last {
    fn name(&self) -> &str {
        "last"
    }

    fn merge(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        operands: &[&[u8]],
        merged: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        merged.extend_from_slice(operands.last().expect("there are some"));
        Ok(())
    }
}

/// Of a value under more operands than are kept in memory it was said that it never expires.
#[test]
fn the_expiry_below_operands_is_told_however_many_they_are() {
    let timed = Timed::new();
    let merge_operator = Some(Merge::new(Last));
    let options = KeyspaceOptions { merge_operator, ..KeyspaceOptions::default() };
    let keyspace = timed.db.keyspace("merged", options).unwrap();
    for covered in [false, true] {
        for count in [1, 3] {
            keyspace.put_with_expiry("key", "value", at(100)).unwrap();
            if covered {
                keyspace.delete_range("k".."l").unwrap();
            }
            for _ in 0..count {
                keyspace.merge("key", vec![7; 600 << 10]).unwrap();
            }
            let due = if covered { Expiry::Never } else { at(100) };
            assert_eq!(keyspace.expires_at("key").unwrap(), Some(due), "{count} operands");
            let explained = keyspace.explain_get("key").unwrap();
            assert_eq!(explained.operands_merged, count);
            assert_eq!(explained.expires_in, (!covered).then_some(100 * SECOND));
        }
    }
}

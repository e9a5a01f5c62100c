//! What is left of what is gone: nothing, once a compaction has come by, and nothing more than before
//! where none had to.

use std::ops::Bound;
use std::time::Duration;

use esker::env::{Env, ManualClock};
use esker::{CompactionPolicy, Db, Expiry, FifoOptions, Keyspace, KeyspaceOptions};

use crate::ages::{machine, run_jobs};
use crate::policies::{KEEPING, keeps_ages_apart};
use crate::recovered::{DIR, open, options};
use crate::referenced::assert_tidy;

const KEYS: u8 = 200;

/// How all of a keyspace goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Deletes,
    SingleDeletes,
    RangeWithoutEnds,
    Range,
    TimeToLive,
    ExpiredValues,
}

const WAYS: [Way; 6] = [
    Way::Deletes,
    Way::SingleDeletes,
    Way::RangeWithoutEnds,
    Way::Range,
    Way::TimeToLive,
    Way::ExpiredValues,
];

impl Way {
    fn go(self, keyspace: &Keyspace, clock: &ManualClock) {
        let each = |write: &dyn Fn([u8; 1]) -> esker::Result<()>| {
            (0..KEYS).for_each(|key| write([key]).unwrap());
        };
        let past = Expiry::At(std::time::UNIX_EPOCH);
        match self {
            Self::Deletes => each(&|key| keyspace.delete(key)),
            Self::SingleDeletes => each(&|key| keyspace.single_delete(key)),
            Self::RangeWithoutEnds => keyspace.delete_range::<&[u8]>(..).unwrap(),
            Self::Range => {
                keyspace.delete_range([0]..[KEYS]).unwrap();
            }
            Self::TimeToLive => clock.advance(Duration::from_secs(20)),
            Self::ExpiredValues => each(&|key| keyspace.put_with_expiry(key, "x", past)),
        }
    }
}

#[test]
fn no_file_is_left_of_what_is_all_gone_whichever_way_it_went() {
    for policy in KEEPING.into_iter().filter(|policy| !keeps_ages_apart(policy)) {
        for (way, is_compacted) in WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
            let what = format!("{policy:?}, {way:?}, compacted before: {is_compacted}");
            let (env, clock) = machine();
            let open = || Db::builder(DIR).env(env.clone()).options(options()).open().unwrap();
            let db = open();
            let expires = (way == Way::TimeToLive).then_some(Duration::from_secs(10));
            let options = KeyspaceOptions {
                compaction: policy,
                blob_threshold_bytes: Some(64),
                default_ttl: expires,
                ..KeyspaceOptions::default()
            };
            let keyspace = db.keyspace("k", options).unwrap();
            for key in 0..KEYS {
                let len = if key % 2 == 0 { 200 } else { 20 };
                keyspace.put([key], vec![7; len]).unwrap();
                if key % 50 == 0 {
                    keyspace.flush().unwrap();
                }
            }
            if is_compacted {
                keyspace.compact::<&[u8]>(..).unwrap();
            }
            way.go(&keyspace, &clock);
            assert_eq!(keyspace.iter().count(), 0, "{what}");
            keyspace.compact::<&[u8]>(..).unwrap();
            run_jobs(&db);
            assert_tidy(&db, &*env.fs, &what);
            let names = env.fs.list(DIR.as_ref()).unwrap().into_iter().map(|entry| entry.name);
            let is_content = |name: &String| name.ends_with(".table") || name.ends_with(".blob");
            assert_eq!(names.filter(is_content).collect::<Vec<_>>(), [""; 0], "{what}");
            assert_eq!(keyspace.approximate_bytes::<&[u8]>(..).unwrap(), 0, "{what}");
            drop((keyspace, db));
            let keyspace = open().existing_keyspace("k").unwrap().unwrap();
            assert_eq!(keyspace.iter().count(), 0, "{what}");
        }
    }
}

/// Those that hide what is flushed with them, at once; those that hide what is below, with it.
#[test]
fn a_delete_stays_as_long_as_it_hides_something() {
    let db = open(&Env::memory(1), &options()).unwrap();
    let counts = || {
        let stats = &db.stats().keyspaces[0];
        (stats.table_entries, stats.tombstones)
    };
    db.put("key", "1").unwrap();
    db.compact::<&str>(..).unwrap();
    for key in ["a", "z"] {
        db.put(key, "around it").unwrap();
    }
    db.delete("key").unwrap();
    db.put("key", "2").unwrap();
    db.flush().unwrap();
    assert_eq!(counts(), (4, 0), "the put hides what the delete has hidden");
    db.compact::<&str>(..).unwrap();
    assert_eq!(counts(), (3, 0));
    db.delete("key").unwrap();
    db.flush().unwrap();
    assert_eq!(counts(), (4, 1));
    db.compact::<&str>(..).unwrap();
    assert_eq!(counts(), (2, 0));
}

/// The files of all tables.
fn tables(db: &Db) -> Vec<String> {
    let levels = db.levels().levels;
    let runs = levels.iter().flat_map(|level| &level.runs);
    runs.flat_map(|run| &run.tables).map(|table| table.file.clone()).collect()
}

#[test]
fn a_compaction_of_keys_that_no_table_reaches_leaves_all_tables() {
    let db = open(&Env::memory(1), &options()).unwrap();
    for _ in 0..3 {
        db.put("p", "begin").unwrap();
        db.put("q", "end").unwrap();
        db.flush().unwrap();
    }
    let before = tables(&db);
    assert_eq!(before.len(), 3);
    for (start, end) in [
        (Bound::Unbounded, Bound::Excluded("c")),
        (Bound::Unbounded, Bound::Excluded("p")),
        (Bound::Included("r"), Bound::Unbounded),
        (Bound::Excluded("q"), Bound::Included("z")),
        (Bound::Included("p"), Bound::Excluded("p")),
        (Bound::Included("z"), Bound::Excluded("a")),
    ] {
        let report = db.start_compaction::<&str>((start, end)).unwrap().wait().unwrap();
        assert_eq!((report.steps, tables(&db)), (0, before.clone()), "{start:?}, {end:?}");
        db.compact::<&str>((start, end)).unwrap();
        assert_eq!(tables(&db), before, "{start:?}, {end:?}");
    }
    // Between two keys of a table, which hold the same range.
    db.compact("p1".."p9").unwrap();
    assert_eq!(tables(&db).len(), 1);
    assert!(db.iter().map(|entry| entry.unwrap().1).eq(["begin", "end"]));
}

/// Nothing in the log says that it is gone, as of what was deleted: that it was flushed once is
/// recorded, whether or not there is a table left.
#[test]
fn what_a_policy_has_dropped_does_not_come_back_from_a_log_that_others_need() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (env, clock) = machine();
    let open = || Db::builder(DIR).env(env.clone()).options(options()).open().unwrap();
    let db = open();
    let age_max = Some(HOUR);
    let compaction = CompactionPolicy::Fifo(FifoOptions { age_max, ..FifoOptions::default() });
    let fifo = KeyspaceOptions { compaction, ..KeyspaceOptions::default() };
    let dropping = db.keyspace("dropping", fifo).unwrap();
    let slow = db.keyspace("slow", KeyspaceOptions::default()).unwrap();
    let heavy = db.keyspace("heavy", KeyspaceOptions::default()).unwrap();
    slow.put("key", "in the log").unwrap();
    dropping.put("key", "old").unwrap();
    for number in 0..100_u8 {
        heavy.put([number], [number; 2000]).unwrap();
    }
    heavy.flush().unwrap();
    dropping.flush().unwrap();
    clock.advance(2 * HOUR);
    run_jobs(&db);
    assert_eq!(dropping.levels().table_count(), 0);
    let segments = db.stats().log_segment_count;
    assert!(segments > 1, "{segments} segments");
    drop((dropping, slow, heavy, db));
    let db = open();
    let count = |name| db.existing_keyspace(name).unwrap().unwrap().iter().count();
    assert_eq!((count("dropping"), count("slow"), count("heavy")), (0, 1, 100));
    // Nobody else needs it.
    db.existing_keyspace("slow").unwrap().unwrap().flush().unwrap();
    assert_eq!(db.stats().log_segment_count, 1);
}

//! Log segments: failed creations leave nothing behind, and many hold no extra memory.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::Doctor;
use esker::env::{
    CrashPolicy, Env, Fault, FaultFileSystem, FileSystem as _, ManualClock, MemoryFileSystem,
    Operation, Rule, When,
};
use esker::{Db, Durability, ErrorKind, KeyspaceOptions, Options, Outcome};

use esker_base::FileKind;

use crate::files;
use crate::recovered::{DIR, env_of, env_over, open, options};
use crate::referenced::assert_tidy;

/// A segment of which the file was there, but not its header or its name durable, stayed until the
/// next open, with all the room that it had, and every further attempt left another one. Found by
/// the simulator: a log that nothing refers to, and that no fault had kept from being removed.
#[test]
fn a_log_segment_that_cannot_be_made_leaves_no_file() {
    let operations =
        [Operation::Create, Operation::OpenForWrite, Operation::Sync, Operation::Rename];
    for operation in operations {
        let mut failures = 0;
        for nth in 1.. {
            let fs = MemoryFileSystem::new(1);
            fs.create_dir_all(Path::new(DIR)).unwrap();
            let faults =
                FaultFileSystem::new(Arc::new(fs.clone()), Arc::new(ManualClock::default()));
            let options = Options {
                background_threads: 0,
                log_segment_bytes: 64 << 10,
                durability: Durability::Process,
                ..Options::default()
            };
            let builder = Db::builder(DIR).env(env_over(Arc::new(faults.clone())));
            let db = builder.options(options).open().unwrap();
            let rule = Rule::new(Fault::Error(5)).on(&[operation]).path("*.log");
            faults.add(rule.when(When::Nth(nth)));
            for number in 0..40_u8 {
                if db.put([number], vec![number; 30_000]).is_err() {
                    db.put([number], vec![number; 30_000]).unwrap();
                }
                // Segments become free, and are used again.
                if number % 8 == 7 {
                    db.flush().unwrap();
                }
            }
            if faults.injected().is_empty() {
                break;
            }
            failures += 1;
            db.wait_until_settled().unwrap();
            assert_tidy(&db, &fs, &format!("{operation:?} {nth}"));
        }
        assert!(failures > 0, "{operation:?} of a log segment");
    }
}

/// With more log than a few segments, its memtables were switched at each new one however many waited
/// for their flush already. So no write ever found the memtable full that it would have had to wait
/// for: where flushes failed, or nobody did them, memory and log grew without end.
#[test]
fn a_long_log_switches_no_memtable_of_a_keyspace_that_waits_for_flushes() {
    const MEMTABLE_BYTES: u64 = 2 << 20;
    for fails in [false, true] {
        let fs = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(fs), Arc::new(ManualClock::default()));
        let options = Options {
            background_threads: 0,
            log_segment_bytes: 64 << 10,
            durability: Durability::Process,
            ..Options::default()
        };
        let keyspace = KeyspaceOptions {
            memtable_bytes: MEMTABLE_BYTES,
            immutable_memtables_max: 2,
            ..KeyspaceOptions::default()
        };
        let builder = Db::builder(DIR).env(env_over(Arc::new(faults.clone())));
        let db = builder.options(options).default_keyspace(keyspace).open().unwrap();
        if fails {
            faults.add(Rule::new(Fault::Error(28)).on(&[Operation::Create]).path("*.table"));
        }
        let mut refused = 0;
        for number in 0..20_000_u32 {
            let result = db.put(number.to_le_bytes(), [7; 1000]);
            refused += usize::from(result.is_err_and(|error| error.kind() == ErrorKind::NoSpace));
            let memory = db.stats().keyspaces[0].memtable_bytes;
            assert!(memory < 4 * MEMTABLE_BYTES, "{memory} bytes after {number} writes");
        }
        assert_eq!(refused > 0, fails);
    }
}

/// A segment of one huge batch was kept for reuse as long as the database was open, with all its room.
#[test]
fn a_segment_of_a_huge_batch_is_not_kept_for_reuse() {
    let fs = MemoryFileSystem::new(1);
    let options =
        Options { background_threads: 0, log_segment_bytes: 64 << 10, ..Options::default() };
    let builder = Db::builder(DIR).env(env_over(Arc::new(fs.clone())));
    let db = builder.options(options).open().unwrap();
    db.put("huge", vec![7; 1 << 20]).unwrap();
    for number in 0..4_u8 {
        db.put([number], vec![number; 60_000]).unwrap();
    }
    db.flush().unwrap();
    db.wait_until_settled().unwrap();
    let entries = fs.list(Path::new(DIR)).unwrap();
    let logs: Vec<u64> =
        entries.iter().filter(|one| one.name.ends_with(".log")).map(|one| one.len).collect();
    assert!(logs.len() > 1, "some are kept: {logs:?}");
    assert!(logs.iter().all(|bytes| *bytes <= 128 << 10), "{logs:?}");
}

/// With a segment over half full, each write asked for the next one; where that could not be made,
/// each write had it tried again.
#[test]
fn a_segment_that_cannot_be_readied_is_not_tried_again_by_every_write() {
    let faults =
        FaultFileSystem::new(Arc::new(MemoryFileSystem::new(1)), Arc::new(ManualClock::default()));
    let options =
        Options { background_threads: 0, log_segment_bytes: 1 << 20, ..Options::default() };
    let builder = Db::builder(DIR).env(env_over(Arc::new(faults.clone())));
    let db = builder.options(options).open().unwrap();
    db.put("first", "makes the log").unwrap();
    let from = faults.injected().len();
    faults.add(Rule::new(Fault::Error(24)).on(&[Operation::Create]).path("*.log"));
    for number in 0..900_u32 {
        db.put(number.to_le_bytes(), [7; 1000]).unwrap();
        while db.run_background_job() {}
    }
    let tries = faults.injected().len() - from;
    assert!((2..=8).contains(&tries), "{tries} tries");
    faults.clear();
    for number in 0..400_u32 {
        db.put(number.to_le_bytes(), [7; 1000]).unwrap();
        while db.run_background_job() {}
    }
}

/// What only a keyspace needed of the log stayed after the keyspace had been dropped, until somebody
/// flushed another one, which may be never.
#[test]
fn a_dropped_keyspace_lets_go_of_its_log() {
    let env = Env::memory(1);
    let db = open(&env, &options()).unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    let fill = || {
        for number in 0..3_u8 {
            keyspace.put([number], [number; 50_000]).unwrap();
        }
        db.stats().log_segment_count
    };
    assert_eq!(fill(), 3);
    db.put("kept", "in the log").unwrap();
    db.drop_keyspace(&keyspace).unwrap();
    assert_eq!(db.stats().log_segment_count, 1);
    db.put("after", "the drop").unwrap();
    drop((keyspace, db));
    let db = open(&env, &options()).unwrap();
    assert_eq!(db.get("kept").unwrap().unwrap(), "in the log");
    assert_eq!(db.get("after").unwrap().unwrap(), "the drop");
}

/// A segment that a closed database had left was used again once it was open, and written over: a copy
/// by hard links, made while it was closed, lost what stood in it. Found by reading how other engines'
/// checkpoints treat their logs.
#[test]
fn a_copy_by_hard_links_of_a_closed_database_stays_as_it_is() {
    let fs = MemoryFileSystem::new(1);
    let env = env_over(Arc::new(fs.clone()));
    let (dir, copy) = (Path::new(DIR), Path::new("copy"));
    fs.create_dir_all(copy).unwrap();
    let options = Options { log_segment_bytes: 64 << 10, ..options() };
    let open = |dir| Db::builder(dir).env(env.clone()).options(options.clone()).open().unwrap();
    let db = open(dir);
    (0..100_u8).for_each(|number| db.put([number], [number; 100]).unwrap());
    db.close().unwrap();
    for entry in fs.list(dir).unwrap().iter().filter(|entry| entry.name != "LOCK") {
        fs.link(&dir.join(&entry.name), &copy.join(&entry.name)).unwrap();
    }
    let before = files::read_all(&fs, copy);
    assert!(before.keys().any(|name| name.ends_with(".log")), "something is in the log alone");
    let db = open(dir);
    for number in 0..4_000_u32 {
        db.put(number.to_le_bytes(), [7; 100]).unwrap();
        if number % 500 == 0 {
            db.flush().unwrap();
        }
    }
    db.compact::<&[u8]>(..).unwrap();
    db.close().unwrap();
    assert_eq!(files::read_all(&fs, copy), before);
    assert_eq!(open(copy).iter().count(), 100);
}

/// Its outcome was unknown, though it was nowhere: what failed was the write of what waited before it.
#[test]
fn a_write_that_fails_for_the_frames_before_it_is_not_done() {
    for log in [true, false] {
        let fs = MemoryFileSystem::new(1);
        let clock = Arc::new(ManualClock::default());
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), clock);
        let env = env_over(Arc::new(faults.clone()));
        let db = open(&env, &options()).unwrap();
        let keyspace =
            db.keyspace("k", KeyspaceOptions { log, ..KeyspaceOptions::default() }).unwrap();
        db.put_with("before", "value", Durability::Buffered).unwrap();
        faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Write]).path("*.log"));
        // If it is logged, it needs a segment of its own.
        let large = vec![1; 1 << 20];
        let error = keyspace.put_with("key", large, Durability::Process).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Io, Outcome::NotDone), "{error}");
        assert_eq!(keyspace.get("key").unwrap(), None);
        let error = keyspace.put("key", "value").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
        faults.clear();
        drop((keyspace, db));
        let db = open(&env, &options()).unwrap();
        assert_eq!(db.existing_keyspace("k").unwrap().unwrap().get("key").unwrap(), None);
    }
}

/// Two databases that go on from one copy make segments of one id, which decode under the same seed. A
/// shorter one took the place of the other unnoticed, and the manifest was made to say so.
#[test]
fn segment_of_another_life_that_ends_early_is_refused() {
    let fs = MemoryFileSystem::new(1);
    open(&env_of(&fs), &options()).unwrap().close().unwrap();
    let lived = |puts: u32| {
        let fs = fs.snapshot();
        let db = open(&env_of(&fs), &options()).unwrap();
        for number in 0..puts {
            db.put(format!("key {number}"), format!("of {puts}")).unwrap();
        }
        db.close().unwrap();
        fs
    };
    let (longer, shorter) = (lived(5), lived(3));
    let dir = Path::new(DIR);
    let is_log = |(name, _): &(String, _)| files::kind(name) == Some(FileKind::Log);
    let (name, bytes) = files::read_all(&shorter, dir).into_iter().find(is_log).unwrap();
    assert!(longer.exists(&dir.join(&name)).unwrap());
    let mixed = files::with(&longer, dir, &name, &bytes);
    let error = open(&env_of(&mixed), &options()).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    let text = error.to_string();
    let expected = [&*name, "segment is sealed before what is known to be durable"];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    let report = Doctor::new(DIR).env(env_of(&mixed)).verify(&mut |_| {}).unwrap();
    assert!(report.findings.iter().any(|finding| finding.file == name), "{report}");
    open(&env_of(&longer), &options()).unwrap();
}

/// The sync of what a recovery had cut off failed; the next one found an end where the cut was, and relied
/// on it.
#[test]
fn what_a_recovery_cuts_off_stays_cut_off_though_its_sync_has_failed() {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &options()).unwrap();
    db.put_with("key", "value", Durability::Power).unwrap();
    drop(db);
    let dir = Path::new(DIR);
    let is_log = |(name, _): &(String, _)| files::kind(name) == Some(FileKind::Log);
    let (name, bytes) = files::read_all(&fs, dir).into_iter().find(is_log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let torn = [&bytes[..end], &[7; 100]].concat();
    let fs = files::with(&fs, dir, &name, &torn);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Arc::new(ManualClock::default()));
    let below = fs.clone();
    faults.observe(move |event| {
        if event.operation == Operation::Sync && event.fault.is_some() {
            below.forget_unsynced(&event.path);
        }
    });
    faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Sync]).path("*.log").when(When::Nth(1)));
    open(&env_over(Arc::new(faults)), &options()).map(drop).unwrap_err();
    let db = open(&env_of(&fs), &options()).unwrap();
    db.put_with("later", "value", Durability::Power).unwrap();
    let crashed = fs.crash(CrashPolicy::AllLost, 0);
    let len = files::read_all(&crashed, dir)[&name].len();
    assert!(len <= end, "{len} bytes, and {end} were kept");
}

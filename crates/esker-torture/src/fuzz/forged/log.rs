//! Commit groups that are forged, in frames that are sound: opened in every mode.

use std::sync::OnceLock;
use std::time::Duration;

use esker::env::MemoryFileSystem;
use esker::operators::Append;
use esker::{Db, Expiry, KeyspaceOptions, Merge, Options, RecoveryMode};
use esker_base::FileKind;

use super::{Answers, Change, DIR, Segment, check, env_of, segments, verify, write_segment};

const KEYSPACES: [&str; 3] = ["default", "merging", "unlogged"];

/// A database that was killed, and the segments of its log.
fn sample() -> &'static (MemoryFileSystem, Vec<Segment>) {
    static SAMPLE: OnceLock<(MemoryFileSystem, Vec<Segment>)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let fs = killed();
        let segments = segments(&fs, FileKind::Log);
        (fs, segments)
    })
}

fn key(number: usize) -> Vec<u8> {
    format!("key:{:02}", number % 30).into_bytes()
}

fn killed() -> MemoryFileSystem {
    let fs = MemoryFileSystem::new(1);
    let db = open(&fs, RecoveryMode::Strict, Some(200)).expect("memory");
    let merging = KeyspaceOptions {
        merge_operator: Some(Merge::new(Append::new(","))),
        ..KeyspaceOptions::default()
    };
    let merging = db.keyspace("merging", merging).expect("memory");
    let unlogged = KeyspaceOptions { log: false, ..KeyspaceOptions::default() };
    let unlogged = db.keyspace("unlogged", unlogged).expect("memory");
    for number in 0..40 {
        let mut batch = db.batch();
        batch.put(db.default_keyspace(), key(number), format!("value {number}"));
        match number % 5 {
            0 => batch.delete(db.default_keyspace(), key(number / 2)),
            1 => batch.merge(&merging, key(number), "operand"),
            2 => batch.single_delete(&merging, key(number)),
            3 => (0..20).for_each(|_| batch.put(&merging, key(number), [b'x'; 20])),
            _ => batch.delete_range(&merging, key(number % 20)..key(number % 20 + 5)),
        }
        batch.commit().expect("memory");
        let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_100);
        merging.put_with_expiry(key(number + 3), "expires", Expiry::At(at)).expect("memory");
        unlogged.put(key(number), "unlogged").expect("memory");
        if number == 20 {
            db.flush().expect("memory");
        }
        if number % 7 == 0 {
            db.sync().expect("memory");
        }
    }
    // As a process that is killed leaves it: a close would write tables.
    let killed = fs.snapshot();
    drop((merging, unlogged, db));
    killed
}

fn open(fs: &MemoryFileSystem, mode: RecoveryMode, packs: Option<u32>) -> esker::Result<Db> {
    let options = Options {
        background_threads: 0,
        log_segment_bytes: 0,
        log_compression_threshold_bytes: packs,
        ..Options::default()
    };
    let builder = Db::builder(DIR).env(env_of(fs)).options(options).recovery(mode);
    builder.read_only(mode == RecoveryMode::Salvage).open()
}

/// One byte says whether segments are sealed, frames vouch for others, and in which mode; changes follow.
pub(in crate::fuzz) fn run(bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else { return };
    let (fs, segments) = sample();
    let fs = fs.snapshot();
    let mut forged = segments.clone();
    let count = forged.iter().map(|segment| segment.payloads.len()).sum();
    for change in Change::all(rest) {
        let mut number = change.part(count);
        for segment in &mut forged {
            if let Some(payload) = segment.payloads.get_mut(number) {
                change.apply(payload);
                break;
            }
            number -= segment.payloads.len();
        }
    }
    for mut segment in forged {
        segment.is_sealed |= how & 2 != 0;
        write_segment(&fs, &segment, how & 1 != 0);
    }
    let modes = [
        RecoveryMode::Strict,
        RecoveryMode::TornTail,
        RecoveryMode::PointInTime,
        RecoveryMode::Salvage,
    ];
    recover(&fs, modes[usize::from(how >> 2 & 3)]);
}

fn recover(fs: &MemoryFileSystem, mode: RecoveryMode) {
    let report = verify(fs);
    let db = match open(fs, mode, None) {
        Ok(db) => db,
        Err(error) => {
            check(&error);
            let is_sound = report.is_some_and(|report| report.is_sound());
            assert!(!is_sound || mode == RecoveryMode::Strict, "sound, and not opened: {error}");
            return;
        }
    };
    let before = ask(&db);
    if mode == RecoveryMode::Salvage {
        return;
    }
    assert!(before.iter().all(Answers::are_sound), "taken, and not sound: {before:?}");
    db.flush().expect("what was taken can be flushed");
    db.compact_all().expect("what was taken can be compacted");
    // Not always the same: a single delete takes one put of several, once it meets it.
    let after = ask(&db);
    assert!(after.iter().all(Answers::are_sound), "not sound after a compaction: {after:?}");
    db.close().expect("what was taken can be closed");
    let report = verify(fs).expect("what was closed can be verified");
    assert!(report.is_sound(), "what was taken is not sound: {report}");
    let db = open(fs, RecoveryMode::Strict, None).expect("what was closed opens");
    assert!(ask(&db) == after, "a close changes answers: {after:?}");
}

fn ask(db: &Db) -> Vec<Answers> {
    let keys: Vec<Vec<u8>> = (0..30).step_by(3).map(key).collect();
    let keyspaces = KEYSPACES.map(|name| db.existing_keyspace(name).expect("its order is known"));
    keyspaces.iter().flatten().map(|keyspace| Answers::of(keyspace, &keys)).collect()
}

pub(in crate::fuzz) fn seeds() -> Vec<Vec<u8>> {
    let plain = (0..16).map(|how| vec![how]);
    let one = (0..40_u8).map(|n| vec![n % 16, 5 * n, n / 3, n / 2, 0, 1 << (n % 8), n % 5]);
    plain.chain(one).collect()
}

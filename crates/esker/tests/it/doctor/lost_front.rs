//! The front of the log is gone, and what follows it is older than the newest table.

use esker::env::Env;
use esker::{Durability, ErrorKind, KeyspaceOptions, RecoveryMode};
use esker_base::FileHeader;

use super::modes::{dropped, open};
use super::sample::Files;

/// A killed process: one write of a keyspace without tables stands first in the log; all others are of
/// another keyspace, which was flushed since. `count` of them fill one segment or several.
fn flushed_over(count: u64, ends_with_sync: bool) -> Env {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    let cold = db.keyspace("cold", KeyspaceOptions::default()).unwrap();
    cold.put("x", "1").unwrap();
    for n in 0..count {
        db.put(format!("{n:04}"), [b'x'; 600]).unwrap();
    }
    db.default_keyspace().flush().unwrap();
    if ends_with_sync {
        db.put_with("y", "2", Durability::Power).unwrap();
    }
    env
}

/// The flush had synced the log, and its edit names a number behind all that is missing, so nothing
/// seemed to be: the segment was cut off in front of its first frame, for good.
#[test]
fn a_log_without_its_first_frames_is_refused_though_a_flush_went_beyond_them() {
    for (count, ends_with_sync) in [(300, true), (300, false), (50, false)] {
        for is_cut in [false, true] {
            let env = flushed_over(count, ends_with_sync);
            let files = Files(&env);
            let log = files.ending_with(".log")[0].clone();
            if is_cut {
                files.replace(&log, &files.read(&log)[..FileHeader::LEN]);
            } else {
                files.flip(&log, FileHeader::LEN + 12);
            }
            let what = format!("{count} {ends_with_sync} {is_cut}");
            assert!(!files.verify().is_sound(), "{what}");
            let before = files.everything();
            for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
                let error = open(&env, mode).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error}");
                assert!(error.to_string().contains(&log), "{what}: {error}");
            }
            assert_eq!(files.everything(), before, "{what}: nothing was changed");
            let db = open(&env, RecoveryMode::PointInTime).unwrap();
            let told = dropped(&db);
            assert!(told.iter().any(|one| one.starts_with(&log)), "{what}: {told:?}");
            assert_eq!(db.iter().count() as u64, count, "{what}: what is in tables stays");
            drop(db);
            open(&env, RecoveryMode::Strict).unwrap();
        }
    }
}

/// Also where the manifest does not say how far the log was durable, as none of before did.
#[test]
fn a_torn_end_with_frames_behind_it_is_damage_if_a_later_segment_was_durable() {
    let env = Env::memory(1);
    let db = open(&env, RecoveryMode::TornTail).unwrap();
    for n in 0..300 {
        db.put(format!("{n:04}"), [b'x'; 600]).unwrap();
    }
    db.put_with("y", "2", Durability::Power).unwrap();
    // Says that all before it was durable.
    db.put("z", "3").unwrap();
    drop(db);
    let files = Files(&env);
    let log = files.ending_with(".log")[0].clone();
    files.flip(&log, FileHeader::LEN + 12);
    let error = open(&env, RecoveryMode::TornTail).unwrap_err();
    let what = "frame is not valid, though it was durable when";
    assert!(error.to_string().contains(what), "{error}");
}

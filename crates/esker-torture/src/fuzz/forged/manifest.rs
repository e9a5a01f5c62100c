//! Manifests whose edits are forged, in frames that are sound: opened, verified, repaired.

use std::sync::OnceLock;

use esker::doctor::{Doctor, RepairOptions};
use esker::env::MemoryFileSystem;
use esker::{Db, ErrorKind, KeyspaceOptions};
use esker_base::FileKind;
use esker_tree::VersionEdit;

use super::{Answers, Change, DIR, Segment, check, env_of, segments, verify, write_segment};
use crate::fuzz::sample;

/// A database that was closed, one that was killed, and the manifests of both, an edit of one record for
/// each record: so a change has few bytes to go wrong in.
fn samples() -> &'static [(MemoryFileSystem, Segment)] {
    static SAMPLES: OnceLock<Vec<(MemoryFileSystem, Segment)>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let closed = database();
        let reopened = closed.snapshot();
        let db = sample::open(env_of(&reopened)).expect("the sample is sound");
        db.put("key 05", "newer").expect("memory");
        db.flush().expect("memory");
        db.put("key 06", "newer").expect("memory");
        let killed = reopened.snapshot();
        drop(db);
        let sample = |fs: MemoryFileSystem| {
            let mut manifest = segments(&fs, FileKind::Manifest).pop().expect("a manifest");
            if !manifest.is_sealed {
                manifest.payloads = manifest.payloads.iter().flat_map(|one| apart(one)).collect();
            }
            (fs, manifest)
        };
        vec![sample(closed), sample(killed)]
    })
}

/// A closed database with tables, a log and two keyspaces.
fn database() -> MemoryFileSystem {
    let fs = MemoryFileSystem::new(1);
    let db = sample::open(env_of(&fs)).expect("memory");
    let small = KeyspaceOptions { block_size_bytes: 256, ..KeyspaceOptions::default() };
    db.keyspace("default", small.clone()).expect("memory");
    let users = db.keyspace("users", small).expect("memory");
    for round in 0..3 {
        for number in (0..30).filter(|number| number % 3 == round) {
            db.put(format!("key {number:02}"), format!("value {number} {round}")).expect("memory");
        }
        users.put("user", round.to_string()).expect("memory");
        if round < 2 {
            db.flush().expect("memory");
        }
    }
    db.close().expect("memory");
    fs
}

/// The records of an edit as edits of their own.
fn apart(payload: &[u8]) -> Vec<Vec<u8>> {
    let edit = VersionEdit::decode(payload).expect("the sample is whole");
    let one = |record| {
        let mut payload = Vec::new();
        VersionEdit { records: vec![record] }.encode(&mut payload);
        payload
    };
    edit.records.into_iter().map(one).collect()
}

/// One byte says which manifest, and whether its frames vouch for others; changes follow.
pub(in crate::fuzz) fn run(bytes: &[u8]) {
    let Some((&how, rest)) = bytes.split_first() else { return };
    let samples = samples();
    let (fs, manifest) = &samples[usize::from(how & 1)];
    let fs = fs.snapshot();
    let mut forged = manifest.clone();
    let count = forged.payloads.len();
    for change in Change::all(rest) {
        change.apply(&mut forged.payloads[change.part(count)]);
    }
    write_segment(&fs, &forged, how & 2 != 0);
    let is_sound = verify(&fs).is_some_and(|report| report.is_sound());
    repair(&fs.snapshot(), how & 4 != 0);
    match sample::open(env_of(&fs)) {
        Err(error) => {
            check(&error);
            assert!(!is_sound, "sound, and not opened: {error}");
        }
        Ok(db) => {
            let before = ask(&db);
            let are_sound = before.iter().all(Answers::are_sound);
            assert!(are_sound || !is_sound, "sound, and: {before:?}");
            // What is in tables may be taken out of the log once more, where the manifest says that it is
            // not: readers do not mind.
            drop(db.compact_all().inspect_err(check));
            let after = ask(&db);
            assert!(after == before || !is_sound, "sound, and changed: {before:?}, {after:?}");
            db.close().inspect_err(check).expect("what opens can be closed");
            drop(sample::open(env_of(&fs)).expect("what was closed opens"));
        }
    }
}

/// Repairs the database of `fs`: what is left then opens, and is sound.
fn repair(fs: &MemoryFileSystem, past_holes: bool) {
    let doctor = Doctor::new(DIR).env(env_of(fs));
    for dry_run in [true, false] {
        if let Err(error) = doctor.repair(&RepairOptions { dry_run, past_holes }, &mut |_| {}) {
            return check(&error);
        }
    }
    let report = verify(fs).expect("what was repaired can be verified");
    assert!(report.is_sound(), "repaired, and not sound: {report}");
    let db = sample::open(env_of(fs)).expect("what was repaired opens");
    let answers = ask(&db);
    assert!(answers.iter().all(Answers::are_sound), "repaired, and: {answers:?}");
}

fn ask(db: &Db) -> Vec<Answers> {
    let keys: Vec<Vec<u8>> =
        (0..30).step_by(4).map(|n| format!("key {n:02}").into_bytes()).collect();
    let mut answers = Vec::new();
    for name in db.keyspaces() {
        match db.existing_keyspace(&name) {
            Ok(keyspace) => answers.push(Answers::of(&keyspace.expect("it is listed"), &keys)),
            // Its order is not known.
            Err(error) => assert!(error.kind() == ErrorKind::UserCode, "{error}"),
        }
    }
    answers
}

pub(in crate::fuzz) fn seeds() -> Vec<Vec<u8>> {
    let plain = (0..8).map(|how| vec![how]);
    let one = (0..64_u8).map(|n| vec![n % 8, n / 2, n % 16, n, 0, 1 << (n % 8), n % 5]);
    plain.chain(one).collect()
}

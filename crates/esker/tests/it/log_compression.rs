//! Commit groups compressed in the log: they are recovered as written, in any mix with plain ones,
//! and damage to them is noticed like any other.

use std::path::Path;

use esker::doctor::{Doctor, RepairOptions, VerifyReport};
use esker::env::{Env, FileError, FileSystem as _, MemoryFileSystem};
use esker::{Db, Durability, ErrorKind, Event, KeyspaceOptions, Options, RecoveryMode};
use esker_base::{FileHeader, FileId};
use esker_log::{ExpectedHeader, LogReader, LogWriter};

use crate::files;
use crate::journal::Marks;
use crate::random::Rng;
use crate::recovered::{DIR, Found, Loss, env_of, open, options};
use crate::state::{State, Write};

fn compressing(log_compression_threshold_bytes: Option<u32>) -> Options {
    Options { log_compression_threshold_bytes, ..options() }
}

fn logs(fs: &MemoryFileSystem) -> Vec<String> {
    let all = files::read_all(fs, Path::new(DIR));
    all.into_keys().filter(|name| name.ends_with(".log")).collect()
}

fn header(fs: &MemoryFileSystem, name: &str) -> FileHeader {
    FileHeader::decode(&files::read_all(fs, Path::new(DIR))[name]).unwrap()
}

fn reader(fs: &MemoryFileSystem, name: &str, newest: u16) -> Result<LogReader, FileError> {
    let (id, kind) = FileId::parse_file_name(name).unwrap();
    let expected = ExpectedHeader { kind, id, database: None, newest_format: newest };
    LogReader::open(fs, &Path::new(DIR).join(name), &expected)
}

fn verified(env: &Env) -> VerifyReport {
    Doctor::new(DIR).env(env.clone()).verify(&mut |_| {}).unwrap()
}

/// Writes batches of three puts, each compressible and durable, as the state says.
fn write_batches(db: &Db, states: &mut Vec<State>, count: usize) {
    for number in states.len()..states.len() + count {
        let mut state = states.last().unwrap().clone();
        let mut batch = db.batch();
        for key in 0..3 {
            let (key, value) =
                (format!("key {}", key * number), format!("{number:03} ").repeat(20));
            batch.put(db.default_keyspace(), &key, &value);
            state.apply(&[Write::put("default", key.as_bytes(), value.as_bytes())]);
        }
        batch.commit_with(Durability::Power).unwrap();
        states.push(state);
    }
}

/// A database with compressed groups in its log, killed or closed, and the state after each.
fn written(closes: bool) -> (MemoryFileSystem, Vec<State>) {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &compressing(Some(100))).unwrap();
    let mut states = vec![State::new()];
    write_batches(&db, &mut states, 6);
    let counters = db.stats().counters;
    assert!(0 < counters.log_packed_bytes, "{counters:?}");
    let killed = fs.snapshot();
    db.close().unwrap();
    (if closes { fs } else { killed }, states)
}

#[test]
fn groups_come_back_whatever_the_option_was_when_they_were_written() {
    let mut fs = MemoryFileSystem::new(1);
    let mut rng = Rng::new(1);
    let names = ["default", "blobs", "unlogged"];
    let mut expected = vec![std::collections::BTreeMap::new(); names.len()];
    for (round, threshold) in
        [None, Some(0), Some(0), None, Some(2000), Some(0), None].into_iter().enumerate()
    {
        let durability = *rng.pick(&[Durability::Process, Durability::Power]);
        let options = Options { log_segment_bytes: 1 << 20, ..compressing(threshold) };
        let db = open(&env_of(&fs), &options).unwrap();
        let keyspaces = names.map(|name| match name {
            "default" => db.default_keyspace().clone(),
            name => {
                let (log, blob_threshold_bytes) = (name != "unlogged", Some(64));
                let options =
                    KeyspaceOptions { log, blob_threshold_bytes, ..KeyspaceOptions::default() };
                db.keyspace(name, options).unwrap()
            }
        });
        for (keyspace, expected) in keyspaces.iter().zip(&expected) {
            let found = keyspace.iter().map(|entry| entry.unwrap());
            let found = found.map(|(key, value)| (key.to_vec(), value.to_vec()));
            let found: std::collections::BTreeMap<_, _> = found.collect();
            assert!(found == *expected, "{} in round {round}", keyspace.name());
        }
        for number in 0..20 {
            let mut batch = db.batch();
            for _ in 0..1 + rng.below(5) {
                let index = rng.index(names.len());
                let key = format!("key {}", rng.below(40)).into_bytes();
                let value = value(&mut rng, number);
                batch.put(&keyspaces[index], &key, &value);
                expected[index].insert(key, value);
            }
            batch.commit_with(durability).unwrap();
        }
        keyspaces[2].flush().unwrap();
        let counters = db.stats().counters;
        assert_eq!(counters.log_packed_bytes == 0, threshold.is_none(), "{counters:?}");
        assert_eq!(counters.log_packed_bytes < counters.log_unpacked_bytes, threshold.is_some());
        // Killed or closed.
        if rng.one_in(2) {
            fs = fs.snapshot();
        } else {
            db.close().unwrap();
        }
    }
    let report = verified(&env_of(&fs));
    assert!(report.is_sound(), "{report}");
}

/// Of all lengths, some that compress and some that do not.
fn value(rng: &mut Rng, number: u64) -> Vec<u8> {
    if number == 7 {
        return vec![b'x'; 5 << 20];
    }
    let len = *rng.pick(&[0, 20, 100, 1000, 70_000]);
    match rng.one_in(2) {
        true => vec![number as u8; len],
        false => (0..len).map(|_| rng.below(256) as u8).collect(),
    }
}

#[test]
fn a_release_that_cannot_unpack_refuses_the_segment_by_name() {
    let (fs, _) = written(false);
    let name = logs(&fs).pop().unwrap();
    assert_eq!(header(&fs, &name).format, 3);
    let error = reader(&fs, &name, 2).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{name} is a log of format version 3, and this release reads versions up to 2")
    );
    // Without the option segments are those of ever.
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &compressing(None)).unwrap();
    db.put("key", vec![b'x'; 5000]).unwrap();
    let name = logs(&fs).pop().unwrap();
    assert_eq!(header(&fs, &name).format, 2);
    let mut reader = reader(&fs, &name, 2).unwrap();
    assert!(5000 < reader.next_frame().unwrap().expect("a put").payload.len());
}

#[test]
fn every_flipped_bit_is_an_error_or_costs_the_last_group_at_most() {
    for closes in [false, true] {
        let (fs, states) = written(closes);
        let name = logs(&fs).pop().unwrap();
        let bytes = files::read_all(&fs, Path::new(DIR)).remove(&name).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let last = states.len() - 1;
        let (mut refused, mut exact, mut shorter) = (0, 0, 0);
        for (at, bit) in (0..end).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let fs = files::with(&fs, Path::new(DIR), &name, &damaged);
            let what = format!("bit {bit} of byte {at}, closed: {closes}");
            match open(&env_of(&fs), &options()).and_then(|db| Found::read(&db)) {
                Ok(found) => {
                    let durable = if closes { last } else { last - 1 };
                    let marks = Marks { issued: last, durable, ..Marks::default() };
                    let index = found.index(&states, &marks, Loss::Power, &what);
                    exact += usize::from(index == last);
                    shorter += usize::from(index != last);
                }
                Err(error) => {
                    let kinds = [ErrorKind::Corruption, ErrorKind::UnsupportedFormat];
                    assert!(kinds.contains(&error.kind()), "{what}: {error}");
                    refused += 1;
                }
            }
        }
        // Only a segment that was not closed ends with what nothing vouches for.
        assert_eq!(shorter > 0, !closes, "{refused}, {exact}, {shorter}");
        assert!(exact == 0 && 1000 < refused, "{refused}, {exact}, {shorter}");
    }
}

#[test]
fn every_cut_gives_a_prefix_and_of_a_closed_database_an_error() {
    for closes in [false, true] {
        let (fs, states) = written(closes);
        let name = logs(&fs).pop().unwrap();
        let bytes = files::read_all(&fs, Path::new(DIR)).remove(&name).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut found = std::collections::BTreeSet::new();
        for len in FileHeader::LEN..end {
            let fs = files::with(&fs, Path::new(DIR), &name, &bytes[..len]);
            let what = format!("cut to {len} bytes, closed: {closes}");
            match open(&env_of(&fs), &options()).and_then(|db| Found::read(&db)) {
                Ok(state) => {
                    let marks = Marks { issued: states.len() - 1, ..Marks::default() };
                    assert!(!closes, "{what}");
                    found.insert(state.index(&states, &marks, Loss::Power, &what));
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error}"),
            }
        }
        let count = if closes { 0 } else { states.len() - 1 };
        assert!(found.iter().copied().eq(0..count), "closed: {closes}, {found:?}");
    }
}

fn dropped(db: &Db) -> Vec<String> {
    let events = db.events().into_iter().map(|(_, event)| event);
    let why = events.filter_map(|event| match event {
        Event::LogDropped { why, .. } => Some(why),
        _ => None,
    });
    why.collect()
}

#[test]
fn every_mode_of_recovery_and_the_doctor_do_with_compressed_groups_as_with_plain_ones() {
    let (fs, states) = written(false);
    let name = logs(&fs).pop().unwrap();
    let mut frames = reader(&fs, &name, 3).unwrap();
    let mut offsets = Vec::new();
    while let Some(frame) = frames.next_frame().unwrap() {
        assert_eq!(frame.payload[0], 0, "a group is plain");
        offsets.push(frame.offset as usize);
    }
    let mut bytes = files::read_all(&fs, Path::new(DIR)).remove(&name).unwrap();
    bytes[offsets[2] + 30] ^= 1;
    let damaged = files::with(&fs, Path::new(DIR), &name, &bytes);
    let open_in = |mode: RecoveryMode| {
        let fs = damaged.snapshot();
        let builder = Db::builder(DIR).env(env_of(&fs)).options(options()).recovery(mode);
        builder.read_only(mode == RecoveryMode::Salvage).open()
    };
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
        let error = open_in(mode).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
    let db = open_in(RecoveryMode::PointInTime).unwrap();
    let index = |db: &Db| {
        let found = Found::read(db).unwrap();
        let marks = Marks { issued: states.len() - 1, ..Marks::default() };
        found.index(&states, &marks, Loss::Power, "damaged")
    };
    assert_eq!((index(&db), dropped(&db).len()), (2, 1));
    drop(db);
    let db = open_in(RecoveryMode::Salvage).unwrap();
    let last = states.last().unwrap().contents("default");
    // Only the third batch is missing, and one of its keys is in no other.
    let missing: Vec<_> = last.keys().filter(|key| db.get(key).unwrap().is_none()).collect();
    assert_eq!((missing.len(), dropped(&db).len()), (1, 1), "{missing:?}");
    drop(db);

    let env = env_of(&damaged);
    let report = verified(&env);
    assert!(!report.is_sound() && report.to_string().contains(&name), "{report}");
    let doctor = Doctor::new(DIR).env(env.clone());
    doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    let report = verified(&env);
    assert!(report.is_sound(), "{report}");
    assert_eq!(index(&open(&env, &options()).unwrap()), 2);
}

/// A frame that is as it was written, of a group that cannot be: a length of petabytes took that much
/// memory.
#[test]
fn a_whole_frame_with_an_impossible_length_is_damage_with_its_place() {
    let (fs, _) = written(false);
    let name = logs(&fs).pop().unwrap();
    let path = Path::new(DIR).join(&name);
    let header = header(&fs, &name);
    fs.remove(&path).unwrap();
    let mut writer = LogWriter::create(&fs, &path, header, 0).unwrap();
    let group = b"\x00\x01\x00\x01\xff\xff\xff\xff\xff\xff\x7f\x1f\x01\x00";
    writer.append(&[group]);
    writer.seal().unwrap();
    let env: Env = env_of(&fs);
    let expected = "packed operations of an impossible length at byte 4";
    let error = open(&env, &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(
        error.to_string(),
        format!("{name} is damaged at offset 48: a commit group does not decode: {expected}")
    );
    let report = verified(&env).to_string();
    assert!(report.contains("impossible length"), "{report}");
}

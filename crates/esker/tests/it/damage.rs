//! Damaged files: every answer is an error or correct; nothing is silently missing, and nothing
//! panics.
//!
//! Of a closed database every bit is flipped. What is garbled, and which bit of each byte of a killed
//! database is flipped, goes by `ESKER_SEED` and `ESKER_BUDGET` as in `model`. Only what is garbled is
//! more than one change, and is shortened.

mod garbled;

use std::ops::RangeInclusive;
use std::path::Path;

use esker::doctor::Doctor;
use esker::env::{CrashPolicy, MemoryFileSystem};
use esker::{
    Compression, Cursor, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, RecoveryMode, Result,
};
use esker_base::{FileHeader, FileKind};
use esker_tree::Manifest;

use crate::files;
use crate::journal::Marks;
use crate::random::{Rng, for_each_seed};
use crate::recovered::{DIR, Found, Loss, env_of, open, options};
use crate::sample;
use crate::state::{State, Write};
use crate::watchdog::{Watchdog, step};

/// What came of reading damaged files.
#[derive(Default, Debug)]
struct Tally {
    refused: usize,
    harmless: usize,
}

impl Tally {
    /// Reads the whole database, which gives what it should or an error. Returns whether it was
    /// harmless.
    fn look(&mut self, fs: &MemoryFileSystem, state: &State, what: &str) -> bool {
        // A read-only open would leave the list of warm blocks; this one is a copy.
        let db = open(&env_of(&fs.snapshot()), &sample::options());
        match sample::read(fs, db, state, what) {
            Ok(()) => {
                self.harmless += 1;
                true
            }
            Err(error) => {
                let is_typed =
                    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::UnsupportedFormat);
                assert!(is_typed, "{what}: {error:?}");
                self.refused += 1;
                false
            }
        }
    }
}

/// # Panics
/// If the doctor finds nothing in the file `name`.
fn assert_found(fs: &MemoryFileSystem, name: &str, what: &str) {
    let report = Doctor::new(DIR).env(env_of(fs)).verify(&mut |_| {}).unwrap();
    assert!(report.findings.iter().any(|finding| finding.file == name), "{what}: {report}");
}

/// Whether no open, but only a doctor, reads the file: the manifest before the newest.
fn is_predecessor(name: &str) -> bool {
    Manifest::parse_predecessor(name).is_some()
}

/// Whether the byte is of the frame that ends the manifest before the newest and says nothing but that all
/// before it was durable: without it, that file ends as a crash leaves one, and nothing is lost.
fn only_vouches(name: &str, at: usize, len: usize) -> bool {
    const FRAME_LEN: usize = 18;
    is_predecessor(name) && len - FRAME_LEN <= at
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    damaged[bit / 8] ^= 1 << (bit % 8);
    damaged
}

/// One that nobody has given options: all its log is in one segment, and each table in few blocks.
#[test]
fn flipped_bit_is_an_error_or_harmless_with_default_options() {
    let _watchdog = Watchdog::start("flipped_bit_with_default_options".into());
    let (fs, mut state) = (MemoryFileSystem::new(1), State::new());
    let dir = Path::new(DIR);
    let open = |fs: &MemoryFileSystem| Db::builder(DIR).env(env_of(fs)).open();
    let db = open(&fs).unwrap();
    for number in 0..60 {
        let (key, value) = (format!("key {:02}", number % 40), format!("value {number}"));
        db.put(&key, &value).unwrap();
        state.apply(&[Write::put("default", key.as_bytes(), value.as_bytes())]);
        if number == 40 {
            db.flush().unwrap();
        }
    }
    db.close().unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for (name, bytes) in files::read_all(&fs, dir) {
        for bit in 0..bytes.len() * 8 {
            step();
            let fs = files::with(&fs, dir, &name, &flipped(&bytes, bit));
            let copy = fs.snapshot();
            let what = format!("bit {bit} of {name}");
            match sample::read(&fs, open(&fs), &state, &what) {
                // What no answer needed was not read; the doctor reads that, too.
                Ok(()) => {
                    harmless += 1;
                    if !only_vouches(&name, bit / 8, bytes.len()) {
                        assert_found(&copy, &name, &what);
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error:?}");
                    refused += 1;
                }
            }
        }
    }
    eprintln!("counted: {refused} flipped bits with default options refused");
    eprintln!("counted: {harmless} flipped bits with default options harmless");
}

#[test]
fn flipped_bit_is_an_error_or_harmless() {
    let (fs, state) = sample::in_memory_with_blobs();
    let dir = Path::new(DIR);
    let _watchdog = Watchdog::start("flipped_bit_is_an_error_or_harmless".into());
    let mut tally = Tally::default();
    for (name, bytes) in files::read_all(&fs, dir) {
        for bit in 0..bytes.len() * 8 {
            let fs = files::with(&fs, dir, &name, &flipped(&bytes, bit));
            let what = format!("bit {bit} of {name}");
            if tally.look(&fs, &state, &what) && !only_vouches(&name, bit / 8, bytes.len()) {
                assert_found(&fs, &name, &what);
            }
        }
    }
    eprintln!(
        "counted: {} flipped bits of a closed database refused\ncounted: {} flipped bits of a closed database harmless",
        tally.refused, tally.harmless
    );
    assert!(tally.harmless < tally.refused, "{tally:?}");
}

/// A log or manifest that ended early, between two whole frames, could not be told from one that was
/// never longer. A closed database has its ends written down.
#[test]
fn file_of_a_closed_database_that_was_cut_is_refused() {
    let _watchdog = Watchdog::start("file_of_a_closed_database_that_was_cut_is_refused".into());
    let (fs, state) = sample::in_memory_with_blobs();
    let dir = Path::new(DIR);
    let mut tally = Tally::default();
    for (name, bytes) in files::read_all(&fs, dir) {
        for len in 0..bytes.len() {
            let fs = files::with(&fs, dir, &name, &bytes[..len]);
            let what = format!("{name} cut to {len} bytes");
            let is_harmless = tally.look(&fs, &state, &what);
            if name.ends_with(".warm") {
                // Nothing depends on it.
                assert!(is_harmless, "{what}");
                assert_found(&fs, &name, &what);
            } else {
                assert!(!is_harmless || is_predecessor(&name), "{what}");
            }
        }
    }
    eprintln!("counted: {} cut files", tally.refused + tally.harmless);
    assert!(tally.harmless < tally.refused, "{tally:?}");
}

#[test]
fn file_in_the_place_of_another_is_refused() {
    let (fs, state) = sample::in_memory_with_blobs();
    let dir = Path::new(DIR);
    let all = files::read_all(&fs, dir);
    let mut tally = Tally::default();
    for (name, bytes) in &all {
        for (other, others) in all.iter().filter(|(other, _)| name < *other) {
            let fs = files::with(&fs, dir, name, others);
            let fs = files::with(&fs, dir, other, bytes);
            let what = format!("{name} and {other} exchanged");
            if tally.look(&fs, &state, &what) {
                // One that is not needed and one that only a repair reads.
                assert!(
                    [name, other].map(|name| name.ends_with(".warm")).contains(&true),
                    "{what}"
                );
                assert!([name, other].map(|name| is_predecessor(name)).contains(&true), "{what}");
            }
        }
    }
    assert!(2 < tally.refused && tally.harmless <= 1, "{tally:?}");
}

/// A table or blob file that is another one is named by the open itself, whatever is read later: its
/// length alone does not tell, nor does a checksum that nobody compares.
#[test]
fn file_that_starts_as_another_one_is_named_at_open() {
    let (fs, _) = sample::in_memory_with_blobs();
    let dir = Path::new(DIR);
    let all = files::read_all(&fs, dir);
    let named = |name: &&String| name.ends_with(".table") || name.ends_with(".blob");
    let mut count = 0;
    for name in all.keys().filter(named) {
        for (other, others) in all.iter().filter(|(other, _)| *other != name) {
            let mut bytes = all[name].clone();
            let header = ..FileHeader::LEN;
            bytes[header].copy_from_slice(&others[header]);
            let fs = files::with(&fs, dir, name, &bytes);
            let error = open(&env_of(&fs), &options()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{name} as {other}: {error}");
            assert!(error.to_string().contains(name.as_str()), "{name} as {other}: {error}");
            count += 1;
        }
    }
    assert!(40 < count, "{count}");
}

#[test]
fn missing_file_is_noticed() {
    let (fs, state) = sample::in_memory_with_blobs();
    let dir = Path::new(DIR);
    let mut tally = Tally::default();
    for name in files::read_all(&fs, dir).keys() {
        let copy = fs.snapshot();
        esker::env::FileSystem::remove(&copy, &dir.join(name)).unwrap();
        tally.look(&copy, &state, &format!("{name} removed"));
    }
    // All but the manifest before the newest and the list of warm blocks.
    assert!(2 < tally.refused && tally.harmless == 2, "{tally:?}");
}

/// A database whose process was killed after `count` writes, all being durable; the state after each.
fn killed(count: usize) -> (MemoryFileSystem, Vec<State>) {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &options()).unwrap();
    let mut states = vec![State::new()];
    for i in 0..count {
        let (key, value) = (format!("key {:02}", i % 20), format!("value {i}"));
        db.put_with(&key, &value, Durability::Power).unwrap();
        let mut state = states[i].clone();
        state.apply(&[Write::put("default", key.as_bytes(), value.as_bytes())]);
        states.push(state);
        match i {
            8 | 16 => db.flush().unwrap(),
            20 => db.compact::<&[u8]>(..).unwrap(),
            _ => {}
        }
    }
    let killed = fs.snapshot();
    db.close().unwrap();
    (killed, states)
}

/// A segment has its header before the manifest names it: without one it is not a segment that nothing was
/// ever written to. A recovery up to the damage makes it one.
#[test]
fn log_of_a_killed_database_without_its_header_is_no_empty_one() {
    let (fs, _) = killed(7);
    let dir = Path::new(DIR);
    let (name, bytes) = files::read_all(&fs, dir)
        .into_iter()
        .find(|(name, _)| files::kind(name) == Some(FileKind::Log))
        .unwrap();
    let cuts = (0..FileHeader::LEN).map(|len| bytes[..len].to_vec());
    let zeros = [vec![0; FileHeader::LEN], vec![0; bytes.len()], vec![1; FileHeader::LEN - 1]];
    for damaged in cuts.chain(zeros) {
        let what = format!("{} bytes of {name}", damaged.len());
        let fs = files::with(&fs, dir, &name, &damaged);
        for mode in [RecoveryMode::TornTail, RecoveryMode::Strict] {
            let error = open_in_mode(&fs, mode).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error:?}");
            assert!(error.to_string().contains(&name), "{what}: {error}");
        }
        assert_found(&fs, &name, &what);
        let db = open_in_mode(&fs, RecoveryMode::PointInTime).unwrap();
        assert!(db.iter().next().is_none(), "{what}");
        db.put_with("new", "value", Durability::Power).unwrap();
        drop(db);
        // Open databases leave what they have: no close has made anything better.
        let again = fs.crash(CrashPolicy::AllLost, 0);
        let db = open_in_mode(&again, RecoveryMode::Strict).unwrap();
        assert_eq!(db.get("new").unwrap().unwrap(), "value", "{what}");
    }
}

fn open_in_mode(fs: &MemoryFileSystem, mode: RecoveryMode) -> Result<Db> {
    Db::builder(DIR).env(env_of(fs)).options(options()).recovery(mode).open()
}

/// Nothing tells the last frame of a log or manifest that nobody closed from one that a crash has
/// torn; all before it was durable when it was written.
#[test]
fn flipped_bit_of_a_killed_database_is_an_error_or_costs_the_last_write_at_most() {
    let (fs, states) = killed(30);
    let test = "flipped_bit_of_a_killed_database_is_an_error_or_costs_the_last_write_at_most";
    for_each_seed(test, 1, |seed| flip_a_bit_of_each_byte(&fs, &states, seed));
}

fn flip_a_bit_of_each_byte(fs: &MemoryFileSystem, states: &[State], seed: u64) {
    let dir = Path::new(DIR);
    let mut rng = Rng::new(seed);
    let (mut refused, mut exact, mut shorter) = (0, 0, 0);
    let last = states.len() - 1;
    for (name, bytes) in files::read_all(fs, dir) {
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for at in 0..bytes.len().min(written + 64) {
            let bit = at * 8 + rng.index(8);
            let what = format!("bit {bit} of {name}");
            let fs = files::with(fs, dir, &name, &flipped(&bytes, bit));
            let read = open(&env_of(&fs), &options()).and_then(|db| Found::read(&db));
            match read {
                Ok(found) => {
                    let marks = Marks { issued: last, durable: last - 1, ..Marks::default() };
                    let index = found.index(states, &marks, Loss::Power, &what);
                    exact += usize::from(index == last);
                    shorter += usize::from(index != last);
                }
                Err(error) => {
                    let is_typed = matches!(
                        error.kind(),
                        ErrorKind::Corruption | ErrorKind::UnsupportedFormat
                    );
                    assert!(is_typed, "{what}: {error:?}");
                    refused += 1;
                }
            }
        }
    }
    eprintln!(
        "counted: {refused} flipped bits of a killed database refused\n\
         counted: {exact} flipped bits of a killed database harmless\n\
         counted: {shorter} flipped bits of a killed database that cost the last write"
    );
    assert!(0 < shorter && shorter < 60 && exact < refused, "{refused}, {exact}, {shorter}");
}

/// What the manifest says last is vouched for: when the first write has named a segment of the log, after
/// a flush, and after a compaction.
#[test]
fn flipped_bit_in_the_manifest_of_a_killed_database_costs_no_write() {
    for count in [1, 9, 21] {
        let (fs, states) = killed(count);
        let dir = Path::new(DIR);
        let all = files::read_all(&fs, dir);
        let (name, bytes) = all.iter().rfind(|(name, _)| name.ends_with(".manifest")).unwrap();
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let (mut refused, mut exact) = (0, 0);
        for bit in 0..written * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let what = format!("{count} writes, bit {bit} of {name}");
            let fs = files::with(&fs, dir, name, &damaged);
            match open(&env_of(&fs), &options()).and_then(|db| Found::read(&db)) {
                Ok(found) => {
                    let marks = Marks { issued: count, durable: count, ..Marks::default() };
                    assert_eq!(found.index(&states, &marks, Loss::Power, &what), count, "{what}");
                    exact += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error}");
                    refused += 1;
                }
            }
        }
        assert!(0 < exact && exact < refused, "{count} writes: {refused} refused, {exact} exact");
    }
}

/// A copy in which a byte of the first file that ends so is spoilt.
fn spoilt(fs: &MemoryFileSystem, end: &str, at: usize) -> MemoryFileSystem {
    let dir = Path::new(DIR);
    let all = files::read_all(fs, dir);
    let (name, bytes) = all.iter().find(|(name, _)| name.ends_with(end)).expect("there is one");
    let mut damaged = bytes.clone();
    damaged[at] ^= 0x80;
    files::with(fs, dir, name, &damaged)
}

/// A closed database with a keyspace of the values that `value` gives to the keys from 0 to 99, in one
/// table.
fn hundred(options: KeyspaceOptions, value: fn(u8) -> Vec<u8>) -> MemoryFileSystem {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &self::options()).unwrap();
    let uncompressed = KeyspaceOptions {
        compression: Compression::None,
        shallow_compression: Compression::None,
        ..options
    };
    let keyspace = db.keyspace("k", uncompressed).unwrap();
    for key in 0..100 {
        keyspace.put([key], value(key)).unwrap();
    }
    keyspace.flush().unwrap();
    drop(keyspace);
    db.close().unwrap();
    fs
}

/// The keys whose values cannot be had; they are next to each other.
fn bad_keys(keyspace: &Keyspace, value: fn(u8) -> Vec<u8>) -> RangeInclusive<u8> {
    let mut bad = Vec::new();
    for key in 0..100 {
        match keyspace.get([key]) {
            Ok(found) => assert_eq!(found.unwrap(), *value(key)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption);
                bad.push(key);
            }
        }
    }
    let range = bad[0]..=*bad.last().expect("something is damaged");
    assert!(range.clone().eq(bad), "{range:?}");
    range
}

/// A cursor that has met it can be used on: all keys but those of the block are there, from both sides.
#[test]
fn damaged_block_is_in_the_way_of_its_own_keys_only() {
    let value: fn(u8) -> Vec<u8> = |key| vec![key; 100];
    let fs = hundred(KeyspaceOptions { block_size_bytes: 512, ..Default::default() }, value);
    let db = open(&env_of(&spoilt(&fs, ".table", 5000)), &options()).unwrap();
    let keyspace = db.existing_keyspace("k").unwrap().unwrap();
    let bad = bad_keys(&keyspace, value);
    let (first, last) = bad.into_inner();
    assert!(last - first < 10, "{first} to {last}");
    let is_damage = |result: esker::Result<()>, cursor: &Cursor| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Corruption);
        assert!(!cursor.is_valid());
    };
    let mut cursor = keyspace.cursor().unwrap();
    cursor.seek_to_first().unwrap();
    for key in 0..first {
        assert_eq!((cursor.key(), cursor.value()), (&[key][..], &*value(key)));
        let result = cursor.next();
        if key + 1 == first {
            is_damage(result, &cursor);
        } else {
            result.unwrap();
        }
    }
    cursor.seek([last + 1]).unwrap();
    assert_eq!(cursor.key(), [last + 1]);
    is_damage(cursor.prev(), &cursor);
    is_damage(cursor.seek([first]), &cursor);
    cursor.seek_for_prev([first - 2]).unwrap();
    cursor.next().unwrap();
    assert_eq!(cursor.key(), [first - 1]);
    is_damage(cursor.next(), &cursor);
    cursor.seek_to_last().unwrap();
    assert_eq!(cursor.key(), [99]);
    // A scan ends there, at both of its ends.
    let mut scan = keyspace.iter();
    assert_eq!(scan.by_ref().take_while(Result::is_ok).count(), usize::from(first));
    assert!(scan.next().is_none() && scan.next_back().is_none());
    let backwards = keyspace.iter().rev().take_while(Result::is_ok).count();
    assert_eq!(backwards, usize::from(99 - last));
    keyspace.put([200], "new").unwrap();
    keyspace.flush().unwrap();
    assert_eq!(keyspace.get([200]).unwrap().unwrap(), "new");
}

/// Its key is in a table, which is sound: who asks for keys alone notices nothing, and a new value makes
/// it good.
#[test]
fn damaged_value_in_a_blob_file_costs_itself_only() {
    let value: fn(u8) -> Vec<u8> = |key| vec![key; if key % 2 == 0 { 1000 } else { 10 }];
    let fs =
        hundred(KeyspaceOptions { blob_threshold_bytes: Some(64), ..Default::default() }, value);
    let db = open(&env_of(&spoilt(&fs, ".blob", 5500)), &options()).unwrap();
    let keyspace = db.existing_keyspace("k").unwrap().unwrap();
    let bad = bad_keys(&keyspace, value);
    let key = *bad.start();
    assert_eq!(bad.count(), 1);
    assert!(keyspace.contains([key]).unwrap());
    assert!(keyspace.iter().keys().all(|key| key.is_ok()));
    assert_eq!(keyspace.iter().keys().rev().map(Result::unwrap).count(), 100);
    let mut cursor = keyspace.cursor().unwrap();
    cursor.seek([key - 1]).unwrap();
    assert_eq!(cursor.next().unwrap_err().kind(), ErrorKind::Corruption);
    cursor.seek([key + 1]).unwrap();
    assert_eq!((cursor.key(), cursor.value()), (&[key + 1][..], &*value(key + 1)));
    keyspace.put([key], "new").unwrap();
    for _ in 0..2 {
        assert_eq!(keyspace.get([key]).unwrap().unwrap(), "new");
        assert_eq!(keyspace.iter().map(Result::unwrap).count(), 100);
        keyspace.compact::<&[u8]>(..).unwrap();
    }
}

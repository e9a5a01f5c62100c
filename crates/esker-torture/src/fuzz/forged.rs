//! Databases whose contents are forged behind checksums that are right: what stands behind the checksums
//! is reached as no damage reaches it.
//!
//! An input is changes to parts of a sound file, [`Change::LEN`] bytes each. Any answer will do that is an
//! error of a kind that says so; and where a verification finds nothing wrong, all ways to ask must agree.
//!
//! The targets are in files of their own: tables, segments of the log, manifests.

pub(super) mod log;
pub(super) mod manifest;
pub(super) mod table;

use std::fmt;
use std::path::Path;

use esker::doctor::{Doctor, VerifyReport};
use esker::env::{FileSystem as _, MemoryFileSystem};
use esker::{Db, Error, ErrorKind, Keyspace};
use esker_base::{FileHeader, FileId, FileKind};
use esker_log::{ExpectedHeader, LogEnd, LogReader, LogWriter};

use super::sample::{self, DIR, env_of};

/// Most changes that are taken from one input.
const CHANGES_MAX: usize = 8;

/// More entries than anything here can hold, unless one is shown again and again.
const ENTRIES_MAX: usize = 1 << 14;

/// A change to some part of a file.
#[derive(Clone, Copy)]
struct Change([u8; Change::LEN]);

impl Change {
    /// Bytes of one: a part, what is done, two for the place, and two that it is done with.
    const LEN: usize = 6;

    fn all(input: &[u8]) -> Vec<Self> {
        input.as_chunks().0.iter().copied().map(Self).take(CHANGES_MAX).collect()
    }

    /// Which of `count` parts it is for.
    fn part(self, count: usize) -> usize {
        usize::from(self.0[0]) % count.max(1)
    }

    /// Where a part has two forms, whether it is for the second one.
    const fn is_stored(self) -> bool {
        self.0[1] & 0x80 != 0
    }

    fn apply(self, part: &mut Vec<u8>) {
        let [_, what, low, high, with, count] = self.0;
        let place = usize::from(u16::from_le_bytes([low, high])) % (part.len() + 1);
        let end = part.len().min(place + usize::from(count));
        match what & 0x0f {
            0..=2 => part.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= with.max(1)),
            3 | 4 => part.iter_mut().skip(place).take(1).for_each(|byte| *byte = with),
            5 => part.splice(place..place, [with]).for_each(drop),
            6 => part.splice(place..place, vec![with; usize::from(count)]).for_each(drop),
            7 => part.drain(place..end.min(place + 4)).for_each(drop),
            8 => part.drain(place..end).for_each(drop),
            9 => part[place..end].fill(with),
            10 => part.truncate(place),
            // One more and one less, as numbers that are off by one have.
            11 => part[place..].iter_mut().take(1).for_each(|byte| *byte = byte.wrapping_add(1)),
            12 => part[place..].iter_mut().take(1).for_each(|byte| *byte = byte.wrapping_sub(1)),
            // A varint of nearly all bits, in place of a byte.
            13 => {
                let varint = [vec![0xff; usize::from(count % 10)], vec![with & 0x7f]].concat();
                part.splice(place..part.len().min(place + 1), varint).for_each(drop);
            }
            14 => {
                let piece = part[place..end].to_vec();
                let to = usize::from(with) % (part.len() + 1);
                part.splice(to..to, piece).for_each(drop);
            }
            _ => part[place..end].reverse(),
        }
    }
}

/// Refuses an error that does not say that something is wrong with what was given.
fn check(error: &Error) {
    let is_typed = matches!(
        error.kind(),
        ErrorKind::Corruption | ErrorKind::UnsupportedFormat | ErrorKind::InvalidInput
    );
    // A forged manifest names an operator that nobody has, a forged operand is none to the one there is.
    assert!(is_typed || error.kind() == ErrorKind::UserCode, "{:?}: {error}", error.kind());
}

type Entry = (Vec<u8>, Vec<u8>);

/// What a keyspace says.
#[derive(PartialEq, Eq, Default)]
struct Answers {
    entries: Vec<Entry>,
    /// Ways to ask that did not agree with a scan.
    odd: Vec<String>,
    errors: Vec<String>,
    /// Whether it needs code that a forged name asks for and nobody has: then it answers little.
    is_foreign: bool,
}

impl Answers {
    /// Asks `keyspace` in every way that there is.
    fn of(keyspace: &Keyspace, keys: &[Vec<u8>]) -> Self {
        let mut answers = Self::default();
        answers.entries = answers.list(keyspace.iter());
        let mut back = answers.list(keyspace.iter().rev());
        back.reverse();
        if back != answers.entries {
            answers.odd.push("a scan backward".into());
        }
        for key in keys {
            answers.get(keyspace, key);
        }
        answers.seek(keyspace, keys);
        answers.took(keyspace.multi_get(keys));
        answers.took(keyspace.approximate_bytes::<&[u8]>(..));
        if let Some(key) = keys.first() {
            answers.took(keyspace.explain_get(key));
            let prefix =
                answers.took(keyspace.prefix(&key[..6]).collect::<esker::Result<Vec<_>>>());
            let expected = answers.entries.iter().filter(|(found, _)| found.starts_with(&key[..6]));
            if prefix.is_some_and(|prefix| prefix.len() != expected.count()) {
                answers.odd.push("a prefix".into());
            }
        }
        answers
    }

    fn took<T>(&mut self, result: esker::Result<T>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        check(&error);
        match error.kind() {
            ErrorKind::UserCode => self.is_foreign = true,
            ErrorKind::InvalidInput if error.to_string().contains("key order") => {
                self.is_foreign = true;
            }
            _ => self.errors.push(error.to_string()),
        }
        None
    }

    fn list<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        scan: impl Iterator<Item = esker::Result<(K, V)>>,
    ) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for entry in scan {
            if ENTRIES_MAX <= entries.len() {
                let last =
                    entries.iter().rev().take(9).map(|(key, _)| key.escape_ascii().to_string());
                panic!("a scan has no end: {:?}", last.collect::<Vec<_>>());
            }
            let Some((key, value)) = self.took(entry) else { break };
            entries.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        }
        entries
    }

    fn get(&mut self, keyspace: &Keyspace, key: &[u8]) {
        let Some(found) = self.took(keyspace.get(key)) else { return };
        let place = self.entries.binary_search_by(|(at, _)| at.as_slice().cmp(key));
        let expected = place.ok().map(|place| self.entries[place].1.as_slice());
        if found.as_deref() != expected {
            self.odd.push(format!("a get of {}", key.escape_ascii()));
        }
        self.took(keyspace.expires_at(key));
    }

    fn seek(&mut self, keyspace: &Keyspace, keys: &[Vec<u8>]) {
        let Some(mut cursor) = self.took(keyspace.cursor()) else { return };
        for key in keys.iter().step_by(5) {
            if self.took(cursor.seek(key)).is_none() {
                return;
            }
            let found = cursor.is_valid().then(|| cursor.key().to_vec());
            let place = self.entries.partition_point(|(at, _)| at < key);
            if found.as_ref() != self.entries.get(place).map(|(at, _)| at) {
                self.odd.push(format!("a seek to {}", key.escape_ascii()));
            }
            if cursor.is_valid() && self.took(cursor.prev()).is_none()
                || self.took(cursor.seek_for_prev(key)).is_none()
                || cursor.is_valid() && self.took(cursor.next()).is_none()
            {
                return;
            }
        }
    }

    /// Whether nothing failed and all ways agree.
    const fn are_sound(&self) -> bool {
        self.errors.is_empty() && (self.odd.is_empty() || self.is_foreign)
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, odd, errors, .. } = self;
        write!(f, "{} entries", entries.len())?;
        errors.iter().take(3).try_for_each(|error| write!(f, ", {error}"))?;
        odd.iter().take(3).try_for_each(|what| write!(f, ", {what} differs"))
    }
}

/// Verifies the closed database of `fs`.
fn verify(fs: &MemoryFileSystem) -> Option<VerifyReport> {
    let doctor = Doctor::new(DIR).env(env_of(fs));
    doctor.verify(&mut |_| {}).inspect_err(check).ok()
}

/// A segment, as it is read: its header, its payloads and whether it is sealed.
#[derive(Clone)]
struct Segment {
    name: String,
    header: FileHeader,
    payloads: Vec<Vec<u8>>,
    is_sealed: bool,
}

/// All segments of one kind in the database of `fs`, by their names.
fn segments(fs: &MemoryFileSystem, kind: FileKind) -> Vec<Segment> {
    let mut segments = Vec::new();
    for (name, bytes) in sample::files(fs) {
        let Some((id, _)) = FileId::parse_file_name(&name).filter(|(_, found)| *found == kind)
        else {
            continue;
        };
        let expected = ExpectedHeader { kind, id, database: None, newest_format: u16::MAX };
        let path = Path::new(DIR).join(&name);
        let mut reader = LogReader::open(fs, &path, &expected).expect("the sample is whole");
        let mut payloads = Vec::new();
        while let Some(frame) = reader.next_frame().expect("the sample is whole") {
            payloads.push(frame.payload.to_vec());
        }
        let header = FileHeader::decode(&bytes).expect("the sample is whole");
        let is_sealed = matches!(reader.end(), LogEnd::Sealed { .. });
        segments.push(Segment { name, header, payloads, is_sealed });
    }
    segments
}

/// Puts `segment` in the place of the one of its name; `syncs` lets each frame vouch for those before it.
fn write_segment(fs: &MemoryFileSystem, segment: &Segment, syncs: bool) {
    let path = Path::new(DIR).join(&segment.name);
    fs.remove(&path).expect("the sample has it");
    let mut writer = LogWriter::create(fs, &path, segment.header, 0).expect("memory");
    for payload in &segment.payloads {
        writer.append(&[payload]);
        if syncs {
            writer.write().expect("memory");
            writer.sync_handle().sync().expect("memory");
        }
    }
    writer.write().expect("memory");
    if segment.is_sealed {
        writer.seal().expect("memory");
    }
}

/// Compares the keyspaces of `db` with what the sample has in those that nothing forged is in.
fn check_others(db: &Db, name: &str, contents: &[Entry]) {
    let keyspace = db.existing_keyspace(name).expect("its order is known").expect("it is there");
    let mut answers = Answers::of(&keyspace, &[]);
    for (key, _) in contents {
        answers.get(&keyspace, key);
    }
    assert!(answers.are_sound(), "{name} does not agree: {answers:?}");
    assert!(answers.entries == contents, "{name} has other entries: {answers:?}");
}

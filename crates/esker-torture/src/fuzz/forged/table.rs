//! Tables that are forged: taken in by a database as they come from outside, or in the place of its own.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esker::env::{Env, FileExt as _, FileSystem as _, MemoryFileSystem};
use esker::operators::Append;
use esker::{Db, Expiry, IngestOptions, KeyspaceOptions, Merge, PrefixRule};
use esker_base::{
    DatabaseId, EntryKind, FileHeader, FileId, FileKind, Fragments, InternalKey, KeyspaceId,
    OwnerId, RangeTombstone, SeqNo, TableId,
};
use esker_table::fuzzing::forge::{Forge, ForgedPart, properties_of};
use esker_table::fuzzing::in_small_partitions;
use esker_table::{Compression, Origin, TableIdentity, TableOptions};
use esker_tree::{EditRecord, VersionEdit};

use super::{Answers, Change, DIR, Entry, Segment, check, check_others, env_of, segments, verify};
use crate::fuzz::sample;

const FORGED: &str = "forged";
const OTHER: &str = "other";
const OUTSIDE: &str = "outside.table";

/// What an input starts from.
struct Sample {
    /// A closed database: forged tables go into one of its keyspaces.
    fs: MemoryFileSystem,
    keys: Vec<Vec<u8>>,
    /// What the other keyspace has.
    others: Vec<Entry>,
    /// Tables from outside.
    outside: Vec<Forge>,
    /// Its own ones of the first keyspace, with their names.
    inside: Vec<(String, Forge)>,
    manifest: Segment,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let (fs, others) = database();
        let manifest = segments(&fs, FileKind::Manifest).pop().expect("a manifest");
        let names = tables_of(&manifest, KeyspaceId(1));
        let inside = sample::files(&fs).into_iter().filter(|(name, _)| names.contains(name));
        let inside = inside.map(|(name, bytes)| (name, Forge::of(&bytes))).collect();
        let keys = (0..50).map(key).collect();
        Sample { fs, keys, others, outside: outside(), inside, manifest }
    })
}

fn key(number: usize) -> Vec<u8> {
    format!("user{}:{number:02}", number / 10).into_bytes()
}

fn options() -> KeyspaceOptions {
    KeyspaceOptions {
        block_size_bytes: 256,
        prefix_filter: Some(PrefixRule::Through(b':')),
        merge_operator: Some(Merge::new(Append::new(","))),
        blob_threshold_bytes: Some(40),
        ..KeyspaceOptions::default()
    }
}

/// The names of the tables that a manifest of one frame gives a keyspace.
fn tables_of(manifest: &Segment, of: KeyspaceId) -> Vec<String> {
    let snapshot = VersionEdit::decode(&manifest.payloads[0]).expect("the sample is whole");
    let name = |record: EditRecord| match record {
        EditRecord::TableAdded { keyspace, properties, .. } if keyspace == of => {
            Some(properties.id.file_name())
        }
        _ => None,
    };
    snapshot.records.into_iter().filter_map(name).collect()
}

/// Two keyspaces; the first has entries of every kind, versions that a snapshot keeps, ranges, blobs.
fn database() -> (MemoryFileSystem, Vec<Entry>) {
    let fs = MemoryFileSystem::new(1);
    let db = sample::open(env_of(&fs)).expect("memory");
    let forged = db.keyspace(FORGED, options()).expect("memory");
    let small = KeyspaceOptions { block_size_bytes: 256, ..KeyspaceOptions::default() };
    let other = db.keyspace(OTHER, small).expect("memory");
    let mut others: Vec<Entry> = Vec::new();
    let mut snapshots = Vec::new();
    for round in 0..3_usize {
        for number in (0..50).filter(|number| (number + round) % 2 == 0) {
            match number % 7 {
                0 => forged.put(key(number), vec![b'l'; 60]),
                1 => forged.delete(key(number)),
                2 => forged.merge(key(number), format!("{round}")),
                3 => {
                    let expiry = Expiry::At(expiry_of(number));
                    forged.put_with_expiry(key(number), "expires", expiry)
                }
                _ => forged.put(key(number), format!("value {number} {round}")),
            }
            .expect("memory");
        }
        forged.delete_range(key(10 + round)..key(12 + 3 * round)).expect("memory");
        for number in 0..4 {
            let (key, value) = (format!("other {round} {number}"), format!("{number}"));
            other.put(&key, &value).expect("memory");
            others.push((key.into_bytes(), value.into_bytes()));
        }
        snapshots.push(db.snapshot());
        match round {
            0 => forged.compact::<&[u8]>(..).expect("memory"),
            1 => db.flush().expect("memory"),
            _ => {}
        }
    }
    drop(snapshots);
    db.close().expect("memory");
    others.sort();
    (fs, others)
}

/// Some before what the clock of memory shows, some after it.
fn expiry_of(number: usize) -> std::time::SystemTime {
    std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_999_999_990 + number as u64)
}

/// Tables from outside: with entries of all kinds and ranges, without blocks that are compressed, and of
/// ranges alone.
fn outside() -> Vec<Forge> {
    let compressed = |compression| TableOptions {
        block_size_bytes: 200,
        compression,
        prefix_rule: Some(PrefixRule::Through(b':')),
        ..TableOptions::default()
    };
    let plain = TableOptions { prefix_rule: None, ..compressed(Compression::None) };
    vec![
        external(compressed(Compression::Lz4), 50, true),
        external(plain.clone(), 50, false),
        external(plain.clone(), 0, true),
        external(plain, 3, false),
    ]
}

fn external(options: TableOptions, entries: usize, has_ranges: bool) -> Forge {
    let fs = MemoryFileSystem::new(1);
    let path = Path::new(OUTSIDE);
    let identity = TableIdentity {
        database: DatabaseId([9; 16]),
        id: TableId(FileId { owner: OwnerId::FIRST, counter: 1 }),
        keyspace: KeyspaceId::DEFAULT,
        level: 0,
    };
    let file = fs.create(path).expect("memory");
    let origin = Origin::External {
        order: "bytewise".into(),
        keyspace: String::new(),
        has_operands: entries != 0,
    };
    let mut builder = in_small_partitions(file, identity, options).from_origin(origin);
    for number in 0..entries {
        let (kind, value) = match number % 7 {
            0 => (EntryKind::Put, vec![b'x'; 30]),
            1 => (EntryKind::Merge, b"operand".to_vec()),
            2 => (EntryKind::Tombstone, Vec::new()),
            3 => (EntryKind::SingleDelete, Vec::new()),
            4 => {
                let millis = 1_999_999_990_000 + 1_000 * number as u64;
                let value = [&millis.to_le_bytes()[..], b"expires"].concat();
                (EntryKind::ExpiringPut, value)
            }
            _ => (EntryKind::Put, format!("from outside {number}").into_bytes()),
        };
        let key = key(number);
        builder.add(InternalKey::new(&key, SeqNo::ZERO, kind), &value).expect("memory");
    }
    if has_ranges {
        let range = |start: usize, end: usize| RangeTombstone {
            start: key(start),
            end: key(end),
            seqno: SeqNo::ZERO,
        };
        builder.set_ranges(Fragments::of(vec![range(5, 9), range(20, 33), range(45, 60)]));
    }
    builder.finish().expect("memory");
    Forge::of(&sample::contents(&fs, path))
}

/// One byte says which table, and whether it is verified when it comes in; changes follow.
pub(in crate::fuzz) fn run(bytes: &[u8]) {
    let Some((&which, rest)) = bytes.split_first() else { return };
    let changes = Change::all(rest);
    let sample = sample();
    let fs = sample.fs.snapshot();
    let tables = sample.outside.len() + sample.inside.len();
    let table = usize::from(which & 0x7f) % tables;
    match table.checked_sub(sample.outside.len()) {
        None => {
            let bytes = forged(&sample.outside[table], &changes);
            if !take_in(&fs, &bytes, which & 0x80 != 0) {
                return;
            }
        }
        Some(own) => {
            let (name, forge) = &sample.inside[own];
            replace(&fs, &sample.manifest, name, &forged(forge, &changes));
        }
    }
    let is_outside = table < sample.outside.len();
    use_up(&fs, is_outside);
}

fn forged(forge: &Forge, changes: &[Change]) -> Vec<u8> {
    let count = forge.part_count();
    forge.seal(&mut |ForgedPart { number, is_stored }, part| {
        let is_meant =
            |change: &&Change| change.part(count) == number && change.is_stored() == is_stored;
        changes.iter().filter(is_meant).for_each(|change| change.apply(part));
    })
}

/// Has the database take in the table `bytes`; whether it did.
fn take_in(fs: &MemoryFileSystem, bytes: &[u8], verify_entries: bool) -> bool {
    let file = fs.create(Path::new(OUTSIDE)).expect("memory");
    file.write_all_at(0, bytes).expect("memory");
    let db = sample::open(env_of(fs)).expect("the sample is sound");
    let forged = db.keyspace(FORGED, options()).expect("memory");
    // Writes before it, of the same keys, that are in memory only.
    forged.put(key(7), "before").expect("memory");
    let ingested =
        db.ingest(&forged, &[OUTSIDE], IngestOptions { verify_entries, move_files: false });
    let is_in = ingested.inspect_err(check).is_ok();
    db.close().expect("a table that is wrong is no reason not to close");
    is_in
}

/// Puts `bytes` in the place of the table `name`, and has the manifest say so.
fn replace(fs: &MemoryFileSystem, manifest: &Segment, name: &str, bytes: &[u8]) {
    let path = Path::new(DIR).join(name);
    fs.remove(&path).expect("the sample has it");
    fs.create(&path).expect("memory").write_all_at(0, bytes).expect("memory");
    let FileHeader { database, .. } = manifest.header;
    let (id, _) = FileId::parse_file_name(name).expect("the name of a table");
    let mut snapshot = VersionEdit::decode(&manifest.payloads[0]).expect("the sample is whole");
    for record in &mut snapshot.records {
        let EditRecord::TableAdded { properties, keyspace, .. } = record else { continue };
        if properties.id.0 == id
            && let Some(said) = properties_of(bytes, database, id)
            && (said.id.0, said.keyspace) == (id, *keyspace)
        {
            *properties = Arc::new(said);
        }
    }
    let mut payload = Vec::new();
    snapshot.encode(&mut payload);
    let segment = Segment { payloads: vec![payload], ..manifest.clone() };
    super::write_segment(fs, &segment, true);
}

/// Asks for everything in every way, and compares answers where a verification finds nothing wrong.
fn use_up(fs: &MemoryFileSystem, must_open: bool) {
    let sample = sample();
    let is_sound = verify(fs).is_some_and(|report| report.is_sound());
    let db = match open(&env_of(fs)) {
        Ok(db) => db,
        Err(error) => {
            check(&error);
            assert!(
                !must_open,
                "a table that was taken in keeps the database from opening: {error}"
            );
            assert!(!is_sound, "a database that is sound does not open: {error}");
            return;
        }
    };
    let forged = db.keyspace(FORGED, options()).expect("the sample has it");
    let before = Answers::of(&forged, &sample.keys);
    assert!(before.are_sound() || !is_sound, "sound, and: {before:?}");
    check_others(&db, OTHER, &sample.others);
    let compacted = forged.compact::<&[u8]>(..).inspect_err(check);
    assert!(compacted.is_ok() || !is_sound, "sound, and not to be compacted: {compacted:?}");
    while db.run_background_job() {}
    let after = Answers::of(&forged, &sample.keys);
    // Not always the same: a single delete takes one put of several, once it meets it.
    assert!(after.are_sound() || !is_sound, "sound, and after a compaction: {after:?}");
    check_others(&db, OTHER, &sample.others);
    drop(forged);
    db.close().expect("a table that is wrong is no reason not to close");
    if is_sound {
        let report = verify(fs).expect("it was sound");
        assert!(report.is_sound(), "sound, and not after a compaction: {report}");
    }
    let db = open(&env_of(fs)).expect("it did before");
    check_others(&db, OTHER, &sample.others);
}

fn open(env: &Env) -> esker::Result<Db> {
    sample::open(env.clone())
}

pub(in crate::fuzz) fn seeds() -> Vec<Vec<u8>> {
    let tables = sample().outside.len() + sample().inside.len();
    let plain = (0..tables as u8).map(|table| vec![table]);
    let one = (0..tables as u8).flat_map(|table| {
        (0..8_u8).map(move |n| vec![table | n << 7, 3 * n + table, n, 5 * n + table, 0, 1 << n, n])
    });
    plain.chain(one).collect()
}

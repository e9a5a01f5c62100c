//! Bytes that mean something, taken from a small database.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker::env::{Env, FileExt as _, FileSystem, MemoryFileSystem};
use esker::operators::{AddU64, Append, SetUnion};
use esker::{
    Db, DbBuilder, KeyOrder as _, KeyspaceOptions, Merge, Options, Order, PrefixRule,
    ReverseBytewise,
};
use esker_base::{BlobFileId, FileHeader, FileId, FileKind, OwnerId, TableId};
use esker_cache::{BlockCache, Budget};
use esker_log::{ExpectedHeader, LogReader};
use esker_table::{
    BlobFiles, BlobReference, BlockHandle, BlockKind, Ownership, Table, TableContext,
};

/// Where the sample lies.
pub(super) const DIR: &str = "db";

/// An environment over `fs`.
pub(super) fn env_of(fs: &MemoryFileSystem) -> Env {
    Env { fs: Arc::new(fs.clone()), ..Env::memory(1) }
}

pub(super) fn open(env: Env) -> esker::Result<Db> {
    builder(env).open()
}

pub(super) fn builder(env: Env) -> DbBuilder {
    let options = Options {
        background_threads: 0,
        log_segment_bytes: 0,
        warm_cache: true,
        ..Options::default()
    };
    Db::builder(DIR).env(env).options(options)
}

/// What each keyspace holds, by its name.
pub(super) type Contents = Vec<(String, Vec<(Vec<u8>, Vec<u8>)>)>;

/// What all keyspaces hold.
pub(super) fn contents_of(db: &Db) -> esker::Result<Contents> {
    let mut all = Contents::new();
    for name in db.keyspaces() {
        let Some(keyspace) = db.existing_keyspace(&name)? else { continue };
        let entries = keyspace.iter();
        let entries = entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
        all.push((name, entries.collect::<esker::Result<_>>()?));
    }
    Ok(all)
}

/// A database with tables on two levels, blob files, a log, two keyspaces and a list of warm blocks, and
/// what it holds. Every kind of entry is in a table of it and in the log.
pub(super) fn database() -> (MemoryFileSystem, Contents) {
    let fs = MemoryFileSystem::new(1);
    let db = open(env_of(&fs)).expect("memory");
    let small = KeyspaceOptions {
        block_size_bytes: 256,
        blob_threshold_bytes: Some(64),
        prefix_filter: Some(PrefixRule::First(5)),
        merge_operator: Some(Merge::new(Append::new("+"))),
        ..KeyspaceOptions::default()
    };
    db.keyspace("default", small.clone()).expect("memory");
    let reversed = KeyspaceOptions { order: Order::reverse_bytewise(), ..small };
    let users = db.keyspace("users", reversed).expect("memory");
    for round in 0..3_usize {
        for number in (0..30).filter(|number| number % 3 == round) {
            let (key, value) = (format!("key {number:02}"), format!("value {number} {round}"));
            db.put(&key, value.repeat(1 + number % 5 * 3)).expect("memory");
        }
        write_others(&db, round).expect("memory");
        users.put("user", round.to_string()).expect("memory");
        users.put(format!("user {round}"), "name ".repeat(20 * round)).expect("memory");
        match round {
            0 => db.compact_all().expect("memory"),
            1 => db.flush().expect("memory"),
            _ => {}
        }
    }
    let contents = contents_of(&db).expect("memory");
    for (key, _) in &contents[0].1 {
        drop(db.get(key).expect("memory"));
    }
    db.close().expect("memory");
    (fs, contents)
}

/// Entries that are not plain puts.
fn write_others(db: &Db, round: usize) -> esker::Result<()> {
    let far = Duration::from_secs(1 << 32);
    db.put_with_ttl(format!("key 5{round}"), "until then", far)?;
    db.merge("key 60", round.to_string())?;
    db.merge(format!("key {round:02}"), "more")?;
    db.delete(format!("key {:02}", 3 + round))?;
    db.delete_range(format!("key 1{round}")..format!("key 1{}", round + 2))?;
    match round {
        1 => db.single_delete("key 70"),
        _ => db.put("key 70", "once"),
    }
}

/// All bytes of a file.
pub(super) fn contents(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path).expect("the file is there");
    let mut bytes = vec![0; file.len().expect("memory") as usize];
    file.read_exact_at(0, &mut bytes).expect("memory");
    bytes
}

/// The files of the sample, without the lock.
pub(super) fn files(fs: &MemoryFileSystem) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(DIR);
    let names = fs.list(dir).expect("memory").into_iter().map(|entry| entry.name);
    let mut names: Vec<String> = names.filter(|name| name != "LOCK").collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), contents(fs, &dir.join(name)))).collect()
}

pub(super) fn file_headers() -> Vec<Vec<u8>> {
    files(&database().0).into_iter().map(|(_, bytes)| bytes[..FileHeader::LEN].to_vec()).collect()
}

/// The payloads of all frames of files of one kind.
fn frames(kind: FileKind) -> Vec<Vec<u8>> {
    frames_of(&database().0, kind)
}

fn frames_of(fs: &MemoryFileSystem, kind: FileKind) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    for (name, _) in files(fs) {
        let Some((id, _)) = FileId::parse_file_name(&name).filter(|(_, found)| *found == kind)
        else {
            continue;
        };
        let expected = ExpectedHeader { kind, id, database: None, newest_format: u16::MAX };
        let path = Path::new(DIR).join(name);
        let mut reader = LogReader::open(fs, &path, &expected).expect("the sample is whole");
        while let Some(frame) = reader.next_frame().expect("the sample is whole") {
            payloads.push(frame.payload.to_vec());
        }
    }
    payloads
}

pub(super) fn edits() -> Vec<Vec<u8>> {
    frames(FileKind::Manifest)
}

/// What stands between header and checksum of a list of warm blocks.
pub(super) fn warm_lists() -> Vec<Vec<u8>> {
    let lists = files(&database().0).into_iter().filter(|(name, _)| name.ends_with(".warm"));
    lists.map(|(_, bytes)| bytes[FileHeader::LEN..bytes.len() - 8].to_vec()).collect()
}

pub(super) fn groups() -> Vec<Vec<u8>> {
    [frames(FileKind::Log), packed_groups()].concat()
}

/// Commit groups as they are compressed in the log.
pub(super) fn packed_groups() -> Vec<Vec<u8>> {
    let fs = MemoryFileSystem::new(1);
    let options = Options {
        background_threads: 0,
        log_segment_bytes: 0,
        log_compression_threshold_bytes: Some(0),
        ..Options::default()
    };
    let db = Db::builder(DIR).env(env_of(&fs)).options(options).open().expect("memory");
    for value in ["value of a key", "", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
        let mut batch = db.batch();
        (0..9).for_each(|number| batch.put(db.default_keyspace(), format!("key {number}"), value));
        batch.delete(db.default_keyspace(), "key 3");
        batch.commit().expect("memory");
    }
    // As a process that is killed leaves it: a close would write tables.
    let killed = fs.snapshot();
    drop(db);
    frames_of(&killed, FileKind::Log)
}

/// The records of a manifest's edits hold options; bytes around them are for the fuzzer to drop.
pub(super) fn options() -> Vec<Vec<u8>> {
    let edits = frames(FileKind::Manifest);
    let records = edits.iter().filter_map(|bytes| esker_tree::VersionEdit::decode(bytes).ok());
    let options = records.flat_map(|edit| edit.records).filter_map(|record| match record {
        esker_tree::EditRecord::KeyspaceCreated { options, .. } => Some(options),
        _ => None,
    });
    options.collect()
}

/// The payloads of all blocks of a kind that are not compressed.
fn blocks(kind: BlockKind) -> Vec<Vec<u8>> {
    const COMPRESSION_AND_CHECKSUM_LEN: u64 = 5;
    let (fs, _) = database();
    let mut payloads = Vec::new();
    for (name, bytes) in files(&fs) {
        let id = FileId::parse_file_name(&name).filter(|(_, kind)| *kind == FileKind::Table);
        let Some((id, _)) = id else { continue };
        let header = FileHeader::decode(&bytes).expect("the sample is whole");
        let budget = Budget::new(1 << 20);
        let context = TableContext {
            fs: Arc::new(fs.clone()),
            dir: DIR.into(),
            database: header.database,
            cache: BlockCache::new(Arc::clone(&budget), None),
            budget,
            clock: Env::memory(1).clock,
            blobs: BlobFiles::default(),
            owned: Ownership::default(),
        };
        let table = Table::open_file(Arc::new(context), TableId(id)).expect("the sample is whole");
        for block in table.walk().expect("the sample is whole").filter_map(Result::ok) {
            let len = block.handle.len - COMPRESSION_AND_CHECKSUM_LEN;
            let is_plain = block.payload_bytes == len;
            if block.kind == kind && is_plain {
                let start = block.handle.offset as usize;
                payloads.push(bytes[start..start + len as usize].to_vec());
            }
        }
    }
    payloads.truncate(4);
    payloads
}

pub(super) fn data_blocks() -> Vec<Vec<u8>> {
    blocks(BlockKind::Data)
}

pub(super) fn indexes() -> Vec<Vec<u8>> {
    blocks(BlockKind::Index)
}

pub(super) fn filters() -> Vec<Vec<u8>> {
    blocks(BlockKind::Filter)
}

pub(super) fn top_indexes() -> Vec<Vec<u8>> {
    blocks(BlockKind::TopIndex)
}

pub(super) fn range_tombstones() -> Vec<Vec<u8>> {
    blocks(BlockKind::RangeTombstones)
}

/// Records of the blob files, without checksums, and the references to them.
pub(super) fn blob_records() -> Vec<Vec<u8>> {
    let value = b"value of a record";
    let mut record = vec![3];
    record.extend_from_slice(b"key");
    record.extend_from_slice(value);
    let mut reference = Vec::new();
    let file = BlobFileId(FileId { owner: OwnerId::FIRST, counter: 7 });
    let block = BlockHandle { offset: 40, len: 300 };
    BlobReference { file, block, number: 2, value_len: 280 }.encode(&mut reference);
    vec![record, reference, vec![9; 44]]
}

/// A seed and an offset, and what is checked of the two kinds of footers.
pub(super) fn footers() -> Vec<Vec<u8>> {
    vec![vec![0; 16 + 40], (0..60).collect()]
}

/// Keys in reverse order, as they are stored.
pub(super) fn stored_keys() -> Vec<Vec<u8>> {
    [&b""[..], b"key", &[0, 1, 2, 255, 254]].map(encoded_backwards).to_vec()
}

fn encoded_backwards(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    ReverseBytewise.encode(key, &mut stored);
    stored
}

/// Which operator, whether there is a value, and parts behind their lengths.
pub(super) fn merges() -> Vec<Vec<u8>> {
    let set = SetUnion::encode(["a", "b"]);
    let parts = [[9; 8].as_slice(), &AddU64::encode(7), &set, b"", b"text"];
    let merge = |operator: u8| {
        let parts = parts
            .iter()
            .flat_map(|part| std::iter::once(part.len() as u8).chain(part.iter().copied()));
        [operator, 1].into_iter().chain(parts).collect()
    };
    (0..6).map(merge).collect()
}

pub(super) fn properties() -> Vec<Vec<u8>> {
    blocks(BlockKind::Properties)
}

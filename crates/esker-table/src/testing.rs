//! What the tests of this crate share: a database in memory, seeded random entries, and a sorted
//! vector that answers every question the slow and obvious way.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::checksum::hash_key;
use esker_base::{
    DatabaseId, EntryKind, FileId, Fragments, InternalKey, KeyspaceId, OwnerId, SeqNo, TableId,
    Trailer,
};
use esker_cache::{BlockCache, Budget};
use esker_env::{Env, File, FileError, FileExt};

use crate::builder::PartitionLimits;
use crate::{
    Compression, NoTrace, Table, TableBuilder, TableContext, TableIdentity, TableOptions,
    TableProperties,
};

pub(crate) const DATABASE: DatabaseId = DatabaseId(*b"0123456789abcdef");

/// A small generator of random numbers (splitmix64), the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// One entry, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) user_key: Vec<u8>,
    pub(crate) trailer: Trailer,
    pub(crate) value: Vec<u8>,
}

impl Entry {
    pub(crate) fn put(user_key: &[u8], seqno: u64, value: &[u8]) -> Self {
        Self::new(user_key, seqno, EntryKind::Put, value)
    }

    pub(crate) fn new(user_key: &[u8], seqno: u64, kind: EntryKind, value: &[u8]) -> Self {
        let trailer = Trailer::new(SeqNo::new(seqno).unwrap(), kind);
        Self { user_key: user_key.to_vec(), trailer, value: value.to_vec() }
    }

    pub(crate) fn key(&self) -> InternalKey<'_> {
        InternalKey { user_key: &self.user_key, trailer: self.trailer }
    }
}

/// Sorts entries, and drops all but one of those with the same internal key.
pub(crate) fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| a.key().cmp(&b.key()));
    entries.dedup_by(|a, b| a.key() == b.key());
    entries
}

/// Entries with what makes tables hard: shared prefixes, many versions, large values, empty keys.
pub(crate) fn hard_entries(seed: u64, count: usize) -> Vec<Entry> {
    let mut random = Random(seed);
    let mut entries = Vec::new();
    while entries.len() < count {
        let stem = match random.below(4) {
            0 => Vec::new(),
            1 => b"shared/prefix/of/some/length/".to_vec(),
            2 => vec![random.below(3) as u8; random.below(12) as usize],
            _ => vec![b'z'; 300],
        };
        let tail_len = random.below(4) as usize;
        let user_key = [stem, random.bytes(tail_len)].concat();
        let versions = if random.below(20) == 0 { 40 } else { 1 + random.below(3) };
        for _ in 0..versions {
            let kinds = [EntryKind::Put, EntryKind::Put, EntryKind::Put, EntryKind::Tombstone];
            let kind = kinds[random.below(4) as usize];
            let value_len = if random.below(200) == 0 { 5_000 } else { random.below(60) as usize };
            let value = random.bytes(value_len);
            entries.push(Entry::new(&user_key, random.below(5_000), kind, &value));
        }
    }
    sorted(entries)
}

/// The newest entry of `user_key` not newer than `snapshot`, the obvious way.
pub(crate) fn expected<'a>(
    entries: &'a [Entry],
    user_key: &[u8],
    snapshot: SeqNo,
) -> Option<&'a Entry> {
    let first = entries.partition_point(|entry| entry.user_key.as_slice() < user_key);
    entries[first..]
        .iter()
        .take_while(|entry| entry.user_key == user_key)
        .find(|entry| entry.trailer.seqno() <= snapshot)
}

/// A database in memory that tables can be built in.
pub(crate) struct Bed {
    pub(crate) context: Arc<TableContext>,
    pub(crate) budget: Arc<Budget>,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with_cache(64 << 20)
    }

    pub(crate) fn with_cache(budget_bytes: u64) -> Self {
        let env = Env::memory(1);
        let budget = Budget::new(budget_bytes);
        let dir = PathBuf::from("/db");
        env.fs.create_dir_all(&dir).unwrap();
        let context = Arc::new(TableContext {
            fs: env.fs,
            dir,
            database: DATABASE,
            cache: BlockCache::new(Arc::clone(&budget), None),
            budget: Arc::clone(&budget),
            clock: env.clock,
            blobs: crate::BlobFiles::default(),
            owned: crate::Ownership::default(),
        });
        Self { context, budget }
    }

    pub(crate) fn path(&self, counter: u64) -> PathBuf {
        self.context.dir.join(id(counter).file_name())
    }

    pub(crate) fn create(&self, counter: u64) -> Arc<dyn File> {
        self.context.fs.create(&self.path(counter)).unwrap()
    }

    /// Builds table `counter` of `entries`.
    pub(crate) fn build(
        &self,
        counter: u64,
        options: TableOptions,
        entries: &[Entry],
    ) -> TableProperties {
        self.build_with_ranges(counter, options, entries, Fragments::default())
    }

    /// Builds table `counter` of `entries` and `fragments`.
    pub(crate) fn build_with_ranges(
        &self,
        counter: u64,
        options: TableOptions,
        entries: &[Entry],
        fragments: Fragments,
    ) -> TableProperties {
        let limits = PartitionLimits { block_count: 7, key_count: 500 };
        let file = self.create(counter);
        let mut builder = TableBuilder::with_limits(file, identity(counter), options, limits);
        for entry in entries {
            builder.add(entry.key(), &entry.value).unwrap();
        }
        assert_eq!(builder.entry_count(), entries.len() as u64);
        builder.set_ranges(fragments);
        builder.finish().unwrap()
    }

    pub(crate) fn table(&self, properties: &TableProperties) -> Arc<Table> {
        Arc::new(Table::new(Arc::clone(&self.context), Arc::new(properties.clone())))
    }

    pub(crate) fn open_file(&self, counter: u64) -> Result<Arc<Table>, FileError> {
        Table::open_file(Arc::clone(&self.context), id(counter)).map(Arc::new)
    }

    /// The bytes of table `counter`.
    pub(crate) fn bytes(&self, counter: u64) -> Vec<u8> {
        read_file(&self.context, &self.path(counter))
    }

    /// Replaces the bytes of table `counter`.
    pub(crate) fn replace(&self, counter: u64, bytes: &[u8]) {
        let path = self.path(counter);
        if self.context.fs.exists(&path).unwrap() {
            self.context.fs.remove(&path).unwrap();
        }
        self.context.fs.create(&path).unwrap().write_all_at(0, bytes).unwrap();
    }
}

pub(crate) fn read_file(context: &TableContext, path: &Path) -> Vec<u8> {
    let file = context.fs.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

pub(crate) fn id(counter: u64) -> TableId {
    TableId(FileId { owner: OwnerId::FIRST, counter })
}

pub(crate) fn identity(counter: u64) -> TableIdentity {
    TableIdentity { database: DATABASE, id: id(counter), keyspace: KeyspaceId(3), level: 2 }
}

pub(crate) fn options(block_size_bytes: usize, compression: Compression) -> TableOptions {
    TableOptions { block_size_bytes, compression, ..TableOptions::default() }
}

/// What `get` answers, owned.
pub(crate) fn get(
    table: &Table,
    user_key: &[u8],
    snapshot: SeqNo,
) -> Result<Option<Entry>, FileError> {
    let found = table.get(user_key, hash_key(user_key), snapshot, &mut NoTrace)?;
    Ok(found.map(|found| Entry {
        user_key: user_key.to_vec(),
        trailer: found.trailer,
        value: found.value.to_vec(),
    }))
}

/// Runs the cases of a text file: input lines, `----`, the output that is expected, an empty line.
/// Lines before a case that start with `#` are its comment. With `UPDATE=1` in the environment,
/// the file is rewritten with what comes out.
pub(crate) fn datadriven(path: &Path, run: impl Fn(&str) -> String) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut rewritten = String::new();
    for case in text.split("\n\n").map(str::trim_end).filter(|case| !case.is_empty()) {
        let (input, output) = case.split_once("\n----").unwrap_or((case, ""));
        let lines: Vec<&str> = input.lines().filter(|line| !line.starts_with('#')).collect();
        let result = run(&lines.join("\n"));
        if std::env::var_os("UPDATE").is_none() {
            assert_eq!(result.trim_end(), output.trim(), "{}: case\n{input}", path.display());
        }
        rewritten.push_str(&format!("{input}\n----\n{}\n\n", result.trim_end()));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, rewritten.trim_end().to_owned() + "\n").unwrap();
    }
}

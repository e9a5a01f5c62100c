//! The shape of a keyspace's tree, for people and programs.

use std::fmt;
use std::time::Duration;

use esker_base::{KeyRange, Shown};
use esker_table::TableProperties;
use esker_tree::{BlobAccount, BlobFileUse};

use crate::engine::Engine;
use crate::error::Result;
use crate::keyspace_core::KeyspaceCore;

/// What a keyspace's tree consists of at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Levels {
    /// Name of the keyspace.
    pub keyspace: String,
    /// The memtables, newest first; the first one is active.
    pub memtables: Vec<MemtableInfo>,
    /// The levels, 0 first, up to the deepest that is not empty.
    pub levels: Vec<LevelInfo>,
    /// Bytes that compactions could free. An estimate; see
    /// [`KeyspaceStats::reclaimable_bytes`](crate::KeyspaceStats::reclaimable_bytes).
    pub reclaimable_bytes: u64,
    /// Age of the oldest delete whose deleted entries may still be in tables.
    pub oldest_delete_age: Option<Duration>,
    /// The blob files that tables refer to, by name.
    pub blob_files: Vec<BlobFileInfo>,
}

/// One blob file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobFileInfo {
    /// The file's name in the database directory.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Entries of tables that refer to it.
    pub reference_count: u64,
    /// Bytes in it that no table refers to.
    pub garbage_bytes: u64,
}

/// One memtable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemtableInfo {
    /// Memory that it takes, in bytes.
    pub bytes: u64,
    /// Entries, counting each version.
    pub entry_count: u64,
}

/// One level.
#[derive(Clone, PartialEq, Debug)]
pub struct LevelInfo {
    /// Its number; 0 takes the flushes.
    pub level: usize,
    /// Its target size in bytes; 0 if it should be empty or the policy sets none.
    pub target_bytes: u64,
    /// How urgently it needs a compaction; above 1, it holds too much.
    pub score: f64,
    /// Its runs, newest first.
    pub runs: Vec<RunInfo>,
}

/// One run: tables with disjoint keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunInfo {
    /// The run's id; newer runs have larger ones.
    pub id: u64,
    /// Its tables, ascending by key.
    pub tables: Vec<TableInfo>,
}

/// One table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableInfo {
    /// The file's name in the database directory.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Entries, counting each version and tombstone.
    pub entry_count: u64,
    /// Tombstones among them.
    pub tombstone_count: u64,
    /// Bytes in blob files that its entries refer to.
    pub blob_bytes: u64,
    /// The first user key, in the order of the keyspace: of an entry, or the start of a deleted
    /// range. The stored key, if the order is not known.
    pub smallest_key: Vec<u8>,
    /// The last user key; or the end of the last deleted range if that comes after all entries, and
    /// then not a key of the table. The stored key, if the order is not known or the end of the
    /// range is not a valid key in it.
    pub largest_key: Vec<u8>,
    /// Smallest sequence number.
    pub seqno_min: u64,
    /// Largest sequence number.
    pub seqno_max: u64,
    /// When the table was written, since the Unix epoch; `None` if it is not recorded.
    pub written: Option<Duration>,
    /// The period in which its entries were written.
    pub entries_written: Option<(Duration, Duration)>,
    /// When the oldest delete was made whose deleted entries may still be in this or an older
    /// table.
    pub oldest_delete: Option<Duration>,
}

impl Levels {
    /// Bytes of all tables.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.levels.iter().map(LevelInfo::bytes).sum()
    }

    /// How many tables there are.
    #[must_use]
    pub fn table_count(&self) -> usize {
        self.levels.iter().map(LevelInfo::table_count).sum()
    }
}

impl LevelInfo {
    /// Bytes of all tables of the level.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.runs.iter().flat_map(|run| &run.tables).map(|table| table.bytes).sum()
    }

    /// How many tables the level has.
    #[must_use]
    pub fn table_count(&self) -> usize {
        self.runs.iter().map(|run| run.tables.len()).sum()
    }
}

impl TableInfo {
    fn new(properties: &TableProperties, keyspace: &KeyspaceCore) -> Self {
        let shown = |key: &Vec<u8>| keyspace.shown_key(key).into_owned();
        let times = properties.extras.times;
        Self {
            file: properties.id.file_name(),
            bytes: properties.file_bytes,
            entry_count: properties.entry_count,
            tombstone_count: properties.tombstone_count,
            blob_bytes: properties.extras.blobs.as_ref().map_or(0, |uses| uses.bytes()),
            smallest_key: shown(&properties.smallest_key),
            largest_key: shown(&properties.largest_key),
            seqno_min: properties.seqno_min.get(),
            seqno_max: properties.seqno_max.get(),
            written: times.map(|times| Duration::from_millis(times.written)),
            entries_written: times.map(|times| {
                (Duration::from_millis(times.oldest), Duration::from_millis(times.newest))
            }),
            oldest_delete: times.and_then(|t| t.oldest_tombstone).map(Duration::from_millis),
        }
    }
}

impl From<&BlobFileUse> for BlobFileInfo {
    fn from(file: &BlobFileUse) -> Self {
        Self {
            file: file.facts.id.file_name(),
            bytes: file.facts.file_bytes,
            reference_count: file.count,
            garbage_bytes: file.garbage_bytes(),
        }
    }
}

impl fmt::Display for Levels {
    /// A line for each memtable, level, table and blob file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "keyspace {}", Shown::from(&*self.keyspace))?;
        for (index, memtable) in self.memtables.iter().enumerate() {
            let name = if index == 0 { "memtable" } else { "immutable memtable" };
            writeln!(f, "  {name}: {} entries, {} bytes", memtable.entry_count, memtable.bytes)?;
        }
        for level in &self.levels {
            writeln!(
                f,
                "  L{}: {} tables in {} runs, {} bytes of {}, score {:.2}",
                level.level,
                level.table_count(),
                level.runs.len(),
                level.bytes(),
                level.target_bytes,
                level.score
            )?;
            for run in &level.runs {
                for table in &run.tables {
                    write!(
                        f,
                        "    run {} {} {} bytes {} entries {} tombstones [{} .. {}]",
                        run.id,
                        table.file,
                        table.bytes,
                        table.entry_count,
                        table.tombstone_count,
                        table.smallest_key.escape_ascii(),
                        table.largest_key.escape_ascii()
                    )?;
                    match table.blob_bytes {
                        0 => writeln!(f)?,
                        bytes => writeln!(f, " and {bytes} bytes in blob files")?,
                    }
                }
            }
        }
        for blob in &self.blob_files {
            writeln!(
                f,
                "  {} {} bytes, {} references, {} bytes of garbage",
                blob.file, blob.bytes, blob.reference_count, blob.garbage_bytes
            )?;
        }
        write!(f, "  reclaimable: about {} bytes", self.reclaimable_bytes)?;
        if let Some(age) = self.oldest_delete_age {
            write!(f, ", oldest delete {} seconds ago", age.as_secs())?;
        }
        writeln!(f)
    }
}

impl Engine {
    /// About how many bytes of tables and blob files hold keys of `range`.
    pub(crate) fn approximate_bytes(
        &self,
        keyspace: &KeyspaceCore,
        range: &KeyRange,
    ) -> Result<u64> {
        self.check_open()?;
        let view = keyspace.live_view()?;
        let mut bytes = 0;
        for table in view.version.runs().flat_map(|run| run.overlapping(range)) {
            let inside = table.approximate_bytes(range)?;
            let properties = table.properties();
            let of_blobs: u64 = properties.blob_uses().map(|blob| blob.bytes).sum();
            let share = inside as f64 / properties.data_bytes.max(1) as f64;
            bytes += inside + (of_blobs as f64 * share) as u64;
        }
        Ok(bytes)
    }

    pub(crate) fn levels(&self, keyspace: &KeyspaceCore) -> Levels {
        let view = keyspace.view();
        let shape = view.version.shape();
        let settings = keyspace.settings();
        let (targets, scores) = match &settings.policy {
            Some(policy) => (policy.level_targets(&shape), policy.scores(&shape)),
            None => (Vec::new(), Vec::new()),
        };
        let deepest = shape.levels.iter().rposition(|level| !level.runs.is_empty());
        let count = deepest.map_or(0, |deepest| deepest + 1);
        let level = |(index, level): (usize, &esker_tree::LevelShape)| LevelInfo {
            level: index,
            target_bytes: targets.get(index).copied().unwrap_or(0),
            score: scores.get(index).copied().unwrap_or(0.0),
            runs: level
                .runs
                .iter()
                .map(|run| RunInfo {
                    id: run.id.0,
                    tables: run
                        .tables
                        .iter()
                        .map(|table| TableInfo::new(table, keyspace))
                        .collect(),
                })
                .collect(),
        };
        let (reclaimable_bytes, oldest_delete_age) = self.deletes(keyspace);
        Levels {
            reclaimable_bytes,
            oldest_delete_age,
            keyspace: keyspace.name().to_string(),
            memtables: view
                .memtables()
                .map(|memtable| MemtableInfo {
                    bytes: memtable.size_bytes(),
                    entry_count: memtable.entry_count(),
                })
                .collect(),
            levels: shape.levels.iter().take(count).enumerate().map(level).collect(),
            blob_files: BlobAccount::of_shape(&shape).files().map(BlobFileInfo::from).collect(),
        }
    }
}

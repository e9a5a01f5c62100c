//! What a user may choose. Everything else is derived.

use std::path::PathBuf;
use std::time::Duration;

use esker_base::coding::{DecodeError, Decoder, put_varint};

/// How safe a write is when its call returns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Durability {
    /// In the memory of this process, at most [`Options::BUFFERED_INTERVAL`] long. **Lost if the
    /// process dies.**
    Buffered,
    /// Handed to the operating system: survives any end of the process, `kill -9` included.
    /// **Lost if the machine loses power** before the system writes it out.
    #[default]
    Process,
    /// On the device: survives loss of power.
    Power,
}

/// Options of a database. The defaults are good; see `docs/TUNING.md` for each.
#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// What all memtables, the block cache, filters, indexes and buffers may take together, in
    /// bytes. Default 512 MiB.
    pub memory_budget_bytes: u64,
    /// At most this much of the budget goes to the block cache. Default: what the others leave.
    pub cache_bytes: Option<u64>,
    /// Threads for flushes and compactions. The first only flushes, so that a flush never waits
    /// behind a compaction. With 0 nothing runs in the background: a write that needs a flush does
    /// it, and [`Db::run_background_job`](crate::Db::run_background_job) does one job at a time.
    /// Default 2.
    pub background_threads: usize,
    /// Durability of writes that do not name one. Default [`Durability::Process`].
    pub durability: Durability,
    /// Where the log lies, if not beside the tables. A database must be reopened with the same.
    pub log_dir: Option<PathBuf>,
    /// Size at which a log segment is full, in bytes. Default 64 MiB.
    pub log_segment_bytes: u64,
}

impl Options {
    /// Longest time that a [`Durability::Buffered`] write stays in the memory of the process.
    pub const BUFFERED_INTERVAL: Duration = Duration::from_millis(100);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_budget_bytes: 512 << 20,
            cache_bytes: None,
            background_threads: 2,
            durability: Durability::Process,
            log_dir: None,
            log_segment_bytes: 64 << 20,
        }
    }
}

/// How a keyspace's tree is kept in shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CompactionPolicy {
    /// Levels of one run each, every level ten times the one above it.
    #[default]
    Leveled,
    /// Only on demand.
    None,
}

/// How the blocks of deeper levels are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast.
    #[default]
    Lz4,
    /// Zstandard: smaller and slower. Needs the feature `zstd`.
    #[cfg(feature = "zstd")]
    Zstd,
}

/// Options of one keyspace. Recorded when it is created; given again at a later open they replace
/// the recorded ones.
#[derive(Clone, PartialEq, Debug)]
pub struct KeyspaceOptions {
    /// How the tree is kept in shape. Default [`CompactionPolicy::Leveled`].
    pub compaction: CompactionPolicy,
    /// Compression of the two deepest levels; those above are not compressed. Default LZ4.
    pub compression: Compression,
    /// Size of a block before compression, in bytes. Default 4096.
    pub block_size_bytes: u32,
    /// Bits of filter per key; 0 for no filter. Default 10: about 1 in 100 reads of a missing key
    /// looks into a table in vain.
    pub filter_bits_per_key: u32,
    /// Size at which a memtable is switched and flushed, in bytes. Default 64 MiB, or an eighth of
    /// the memory budget where that is less.
    pub memtable_bytes: u64,
    /// How many full memtables may wait for their flush before writes wait. Default 3.
    pub immutable_memtables_max: usize,
    /// Whether writes go to the log. Without it they are durable only once flushed. Default true.
    pub log: bool,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        Self {
            compaction: CompactionPolicy::Leveled,
            compression: Compression::Lz4,
            block_size_bytes: 4096,
            filter_bits_per_key: 10,
            memtable_bytes: 64 << 20,
            immutable_memtables_max: 3,
            log: true,
        }
    }
}

/// The byte that stands for each choice in the manifest.
impl KeyspaceOptions {
    /// The options as the manifest records them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let compaction = match self.compaction {
            CompactionPolicy::Leveled => 0,
            CompactionPolicy::None => 1,
        };
        let compression = match self.compression {
            Compression::None => 0,
            Compression::Lz4 => 1,
            #[cfg(feature = "zstd")]
            Compression::Zstd => 2,
        };
        for field in [
            compaction,
            compression,
            u64::from(self.block_size_bytes),
            u64::from(self.filter_bits_per_key),
            self.memtable_bytes,
            self.immutable_memtables_max as u64,
            u64::from(self.log),
        ] {
            put_varint(&mut out, field);
        }
        out
    }

    /// Reads recorded options. They only tune, so fields that a newer release added are ignored,
    /// and a choice that this build does not have becomes the default.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let defaults = Self::default();
        Ok(Self {
            compaction: match decoder.varint()? {
                1 => CompactionPolicy::None,
                _ => CompactionPolicy::Leveled,
            },
            compression: match decoder.varint()? {
                0 => Compression::None,
                #[cfg(feature = "zstd")]
                2 => Compression::Zstd,
                _ => defaults.compression,
            },
            block_size_bytes: decoder.varint_u32()?,
            filter_bits_per_key: decoder.varint_u32()?,
            memtable_bytes: decoder.varint()?,
            immutable_memtables_max: decoder.varint_usize()?,
            log: decoder.varint()? != 0,
        })
    }

    /// What is wrong with these options, if anything is.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(256..=1 << 20).contains(&self.block_size_bytes) {
            return Err(format!(
                "block_size_bytes is {}, and must be from 256 to 1048576",
                self.block_size_bytes
            ));
        }
        if self.filter_bits_per_key > 64 {
            return Err(format!(
                "filter_bits_per_key is {}, and must be at most 64",
                self.filter_bits_per_key
            ));
        }
        if self.memtable_bytes == 0 || self.immutable_memtables_max == 0 {
            return Err("memtable_bytes and immutable_memtables_max must not be zero".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyspace_options_round_trip() {
        let options = KeyspaceOptions {
            compaction: CompactionPolicy::None,
            compression: Compression::None,
            block_size_bytes: 8192,
            filter_bits_per_key: 0,
            memtable_bytes: 12_345,
            immutable_memtables_max: 7,
            log: false,
        };
        assert_eq!(KeyspaceOptions::decode(&options.encode()), Ok(options));
        let defaults = KeyspaceOptions::default();
        assert_eq!(KeyspaceOptions::decode(&defaults.encode()), Ok(defaults));
    }
}

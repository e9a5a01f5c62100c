//! Presets by purpose of the keyspace. Each is a starting point: any field can still be changed.
//!
//! ```
//! use std::time::Duration;
//! use esker::KeyspaceOptions;
//!
//! # fn main() -> esker::Result<()> {
//! let db = esker::Db::in_memory()?;
//! let sessions = KeyspaceOptions {
//!     default_ttl: Some(Duration::from_secs(3600)),
//!     ..KeyspaceOptions::cache()
//! };
//! db.keyspace("sessions", sessions)?.put("ada", "logged in")?;
//! # Ok(())
//! # }
//! ```

use esker_tree::{FifoOptions, LazyOptions, TimeWindowOptions, UniversalOptions};

use crate::options::{CompactionPolicy, KeyspaceOptions};

/// Blocks for keyspaces that are mostly scanned: they compress better, and a scan reads fewer.
const SCANNED_BLOCK_BYTES: u32 = 16 << 10;

impl KeyspaceOptions {
    /// For entries that are appended in key order and read back by ranges: events, messages, an
    /// audit trail.
    ///
    /// Universal compaction, which writes little; larger blocks; and no filters, which only point
    /// reads of missing keys would need.
    #[must_use]
    pub fn log() -> Self {
        Self {
            compaction: CompactionPolicy::Universal(UniversalOptions::default()),
            block_size_bytes: SCANNED_BLOCK_BYTES,
            filter_bits_per_key: 0,
            ..Self::default()
        }
    }

    /// For entries that are put at one end, and soon read and deleted at the other.
    ///
    /// Small memtables, and levels of one run each: tombstones meet what they hide early, and tables
    /// that are mostly tombstones are compacted first, so that the scan for the next entry steps
    /// over few.
    #[must_use]
    pub fn queue() -> Self {
        Self {
            compaction: CompactionPolicy::Leveled,
            memtable_bytes: 8 << 20,
            filter_bits_per_key: 0,
            ..Self::default()
        }
    }

    /// For data that can be regenerated: the oldest tables are dropped once all together take more
    /// than 1 GiB, and **the latest writes are lost with the process**.
    ///
    /// Nothing is merged or logged, so a write costs as little as it can. Set
    /// [`default_ttl`](Self::default_ttl) for entries that go stale.
    #[must_use]
    pub fn cache() -> Self {
        Self {
            compaction: CompactionPolicy::Fifo(FifoOptions::default()),
            log: false,
            ..Self::default()
        }
    }

    /// For values of many kilobytes.
    ///
    /// Values of 4 KiB and more are in blob files, which compactions do not rewrite: each is
    /// written when it is flushed, and again only when the garbage around it is collected. See
    /// [`blob_threshold_bytes`](Self::blob_threshold_bytes).
    #[must_use]
    pub fn blob() -> Self {
        Self { blob_threshold_bytes: Some(4 << 10), ..Self::default() }
    }

    /// For measurements: written in the order of time, scanned by range, and of interest for a
    /// while.
    ///
    /// Tables are merged only within time windows. Set an age on the policy or a
    /// [`default_ttl`](Self::default_ttl) to have old data dropped by whole tables.
    #[must_use]
    pub fn timeseries() -> Self {
        Self {
            compaction: CompactionPolicy::TimeWindow(TimeWindowOptions::default()),
            block_size_bytes: SCANNED_BLOCK_BYTES,
            ..Self::default()
        }
    }

    /// For records that are kept for ever and looked up by key: accounts, documents, an archive.
    ///
    /// One run in the deepest level, which holds nearly all data, and several in those above: reads
    /// search few runs, and bytes are rewritten less often than with one run in each level. Filters
    /// have half as many bits again, so that a read rarely searches a table in vain.
    #[must_use]
    pub fn ledger() -> Self {
        Self {
            compaction: CompactionPolicy::Lazy(LazyOptions::default()),
            filter_bits_per_key: 15,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_can_be_had_and_recorded() {
        let presets = [
            KeyspaceOptions::log(),
            KeyspaceOptions::queue(),
            KeyspaceOptions::cache(),
            KeyspaceOptions::blob(),
            KeyspaceOptions::timeseries(),
            KeyspaceOptions::ledger(),
        ];
        for (index, preset) in presets.iter().enumerate() {
            assert_eq!(preset.check(), Ok(()));
            assert_eq!(KeyspaceOptions::decode(&preset.encode()).as_ref(), Ok(preset));
            assert_ne!(*preset, KeyspaceOptions::default());
            assert!(!presets[..index].contains(preset), "each is a choice of its own");
        }
    }
}

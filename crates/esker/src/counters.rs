//! Counts of what the engine has done since it was opened. All are counters only: relaxed, and
//! nothing is decided by them.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters as they run.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// Counts since the database was opened.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        #[non_exhaustive]
        pub struct CounterValues {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// All counts at about this moment.
            pub(crate) fn values(&self) -> CounterValues {
                CounterValues { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl CounterValues {
            /// Every counter with its stable name.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Operations committed.
    write_operations,
    /// Batches committed; a single put counts as one.
    write_batches,
    /// Commit groups: frames that the batches went into.
    write_groups,
    /// Bytes of keys and values committed; of values that expire, with the eight of their expiry.
    write_bytes,
    /// Bytes written to log segments, framing included. Counted by the log itself.
    log_bytes,
    /// Syncs of the log, each shared by all who waited for it. Counted by the log itself.
    log_syncs,
    /// Bytes of commit groups that went to the log compressed, before they were; see
    /// [`Options::log_compression_threshold_bytes`](crate::Options::log_compression_threshold_bytes).
    log_unpacked_bytes,
    /// Bytes of the same groups as they went to the log.
    log_packed_bytes,
    /// Flushes that ended well.
    flushes,
    /// Bytes of the tables that flushes wrote.
    flush_bytes,
    /// Compactions that ended well, moves not counted.
    compactions,
    /// Compactions that were cut by ranges of keys for several threads, ended well or not.
    split_compactions,
    /// Tables moved to a deeper level without being rewritten.
    trivial_moves,
    /// Bytes of table files that compactions read.
    compaction_read_bytes,
    /// Bytes of table files that compactions wrote.
    compaction_write_bytes,
    /// Entries that compactions read.
    compaction_entries,
    /// Entries that compactions dropped.
    compaction_entries_dropped,
    /// Tables that were ingested or bulk loaded.
    ingested_tables,
    /// Bytes of their files.
    ingested_bytes,
    /// Bytes of blob files that flushes wrote.
    blob_flush_bytes,
    /// Bytes of blob files that compactions wrote, for values that moved.
    blob_move_bytes,
    /// Blob files removed because nothing refers to them.
    blob_files_removed,
    /// Background jobs that failed; each is tried again, but for compactions that somebody started.
    job_failures,
    /// Times that a scan asked the prefix filter of a table.
    prefix_filters_asked,
    /// Tables that scans left out, because their prefix filter excludes the range.
    prefix_filters_excluded,
    /// Blocks that were loaded because they were in the cache at the last close; see
    /// [`Options::warm_cache`](crate::Options::warm_cache).
    warmed_blocks,
    /// Table files removed because nothing refers to them.
    tables_removed,
    /// Writes that were delayed because background work is behind.
    delayed_writes,
    /// Time that writes were delayed, in microseconds.
    delayed_micros,
}

impl CounterValues {
    /// Bytes that the engine has written: log, tables and blob files.
    #[must_use]
    pub const fn written_bytes(&self) -> u64 {
        let tables = self.flush_bytes + self.compaction_write_bytes;
        let blobs = self.blob_flush_bytes + self.blob_move_bytes;
        self.log_bytes + tables + blobs
    }
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    pub(crate) fn note_group(&self, batches: usize, operations: u64, user_bytes: u64) {
        Self::add(&self.write_groups, 1);
        Self::add(&self.write_batches, batches as u64);
        Self::add(&self.write_operations, operations);
        Self::add(&self.write_bytes, user_bytes);
    }

    pub(crate) fn note_packed(&self, unpacked_bytes: usize, packed_bytes: usize) {
        Self::add(&self.log_unpacked_bytes, unpacked_bytes as u64);
        Self::add(&self.log_packed_bytes, packed_bytes as u64);
    }

    pub(crate) fn note_delay(&self, delay: Duration) {
        Self::add(&self.delayed_writes, 1);
        Self::add(&self.delayed_micros, u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
    }
}

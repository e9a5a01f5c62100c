//! Blob files as the engine sees them: which ones there are, which are garbage, and when there is
//! too much of it.

use std::sync::Arc;
use std::time::Duration;

use esker_base::FileKind;
use esker_table::TableProperties;
use esker_tree::{
    BlobAccount, BlobBound, BlobOptions, BlobReads, Busy, Plan, ReadContext, Shape, Version,
    pick_blob_waste,
};

use crate::engine::Engine;
use crate::engine::garbage::blob_files;
use crate::keyspace_core::write_times::as_millis;
use crate::keyspace_core::{KeyspaceCore, Settings};

impl Settings {
    /// How flushes and compactions deal with large values, at the time `now`.
    pub(crate) fn blob_options(&self, now: Duration) -> BlobOptions {
        BlobOptions {
            threshold_bytes: self.options.blob_threshold_bytes.map(u64::from),
            bound: self.blob_bound(now),
            // A value is rewritten rarely if at all, so it gets its final compression at once.
            compression: self.options.compression.of_tables(),
            file_bytes_max: self.table_bytes,
        }
    }

    /// Of the time before deleted data must be gone, the first half is for tables. A quarter is
    /// then for what they left in blob files, and the last quarter for doing the work.
    fn blob_bound(&self, now: Duration) -> BlobBound {
        let due = self.options.delete_deadline.and_then(|deadline| now.checked_sub(deadline / 4));
        let waste_percent_max = self.options.blob_waste_percent_max;
        BlobBound { waste_percent_max, due_millis: due.map(as_millis) }
    }

    /// What to compact next in the background: what the policy says, or what keeps the garbage in
    /// blob files within its bound. The latter comes first if the garbage exceeds the bound by
    /// half, or if a deadline makes it due, which applies even if compaction is on demand only.
    pub(crate) fn pick(&self, shape: &Shape, busy: &Busy, now: Duration) -> Option<Plan> {
        let bound = self.blob_bound(now);
        let pick = |bound| pick_blob_waste(shape, busy, bound, self.table_bytes);
        let Some(policy) = &self.policy else {
            return pick(BlobBound { waste_percent_max: 100, ..bound });
        };
        let urgent = BlobBound { waste_percent_max: bound.waste_percent_max * 3 / 2, ..bound };
        pick(urgent).or_else(|| policy.pick(shape, busy, now)).or_else(|| pick(bound))
    }

    /// As [`Settings::pick`], for blob garbage that is left after a compaction on demand.
    pub(crate) fn pick_blob_waste(
        &self,
        shape: &Shape,
        busy: &Busy,
        now: Duration,
    ) -> Option<Plan> {
        pick_blob_waste(shape, busy, self.blob_bound(now), self.table_bytes)
    }

    /// Bytes to rewrite until the tree is in shape and the garbage in blob files is within its
    /// bound.
    pub(crate) fn debt_bytes(&self, shape: &Shape) -> u64 {
        let Some(policy) = &self.policy else { return 0 };
        let excess = BlobAccount::of_shape(shape).excess_bytes(self.options.blob_waste_percent_max);
        policy.debt_bytes(shape) + excess
    }
}

impl Engine {
    /// The context that gives the entries of `keyspace` their meaning at a time.
    ///
    /// # Cost
    /// As of [`KeyspaceCore::view`].
    pub(crate) fn read_context(&self, keyspace: &KeyspaceCore, now_millis: u64) -> ReadContext {
        let blobs = BlobReads { tables: Arc::clone(&self.tables), fill_cache: true };
        ReadContext { blobs: Some(blobs), ..keyspace.read_context(now_millis) }
    }

    /// Takes over the blob files that tables of `before` refer to and those of `after` do not. To
    /// be called once for each change, in order: then each file is taken over once, since a file
    /// that no table refers to never comes back.
    pub(crate) fn release_blob_files(&self, before: &Version, after: &Version) {
        let kept = blob_files(after);
        let files = blob_files(before).into_iter();
        self.garbage.add_blobs(files.filter(|(id, _)| !kept.contains_key(id)).map(|(_, f)| f));
    }

    /// Removes the blob files that were written together with `tables`, which were never installed.
    pub(crate) fn remove_blob_files_of<'a>(
        &self,
        tables: impl Iterator<Item = &'a TableProperties>,
    ) {
        for one in tables.flat_map(TableProperties::blob_uses) {
            // Files that tables of the keyspace refer to stay, or are garbage already and are
            // removed as such.
            let id = one.facts.id;
            if self.tables.blobs.find(id).is_none() {
                // If it cannot be removed, it is an orphan that the next open removes. It may be
                // gone already, by way of another of the tables.
                drop(self.env.fs.remove(&self.dir.join(id.0.file_name(FileKind::Blob))));
            }
        }
    }
}

//! Blob files as the engine sees them: which there are, which are garbage, and when that is too
//! much.

use std::sync::Arc;
use std::time::Duration;

use esker_base::FileKind;
use esker_table::TableProperties;
use esker_tree::{
    BlobAccount, BlobOptions, BlobReads, Busy, Plan, ReadContext, Shape, Version, pick_blob_waste,
};

use crate::engine::Engine;
use crate::garbage::blob_files;
use crate::keyspace_core::{KeyspaceCore, Settings};

impl Settings {
    /// How flushes and compactions deal with large values.
    pub(crate) fn blob_options(&self) -> BlobOptions {
        BlobOptions {
            threshold_bytes: self.options.blob_threshold_bytes.map(u64::from),
            waste_percent_max: self.options.blob_waste_percent_max,
            // A value is written once, or once more: as well as it will ever be.
            compression: self.options.compression.of_tables(),
            file_bytes_max: self.table_bytes,
        }
    }

    /// What to compact next in the background: what the policy says, or what keeps the garbage in
    /// blob files within its bound. That comes first where it is half as much again.
    pub(crate) fn pick(&self, shape: &Shape, busy: &Busy, now: Duration) -> Option<Plan> {
        let policy = self.policy.as_ref()?;
        let bound = self.options.blob_waste_percent_max;
        let blob_waste = || pick_blob_waste(shape, busy, bound, self.table_bytes);
        let is_urgent = BlobAccount::of_shape(shape).excess_bytes(bound + bound / 2) > 0;
        let first = if is_urgent { blob_waste() } else { None };
        first.or_else(|| policy.pick(shape, busy, now)).or_else(blob_waste)
    }

    /// As [`Settings::pick`], once there is nothing left of a compaction on demand.
    pub(crate) fn pick_blob_waste(&self, shape: &Shape, busy: &Busy) -> Option<Plan> {
        pick_blob_waste(shape, busy, self.options.blob_waste_percent_max, self.table_bytes)
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
    /// What gives the entries of `keyspace` their meaning at a time.
    ///
    /// # Cost
    /// As of [`KeyspaceCore::view`].
    pub(crate) fn read_context(&self, keyspace: &KeyspaceCore, now_millis: u64) -> ReadContext {
        let blobs = BlobReads { tables: Arc::clone(&self.tables), fill_cache: true };
        ReadContext { blobs: Some(blobs), ..keyspace.read_context(now_millis) }
    }

    /// Takes over the blob files that tables of `before` refer to and none of `after` does. To be
    /// called once for each change, in their order: then each file is taken over once, since what
    /// no table refers to never comes back.
    pub(crate) fn release_blob_files(&self, before: &Version, after: &Version) {
        let kept = blob_files(after);
        let files = blob_files(before).into_iter();
        self.garbage.add_blobs(files.filter(|(id, _)| !kept.contains_key(id)).map(|(_, f)| f));
    }

    /// Removes the blob files that were written together with `tables`, which never came to be.
    pub(crate) fn remove_blob_files_of<'a>(
        &self,
        tables: impl Iterator<Item = &'a TableProperties>,
    ) {
        for one in tables.flat_map(TableProperties::blob_uses) {
            // What tables of the keyspace refer to stays, or is garbage already, and goes as such.
            let id = one.facts.id;
            if self.tables.blobs.find(id).is_none() {
                // Left where it is, it is an orphan that the next open removes. Another one of the
                // tables may have been first.
                drop(self.env.fs.remove(&self.dir.join(id.0.file_name(FileKind::Blob))));
            }
        }
    }
}

//! Adds complete, durable tables that are in no tree yet to one: all in one edit, with one sequence
//! number.
//!
//! Before taking the lock: overlapping memtables are flushed, and each table gets its [`Adoption`]
//! record, with the sequence number and the level that it will most likely have. Under the lock of
//! the commit leader, while nobody writes: entries written to the same keys in the meantime are
//! flushed too; the log is made durable, since the edit must not survive a crash that earlier
//! writes do not; places are chosen; and records that guessed wrong are rewritten. The edit, and
//! then the sequence number, make the tables visible.
//!
//! The number is newer than all earlier ones, so an earlier snapshot does not see the tables. If
//! there were writes in the meantime, a few numbers are skipped so that the guess holds.

use std::sync::{Arc, PoisonError};

use esker_base::{DatabaseId, FileId, InternalKey, SeqNo, TableId};
use esker_memtable::Memtable;
use esker_table::{Adoption, TableProperties, TableTimes, adopt};
use esker_tree::{Busy, EditRecord, LEVEL_COUNT_MAX, Placement, RunId, VersionEdit};

use crate::commit_queue::Leader;
use crate::counters::Counters;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::jobs::flush::OwedFlush;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::write_times::as_millis;

/// Sequence numbers skipped for each one that was assigned while the tables were written.
const SKIPPED_PER_WRITE: u64 = 4;

/// A table in the directory of the database that no manifest names.
#[derive(Debug)]
pub(crate) struct LooseTable {
    /// Its id in this database.
    pub(crate) id: TableId,
    /// What its file records.
    pub(crate) properties: TableProperties,
    /// The database and the id in its header.
    pub(crate) birth: (DatabaseId, FileId),
}

/// The result of adopting loose tables.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) seqno: SeqNo,
    /// The properties of the tables from now on, with their levels, in the given order.
    pub(crate) tables: Vec<(usize, Arc<TableProperties>)>,
}

/// The record that was last written after a table, and the length of the file with it.
struct Written {
    adoption: Adoption,
    file_bytes: u64,
}

impl Written {
    /// The properties of `table` once it has joined a tree: as if all of it were written at `now`,
    /// in milliseconds since the epoch. Whoever wrote it did not know when that would be.
    fn joined(&self, table: &LooseTable, now: u64) -> TableProperties {
        let mut properties = self.adoption.apply(table.properties.clone(), self.file_bytes);
        let oldest_tombstone = properties.has_tombstones().then_some(now);
        let times = TableTimes { oldest: now, newest: now, oldest_tombstone, written: now };
        properties.extras.times =
            Some(times).filter(|_| !esker_base::planted::is("loaded-tables-have-no-age"));
        properties
    }
}

impl LooseTable {
    fn keys(&self) -> (&[u8], &[u8]) {
        (&self.properties.smallest_key, &self.properties.largest_key)
    }
}

impl Engine {
    /// Adds `tables`, which are disjoint, to the tree of `keyspace`. `started_at` is the visible
    /// sequence number when the work on them began.
    ///
    /// # Errors
    /// Then the tables are in no tree; the caller removes the files, unless the outcome is unknown.
    pub(crate) fn adopt_tables(
        &self,
        keyspace: &KeyspaceCore,
        tables: &[LooseTable],
        started_at: SeqNo,
    ) -> Result<Adopted> {
        self.env.fs.sync_dir(&self.dir)?;
        if overlaps_memory(keyspace, tables) {
            self.flush_whole(keyspace).map_err(Error::with_nothing_done)?;
        }
        let visible = self.snapshots.visible();
        let writes = visible.get() - started_at.get().min(visible.get());
        let ahead = writes.saturating_mul(SKIPPED_PER_WRITE).saturating_add(first_step(tables));
        if SeqNo::MAX.get() / 2 < visible.get().saturating_add(ahead) {
            return Err(Error::invalid_input("the sequence numbers of this database are used up"));
        }
        let guessed = visible.plus(ahead);
        let places = self.places(keyspace, &keyspace.busy(), tables);
        let mut written = Vec::with_capacity(tables.len());
        for (table, place) in tables.iter().zip(&places) {
            written.push(self.write_adoption(keyspace, table, guessed, place.level)?);
        }
        // Held until the tables are in: no older run of level 0 may come above them.
        let flushing = keyspace.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut leader = self.pipeline.lead();
        let started = self.now();
        let adopted = self.adopt_led(keyspace, tables, written, &mut leader)?;
        drop((leader, flushing));

        let bytes = adopted.tables.iter().map(|(_, table)| table.file_bytes).sum();
        Counters::add(&self.counters.ingested_tables, tables.len() as u64);
        Counters::add(&self.counters.ingested_bytes, bytes);
        let event = Event::Ingested {
            keyspace: keyspace.name().to_string(),
            table_count: tables.len(),
            bytes,
            seqno: adopted.seqno.get(),
            duration: self.now().saturating_sub(started),
        };
        self.events.record(self.now(), event);
        self.update_pressure(keyspace);
        self.scheduler.request_compaction(keyspace.id);
        Ok(adopted)
    }

    /// The rest of the work, while nobody writes. The caller holds `flushing` of the keyspace.
    fn adopt_led(
        &self,
        keyspace: &KeyspaceCore,
        tables: &[LooseTable],
        mut written: Vec<Written>,
        leader: &mut Leader,
    ) -> Result<Adopted> {
        self.check_writable()?;
        keyspace.check_live()?;
        self.make_way(keyspace, tables, leader).map_err(Error::with_nothing_done)?;
        // Plans made from now on see the tables.
        let busy = keyspace.busy();
        let places = self.places(keyspace, &busy, tables);
        let guessed = written.iter().map(|written| written.adoption.seqno).max();
        let seqno = guessed.unwrap_or_default().max(leader.last_seqno.plus(first_step(tables)));
        for ((table, place), written) in tables.iter().zip(&places).zip(&mut written) {
            let adoption = &written.adoption;
            if (adoption.seqno, usize::from(adoption.level)) != (seqno, place.level) {
                *written = self.write_adoption(keyspace, table, seqno, place.level)?;
            }
        }
        let now = as_millis(self.wall());
        let mut own_runs: [Option<RunId>; LEVEL_COUNT_MAX] = [None; LEVEL_COUNT_MAX];
        let mut records = Vec::with_capacity(tables.len() + 1);
        let mut joined = Vec::with_capacity(tables.len());
        for ((table, place), written) in tables.iter().zip(&places).zip(&written) {
            let run = match (place.run, own_runs[place.level]) {
                (Some(run), _) | (None, Some(run)) => run,
                (None, None) => *own_runs[place.level].insert(self.ledger.allocate_run()?),
            };
            let properties = Arc::new(written.joined(table, now));
            joined.push((place.level, Arc::clone(&properties)));
            let (keyspace, level) = (keyspace.id, place.level);
            records.push(EditRecord::TableAdded { keyspace, level, run, properties });
        }
        records.push(EditRecord::LastSeqno(seqno));
        records.append(&mut self.grown_log().records);
        if esker_base::planted::is("load-split-over-edits") {
            let first = VersionEdit { records: vec![records.remove(0)] };
            self.install(keyspace, first, &[])?;
        }
        self.install(keyspace, VersionEdit { records }, &[]).map_err(|error| {
            // The manifest may have the edit, until there is another one without it.
            match self.ledger.settle() {
                Ok(()) => error,
                Err(_) => {
                    let error = error.with_unknown_outcome();
                    self.poison(&error);
                    error
                }
            }
        })?;
        let is_forgotten = esker_base::planted::is("ingested-deletes-stay-in-the-log");
        if !is_forgotten && joined.iter().any(|(_, table)| table.has_tombstones()) {
            self.note_deletes_before_log_end(keyspace, now);
        }
        leader.last_seqno = seqno;
        self.snapshots.publish(seqno);
        Ok(Adopted { seqno, tables: joined })
    }

    /// Flushes what was written to keys of `tables` in the meantime, and makes the log durable.
    fn make_way(
        &self,
        keyspace: &KeyspaceCore,
        tables: &[LooseTable],
        leader: &mut Leader,
    ) -> Result<()> {
        if overlaps_memory(keyspace, tables) {
            self.note_deletes_in_log(keyspace);
            keyspace.switch_memtable(&self.budget);
            let owed = OwedFlush::new(self, keyspace);
            self.flush_switched(keyspace, || leader.write_log(self).map(drop))?;
            owed.note_done();
        }
        let position = leader.write_log(self)?;
        self.sync_to(position)
    }

    /// The place of each of `tables`.
    fn places(
        &self,
        keyspace: &KeyspaceCore,
        busy: &Busy,
        tables: &[LooseTable],
    ) -> Vec<Placement> {
        // Runs that are dropped by age stay in order of age.
        let level_max = match keyspace.settings().options.compaction.keeps_ages_apart() {
            true => 0,
            false => LEVEL_COUNT_MAX - 1,
        };
        let shape = keyspace.view().version.shape();
        let keys = tables.iter().map(LooseTable::keys);
        keys.map(|(first, last)| Placement::deepest(&shape, busy, level_max, first, last)).collect()
    }

    /// Writes the adoption record of `table`, durably.
    fn write_adoption(
        &self,
        keyspace: &KeyspaceCore,
        table: &LooseTable,
        seqno: SeqNo,
        level: usize,
    ) -> Result<Written> {
        let adoption = Adoption {
            database: self.tables.database,
            id: table.id,
            keyspace: keyspace.id,
            level: u8::try_from(level).expect("levels are few"),
            seqno,
            origin_database: table.birth.0,
            origin_id: table.birth.1,
        };
        let file = self.env.fs.open_for_write(&self.dir.join(table.id.file_name()))?;
        let file_bytes = adopt(&*file, table.properties.file_bytes, &adoption)?;
        Ok(Written { adoption, file_bytes })
    }

    /// Removes the files of tables that did not join a tree, after `error`.
    pub(crate) fn remove_loose(&self, tables: &[TableId], error: &Error) {
        if error.outcome() == crate::error::Outcome::Unknown {
            // The manifest may name them. If it does not, the next open removes them.
            return;
        }
        self.tables.owned.while_owned(|| {
            for id in tables {
                drop(self.env.fs.remove(&self.dir.join(id.file_name())));
            }
        });
    }
}

/// The least distance from the last sequence number to that of `tables`: the one before it is for
/// their range tombstones, which must be newer than every earlier write.
fn first_step(tables: &[LooseTable]) -> u64 {
    let has_ranges = tables.iter().any(|table| table.properties.extras.ranges.is_some());
    1 + u64::from(has_ranges && !esker_base::planted::is("ingested-ranges-at-the-last-write"))
}

/// Whether a memtable holds an entry of a key in the range of one of `tables`, or may hide one.
fn overlaps_memory(keyspace: &KeyspaceCore, tables: &[LooseTable]) -> bool {
    let view = keyspace.view();
    let overlaps = |memtable: &Arc<Memtable>, table: &LooseTable| {
        // Rare, and may cover any of the keys.
        if memtable.range_tombstone_count() > 0 {
            return true;
        }
        let (first, last) = table.keys();
        let mut cursor = memtable.cursor();
        cursor.seek(InternalKey::seek(first, SeqNo::MAX));
        cursor.is_valid() && cursor.key().user_key <= last
    };
    let filled = view.memtables().filter(|memtable| !memtable.is_empty());
    filled.into_iter().any(|memtable| tables.iter().any(|table| overlaps(memtable, table)))
}

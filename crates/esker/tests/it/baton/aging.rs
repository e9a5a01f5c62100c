//! What must go and what must stay because of its age: entries of a keyspace that drops what is old, and
//! deleted values, of which no file may have a byte after the deadline.
//!
//! Nobody else knows of such a keyspace, so what it holds is known without the history.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker::env::FileSystem as _;
use esker::{
    CompactionPolicy, Compression, FifoOptions, IngestOptions, Keyspace, KeyspaceOptions, Result,
    TableWriter, TableWriterOptions, TimeWindowOptions,
};
use esker_base::baton;

use super::client::Client;
use super::coverage;
use super::generation::dir_of;
use super::script::Loading;
use crate::files::read_all;
use crate::referenced::log_dir_of;

/// Where tables are written: nobody else takes them from there.
const ASIDE: &str = "aside";

/// The age at which entries go.
const AGE_MAX: Duration = Duration::from_secs(100);

/// How soon no file has what was deleted.
const DEADLINE: Duration = Duration::from_secs(40);

/// After so much time in which nobody works or holds anything up, what is due has been done. Most of the time
/// that passes is not of this kind: sixty looks saw up to 21 seconds of it.
const IDLE_MAX: Duration = Duration::from_secs(8);

/// How often a client looks whether it has.
const LOOKS_MAX: usize = 60;

/// Entries that come one after the other.
const ROUND_COUNT: u64 = 6;

impl Client {
    /// Fills a keyspace little by little; what is young is there at any time, and in the end what is old
    /// is not.
    pub(super) fn grow_old(&mut self, way: Loading) -> Result<()> {
        let (id, number) = self.next_id();
        let age_max = Some(AGE_MAX);
        let compaction = match number % 2 {
            0 => CompactionPolicy::Fifo(FifoOptions { age_max, ..FifoOptions::default() }),
            _ => {
                let (window, runs_per_window) = (AGE_MAX / 4, 3);
                let options = TimeWindowOptions { window, runs_per_window, age_max };
                CompactionPolicy::TimeWindow(options)
            }
        };
        let options = KeyspaceOptions { compaction, ..KeyspaceOptions::default() };
        let keyspace = self.db.keyspace(&format!("aging {id} {number}"), options)?;
        // When each was written at the earliest. A clock that is set back makes nothing older.
        let mut written: Vec<Duration> = Vec::new();
        for round in 0..ROUND_COUNT {
            written.push(self.world.env.clock.now());
            self.put_by(way, &keyspace, &[b'0' + round as u8], b"value")?;
            if round == ROUND_COUNT / 2 {
                self.upset_clock(AGE_MAX * (1 + number % 2));
            }
            self.world.env.clock.sleep(AGE_MAX / 8 * ((number + round as u32) % 4));
            for (place, at) in written.iter().enumerate() {
                let is_there = keyspace.contains([b'0' + place as u8])?;
                let is_young = self.world.env.clock.now() < *at + AGE_MAX;
                assert!(is_there || !is_young, "what is younger than {AGE_MAX:?} is gone: {way:?}");
            }
        }
        self.sleep_by_the_clock(AGE_MAX * 2);
        self.until("keyspaces that dropped what was old", |_| {
            let is_there = keyspace.contains(b"0")?;
            Ok(if is_there { vec![keyspace.levels().to_string()] } else { Vec::new() })
        })?;
        self.db.drop_keyspace(&keyspace)
    }

    /// Deletes a value, in one of several ways; after the deadline no file has it.
    pub(super) fn forget(&mut self, way: Loading) -> Result<()> {
        let (id, number) = self.next_id();
        let secret = format!("what nobody may find again {id}.{number}.");
        let options = KeyspaceOptions {
            delete_deadline: Some(DEADLINE),
            compression: Compression::None,
            shallow_compression: Compression::None,
            blob_threshold_bytes: (number % 3 == 0).then_some(32),
            ..KeyspaceOptions::default()
        };
        let keyspace = self.db.keyspace(&format!("forgetting {id} {number}"), options)?;
        let put_by = if matches!(way, Loading::Bulk) { way } else { Loading::Writes };
        self.put_by(put_by, &keyspace, b"key", secret.as_bytes())?;
        let snapshot = (number % 2 == 0).then(|| self.db.snapshot());
        match way {
            Loading::Writes => {
                keyspace.delete("key")?;
                if number % 4 == 0 {
                    keyspace.put("key", "nothing to hide")?;
                }
            }
            Loading::Ingest => {
                let path = self.outside(&format!("deletes {id} {number}"))?;
                let mut writer = self.table_writer(&path)?;
                writer.delete_range("key"..="key")?;
                let path = writer.finish()?.path;
                self.ingest_and_remove(&keyspace, &path)?;
            }
            Loading::Bulk => keyspace.delete_range("a".."z")?,
        }
        if snapshot.is_some() {
            // One table has what the snapshot sees, and what is left of the delete.
            keyspace.compact::<&str>(..)?;
        }
        drop(snapshot);
        self.upset_clock(DEADLINE * (1 + number % 2));
        self.sleep_by_the_clock(DEADLINE * 2);
        self.until("values that left the files in time", |client| {
            Ok(client.files_with(secret.as_bytes()))
        })?;
        self.db.drop_keyspace(&keyspace)
    }

    /// Looks again from time to time, until nothing is `left`; but not for ever, unless something may have gone
    /// wrong. Only time in which nobody works counts against whoever is to do it: beside work that others have
    /// without end nobody can tell.
    fn until(
        &self,
        what: &'static str,
        mut left: impl FnMut(&Self) -> Result<Vec<String>>,
    ) -> Result<()> {
        let mut begun = baton::idle();
        for _ in 0..LOOKS_MAX {
            let shown = self.world.shown();
            if shown.wall < shown.latest {
                // What was due by a clock that was set back is due later.
                self.sleep_by_the_clock(AGE_MAX * 2);
                begun = baton::idle();
            }
            let last = left(self)?;
            if self.is_held_up() {
                begun = baton::idle();
            }
            let is_late = IDLE_MAX < baton::idle() - begun;
            if last.is_empty() {
                coverage::add(what, 1);
                return Ok(());
            }
            assert!(!is_late || self.has_faults, "{what}: not yet, {last:?}\n{}", self.db.health());
            if is_late {
                break;
            }
            self.world.env.clock.sleep(DEADLINE);
        }
        Ok(())
    }

    /// In some runs, sets the clock back.
    fn upset_clock(&self, by: Duration) {
        if self.world.is_clock_wrong.load(Ordering::Relaxed) {
            self.world.clock.go_back(&self.db, by);
        }
    }

    /// Sleeps until the wall clock shows so much more than it has ever shown.
    fn sleep_by_the_clock(&self, more: Duration) {
        let shown = self.world.shown();
        let until = shown.latest + more;
        let is_behind = shown.wall < shown.latest;
        coverage::add("ages and deadlines by a clock that was set back", u64::from(is_behind));
        loop {
            let left = until.saturating_sub(self.world.shown().wall);
            if left.is_zero() {
                return;
            }
            self.world.env.clock.sleep(left);
        }
    }

    /// Whether what is due may have to wait: for a reader, or behind compactions whose filter takes its time.
    fn is_held_up(&self) -> bool {
        !self.db.stats().snapshots.is_empty() || !self.db.plan().is_empty()
    }

    /// Puts one entry, so that it is in a table.
    fn put_by(
        &mut self,
        way: Loading,
        keyspace: &Keyspace,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        match way {
            Loading::Writes => {
                keyspace.put(key, value)?;
                keyspace.flush()
            }
            Loading::Ingest => {
                let (id, number) = self.next_id();
                let path = self.outside(&format!("one {id} {number}"))?;
                let mut writer = self.table_writer(&path)?;
                writer.put(key, value)?;
                let path = writer.finish()?.path;
                self.ingest_and_remove(keyspace, &path)
            }
            Loading::Bulk => {
                let mut loader = self.db.bulk_loader(keyspace)?;
                loader.put(key, value)?;
                loader.finish().map(drop)
            }
        }
    }

    fn outside(&self, name: &str) -> Result<PathBuf> {
        self.world.env.fs.create_dir_all(Path::new(ASIDE))?;
        Ok(Path::new(ASIDE).join(name))
    }

    fn table_writer(&self, path: &Path) -> Result<TableWriter> {
        let options = TableWriterOptions { compression: Compression::None, ..Default::default() };
        TableWriter::create_in(&self.world.env, path, options)
    }

    fn ingest_and_remove(&self, keyspace: &Keyspace, path: &Path) -> Result<()> {
        let result = self.db.ingest(keyspace, &[path], IngestOptions::default());
        self.world.env.fs.remove(path)?;
        result.map(drop)
    }

    /// The files of the database that hold these bytes.
    fn files_with(&self, bytes: &[u8]) -> Vec<String> {
        let dir = dir_of(self.home);
        let dirs = [PathBuf::from(&dir), log_dir_of(&dir)];
        let there = dirs.iter().filter(|dir| self.world.fs.list(dir).is_ok());
        let files = there.flat_map(|dir| read_all(&self.world.fs, dir));
        let holds = |held: &[u8]| held.windows(bytes.len()).any(|window| window == bytes);
        files.filter(|(_, held)| holds(held)).map(|(name, _)| name).collect()
    }
}

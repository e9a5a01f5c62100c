//! Keys and values at the limits of what is allowed, against a sorted map: keys of up to the
//! greatest length that differ in their last byte, common prefixes around the lengths at which the
//! engine treats keys differently, bytes of all zeros and ones, values from empty to very long.
//!
//! Between operations the database is reopened with other options, also for reading only, which
//! starts no job. A copy by hard links of the closed database stays as it is.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::time::Duration;

use esker::doctor::{Doctor, RepairOptions};
use esker::env::{Env, FileExt as _};
use esker::{
    Compression, Cursor, Db, ErrorKind, IngestOptions, KeyspaceOptions, Options, Order, Snapshot,
    limits,
};

use crate::files;
use crate::model::choices;
use crate::outside;
use crate::policies;
use crate::random::{Rng, for_each_seed};
use crate::shrink::run_shrinking_steps;
use crate::state::{Bounds, Write};
use crate::tally::Tally;

const DIR: &str = "db";

/// Where a copy of the closed database is.
const COPY: &str = "copy";

/// Operations of one seed.
const STEP_COUNT: usize = 250;

static EXTREMES: Tally = Tally::new("histories of extreme keys and values");

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

#[test]
fn every_answer_about_extreme_keys_and_values_is_that_of_a_sorted_map() {
    let name = "every_answer_about_extreme_keys_and_values_is_that_of_a_sorted_map";
    for_each_seed(name, 6, |seed| {
        run_shrinking_steps(STEP_COUNT, |steps| Run::new(seed).run(steps));
        EXTREMES.add(1);
    });
    EXTREMES.print();
}

struct Run {
    rng: Rng,
    env: Env,
    db: Db,
    model: Model,
    snapshots: Vec<(Snapshot, Model)>,
    cursors: Vec<Walk>,
    /// What the keys of this run have in common, mostly.
    common: Vec<Vec<u8>>,
    /// What is in the files of the copy.
    copy: BTreeMap<String, Vec<u8>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let env = Env { clock: Env::os().clock, ..Env::memory(seed) };
        let db = open(&env, &mut rng, false);
        let common = (0..3)
            .map(|_| {
                let len = *rng.pick(&[0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 127, 128, 255, 256, 4095]);
                vec![*rng.pick(b"\x00\x01a\xff"); len]
            })
            .collect();
        let (snapshots, cursors, copy) = (Vec::new(), Vec::new(), BTreeMap::new());
        env.fs.create_dir_all(Path::new(COPY)).unwrap();
        Self { rng, env, db, model: Model::new(), snapshots, cursors, common, copy }
    }

    fn run(mut self, steps: &[usize]) {
        let rng = self.rng.clone();
        for &step in steps {
            self.rng = rng.part(step);
            self.operate();
        }
        self.reopen(false);
        self.check_all();
    }

    fn operate(&mut self) {
        match self.rng.below(32) {
            0..=9 => self.write(),
            10..=12 => self.delete_range(),
            13..=17 => self.get(),
            18..=20 => self.walk(),
            21 => self.db.flush().unwrap(),
            22 => {
                let bounds = self.bounds();
                self.db.compact(bounds).unwrap();
            }
            23 => drop(self.db.run_background_job()),
            24 if self.snapshots.len() < 3 => {
                self.snapshots.push((self.db.snapshot(), self.model.clone()));
            }
            25 => self.check_snapshot(),
            26 => self.ingest(),
            27 => self.load(),
            28 => self.scan(),
            29 if self.rng.one_in(3) => {
                let reads_only = self.rng.one_in(3);
                self.reopen(reads_only);
            }
            _ => {}
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let mut key = if self.rng.one_in(12) {
            let len = limits::KEY_LEN_MAX - self.rng.index(3);
            vec![*self.rng.pick(b"\x00a\xff"); len]
        } else {
            let index = self.rng.index(self.common.len());
            self.common[index].clone()
        };
        let count = self.rng.below(4);
        (0..count).for_each(|_| key.push(*self.rng.pick(b"\x00\x01\x7f\x80\xfe\xff")));
        key.truncate(limits::KEY_LEN_MAX);
        key
    }

    fn value(&mut self) -> Vec<u8> {
        let sizes = [0, 1, 8, 21, 22, 23, 255, 256, 511, 512, 513, 1023, 1024, 1025, 4095, 4096];
        let len = match self.rng.below(60) {
            0 => 3 << 20,
            1 => 1 << 20,
            2..=4 => 65_534 + self.rng.index(4),
            _ => *self.rng.pick(&sizes),
        };
        let byte = self.rng.next() as u8;
        let mut value = vec![byte; len];
        // Of the larger ones half do not compress.
        if self.rng.one_in(2) {
            let noise = self.rng.bytes(len.min(70_000));
            value[..noise.len()].copy_from_slice(&noise);
        }
        value
    }

    fn bounds(&mut self) -> Bounds {
        let mut bound = || match self.rng.below(5) {
            0 | 1 => Bound::Included(self.key()),
            2 | 3 => Bound::Excluded(self.key()),
            _ => Bound::Unbounded,
        };
        let (start, end) = (bound(), bound());
        use Bound::{Excluded, Included};
        match (&start, &end) {
            (Included(a) | Excluded(a), Included(b) | Excluded(b)) if b < a => (end, start),
            _ => (start, end),
        }
    }

    /// A batch in which keys repeat.
    fn write(&mut self) {
        let mut batch = self.db.batch();
        let keyspace = self.db.default_keyspace().clone();
        let mut keys: Vec<Vec<u8>> = (0..=self.rng.below(6)).map(|_| self.key()).collect();
        keys.extend(keys.clone().into_iter().take(self.rng.index(3)));
        for key in keys {
            if self.rng.one_in(4) {
                batch.delete(&keyspace, &key);
                self.model.remove(&key);
            } else {
                let value = self.value();
                batch.put(&keyspace, &key, &value);
                self.model.insert(key, value);
            }
        }
        batch.commit().unwrap();
    }

    fn delete_range(&mut self) {
        let bounds = self.bounds();
        // Mostly a narrow one, so that something is left.
        if self.model.keys().filter(|key| contains(&bounds, key)).count() > 8 && !self.rng.one_in(6)
        {
            return;
        }
        self.db.default_keyspace().delete_range(bounds.clone()).unwrap();
        self.model.retain(|key, _| !contains(&bounds, key));
    }

    fn get(&mut self) {
        let keys: Vec<_> = (0..20).map(|_| self.key()).collect();
        let keyspace = self.db.default_keyspace();
        for key in &keys {
            let found = keyspace.get(key).unwrap();
            assert!(found.as_deref() == self.model.get(key).map(Vec::as_slice), "{}", show(key));
            assert_eq!(keyspace.contains(key).unwrap(), found.is_some());
        }
        let found = keyspace.multi_get(&keys).unwrap();
        let expected = keys.iter().map(|key| self.model.get(key).map(Vec::as_slice));
        assert!(found.iter().map(Option::as_deref).eq(expected));
    }

    fn scan(&mut self) {
        let bounds = self.bounds();
        let inside = self.model.iter().filter(|(key, _)| contains(&bounds, key));
        let expected: Vec<_> = inside.map(|(key, value)| (key.clone(), value.clone())).collect();
        let keyspace = self.db.default_keyspace();
        assert_eq_entries(
            keyspace.scan(bounds.clone()),
            expected.iter().map(|(key, value)| (key, value)),
        );
        assert_eq_entries(
            keyspace.scan(bounds).rev(),
            expected.iter().rev().map(|(key, value)| (key, value)),
        );
        let key = self.key();
        let prefix = &key[..self.rng.index(key.len() + 1)];
        let expected: Vec<_> = self.model.iter().filter(|(k, _)| k.starts_with(prefix)).collect();
        let expected = expected.into_iter().map(|(key, value)| (key.clone(), value.clone()));
        let expected: Vec<_> = expected.collect();
        let keyspace = self.db.default_keyspace();
        assert_eq_entries(
            keyspace.prefix(prefix),
            expected.iter().map(|(key, value)| (key, value)),
        );
        assert_eq_entries(
            keyspace.prefix(prefix).rev(),
            expected.iter().rev().map(|(key, value)| (key, value)),
        );
    }

    fn walk(&mut self) {
        if self.cursors.len() < 4 {
            let bounds = self.bounds();
            let cursor = self.db.default_keyspace().cursor_in(bounds.clone()).unwrap();
            self.cursors.push(Walk::new(cursor, bounds, &self.model));
        }
        let index = self.rng.index(self.cursors.len());
        let keys: Vec<_> = (0..24).map(|_| self.key()).collect();
        let walk = &mut self.cursors[index];
        keys.iter().for_each(|key| walk.step(&mut self.rng, key));
        match self.rng.below(4) {
            0 => drop(self.cursors.swap_remove(index)),
            1 => walk.refresh(&self.model),
            _ => {}
        }
    }

    fn check_snapshot(&mut self) {
        if self.snapshots.is_empty() {
            return;
        }
        let index = self.rng.index(self.snapshots.len());
        let (snapshot, model) = &self.snapshots[index];
        assert_eq_entries(snapshot.scan::<&[u8]>(..), model.iter());
        assert_eq_entries(snapshot.scan::<&[u8]>(..).rev(), model.iter().rev());
        self.snapshots.swap_remove(index);
    }

    fn check_all(&self) {
        let keyspace = self.db.default_keyspace();
        assert_eq_entries(keyspace.iter(), self.model.iter());
        assert_eq_entries(keyspace.iter().rev(), self.model.iter().rev());
        for (key, value) in &self.model {
            assert!(keyspace.get(key).unwrap().unwrap() == *value, "{}", show(key));
        }
    }

    fn some_writes(&mut self) -> Vec<Write> {
        let count = 1 + self.rng.below(12);
        let writes = (0..count).map(|_| {
            let (key, value) = (self.key(), self.value());
            Write::put("default", &key, &value)
        });
        writes.collect()
    }

    fn take(&mut self, writes: &[Write]) {
        for write in writes {
            let value = write.value.as_ref().expect("they are puts");
            self.model.insert(write.key.to_vec(), value.to_vec());
        }
    }

    fn ingest(&mut self) {
        let mut writes = self.some_writes();
        writes.sort_by(|a, b| a.key.cmp(&b.key));
        writes.dedup_by(|a, b| a.key == b.key);
        let paths = outside::write_tables(&self.env, &Order::bytewise(), &writes, 2).unwrap();
        let options = IngestOptions { move_files: true, verify_entries: self.rng.one_in(2) };
        self.db.ingest(self.db.default_keyspace(), &paths, options).unwrap();
        self.take(&writes);
    }

    fn load(&mut self) {
        let writes = self.some_writes();
        let mut loader = self.db.bulk_loader(self.db.default_keyspace()).unwrap();
        for write in &writes {
            loader.put(&write.key, write.value.as_ref().expect("they are puts")).unwrap();
        }
        loader.finish().unwrap();
        self.take(&writes);
    }

    fn reopen(&mut self, reads_only: bool) {
        self.snapshots.clear();
        self.cursors.clear();
        let db = std::mem::replace(&mut self.db, Db::in_memory().unwrap());
        let closes = self.rng.one_in(2);
        if closes {
            db.close().unwrap();
        } else {
            drop(db);
        }
        let doctor = Doctor::new(DIR).env(self.env.clone());
        let report = doctor.verify(&mut |_| {}).unwrap();
        assert!(report.is_sound(), "{report}");
        assert!(
            files::read_all(&*self.env.fs, Path::new(COPY)) == self.copy,
            "the copy has changed"
        );
        if closes && self.rng.one_in(3) {
            self.unlink_copy();
            if self.spoil_logs() {
                let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
                assert!(!report.was_sound() && report.lost.is_empty(), "{report}");
            }
        } else if closes {
            self.link_copy();
        }
        if reads_only {
            self.db = open(&self.env, &mut self.rng, true);
            while self.db.run_background_job() {}
            let health = self.db.health();
            assert!(health.failing_jobs.is_empty(), "{health}");
            self.check_all();
            self.get();
            (0..4).for_each(|_| self.walk());
            self.scan();
            self.cursors.clear();
            self.db = Db::in_memory().unwrap();
        }
        self.db = open(&self.env, &mut self.rng, false);
        self.check_all();
    }
}

impl Run {
    /// Makes a copy of the database, which is closed, by hard links.
    fn link_copy(&mut self) {
        self.unlink_copy();
        let (fs, dir, copy) = (&self.env.fs, Path::new(DIR), Path::new(COPY));
        for name in files::read_all(&**fs, dir).into_keys() {
            fs.link(&dir.join(&name), &copy.join(&name)).unwrap();
        }
        self.copy = files::read_all(&**fs, copy);
    }

    fn unlink_copy(&mut self) {
        for name in std::mem::take(&mut self.copy).into_keys() {
            self.env.fs.remove(&Path::new(COPY).join(name)).unwrap();
        }
    }

    /// Damages the headers of all logs, which takes nothing from what is in them; false if there are
    /// none.
    fn spoil_logs(&self) -> bool {
        let dir = Path::new(DIR);
        let entries = self.env.fs.list(dir).unwrap().into_iter();
        let logs: Vec<_> = entries.filter(|entry| entry.name.ends_with(".log")).collect();
        for log in &logs {
            let file = self.env.fs.open_for_write(&dir.join(&log.name)).unwrap();
            file.write_all_at(9, b"what?").unwrap();
            file.sync_all().unwrap();
        }
        !logs.is_empty()
    }
}

fn open(env: &Env, rng: &mut Rng, reads_only: bool) -> Db {
    let options = Options {
        background_threads: if rng.one_in(4) { 2 } else { 0 },
        memory_budget_bytes: *rng.pick(&[0, 1 << 20, 512 << 20]),
        cache_bytes: *rng.pick(&[None, Some(0), Some(200_000)]),
        log_segment_bytes: *rng.pick(&[0, 1 << 20]),
        part_bytes: *rng.pick(&[None, Some(1)]),
        log_compression_threshold_bytes: *rng.pick(&[None, Some(0), Some(1000)]),
        warm_cache: rng.one_in(2),
        ..Options::default()
    };
    let compressions = [Compression::None, Compression::Lz4];
    let prefix_filter = choices::prefix_filter(rng);
    let keyspace = KeyspaceOptions {
        compaction: *rng.pick(&policies::KEEPING),
        compression: *rng.pick(&compressions),
        shallow_compression: *rng.pick(&compressions),
        block_size_bytes: *rng.pick(&[256, 4096, 65_536, 1 << 20]),
        filter_bits_per_key: *rng.pick(&[0, 1, 10]),
        prefix_filter,
        memtable_bytes: *rng.pick(&[1, 100_000, 64 << 20]),
        blob_threshold_bytes: *rng.pick(&[None, Some(32), Some(1024), Some(65_536)]),
        ..KeyspaceOptions::default()
    };
    let builder = Db::builder(DIR).env(env.clone()).options(options).read_only(reads_only);
    builder.default_keyspace(keyspace).open().unwrap()
}

/// A cursor that is moved, and what it should show.
struct Walk {
    cursor: Cursor,
    bounds: Bounds,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    at: Option<usize>,
}

impl Walk {
    fn new(cursor: Cursor, bounds: Bounds, model: &Model) -> Self {
        let mut walk = Self { cursor, bounds, entries: Vec::new(), at: None };
        walk.take_over(model);
        walk
    }

    fn take_over(&mut self, model: &Model) {
        let inside = model.iter().filter(|(key, _)| contains(&self.bounds, key));
        self.entries = inside.map(|(key, value)| (key.clone(), value.clone())).collect();
    }

    /// Shows the present; stays on its key, or the next one.
    fn refresh(&mut self, model: &Model) {
        let key = self.at.map(|at| self.entries[at].0.clone());
        self.cursor.refresh().unwrap();
        self.take_over(model);
        self.at = key.and_then(|key| self.entries.iter().position(|(other, _)| key <= *other));
        self.check();
    }

    fn step(&mut self, rng: &mut Rng, key: &[u8]) {
        let len = self.entries.len();
        match rng.below(12) {
            0 => {
                self.cursor.seek_to_first().unwrap();
                self.at = (len != 0).then_some(0);
            }
            1 => {
                self.cursor.seek_to_last().unwrap();
                self.at = len.checked_sub(1);
            }
            2 => {
                // Longer than any key may be.
                let key = [key, &vec![b'b'; limits::KEY_LEN_MAX]].concat();
                self.cursor.seek(&key).unwrap();
                self.at = self.entries.iter().position(|(other, _)| key <= *other);
            }
            3 => {
                self.cursor.seek(key).unwrap();
                self.at = self.entries.iter().position(|(other, _)| key <= &other[..]);
            }
            4 => {
                self.cursor.seek_for_prev(key).unwrap();
                self.at = self.entries.iter().rposition(|(other, _)| &other[..] <= key);
            }
            5..=8 if self.at.is_some() => {
                self.cursor.next().unwrap();
                self.at = self.at.map(|at| at + 1).filter(|at| *at < len);
            }
            _ if self.at.is_some() => {
                self.cursor.prev().unwrap();
                self.at = self.at.and_then(|at| at.checked_sub(1));
            }
            _ => {}
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.cursor.is_valid(), self.at.is_some());
        let Some((key, value)) = self.at.map(|at| &self.entries[at]) else { return };
        assert!(self.cursor.key() == key, "{}, not {}", show(self.cursor.key()), show(key));
        assert!(self.cursor.value() == value, "the value of {}", show(key));
        let entry = self.cursor.entry();
        assert!(entry.0 == *key && entry.1 == *value, "the entry of {}", show(key));
    }
}

fn contains(bounds: &Bounds, key: &[u8]) -> bool {
    let starts = match &bounds.0 {
        Bound::Included(start) => &start[..] <= key,
        Bound::Excluded(start) => &start[..] < key,
        Bound::Unbounded => true,
    };
    starts
        && match &bounds.1 {
            Bound::Included(end) => key <= &end[..],
            Bound::Excluded(end) => key < &end[..],
            Bound::Unbounded => true,
        }
}

fn assert_eq_entries<'a>(
    found: impl Iterator<Item = esker::Result<(esker::Key, esker::Value)>>,
    mut expected: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
) {
    for entry in found {
        let (key, value) = entry.unwrap();
        let expected = expected.next().unwrap_or_else(|| panic!("{} is too many", show(&key)));
        assert!(key == *expected.0, "{}, not {}", show(&key), show(expected.0));
        assert!(value == *expected.1, "the value of {}", show(&key));
    }
    assert!(expected.next().is_none(), "some are missing");
}

/// A key in so many words: its length, its first bytes and its last ones.
fn show(key: &[u8]) -> String {
    let (head, tail) = (&key[..key.len().min(12)], &key[key.len().saturating_sub(5)..]);
    format!("{} bytes {}..{}", key.len(), head.escape_ascii(), tail.escape_ascii())
}

/// Sizes that nobody means are taken or refused by name; nothing else comes of them.
#[test]
fn options_of_any_size_are_taken_or_refused() {
    for (size, background_threads) in
        [(0, 0), (1, 2), (4096, 0), (u64::MAX / 2, 2), (u64::MAX, 0), (u64::MAX, 2)]
    {
        let small = size.min(1 << 20) as usize;
        let plain = Options { background_threads, ..Options::default() };
        let bits = u32::try_from(size).unwrap_or(u32::MAX);
        let options = [
            Options { memory_budget_bytes: size, ..plain.clone() },
            Options { cache_bytes: Some(size), ..plain.clone() },
            Options { log_segment_bytes: size, ..plain.clone() },
            Options { part_bytes: Some(size), ..plain.clone() },
            Options { log_compression_threshold_bytes: Some(bits), ..plain.clone() },
            Options { compaction_bytes_per_second: Some(size), ..plain.clone() },
        ];
        let few = KeyspaceOptions { memtable_bytes: 20_000, ..KeyspaceOptions::default() };
        let time = Some(Duration::from_secs(size));
        let keyspaces = [
            KeyspaceOptions { memtable_bytes: size, ..few.clone() },
            KeyspaceOptions { immutable_memtables_max: small, ..few.clone() },
            KeyspaceOptions { block_size_bytes: bits, ..few.clone() },
            KeyspaceOptions { filter_bits_per_key: bits, ..few.clone() },
            KeyspaceOptions { blob_threshold_bytes: Some(bits), ..few.clone() },
            KeyspaceOptions { blob_waste_percent_max: bits, ..few.clone() },
            KeyspaceOptions { delete_deadline: time, ..few.clone() },
            KeyspaceOptions { periodic_compaction: time, ..few.clone() },
            KeyspaceOptions { idle_compaction: time, ..few.clone() },
        ];
        let each = options.into_iter().map(|options| (options, few.clone()));
        for (options, keyspace) in each.chain(keyspaces.map(|one| (plain.clone(), one))) {
            try_options(&options, &keyspace);
        }
    }
}

fn try_options(options: &Options, keyspace: &KeyspaceOptions) {
    let what = format!("{options:?}, {keyspace:?}");
    let env = Env { clock: Env::os().clock, ..Env::memory(1) };
    let open = || {
        let builder = Db::builder(DIR).env(env.clone()).options(options.clone());
        builder.default_keyspace(keyspace.clone()).open()
    };
    let db = match open() {
        Ok(db) => db,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
            return;
        }
    };
    for number in 0..60 {
        db.put(format!("{number:02}"), [7; 1000]).unwrap_or_else(|error| panic!("{what}: {error}"));
        db.run_background_job();
    }
    db.delete_range("10".."20").unwrap();
    db.flush().unwrap();
    db.compact::<&[u8]>(..).unwrap();
    db.put("last", "value").unwrap();
    db.close().unwrap_or_else(|error| panic!("{what}: {error}"));
    let db = open().unwrap();
    assert_eq!(db.iter().count(), 51, "{what}");
    db.wait_until_settled().unwrap();
}

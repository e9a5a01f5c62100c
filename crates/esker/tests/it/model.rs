//! Random operations on a database and on a model of it must give the same answers.
//!
//! Each seed chooses options (tiny memtables and blocks, with and without compaction, background
//! jobs one at a time or on threads) and a list of operations. `ESKER_SEED` replays one seed,
//! `ESKER_BUDGET` multiplies how many are run.

pub(crate) mod choices;
mod filtered;
mod readers;
mod ways;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker::env::{Clock as _, Env, ManualClock};
use esker::{
    Batch, CompactionPolicy, Db, Durability, ErrorKind, Expiry, IngestOptions, Keyspace,
    KeyspaceOptions, Options, Order, Snapshot,
};

use crate::orders::Shortlex;
use crate::outside;
use crate::random::{Rng, expiry_at, for_each_seed};
use crate::reading::assert_state;
use crate::referenced::{assert_exact, assert_tidy};
use crate::shrink::run_shrinking_steps;
use crate::state::{How, State, Turn, Write, between};
use crate::tally::Tally;
use readers::Readers;
use ways::{Expected, Reader};

const DIR: &str = "db";

/// Where a clock that the test moves starts.
const START: Duration = Duration::from_secs(1_700_000_000);

/// Later than any clock of this machine.
const FAR_MILLIS: u64 = 1 << 50;

/// Operations of one seed.
const STEP_COUNT: usize = 400;

static HISTORIES: Tally = Tally::new("histories beside the model");

/// Names that keyspaces are given.
const NAMES: [&str; 5] = ["default", "a", "b", "c", "d"];

#[test]
fn every_answer_is_that_of_the_model_with_jobs_step_by_step() {
    for_each_seed("every_answer_is_that_of_the_model_with_jobs_step_by_step", 60, |seed| {
        run_shrinking_steps(STEP_COUNT, |steps| Run::new(seed, 0).run(steps));
        HISTORIES.add(1);
    });
    HISTORIES.print();
}

#[test]
fn every_answer_is_that_of_the_model_beside_background_threads() {
    for_each_seed("every_answer_is_that_of_the_model_beside_background_threads", 25, |seed| {
        run_shrinking_steps(STEP_COUNT, |steps| Run::new(seed, 2).run(steps));
        HISTORIES.add(1);
    });
    HISTORIES.print();
}

/// One database, its model, and who reads it.
struct Run {
    rng: Rng,
    env: Env,
    /// Whether keyspaces have a compaction filter, from time to time.
    has_filter: bool,
    /// Moved by the test, where no thread waits on it.
    clock: Option<Arc<ManualClock>>,
    options: Options,
    keyspace_options: KeyspaceOptions,
    db: Db,
    model: State,
    snapshots: Vec<(Snapshot, State)>,
    readers: Readers,
    step: usize,
}

impl Run {
    fn new(seed: u64, background_threads: usize) -> Self {
        let mut rng = Rng::new(seed);
        // Threads wait on the clock when they are behind, so it must move.
        let clock = (background_threads == 0).then(|| Arc::new(ManualClock::new(START)));
        let env = match &clock {
            Some(clock) => Env { clock: clock.clone(), ..Env::memory(seed) },
            None => Env { clock: Env::os().clock, ..Env::memory(seed) },
        };
        let part_bytes = choices::part_bytes(seed);
        let log_compression_threshold_bytes = choices::log_compression(seed);
        let options = Options {
            part_bytes,
            log_compression_threshold_bytes,
            warm_cache: choices::warm_cache(seed),
            ..choices::options(&mut rng, background_threads)
        };
        let order = some_turn(&mut rng).order();
        let has_filter = seed.is_multiple_of(3);
        let compaction_filter = filtered::choose(&mut rng, has_filter);
        let keyspace_options =
            KeyspaceOptions { order, compaction_filter, ..choices::keyspace_options(&mut rng) };
        let db = Db::builder(DIR)
            .env(env.clone())
            .options(options.clone())
            .default_keyspace(keyspace_options.clone())
            .open()
            .unwrap();
        let (mut model, snapshots) = (State::new(), Vec::new());
        model.turn("default", Turn::of(&keyspace_options.order));
        model.pass_time(START.as_millis() as u64);
        let readers = Readers::default();
        Self {
            rng,
            env,
            has_filter,
            clock,
            options,
            keyspace_options,
            db,
            model,
            snapshots,
            readers,
            step: 0,
        }
    }

    fn run(mut self, steps: &[usize]) {
        let rng = self.rng.clone();
        for &step in steps {
            (self.step, self.rng) = (step, rng.part(step));
            self.operate();
        }
        self.settle();
        let hold = self.note_filtered();
        assert_state(&self.db, &self.model, "at the end");
        drop(hold);
        self.reopen(true);
        let _hold = self.note_filtered();
        assert_state(&self.db, &self.model, "after the last reopening");
    }

    /// Lets up to a few seconds pass; values expire after as long.
    fn let_time_pass(&mut self) {
        if let Some(clock) = &self.clock {
            clock.advance(Duration::from_millis(self.rng.below(4000)));
            self.model.pass_time(clock.wall().as_millis() as u64);
        }
    }

    fn operate(&mut self) {
        // Writes that wait move the clock, too.
        if let Some(clock) = &self.clock {
            self.model.pass_time(clock.wall().as_millis() as u64);
        }
        if self.rng.one_in(6) {
            self.let_time_pass();
        }
        match self.rng.below(100) {
            0..=29 => self.write_one(),
            30..=41 => self.write_batch(),
            42..=53 => self.get(),
            54..=63 => self.scan(),
            64..=67 => self.take_snapshot_or_drop_one(),
            68..=79 => {
                let name = self.some_name();
                let keyspace = self.keyspace(&name);
                let _hold = self.note_filtered();
                self.readers.work(&mut self.rng, &self.db, &keyspace, &self.model);
            }
            80..=83 => self.flush(),
            84..=85 => self.compact(),
            86..=90 => {
                // A clock that stands still moves when somebody waits for it.
                if self.options.background_threads == 0 && self.rng.one_in(4) {
                    self.let_time_pass();
                }
                self.db.run_background_job();
            }
            91..=92 => self.ingest(),
            93 => self.bulk_load(),
            94..=96 => self.change_keyspaces(),
            97 => self.db.sync().unwrap(),
            98 if self.rng.one_in(3) => self.settle(),
            99 if self.rng.one_in(3) => {
                let closes = self.rng.one_in(2);
                self.reopen(closes);
            }
            _ => self.check_snapshots(),
        }
    }

    /// A name of a keyspace that exists.
    fn some_name(&mut self) -> String {
        self.rng.pick(&self.model.names()).clone()
    }

    fn keyspace(&self, name: &str) -> Keyspace {
        self.db.existing_keyspace(name).unwrap().unwrap_or_else(|| panic!("no keyspace {name}"))
    }

    fn some_key(&mut self) -> Vec<u8> {
        if self.has_filter && self.rng.one_in(4) {
            filtered::key(&mut self.rng)
        } else {
            self.rng.key()
        }
    }

    fn durability(&mut self) -> Durability {
        *self.rng.pick(&[Durability::Buffered, Durability::Process, Durability::Power])
    }

    fn some_write(&mut self) -> Write {
        let name = self.some_name();
        if self.rng.one_in(16) {
            let turn = self.model.turn_of(&name);
            return Write::delete_range(&name, self.rng.range_to_delete(), turn);
        }
        if self.has_filter && self.rng.one_in(6) {
            return filtered::write(&mut self.rng, &name);
        }
        match self.rng.below(8) {
            0 | 1 => return Write::delete(&name, &self.rng.key()),
            2 => return Write::merge(&name, &self.rng.key(), &self.rng.value()),
            3 => {
                let key = format!("toggled{}", self.rng.below(20));
                return Write::toggle(&name, key.as_bytes(), &self.rng.value());
            }
            _ => {}
        }
        let (key, value) = (self.rng.key(), self.rng.value());
        if self.rng.one_in(5) {
            let expiry = match &self.clock {
                Some(clock) => clock.wall().as_millis() as u64 + self.rng.below(10_000),
                None => self.rng.expiry(FAR_MILLIS),
            };
            return Write::put_until(&name, &key, &value, expiry);
        }
        Write::put(&name, &key, &value)
    }

    /// What becomes of a write, by the options of its keyspace.
    fn outcome(&self, write: &Write) -> Write {
        let ttl = self.keyspace(&write.keyspace).options().default_ttl;
        let until = |ttl: Duration| {
            let clock = self.clock.as_ref().expect("only with a clock that the test moves");
            (clock.wall() + ttl).as_millis() as u64
        };
        let is_plain = write.value.is_some() && write.expiry.is_none() && write.how != How::Merge;
        let expiry = if is_plain { ttl.map(until) } else { write.expiry };
        Write { expiry, ..write.clone() }
    }

    /// Options of a keyspace; some expire where the test moves the clock.
    fn some_options(&mut self, order: Order) -> KeyspaceOptions {
        let is_timed = self.rng.one_in(4) && self.clock.is_some();
        let default_ttl = is_timed.then(|| Duration::from_millis(1 + self.rng.below(20_000)));
        let compaction_filter = filtered::choose(&mut self.rng, self.has_filter);
        let options = choices::keyspace_options(&mut self.rng);
        KeyspaceOptions { order, default_ttl, compaction_filter, ..options }
    }

    fn write_one(&mut self) {
        let (write, durability) = (self.some_write(), self.durability());
        let keyspace = self.keyspace(&write.keyspace);
        let outcome = self.outcome(&write);
        let exists = self.model.contents(&write.keyspace).contains_key(&write.key);
        match (&write.value, write.how, write.expiry) {
            _ if write.range.is_some() => {
                let range = write.range.clone().expect("it was just looked at");
                keyspace.delete_range_with(range, durability)
            }
            (Some(operand), How::Merge, _) => keyspace.merge_with(&write.key, operand, durability),
            (_, How::Toggle, _) if exists => keyspace.single_delete_with(&write.key, durability),
            (Some(value), _, Some(millis)) => {
                keyspace.put_with_expiry(&write.key, value, expiry_at(millis))
            }
            (Some(value), _, None) => keyspace.put_with(&write.key, value, durability),
            (None, ..) => keyspace.delete_with(&write.key, durability),
        }
        .unwrap();
        self.model.apply(&[outcome]);
    }

    fn write_batch(&mut self) {
        let count = self.rng.below(20);
        let writes: Vec<Write> = (0..count).map(|_| self.some_write()).collect();
        let mut batch: Batch = self.db.batch();
        for write in &writes {
            let keyspace = self.keyspace(&write.keyspace);
            write.add_to(&mut batch, &keyspace, &self.model);
            self.model.apply(&[self.outcome(write)]);
        }
        let durability = self.durability();
        let mut rng = self.aside();
        for name in self.model.names() {
            let key = rng.key();
            let expected =
                self.model.contents(&name).get(key.as_slice()).map(|value| value.to_vec());
            let found = batch.get(&self.keyspace(&name), &key).unwrap().map(Vec::from);
            assert_eq!(found, expected, "step {}: {name} {}", self.step, key.escape_ascii());
        }
        if rng.one_in(2) {
            return batch.commit_with(durability).unwrap();
        }
        batch.commit_and_clear(durability).unwrap();
        assert_eq!((batch.len(), batch.size_bytes()), (0, 0));
        batch.commit().unwrap();
    }

    /// Choices that leave those of the seed what they are.
    fn aside(&self) -> Rng {
        Rng::new(!self.rng.clone().next())
    }

    /// Tables from outside, of disjoint ranges, copied or moved.
    fn ingest(&mut self) {
        let name = self.some_name();
        let turn = self.model.turn_of(&name);
        let writes = outside::sorted_writes(&mut self.rng, &name, turn);
        let files = 1 + self.rng.index(3);
        let order = self.keyspace(&name).options().order;
        let paths = outside::write_tables(&self.env, &order, &writes, files).unwrap();
        let options =
            IngestOptions { move_files: self.rng.one_in(2), verify_entries: self.rng.one_in(2) };
        let report = self.db.ingest(&self.keyspace(&name), &paths, options).unwrap();
        assert_eq!(report.not_removed, [""; 0].map(std::path::PathBuf::from));
        for path in &paths {
            assert_eq!(self.env.fs.exists(path).unwrap(), !options.move_files);
        }
        self.model.apply(&writes);
    }

    fn bulk_load(&mut self) {
        let name = self.some_name();
        let writes: Vec<Write> = (0..self.rng.below(60))
            .map(|_| Write::put(&name, &self.rng.key(), &self.rng.value()))
            .collect();
        let mut loader = self.db.bulk_loader(&self.keyspace(&name)).unwrap();
        for write in &writes {
            loader.put(&write.key, write.value.as_ref().expect("it is a put")).unwrap();
        }
        if self.rng.one_in(4) {
            return loader.abort();
        }
        let report = loader.finish().unwrap();
        assert_eq!(report.entries + report.replaced, writes.len() as u64);
        self.model.apply(&writes);
    }

    /// All ways to read a key, as of now or of a snapshot.
    fn get(&mut self) {
        let (name, key) = (self.some_name(), self.some_key());
        let keyspace = self.keyspace(&name);
        let _hold = self.note_filtered();
        let contents = self.model.contents(&name);
        let expected = contents.get(key.as_slice()).map(|value| value.to_vec());
        let found = keyspace.get(&key).unwrap().map(Vec::from);
        assert_eq!(found, expected, "step {}: {name} {}", self.step, key.escape_ascii());
        assert_eq!(keyspace.get_with(&key, <[u8]>::to_vec).unwrap(), expected);
        let mut buffer = vec![1; 7];
        assert_eq!(keyspace.get_into(&key, &mut buffer).unwrap(), expected.is_some());
        assert_eq!(buffer, expected.clone().unwrap_or_default());
        assert_eq!(keyspace.contains(&key).unwrap(), expected.is_some());
        assert_eq!(keyspace.explain_get(&key).unwrap().value_len, expected.as_ref().map(Vec::len));
        let expiry = self.model.expiry(&name, &key).map_or(Expiry::Never, expiry_at);
        assert_eq!(keyspace.expires_at(&key).unwrap(), expected.as_ref().map(|_| expiry));
        let keys: Vec<_> = (0..self.rng.below(6)).map(|_| self.some_key()).collect();
        let expected: Vec<_> = keys.iter().map(|key| contents.get(key.as_slice())).collect();
        let found = keyspace.multi_get(&keys).unwrap();
        assert!(found.iter().map(|v| v.as_deref()).eq(expected.iter().map(|v| v.map(|v| &**v))));
    }

    /// A range from both ends, alternating as the seed says, or a prefix.
    fn scan(&mut self) {
        let name = self.some_name();
        let keyspace = self.keyspace(&name);
        let _hold = self.note_filtered();
        Reader::Now(&keyspace).check(self.aside(), &self.expected(&name));
        if self.rng.one_in(4) {
            let key = self.rng.key();
            let prefix = &key[..self.rng.index(key.len() + 1)];
            let all = (Bound::Unbounded, Bound::Unbounded);
            let mut expected = self.model.between(&name, &all);
            expected.retain(|(key, _)| key.starts_with(prefix));
            let mut scan = keyspace.prefix(prefix);
            readers::take_from_both_ends(&mut self.rng, &mut scan, expected, "prefix");
            return;
        }
        // Short ranges too: those of one prefix are left to filters.
        let is_short = self.rng.one_in(3);
        let bounds = if is_short { self.rng.range_to_delete() } else { self.rng.bounds() };
        let expected = self.model.between(&name, &bounds);
        let mut scan = keyspace.scan(bounds.clone());
        readers::take_from_both_ends(&mut self.rng, &mut scan, expected, &format!("{bounds:?}"));
    }

    /// All that a keyspace holds now.
    fn expected(&self, name: &str) -> Expected {
        Expected {
            entries: self.model.between(name, &(Bound::Unbounded, Bound::Unbounded)),
            turn: self.model.turn_of(name),
            what: format!("step {}: {name}", self.step),
        }
    }

    fn take_snapshot_or_drop_one(&mut self) {
        if self.snapshots.len() < 4 && !self.rng.one_in(3) {
            let snapshot = self.note_filtered().unwrap_or_else(|| self.db.snapshot());
            self.snapshots.push((snapshot, self.model.clone()));
        } else if !self.snapshots.is_empty() {
            let index = self.rng.index(self.snapshots.len());
            self.check_snapshot(index);
            self.snapshots.swap_remove(index);
        }
    }

    fn check_snapshots(&mut self) {
        (0..self.snapshots.len()).for_each(|index| self.check_snapshot(index));
    }

    /// A snapshot shows every keyspace that still exists as it was, those made since as empty.
    fn check_snapshot(&mut self, index: usize) {
        let keys: Vec<_> = self.model.names().iter().map(|_| self.some_key()).collect();
        let mut aside = self.aside();
        let (snapshot, state) = &self.snapshots[index];
        for (name, key) in self.model.names().into_iter().zip(keys) {
            let id = self.model.id(&name).expect("it is in the list");
            let expected = state.by_id(id);
            let view = snapshot.keyspace(&self.keyspace(&name));
            let mut scan = view.scan::<&[u8]>(..);
            let all = (Bound::Unbounded, Bound::Unbounded);
            let turn = self.model.turn_of(&name);
            let entries = between(&expected, &all, turn);
            readers::take_from_both_ends(&mut self.rng, &mut scan, entries.clone(), "snapshot");
            let what = format!("step {}: snapshot of {name}", self.step);
            let some = Rng::new(aside.next());
            Reader::Then(&view).check(some, &Expected { entries, turn, what });
            let found = view.get(&key).unwrap();
            assert_eq!(found.as_deref(), expected.get(key.as_slice()).map(|value| &**value));
        }
    }

    fn flush(&mut self) {
        if self.rng.one_in(4) {
            return self.db.flush().unwrap();
        }
        let name = self.some_name();
        self.keyspace(&name).flush().unwrap();
    }

    fn compact(&mut self) {
        if self.rng.one_in(4) {
            return self.db.compact_all().unwrap();
        }
        let (name, bounds) = (self.some_name(), self.rng.bounds());
        let keyspace = self.keyspace(&name);
        if self.rng.one_in(2) {
            return keyspace.compact(bounds).unwrap();
        }
        let handle = keyspace.start_compaction(bounds).unwrap();
        match self.rng.below(3) {
            0 => {
                handle.wait().unwrap();
            }
            1 => handle.cancel(),
            _ => {}
        }
    }

    fn change_keyspaces(&mut self) {
        let name = (*self.rng.pick(&NAMES)).to_owned();
        let other = (*self.rng.pick(&NAMES)).to_owned();
        match (self.model.has(&name), self.rng.below(4)) {
            (false, _) => {
                let turn = some_turn(&mut self.rng);
                let options = self.some_options(turn.order());
                self.model.create(&name);
                self.model.turn(&name, turn);
                self.db.keyspace(&name, options).unwrap();
            }
            (true, 0) if name != "default" => {
                let keyspace = self.keyspace(&name);
                let result = self.db.rename_keyspace(&keyspace, &other);
                assert_eq!(result.is_ok(), !self.model.has(&other));
                if result.is_ok() {
                    self.model.rename(&name, &other);
                    self.readers.rename(&name, &other);
                }
            }
            (true, 1) if name != "default" => {
                let keyspace = self.keyspace(&name);
                self.db.drop_keyspace(&keyspace).unwrap();
                self.readers.forget(&name);
                assert!(keyspace.put("k", "v").is_err());
                assert!(keyspace.get("k").is_err());
                self.model.remove(&name);
            }
            // Other options for one that exists.
            (true, _) => {
                let order = self.keyspace(&name).options().order;
                let options = self.some_options(order);
                self.db.keyspace(&name, options).unwrap();
            }
        }
        assert_eq!(self.db.keyspaces(), self.model.names());
    }

    /// When nothing is left to do and nobody reads, the directory holds what is referred to.
    fn settle(&mut self) {
        self.check_snapshots();
        self.snapshots.clear();
        self.readers.clear();
        self.db.wait_until_settled().unwrap();
        assert_tidy(&self.db, &*self.env.fs, "settled");
        self.check_blob_waste();
    }

    /// Once nothing is left to do, garbage in blob files is within its bound.
    fn check_blob_waste(&self) {
        for keyspace in self.db.stats().keyspaces {
            let options = self.keyspace(&keyspace.name).options();
            let percent = u64::from(options.blob_waste_percent_max);
            let is_bound = keyspace.blob_garbage_bytes * 100 <= keyspace.blob_bytes * percent;
            assert!(is_bound || options.compaction == CompactionPolicy::None, "{keyspace:?}");
        }
    }

    /// Reopens after a close, or after the last handle was dropped.
    fn reopen(&mut self, closes: bool) {
        self.check_snapshots();
        self.snapshots.clear();
        self.readers.clear();
        let placeholder = Db::in_memory().unwrap();
        let db = std::mem::replace(&mut self.db, placeholder);
        if closes {
            db.close().unwrap();
            assert_exact(&*self.env.fs, Path::new(DIR), "closed");
        } else {
            drop(db);
        }
        if self.rng.one_in(3) {
            let threads = self.options.background_threads;
            self.options = Options {
                part_bytes: self.options.part_bytes,
                log_compression_threshold_bytes: choices::log_compression(self.rng.next()),
                warm_cache: choices::warm_cache(self.rng.next()),
                ..choices::options(&mut self.rng, threads)
            };
        }
        let builder = Db::builder(DIR).env(self.env.clone()).options(self.options.clone());
        let mut builder = builder.key_order(Shortlex { name: "shortlex" });
        if self.rng.one_in(3) {
            self.db = builder.clone().read_only(true).open().unwrap();
            let _hold = self.note_filtered();
            assert_state(&self.db, &self.model, "opened to be read");
            let error = self.db.put("k", "v").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ReadOnly);
            self.db = Db::in_memory().unwrap();
        }
        if self.rng.one_in(3) {
            let order = self.keyspace_options.order.clone();
            self.keyspace_options = self.some_options(order);
            builder = builder.default_keyspace(self.keyspace_options.clone());
        }
        self.db = builder.open().unwrap();
        let _hold = self.note_filtered();
        assert_state(&self.db, &self.model, "reopened");
    }
}

/// The order of a new keyspace.
fn some_turn(rng: &mut Rng) -> Turn {
    *rng.pick(&[Turn::Bytewise, Turn::Bytewise, Turn::Bytewise, Turn::Reversed, Turn::Shortlex])
}

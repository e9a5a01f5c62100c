//! Bytes as options and operations of a database, beside sorted maps.
//!
//! The first bytes choose options; then each operation takes what it needs. Every answer is compared,
//! and after a crash the database is what it was at some moment that the crash may have left.

mod input;
mod model;
mod rare;
mod settings;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use esker::env::{Clock as _, CrashPolicy, Env, ManualClock, MemoryFileSystem};
use esker::{
    Batch, Db, Durability, IngestOptions, Keyspace, Snapshot, TableWriter, TableWriterOptions,
};

use super::sample::DIR;
use input::{Input, Range};
use model::{Contents, Map, without_notes};
use settings::Settings;
use walk::Walk;

/// Operations of one input.
const OPERATIONS_MAX: usize = 200;

/// From this byte on an operation is one of those that are drawn seldom.
const RARE_FROM: u8 = 240;

/// Cursors that are held at a time.
const WALKS_MAX: usize = 3;

/// Where the clock starts.
const START: Duration = Duration::from_secs(1_700_000_000);

/// The keyspaces.
const NAMES: [&str; 2] = ["default", "other"];

/// All keyspaces at one moment.
type State = [Map; NAMES.len()];

/// Runs the operations.
pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut run = Run::start(&mut input);
    for _ in 0..OPERATIONS_MAX {
        if input.is_at_end() {
            break;
        }
        run.operate(&mut input);
    }
    run.check_all();
}

struct Run {
    fs: MemoryFileSystem,
    clock: Arc<ManualClock>,
    settings: Settings,
    db: Option<Db>,
    keyspaces: [Keyspace; NAMES.len()],
    state: State,
    /// Every state from the last one on that is durable for sure.
    states: Vec<State>,
    /// Of those, the first that the death of the process alone may leave.
    handed_over: usize,
    snapshot: Option<(Snapshot, [Contents; NAMES.len()])>,
    walks: Vec<Walk>,
    /// Put into values, so that no two are the same.
    count: u32,
}

impl Run {
    fn start(input: &mut Input<'_>) -> Self {
        let (fs, clock) = (MemoryFileSystem::new(1), Arc::new(ManualClock::new(START)));
        let settings = Settings::choose(input);
        let (db, keyspaces) = settings.open(&env_of(&fs, &clock)).expect("memory");
        let mut state = State::default();
        for (map, is_reversed) in state.iter_mut().zip(settings.is_reversed) {
            map.is_reversed = is_reversed;
        }
        // What opening made is durable, as is that nothing was written.
        let states = vec![state.clone()];
        Self {
            fs,
            clock,
            settings,
            db: Some(db),
            keyspaces,
            state,
            states,
            handed_over: 0,
            snapshot: None,
            walks: Vec::new(),
            count: 0,
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("it is open between operations")
    }

    fn now(&self) -> u64 {
        self.clock.wall().as_millis() as u64
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        if let Some(rare) = what.checked_sub(RARE_FROM) {
            return self.operate_rarely(rare, input);
        }
        match what % 24 {
            0..=6 => self.write(input, 1),
            7 => {
                let count = 1 + input.below(6);
                self.write(input, count);
            }
            8 => self.db().flush().expect("memory"),
            9 => self.compact(input),
            10 | 11 => {
                for _ in 0..=input.below(4) {
                    self.db().run_background_job();
                }
            }
            12 => self.sync(),
            13 => self.reopen(input),
            14 => self.crash(input),
            15 => self.check_gets(input),
            16 => self.check_scan(input),
            17 => self.check_all(),
            18 => self.walk(input),
            19 => {
                self.walks.iter_mut().for_each(|walk| walk.go_on(input));
                self.check_snapshot();
            }
            20 => self.take_snapshot(input),
            21 => self.clock.advance(Duration::from_millis(1 << input.below(14))),
            22 => self.ingest(input),
            _ => self.drop_keyspace(),
        }
    }

    /// A batch of so many writes.
    fn write(&mut self, input: &mut Input<'_>, count: usize) {
        let durability =
            [Durability::Process, Durability::Buffered, Durability::Process, Durability::Power];
        let durability = durability[input.below(4)];
        let mut batch = self.db().batch();
        for _ in 0..count {
            self.add(&mut batch, input);
        }
        batch.commit_with(durability).expect("memory");
        self.states.push(self.state.clone());
        match durability {
            Durability::Buffered => {}
            Durability::Process => self.handed_over = self.states.len() - 1,
            Durability::Power => self.note_durable(),
        }
    }

    fn add(&mut self, batch: &mut Batch, input: &mut Input<'_>) {
        let now = self.now();
        self.count += 1;
        let number = input.below(NAMES.len());
        let (keyspace, map) = (&self.keyspaces[number], &mut self.state[number]);
        match input.below(10) {
            0..=3 => {
                let (key, value) = (input.key(), input.value(self.count));
                batch.put(keyspace, &key, &value);
                map.put(key, value, None);
            }
            4 => {
                let (key, value) = (input.key(), input.value(self.count));
                let millis = 1 << input.below(14);
                batch.put_with_ttl(keyspace, &key, &value, Duration::from_millis(millis));
                map.put(key, value, Some(now + millis));
            }
            5 => {
                let key = input.key();
                batch.delete(keyspace, &key);
                map.delete(&key);
            }
            6 => {
                let range = input.range(map.is_reversed);
                batch.delete_range(keyspace, range.bounds());
                map.delete_range(&range);
            }
            7 | 8 => {
                let (key, value) = (input.key(), input.value(self.count));
                batch.merge(keyspace, &key, &value);
                map.merge(key, &value);
            }
            // Keys apart: what a single delete takes was put once, and nothing else was done to it.
            _ => {
                let key = input.single_key();
                if map.get(&key, now).is_some() {
                    batch.single_delete(keyspace, &key);
                    map.delete(&key);
                } else {
                    let value = input.value(self.count);
                    batch.put(keyspace, &key, &value);
                    map.put(key, value, None);
                }
            }
        }
    }

    fn note_durable(&mut self) {
        self.states = vec![self.state.clone()];
        self.handed_over = 0;
    }

    fn sync(&mut self) {
        self.db().sync().expect("memory");
        self.note_durable();
    }

    fn compact(&mut self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        if input.below(2) == 0 {
            return self.keyspaces[number].compact::<&[u8]>(..).expect("memory");
        }
        let range = input.range(self.state[number].is_reversed);
        self.keyspaces[number].compact(range.bounds()).expect("memory");
    }

    /// Closes the database and opens it with other options.
    fn reopen(&mut self, input: &mut Input<'_>) {
        self.check_snapshot();
        self.snapshot = None;
        self.db.take().expect("it is open").close().expect("memory");
        self.note_durable();
        self.walks.iter_mut().for_each(|walk| walk.go_on(input));
        // The next open removes what only they refer to.
        self.walks.clear();
        self.settings.change(input);
        self.open();
    }

    fn open(&mut self) {
        let opened = self.settings.open(&env_of(&self.fs, &self.clock));
        let (db, keyspaces) = opened.expect("what was closed or has crashed opens");
        self.db = Some(db);
        self.keyspaces = keyspaces;
    }

    fn crash(&mut self, input: &mut Input<'_>) {
        let policy = CrashPolicy::ALL[input.below(CrashPolicy::ALL.len())];
        let crashed = self.fs.crash(policy, u64::from(input.byte()));
        self.snapshot = None;
        // What is still held stays readable in the files from before the crash.
        drop(self.db.take());
        self.fs = crashed;
        self.open();
        let now = self.now();
        let found = self.found();
        let first = if policy == CrashPolicy::AllKept { self.handed_over } else { 0 };
        let states = self.states[first..].iter().rev();
        let is_found = |state: &&State| state.each_ref().map(|map| map.contents(now)) == found;
        let left = states.clone().find(is_found);
        self.state =
            left.expect("what a crash left was there at no moment that it may leave").clone();
        self.note_durable();
    }

    /// What a scan finds in each keyspace.
    fn found(&self) -> [Contents; NAMES.len()] {
        self.keyspaces.each_ref().map(|keyspace| contents(keyspace.iter()))
    }

    fn check_all(&self) {
        let now = self.now();
        for (keyspace, map) in self.keyspaces.iter().zip(&self.state) {
            let due = map.contents(now);
            assert!(contents(keyspace.iter()) == due, "a scan differs");
            let mut back = contents(keyspace.iter().rev());
            back.reverse();
            assert!(back == due, "a scan backwards differs");
            for (key, value) in &due {
                let found = keyspace.get(key).expect("memory");
                let found = found.as_deref().map(without_notes);
                assert!(found.as_ref() == Some(value), "a get of a scanned key differs");
            }
        }
        self.check_snapshot();
    }

    fn check_gets(&self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        let (keyspace, now) = (&self.keyspaces[number], self.now());
        let mut keys: Vec<Vec<u8>> = (0..=input.below(4)).map(|_| input.key()).collect();
        keys.push(input.single_key());
        let due = keys.iter().map(|key| self.state[number].get(key, now));
        let due: Vec<Option<Vec<u8>>> = due.collect();
        let together = keyspace.multi_get(&keys).expect("memory");
        for ((key, together), due) in keys.iter().zip(together).zip(due) {
            let found = keyspace.get(key).expect("memory");
            assert!(found.as_deref().map(without_notes) == due, "a get differs");
            assert!(together.as_deref().map(without_notes) == due, "a multi-get differs");
            let is_there = keyspace.contains(key).expect("memory");
            assert!(is_there == due.is_some(), "a look for a key differs");
        }
    }

    /// A range or a prefix, both ways.
    fn check_scan(&self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        let (keyspace, map) = (&self.keyspaces[number], &self.state[number]);
        let mut due = map.contents(self.now());
        let (forward, mut back) = if input.below(2) == 0 {
            let range = input.range(map.is_reversed);
            due.retain(|(key, _)| range.holds(key, map.is_reversed));
            let scan = || keyspace.scan(range.bounds());
            (contents(scan()), contents(scan().rev()))
        } else {
            let prefix = input.key();
            due.retain(|(key, _)| key.starts_with(&prefix));
            let scan = || keyspace.prefix(&prefix);
            (contents(scan()), contents(scan().rev()))
        };
        back.reverse();
        assert!(forward == due, "a scan of a part differs");
        assert!(back == due, "a scan of a part backwards differs");
    }

    fn walk(&mut self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        let (keyspace, map) = (&self.keyspaces[number], &self.state[number]);
        let mut due = map.contents(self.now());
        let cursor = match input.below(2) {
            0 => keyspace.cursor(),
            _ => {
                let range = input.range(map.is_reversed);
                due.retain(|(key, _)| range.holds(key, map.is_reversed));
                keyspace.cursor_in(range.bounds())
            }
        };
        let mut walk = Walk::new(cursor.expect("memory"), due, map.is_reversed);
        walk.go_on(input);
        if self.walks.len() == WALKS_MAX {
            self.walks.remove(0);
        }
        self.walks.push(walk);
    }

    fn take_snapshot(&mut self, input: &mut Input<'_>) {
        self.check_snapshot();
        let now = self.now();
        let due = self.state.each_ref().map(|map| map.contents(now));
        self.snapshot = (input.below(4) != 0).then(|| (self.db().snapshot(), due));
    }

    fn check_snapshot(&self) {
        let Some((snapshot, due)) = &self.snapshot else { return };
        for (keyspace, due) in self.keyspaces.iter().zip(due) {
            let view = snapshot.keyspace(keyspace);
            assert!(contents(view.iter()) == *due, "a scan of a snapshot differs");
            for (key, value) in due {
                let found = view.get(key).expect("memory");
                let found = found.as_deref().map(without_notes);
                assert!(found.as_ref() == Some(value), "a get of a snapshot differs");
            }
        }
    }

    /// A table of up to eight entries and a range, written elsewhere.
    fn ingest(&mut self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        let mut keys: Vec<Vec<u8>> = (0..input.below(8)).map(|_| input.key()).collect();
        keys.sort();
        keys.dedup();
        let map = &mut self.state[number];
        if map.is_reversed {
            keys.reverse();
        }
        let (env, path) = (env_of(&self.fs, &self.clock), PathBuf::from("outside.table"));
        if env.fs.exists(&path).expect("memory") {
            env.fs.remove(&path).expect("memory");
        }
        let order = self.keyspaces[number].options().order;
        let options = TableWriterOptions { order, block_size_bytes: 256, ..Default::default() };
        let mut writer = TableWriter::create_in(&env, &path, options).expect("memory");
        let is_empty = keys.is_empty();
        if is_empty || input.below(4) == 0 {
            let range = input.range(map.is_reversed);
            // In a table each range has an end.
            if writer.delete_range(range.bounds()).is_ok() {
                map.delete_range(&range);
            }
        }
        for key in keys {
            self.count += 1;
            let value = input.value(self.count);
            match input.below(4) {
                0 => {
                    writer.delete(&key).expect("keys ascend");
                    map.delete(&key);
                }
                1 => {
                    writer.merge(&key, &value).expect("keys ascend");
                    map.merge(key, &value);
                }
                _ => {
                    writer.put(&key, &value).expect("keys ascend");
                    map.put(key, value, None);
                }
            }
        }
        if let Err(error) = writer.finish() {
            assert!(is_empty, "{error}");
            return;
        }
        let keyspace = &self.keyspaces[number];
        let options = IngestOptions { move_files: input.below(2) == 0, ..Default::default() };
        self.db().ingest(keyspace, &[&path], options).expect("a table that was just written");
        // All writes before it are as durable as it.
        self.note_durable();
    }

    /// Drops the second keyspace and makes it anew.
    fn drop_keyspace(&mut self) {
        self.snapshot = None;
        self.db().drop_keyspace(&self.keyspaces[1]).expect("memory");
        self.state[1].clear();
        self.keyspaces[1] = self.settings.second(self.db()).expect("memory");
        self.sync();
    }
}

fn env_of(fs: &MemoryFileSystem, clock: &Arc<ManualClock>) -> Env {
    Env { fs: Arc::new(fs.clone()), clock: clock.clone(), ..Env::memory(1) }
}

fn contents(entries: impl Iterator<Item = esker::Result<(esker::Key, esker::Value)>>) -> Contents {
    let entries = entries.map(|entry| entry.expect("memory"));
    entries.map(|(key, value)| (key.to_vec(), without_notes(&value))).collect()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let all = |step: u8| (0..=255_u8).map(|n| n.wrapping_mul(step)).collect();
    vec![all(1), all(37), all(101), vec![0; 12], vec![1, 2, 3, 4, 5, 6, 7, 14, 0, 0, 14, 1, 1]]
        .into_iter()
        .chain((RARE_FROM..=255).map(|what| [&[254; 14][..], &all(37)[..60], &[what; 24]].concat()))
        .collect()
}

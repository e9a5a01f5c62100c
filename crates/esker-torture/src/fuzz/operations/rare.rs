//! Operations that are drawn seldom: other ways to write and to look, and copies of the files that
//! somebody else opens.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use esker::doctor::RepairOptions;
use esker::env::{FileSystem as _, MemoryFileSystem};
use esker::{Db, Expiry, KeyspaceOptions, Options, RecoveryMode};

use super::input::{Input, Range};
use super::model::without_notes;
use super::{DIR, NAMES, Run, State, contents, env_of};

impl Run {
    pub(super) fn operate_rarely(&mut self, what: u8, input: &mut Input<'_>) {
        match what {
            0 | 1 => self.bulk_load(input),
            2 | 3 => self.try_batch(input),
            4 | 5 => self.look(input),
            6 => self.ask_about_shape(input),
            7 => self.check_refresh(input),
            8 => self.check_keys(input),
            9 => self.open_copy(RecoveryMode::Strict),
            10 => self.open_copy(RecoveryMode::PointInTime),
            11 => self.open_copy(RecoveryMode::Salvage),
            12 => self.repair_copy(),
            13 => self.repair_copy_without_manifest(),
            14 => self.jump(input),
            _ => self.rename(),
        }
    }

    /// Up to sixteen entries in any order, some of them twice.
    fn bulk_load(&mut self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        let mut loader = self.db().bulk_loader(&self.keyspaces[number]).expect("memory");
        let is_loaded = input.below(4) != 0;
        let mut loaded = self.state[number].clone();
        for _ in 0..input.below(16) {
            self.count += 1;
            let (key, value) = (input.key(), input.value(self.count));
            loader.put(&key, &value).expect("memory");
            loaded.put(key, value, None);
        }
        if is_loaded {
            loader.finish().expect("memory");
            self.state[number] = loaded;
            // All writes before it are as durable as it.
            self.note_durable();
        } else {
            loader.abort();
        }
    }

    /// A batch that is read through after each write, and given up or committed.
    fn try_batch(&mut self, input: &mut Input<'_>) {
        let (before, now) = (self.state.clone(), self.now());
        let mut batch = self.db().batch();
        for _ in 0..=input.below(4) {
            self.add(&mut batch, input);
            let number = input.below(NAMES.len());
            let key = input.key();
            let found = batch.get(&self.keyspaces[number], &key).expect("memory");
            let due = self.state[number].get(&key, now);
            assert!(found.as_deref().map(without_notes) == due, "a get through a batch differs");
        }
        if input.below(2) == 0 {
            self.state = before;
            return;
        }
        batch.commit().expect("memory");
        self.states.push(self.state.clone());
        self.handed_over = self.states.len() - 1;
    }

    /// Point reads of every other kind.
    fn look(&mut self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        let (keyspace, now) = (&self.keyspaces[number], self.now());
        let key = if input.below(4) == 0 { input.single_key() } else { input.key() };
        let due = self.state[number].get(&key, now);
        let mut buffer = b"before".to_vec();
        let is_there = keyspace.get_into(&key, &mut buffer).expect("memory");
        let found = is_there.then(|| without_notes(&buffer));
        assert!(found == due, "a get into a buffer differs");
        let found = keyspace.get_with(&key, without_notes).expect("memory");
        assert!(found == due, "a get with a closure differs");
        let explained = keyspace.explain_get(&key).expect("memory");
        assert!(explained.value_len.is_some() == due.is_some(), "an explained get differs");
        std::hint::black_box(explained.to_string());
        let expiry = match keyspace.expires_at(&key).expect("memory") {
            Some(Expiry::At(time)) => {
                Some(time.duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64)
            }
            Some(Expiry::Never) | None => None,
        };
        let due = due.and_then(|_| self.state[number].expiry(&key, now));
        assert!(expiry == due, "an expiry differs: {expiry:?}, and not {due:?}");
    }

    /// What tells of the tree, and changes nothing.
    fn ask_about_shape(&self, input: &mut Input<'_>) {
        let db = self.db();
        let alternatives = [KeyspaceOptions { memtable_bytes: 1 << 20, ..self.settings.of(0) }];
        let foreseen = self.keyspaces[0].what_if_after(&alternatives, 16).expect("memory");
        std::hint::black_box(foreseen.to_string());
        std::hint::black_box((db.plan(), db.stats(), db.health(), db.events()));
        for (keyspace, map) in self.keyspaces.iter().zip(&self.state) {
            std::hint::black_box(keyspace.levels().to_string());
            let range = input.range(map.is_reversed);
            let scanned = keyspace.explain_scan(range.bounds(), Some(3)).expect("memory");
            std::hint::black_box(scanned.to_string());
            let all = keyspace.approximate_bytes::<&[u8]>(..).expect("memory");
            let part = keyspace.approximate_bytes(range.bounds()).expect("memory");
            assert!(part <= all, "a part is larger than the whole: {part} of {all}");
        }
    }

    /// A cursor that is refreshed shows what is there now.
    fn check_refresh(&mut self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        let mut cursor = self.keyspaces[number].cursor().expect("memory");
        cursor.seek_to_first().expect("memory");
        for _ in 0..input.below(8) {
            if cursor.is_valid() {
                cursor.next().expect("memory");
            }
        }
        let key = cursor.is_valid().then(|| cursor.key().to_vec());
        self.write(input, 2);
        cursor.refresh().expect("memory");
        let map = &self.state[number];
        let mut due = map.contents(self.now());
        let is_behind = |found: &Vec<u8>| {
            key.as_ref().is_some_and(|key| Range::is_ordered(key, found, map.is_reversed))
        };
        due.retain(|(found, _)| is_behind(found));
        let found = cursor.is_valid().then(|| (cursor.key().to_vec(), cursor.value().to_vec()));
        let found = found.map(|(key, value)| (key, without_notes(&value)));
        assert!(found.as_ref() == due.first(), "a refreshed cursor differs");
    }

    /// Keys alone, and values alone, from both ends by turns.
    fn check_keys(&self, input: &mut Input<'_>) {
        let number = input.below(NAMES.len());
        let (keyspace, map) = (&self.keyspaces[number], &self.state[number]);
        let due = map.contents(self.now());
        let (mut first, mut end) = (0, due.len());
        let (mut keys, mut values) = (keyspace.iter().keys(), keyspace.iter().values());
        while first < end {
            let is_forward = input.below(2) == 0;
            let (key, value) = match is_forward {
                true => (keys.next(), values.next()),
                false => (keys.next_back(), values.next_back()),
            };
            let at = if is_forward { first } else { end - 1 };
            (first, end) = if is_forward { (first + 1, end) } else { (first, end - 1) };
            let (key, value) = (key.expect("a key").expect("memory"), value.expect("a value"));
            assert!(*key == *due[at].0, "a scan of keys differs");
            assert!(
                without_notes(&value.expect("memory")) == due[at].1,
                "a scan of values differs"
            );
        }
        assert!(keys.next().is_none() && keys.next_back().is_none(), "a scan of keys goes on");
        assert!(values.next_back().is_none() && values.next().is_none(), "a scan goes on");
    }

    /// The files as the death of the process would leave them are sound, and a reader of them finds
    /// what was there at some moment.
    fn open_copy(&self, mode: RecoveryMode) {
        let copy = self.fs.snapshot();
        let report = self.settings.doctor(&env_of(&copy, &self.clock)).verify(&mut |_| {});
        let report = report.expect("memory");
        assert!(report.is_sound(), "what the process leaves is not sound: {report}");
        let before = names(&copy);
        self.check_copy(&copy, Some(mode));
        assert!(names(&copy) == before, "an open that only reads has changed the directory");
    }

    fn repair_copy(&self) {
        let copy = self.fs.snapshot();
        let doctor = self.settings.doctor(&env_of(&copy, &self.clock));
        let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).expect("memory");
        assert!(report.was_sound(), "{report}");
        self.check_copy(&copy, None);
    }

    /// Without a manifest nothing tells what was dropped, or merged away: it opens.
    fn repair_copy_without_manifest(&self) {
        let copy = self.fs.snapshot();
        for name in names(&copy).iter().filter(|name| name.ends_with(".manifest")) {
            copy.remove(&Path::new(DIR).join(name)).expect("memory");
        }
        // It must be told where the log lies, as there may be no segment of it.
        let log_dir = self.settings.log_dir();
        let doctor = self.settings.doctor(&env_of(&copy, &self.clock)).log_dir(log_dir);
        let report = match doctor.repair(&RepairOptions::default(), &mut |_| {}) {
            Ok(report) => report,
            // Nothing is left of a database that nothing is written in.
            Err(error) => {
                let now = self.now();
                let is_empty = |state: &State| state.iter().all(|map| map.contents(now).is_empty());
                assert!(self.states[self.handed_over..].iter().any(is_empty), "{error}");
                return;
            }
        };
        assert!(!report.was_sound(), "a manifest that is gone is not missed");
        let again = doctor.verify(&mut |_| {}).expect("memory");
        assert!(again.is_sound(), "after a repair: {again}");
        // With the orders of keys that were found: of a keyspace without a table nothing tells it.
        let options = Options { log_dir: Some(log_dir.into()), ..Options::default() };
        let builder = Db::builder(DIR).env(env_of(&copy, &self.clock)).options(options);
        drop(builder.read_only(true).open().expect("what was repaired opens"));
    }

    /// Opens the copy, to read if a mode is given, and compares it with what may be there.
    fn check_copy(&self, copy: &MemoryFileSystem, mode: Option<RecoveryMode>) {
        let mut builder = self.settings.builder(&env_of(copy, &self.clock));
        if let Some(mode) = mode {
            builder = builder.recovery(mode).read_only(true);
        }
        let db = builder.open().expect("what is sound opens");
        let now = self.now();
        let found = NAMES.map(|name| {
            let keyspace = db.existing_keyspace(name).expect("memory").expect("it was made");
            contents(keyspace.iter())
        });
        let is_found = |state: &State| state.each_ref().map(|map| map.contents(now)) == found;
        let may_be_there = self.states[self.handed_over..].iter().rev().any(is_found);
        assert!(may_be_there, "a copy holds what was there at no moment");
    }

    /// The clock goes on by up to 36 hours, and what that makes due is done.
    fn jump(&mut self, input: &mut Input<'_>) {
        self.clock.advance(Duration::from_secs(1 << input.below(18)));
        for _ in 0..4 {
            self.db().run_background_job();
        }
    }

    /// There and back.
    fn rename(&mut self) {
        let keyspace = &self.keyspaces[1];
        self.db().rename_keyspace(keyspace, "renamed").expect("memory");
        assert_eq!(keyspace.name(), "renamed");
        let taken = self.db().rename_keyspace(keyspace, NAMES[0]);
        assert!(taken.is_err(), "two keyspaces have one name");
        self.db().rename_keyspace(keyspace, NAMES[1]).expect("memory");
    }
}

fn names(fs: &MemoryFileSystem) -> Vec<String> {
    let entries = fs.list(Path::new(DIR)).expect("memory");
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    names.sort();
    names
}

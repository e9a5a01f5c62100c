//! A small database to be damaged, the model of it, and ways to damage it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker::doctor::{Doctor, VerifyReport};
use esker::env::{Env, FileExt as _, FileSystem};
use esker::{Compression, Db, Durability, KeyspaceOptions, Options};

use crate::model::choices;
use crate::random::Rng;
use crate::state::{State, Turn, Write};

pub(super) const DIR: &str = "db";

/// How a database is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// Closed.
    Closed,
    /// Dropped without being closed, with what was written last in the log only.
    Abandoned,
}

pub(super) struct Sample {
    pub(super) env: Env,
    pub(super) model: State,
    /// The state after each write.
    pub(super) history: Vec<State>,
}

impl Sample {
    /// A database of three keyspaces with several levels, versions that a snapshot held, and a
    /// log.
    pub(super) fn new(seed: u64, left: Left) -> Self {
        let fs = Env::memory(seed).fs;
        Self::over(fs, seed, left)
    }

    /// The same in files of `fs`.
    pub(super) fn over(fs: Arc<dyn FileSystem>, seed: u64, left: Left) -> Self {
        let mut rng = Rng::new(seed);
        let env = Env { fs, ..Env::memory(seed) };
        let mut sample = Self { env, model: State::new(), history: Vec::new() };
        let mut db = sample.open();
        for name in ["users", "logs"] {
            let options = keyspace_options(&mut rng);
            db.keyspace(name, options).unwrap();
            sample.model.create(name);
        }
        let mut snapshot = None;
        for step in 0..300 {
            let writes: Vec<Write> = (0..=rng.below(4)).map(|_| some_write(&mut rng)).collect();
            sample.write(&db, &writes);
            match rng.below(20) {
                0 => db.flush().unwrap(),
                1 => drop(db.run_background_job()),
                2 => snapshot = Some(db.snapshot()),
                3 if rng.one_in(3) => db.default_keyspace().compact::<Vec<u8>>(..).unwrap(),
                4 if rng.one_in(3) => db.wait_until_settled().unwrap(),
                5 if rng.one_in(6) => {
                    snapshot = None;
                    db.close().unwrap();
                    db = sample.open();
                }
                _ => {}
            }
            if step == 200 {
                db.compact_all().unwrap();
            }
        }
        drop(snapshot);
        match left {
            Left::Closed => db.close().unwrap(),
            Left::Abandoned => drop(db),
        }
        sample
    }

    /// The same database in other files.
    pub(super) fn with(&self, fs: Arc<dyn FileSystem>) -> Self {
        let env = Env { fs, ..self.env.clone() };
        Self { env, model: self.model.clone(), history: self.history.clone() }
    }

    pub(super) fn builder(&self) -> esker::DbBuilder {
        // Tiny segments: the log has several.
        let options =
            Options { background_threads: 0, log_segment_bytes: 64 << 10, ..Options::default() };
        Db::builder(DIR).env(self.env.clone()).options(options)
    }

    pub(super) fn open(&self) -> Db {
        self.builder().open().unwrap()
    }

    pub(super) fn write(&mut self, db: &Db, writes: &[Write]) {
        let mut batch = db.batch();
        for write in writes {
            let keyspace = db.existing_keyspace(&write.keyspace).unwrap().unwrap();
            write.add_to(&mut batch, &keyspace, &self.model);
        }
        batch.commit_with(Durability::Power).unwrap();
        self.model.apply(writes);
        self.history.push(self.model.clone());
    }

    pub(super) fn files(&self) -> Files<'_> {
        Files(&self.env)
    }

    pub(super) fn verify(&self) -> VerifyReport {
        self.files().verify()
    }
}

/// The files of a database, to be damaged.
#[derive(Clone, Copy)]
pub(super) struct Files<'a>(pub(super) &'a Env);

impl Files<'_> {
    pub(super) fn doctor(self) -> Doctor {
        Doctor::new(DIR).env(self.0.clone())
    }

    pub(super) fn verify(self) -> VerifyReport {
        self.doctor().verify(&mut |_| {}).unwrap()
    }

    /// Names of the files that end with `suffix`, oldest first.
    pub(super) fn ending_with(self, suffix: &str) -> Vec<String> {
        let entries = self.0.fs.list(Path::new(DIR)).unwrap();
        let files = entries.into_iter().filter(|entry| !entry.is_dir);
        let mut names: Vec<String> = files.map(|entry| entry.name).collect();
        names.retain(|name| name.ends_with(suffix));
        names.sort();
        names
    }

    /// The newest one, and the one before it.
    pub(super) fn manifests(self) -> Vec<String> {
        [self.ending_with(".manifest"), self.ending_with(".manifest.old")].concat()
    }

    pub(super) fn newest_manifest(self) -> String {
        self.ending_with(".manifest").pop().unwrap()
    }

    pub(super) fn read(self, name: &str) -> Vec<u8> {
        let file = self.0.fs.open(&path(name)).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes
    }

    pub(super) fn replace(self, name: &str, bytes: &[u8]) {
        replace(&*self.0.fs, name, bytes);
    }

    pub(super) fn remove(self, name: &str) {
        self.0.fs.remove(&path(name)).unwrap();
    }

    /// Flips one bit.
    pub(super) fn flip(self, name: &str, offset: usize) {
        let mut bytes = self.read(name);
        bytes[offset] ^= 1 << (offset % 8);
        self.replace(name, &bytes);
    }

    pub(super) fn swap(self, a: &str, b: &str) {
        let (first, second) = (self.read(a), self.read(b));
        self.replace(a, &second);
        self.replace(b, &first);
    }

    /// The files, each with its bytes, but for the lock: to tell whether anything has changed.
    pub(super) fn everything(self) -> Vec<(String, Vec<u8>)> {
        let names = self.ending_with("").into_iter().filter(|name| name != "LOCK");
        names.map(|name| (name.clone(), self.read(&name))).collect()
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn replace(fs: &dyn FileSystem, name: &str, bytes: &[u8]) {
    if fs.exists(&path(name)).unwrap() {
        fs.remove(&path(name)).unwrap();
    }
    let file: Arc<dyn esker::env::File> = fs.create(&path(name)).unwrap();
    file.write_all_at(0, bytes).unwrap();
    file.sync_all().unwrap();
    fs.sync_dir(Path::new(DIR)).unwrap();
}

fn keyspace_options(rng: &mut Rng) -> KeyspaceOptions {
    KeyspaceOptions {
        compression: *rng.pick(&[Compression::None, Compression::Lz4]),
        block_size_bytes: *rng.pick(&[256, 512]),
        filter_bits_per_key: *rng.pick(&[0, 10]),
        prefix_filter: choices::prefix_filter(rng),
        memtable_bytes: 4_000,
        blob_threshold_bytes: *rng.pick(&[None, Some(32), Some(100)]),
        blob_waste_percent_max: 20,
        ..KeyspaceOptions::default()
    }
}

fn some_write(rng: &mut Rng) -> Write {
    let keyspace = *rng.pick(&["default", "users", "logs"]);
    let key = rng.key();
    if rng.one_in(40) {
        return Write::delete_range(keyspace, rng.range_to_delete(), Turn::Bytewise);
    }
    if rng.one_in(5) {
        return Write::delete(keyspace, &key);
    }
    let len = rng.below(120) as usize;
    let value = rng.bytes(len);
    match rng.below(8) {
        0 => Write::put_until(keyspace, &key, &value, rng.expiry(1 << 50)),
        _ => Write::put(keyspace, &key, &value),
    }
}

//! Opens what a crash left, and checks the laws of recovery.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use esker::env::{CrashPolicy, Env, FileSystem, ManualClock, MemoryFileSystem};
use esker::{Db, Durability, KeyspaceOptions, Options, Result};
use esker_base::HashMap;

use crate::journal::Marks;
use crate::reading::{assert_contents, contents, difference};
use crate::referenced::log_dir_of;
use crate::referenced::{assert_exact, assert_tidy};
use crate::state::{Contents, Id, State, Write, merge_operator};
use crate::watchdog;

/// Where the databases of crash and fault tests lie.
pub(crate) const DIR: &str = "db";

/// Keyspaces whose names start so have no log.
pub(crate) const UNLOGGED: &str = "unlogged";

/// Where the clock of these tests stands, in milliseconds since the epoch.
pub(crate) const NOW_MILLIS: u64 = 1000;

/// No threads, and log segments as small as they get.
pub(crate) fn options() -> Options {
    // Small compactions are done whole, larger ones in parts.
    let part_bytes = Some(4000);
    Options { background_threads: 0, log_segment_bytes: 0, part_bytes, ..Options::default() }
}

/// The same for the database in [`DIR`] of `fs`.
pub(crate) fn options_over(fs: &dyn FileSystem) -> Options {
    options_in(DIR, fs)
}

/// The same for the database in `dir` of `fs`: its log lies apart from it if there is a directory
/// for that, and is compressed then. What the cache holds is written down.
pub(crate) fn options_in(dir: &str, fs: &dyn FileSystem) -> Options {
    let log_dir = log_dir_of(dir);
    let log_dir = fs.list(&log_dir).is_ok().then_some(log_dir);
    let log_compression_threshold_bytes = log_dir.is_some().then_some(0);
    Options { log_dir, log_compression_threshold_bytes, warm_cache: true, ..options() }
}

pub(crate) fn open(env: &Env, options: &Options) -> Result<Db> {
    open_in(DIR, env, options)
}

pub(crate) fn open_in(dir: &str, env: &Env, options: &Options) -> Result<Db> {
    watchdog::step();
    let default = KeyspaceOptions { merge_operator: merge_operator(), ..Default::default() };
    let builder = Db::builder(dir).env(env.clone()).options(options.clone());
    builder.default_keyspace(default).open()
}

/// What was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// The process and what was in its memory.
    Process,
    /// The power, and with it what was not durable.
    Power,
}

/// An environment over `fs` whose clock stands still.
pub(crate) fn env_over(fs: Arc<dyn FileSystem>) -> Env {
    env_at(fs, Duration::from_millis(NOW_MILLIS))
}

/// The same, at that time after the epoch.
pub(crate) fn env_at(fs: Arc<dyn FileSystem>, wall: Duration) -> Env {
    Env { fs, clock: Arc::new(ManualClock::new(wall)), ..Env::memory(1) }
}

pub(crate) fn env_of(fs: &MemoryFileSystem) -> Env {
    env_over(Arc::new(fs.clone()))
}

/// What a database holds after a recovery: its keyspaces, in order, and their contents.
#[derive(PartialEq, Eq)]
pub(crate) struct Found(Vec<(String, Contents)>);

impl Found {
    pub(crate) fn read(db: &Db) -> Result<Self> {
        let one = |name: String| {
            let keyspace = db.existing_keyspace(&name)?.expect("it is in the list");
            Ok((name, contents(&keyspace)?))
        };
        Ok(Self(db.keyspaces().into_iter().map(one).collect::<Result<_>>()?))
    }

    /// The state that it is, by itself: its keyspaces may be those of a later one.
    pub(crate) fn state(&self, states: &[State], marks: &Marks, loss: Loss, when: &str) -> State {
        self.index(states, marks, loss, when);
        let names: Vec<String> = self.0.iter().map(|(name, _)| name.clone()).collect();
        let allowed = &states[marks.keyspaces..=marks.issued];
        let mut state = allowed.iter().rev().find(|state| state.names() == names).cloned();
        let state = state.as_mut().expect("the index was found with it");
        for (name, contents) in &self.0 {
            state.set_contents(name, contents.clone());
        }
        state.clone()
    }

    /// Which state it is: one that the marks allow, in all keyspaces together.
    ///
    /// # Panics
    /// If it is none.
    pub(crate) fn index(&self, states: &[State], marks: &Marks, loss: Loss, when: &str) -> usize {
        let ids = self.ids(states, marks, when);
        let least = match loss {
            Loss::Process => marks.process,
            Loss::Power => marks.durable,
        };
        let logged = ids.iter().filter(|(_, name, _)| !name.starts_with(UNLOGGED));
        let logged: Vec<_> = logged.collect();
        let matches = |index: &usize| {
            logged.iter().all(|(id, _, contents)| *states[*index].by_id(*id) == **contents)
        };
        let candidates = (least..=marks.issued).rev();
        let index = candidates.clone().find(matches).unwrap_or_else(|| {
            let whole = (0..states.len()).rev().find(matches);
            let differences: Vec<_> = logged
                .iter()
                .map(|(id, name, contents)| {
                    (name, difference(contents, &states[least].by_id(*id)))
                })
                .collect();
            panic!(
                "{when}: no state from {least} to {} is what was recovered; {} the state {whole:?}; \
                 from the first allowed one it differs so: {differences:?}",
                marks.issued,
                if whole.is_some() { "it is" } else { "nor is it another," },
            );
        });
        for (id, name, contents) in ids.iter().filter(|(_, name, _)| name.starts_with(UNLOGGED)) {
            let mut allowed = marks.flushed..=marks.issued;
            assert!(
                allowed.any(|index| *states[index].by_id(*id) == **contents),
                "{when}: {name} has no log and does not hold what was flushed"
            );
        }
        index
    }

    /// The keyspaces, as one state that the marks allow knows them.
    fn ids<'a>(
        &'a self,
        states: &[State],
        marks: &Marks,
        when: &str,
    ) -> Vec<(Id, &'a str, &'a Contents)> {
        let found: Vec<String> = self.0.iter().map(|(name, _)| name.clone()).collect();
        let allowed = &states[marks.keyspaces..=marks.issued];
        let state = allowed.iter().rev().find(|state| state.names() == found);
        let state = state.unwrap_or_else(|| {
            panic!(
                "{when}: keyspaces {found:?}, and there should be {:?}",
                states[marks.issued].names()
            )
        });
        let id = |name: &str| state.id(name).expect("the names are the same");
        self.0.iter().map(|(name, contents)| (id(name), name.as_str(), contents)).collect()
    }
}

/// What was recovered from states of the file system that were opened: each needs to be only once,
/// as nothing but the bytes decides what an open finds after a loss of power.
#[derive(Default)]
pub(crate) struct Recoveries {
    by_digest: RefCell<HashMap<u64, Rc<Found>>>,
    /// Different ones: few, so that they fit into memory.
    all: RefCell<Vec<Rc<Found>>>,
}

impl Recoveries {
    /// What an open of `fs`, in which nothing is pending, finds. It may be opened for that.
    pub(crate) fn of(&self, fs: &MemoryFileSystem, when: impl Fn() -> String) -> Rc<Found> {
        assert_eq!(fs.pending_count(), 0, "what is pending is no part of a digest");
        let digest = fs.digest();
        if let Some(found) = self.by_digest.borrow().get(&digest) {
            watchdog::step();
            return Rc::clone(found);
        }
        let found = self.shared(found_in(fs, when));
        self.by_digest.borrow_mut().insert(digest, Rc::clone(&found));
        found
    }

    /// The one that is equal to `found`.
    fn shared(&self, found: Found) -> Rc<Found> {
        let mut all = self.all.borrow_mut();
        // What was found last is found again, mostly.
        if let Some(known) = all.iter().rev().find(|known| ***known == found) {
            return Rc::clone(known);
        }
        let found = Rc::new(found);
        all.push(Rc::clone(&found));
        found
    }

    /// How many states were opened.
    pub(crate) fn count(&self) -> u64 {
        self.by_digest.borrow().len() as u64
    }
}

/// What an open of `fs` finds.
pub(crate) fn found_in(fs: &MemoryFileSystem, when: impl Fn() -> String) -> Found {
    let db = open(&env_of(fs), &options_over(fs));
    let db = db.unwrap_or_else(|error| panic!("{}: {error:?}", when()));
    Found::read(&db).unwrap()
}

/// Opens `fs`, and returns which of the states was recovered.
pub(crate) fn recover(
    fs: &MemoryFileSystem,
    states: &[State],
    marks: &Marks,
    loss: Loss,
    when: &str,
) -> usize {
    found_in(fs, || when.to_owned()).index(states, marks, loss, when)
}

/// Recovers once more, goes on working, crashes again: the database is as good as any.
pub(crate) fn go_on(fs: &MemoryFileSystem, states: &[State], recovered: usize, when: &str) {
    let env = env_of(fs);
    let db = open(&env, &options_over(fs)).unwrap();
    let before = Found::read(&db).unwrap();
    // The marks allow this one state only.
    let only = Marks {
        issued: recovered,
        durable: recovered,
        process: recovered,
        keyspaces: 0,
        flushed: 0,
    };
    let latest = Marks { issued: states.len() - 1, ..only };
    before.index(states, &Marks { durable: recovered, ..latest }, Loss::Power, when);
    db.wait_until_settled().unwrap();
    assert_tidy(&db, fs, when);
    for (index, name) in db.keyspaces().into_iter().enumerate() {
        let keyspace = db.existing_keyspace(&name).unwrap().expect("it is in the list");
        let mut expected = State::new();
        expected.apply(
            &before.0[index]
                .1
                .iter()
                .map(|(key, value)| Write::put("default", key, value))
                .collect::<Vec<_>>(),
        );
        for key in ["k00", "k17", "new key"] {
            keyspace.put_with(key, "after the crash", Durability::Power).unwrap();
            expected.apply(&[Write::put("default", key.as_bytes(), b"after the crash")]);
        }
        if index % 2 == 0 || !keyspace.options().log {
            keyspace.flush().unwrap();
        }
        let crashed = fs.crash(CrashPolicy::AllLost, 0);
        let again = open(&env_of(&crashed), &options_over(&crashed)).unwrap();
        let again = again.existing_keyspace(&name).unwrap().expect("it was there before");
        assert_contents(&again, &expected.contents("default"), when);
    }
    db.close().unwrap();
    assert_exact(fs, DIR.as_ref(), when);
}

//! Lists of operations for crash and fault tests, and how they are executed.

use std::collections::BTreeSet;
use std::ops::Bound;

use esker::env::Env;
use esker::{
    Db, Durability, IngestOptions, Keyspace, KeyspaceOptions, Options, Order, Outcome, Result,
};

use crate::journal::{Journal, Marks};
use crate::outside;
use crate::random::Rng;
use crate::recovered::{Found, Loss, NOW_MILLIS, UNLOGGED, open};
use crate::state::{How, Turn, Write, merge_operator};
use crate::watchdog;

/// One call.
#[expect(clippy::large_enum_variant, reason = "a history has few steps")]
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(Vec<Write>, Durability),
    /// Tables from outside, ascending; moved or copied.
    Ingest(Vec<Write>, bool),
    BulkLoad(Vec<Write>),
    Sync,
    Flush(String),
    Compact(String),
    /// Begins one, for [`Step::Job`] to go on with.
    StartCompaction(String),
    Job,
    Create(String, KeyspaceOptions),
    Rename(String, String),
    Drop(String),
    Reopen {
        closes: bool,
    },
    /// Read everything.
    Read,
}

impl Step {
    /// The kinds of steps that are not among `steps`; reads come in between.
    pub(crate) fn kinds_missing(steps: &[Self]) -> Vec<&'static str> {
        type Is = fn(&Step) -> bool;
        let kinds: [(&str, Is); 13] = [
            ("write", |step| matches!(step, Self::Write(..))),
            ("ingest by copy", |step| matches!(step, Self::Ingest(_, false))),
            ("ingest by move", |step| matches!(step, Self::Ingest(_, true))),
            ("bulk load", |step| matches!(step, Self::BulkLoad(_))),
            ("sync", |step| matches!(step, Self::Sync)),
            ("flush", |step| matches!(step, Self::Flush(_))),
            ("compact", |step| matches!(step, Self::Compact(_))),
            ("start a compaction", |step| matches!(step, Self::StartCompaction(_))),
            ("job", |step| matches!(step, Self::Job)),
            ("create", |step| matches!(step, Self::Create(..))),
            ("drop", |step| matches!(step, Self::Drop(_))),
            ("close and reopen", |step| matches!(step, Self::Reopen { closes: true })),
            ("reopen", |step| matches!(step, Self::Reopen { closes: false })),
        ];
        let is_missing = |(name, is): (&'static str, Is)| (!steps.iter().any(is)).then_some(name);
        kinds.into_iter().filter_map(is_missing).collect()
    }

    /// The step in a few words: what it writes is too long.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Write(writes, durability) => {
                let keys = writes.iter().map(|write| {
                    if let Some(range) = &write.range {
                        return format!("-{}/{range:?}", write.keyspace);
                    }
                    let sign = match (write.how, &write.value) {
                        (How::Merge, _) => '*',
                        (How::Toggle | How::SingleDelete, _) => '~',
                        (How::Plain, Some(_)) => '+',
                        (How::Plain, None) => '-',
                    };
                    format!("{sign}{}/{}", write.keyspace, write.key.escape_ascii())
                });
                format!("Write {durability:?} {}", keys.collect::<Vec<_>>().join(" "))
            }
            Self::Ingest(writes, moves) => {
                let keys = writes.iter().map(|write| write.key.escape_ascii().to_string());
                let keys = keys.collect::<Vec<_>>().join(" ");
                format!("Ingest {} moved {moves}: {keys}", writes[0].keyspace)
            }
            Self::BulkLoad(writes) => {
                let keys = writes.iter().map(|write| write.key.escape_ascii().to_string());
                let keys = keys.collect::<Vec<_>>().join(" ");
                format!("BulkLoad {}: {keys}", writes[0].keyspace)
            }
            step => format!("{step:?}"),
        }
    }
}

/// What kind of operations a list has.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) step_count: usize,
    pub(crate) keyspaces: &'static [&'static str],
    pub(crate) memtable_bytes: &'static [u64],
    pub(crate) value_len_max: u64,
    pub(crate) durabilities: &'static [Durability],
    /// Of 100 steps, those that flush a keyspace, compact one, do a background job, create, rename
    /// or drop a keyspace, reopen, and sync; all others write.
    pub(crate) weights: [u64; 6],
}

/// Chooses the operations of `profile`.
pub(crate) fn script(profile: &Profile, seed: u64) -> Vec<Step> {
    let mut rng = Rng::new(seed);
    let mut names = vec!["default".to_owned()];
    let mut steps = Vec::new();
    for name in profile.keyspaces {
        names.push((*name).to_owned());
        steps.push(Step::Create((*name).to_owned(), keyspace_options(profile, name, &mut rng)));
    }
    let mut fresh = 0;
    while steps.len() < profile.step_count {
        let mut roll = rng.below(100);
        let mut is = |weight: u64| {
            let hit = roll < weight;
            roll = roll.saturating_sub(weight);
            hit
        };
        let [flush, compact, job, change, reopen, sync] = profile.weights;
        steps.push(if is(flush) {
            Step::Flush(rng.pick(&names).clone())
        } else if is(compact) {
            let name = rng.pick(&names).clone();
            if rng.one_in(2) { Step::Compact(name) } else { Step::StartCompaction(name) }
        } else if is(job) {
            Step::Job
        } else if is(change) {
            fresh += 1;
            change_keyspaces(&mut names, &format!("new{fresh}"), profile, &mut rng)
        } else if is(reopen) {
            Step::Reopen { closes: rng.one_in(2) }
        } else if is(sync) {
            Step::Sync
        } else if rng.one_in(8) {
            load(&names, profile, &mut rng)
        } else {
            Step::Write(writes(&names, profile, &mut rng), *rng.pick(profile.durabilities))
        });
    }
    steps
}

fn keyspace_options(profile: &Profile, name: &str, rng: &mut Rng) -> KeyspaceOptions {
    KeyspaceOptions {
        memtable_bytes: *rng.pick(profile.memtable_bytes),
        block_size_bytes: 512,
        blob_threshold_bytes: *rng.pick(&[None, Some(40), Some(200)]),
        blob_waste_percent_max: *rng.pick(&[5, 40]),
        immutable_memtables_max: 1 + rng.index(3),
        log: !name.starts_with(UNLOGGED),
        merge_operator: merge_operator(),
        order: if rng.one_in(4) { Order::reverse_bytewise() } else { Order::bytewise() },
        ..KeyspaceOptions::default()
    }
}

fn change_keyspaces(names: &mut Vec<String>, new: &str, profile: &Profile, rng: &mut Rng) -> Step {
    let index = rng.index(names.len());
    if index == 0 || names[index].starts_with(UNLOGGED) {
        names.push(new.to_owned());
        return Step::Create(new.to_owned(), keyspace_options(profile, new, rng));
    }
    if rng.one_in(2) {
        return Step::Drop(names.remove(index));
    }
    let old = std::mem::replace(&mut names[index], new.to_owned());
    Step::Rename(old, new.to_owned())
}

/// A batch over keyspaces that have a log, or over one that has none.
fn writes(names: &[String], profile: &Profile, rng: &mut Rng) -> Vec<Write> {
    let unlogged: Vec<_> = names.iter().filter(|name| name.starts_with(UNLOGGED)).collect();
    let logged: Vec<_> = names.iter().filter(|name| !name.starts_with(UNLOGGED)).collect();
    let targets = if !unlogged.is_empty() && rng.one_in(3) { unlogged } else { logged };
    let mut one = || {
        let (name, key) = (*rng.pick(&targets), format!("k{:02}", rng.below(40)));
        let len = rng.below(profile.value_len_max + 1) as usize;
        if rng.one_in(12) {
            let end = format!("k{:02}", rng.below(50)).into_bytes();
            let end = if rng.one_in(4) { Bound::Unbounded } else { Bound::Excluded(end) };
            return Write::delete_range(
                name,
                (Bound::Included(key.into_bytes()), end),
                Turn::Bytewise,
            );
        }
        match rng.below(10) {
            0 | 1 => Write::delete(name, key.as_bytes()),
            2 => Write::merge(name, key.as_bytes(), &rng.bytes(len.min(40))),
            3 => {
                let key = format!("toggled{}", rng.below(8));
                Write::toggle(name, key.as_bytes(), &rng.bytes(len))
            }
            4 => {
                let expiry = rng.expiry(NOW_MILLIS);
                Write::put_until(name, key.as_bytes(), &rng.bytes(len), expiry)
            }
            _ => Write::put(name, key.as_bytes(), &rng.bytes(len)),
        }
    };
    let first = one();
    let mut writes = vec![first];
    writes.extend((0..3).map(|_| one()));
    // Now and then none: what was written before is made as safe.
    let count = if rng.one_in(16) { 0 } else { 1 + rng.index(4) };
    writes.truncate(count);
    writes
}

/// A load of a keyspace that has a log.
fn load(names: &[String], profile: &Profile, rng: &mut Rng) -> Step {
    let logged: Vec<_> = names.iter().filter(|name| !name.starts_with(UNLOGGED)).collect();
    let name = *rng.pick(&logged);
    let value = |rng: &mut Rng| {
        let len = rng.below(profile.value_len_max + 1) as usize;
        rng.bytes(len)
    };
    if rng.one_in(2) {
        let one = |rng: &mut Rng| {
            let key = format!("k{:02}", rng.below(40));
            Write::put(name, key.as_bytes(), &value(rng))
        };
        return Step::BulkLoad((0..1 + rng.index(4)).map(|_| one(rng)).collect());
    }
    let numbers: BTreeSet<u64> = (0..1 + rng.index(5)).map(|_| rng.below(40)).collect();
    let writes = numbers.into_iter().map(|number| {
        let key = format!("k{number:02}");
        match rng.one_in(5) {
            true => Write::delete(name, key.as_bytes()),
            false => Write::put(name, key.as_bytes(), &value(rng)),
        }
    });
    let writes = writes.collect();
    Step::Ingest(writes, rng.one_in(2))
}

/// A database, and the journal of what is done to it.
pub(crate) struct Driver {
    pub(crate) env: Env,
    pub(crate) options: Options,
    pub(crate) journal: Journal,
    /// None if it could not be opened.
    pub(crate) db: Option<Db>,
    /// Whether the journal's last state is what the open database shows: not after a write whose
    /// outcome is unknown, until it was reopened and looked at.
    is_certain: bool,
    /// Whether calls of the file system may fail.
    pub(crate) has_faults: bool,
}

impl Driver {
    pub(crate) fn new(env: Env, options: Options) -> Self {
        Self {
            env,
            options,
            journal: Journal::new(),
            db: None,
            is_certain: true,
            has_faults: false,
        }
    }

    /// Opens the database. If it is not known what is in it, it is looked at: one of the states
    /// that the promises allow, and the one to go on from.
    pub(crate) fn open(&mut self) -> Result<()> {
        self.db = None;
        let db = open(&self.env, &self.options)?;
        if !self.is_certain {
            let states = self.journal.states();
            let marks = self.journal.marks();
            let found = Found::read(&db)?;
            let state = found.state(&states, &marks, Loss::Process, "reopened");
            // What is there now survives the process, as it did before.
            let issued = self.journal.issue(state);
            self.journal.promise(|marks| (marks.process, marks.keyspaces) = (issued, issued));
            self.is_certain = true;
        }
        self.db = Some(db);
        Ok(())
    }

    /// Checks that the open database shows the last state.
    fn read(&self, db: &Db) -> Result<()> {
        let found = Found::read(db)?;
        if self.is_certain {
            let states = [self.journal.last()];
            found.index(&states, &Marks::default(), Loss::Process, "while it is open");
        }
        Ok(())
    }

    /// Does one step; opens the database first, if an earlier attempt has failed.
    pub(crate) fn step(&mut self, step: &Step) -> Result<()> {
        watchdog::step();
        if self.db.is_none() {
            self.open()?;
        }
        let db = self.db.clone().expect("it was just opened");
        let journal = self.journal.clone();
        let issued = journal.marks().issued;
        match step {
            Step::Write(writes, durability) => self.write(&db, writes, *durability)?,
            Step::Ingest(writes, _) | Step::BulkLoad(writes) => self.load(&db, step, writes)?,
            Step::Sync => {
                db.sync()?;
                journal.promise(|marks| marks.durable = issued);
            }
            Step::Flush(name) => {
                if let Some(keyspace) = db.existing_keyspace(name)? {
                    keyspace.flush()?;
                    promise_flushed(&journal, name, issued);
                }
            }
            Step::Compact(name) => {
                if let Some(keyspace) = db.existing_keyspace(name)? {
                    keyspace.compact::<&[u8]>(..)?;
                    promise_flushed(&journal, name, issued);
                }
            }
            Step::StartCompaction(name) => {
                if let Some(keyspace) = db.existing_keyspace(name)? {
                    drop(keyspace.start_compaction::<&[u8]>(..)?);
                }
            }
            Step::Job => drop(db.run_background_job()),
            Step::Read => self.read(&db)?,
            Step::Create(..) | Step::Rename(..) | Step::Drop(_) => self.change(&db, step)?,
            Step::Reopen { closes } => {
                drop(db);
                self.reopen(*closes)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, db: &Db, writes: &[Write], durability: Durability) -> Result<()> {
        let journal = self.journal.clone();
        let mut state = journal.last();
        let known: Vec<Write> =
            writes.iter().filter(|write| state.has(&write.keyspace)).cloned().collect();
        // Which way round a range is, the keyspace says.
        let turned = |write: Write| match write.range {
            Some(range) => {
                let turn = state.turn_of(&write.keyspace);
                Write::delete_range(&write.keyspace, range, turn)
            }
            None => write,
        };
        let known: Vec<Write> = known.into_iter().map(turned).collect();
        let mut batch = db.batch();
        for write in &known {
            let keyspace = db.existing_keyspace(&write.keyspace)?.expect("the journal knows it");
            write.add_to(&mut batch, &keyspace, &state);
            state.apply(std::slice::from_ref(write));
        }
        let issued = journal.issue(state);
        match batch.commit_with(durability) {
            Err(error) => {
                match error.outcome() {
                    Outcome::NotDone => journal.take_back(),
                    Outcome::Unknown => self.is_certain = false,
                }
                return Err(error);
            }
            Ok(()) => {
                let is_unlogged = known.iter().any(|write| write.keyspace.starts_with(UNLOGGED));
                // It stays when it is flushed; what was logged before it is as safe as it asks for.
                let safe = if is_unlogged { issued - 1 } else { issued };
                journal.promise(|marks| match durability {
                    Durability::Buffered => {}
                    Durability::Process => marks.process = safe.max(marks.process),
                    Durability::Power => marks.durable = safe.max(marks.durable),
                });
            }
        }
        Ok(())
    }

    /// All of it or nothing; what it loads is durable at once, and so are all writes before.
    fn load(&mut self, db: &Db, step: &Step, writes: &[Write]) -> Result<()> {
        let journal = self.journal.clone();
        let mut state = journal.last();
        let Some(keyspace) = db.existing_keyspace(&writes[0].keyspace)? else { return Ok(()) };
        let paths = match step {
            Step::Ingest(..) => {
                let order = keyspace.options().order;
                outside::write_tables(&self.env, &order, writes, 1 + writes.len() % 2)?
            }
            _ => Vec::new(),
        };
        state.apply(writes);
        let issued = journal.issue(state);
        let result = match step {
            Step::Ingest(_, move_files) => {
                let options = IngestOptions { move_files: *move_files, verify_entries: false };
                db.ingest(&keyspace, &paths, options).map(drop)
            }
            _ => bulk_load(db, &keyspace, writes),
        };
        match result {
            Ok(()) => journal.promise(|marks| marks.durable = issued),
            Err(error) => {
                match error.outcome() {
                    Outcome::NotDone => journal.take_back(),
                    Outcome::Unknown => self.is_certain = false,
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn change(&mut self, db: &Db, step: &Step) -> Result<()> {
        let journal = self.journal.clone();
        let before = journal.last();
        let mut state = before.clone();
        let (result, issued) = match step {
            Step::Create(name, options) if !state.has(name) => {
                state.create(name);
                state.turn(name, Turn::of(&options.order));
                let issued = journal.issue(state);
                (db.keyspace(name, options.clone()).map(drop), issued)
            }
            Step::Rename(from, to) if state.has(from) && !state.has(to) => {
                let keyspace = db.existing_keyspace(from)?.expect("the journal knows it");
                state.rename(from, to);
                let issued = journal.issue(state);
                (db.rename_keyspace(&keyspace, to), issued)
            }
            Step::Drop(name) if state.has(name) => {
                let keyspace = db.existing_keyspace(name)?.expect("the journal knows it");
                state.remove(name);
                let issued = journal.issue(state);
                (db.drop_keyspace(&keyspace), issued)
            }
            _ => return Ok(()),
        };
        match result {
            Ok(()) => journal.promise(|marks| marks.keyspaces = issued),
            Err(error) => {
                match error.outcome() {
                    Outcome::NotDone => journal.take_back(),
                    // Not while the database is open, but perhaps after reopening.
                    Outcome::Unknown => drop(journal.issue(before)),
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn reopen(&mut self, closes: bool) -> Result<()> {
        let issued = self.journal.marks().issued;
        let Some(db) = self.db.take() else { return self.open() };
        if closes {
            // A failure leaves open what became of it; the next open looks.
            self.is_certain = false;
            db.close()?;
            self.is_certain = true;
            self.journal.promise(|marks| (marks.durable, marks.flushed) = (issued, issued));
        } else {
            // What was buffered is handed to the system, unless that fails, which a drop cannot say.
            self.is_certain &= !self.has_faults;
            drop(db);
        }
        self.open()
    }
}

fn promise_flushed(journal: &Journal, name: &str, issued: usize) {
    if name.starts_with(UNLOGGED) {
        journal.promise(|marks| marks.flushed = issued);
    }
}

fn bulk_load(db: &Db, keyspace: &Keyspace, writes: &[Write]) -> Result<()> {
    let mut loader = db.bulk_loader(keyspace)?;
    for write in writes {
        loader.put(&write.key, write.value.as_ref().expect("a bulk load puts"))?;
    }
    loader.finish().map(drop)
}

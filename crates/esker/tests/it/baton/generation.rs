//! One run of the clients on their databases, from opening them to their end, whatever that is.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esker::env::{CrashPolicy, Event, Fault, MemoryFileSystem, Operation, When};
use esker::{Db, ErrorKind, KeyspaceOptions, Options, Result};
use esker_base::baton::{self, Outcome};

use super::client::Client;
use super::clock::Shown;
use super::coverage;
use super::history::{History, Id, Promises};
use super::outliving::{Outliving, close_beside_a_fault};
use super::plan::{FailingOpens, KeyspaceChoices, Plan, UNLOGGED, not_at_hand, rule, slow_tables};
use super::reader::{Taken, read_all, seen_by};
use super::recovery::{crash_and_recover, recover};
use super::rest::{assert_log_goes, let_it_rest};
use super::script::{Act, Op};
use super::strangers::{Stranger, intrude};
use super::world::{self, Moment, START, World};
use crate::orders::Shortlex;
use crate::random::Rng;
use crate::recovered::{DIR, Loss};
use crate::referenced::log_dir_of;
use crate::referenced::{assert_exact, orphans_beside, unreferenced};

/// What a generation starts from.
pub(super) struct Start {
    fs: MemoryFileSystem,
    /// One of each part, see [`Plan::parts`].
    histories: Vec<History>,
    /// What the wall clock shows.
    wall: Duration,
    is_new: bool,
}

/// What a generation leaves.
pub(super) struct End {
    pub(super) outcome: Outcome,
    fs: MemoryFileSystem,
    histories: Vec<History>,
    moments: Vec<Moment>,
    /// What the clock shows.
    shown: Shown,
}

/// Tries to settle, a second of virtual time apart. Failed jobs are tried again after a minute at
/// most.
const SETTLE_COUNT_MAX: u32 = 300;

/// Looks at the files of a database that has settled.
const LOOK_COUNT: u32 = 3;

/// The number of a client that comes after all others, of the first database.
const LAST_WRITER: u32 = 10;

/// Where the database of that number lies.
pub(super) fn dir_of(home: usize) -> String {
    if home == 0 { DIR.to_owned() } else { format!("{DIR} {home}") }
}

impl Start {
    pub(super) fn new(fs: MemoryFileSystem, plan: &Plan) -> Self {
        let parts = plan.parts().into_iter();
        let histories = parts.map(|part| History::new(part, plan.state(part))).collect();
        Self { fs, histories, wall: START, is_new: true }
    }
}

/// Runs the clients.
pub(super) fn run(plan: &Plan, seed: u64, number: u32, start: Start, acts: Vec<Act>) -> End {
    let run_seed = seed.wrapping_mul(1000).wrapping_add(u64::from(number));
    let required = start.histories.iter().map(|history| history.promises.process.clone()).collect();
    let databases = (0..plan.database_count).map(|home| {
        let (options, keyspaces) = plan.choices(number, home).clone();
        let log_dir = plan.has_log_dir.then(|| log_dir_of(dir_of(home as usize)));
        coverage::add("logs apart", u64::from(log_dir.is_some()));
        let options = Options { log_dir, ..options };
        let changed = number > 0 && *plan.choices(number - 1, home) != *plan.choices(number, home);
        coverage::add("options changed", u64::from(changed));
        Database { options, keyspaces }
    });
    let databases: Vec<Database> = databases.collect();
    coverage::add("two databases", u64::from(databases.len() == 2));
    let failing_opens = plan.failing_opens(seed, number);
    let world = World::new(start.fs, start.histories, start.wall, run_seed);
    let has_faults = plan.has_faults || !failing_opens.rules.is_empty();
    world.is_sound.store(!has_faults && !plan.is_tight, Ordering::Relaxed);
    world.is_slow.store(plan.is_slow, Ordering::Relaxed);
    world.is_clock_wrong.store(plan.sets_clock_back(), Ordering::Relaxed);
    let world = Arc::new(world);
    let end = Arc::new(Mutex::new(Shown { wall: start.wall, latest: start.wall }));
    let life = Life {
        world: Arc::clone(&world),
        databases,
        required,
        waits_for_device: plan.waits_for_device,
        is_tight: plan.is_tight,
        is_slow: plan.is_slow,
        intrudes: !plan.closes(),
        has_faults,
        is_new: start.is_new,
        failing_opens,
        run_seed,
        clients: (0..plan.client_count)
            .map(|id| {
                let own = acts.iter().filter(|act| act.client == id);
                (id, number * 10_000, own.map(|act| act.op.clone()).collect())
            })
            .collect(),
    };
    // Tables with values that expire are looked at once an hour, which time may jump to.
    let time_max = Duration::from_secs(24 * 3600);
    let settings = baton::Settings::new(run_seed, Plan::policy(seed, number));
    let settings = baton::Settings { time_max, ..settings };
    let set_end = Arc::clone(&end);
    let outcome = world::run(settings, move || {
        let world = Arc::clone(&life.world);
        life.live();
        let shown = world.shown();
        *set_end.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    });
    let moments = world.take_moments();
    let (fs, histories) = (world.fs.clone(), world.histories());
    let shown = *end.lock().unwrap_or_else(PoisonError::into_inner);
    End { outcome, fs, histories, moments, shown }
}

/// How a database is opened.
struct Database {
    options: Options,
    keyspaces: KeyspaceChoices,
}

/// What the first thread of a run needs.
struct Life {
    world: Arc<World>,
    databases: Vec<Database>,
    /// Which events must be in it, of each part.
    required: Vec<BTreeSet<Id>>,
    waits_for_device: bool,
    is_tight: bool,
    is_slow: bool,
    /// Whether nobody closes the database beside the others.
    intrudes: bool,
    has_faults: bool,
    is_new: bool,
    failing_opens: FailingOpens,
    run_seed: u64,
    /// Each with the number of its first event.
    clients: Vec<(u32, u32, Vec<Op>)>,
}

impl Life {
    fn live(self) {
        if !self.is_new {
            self.world.observe(self.run_seed);
        }
        let dbs: Option<Vec<Db>> = (0..self.databases.len()).map(|home| self.open(home)).collect();
        let Some(dbs) = dbs else {
            return coverage::add("generations in which it did not open", 1);
        };
        if self.is_new {
            self.world.observe(self.run_seed);
        }
        if self.waits_for_device {
            let when = When::OneIn { count: 2, seed: self.run_seed };
            self.world.faults.add(not_at_hand().when(when));
        }
        if self.is_tight {
            self.world.faults.add(slow_tables());
        }
        for (home, db) in dbs.iter().enumerate().filter(|_| self.intrudes) {
            let who = Stranger::ALL[(self.run_seed % 5) as usize];
            intrude(&self.world, home, db, who, self.has_faults);
        }
        let threads: Vec<baton::Thread> = self
            .clients
            .iter()
            .map(|(id, number, ops)| {
                let home = *id as usize % dbs.len();
                let (world, db) = (Arc::clone(&self.world), dbs[home].clone());
                let mut client = Client::new(*id, home, *number, self.has_faults, world, db);
                let ops = ops.clone();
                baton::spawn(&format!("client {id}"), Box::new(move || client.run(ops)))
            })
            .collect();
        threads.into_iter().for_each(baton::Thread::join);
        self.world.faults.clear();
        for (home, db) in dbs.into_iter().enumerate() {
            self.end(home, db);
        }
    }

    /// Opens a database, at first perhaps beside faults; if it is not a new one, learns what is left
    /// of it. None if it is given up.
    fn open(&self, home: usize) -> Option<Db> {
        let mut opened = None;
        for (kind, seed) in &self.failing_opens.rules {
            self.world.faults.add(rule(*kind, *seed));
            let result = self.try_open(home);
            self.world.faults.clear();
            match result {
                Ok(db) => {
                    opened = Some(db);
                    break;
                }
                Err(error) => {
                    // Poisoned, if the log has failed before a keyspace was given other options.
                    let is_expected = matches!(
                        error.kind(),
                        ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned
                    );
                    assert!(is_expected, "an open that meets faults: {error:?}");
                    coverage::add("openings that failed", 1);
                    self.world.env.clock.sleep(Duration::from_millis(seed % 2000));
                }
            }
        }
        if opened.is_none() && self.failing_opens.gives_up && !self.is_new {
            return None;
        }
        let db = opened.unwrap_or_else(|| self.try_open(home).unwrap());
        if !self.is_new {
            for part in self.world.parts(home) {
                let required = &self.required[part];
                let taken = Taken::new(&self.world, &db);
                let seen = seen_by(&taken.snapshot, &db, self.world.part(part)).unwrap();
                let found = taken.contents(&db, self.world.part(part).names).unwrap();
                let mut history = self.world.history(part);
                let count = history.at(&seen, required, "recovered");
                history.cut(count);
                history.find(count, &found, taken.millis);
                drop(history);
                read_all(&self.world, part, &db, required, "recovered").unwrap();
            }
        }
        Some(db)
    }

    fn try_open(&self, home: usize) -> Result<Db> {
        let Database { options, keyspaces, .. } = &self.databases[home];
        let builder = Db::builder(dir_of(home)).env(self.world.env.clone());
        let mut builder = builder.options(options.clone());
        if self.run_seed.is_multiple_of(2) {
            // Else it is known only when the options of its keyspace are.
            builder = builder.key_order(Shortlex { name: "shortlex" });
        }
        let db = builder.default_keyspace(keyspaces[0].1.clone()).open()?;
        for (name, options) in &keyspaces[1..] {
            db.keyspace(name, options.clone())?;
        }
        Ok(db)
    }

    /// The faults are over: all work ends, and everything can be read.
    fn end(&self, home: usize, db: Db) {
        if self.world.is_closing(home) {
            // By who closed it.
            return self.promise_all_if_closed(home, db);
        }
        let parts = self.world.parts(home);
        for part in &parts {
            let acknowledged = self.world.history(*part).acknowledged();
            read_all(&self.world, *part, &db, &acknowledged, "at the end").unwrap();
        }
        let is_poisoned = || db.health().poisoned.is_some();
        if !is_poisoned() {
            self.settle(home, &db);
        }
        count_work(&db);
        // Perhaps only now: by a sync that had failed, and that nobody had asked about.
        if is_poisoned() || self.has_faults && db.sync().is_err() {
            assert!(self.has_faults, "{}", db.health());
            coverage::add("poisoned", 1);
            return drop(db);
        }
        match self.run_seed % 3 {
            0 => {
                let writer = &mut self.last_writer(home, &db);
                let_it_rest(&self.world, home, writer, if self.is_slow { 10 } else { 1 });
                self.assert_no_spare(home, &db);
            }
            1 => assert_log_goes(&db),
            _ => {}
        }
        if is_poisoned() {
            panic!("no fault is left: {}", db.health());
        }
        if self.run_seed.is_multiple_of(2) {
            coverage::add("closed", 1);
            if let Some(unlogged) = db.existing_keyspace(UNLOGGED).unwrap() {
                // From now on; and nothing is written any more.
                db.keyspace(UNLOGGED, KeyspaceOptions { log: true, ..unlogged.options() }).unwrap();
            }
            self.close(home, db);
            if !self.has_faults {
                assert_exact(&self.world.fs, dir_of(home).as_ref(), "closed");
            }
            self.promise_all(home);
        } else {
            coverage::add("dropped", 1);
            drop(db);
            // What has no log is gone, but for what was flushed.
            let mut history = self.world.history(home);
            let acknowledged = history.acknowledged();
            history.promises.process.extend(&acknowledged);
        }
    }

    /// Closes a database that has settled, while somebody holds what it had, or beside a fault.
    fn close(&self, home: usize, db: Db) {
        let open = || {
            // Who opens it in the same run is compared by what it has shown.
            self.world.clock.go_right();
            self.try_open(home).unwrap()
        };
        self.world.crash_soon(2);
        match self.run_seed / 2 % 4 {
            0 => {
                let outliving = Outliving::new(&db);
                db.close().unwrap();
                outliving.check(&self.world, home, open);
            }
            1 => {
                db.flush().unwrap();
                close_beside_a_fault(&self.world, db, 1 + self.run_seed / 8 % 3, open);
            }
            _ => db.close().unwrap(),
        }
    }

    /// Who writes when all clients have ended.
    fn last_writer(&self, home: usize, db: &Db) -> Client {
        let (world, number) = (Arc::clone(&self.world), (self.run_seed % 1000) as u32 * 10_000);
        Client::new(LAST_WRITER + home as u32, home, number, self.has_faults, world, db.clone())
    }

    /// The database was closed: what was acknowledged is there.
    fn promise_all(&self, home: usize) {
        for part in self.world.parts(home) {
            let mut history = self.world.history(part);
            let acknowledged = history.acknowledged();
            history.promise(&acknowledged);
        }
    }

    fn settle(&self, home: usize, db: &Db) {
        let mut left: Option<Vec<String>> = None;
        // What time makes due may have begun again since; a file of that is not there for ever.
        for _ in 0..LOOK_COUNT {
            self.wait(db);
            if db.health().poisoned.is_some() {
                return;
            }
            let injected = self.world.faults.injected();
            let is_left =
                |name: &str| injected.iter().any(|event| may_leave(event, name, &dir_of(home)));
            let now = orphans_beside(db, &self.world.fs, "settled", is_left);
            let stays = |name: &String| left.as_ref().is_none_or(|before| before.contains(name));
            left = Some(now.into_iter().filter(stays).collect());
            if left.as_ref().is_some_and(Vec::is_empty) {
                return;
            }
        }
        self.excuse_files(home, left.expect("it was looked at"), "settled");
    }

    /// A database at rest keeps no segment of the log for later.
    fn assert_no_spare(&self, home: usize, db: &Db) {
        let mut names = unreferenced(db, &self.world.fs);
        // Some work may have begun again.
        names.retain(|name| name.ends_with(".log"));
        self.excuse_files(home, names, "at rest");
    }

    /// # Panics
    /// If no fault has left one of those files, to which nothing refers.
    fn excuse_files(&self, home: usize, names: Vec<String>, when: &str) {
        let injected = self.world.faults.injected();
        for name in names {
            coverage::add("files that a fault left", 1);
            assert!(
                injected.iter().any(|event| may_leave(event, &name, &dir_of(home))),
                "{when}: nothing refers to {name}, and no fault has left it there: {injected:?}"
            );
        }
    }

    /// Until all work has ended, or can no longer.
    fn wait(&self, db: &Db) {
        let mut tries = 0;
        while let Err(error) = db.wait_until_settled() {
            if db.health().poisoned.is_some() {
                return;
            }
            tries += 1;
            assert!(self.has_faults && tries < SETTLE_COUNT_MAX, "it does not settle: {error:?}");
            self.world.env.clock.sleep(Duration::from_secs(1));
        }
        let health = db.health();
        assert!(health.failing_jobs.is_empty(), "{health}");
    }

    /// Closed while others worked: what was acknowledged is there, unless the close has failed.
    fn promise_all_if_closed(&self, home: usize, db: Db) {
        drop(db);
        if !self.has_faults {
            self.promise_all(home);
        }
    }
}

/// Whether the file `name` of the directory `dir` may be there because of a fault: it could not be
/// removed, or it is a log that the manifest could not name. Tables of an edit that failed go once the
/// manifest can be written, and so do their blob files.
fn may_leave(event: &Event, name: &str, dir: &str) -> bool {
    let of_event = event.path.file_name().unwrap_or_default().to_string_lossy();
    let is_removal = of_event == name && event.operation == Operation::Remove;
    let is_inside = event.path.starts_with(dir) || event.path.starts_with(log_dir_of(dir));
    let is_of_tree = name.ends_with(".table") || name.ends_with(".blob");
    // Whoever made it is gone, and has told nobody.
    let is_panic = event.fault == Some(Fault::Panic);
    is_inside && (is_removal || is_panic || (of_event.contains(".manifest") && !is_of_tree))
}

fn count_work(db: &Db) {
    for (name, count) in db.stats().counters.named() {
        coverage::add(name, count);
    }
}

impl End {
    /// Crashes in front of changes that were copied, each followed by a recovery.
    pub(super) fn crash_at_moments(&self, plan: &Plan, rng: &mut Rng) {
        for moment in &self.moments {
            let histories = &self.histories;
            let mut wall = || plan.wall_after(moment.shown.wall, Duration::ZERO, rng);
            let walls = [wall(), wall()];
            // What the power leaves is most of what a process does.
            if rng.one_in(2) {
                let how = (CrashPolicy::AllKept, rng.next());
                crash_and_recover(moment, histories, Loss::Process, how, walls[0]);
            }
            let policy =
                if moment.is_bare { CrashPolicy::AllLost } else { *rng.pick(&CrashPolicy::ALL) };
            crash_and_recover(moment, histories, Loss::Power, (policy, rng.next()), walls[1]);
        }
    }

    /// What the next generation starts from: the end, or a crash.
    pub(super) fn next(mut self, plan: &Plan, rng: &mut Rng) -> Start {
        let outage = Duration::from_millis(rng.below(30_000));
        if self.moments.is_empty() || rng.one_in(3) {
            let (fs, mut histories) = (self.fs, self.histories);
            histories.iter_mut().for_each(|history| history.end_at(self.shown));
            let wall = plan.wall_after(self.shown.wall, outage, rng);
            return Start { fs, histories, wall, is_new: false };
        }
        coverage::add("power lost", 1);
        let moment = self.moments.swap_remove(rng.index(self.moments.len()));
        let (policy, seed) = (*rng.pick(&CrashPolicy::ALL), rng.next());
        let fs = moment.fs.crash(policy, seed);
        for (history, promises) in self.histories.iter_mut().zip(moment.promises) {
            history.go_back(&promises);
            history.end_at(moment.shown);
            let power = promises.power;
            history.promises = Promises { process: power.clone(), power, ..Promises::default() };
        }
        let wall = plan.wall_after(moment.shown.wall, outage, rng);
        Start { fs, histories: self.histories, wall, is_new: false }
    }
}

impl Start {
    /// Opens for the last time: all that was promised is there, and nothing that nothing refers to.
    pub(super) fn finish(self) {
        let required = self.histories.iter().map(|history| &history.promises.process);
        let what = (true, "for the last time");
        recover((&self.fs, self.wall), &self.histories, required, what);
    }
}

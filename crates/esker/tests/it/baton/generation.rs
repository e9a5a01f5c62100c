//! One run of the clients on one database, from its opening to its end, whatever that is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use esker::env::{CrashPolicy, MemoryFileSystem};
use esker::{Db, KeyspaceOptions};
use esker_base::baton::{self, Outcome};

use super::client::{Client, read_all};
use super::history::{History, Id, Promises};
use super::recovery::crash_and_recover;
use super::script::{Act, Op, Plan};
use super::world::{self, Moment, World};
use crate::directory::{assert_exact, assert_tidy};
use crate::random::Rng;
use crate::recovered::{DIR, Loss};

/// What a generation starts from.
pub(super) struct Start {
    fs: MemoryFileSystem,
    history: History,
    is_new: bool,
}

/// What a generation leaves.
pub(super) struct End {
    pub(super) outcome: Outcome,
    fs: MemoryFileSystem,
    history: History,
    moments: Vec<Moment>,
}

/// Tries to settle, a second of virtual time apart. Failed jobs are tried again after a minute at
/// most.
const SETTLE_COUNT_MAX: u32 = 300;

impl Start {
    pub(super) fn new(fs: MemoryFileSystem, plan: &Plan) -> Self {
        let history = History::new(plan.state());
        Self { fs, history, is_new: true }
    }
}

/// Runs the clients.
pub(super) fn run(plan: &Plan, seed: u64, number: u32, start: Start, acts: Vec<Act>) -> End {
    let run_seed = seed.wrapping_mul(1000).wrapping_add(u64::from(number));
    let required = start.history.promises.process.clone();
    let world = Arc::new(World::new(start.fs, start.history, run_seed));
    let life = Life {
        world: Arc::clone(&world),
        options: plan.options.clone(),
        keyspaces: plan.keyspaces.clone(),
        has_faults: plan.has_faults,
        is_new: start.is_new,
        required,
        run_seed,
        clients: (0..plan.client_count)
            .map(|id| {
                let own = acts.iter().filter(|act| act.client == id);
                (id, number * 10_000, own.map(|act| act.op.clone()).collect())
            })
            .collect(),
    };
    let settings = baton::Settings::new(run_seed, Plan::policy(seed, number));
    let outcome = world::run(settings, move || life.live());
    let moments = world.take_moments();
    let history = world.history().clone();
    End { outcome, fs: world.fs.clone(), history, moments }
}

/// What the first thread of a run needs.
struct Life {
    world: Arc<World>,
    options: esker::Options,
    keyspaces: Vec<(&'static str, KeyspaceOptions)>,
    has_faults: bool,
    is_new: bool,
    /// Batches that must be there.
    required: BTreeSet<Id>,
    run_seed: u64,
    /// Each with the number of its first batch.
    clients: Vec<(u32, u32, Vec<Op>)>,
}

impl Life {
    fn live(self) {
        if !self.is_new {
            self.world.observe(self.run_seed);
        }
        let db = self.open();
        if self.is_new {
            self.world.observe(self.run_seed);
        } else {
            let count = self.first_look(&db);
            self.world.history().cut(count);
            read_all(&self.world, &db, &self.required, "recovered").unwrap();
        }
        let threads: Vec<baton::Thread> = self
            .clients
            .iter()
            .map(|(id, number, ops)| {
                let (world, db) = (Arc::clone(&self.world), db.clone());
                let mut client = Client::new(*id, *number, self.has_faults, world, db);
                let ops = ops.clone();
                baton::spawn(&format!("client {id}"), Box::new(move || client.run(ops)))
            })
            .collect();
        threads.into_iter().for_each(baton::Thread::join);
        self.world.faults.clear();
        self.end(db);
    }

    fn open(&self) -> Db {
        let builder = Db::builder(DIR).env(self.world.env.clone()).options(self.options.clone());
        let db = builder.default_keyspace(self.keyspaces[0].1.clone()).open().unwrap();
        for (name, options) in &self.keyspaces[1..] {
            db.keyspace(name, options.clone()).unwrap();
        }
        db
    }

    /// How many batches there are after a recovery.
    fn first_look(&self, db: &Db) -> usize {
        let order = db.existing_keyspace(super::script::ORDER).unwrap().expect("it was created");
        let order = order.get(super::history::ORDER_KEY).unwrap();
        self.world.history().at(order.as_deref(), &self.required, "recovered")
    }

    /// The faults are over: all work ends, and everything can be read.
    fn end(&self, db: Db) {
        if self.world.is_closing() {
            // By who closed it.
            return self.promise_all_if_closed(db);
        }
        let acknowledged = self.world.history().acknowledged();
        read_all(&self.world, &db, &acknowledged, "at the end").unwrap();
        if db.health().poisoned.is_none() {
            self.settle(&db);
            let mut history = if self.run_seed.is_multiple_of(2) {
                db.close().unwrap();
                if !self.has_faults {
                    assert_exact(&self.world.fs, DIR.as_ref(), "closed");
                }
                let mut history = self.world.history();
                history.promises.power.extend(&acknowledged);
                history
            } else {
                drop(db);
                self.world.history()
            };
            history.promises.process.extend(&acknowledged);
        } else {
            assert!(self.has_faults, "{}", db.health());
            drop(db);
        }
    }

    fn settle(&self, db: &Db) {
        let mut tries = 0;
        while let Err(error) = db.wait_until_settled() {
            tries += 1;
            assert!(self.has_faults && tries < SETTLE_COUNT_MAX, "it does not settle: {error:?}");
            self.world.env.clock.sleep(Duration::from_secs(1));
        }
        let health = db.health();
        assert!(health.failing_jobs.is_empty(), "{health}");
        // Files of an edit that could not be written stay until the next open.
        if !self.has_faults {
            assert_tidy(db, &self.world.fs, "settled");
        }
    }

    /// Closed while others worked: what was acknowledged is there, unless the close has failed.
    fn promise_all_if_closed(&self, db: Db) {
        drop(db);
        if !self.has_faults {
            let acknowledged = self.world.history().acknowledged();
            self.world.history().promise(&acknowledged);
        }
    }
}

impl End {
    /// Crashes in front of changes that were copied, each followed by a recovery.
    pub(super) fn crash_at_moments(&self, rng: &mut Rng) {
        for moment in &self.moments {
            let mut history = self.history.clone();
            crash_and_recover(moment, &mut history, Loss::Process, CrashPolicy::AllKept, 0);
            let (policy, seed) = (*rng.pick(&CrashPolicy::ALL), rng.next());
            let mut history = self.history.clone();
            crash_and_recover(moment, &mut history, Loss::Power, policy, seed);
        }
    }

    /// What the next generation starts from: the end, or a crash.
    pub(super) fn next(mut self, rng: &mut Rng) -> Start {
        if self.moments.is_empty() || rng.one_in(3) {
            return Start { fs: self.fs, history: self.history, is_new: false };
        }
        let moment = self.moments.swap_remove(rng.index(self.moments.len()));
        let (policy, seed) = (*rng.pick(&CrashPolicy::ALL), rng.next());
        let fs = moment.fs.crash(policy, seed);
        let power = moment.promises.power;
        self.history.promises = Promises { process: power.clone(), power };
        Start { fs, history: self.history, is_new: false }
    }
}

//! Every call of the file system fails, once or from then on, in the middle of all kinds of work.
//!
//! Each call of the database then returns, with a correct answer or an error that names its cause;
//! a refused write is not there, an acknowledged one is; and if the error came before anything was
//! written to the log, the database continues by itself once the cause is gone.

mod silent;

use std::sync::Arc;
use std::time::Duration;

use esker::Durability::{self, Buffered, Power, Process};
use esker::env::{
    CrashPolicy, Env, Fault, FaultFileSystem, FileSystem as _, ManualClock, MemoryFileSystem,
    Operation, Rule, When,
};
use esker::{Error, ErrorKind};

use crate::random::{Rng, for_each_seed};
use crate::recovered::{DIR, Found, Loss, options_over, recover};
use crate::referenced::log_dir_of;
use crate::shrink::{is_shrinking, run_shrinking};
use crate::state::Write;
use crate::tally::Tally;
use crate::workload::{Driver, Profile, Step, script};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

const WORK: Profile = Profile {
    name: "faults",
    step_count: 36,
    keyspaces: &["a", "b"],
    memtable_bytes: &[1, 40_000, 64 << 20],
    value_len_max: 9_000,
    durabilities: &[Buffered, Process, Power],
    weights: [10, 6, 18, 10, 6, 5],
};

/// Which faults, and on which kinds of calls.
#[derive(Clone, Debug)]
struct Kind {
    fault: Fault,
    is_for_ever: bool,
    operations: &'static [Operation],
}

const KINDS: [Kind; 8] = [
    Kind { fault: Fault::Error(EIO), is_for_ever: false, operations: &[] },
    Kind { fault: Fault::Error(EIO), is_for_ever: true, operations: &[] },
    Kind { fault: Fault::Error(ENOSPC), is_for_ever: false, operations: NEEDS_SPACE },
    Kind { fault: Fault::Error(ENOSPC), is_for_ever: true, operations: NEEDS_SPACE },
    Kind { fault: Fault::TornWrite(ENOSPC), is_for_ever: true, operations: &[Operation::Write] },
    Kind { fault: Fault::Error(EMFILE), is_for_ever: false, operations: NEEDS_DESCRIPTOR },
    Kind { fault: Fault::Error(EMFILE), is_for_ever: true, operations: NEEDS_DESCRIPTOR },
    Kind { fault: Fault::Short, is_for_ever: true, operations: &[] },
];

const NEEDS_SPACE: &[Operation] =
    &[Operation::Create, Operation::Write, Operation::Allocate, Operation::Sync];

const NEEDS_DESCRIPTOR: &[Operation] = &[
    Operation::Create,
    Operation::Open,
    Operation::OpenForWrite,
    Operation::List,
    Operation::SyncDir,
    Operation::Lock,
];

/// The operations of `seed`, with a look at everything in between.
fn work(seed: u64) -> Vec<Step> {
    let steps = script(&WORK, seed);
    let reads = |(index, step)| if index % 9 == 8 { vec![step, Step::Read] } else { vec![step] };
    steps.into_iter().enumerate().flat_map(reads).collect()
}

/// One run with one fault.
struct Run {
    fs: MemoryFileSystem,
    clock: Arc<ManualClock>,
    faults: FaultFileSystem,
    driver: Driver,
    when: String,
    /// What was done so far, for the message of a failure.
    trace: Vec<String>,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() && !is_shrinking() {
            eprintln!("{}", self.trace.join("\n"));
        }
    }
}

impl Run {
    fn new(seed: u64, when: String) -> Self {
        let fs = MemoryFileSystem::new(seed);
        if seed.is_multiple_of(2) {
            fs.create_dir_all(&log_dir_of(DIR)).unwrap();
        }
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1)));
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), clock.clone());
        let below = fs.clone();
        faults.observe(move |event| {
            // As Linux does: what was written still reads so, and no later sync stores it.
            if event.operation == Operation::Sync && event.fault.is_some() {
                below.forget_unsynced(&event.path);
            }
        });
        let env = Env { fs: Arc::new(faults.clone()), clock: clock.clone(), ..Env::memory(seed) };
        let driver = Driver::new(env, options_over(&fs));
        Self { fs, clock, faults, driver, when, trace: Vec::new() }
    }

    /// Does the work, and returns how many calls of the file system it took.
    fn work(&mut self, steps: &[Step], rule: Option<Rule>) -> u64 {
        self.driver.has_faults = rule.is_some();
        rule.into_iter().for_each(|rule| self.faults.add(rule));
        for step in steps {
            let result = self.driver.step(step);
            self.trace.push(format!(
                "{} {result:?} {:?}",
                step.name(),
                self.driver.journal.marks()
            ));
            if let Err(error) = result {
                self.check_error(step, &error);
            }
            // Failed jobs are tried again after a while.
            self.clock.advance(Duration::from_millis(150));
        }
        self.faults.calls()
    }

    /// An error says what was injected, or that it stopped the writing earlier.
    fn check_error(&self, step: &Step, error: &Error) {
        let injected = self.faults.injected();
        assert!(!injected.is_empty(), "{}: {} failed: {error:?}", self.when, step.name());
        let is_no_space = |fault: &Option<Fault>| {
            matches!(fault, Some(Fault::Error(ENOSPC) | Fault::TornWrite(ENOSPC)))
        };
        let expected = if injected.iter().all(|event| is_no_space(&event.fault)) {
            ErrorKind::NoSpace
        } else {
            ErrorKind::Io
        };
        let is_fitting = error.kind() == expected || error.kind() == ErrorKind::Poisoned;
        assert!(is_fitting, "{}: {} gave {error:?}", self.when, step.name());
        assert!(
            !error.to_string().contains("panicked"),
            "{}: {}: {error:?}",
            self.when,
            step.name()
        );
    }

    /// Nothing fails any more: the database goes on, unless the log itself failed.
    fn recover(mut self) {
        self.faults.clear();
        self.clock.advance(Duration::from_secs(120));
        if let Some(db) = self.driver.db.clone() {
            match db.health().poisoned {
                None => self.goes_on(),
                Some(cause) => self.check_poison(&cause),
            }
        }
        let states = self.driver.journal.states();
        let marks = self.driver.journal.marks();
        let mut rng = Rng::new(self.faults.calls());
        for policy in CrashPolicy::ALL {
            let crashed = self.fs.crash(policy, rng.next());
            let when = format!("{}, power lost, {policy:?}", self.when);
            recover(&crashed, &states, &marks, Loss::Power, &when);
        }
        self.driver.db = None;
        recover(&self.fs.snapshot(), &states, &marks, Loss::Process, &self.when);
    }

    fn goes_on(&mut self) {
        let write = vec![Write::put("default", b"k99", b"after the fault")];
        for step in [
            Step::Write(write, Durability::Power),
            Step::Read,
            Step::Flush("default".into()),
            Step::Compact("default".into()),
        ] {
            let result = self.driver.step(&step);
            result.unwrap_or_else(|error| {
                panic!("{}: it does not go on: {step:?}: {error:?}", self.when)
            });
        }
        let db = self.driver.db.clone().expect("it was used just now");
        db.wait_until_settled().unwrap_or_else(|error| panic!("{}: {error:?}", self.when));
        assert!(db.health().is_good(), "{}: {}", self.when, db.health());
        self.driver.step(&Step::Read).unwrap();
    }

    /// Writing stops only if it is not known what is in the log.
    fn check_poison(&self, cause: &Error) {
        let injected = self.faults.injected();
        let is_log = |path: &std::path::Path| path.extension().is_some_and(|e| e == "log");
        let is_cause = injected.iter().any(|event| {
            let is_lost = matches!(event.operation, Operation::Write | Operation::Sync);
            is_lost && is_log(&event.path)
        });
        // Or whether a keyspace is dropped: that stands in the manifest, of which the first edit
        // after an open starts another.
        let cause_text = cause.to_string();
        let is_drop =
            ["manifest", "cannot sync directory"].iter().any(|it| cause_text.contains(it));
        assert!(is_cause || is_drop, "{}: writing stopped for {cause:?}", self.when);
    }
}

/// Runs of a whole workload with a fault at another call.
static FAULTS: Tally = Tally::new("runs with a fault at another call");

fn fail_everywhere(seed: u64, kinds: &[Kind]) {
    run_shrinking(&work(seed), Step::name, |steps| fail_in(steps, seed, kinds));
}

fn fail_in(steps: &[Step], seed: u64, kinds: &[Kind]) {
    let mut smooth = Run::new(seed, format!("seed {seed}, no fault"));
    let calls = smooth.work(steps, None);
    smooth.recover();
    for kind in kinds {
        for call in 1..=calls {
            let when = format!("seed {seed}, {kind:?} at {call}");
            let mut run = Run::new(seed, when);
            let at = if kind.is_for_ever { When::From(call) } else { When::Nth(call) };
            let rule = Rule::new(kind.fault.clone()).on(kind.operations).when(at);
            run.work(steps, Some(rule));
            let has_fired = !run.faults.injected().is_empty();
            run.recover();
            FAULTS.add(u64::from(has_fired));
            if !has_fired {
                break;
            }
        }
    }
}

#[test]
fn an_error_at_every_call() {
    for_each_seed("an_error_at_every_call", 2, |seed| fail_everywhere(seed, &KINDS[..2]));
    FAULTS.print();
}

#[test]
fn no_space_at_every_call_that_needs_some() {
    for_each_seed("no_space_at_every_call_that_needs_some", 2, |seed| {
        fail_everywhere(seed, &KINDS[2..5]);
    });
    FAULTS.print();
}

#[test]
fn no_descriptor_at_every_call_that_needs_one() {
    for_each_seed("no_descriptor_at_every_call_that_needs_one", 2, |seed| {
        fail_everywhere(seed, &KINDS[5..7]);
    });
    FAULTS.print();
}

/// What the faults stand for is said of every kind of operation.
#[test]
fn the_work_has_every_kind_of_step() {
    let steps = [1, 2, 3].map(work).concat();
    assert_eq!(Step::kinds_missing(&steps), [""; 0]);
}

#[test]
fn short_reads_and_writes_are_completed() {
    for_each_seed("short_reads_and_writes_are_completed", 1, |seed| {
        let steps = work(seed);
        let calls = Run::new(seed, String::new()).work(&steps, None);
        // Twenty seeds that follow each other begin with each of the first twenty.
        for call in (1 + seed % 20..=calls).step_by(20) {
            let mut run = Run::new(seed, format!("seed {seed}, short from {call}"));
            let rule = Rule::new(KINDS[7].fault.clone()).when(When::From(call));
            run.work(&steps, Some(rule));
            let db = run.driver.db.clone().expect("short calls are no errors");
            assert!(db.health().is_good());
            let found = Found::read(&db).unwrap();
            drop(found);
            run.recover();
        }
    });
}

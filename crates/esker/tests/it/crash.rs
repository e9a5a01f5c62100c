//! Crashes before every change of the file system, in memory: whatever is lost, recovery finds a
//! prefix of the commits with everything that was promised.
//!
//! A list of operations runs once; before each change, the file system is copied along with the
//! promises made so far. Each copy then crashes in every way, is opened, and is compared with the
//! states that the promises allow. With even seeds, the log is in a separate directory.
//! `ESKER_SEED` and `ESKER_BUDGET` as in `model`.

mod failing;
mod nested;
pub(crate) mod profiles;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use esker::doctor::{Doctor, VerifyReport};
use esker::env::{CrashPolicy, FaultFileSystem, FileSystem, ManualClock, MemoryFileSystem};
use esker::{Durability, Error, ErrorKind, KeyspaceOptions};

use crate::journal::Marks;
use crate::random::{Rng, for_each_seed};
use crate::recovered::{DIR, Loss, env_of, env_over, go_on, open, options_over, recover};
use crate::referenced::assert_exact;
use crate::referenced::log_dir_of;
use crate::shrink::run_shrinking;
use crate::state::State;
use crate::tally::Tally;
use crate::workload::{Driver, Profile, Step, script};

/// A moment at which the power may go.
struct Moment {
    fs: MemoryFileSystem,
    marks: Marks,
    /// What was about to happen.
    next: String,
}

/// What a list of operations went through.
struct History {
    states: Vec<State>,
    moments: Vec<Moment>,
}

/// Lets `observe` see every change before it happens to the files of the result.
fn observed(
    fs: &MemoryFileSystem,
    observe: impl Fn(String) + Send + Sync + 'static,
) -> FaultFileSystem {
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Arc::new(ManualClock::default()));
    faults.observe(move |event| {
        if event.operation.is_change() {
            observe(format!("{:?} of {}", event.operation, event.path.display()));
        }
    });
    faults
}

fn record(steps: &[Step], seed: u64) -> History {
    let fs = MemoryFileSystem::new(seed);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    if seed.is_multiple_of(2) {
        fs.create_dir_all(&log_dir_of(DIR)).unwrap();
    }
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (list, below) = (Arc::clone(&moments), fs.clone());
    let mut driver = Driver::new(env_over(Arc::new(fs.clone())), options_over(&fs));
    let journal = driver.journal.clone();
    let add = move |next: String| {
        let moment = Moment { fs: below.snapshot(), marks: journal.marks(), next };
        list.lock().unwrap_or_else(PoisonError::into_inner).push(moment);
    };
    driver.env.fs = Arc::new(observed(&fs, add.clone()));
    driver.open().unwrap();
    for step in steps {
        driver.step(step).unwrap_or_else(|error| panic!("{step:?}: {error:?}"));
    }
    add("the end".to_owned());
    driver.env.fs = Arc::new(fs);
    let states = driver.journal.states();
    drop(driver);
    let moments = std::mem::take(&mut *moments.lock().unwrap_or_else(PoisonError::into_inner));
    History { states, moments }
}

/// Crashes of each moment: how many of each policy that chooses by its seed.
const SEEDS_PER_POLICY: u64 = 2;

/// Crashes in memory, each followed by a recovery and a comparison.
static CRASHES: Tally = Tally::new("simulated crashes");

fn crash_everywhere(profile: &Profile, seed: u64) {
    let steps = script(profile, seed);
    run_shrinking(&steps, Step::name, |steps| crash_in(profile, steps, seed));
}

fn crash_in(profile: &Profile, steps: &[Step], seed: u64) {
    let history = record(steps, seed);
    let mut rng = Rng::new(seed);
    for (number, moment) in history.moments.iter().enumerate() {
        let when = |what: &str| {
            format!(
                "profile {}, seed {seed}, moment {number} (before {}), {what}, {:?}",
                profile.name, moment.next, moment.marks
            )
        };
        kill(&history, moment, &when("kill"), rng.one_in(30));
        for policy in CrashPolicy::ALL {
            let count = match policy {
                CrashPolicy::AllLost | CrashPolicy::AllKept => 1,
                _ => SEEDS_PER_POLICY,
            };
            for _ in 0..count {
                let crash_seed = rng.next();
                let fs = moment.fs.crash(policy, crash_seed);
                let when = when(&format!("{policy:?} of {crash_seed}"));
                lose_power(&history, moment, &fs, &when, rng.one_in(30));
                CRASHES.add(1);
            }
        }
        CRASHES.add(1);
    }
}

/// The process ends; the system keeps everything that it was given.
fn kill(history: &History, moment: &Moment, when: &str, goes_on: bool) {
    let fs = moment.fs.snapshot();
    let index = recover(&fs, &history.states, &moment.marks, Loss::Process, when);
    if goes_on {
        go_on(&fs, &history.states, index, when);
    }
}

fn lose_power(
    history: &History,
    moment: &Moment,
    fs: &MemoryFileSystem,
    when: &str,
    goes_on: bool,
) {
    let (states, marks) = (&history.states, &moment.marks);
    if goes_on {
        // What a crash leaves is no damage; there may be no database yet.
        let log_dir = log_dir_of(DIR);
        let mut doctor = Doctor::new(DIR).env(env_of(fs));
        if fs.list(&log_dir).is_ok() {
            doctor = doctor.log_dir(log_dir);
        }
        let report = doctor.verify(&mut |_| {});
        let is_none = |error: &Error| error.kind() == ErrorKind::InvalidInput && marks.issued == 0;
        let is_right = report.as_ref().map_or_else(is_none, VerifyReport::is_sound);
        assert!(is_right, "{when}: {report:?}");
    }
    let first = recover(fs, states, marks, Loss::Power, when);
    if goes_on {
        // Nothing was written since, so a second crash, at worst, takes nothing more.
        let again = fs.crash(CrashPolicy::AllLost, 0);
        let second = recover(&again, states, marks, Loss::Power, when);
        assert_eq!(first, second, "{when}: recovering twice");
        go_on(fs, states, first, when);
    }
}

/// What the crashes stand for is said of every kind of operation.
#[test]
fn the_work_has_every_kind_of_step() {
    let of = |profile| [1, 2].map(|seed| script(profile, seed));
    let steps = profiles::PROFILES.into_iter().flat_map(of);
    assert_eq!(Step::kinds_missing(&steps.flatten().collect::<Vec<_>>()), [""; 0]);
}

#[test]
fn several_keyspaces_that_flush_at_different_times() {
    for_each_seed("several_keyspaces_that_flush_at_different_times", 2, |seed| {
        crash_everywhere(&profiles::SEVERAL_KEYSPACES, seed);
    });
    CRASHES.print();
}

#[test]
fn log_segments_that_fill_and_are_reused() {
    for_each_seed("log_segments_that_fill_and_are_reused", 2, |seed| {
        crash_everywhere(&profiles::MANY_SEGMENTS, seed);
    });
    CRASHES.print();
}

#[test]
fn writes_that_nobody_syncs() {
    for_each_seed("writes_that_nobody_syncs", 2, |seed| {
        crash_everywhere(&profiles::NO_SYNCS, seed);
    });
    CRASHES.print();
}

#[test]
fn keyspaces_that_come_and_go() {
    for_each_seed("keyspaces_that_come_and_go", 2, |seed| {
        crash_everywhere(&profiles::CHANGING_KEYSPACES, seed);
    });
    CRASHES.print();
}

#[test]
fn keyspace_without_a_log_keeps_what_was_flushed() {
    for_each_seed("keyspace_without_a_log_keeps_what_was_flushed", 2, |seed| {
        crash_everywhere(&profiles::WITHOUT_LOG, seed);
    });
    CRASHES.print();
}

/// Names that come again, for keyspaces that do not: of each, the files of the former ones go, and
/// its contents never come back, wherever the power is lost.
#[test]
fn many_keyspaces_dropped_and_made_again_leave_nothing_behind() {
    let mut fs = MemoryFileSystem::new(1);
    let mut rng = Rng::new(1);
    let name = |number: u64| format!("keyspace {number}");
    let small = KeyspaceOptions { memtable_bytes: 200, ..KeyspaceOptions::default() };
    for round in 0..12_u64 {
        let env = env_over(Arc::new(fs.clone()));
        let db = open(&env, &options_over(&fs)).unwrap();
        assert_eq!(db.keyspaces().len(), if round == 0 { 1 } else { 65 });
        for number in 0..64 {
            if round > 0 {
                let old = db.existing_keyspace(&name(number)).unwrap().expect("it was made");
                let found = old.get("key").unwrap();
                assert_eq!(found.unwrap(), format!("{}", round - 1), "{number} of round {round}");
                assert_eq!(old.iter().count(), 1 + (number as usize + round as usize - 1) % 3);
                db.drop_keyspace(&old).unwrap();
            }
            let keyspace = db.keyspace(&name(number), small.clone()).unwrap();
            keyspace.put_with("key", format!("{round}"), Durability::Power).unwrap();
            for extra in 0..(number + round) % 3 {
                keyspace.put_with(format!("{extra}"), vec![b'x'; 300], Durability::Power).unwrap();
            }
            if rng.one_in(3) {
                db.run_background_job();
            }
        }
        let policy = *rng.pick(&CrashPolicy::ALL);
        fs = fs.crash(policy, rng.next());
        drop(db);
    }
    let db = open(&env_over(Arc::new(fs.clone())), &options_over(&fs)).unwrap();
    db.wait_until_settled().unwrap();
    db.close().unwrap();
    assert_exact(&fs, DIR.as_ref(), "after all rounds");
}

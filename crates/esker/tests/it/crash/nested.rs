//! Crashes inside a recovery: it, too, may be cut short anywhere, and be begun again.
//!
//! Of every moment of a workload, whatever a crash has left is recovered once, and the power goes in
//! front of each change that this makes, in every way.

use std::sync::{Arc, Mutex, PoisonError};

use esker::env::{CrashPolicy, MemoryFileSystem};
use esker_base::HashSet;

use super::{History, Moment, observed, profiles, record};
use crate::random::{Rng, for_each_seed};
use crate::recovered::{Found, Loss, Recoveries, env_over, open, options_over};
use crate::shrink::run_shrinking;
use crate::tally::Tally;
use crate::workload::{Profile, Step, script};

static NESTED: Tally = Tally::new("simulated crashes inside a recovery");
static STATES: Tally = Tally::new("different states that such crashes have left");

/// The recoveries of one workload.
struct Search<'a> {
    profile: &'a Profile,
    seed: u64,
    history: &'a History,
    rng: Rng,
    recoveries: Recoveries,
    /// Digests of what losses of power have left whose recoveries were cut short already.
    cut_short: HashSet<u64>,
}

impl Search<'_> {
    fn run(mut self) {
        for (number, moment) in self.history.moments.iter().enumerate() {
            let (name, seed, next) = (self.profile.name, self.seed, &moment.next);
            let when = format!("profile {name}, seed {seed}, moment {number} (before {next})");
            self.cut_short(moment, &moment.fs.snapshot(), Loss::Process, &when);
            for policy in CrashPolicy::ALL {
                let fs = moment.fs.crash(policy, self.rng.next());
                if self.cut_short.insert(fs.digest()) {
                    let when = format!("{when}, {policy:?}");
                    self.cut_short(moment, &fs, Loss::Power, &when);
                }
            }
        }
        STATES.add(self.recoveries.count());
    }

    /// Recovers `fs` and crashes in front of each change that this makes. After a power loss nothing
    /// is pending at first, so every one of these crashes must lead to the same contents; after a
    /// kill something may be lost now.
    fn cut_short(&mut self, moment: &Moment, fs: &MemoryFileSystem, loss: Loss, when: &str) {
        let (states, marks) = (&self.history.states, &moment.marks);
        let copies = Arc::new(Mutex::new(Vec::new()));
        let (list, below) = (Arc::clone(&copies), fs.clone());
        let observed = observed(fs, move |next| {
            let copy = (below.snapshot(), next);
            list.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        });
        let db = open(&env_over(Arc::new(observed)), &options_over(fs));
        let db = db.unwrap_or_else(|error| panic!("{when}: {error:?}"));
        db.wait_until_settled().unwrap();
        let first = Found::read(&db).unwrap();
        drop(db);
        first.index(states, marks, loss, when);
        let copies = std::mem::take(&mut *copies.lock().unwrap_or_else(PoisonError::into_inner));
        for (copy, next) in copies {
            for policy in CrashPolicy::ALL {
                let when = || format!("{when}, then {policy:?} in recovery before {next}");
                let crashed = copy.crash(policy, self.rng.next());
                NESTED.add(1);
                let found = self.recoveries.of(&crashed, when);
                if loss == Loss::Power {
                    assert!(*found == first, "{}: not what is found without the crash", when());
                } else {
                    found.index(states, marks, Loss::Power, &when());
                }
            }
        }
    }
}

fn crash_inside_recoveries(profile: &Profile, seed: u64) {
    run_shrinking(&script(profile, seed), Step::name, |steps| {
        let history = record(steps, seed + profiles::number(profile));
        let (rng, recoveries, cut_short) =
            (Rng::new(!seed), Recoveries::default(), HashSet::default());
        Search { profile, seed, history: &history, rng, recoveries, cut_short }.run();
    });
}

fn in_recoveries(name: &str, profile: &Profile) {
    for_each_seed(name, 1, |seed| crash_inside_recoveries(profile, seed));
    NESTED.print();
    STATES.print();
}

#[test]
fn recovery_of_several_keyspaces_is_begun_again() {
    in_recoveries("recovery_of_several_keyspaces_is_begun_again", &profiles::SEVERAL_KEYSPACES);
}

#[test]
fn recovery_of_many_segments_is_begun_again() {
    in_recoveries("recovery_of_many_segments_is_begun_again", &profiles::MANY_SEGMENTS);
}

#[test]
fn recovery_of_writes_that_nobody_synced_is_begun_again() {
    in_recoveries("recovery_of_writes_that_nobody_synced_is_begun_again", &profiles::NO_SYNCS);
}

#[test]
fn recovery_of_keyspaces_that_come_and_go_is_begun_again() {
    in_recoveries(
        "recovery_of_keyspaces_that_come_and_go_is_begun_again",
        &profiles::CHANGING_KEYSPACES,
    );
}

#[test]
fn recovery_of_a_keyspace_without_a_log_is_begun_again() {
    in_recoveries("recovery_of_a_keyspace_without_a_log_is_begun_again", &profiles::WITHOUT_LOG);
}

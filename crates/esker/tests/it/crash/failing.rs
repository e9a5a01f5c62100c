//! Calls that fail inside a recovery: it ends with an error of its own kind, and a later one finds all that
//! this one would have found.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use esker::ErrorKind;
use esker::env::{
    CrashPolicy, Fault, FaultFileSystem, FileSystem, ManualClock, MemoryFileSystem, Operation,
    Rule, When,
};
use esker_base::HashSet;

use super::{History, Moment, profiles, record};
use crate::random::{Rng, for_each_seed};
use crate::recovered::{
    DIR, Found, Loss, Recoveries, env_over, found_in, go_on, open, options_over,
};
use crate::referenced::log_dir_of;
use crate::shrink::run_shrinking;
use crate::tally::Tally;
use crate::workload::{Profile, Step, script};

static FAILED: Tally = Tally::new("recoveries with a fault at another call");

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// The end of the process, or a loss of power.
const ENDS: [Option<CrashPolicy>; 7] = [
    None,
    Some(CrashPolicy::ALL[0]),
    Some(CrashPolicy::ALL[1]),
    Some(CrashPolicy::ALL[2]),
    Some(CrashPolicy::ALL[3]),
    Some(CrashPolicy::ALL[4]),
    Some(CrashPolicy::ALL[5]),
];

/// What fails.
const KINDS: [i32; 3] = [EIO, EMFILE, ENOSPC];

/// How seldom the database is written to after that, and loses power once more.
const GOES_ON_ONCE_IN: u64 = 30;

/// The recoveries of one workload.
struct Search<'a> {
    profile: &'a Profile,
    seed: u64,
    history: &'a History,
    rng: Rng,
    recoveries: Recoveries,
    /// What crashes have left whose recoveries failed already.
    failed: HashSet<Shape>,
    /// Of which state: in every other one errors are for ever.
    turn: u64,
}

impl Search<'_> {
    fn run(mut self) {
        for (number, moment) in self.history.moments.iter().enumerate() {
            let (name, seed, next) = (self.profile.name, self.seed, &moment.next);
            let when = format!("profile {name}, seed {seed}, moment {number} (before {next})");
            self.fail(moment, &moment.fs.snapshot(), Loss::Process, &when);
            // All of them at each moment would be four times the work of all other crashes.
            let policy = CrashPolicy::ALL[(number + self.seed as usize) % CrashPolicy::ALL.len()];
            let fs = moment.fs.crash(policy, self.rng.next());
            self.fail(moment, &fs, Loss::Power, &format!("{when}, {policy:?}"));
        }
    }

    /// Recovers `fs` with an error at each call, once or for ever in turns, unless this was done with such
    /// files.
    fn fail(&mut self, moment: &Moment, fs: &MemoryFileSystem, loss: Loss, when: &str) {
        let whole = self.recoveries.of(&fs.crash(CrashPolicy::AllKept, 0), || when.to_owned());
        whole.index(&self.history.states, &moment.marks, loss, when);
        if !self.failed.insert(Shape::of(fs, loss)) {
            return;
        }
        self.turn += 1;
        for call in 1.. {
            let at = if self.turn.is_multiple_of(2) { When::From(call) } else { When::Nth(call) };
            let code = *self.rng.pick(&KINDS);
            let when = || format!("{when}, error {code} at {at:?}");
            let left = fs.snapshot();
            let rule = Rule::new(Fault::Error(code)).when(at);
            let Some(found) = recover_failing(&left, rule, when) else { break };
            FAILED.add(1);
            let is_same = found.is_none_or(|found| found == *whole);
            assert!(is_same, "{}: it opens, and something is missing", when());
            self.recover_after(moment, &left, (loss, &whole), when);
        }
    }

    /// What the recovery that failed has left leads to what it would have found itself.
    fn recover_after(
        &mut self,
        moment: &Moment,
        left: &MemoryFileSystem,
        (before, whole): (Loss, &Found),
        when: impl Fn() -> String,
    ) {
        let end = *self.rng.pick(&ENDS);
        let when = || format!("{}, then {end:?}", when());
        // What a failed sync has not stored still reads as written, as long as there is power.
        let fs = end.map_or_else(|| left.snapshot(), |policy| left.crash(policy, self.rng.next()));
        let again = fs.snapshot();
        let found = match end {
            Some(_) => self.recoveries.of(&fs, when),
            None => Rc::new(found_in(&fs, when)),
        };
        match (before, end) {
            (Loss::Power, _) => assert!(*found == *whole, "{}: not what is found without", when()),
            (Loss::Process, None) => {
                found.index(&self.history.states, &moment.marks, Loss::Process, &when());
            }
            (Loss::Process, Some(_)) => {
                found.index(&self.history.states, &moment.marks, Loss::Power, &when());
            }
        }
        if self.rng.one_in(GOES_ON_ONCE_IN) {
            let states = &self.history.states;
            let index = found.index(states, &moment.marks, Loss::Power, &when());
            go_on(&again, states, index, &when());
        }
    }
}

/// What decides which calls a recovery makes, mostly: the kinds and lengths of the files, by age.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    is_of_power: bool,
    files: Vec<(String, u64)>,
}

impl Shape {
    fn of(fs: &MemoryFileSystem, loss: Loss) -> Self {
        let in_dir = |dir: PathBuf| fs.list(&dir).unwrap_or_default();
        let entries = [DIR.into(), log_dir_of(DIR)].into_iter().flat_map(in_dir);
        // Names begin with numbers, which only grow.
        let is_number = |c: char| c.is_ascii_digit() || c == '-';
        let kind = |name: &str| name.trim_start_matches(is_number).to_owned();
        let files = entries.map(|entry| (kind(&entry.name), entry.len)).collect();
        Self { is_of_power: loss == Loss::Power, files }
    }
}

/// Opens `fs`, in which calls fail by `rule`. `None` if none did; what was found, if it opened all the same.
fn recover_failing(
    fs: &MemoryFileSystem,
    rule: Rule,
    when: impl Fn() -> String,
) -> Option<Option<Found>> {
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Arc::new(ManualClock::default()));
    let below = fs.clone();
    faults.observe(move |event| {
        // As Linux does: what was written still reads so, and no later sync stores it.
        if event.operation == Operation::Sync && event.fault.is_some() {
            below.forget_unsynced(&event.path);
        }
    });
    faults.add(rule);
    let opened = open(&env_over(Arc::new(faults.clone())), &options_over(fs));
    if faults.injected().is_empty() {
        return None;
    }
    let found = opened.and_then(|db| Found::read(&db)).map(Some).unwrap_or_else(|error| {
        let is_typed =
            matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned);
        assert!(is_typed, "{}: {error:?}", when());
        None
    });
    Some(found)
}

fn fail_inside_recoveries(profile: &Profile, seed: u64) {
    run_shrinking(&script(profile, seed), Step::name, |steps| {
        let history = record(steps, seed + profiles::number(profile));
        let (rng, recoveries, failed) =
            (Rng::new(!seed), Recoveries::default(), HashSet::default());
        Search { profile, seed, history: &history, rng, recoveries, failed, turn: seed }.run();
    });
}

fn failing(name: &str, profile: &Profile) {
    for_each_seed(name, 1, |seed| fail_inside_recoveries(profile, seed));
    FAILED.print();
}

#[test]
fn recovery_of_several_keyspaces_that_fails_is_begun_again() {
    let name = "recovery_of_several_keyspaces_that_fails_is_begun_again";
    failing(name, &profiles::SEVERAL_KEYSPACES);
}

#[test]
fn recovery_of_many_segments_that_fails_is_begun_again() {
    let name = "recovery_of_many_segments_that_fails_is_begun_again";
    failing(name, &profiles::MANY_SEGMENTS);
}

#[test]
fn recovery_of_writes_that_nobody_synced_that_fails_is_begun_again() {
    let name = "recovery_of_writes_that_nobody_synced_that_fails_is_begun_again";
    failing(name, &profiles::NO_SYNCS);
}

#[test]
fn recovery_of_keyspaces_that_come_and_go_that_fails_is_begun_again() {
    let name = "recovery_of_keyspaces_that_come_and_go_that_fails_is_begun_again";
    failing(name, &profiles::CHANGING_KEYSPACES);
}

#[test]
fn recovery_of_a_keyspace_without_a_log_that_fails_is_begun_again() {
    let name = "recovery_of_a_keyspace_without_a_log_that_fails_is_begun_again";
    failing(name, &profiles::WITHOUT_LOG);
}

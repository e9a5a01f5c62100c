//! Calls that fail inside a recovery: it ends with an error of its own kind, and a later one finds all that
//! this one would have found.

use std::sync::Arc;

use esker::ErrorKind;
use esker::env::{CrashPolicy, Fault, FaultFileSystem, ManualClock, Operation, Rule, When};

use super::{History, Moment, profiles, record};
use crate::random::{Rng, budget, for_each_seed};
use crate::recovered::{Loss, env_over, open, options_over, recover};
use crate::shrink::run_shrinking;
use crate::tally::Tally;
use crate::workload::{Profile, Step, script};

static FAILED: Tally = Tally::new("recoveries with a fault at another call");

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// What fails, and for how long.
const KINDS: [(i32, bool); 6] =
    [(EIO, false), (ENOSPC, true), (EMFILE, false), (EIO, true), (ENOSPC, false), (EMFILE, true)];

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

fn fail_inside_recoveries(profile: &Profile, seed: u64) {
    run_shrinking(&script(profile, seed), Step::name, |steps| {
        fail_inside_recoveries_of(steps, profile, seed);
    });
}

/// Of each moment one end and one kind of error, in turns; with a larger budget, more of them.
fn fail_inside_recoveries_of(steps: &[Step], profile: &Profile, seed: u64) {
    let history = record(steps, seed);
    let mut rng = Rng::new(!seed);
    for (number, moment) in history.moments.iter().enumerate() {
        for turn in 0..budget().min((ENDS.len() * KINDS.len()) as u64) as usize {
            // Both lists have lengths without a common divisor, so that all pairs come.
            let at = number + turn;
            let (end, kind) = (ENDS[at % ENDS.len()], KINDS[at % KINDS.len()]);
            let (name, next) = (profile.name, &moment.next);
            let when = format!("profile {name}, seed {seed}, moment {number} (before {next})");
            fail_at_every_call(&history, moment, (end, kind), &when, &mut rng);
        }
    }
}

fn fail_at_every_call(
    history: &History,
    moment: &Moment,
    (end, (code, is_for_ever)): (Option<CrashPolicy>, (i32, bool)),
    when: &str,
    rng: &mut Rng,
) {
    let fs = match end {
        Some(policy) => moment.fs.crash(policy, rng.next()),
        None => moment.fs.snapshot(),
    };
    for call in 1.. {
        let when =
            format!("{when}, ended by {end:?}, error {code} at {call}, for ever {is_for_ever}");
        let left = fs.snapshot();
        let faults = FaultFileSystem::new(Arc::new(left.clone()), Arc::new(ManualClock::default()));
        let below = left.clone();
        faults.observe(move |event| {
            // As Linux does: what was written still reads so, and no later sync stores it.
            if event.operation == Operation::Sync && event.fault.is_some() {
                below.forget_unsynced(&event.path);
            }
        });
        let at = if is_for_ever { When::From(call) } else { When::Nth(call) };
        faults.add(Rule::new(Fault::Error(code)).when(at));
        let options = options_over(&left);
        if let Err(error) = open(&env_over(Arc::new(faults.clone())), &options) {
            let is_typed =
                matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned);
            assert!(is_typed, "{when}: {error:?}");
        }
        if faults.injected().is_empty() {
            break;
        }
        FAILED.add(1);
        let loses_power = rng.one_in(2);
        let left =
            if loses_power { left.crash(*rng.pick(&CrashPolicy::ALL), rng.next()) } else { left };
        let loss = if end.is_none() && !loses_power { Loss::Process } else { Loss::Power };
        recover(&left, &history.states, &moment.marks, loss, &when);
    }
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

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

/// One in so many moments is taken, and of those one crash.
const ONE_IN: u64 = 20;

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

fn fail_inside_recoveries(profile: &Profile, seed: u64) {
    run_shrinking(&script(profile, seed), Step::name, |steps| {
        fail_inside_recoveries_of(steps, profile, seed);
    });
}

fn fail_inside_recoveries_of(steps: &[Step], profile: &Profile, seed: u64) {
    let history = record(steps, seed);
    let mut rng = Rng::new(!seed);
    for (number, moment) in history.moments.iter().enumerate() {
        if rng.one_in(ONE_IN.div_ceil(budget())) {
            let (name, next) = (profile.name, &moment.next);
            let when = format!("profile {name}, seed {seed}, moment {number} (before {next})");
            fail_at_every_call(&history, moment, &when, &mut rng);
        }
    }
}

fn fail_at_every_call(history: &History, moment: &Moment, when: &str, rng: &mut Rng) {
    let is_kill = rng.one_in(2);
    let policy = *rng.pick(&CrashPolicy::ALL);
    let fs = if is_kill { moment.fs.snapshot() } else { moment.fs.crash(policy, rng.next()) };
    let code = *rng.pick(&[EIO, EMFILE, ENOSPC]);
    let is_for_ever = rng.one_in(2);
    for call in 1.. {
        let when = format!(
            "{when}, kill {is_kill} or {policy:?}, error {code} at {call}, for ever {is_for_ever}"
        );
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
        let loss = if is_kill && !loses_power { Loss::Process } else { Loss::Power };
        recover(&left, &history.states, &moment.marks, loss, &when);
    }
}

#[test]
fn recovery_that_fails_is_begun_again() {
    for_each_seed("recovery_that_fails_is_begun_again", 1, |seed| {
        for profile in profiles::PROFILES {
            fail_inside_recoveries(profile, seed);
        }
    });
    FAILED.print();
}

//! Crashes inside a recovery: it, too, may be cut short anywhere, and be begun again.

use std::sync::{Arc, Mutex, PoisonError};

use esker::env::{CrashPolicy, MemoryFileSystem};

use super::{History, Moment, observed, profiles, record};
use crate::random::{Rng, budget, for_each_seed};
use crate::recovered::{Loss, env_over, open, options_over, recover};
use crate::tally::Tally;
use crate::workload::{Profile, script};

static NESTED: Tally = Tally::new("simulated crashes inside a recovery");

/// One in so many moments is taken, and of those one crash.
const ONE_IN: u64 = 6;

fn crash_inside_recovery(profile: &Profile, seed: u64) {
    let history = record(&script(profile, seed), seed);
    let mut rng = Rng::new(!seed);
    for (number, moment) in history.moments.iter().enumerate() {
        if !rng.one_in(ONE_IN.div_ceil(budget())) {
            continue;
        }
        let when = format!(
            "profile {}, seed {seed}, moment {number} (before {})",
            profile.name, moment.next
        );
        recover_step_by_step(&history, moment, &moment.fs.snapshot(), true, &when, &mut rng);
        let policy = *rng.pick(&CrashPolicy::ALL);
        let fs = moment.fs.crash(policy, rng.next());
        let when = format!("{when}, {policy:?}");
        recover_step_by_step(&history, moment, &fs, false, &when, &mut rng);
    }
}

/// Recovers `fs` and crashes in front of each change that this makes. After a power loss nothing
/// is pending at first, so every one of these crashes must lead to the same state; after a kill
/// something may be lost now.
fn recover_step_by_step(
    history: &History,
    moment: &Moment,
    fs: &MemoryFileSystem,
    is_kill: bool,
    when: &str,
    rng: &mut Rng,
) {
    let copies = Arc::new(Mutex::new(Vec::new()));
    let (list, below) = (Arc::clone(&copies), fs.clone());
    let observed = observed(fs, move |next| {
        let copy = (below.snapshot(), next);
        list.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
    });
    let db = open(&env_over(Arc::new(observed)), &options_over(fs)).unwrap();
    db.wait_until_settled().unwrap();
    drop(db);
    let whole = if is_kill { Loss::Process } else { Loss::Power };
    let first = recover(fs, &history.states, &moment.marks, whole, when);
    let copies = std::mem::take(&mut *copies.lock().unwrap_or_else(PoisonError::into_inner));
    for (copy, next) in copies {
        for policy in CrashPolicy::ALL {
            let when = format!("{when}, then {policy:?} in recovery before {next}");
            let crashed = copy.crash(policy, rng.next());
            NESTED.add(1);
            let index = recover(&crashed, &history.states, &moment.marks, Loss::Power, &when);
            assert!(is_kill || index == first, "{when}: {index}, and without the crash {first}");
        }
    }
}

#[test]
fn recovery_that_is_cut_short_is_begun_again() {
    for_each_seed("recovery_that_is_cut_short_is_begun_again", 1, |seed| {
        for profile in profiles::PROFILES {
            crash_inside_recovery(profile, seed);
        }
    });
    NESTED.print();
}

//! A crash in the middle of a run, and what is found afterwards.

use esker::env::CrashPolicy;

use super::history::{History, ORDER_KEY};
use super::script::{ORDER, SHARED};
use super::world::Moment;
use crate::reading::assert_contents;
use crate::recovered::{Loss, env_of, open, options};
use crate::tally::Tally;

/// Crashes, each followed by a recovery and a comparison.
pub(super) static CRASHES: Tally = Tally::new("simulated crashes of threads at work");

/// Loses the process, or the power, at `moment`, and compares what is left with `history`, which is
/// that of the end of the run.
pub(super) fn crash_and_recover(
    moment: &Moment,
    history: &mut History,
    loss: Loss,
    policy: CrashPolicy,
    seed: u64,
) {
    let when = format!("{loss:?}, {policy:?} of {seed}, before {}", moment.next);
    let (fs, required) = match loss {
        Loss::Process => (moment.fs.snapshot(), &moment.promises.process),
        Loss::Power => (moment.fs.crash(policy, seed), &moment.promises.power),
    };
    let db = open(&env_of(&fs), &options()).unwrap_or_else(|error| panic!("{when}: {error:?}"));
    let order = db.existing_keyspace(ORDER).unwrap().expect("it was created before");
    let found = order.get(ORDER_KEY).unwrap();
    let count = history.at(found.as_deref(), required, &when);
    let state = history.state(count);
    for name in SHARED {
        let keyspace = db.existing_keyspace(name).unwrap().expect("it was created before");
        assert_contents(&keyspace, &state.contents(name), &when);
    }
    CRASHES.add(1);
}

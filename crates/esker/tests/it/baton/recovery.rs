//! A crash in the middle of a run, and what is found afterwards.

use esker::Db;
use esker::env::{CrashPolicy, MemoryFileSystem};

use super::coverage;
use super::filtering::as_found;
use super::generation::dir_of;
use super::history::{History, Id, Part};
use super::reader::seen_by;
use super::world::Moment;
use crate::directory::{assert_exact, assert_tidy};
use crate::reading::{assert_contents, contents};
use crate::recovered::{Loss, env_at, open_in, options_in};
use crate::state::{Contents, State};
use crate::tally::Tally;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Crashes, each followed by a recovery and a comparison.
pub(super) static CRASHES: Tally = Tally::new("simulated crashes of threads at work");

/// Loses the process, or the power, at `moment`, and compares what is left with `histories`, which
/// are those of the end of the run.
pub(super) fn crash_and_recover(
    moment: &Moment,
    histories: &[History],
    loss: Loss,
    (policy, seed): (CrashPolicy, u64),
) {
    let when = format!("{loss:?}, {policy:?} of {seed}, before {}", moment.next);
    let fs = match loss {
        Loss::Process => moment.fs.snapshot(),
        Loss::Power => moment.fs.crash(policy, seed),
    };
    let required = moment.promises.iter().map(|promises| match loss {
        Loss::Process => &promises.process,
        Loss::Power => &promises.power,
    });
    let ends = seed.is_multiple_of(4);
    let mut histories = histories.to_vec();
    for (history, promises) in histories.iter_mut().zip(&moment.promises) {
        history.go_back(promises);
    }
    recover((&fs, moment.wall), &histories, required, (ends, &when));
    CRASHES.add(1);
}

/// Opens what is in `fs` at that time and compares it with `histories`; and if it `ends`, does all
/// that is left to do, closes, and sees that nothing is there that nothing refers to.
pub(super) fn recover<'a>(
    (fs, wall): (&MemoryFileSystem, Duration),
    histories: &[History],
    required: impl Iterator<Item = &'a BTreeSet<Id>>,
    (ends, when): (bool, &str),
) {
    let parts: Vec<_> = histories.iter().zip(required).collect();
    let homes: BTreeSet<usize> = histories.iter().map(|history| history.part.home).collect();
    for home in homes {
        let when = format!("{when}, database {home}");
        let (dir, env) = (dir_of(home), env_at(Arc::new(fs.clone()), wall));
        let db = open_in(&dir, &env, &options_in(&dir, fs));
        let db = db.unwrap_or_else(|error| panic!("{when}: {error:?}"));
        let parts = parts.iter().filter(|(history, _)| history.part.home == home);
        let found = parts.map(|(history, required)| {
            let mut history = History::clone(history);
            let seen = seen_by(&db.snapshot(), &db, history.part).unwrap();
            let count = history.at(&seen, required, &when);
            (history, count)
        });
        let found: Vec<(History, usize)> = found.collect();
        let compare = |db: &Db, when: &str| {
            let millis = env.clock.wall().as_millis() as u64;
            found.iter().for_each(|(history, count)| {
                compare(db, history.part, &history.state(*count, millis), when);
            });
        };
        compare(&db, &when);
        if !ends {
            continue;
        }
        db.wait_until_settled().unwrap();
        assert_tidy(&db, fs, &when);
        compare(&db, &format!("{when}, settled"));
        db.close().unwrap();
        assert_exact(fs, dir_of(home).as_ref(), &when);
        coverage::add("recoveries that left nothing", 1);
    }
}

/// Compares what the keyspaces of a part hold with `state`.
fn compare(db: &Db, part: Part, state: &State, when: &str) {
    for name in part.names {
        let keyspace = db.existing_keyspace(name).unwrap().expect("it was created before");
        let written = state.contents(name);
        let found = contents(&keyspace).unwrap();
        let written = written.iter().map(|(key, value)| (key.clone(), value.clone()));
        let expected: Contents = as_found(written, |key| found.get(key), when).collect();
        assert_contents(&keyspace, &expected, when);
    }
}

//! A crash in the middle of a run, and what is found afterwards.

use esker::env::{CrashPolicy, FileSystem as _, MemoryFileSystem};
use esker::{Db, Keyspace, RecoveryMode};
use esker_base::checksum::checksum64;
use esker_table::Compression;
use esker_tree::Manifest;

use super::checkup::{Patient, contained, write_some_more};
use super::coverage;
use super::filtering::as_found;
use super::generation::dir_of;
use super::history::{History, Id, Part};
use super::reader::seen_by;
use super::world::Moment;
use crate::random::Rng;
use crate::reading::{assert_contents, contents, difference};
use crate::recovered::Loss;
use crate::referenced::log_dir_of;
use crate::referenced::{assert_exact, assert_tidy};
use crate::state::{Contents, State};
use crate::tally::Tally;

use std::collections::BTreeSet;
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
    wall: Duration,
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
        history.end_at(moment.shown);
    }
    recover((&fs, wall), &histories, required, (ends, &when));
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
    for home in homes.iter().copied() {
        let when = format!("{when}, database {home}");
        let (dir, millis) = (dir_of(home), wall.as_millis() as u64);
        let before = ends.then(|| fs.snapshot());
        let db = Patient { fs, dir: &dir, wall }.open(RecoveryMode::default());
        let db = db.unwrap_or_else(|error| panic!("{when}: {error:?}"));
        let parts = parts.iter().filter(|(history, _)| history.part.home == home);
        let found = parts.map(|(history, required)| {
            let mut history = History::clone(history);
            let seen = seen_by(&db.snapshot(), &db, history.part).unwrap();
            let count = history.at(&seen, required, &when);
            let one = |name: &&'static str| (*name, contents(&shared(&db, name)).unwrap());
            history.find(count, &history.part.names.iter().map(one).collect(), millis);
            (history, count)
        });
        let found: Vec<(History, usize)> = found.collect();
        let compare = |db: &Db, when: &str| {
            found.iter().for_each(|(history, count)| {
                compare(db, history.part, &history.state(*count, millis), (ends, when));
            });
        };
        compare(&db, &when);
        if !ends {
            continue;
        }
        let left = before.as_ref().expect("it was copied");
        Patient { fs: left, dir: &dir, wall }.assert_readable(&contained(&db), &when);
        db.wait_until_settled().unwrap();
        assert_tidy(&db, fs, &when);
        compare(&db, &format!("{when}, settled"));
        db.close().unwrap();
        assert_exact(fs, dir.as_ref(), &when);
        count_zstandard(fs, &dir);
        coverage::add("recoveries that left nothing", 1);
        let mut rng = Rng::new(checksum64(wall.as_millis() as u64, when.as_bytes()));
        if rng.one_in(5) {
            check_up(&Patient { fs, dir: &dir, wall }, &mut rng, &when);
        }
    }
    let has_log_dirs = homes.iter().all(|home| fs.list(&log_dir_of(dir_of(*home))).is_ok());
    if ends && has_log_dirs && homes.len() == 2 {
        let fs = fs.snapshot();
        let dirs = [dir_of(0), dir_of(1)];
        let [first, second] = dirs.each_ref().map(|dir| Patient { fs: &fs, dir, wall });
        first.assert_leaves_alone(&second, when);
    }
}

/// Has the doctor look at a closed database, and at what some damage makes of it.
fn check_up(patient: &Patient<'_>, rng: &mut Rng, when: &str) {
    patient.assert_sound(when);
    let db = patient.open(RecoveryMode::default()).unwrap();
    write_some_more(&db, rng);
    let expected = contained(&db);
    db.close().unwrap();
    patient.check_damaged(&expected, rng, when);
}

fn shared(db: &Db, name: &str) -> Keyspace {
    db.existing_keyspace(name).unwrap().expect("it was created before")
}

/// Counts the tables of a closed database that are compressed by Zstandard, which takes a feature.
fn count_zstandard(fs: &MemoryFileSystem, dir: &str) {
    let catalog = Manifest::recover(fs, dir.as_ref()).unwrap().expect("there is one").catalog;
    let tables = catalog.keyspaces.values().flat_map(|state| state.tables.values());
    let tables = tables.map(|table| &table.properties);
    let tables = tables.filter(|table| table.compression == Compression::Zstd);
    let tables: Vec<_> = tables.collect();
    let has_dictionary = tables.iter().filter(|table| table.extras.dictionary.is_some());
    coverage::add("tables with Zstandard", tables.len() as u64);
    coverage::add("tables with a dictionary", has_dictionary.count() as u64);
}

/// Compares what the keyspaces of a part hold with `state`, read once, or if it `is_thorough` in every way.
fn compare(db: &Db, part: Part, state: &State, (is_thorough, when): (bool, &str)) {
    for name in part.names {
        let keyspace = shared(db, name);
        let written = state.contents(name);
        let found = contents(&keyspace).unwrap();
        let written = written.iter().map(|(key, value)| (key.clone(), value.clone()));
        let expected: Contents = as_found(written, |key| found.get(key), when).collect();
        if is_thorough {
            assert_contents(&keyspace, &expected, when);
        } else if let Some(difference) = difference(&found, &expected) {
            panic!("{when}: {name}: {difference}");
        }
    }
}

//! Whether a database holds what was promised, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use esker::doctor::Doctor;
use esker::{Db, RecoveryMode};

use crate::arguments::Arguments;
use crate::expected::Expected;
use crate::layout::{self, KEYS, KEYSPACES, Opened, SLOTS, TAGGED, THREADS, TOTAL};
use crate::random::Random;
use crate::{Result, say};

/// How much was checked.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Checked {
    pub(crate) keys: u64,
    /// Writes and deletes that were interrupted.
    pub(crate) interrupted: u64,
    /// Of those, the ones that took effect.
    pub(crate) took_place: u64,
}

/// Checks once, called from the command line.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let expected = Expected::open(&arguments.path("expected")?)?;
    let checked = check(&arguments.path("db")?, expected, arguments.number("seed", 1)?)?;
    say(&format!("{checked:?}"));
    Ok(ExitCode::SUCCESS)
}

/// Opens the database in `dir`, compares it with `expected`, and records there which interrupted
/// calls took effect. Every other time, the database is closed and verified byte by byte.
pub(crate) fn check(dir: &Path, expected: Expected, seed: u64) -> Result<Checked> {
    let says = |error: esker::Error| format!("{:?}: {error}", error.kind());
    let mut random = Random::new(seed);
    let builder = Db::builder(dir).options(layout::options(random.next(), 64 << 20));
    let db = builder.recovery(RecoveryMode::TornTail).open().map_err(says)?;
    let opened = layout::open(db, random.next()).map_err(says)?;
    let mut checked = Checked::default();
    for thread in 0..THREADS {
        (0..KEYS).try_for_each(|index| key(&opened, expected, thread, index, &mut checked))?;
        batches(&opened, expected, thread)?;
    }
    bank(&opened)?;
    scans(&opened)?;
    if random.one_in(2) {
        opened.db.close().map_err(says)?;
        drop((opened.keyspaces, opened.bank));
        let report = Doctor::new(dir).verify(&mut |_| {}).map_err(says)?;
        if !report.is_sound() {
            return Err(format!("the database is damaged: {report}"));
        }
    }
    Ok(checked)
}

fn key(
    opened: &Opened,
    expected: Expected,
    thread: usize,
    index: usize,
    checked: &mut Checked,
) -> Result<()> {
    let allowed = expected.allowed(thread, index);
    let keyspace = &opened.keyspaces[layout::keyspace_of(index)];
    let found = keyspace.get(layout::key(thread, index)).map_err(|error| error.to_string())?;
    let is = |number: &Option<u32>| {
        let value = number.map(|number| layout::value(thread, index, number));
        found.as_deref() == value.as_deref()
    };
    checked.keys += 1;
    let took_place = allowed.after.as_ref().is_some_and(is);
    if !took_place && !is(&allowed.before) {
        let text = found.map(|value| value.get(..20.min(value.len())).map(<[u8]>::to_vec));
        return Err(format!(
            "key {index} of thread {thread} has {text:?}, allowed are {allowed:?}"
        ));
    }
    if allowed.after.is_some() {
        checked.interrupted += 1;
        checked.took_place += u64::from(took_place);
        expected.settle(thread, index, took_place);
    }
    Ok(())
}

/// All keys of a batch have one number: that of the last batch that returned, or the next.
fn batches(opened: &Opened, expected: Expected, thread: usize) -> Result<()> {
    let least = expected.last_batch(thread);
    let mut numbers = BTreeSet::new();
    for keyspace in &opened.keyspaces {
        for place in 0..TAGGED {
            let value = keyspace.get(layout::last_key(thread, place));
            let value = value.map_err(|error| error.to_string())?;
            numbers.insert(value.as_deref().and_then(layout::number_of).unwrap_or(0));
        }
    }
    let last = numbers.first().copied().unwrap_or(0);
    if numbers.len() != 1 || last < least || least + 1 < last {
        return Err(format!("batches of thread {thread}: {numbers:?}, and {least} returned"));
    }
    for keyspace in &opened.keyspaces {
        for number in last.saturating_sub(SLOTS - 1).max(1)..=last {
            let value = keyspace.get(layout::slot_key(thread, number));
            let value = value.map_err(|error| error.to_string())?;
            if value.as_deref().and_then(layout::number_of) != Some(number) {
                return Err(format!("batch {number} of {last} of thread {thread} is not there"));
            }
        }
    }
    expected.set_last_batch(thread, last);
    Ok(())
}

fn bank(opened: &Opened) -> Result<()> {
    let mut total = 0;
    for value in opened.bank.prefix("account ").values() {
        let value = value.map_err(|error| error.to_string())?;
        total += layout::number_of(&value).ok_or("a balance is no number")?;
    }
    if total == TOTAL { Ok(()) } else { Err(format!("the bank has {total}, and not {TOTAL}")) }
}

/// Forward and backward scans agree with each other and with point reads.
fn scans(opened: &Opened) -> Result<()> {
    for (keyspace, name) in opened.keyspaces.iter().zip(KEYSPACES) {
        let all = keyspace.iter().collect::<esker::Result<Vec<_>>>();
        let all = all.map_err(|error| format!("scan of {name}: {error}"))?;
        let back = keyspace.iter().rev().collect::<esker::Result<Vec<_>>>();
        let back = back.map_err(|error| format!("scan of {name}: {error}"))?;
        if !all.iter().eq(back.iter().rev()) {
            return Err(format!("{name} is not the same backwards"));
        }
        for (key, value) in all.iter().step_by(17) {
            let found = keyspace.get(key).map_err(|error| error.to_string())?;
            if found.as_deref() != Some(&**value) {
                return Err(format!("a scan of {name} and a get differ"));
            }
        }
    }
    Ok(())
}

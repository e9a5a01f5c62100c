//! Modes with outside requirements: a tracer, root, a loop device, a limit.

use std::path::Path;
use std::process::{Child, Command};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use crate::Result;
use crate::cleanup::{Mounted, call, has_program, is_root};
use crate::disk::{TO_FILL, WITH_SHUTDOWN, on_each_disk};
use crate::driver::{Driver, End, Outcome, Place, expect_end, kill, kill_unless_ended};
use crate::expected::Expected;
use crate::sys::cut_power;

/// Calls at which the program is killed: those that change what is on disk.
const CALLS: [&str; 8] =
    ["pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "fallocate", "unlink", "openat"];

pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|error| format!("{command:?}: {error}"))
}

pub(crate) fn needs_strace() -> Option<Outcome> {
    let is_there = has_program("strace");
    (!is_there).then(|| Outcome::Skipped("it needs strace, which is not installed".to_owned()))
}

/// A new database is made after this many kills.
const KILLS_PER_DATABASE: u64 = 20;

/// Kills the program when one of its threads makes its n-th system call of a kind.
pub(crate) fn syscall_kills(driver: &mut Driver) -> Result<Outcome> {
    if let Some(skipped) = needs_strace() {
        return Ok(skipped);
    }
    let mut killed = 0;
    for run in driver.numbers(driver.settings.runs) {
        driver.begin("", run, KILLS_PER_DATABASE);
        let place = Place::new(&driver.scratch, run / KILLS_PER_DATABASE);
        let call = CALLS[driver.random.below(CALLS.len() as u64) as usize];
        let nth = 1 + driver.random.below(if call == "pwrite64" { 400 } else { 12 });
        let when = driver.enter(run, &format!("kill at {call} number {nth}"));
        let inject = format!("inject={call}:signal=KILL:when={nth}");
        let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let seed = driver.random.next();
        let mut command = driver.work_below(&words, &place, seed);
        let child = spawn(command.args(["--operations", "600"]))?;
        // It finishes if no thread makes so many calls.
        let end = expect_end(child, &when, &[End::Finished, End::Killed])?;
        killed += u64::from(end == End::Killed);
        driver.check(&place, &when)?;
    }
    driver.expect_some(killed, "none was killed")?;
    let runs = driver.settings.runs;
    Ok(Outcome::Passed(format!("{runs} runs, {killed} of them killed at a chosen system call")))
}

/// A new database is made after this many power cuts.
const CUTS_PER_DATABASE: u64 = 50;

/// Cuts the power of a real file system, and mounts it again.
pub(crate) fn power_cuts(driver: &mut Driver) -> Result<Outcome> {
    let mut acknowledged = 0;
    let outcome = on_each_disk(driver, &WITH_SHUTDOWN, |driver, disk, runs| {
        let kind = disk.kind;
        for run in driver.numbers(runs) {
            driver.begin(kind, run, CUTS_PER_DATABASE);
            let when = driver.enter(run, &format!("power cut on {kind}"));
            let mounted = disk.mount()?;
            let place = place_of_cut(driver, mounted.point(), kind, run / CUTS_PER_DATABASE)?;
            let before = Expected::open(&place.expected)?.operation_count();
            let seed = driver.random.next();
            let child = spawn(driver.work(&place, seed).arg("--power"))?;
            let pause = 20 + driver.random.below(250);
            driver.sleep(pause);
            // Every other time, it runs on while its power goes. A file system being shut down may
            // report a sync as done and lose the bytes (mode `control` counts that), so what it
            // reports from here on is not recorded.
            if driver.random.one_in(2) {
                stop(&child, &when)?;
                driver.sleep(5);
            }
            Expected::open(&place.expected)?.set_power_is_going(true);
            cut_power(mounted.point())?;
            // It may have seen the power go, or the errors that follow.
            let ends = [End::Finished, End::Stopped, End::Faulted];
            kill_unless_ended(child, &when, &ends)?;
            let expected = Expected::open(&place.expected)?;
            expected.set_power_is_going(false);
            acknowledged += expected.operation_count() - before;
            drop(mounted);
            let mounted = disk.mount()?;
            driver.check(&place, &when)?;
            drop(mounted);
        }
        Ok(format!("{runs} power cuts on {kind}"))
    })?;
    if let Outcome::Passed(_) = outcome {
        driver.expect_some(acknowledged, "no write was acknowledged")?;
    }
    Ok(outcome)
}

/// The place of a database on a disk. If it is not there, it is made, and takes the room of the one
/// before.
fn place_of_cut(driver: &Driver, disk: &Path, kind: &str, number: u64) -> Result<Place> {
    let db = |number: u64| disk.join(format!("db{number}"));
    let expected = driver.scratch.path(&format!("expected-{kind}-{number}"));
    let place = Place { db: db(number), expected };
    if !place.db.exists() {
        if let Some(before) = number.checked_sub(1).map(db).filter(|before| before.exists()) {
            std::fs::remove_dir_all(before).map_err(|error| error.to_string())?;
        }
        // Making the database's own directory durable is the user's task.
        std::fs::create_dir_all(&place.db).map_err(|error| error.to_string())?;
        call("sync", &[])?;
    }
    Ok(place)
}

/// Stops the program.
fn stop(child: &Child, when: &str) -> Result<()> {
    kill_process(pid_of(child, when)?, Signal::STOP).map_err(|error| format!("{when}: {error}"))
}

fn pid_of(child: &Child, when: &str) -> Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| format!("{when}: the program has no process id"))
}

/// Fills tiny file systems under the program, and frees the space again.
pub(crate) fn full_disk(driver: &mut Driver) -> Result<Outcome> {
    if !is_root() {
        return Ok(Outcome::Skipped("it mounts file systems, and so needs root".to_owned()));
    }
    let mut done = Vec::new();
    if driver.is_on(TMPFS) {
        let point = driver.scratch.path("tiny");
        let mounted = Mounted::new(&["-t", TMPFS, "-o", "size=24m", TMPFS], &point)?;
        fill_and_free(driver, &mounted, TMPFS, driver.settings.first)?;
        done.push(format!("{FILLS} times on {TMPFS}"));
    }
    let mut skipped = String::new();
    if driver.settings.on.as_deref() != Some(TMPFS) {
        let outcome = on_each_disk(driver, &TO_FILL, |driver, disk, runs| {
            let mounted = disk.mount()?;
            let mut numbers = driver.numbers(runs);
            numbers.try_for_each(|run| fill_and_free(driver, &mounted, disk.kind, run))?;
            Ok(format!("{} times on {}", runs * FILLS, disk.kind))
        })?;
        match outcome {
            Outcome::Passed(others) => done.push(others),
            Outcome::Skipped(why) => skipped = format!("; SKIPPED, not passed: {why}"),
        }
    }
    Ok(Outcome::Passed(format!("full and on again by itself {}{skipped}", done.join("; "))))
}

/// Needs no device.
const TMPFS: &str = "tmpfs";

/// How often a disk becomes full in a run.
const FILLS: u64 = 3;

fn fill_and_free(driver: &mut Driver, mounted: &Mounted, kind: &str, run: u64) -> Result<()> {
    driver.begin(kind, run, 1);
    let when = driver.enter(run, &format!("full disk, {kind}"));
    let place = Place {
        db: mounted.point().join(format!("db{run}")),
        expected: driver.scratch.path(&format!("expected-{kind}{run}")),
    };
    let expected = Expected::open(&place.expected)?;
    let seed = driver.random.next();
    let child = spawn(&mut driver.work(&place, seed))?;
    let pause = 50 + driver.random.below(500);
    driver.sleep(pause);
    let filler = mounted.point().join("filler");
    let result = (0..FILLS).try_for_each(|round| {
        let when = driver.enter(run, &format!("full disk, {kind}, round {round}"));
        fill(&filler);
        if !wait_still(driver, expected, 100) {
            return Err(format!("{when}: it goes on, so this shows nothing"));
        }
        std::fs::remove_file(&filler).map_err(|error| error.to_string())?;
        let before = expected.operation_count();
        if !wait(driver, || before + 50 < expected.operation_count()) {
            return Err(format!("{when}: it does not go on with space again"));
        }
        Ok(())
    });
    // If it has ended by itself, that says more.
    kill(child, &when)?;
    result?;
    driver.check(&place, &when)?;
    std::fs::remove_dir_all(&place.db).map_err(|error| error.to_string())
}

/// Writes to `path` until there is no more space.
fn fill(path: &Path) {
    let of = format!("of={}", path.display());
    // It ends with an error, as intended.
    drop(call("dd", &["if=/dev/zero", &of, "bs=16k"]));
}

/// Looks this many times, for 200 ms each, whether the program does nothing any more, until it is so.
fn wait_still(driver: &Driver, expected: Expected, looks: u32) -> bool {
    (0..looks).any(|_| {
        let before = expected.operation_count();
        driver.sleep(200);
        expected.operation_count() == before
    })
}

/// Waits up to ten seconds for a condition.
fn wait(driver: &Driver, is_so: impl Fn() -> bool) -> bool {
    for _ in 0..500 {
        if is_so() {
            return true;
        }
        driver.sleep(20);
    }
    false
}

/// Leaves the program too few descriptors, and gives them back: at its start, then while it runs.
pub(crate) fn few_descriptors(driver: &mut Driver) -> Result<Outcome> {
    let mut standstills = 0;
    for run in driver.numbers(driver.settings.runs) {
        driver.begin("", run, 1);
        let place = Place::new(&driver.scratch, run);
        let when = driver.enter(run, "few descriptors");
        let seed = driver.random.next();
        let child = spawn(&mut driver.work(&place, seed))?;
        let result = shortages(driver, run, &child, Expected::open(&place.expected)?);
        // If it has ended by itself, that says more.
        kill(child, &when)?;
        standstills += result?;
        driver.check(&place, &when)?;
    }
    let rounds = driver.settings.runs * SHORTAGES;
    Ok(Outcome::Passed(format!(
        "few descriptors and on again by itself {rounds} times, {standstills} of them after a standstill"
    )))
}

/// How often descriptors become few in a run.
const SHORTAGES: u64 = 4;

/// Returns how often the program came to a standstill.
fn shortages(driver: &mut Driver, run: u64, child: &Child, expected: Expected) -> Result<u64> {
    let mut standstills = 0;
    for round in 0..SHORTAGES {
        let count = match round {
            // The least with which it starts, or some more: not always can it open its database.
            0 => 4 + driver.random.below(16),
            // Nothing can be opened any more.
            1 => 0,
            _ => driver.random.below(24),
        };
        let when = driver.enter(run, &format!("{count} descriptors, round {round}"));
        let all = getrlimit(Resource::Nofile);
        limit_descriptors(child, Rlimit { current: Some(count), ..all }, &when)?;
        driver.sleep(200);
        // With none it must come to that, if slowly; with some it may go on for ever.
        let stands_still = wait_still(driver, expected, if count == 0 { 100 } else { 10 });
        if count == 0 && !stands_still {
            return Err(format!("{when}: it goes on, so this shows nothing"));
        }
        standstills += u64::from(stands_still);
        limit_descriptors(child, all, &when)?;
        let before = expected.operation_count();
        if !wait(driver, || before + 50 < expected.operation_count()) {
            return Err(format!("{when}: it does not go on with all of them again"));
        }
        let pause = driver.random.below(200);
        driver.sleep(pause);
    }
    Ok(standstills)
}

fn limit_descriptors(child: &Child, limit: Rlimit, when: &str) -> Result<()> {
    let set = prlimit(Some(pid_of(child, when)?), Resource::Nofile, limit);
    set.map(drop).map_err(|error| format!("{when}: cannot limit descriptors: {error}"))
}

//! The modes of the driver, and the one that needs only a process: kills at random.

use std::process::ExitCode;
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};

use crate::arguments::Arguments;
use crate::check::Checked;
use crate::driver::{Driver, Outcome, Place, kill};
use crate::expected::Expected;
use crate::{Result, block_log, control, failing_sync, outside, say};

/// The modes, and how many runs each has by default.
const MODES: [(&str, u64, Drive); 9] = [
    ("kill", 500, kills),
    ("syscall-kill", 60, outside::syscall_kills),
    ("power", 100, outside::power_cuts),
    ("block-log", 600, block_log::states),
    ("full-disk", 3, outside::full_disk),
    ("few-fds", 3, outside::few_descriptors),
    ("small-memory", 3, outside::small_memory),
    ("failing-sync", 20, failing_sync::failing_syncs),
    (CONTROL, 200, control::cuts),
];

/// Does not test the database, and so is not one of `all`.
const CONTROL: &str = "control";

type Drive = fn(&mut Driver) -> Result<Outcome>;

/// Runs `drive MODE`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mode = arguments.mode()?;
    let seed = arguments.number("seed", 1)?;
    let times = arguments.number("times", 1)?;
    let parent = arguments.path("dir").unwrap_or_else(|_| std::env::temp_dir());
    let mut is_known = false;
    for (name, runs, drive) in
        MODES.iter().filter(|(name, ..)| mode == *name || mode == "all" && *name != CONTROL)
    {
        is_known = true;
        let clock = SystemClock::new();
        let runs = arguments.number("runs", runs.saturating_mul(times))?;
        let mut driver = Driver::new(seed, runs, &parent)?;
        let outcome = drive(&mut driver).map_err(|what| {
            format!("{name}: {what}; repeat it with: esker-torture drive {name} --seed {seed}")
        })?;
        let Checked { keys, interrupted, took_place } = driver.totals;
        say(&match outcome {
            Outcome::Skipped(why) => format!("torture {name}: SKIPPED, not passed: {why}"),
            Outcome::Passed(what) => format!(
                "torture {name}: {what}; {keys} keys compared, {interrupted} writes interrupted, of \
                 which {took_place} had taken place; 0 violations; seed {seed}, {} s",
                clock.now().as_secs()
            ),
        });
    }
    if is_known { Ok(ExitCode::SUCCESS) } else { Err(format!("there is no mode {mode}")) }
}

/// A new database is made after this many kills.
const KILLS_PER_DATABASE: u64 = 50;

fn kills(driver: &mut Driver) -> Result<Outcome> {
    let mut operations = 0;
    for run in 0..driver.runs {
        let place = Place::new(&driver.scratch, run / KILLS_PER_DATABASE);
        let when = driver.enter(run, "kill -9");
        let before = Expected::open(&place.expected)?.operation_count();
        let seed = driver.random.next();
        let child = driver.work(&place, seed).spawn().map_err(|error| error.to_string())?;
        // From the middle of the recovery to long after it.
        let micros = if driver.random.one_in(4) { 6_000 } else { 90_000 };
        let pause = Duration::from_micros(driver.random.below(micros));
        driver.clock.sleep(pause);
        kill(child, &when)?;
        operations += Expected::open(&place.expected)?.operation_count() - before;
        driver.check(&place, &when)?;
    }
    driver.expect_some(operations, "no write was acknowledged")?;
    Ok(Outcome::Passed(format!("{} kills during {operations} acknowledged writes", driver.runs)))
}

//! The modes of the driver, and the one that needs only a process: kills at random.

use std::process::ExitCode;
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};

use crate::arguments::Arguments;
use crate::check::Checked;
use crate::driver::{Driver, Outcome, Place, Settings, kill};
use crate::expected::Expected;
use crate::{Result, block_log, control, failing_sync, outside, say, small_memory};

/// A mode.
struct Mode {
    name: &'static str,
    /// How many runs it has by default.
    runs: u64,
    drive: fn(&mut Driver) -> Result<Outcome>,
    /// The file systems of which it can try one alone.
    on: &'static [&'static str],
}

const MODES: [Mode; 9] = [
    Mode { name: "kill", runs: 500, drive: kills, on: &[] },
    Mode { name: "syscall-kill", runs: 60, drive: outside::syscall_kills, on: &[] },
    Mode { name: "power", runs: 100, drive: outside::power_cuts, on: &["ext4", "xfs"] },
    Mode { name: "block-log", runs: 600, drive: block_log::states, on: &["ext4", "xfs", "btrfs"] },
    Mode {
        name: "full-disk",
        runs: 3,
        drive: outside::full_disk,
        on: &["tmpfs", "ext2", "ext4", "xfs", "btrfs"],
    },
    Mode { name: "few-fds", runs: 3, drive: outside::few_descriptors, on: &[] },
    Mode { name: "small-memory", runs: 10, drive: small_memory::small_memory, on: &[] },
    Mode { name: "failing-sync", runs: 20, drive: failing_sync::failing_syncs, on: &[] },
    Mode { name: CONTROL, runs: 200, drive: control::cuts, on: &["ext4", "xfs"] },
];

/// Does not test the database, and so is not one of `all`.
const CONTROL: &str = "control";

/// Runs `drive MODE`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let name = arguments.mode()?;
    let is_chosen = |mode: &&Mode| name == mode.name || name == "all" && mode.name != CONTROL;
    let modes: Vec<&Mode> = MODES.iter().filter(is_chosen).collect();
    if modes.is_empty() {
        return Err(format!("there is no mode {name}"));
    }
    let on = arguments.text("on");
    if let Some(on) = on
        && let Some(mode) = modes.iter().find(|mode| !mode.on.contains(&on))
    {
        return Err(format!("{} cannot be tried on {on} alone", mode.name));
    }
    for mode in modes {
        let default = mode.runs.saturating_mul(arguments.number("times", 1)?);
        drive(
            mode,
            Settings {
                mode: mode.name,
                seed: arguments.number("seed", 1)?,
                first: arguments.number("first", 0)?,
                runs: arguments.number("runs", default)?,
                on: on.map(str::to_owned),
                dir: arguments.path("dir").ok(),
            },
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn drive(mode: &Mode, settings: Settings) -> Result<()> {
    let clock = SystemClock::new();
    let (name, seed) = (mode.name, settings.seed);
    let mut driver = Driver::new(settings)?;
    let outcome = (mode.drive)(&mut driver)
        .map_err(|what| format!("{name}: {what}; repeat it with: {}", driver.command()))?;
    let Checked { keys, interrupted, took_place } = driver.totals;
    say(&match outcome {
        Outcome::Skipped(why) => format!("torture {name}: SKIPPED, not passed: {why}"),
        Outcome::Passed(what) => format!(
            "torture {name}: {what}; {keys} keys compared, {interrupted} writes interrupted, of \
             which {took_place} had taken place; 0 violations; seed {seed}, {} s",
            clock.now().as_secs()
        ),
    });
    Ok(())
}

/// A new database is made after this many kills.
const KILLS_PER_DATABASE: u64 = 50;

fn kills(driver: &mut Driver) -> Result<Outcome> {
    let mut operations = 0;
    for run in driver.numbers(driver.settings.runs) {
        driver.begin("", run, KILLS_PER_DATABASE);
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
    Ok(Outcome::Passed(format!(
        "{} kills during {operations} acknowledged writes",
        driver.settings.runs
    )))
}

//! What all modes share: start the program, end it, and check what it left.

use std::ops::Range;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};
use rustix::process::Signal;

use crate::Result;
use crate::check::{Checked, check};
use crate::cleanup::Scratch;
use crate::expected::Expected;
use crate::random::Random;
use crate::watchdog::Watchdog;
use crate::work::STOPPED;

/// The result of a mode.
pub(crate) enum Outcome {
    /// It ran; a description of what it did.
    Passed(String),
    /// It cannot run here, and why.
    Skipped(String),
}

/// After this many runs, every mode has had some effect.
const RUNS_WITH_EFFECT: u64 = 10;

/// What is to be driven.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) mode: &'static str,
    pub(crate) seed: u64,
    /// The number of the first run.
    pub(crate) first: u64,
    pub(crate) runs: u64,
    /// The only file system to try; none for all that the mode has.
    pub(crate) on: Option<String>,
    /// Where the databases are; none for the system's place.
    pub(crate) dir: Option<PathBuf>,
}

/// One mode of one drive.
///
/// What is chosen in a run follows from the seed, the file system and the number of the run, and not
/// from the runs before it. So a failing run is repeated alone, or with those that had its database
/// before it.
pub(crate) struct Driver {
    pub(crate) settings: Settings,
    pub(crate) random: Random,
    pub(crate) clock: SystemClock,
    pub(crate) scratch: Scratch,
    pub(crate) totals: Checked,
    /// What repeats the run that was begun last; at first, and after the last run, all runs.
    repeating: Settings,
    watchdog: Watchdog,
    program: PathBuf,
}

impl Driver {
    /// A driver with a directory of its own.
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let parent = settings.dir.clone().unwrap_or_else(std::env::temp_dir);
        Ok(Self {
            random: Random::new(settings.seed),
            clock: SystemClock::new(),
            scratch: Scratch::new(&parent)?,
            totals: Checked::default(),
            repeating: settings.clone(),
            settings,
            watchdog: Watchdog::start(),
            program: std::env::current_exe().map_err(|error| error.to_string())?,
        })
    }

    /// Whether this file system is to be tried.
    pub(crate) fn is_on(&self, kind: &str) -> bool {
        self.settings.on.as_deref().is_none_or(|only| only == kind)
    }

    /// The numbers of so many runs.
    pub(crate) fn numbers(&self, runs: u64) -> Range<u64> {
        self.settings.first..self.settings.first + runs
    }

    /// Makes the choices those of a run; `on` is its file system, or empty. A database is used for
    /// so many runs: those whose numbers differ only in the remainder.
    pub(crate) fn begin(&mut self, on: &str, run: u64, runs_per_database: u64) {
        let since = (run - run % runs_per_database).max(self.settings.first);
        self.random = Random::of_run(self.settings.seed, on, run);
        self.repeat(on, since..run + 1);
    }

    /// Makes the choices those of runs that can only be repeated together.
    pub(crate) fn begin_together(&mut self, on: &str, runs: Range<u64>) {
        self.random = Random::of_run(self.settings.seed, on, runs.start);
        self.repeat(on, runs);
    }

    fn repeat(&mut self, on: &str, runs: Range<u64>) {
        self.repeating.on = Some(on.to_owned()).filter(|on| !on.is_empty());
        (self.repeating.first, self.repeating.runs) = (runs.start, runs.end - runs.start);
    }

    /// The command that repeats what was begun last.
    pub(crate) fn command(&self) -> String {
        let Settings { mode, seed, first, runs, on, dir } = &self.repeating;
        let on = on.as_ref().map(|on| format!(" --on {on}")).unwrap_or_default();
        let dir = dir.as_ref().map(|dir| format!(" --dir {}", dir.display())).unwrap_or_default();
        let run = format!("--seed {seed} --first {first} --runs {runs}");
        format!("cargo run -p xtask -- torture {mode} {run}{on}{dir}")
    }

    /// Names a part of a run, for the report of a hang or a failure.
    pub(crate) fn enter(&self, run: u64, what: &str) -> String {
        let when = format!("{what}, run {run} of seed {}", self.settings.seed);
        self.watchdog.enter(format!("{when}; repeat it with: {}", self.command()));
        when
    }

    /// The program, ready to start with a database and an expected state.
    pub(crate) fn work(&self, place: &Place, seed: u64) -> Command {
        self.work_under(Command::new(&self.program), place, seed)
    }

    /// Like [`Driver::work`], started by another program.
    pub(crate) fn work_below(&self, words: &[&str], place: &Place, seed: u64) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&self.program);
        self.work_under(command, place, seed)
    }

    /// The program, ready to start with another command.
    pub(crate) fn program(&self, command: &str) -> Command {
        let mut program = Command::new(&self.program);
        program.arg(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        program
    }

    fn work_under(&self, mut command: Command, place: &Place, seed: u64) -> Command {
        command.args(["work", "--seed", &seed.to_string(), "--db"]).arg(&place.db);
        command.arg("--expected").arg(&place.expected);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Compares the database with what it was promised.
    pub(crate) fn check(&mut self, place: &Place, when: &str) -> Result<()> {
        let expected = Expected::open(&place.expected)?;
        let seed = self.random.next();
        let checked = check(&place.db, expected, seed).map_err(|what| format!("{when}: {what}"))?;
        self.totals.keys += checked.keys;
        self.totals.interrupted += checked.interrupted;
        self.totals.took_place += checked.took_place;
        Ok(())
    }

    /// The runs are over. Fails if `count`, of what the mode is about, is 0 after so many that this
    /// is no accident.
    pub(crate) fn expect_some(&mut self, count: u64, what: &str) -> Result<()> {
        self.repeating = self.settings.clone();
        let runs = self.settings.runs;
        if count == 0 && RUNS_WITH_EFFECT <= runs {
            return Err(format!("{runs} runs, and {what}: this shows nothing"));
        }
        Ok(())
    }

    pub(crate) fn sleep(&self, millis: u64) {
        self.clock.sleep(Duration::from_millis(millis));
    }
}

/// The places of a database and its expected state.
pub(crate) struct Place {
    pub(crate) db: PathBuf,
    pub(crate) expected: PathBuf,
}

impl Place {
    pub(crate) fn new(scratch: &Scratch, number: u64) -> Self {
        let db = scratch.path(&format!("db{number}"));
        Self { db, expected: scratch.path(&format!("expected{number}")) }
    }
}

/// How the program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It did all that it had to do.
    Finished,
    /// By itself, with the status [`STOPPED`].
    Stopped,
    /// By SIGKILL.
    Killed,
    /// By SIGBUS: what a write through a mapping gets from a file system that is shut down.
    Faulted,
}

impl End {
    /// None if it was neither of these: an error, a panic, or another signal.
    fn of(status: ExitStatus) -> Option<Self> {
        // strace above it may report a signal as 128 plus its number.
        const SIGBUS: i32 = Signal::BUS.as_raw();
        const SIGKILL: i32 = Signal::KILL.as_raw();
        const KILLED: i32 = 128 + SIGKILL;
        const STOPPED_BY_ITSELF: i32 = STOPPED as i32;
        match (status.code(), status.signal()) {
            (Some(0), _) => Some(Self::Finished),
            (Some(STOPPED_BY_ITSELF), _) => Some(Self::Stopped),
            (Some(KILLED), _) | (None, Some(SIGKILL)) => Some(Self::Killed),
            (None, Some(SIGBUS)) => Some(Self::Faulted),
            _ => None,
        }
    }
}

/// Ends the program. If it has ended before, by itself, that is a failure.
pub(crate) fn kill(child: Child, when: &str) -> Result<()> {
    kill_unless_ended(child, when, &[])
}

/// Ends the program, if it has not ended yet in one of the ways of `allowed`. Any other end is a
/// failure.
pub(crate) fn kill_unless_ended(mut child: Child, when: &str, allowed: &[End]) -> Result<()> {
    child.kill().map_err(|error| format!("{when}: {error}"))?;
    expect_end(child, when, &[&[End::Killed], allowed].concat()).map(drop)
}

/// Waits for the program, and returns which of `allowed` its end was; any other is a failure.
pub(crate) fn expect_end(child: Child, when: &str, allowed: &[End]) -> Result<End> {
    let output = child.wait_with_output().map_err(|error| format!("{when}: {error}"))?;
    if let Some(end) = End::of(output.status).filter(|end| allowed.contains(end)) {
        return Ok(end);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{when}: the program ended with {}: {said}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_repeats_the_run_and_those_before_it_with_its_database() {
        let settings = Settings {
            mode: "kill",
            seed: 9,
            first: 0,
            runs: 500,
            on: None,
            dir: Some(std::env::temp_dir()),
        };
        let mut driver = Driver::new(settings).unwrap();
        let command = |driver: &Driver| {
            let command = driver.command();
            let (command, _dir) = command.split_once(" --dir ").unwrap();
            command.strip_prefix("cargo run -p xtask -- torture ").unwrap().to_owned()
        };
        assert_eq!(command(&driver), "kill --seed 9 --first 0 --runs 500");
        driver.begin("", 137, 50);
        let choice = driver.random.next();
        assert_eq!(command(&driver), "kill --seed 9 --first 100 --runs 38");
        driver.begin("", 138, 1);
        assert_eq!(command(&driver), "kill --seed 9 --first 138 --runs 1");
        driver.begin_together("xfs", 25..50);
        assert_eq!(command(&driver), "kill --seed 9 --first 25 --runs 25 --on xfs");
        driver.settings.first = 120;
        driver.begin("", 137, 50);
        assert_eq!(command(&driver), "kill --seed 9 --first 120 --runs 18");
        assert_eq!(driver.random.next(), choice, "whichever came first");
        assert!(driver.expect_some(0, "nothing").is_err());
        assert_eq!(command(&driver), "kill --seed 9 --first 120 --runs 500");
    }

    #[test]
    fn an_abort_or_an_error_is_none_of_the_known_ends() {
        let of = |wait_status| End::of(ExitStatus::from_raw(wait_status));
        assert_eq!(of(0), Some(End::Finished));
        assert_eq!(of(3 << 8), Some(End::Stopped));
        assert_eq!(of(9), Some(End::Killed));
        assert_eq!(of(137 << 8), Some(End::Killed));
        assert_eq!(of(7), Some(End::Faulted));
        // An error, a panic, SIGABRT, SIGSEGV, and SIGABRT as strace reports it.
        assert_eq!([1 << 8, 101 << 8, 6, 11, 134 << 8].map(of), [None; 5]);
    }
}

//! What all modes share: start the program, end it, and check what it left.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};

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

/// One mode of one drive.
pub(crate) struct Driver {
    pub(crate) seed: u64,
    pub(crate) runs: u64,
    pub(crate) random: Random,
    pub(crate) clock: SystemClock,
    pub(crate) scratch: Scratch,
    pub(crate) totals: Checked,
    watchdog: Watchdog,
    program: PathBuf,
}

impl Driver {
    /// A driver with a directory of its own in `parent`.
    pub(crate) fn new(seed: u64, runs: u64, parent: &Path) -> Result<Self> {
        Ok(Self {
            seed,
            runs,
            random: Random::new(seed),
            clock: SystemClock::new(),
            scratch: Scratch::new(parent)?,
            totals: Checked::default(),
            watchdog: Watchdog::start(),
            program: std::env::current_exe().map_err(|error| error.to_string())?,
        })
    }

    /// Begins a run, and returns the name under which a hang or a failure is reported.
    pub(crate) fn enter(&self, run: u64, what: &str) -> String {
        let when = format!("{what}, run {run} of seed {}", self.seed);
        self.watchdog.enter(when.clone());
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

/// Ends the program, and checks that it did not fail by itself before.
pub(crate) fn kill(mut child: Child, when: &str) -> Result<()> {
    child.kill().map_err(|error| format!("{when}: {error}"))?;
    expect_end(child, when).map(drop)
}

/// Waits for the program; any end but its own, a kill or a stop is a failure.
pub(crate) fn expect_end(child: Child, when: &str) -> Result<ExitStatus> {
    let output = child.wait_with_output().map_err(|error| format!("{when}: {error}"))?;
    let status = output.status;
    let is_expected = match status.code() {
        None => true,
        // A shell or strace above it reports a signal as 128 plus its number.
        Some(code) => [0, i32::from(STOPPED), 137].contains(&code),
    };
    if is_expected {
        return Ok(status);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{when}: the program ended with {status}: {said}"))
}

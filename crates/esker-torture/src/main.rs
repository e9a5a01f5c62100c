//! `esker-torture`: a program that uses Esker hard, and a driver that treats it badly.
//!
//! `work` opens a database and writes to it from several threads; what it was promised is kept in a
//! file mapped into memory, which outlives the process. `drive MODE` starts `work` again and again,
//! ends it as the mode says, and checks each time that the database holds exactly what the file
//! says. `fuzz` feeds the decoders. A failure prints the seed. `docs/TESTING.md` has the commands.
//!
//! Does not know how the engine works: it uses only the public crate.

mod arguments;
mod block_device;
mod block_log;
mod check;
mod cleanup;
mod control;
mod disk;
mod drive;
mod driver;
mod expected;
mod failing_sync;
mod fuzzing;
mod layout;
mod outside;
mod random;
mod sys;
mod watchdog;
mod work;

use std::io::Write as _;
use std::process::ExitCode;

use arguments::Arguments;

const USAGE: &str = "\
usage: esker-torture drive MODE --seed S [--runs N | --times N] [--dir DIR]
       MODE: kill, syscall-kill, power, block-log, full-disk, few-fds, small-memory,
             failing-sync, all;
             control, which is not among all
       esker-torture work --db DIR --expected FILE --seed S [--power] [--operations N]
                          [--open-once] [--marks FILE]
       esker-torture check --db DIR --expected FILE
       esker-torture control --db DIR --expected FILE
       esker-torture fuzz [TARGET] --seed S [--millis N] [--times N] [--corpus DIR [--write]]
       esker-torture fuzz TARGET --input FILE";

/// What went wrong, as a sentence.
pub(crate) type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments = Arguments::of_process();
    let result = match arguments.command() {
        Some("drive") => drive::run(&arguments),
        Some("work") => work::run(&arguments),
        Some("check") => check::run(&arguments),
        Some("control") => control::run(&arguments),
        Some("fuzz") => fuzzing::run(&arguments),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(code) => code,
        Err(what) => {
            say(&format!("FAILED: {what}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line. Nobody reads a closed pipe.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

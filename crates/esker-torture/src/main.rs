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
#[path = "../../esker/tests/it/shrink/leave_out.rs"]
mod leave_out;
mod outside;
mod random;
mod small_memory;
mod sys;
mod watchdog;
mod work;

use std::io::Write as _;
use std::process::ExitCode;

use arguments::{Arguments, Known};

const USAGE: &str = "\
usage: esker-torture drive MODE [--seed S] [--first R] [--runs N | --times N] [--on KIND] [--dir DIR]
       MODE: kill, syscall-kill, power, block-log, full-disk, few-fds, small-memory,
             failing-sync, all;
             control, which is not among all
       KIND: tmpfs, ext2, ext4, xfs, btrfs
       esker-torture work --db DIR --expected FILE [--seed S] [--power] [--operations N]
                          [--memory BYTES] [--open-once] [--marks FILE]
       esker-torture check --db DIR --expected FILE [--seed S]
       esker-torture control --db DIR --expected FILE
       esker-torture fuzz [TARGET] [--seed S] [--millis N] [--times N] [--corpus DIR [--write]]
       esker-torture fuzz TARGET --input FILE";

/// A command, what it knows, and what runs it.
type Command = (&'static str, Known, fn(&Arguments) -> Result<ExitCode>);

const COMMANDS: [Command; 5] = [
    (
        "drive",
        Known {
            word_count_max: 1,
            values: &["seed", "first", "runs", "times", "on", "dir"],
            flags: &[],
        },
        drive::run,
    ),
    (
        "work",
        Known {
            word_count_max: 0,
            values: &["db", "expected", "seed", "operations", "memory", "marks"],
            flags: &["power", "open-once"],
        },
        work::run,
    ),
    (
        "check",
        Known { word_count_max: 0, values: &["db", "expected", "seed"], flags: &[] },
        check::run,
    ),
    ("control", Known { word_count_max: 0, values: &["db", "expected"], flags: &[] }, control::run),
    (
        "fuzz",
        Known {
            word_count_max: 1,
            values: &["seed", "millis", "times", "corpus", "input"],
            flags: &["write"],
        },
        fuzzing::run,
    ),
];

/// What went wrong, as a sentence.
pub(crate) type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let result = match COMMANDS.iter().find(|(command, ..)| *command == name) {
        Some((_, known, run)) => match Arguments::new(*known, words) {
            Ok(arguments) => run(&arguments),
            Err(what) => Err(format!("{what}\n{USAGE}")),
        },
        None => Err(USAGE.to_owned()),
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

#[test]
fn the_usage_names_every_option() {
    for (name, known, _) in COMMANDS {
        for option in [known.values, known.flags].concat() {
            assert!(USAGE.contains(&format!("--{option}")), "{name} --{option}");
        }
    }
}

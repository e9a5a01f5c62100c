//! `esker shell`: commands from a person or from a pipe.
//!
//! A person gets a prompt, history and completion; for a pipe only results are printed. The results
//! are the same. A command that fails prints a line to standard error, and the shell continues; at
//! the end, its exit status says that one failed, and whether due to damage. Once nobody reads the
//! results it runs nothing more, and fails: what is not run may be writes.

mod command;
mod editor;
mod session;
mod words;

use std::io::{self, BufRead, IsTerminal, Write};

use esker::{Db, Keyspace, KeyspaceOptions};

use crate::arguments::Shell;
use crate::failure::{Failure, Result};
use crate::open;
use crate::prefix_filter::PrefixFilter;
use command::Command;
use session::Session;

/// Runs the shell until its input ends.
pub(crate) fn run(arguments: &Shell, out: &mut dyn Write) -> Result<()> {
    let (db, keyspace) = open_database(arguments)?;
    let mut session = Session::new(db, keyspace);
    let input = if io::stdin().is_terminal() {
        editor::converse(&mut session, out)
    } else {
        read_lines(&mut session, io::stdin().lock(), out, &mut io::stderr())
    };
    // The database is closed in order even if nobody reads our output any more.
    let failed = session.take_failure();
    let closed = session.close();
    let ended = match closed {
        Err(damaged) if damaged.is_damage() => Err(damaged),
        closed => input.and(closed),
    };
    outcome(failed, ended)
}

/// The result of the shell, from the failure of its commands and the way it ended.
fn outcome(failed: Option<Failure>, ended: Result<()>) -> Result<()> {
    let ended = ended.map_err(|failure| match failure.is_broken_pipe() {
        // Commands left in a pipe may be writes.
        true => Failure::other(
            "nobody reads the output any more, and the commands that follow were not run",
        ),
        false => failure,
    });
    match (failed, ended) {
        (Some(failed), Ok(())) => Err(failed),
        (Some(failed), Err(ended)) if failed.is_damage() => {
            Err(Failure::Damaged(ended.to_string()))
        }
        (_, ended) => ended,
    }
}

fn open_database(arguments: &Shell) -> Result<(Db, Keyspace)> {
    let name = arguments.target.keyspace.as_deref();
    if arguments.read_only {
        let db = open::read_only(&arguments.target.place)?;
        let keyspace = open::keyspace(&db, name)?;
        return Ok((db, keyspace));
    }
    let db = open::or_create(&arguments.target.place)?;
    let keyspace = open::keyspace_or_create(&db, name, arguments.order)?;
    let changed = changed_options(arguments, keyspace.options());
    let keyspace = match changed {
        Some(options) => db.keyspace(&keyspace.name(), options)?,
        None => keyspace,
    };
    Ok((db, keyspace))
}

/// The options requested by the arguments, if they differ from those in force.
fn changed_options(arguments: &Shell, in_force: KeyspaceOptions) -> Option<KeyspaceOptions> {
    let mut options = in_force.clone();
    if let Some(compaction) = arguments.compaction {
        options.compaction = compaction.policy();
    }
    if let Some(bytes) = arguments.memtable_bytes {
        options.memtable_bytes = bytes;
    }
    if let Some(merge) = &arguments.merge_operator {
        options.merge_operator = Some(merge.clone());
    }
    if let Some(PrefixFilter(prefix_filter)) = arguments.prefix_filter {
        options.prefix_filter = prefix_filter;
    }
    (options != in_force).then_some(options)
}

/// Runs one command per line until the input ends or a command ends it.
fn read_lines(
    session: &mut Session,
    mut input: impl BufRead,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        let count = read.map_err(|error| Failure::other(format!("cannot read input: {error}")))?;
        if count == 0 || !run_line(session, &line, out, errors)? {
            return Ok(());
        }
    }
}

/// Runs one line. Returns false if it asks to leave.
///
/// # Errors
/// Only if nothing can be printed; a failed command is printed and recorded.
fn run_line(
    session: &mut Session,
    line: &[u8],
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<bool> {
    let result = match Command::parse(line) {
        Ok(None) => return Ok(true),
        Ok(Some(Command::Quit)) => return Ok(false),
        Ok(Some(command)) => session.execute(&command, out),
        Err(what) => Err(Failure::other(what)),
    };
    // Whoever reads the results from a pipe waits for each.
    let flushed = out.flush();
    match result {
        Ok(()) => {}
        Err(Failure::Output(error)) => return Err(error.into()),
        Err(failure) => {
            session.note_failure(&failure);
            writeln!(errors, "{}", failure.line().unwrap_or_default())?;
        }
    }
    flushed?;
    Ok(true)
}

#[cfg(test)]
mod tests;

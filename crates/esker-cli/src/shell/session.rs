//! Executes the commands of a shell on one keyspace.

use std::io::Write;
use std::ops::Bound;

use esker::{Db, Keyspace, Scan};

use super::command::{Command, HELP};
use crate::arguments::Form;
use crate::failure::Result;
use crate::output::Printer;
use crate::report;
use crate::text::write_shown;

/// Keys that `fill` commits together.
const FILL_BATCH_COUNT: u64 = 1_000;

/// A database that is open, and what the shell has done with it.
pub(super) struct Session {
    db: Db,
    keyspace: Keyspace,
    /// Commands that succeeded so far: `fill` marks its values with it.
    succeeded: u64,
    has_failed: bool,
}

impl Session {
    pub(super) fn new(db: Db, keyspace: Keyspace) -> Self {
        Self { db, keyspace, succeeded: 0, has_failed: false }
    }

    /// The keyspace that commands work on.
    pub(super) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// Notes that a command failed.
    pub(super) fn note_failure(&mut self) {
        self.has_failed = true;
    }

    /// Whether a command failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Closes the database.
    pub(super) fn close(self) -> Result<()> {
        Ok(self.db.close()?)
    }

    /// Executes a command and prints its result.
    pub(super) fn execute(&mut self, command: &Command, out: &mut dyn Write) -> Result<()> {
        match command {
            Command::Put(key, value) => {
                self.keyspace.put(key, value)?;
                writeln!(out, "ok")?;
            }
            Command::Get(key) => self.get(key, out)?,
            Command::Delete(key) => {
                self.keyspace.delete(key)?;
                writeln!(out, "ok")?;
            }
            Command::Scan(None) => print_all(self.keyspace.iter(), out)?,
            Command::Scan(Some((first, last))) => {
                let range = (Bound::Included(first), Bound::Included(last));
                print_all(self.keyspace.scan::<&Vec<u8>>(range), out)?;
            }
            Command::Prefix(prefix) => print_all(self.keyspace.prefix(prefix), out)?,
            Command::Fill(first, last) => self.fill(*first, *last, out)?,
            Command::Flush => {
                self.keyspace.flush()?;
                writeln!(out, "ok")?;
            }
            Command::Compact => {
                self.keyspace.compact::<&[u8]>(..)?;
                writeln!(out, "ok")?;
            }
            Command::Levels => report::levels(&self.keyspace, out)?,
            Command::Stats => report::stats(&self.db, out)?,
            Command::Explain(key) => write!(out, "{}", self.keyspace.explain_get(key)?)?,
            Command::Sync => {
                self.db.sync()?;
                writeln!(out, "ok")?;
            }
            Command::Help => help(out)?,
            Command::Quit => {}
        }
        self.succeeded += 1;
        Ok(())
    }

    fn get(&self, key: &[u8], out: &mut dyn Write) -> Result<()> {
        match self.keyspace.get(key)? {
            Some(value) => Printer::new(out, Form::default()).entry(key, &value),
            None => {
                write_shown(out, key)?;
                writeln!(out, " not found")?;
                Ok(())
            }
        }
    }

    fn fill(&self, first: u64, last: u64, out: &mut dyn Write) -> Result<()> {
        let epoch = self.succeeded;
        let mut count = 0_u64;
        let mut next = Some(first);
        while let Some(start) = next.filter(|start| *start <= last) {
            let end = last.min(start.saturating_add(FILL_BATCH_COUNT - 1));
            let mut batch = self.db.batch();
            for number in start..=end {
                let value = format!("value{number}@{epoch}");
                batch.put(&self.keyspace, number.to_string(), value);
            }
            batch.commit()?;
            count += end - start + 1;
            next = end.checked_add(1);
        }
        writeln!(out, "filled {count} keys at epoch {epoch}")?;
        Ok(())
    }
}

fn print_all(entries: Scan, out: &mut dyn Write) -> Result<()> {
    let mut printer = Printer::new(out, Form::default());
    let mut count = 0_u64;
    for entry in entries {
        let (key, value) = entry?;
        printer.entry(&key, &value)?;
        count += 1;
    }
    writeln!(out, "{count} keys")?;
    Ok(())
}

fn help(out: &mut dyn Write) -> Result<()> {
    for (form, meaning) in HELP {
        writeln!(out, "{form:12} {meaning}")?;
    }
    writeln!(
        out,
        "Words are split as a shell splits them; \\xNN stands for a byte; # starts a comment."
    )?;
    Ok(())
}

//! Executes the commands of a shell on one keyspace.

use std::io::Write;
use std::ops::Bound;

use esker::operators::{AddI64, AddU64};
use esker::{Db, Keyspace, Merge, MergeOperator, Scan};

use super::command::{Command, HELP};
use crate::arguments::Form;
use crate::failure::{Failure, Result};
use crate::open;
use crate::output::Printer;
use crate::report;
use crate::text::{shown, write_shown};

/// Keys that `fill` commits together.
const FILL_BATCH_COUNT: u64 = 1_000;

/// An open database, and what the shell has done with it.
pub(super) struct Session {
    db: Db,
    keyspace: Keyspace,
    /// Commands that succeeded so far: `fill` marks its values with this number.
    succeeded: u64,
    /// The overall failure, once a command has failed.
    failed: Option<Failure>,
}

impl Session {
    pub(super) fn new(db: Db, keyspace: Keyspace) -> Self {
        Self { db, keyspace, succeeded: 0, failed: None }
    }

    /// The keyspace that commands work on.
    pub(super) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// Records that a command failed, which has been printed. Damage takes precedence.
    pub(super) fn note_failure(&mut self, failure: &Failure) {
        if failure.is_damage() {
            self.failed = Some(Failure::SaidDamaged);
        } else {
            self.failed.get_or_insert(Failure::Said);
        }
    }

    /// The failure with which the shell ends, if a command failed.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.failed.take()
    }

    /// Closes the database.
    pub(super) fn close(self) -> Result<()> {
        open::close(self.db, "what was answered with ok is stored")
    }

    /// Executes a command and prints its result.
    pub(super) fn execute(&mut self, command: &Command, out: &mut dyn Write) -> Result<()> {
        match command {
            Command::Put(key, value) => {
                self.keyspace.put(key, value)?;
                writeln!(out, "ok")?;
            }
            Command::PutFor(key, value, ttl) => {
                self.keyspace.put_with_ttl(key, value, *ttl)?;
                writeln!(out, "ok")?;
            }
            Command::Ttl(key) => self.ttl(key, out)?,
            Command::Get(key) => self.get(key, out)?,
            Command::Delete(key) => {
                self.keyspace.delete(key)?;
                writeln!(out, "ok")?;
            }
            Command::SingleDelete(key) => {
                self.keyspace.single_delete(key)?;
                writeln!(out, "ok")?;
            }
            Command::DeleteRange(first, end) => {
                self.keyspace.delete_range::<&[u8]>(&**first..&**end)?;
                writeln!(out, "ok")?;
            }
            Command::Merge(key, operand) => {
                self.keyspace.merge(key, self.operand(operand)?)?;
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

    /// The operand for a word: counters take decimal numbers.
    fn operand(&self, word: &[u8]) -> Result<Vec<u8>> {
        let options = self.keyspace.options();
        let name = options.merge_operator.as_ref().map(Merge::name);
        let text = String::from_utf8_lossy(word);
        let number = match name {
            Some(name) if name == AddU64.name() => text.parse().ok().map(AddU64::encode),
            Some(name) if name == AddI64.name() => text.parse().ok().map(AddI64::encode),
            _ => return Ok(word.to_vec()),
        };
        match number {
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(Failure::other(format!("'{}' is not a number to add", shown(word)))),
        }
    }

    fn ttl(&self, key: &[u8], out: &mut dyn Write) -> Result<()> {
        let explained = self.keyspace.explain_get(key)?;
        write_shown(out, key)?;
        match (explained.value_len, explained.expires_in) {
            (None, _) => writeln!(out, " not found")?,
            (Some(_), None) => writeln!(out, " does not expire")?,
            (Some(_), Some(rest)) => writeln!(out, " expires in {:.1} s", rest.as_secs_f64())?,
        }
        Ok(())
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
    let width = HELP.iter().map(|(form, _)| form.len()).max().unwrap_or(0);
    for (form, meaning) in HELP {
        writeln!(out, "{form:width$} {meaning}")?;
    }
    writeln!(
        out,
        "Words are split as a shell splits them; \\xNN stands for a byte; # starts a comment."
    )?;
    Ok(())
}

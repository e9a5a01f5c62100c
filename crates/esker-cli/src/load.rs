//! `esker load`: many records from a file into a keyspace.
//!
//! Records are stored in batches, or through a bulk loader. An error in the input names the line,
//! and how many records before it are stored; those stay.

mod debian;
mod input;
mod jsonl;
mod record;
mod tsv;

use std::io::{BufRead, Write};

use esker::limits::KEY_LEN_MAX;
use esker::{BulkLoader, Db, Durability, Keyspace, Outcome};
use indicatif::ProgressBar;

use crate::arguments::{Format, Load};
use crate::failure::{Failure, Result};
use crate::open;
use crate::text::{grouped, size};
use record::{ReadError, Record, Records};

/// Records committed together, unless their bytes end the batch earlier.
const BATCH_COUNT_MAX: usize = 1_000;
/// Bytes of keys and values after which a batch is committed.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Runs the command.
pub(crate) fn run(arguments: &Load, out: &mut dyn Write) -> Result<()> {
    if arguments.key_field.is_some() && arguments.format != Format::Jsonl {
        return Err(Failure::other("--key-field is for --format jsonl"));
    }
    let progress = input::progress(&arguments.from)?;
    let input = input::open(&arguments.from, &progress)?;
    let mut records = records(arguments, input);
    let db = open::or_create(&arguments.target.place)?;
    let name = arguments.target.keyspace.as_deref();
    let keyspace = open::keyspace_or_create(&db, name, arguments.order)?;
    let name = input::name(&arguments.from);
    let totals = if arguments.bulk {
        let mut bulk = Bulk(db.bulk_loader(&keyspace)?);
        let totals = store(&mut *records, &mut bulk, &name, &progress)?;
        bulk.0.finish().map_err(not_loaded)?;
        totals
    } else {
        store(&mut *records, &mut Batches::new(&db, &keyspace), &name, &progress)?
    };
    db.sync().map_err(|error| {
        Failure::worded(&error, format!("{error} ({})", unknown(totals.records)))
    })?;
    let seconds = progress.elapsed().as_secs_f64();
    progress.finish_and_clear();
    writeln!(out, "{}", totals.summary(seconds))?;
    open::close(db, "every record is stored")
}

/// A bulk load that did not finish.
fn not_loaded(error: esker::Error) -> Failure {
    match error.outcome() {
        Outcome::NotDone => Failure::worded(&error, format!("{error} ({NOTHING_STAYS})")),
        // The error says how to find out.
        Outcome::Unknown => error.into(),
    }
}

const NOTHING_STAYS: &str = "no record is stored";

fn all_stay(count: u64) -> String {
    format!("{} records before it are stored", grouped(count))
}

/// The message about written records if the log cannot be made durable.
fn unknown(count: u64) -> String {
    format!("{} records were written, and a scan tells how many of them stay", grouped(count))
}

fn records<'a>(arguments: &Load, input: Box<dyn BufRead + 'a>) -> Box<dyn Records + 'a> {
    match arguments.format {
        Format::Tsv => Box::new(tsv::Tsv::new(input)),
        Format::Jsonl => Box::new(jsonl::Jsonl::new(input, arguments.key_field.clone())),
        Format::DebianPackages => Box::new(debian::DebianPackages::new(input)),
    }
}

/// Where records go.
trait Sink {
    /// Stores records, all or none.
    fn store(&mut self, records: &[Record]) -> std::result::Result<(), esker::Error>;

    /// Which of the `count` stored records stay, if the load ends before the next one.
    fn what_stays(&self, count: u64) -> String;
}

/// Passes every record to a bulk loader.
struct Bulk(BulkLoader);

impl Sink for Bulk {
    fn store(&mut self, records: &[Record]) -> std::result::Result<(), esker::Error> {
        records.iter().try_for_each(|record| self.0.put(&record.key, &record.value))
    }

    fn what_stays(&self, _count: u64) -> String {
        NOTHING_STAYS.to_owned()
    }
}

/// Stores batches of records as batches of a keyspace.
struct Batches<'a> {
    db: &'a Db,
    keyspace: &'a Keyspace,
}

impl<'a> Batches<'a> {
    fn new(db: &'a Db, keyspace: &'a Keyspace) -> Self {
        Self { db, keyspace }
    }
}

impl Sink for Batches<'_> {
    fn store(&mut self, records: &[Record]) -> std::result::Result<(), esker::Error> {
        let mut batch = self.db.batch();
        for record in records {
            batch.put(self.keyspace, &record.key, &record.value);
        }
        // The sync at the end of the load covers all of them.
        batch.commit_with(Durability::Buffered)
    }

    fn what_stays(&self, count: u64) -> String {
        // Until then they may be only in the memory of this process.
        match self.db.sync() {
            Ok(()) => all_stay(count),
            Err(_) => unknown(count),
        }
    }
}

/// What was loaded.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Totals {
    records: u64,
    bytes: u64,
}

impl Totals {
    fn summary(self, seconds: f64) -> String {
        let rate = self.records as f64 / seconds.max(0.001);
        format!(
            "loaded {} records, {} of keys and values, in {seconds:.1} s: {} records a second",
            grouped(self.records),
            size(self.bytes),
            grouped(rate as u64)
        )
    }
}

fn store(
    records: &mut dyn Records,
    sink: &mut dyn Sink,
    name: &str,
    progress: &ProgressBar,
) -> Result<Totals> {
    let mut totals = Totals::default();
    let mut batch = Vec::with_capacity(BATCH_COUNT_MAX);
    let mut batch_bytes = 0;
    loop {
        let record = records.next_record().and_then(within_limits);
        let ends = !matches!(record, Ok(Some(_)));
        if ends || BATCH_COUNT_MAX <= batch.len() || BATCH_BYTES_MAX <= batch_bytes {
            if let Some(Record { line, .. }) = batch.first()
                && let Err(error) = sink.store(&batch)
            {
                let stays = sink.what_stays(totals.records);
                let what = format!("{name}: from line {line} on: not stored: {error} ({stays})");
                return Err(Failure::worded(&error, what));
            }
            totals.records += batch.len() as u64;
            totals.bytes += batch_bytes as u64;
            batch.clear();
            batch_bytes = 0;
            report(progress, &totals);
        }
        match record {
            Ok(Some(record)) => {
                batch_bytes += record.key.len() + record.value.len();
                batch.push(record);
            }
            Ok(None) => return Ok(totals),
            Err(error) => {
                let stays = sink.what_stays(totals.records);
                return Err(Failure::other(format!("{name}: {error} ({stays})")));
            }
        }
    }
}

/// Refuses a key that no database accepts here, where its line is known. No input has a value that
/// none accepts: [`record::LINE_LEN_MAX`].
fn within_limits(record: Option<Record>) -> std::result::Result<Option<Record>, ReadError> {
    match record {
        Some(Record { key, line, .. }) if KEY_LEN_MAX < key.len() => {
            let len = key.len();
            let what = format!("the key has {len} bytes, and at most {KEY_LEN_MAX} are allowed");
            Err(ReadError::Line { line, what })
        }
        record => Ok(record),
    }
}

fn report(progress: &ProgressBar, totals: &Totals) {
    let seconds = progress.elapsed().as_secs_f64().max(0.001);
    let rate = (totals.records as f64 / seconds) as u64;
    progress.set_message(format!(
        "{} records, {} a second",
        grouped(totals.records),
        grouped(rate)
    ));
}

#[cfg(test)]
mod tests;

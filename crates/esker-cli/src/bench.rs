//! `esker bench`: measures a database with the customary workloads of db_bench.
//!
//! Each benchmark of the list runs on what the previous ones left; those that fill start with an
//! empty database. Keys are hashes of an index (`keys`), or ascend evenly for `fillseq`; values are
//! slices of a pool (`values`). Both are functions of the index, so reads can be checked; one in a
//! thousand is.
//!
//! A row shows: the rate while the benchmark ran; the rate until background work had settled;
//! latencies of single operations; processor time of the whole process until settled, per
//! operation; bytes handed to the system until settled, per byte of keys and values; the peak of
//! resident memory during the benchmark; the size on disk after it.
//!
//! It uses only the public API of the engine, like any other program.

mod arguments;
mod keys;
mod latencies;
mod process;
mod random;
mod reading;
mod reads;
mod report;
mod scans;
mod session;
#[cfg(test)]
mod tests;
mod values;
mod whole;
mod work;
mod writes;

use std::io::Write;

pub(crate) use arguments::BenchArguments;

use crate::failure::{Failure, Result};

use report::Printer;
use session::Session;

/// `esker bench`.
pub(crate) fn run(arguments: &BenchArguments, out: &mut dyn Write) -> Result<()> {
    arguments.check().map_err(Failure::other)?;
    let mut session = Session::start(arguments)?;
    let mut printer = Printer::new(out, arguments);
    printer.head()?;
    for benchmark in &arguments.benchmarks {
        let row = session.run(*benchmark)?;
        printer.row(&row)?;
    }
    session.end()
}

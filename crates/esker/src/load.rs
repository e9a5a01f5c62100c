//! Ingestion and bulk loads: tables written outside the commit path join the tree as they are.
//!
//! These entries bypass log and memtables. Knows nothing of what background work later does with
//! the tables.

mod adopt_tables;
pub(crate) mod bulk_loader;
pub(crate) mod ingest;
mod sort_buffer;
mod spilled_runs;
mod table_sequence;
pub(crate) mod table_writer;

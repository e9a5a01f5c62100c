//! Tables that come ready: written outside, or on the side, and taken over as they are.
//!
//! What is taken here passes neither log nor memtables. Knows nothing of what background work does
//! with the tables from then on.

mod adopt_tables;
pub(crate) mod bulk_loader;
pub(crate) mod ingest;
mod sort_buffer;
mod spilled_runs;
mod table_sequence;
pub(crate) mod table_writer;

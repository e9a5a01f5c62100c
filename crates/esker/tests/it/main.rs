//! Tests of the whole engine through its public API.
//!
//! Shared by several of them: `random` (choices repeatable by seed), `state` (what a database
//! should hold), `journal` (what it has promised), `workload` (what is done to it), `reading` (what
//! it holds), `outside` (external tables), `recovered` (the laws of recovery), `referenced` (which
//! files may be there), `tally` (how much was run), `shrink` (shorter failures), `watchdog`
//! (hangs).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod random;
mod state;
mod watchdog;

mod directory;
mod files;
mod journal;
mod outside;
mod reading;
mod recovered;
mod referenced;
mod sample;
mod shrink;
mod tally;
mod temp_dir;
mod workload;

mod ages;
mod basics;
mod batches;
mod baton;
mod blobs;
mod budget;
mod bulk_load;
mod by_hand;
mod crash;
mod damage;
mod deletes;
mod doctor;
mod dropped_midway;
mod endings;
mod errors;
mod expectations;
mod extremes;
mod failing_reads;
mod faults;
mod figures;
mod golden;
mod held_tables;
mod hot_trees;
mod ingest;
mod io_limit;
mod kill;
mod kinds;
mod last_handle;
mod leftovers;
mod log_compression;
mod manifest_limits;
mod migration;
mod mixtures;
mod model;
mod on_demand;
mod one_moment;
mod orders;
mod parts;
mod policies;
mod prefixes;
mod ranges;
mod retries;
mod searches;
mod segments;
mod small_tables;
mod syncing;
mod ttl;
mod warm_cache;

/// What other policies would cost.
mod what_if;

mod write_order;

#[cfg(feature = "zstd")]
mod zstandard;

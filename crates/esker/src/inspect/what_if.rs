//! What other compaction policies would cost: the recorded past of a keyspace, replayed.
//!
//! Finds the past, hands it to the replay of the floor below, and says what came out in the words of
//! the options. Changes nothing, and reads no table.

use std::fmt;
use std::time::Duration;

use esker_tree::{Recorded, Replay, ReplayFigures, ReplaySetup};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::options::KeyspaceOptions;

/// Flushes of a replay, if nobody says how many.
pub(crate) const FLUSHES_DEFAULT: u64 = 256;

/// Most flushes of a replay.
const FLUSHES_MAX: u64 = 100_000;

/// Most of them with smaller memtables, of which as many bytes need more.
const SMALLER_FLUSHES_MAX: f64 = 1e6;

/// What policies would cost on the tree of one keyspace, if writes went on as before.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct WhatIf {
    /// Name of the keyspace.
    pub keyspace: String,
    /// Flushes that are known: of the time since the database was opened and of the session before,
    /// at most 512; if there is none, those whose tables are still in level 0. The replayed ones are
    /// like them, in their order and again from the first. At 0, they are made up: as large as a
    /// memtable, over all keys.
    pub recorded_flushes: usize,
    /// Compactions that are known, and that tell how often keys are written again.
    pub recorded_merges: usize,
    /// Of a hundred newer entries of these compactions, how many took the place of an older one;
    /// `None` without any: then no key counts as written twice, and compactions drop nothing.
    pub overwrite_percent: Option<u64>,
    /// Whether the keys of each flush come after those of the one before; then they go on doing so.
    pub is_ascending: bool,
    /// Time from one flush to the next.
    pub interval: Duration,
    /// The live options first, then the others in their order.
    pub outcomes: Vec<WhatIfOutcome>,
}

/// What one choice of options would cost.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct WhatIfOutcome {
    /// The policy's name.
    pub policy: &'static str,
    /// Size at which memtables are flushed.
    pub memtable_bytes: u64,
    /// Flushes that were replayed.
    pub flushes: u64,
    /// Bytes of their tables.
    pub flush_bytes: u64,
    /// Bytes that compactions would write at once, before any flush: the price of the change, or
    /// what the live policy is behind.
    pub takeover_bytes: u64,
    /// Bytes that compactions would write afterwards.
    pub compaction_bytes: u64,
    /// Bytes that flushes and compactions write for each byte flushed; without the log and the
    /// takeover. 0 without flushes.
    pub write_amplification: f64,
    /// Bytes of all tables for each byte that they would take as one run, without what is
    /// overwritten or deleted: at the end.
    pub space_amplification: f64,
    /// The same at the worst moment, with the inputs and outputs of the running compaction.
    pub space_amplification_peak: f64,
    /// Runs that a read without filters looks into: after compactions, on the average.
    pub read_amplification: f64,
    /// The most runs, just after a flush.
    pub run_count_max: usize,
    /// Bytes that would be dropped with their data, by policies that do that.
    pub dropped_bytes: u64,
    /// Bytes of all tables at the end.
    pub table_bytes: u64,
    /// The levels at the end, 0 first, up to the deepest that is not empty.
    pub levels: Vec<WhatIfLevel>,
}

/// A level at the end of a replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct WhatIfLevel {
    /// Its runs.
    pub run_count: usize,
    /// Their tables.
    pub table_count: usize,
    /// Bytes of their files.
    pub bytes: u64,
}

impl WhatIfOutcome {
    fn new(settings: &Settings, figures: &ReplayFigures) -> Self {
        let level = |level: &esker_tree::ReplayLevel| WhatIfLevel {
            run_count: level.run_count,
            table_count: level.table_count,
            bytes: level.bytes,
        };
        Self {
            policy: settings.policy.as_ref().map_or("none", |policy| policy.name()),
            memtable_bytes: settings.memtable_bytes,
            flushes: figures.flush_count,
            flush_bytes: figures.flush_bytes,
            takeover_bytes: figures.takeover_bytes,
            compaction_bytes: figures.compaction_bytes,
            write_amplification: figures.write_amplification(),
            space_amplification: figures.space_amplification,
            space_amplification_peak: figures.space_amplification_peak,
            read_amplification: figures.run_count_mean,
            run_count_max: figures.run_count_max,
            dropped_bytes: figures.dropped_bytes,
            table_bytes: figures.table_bytes,
            levels: figures.levels.iter().map(level).collect(),
        }
    }
}

impl fmt::Display for WhatIf {
    /// What is known, then a line for each outcome.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "keyspace {}: {} recorded flushes, {} recorded merges, ",
            self.keyspace, self.recorded_flushes, self.recorded_merges
        )?;
        match self.overwrite_percent {
            Some(percent) => write!(f, "{percent}% of newer entries overwrite")?,
            None => write!(f, "no key counts as written twice")?,
        }
        writeln!(f, "{}", if self.is_ascending { ", keys ascend" } else { "" })?;
        for outcome in &self.outcomes {
            writeln!(
                f,
                "{}: write {:.2}, space {:.2} (peak {:.2}), read {:.1} (most {}), takeover {} bytes",
                outcome.policy,
                outcome.write_amplification,
                outcome.space_amplification,
                outcome.space_amplification_peak,
                outcome.read_amplification,
                outcome.run_count_max,
                outcome.takeover_bytes
            )?;
        }
        Ok(())
    }
}

impl Engine {
    pub(crate) fn what_if(
        &self,
        keyspace: &KeyspaceCore,
        alternatives: &[KeyspaceOptions],
        flushes: u64,
    ) -> Result<WhatIf> {
        if !(1..=FLUSHES_MAX).contains(&flushes) {
            let what = format!("flushes is {flushes}, and must be from 1 to {FLUSHES_MAX}");
            return Err(Error::invalid_input(what));
        }
        for options in alternatives {
            options.check().map_err(Error::invalid_input)?;
        }
        self.check_open()?;
        keyspace.check_live()?;
        let live = keyspace.settings();
        let others: Vec<Settings> = alternatives
            .iter()
            .map(|options| Settings::new(options.clone(), self.options.memory_budget_bytes))
            .collect();
        let scale_of = |settings: &Settings| {
            settings.memtable_bytes as f64 / live.memtable_bytes.max(1) as f64
        };
        let is_long = |other: &&Settings| SMALLER_FLUSHES_MAX < flushes as f64 / scale_of(other);
        if let Some(other) = others.iter().find(is_long) {
            return Err(Error::invalid_input(format!(
                "memtable_bytes is {}, and {flushes} flushes of {} bytes are more than {} of those",
                other.memtable_bytes, live.memtable_bytes, SMALLER_FLUSHES_MAX
            )));
        }
        let shape = keyspace.view().version.shape();
        let recorded = Recorded::read(&*self.env.fs, &self.dir, keyspace.id)?;
        let replay = Replay::new(ReplaySetup {
            shape: &shape,
            recorded: &recorded,
            memtable_bytes: live.memtable_bytes,
            now: self.wall(),
        });
        let outcome = |settings: &Settings| {
            let figures = replay
                .run(settings.policy.as_deref(), flushes, scale_of(settings))
                .expect("policies come to rest, whatever the tree");
            WhatIfOutcome::new(settings, &figures)
        };
        let facts = replay.facts();
        Ok(WhatIf {
            keyspace: keyspace.name().to_string(),
            recorded_flushes: facts.flushes,
            recorded_merges: facts.merges,
            overwrite_percent: facts.overwrite_percent,
            is_ascending: facts.is_ascending,
            interval: facts.interval,
            outcomes: std::iter::once(&*live).chain(&others).map(outcome).collect(),
        })
    }
}

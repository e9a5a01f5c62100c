//! Estimates what other compaction policies would cost, by replaying the recorded past of a
//! keyspace.
//!
//! Finds the past, hands it to the replay in the floor below, and reports the result in terms of
//! the options. Changes nothing, and reads no table.

use std::fmt;
use std::time::Duration;

use esker_base::Shown;
use esker_tree::{Recorded, Replay, ReplayFigures, ReplaySetup};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keyspace_core::{KeyspaceCore, Settings};
use crate::options::KeyspaceOptions;

/// Flushes in a replay by default.
pub(crate) const FLUSHES_DEFAULT: u64 = 256;

/// Most flushes in a replay.
const FLUSHES_MAX: u64 = 100_000;

/// Most flushes with smaller memtables, which need more flushes for the same bytes.
const SMALLER_FLUSHES_MAX: f64 = 1e6;

/// What policies would cost on the tree of one keyspace, if writes went on as before.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct WhatIf {
    /// Name of the keyspace.
    pub keyspace: String,
    /// Recorded flushes, at most 512: those since the database was opened and of the session
    /// before; if there are none, those whose tables are still in level 0. The replay repeats them,
    /// in order, again and again. If this is 0, it invents flushes: as large as a memtable, over
    /// all keys.
    pub recorded_flushes: usize,
    /// Recorded compactions, which show how often keys are overwritten.
    pub recorded_merges: usize,
    /// How many percent of the newer entries in these compactions replaced an older one; `None`
    /// without any: then no key counts as overwritten, and compactions drop nothing.
    pub overwrite_percent: Option<u64>,
    /// Whether the keys of each flush come after those of the one before; the replay then continues
    /// that.
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
    /// Bytes that compactions would write first, before any flush: the price of changing the
    /// policy, or the backlog of the live one.
    pub takeover_bytes: u64,
    /// Bytes that compactions would write afterwards.
    pub compaction_bytes: u64,
    /// Bytes that flushes and compactions write for each byte flushed, without the log and the
    /// takeover. 0 without flushes.
    pub write_amplification: f64,
    /// At the end, bytes of all tables for each byte that the live data would take as one run,
    /// without overwritten and deleted entries.
    pub space_amplification: f64,
    /// The same at the worst moment, counting both inputs and outputs of the running compaction.
    pub space_amplification_peak: f64,
    /// Runs that a read without filters searches, on average, after compactions.
    pub read_amplification: f64,
    /// The most runs, just after a flush.
    pub run_count_max: usize,
    /// Bytes of data that the policy would drop, if it is one that does.
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
            Shown::from(&*self.keyspace),
            self.recorded_flushes,
            self.recorded_merges
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

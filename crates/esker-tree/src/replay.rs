//! Replays the recorded past of a tree under policies: what each would cost if writes went on as
//! before.
//!
//! Starts from the shape of the live tree, and adds flushes like the recorded ones, in order and
//! again from the first; after each flush, every plan of the policy is carried out, one at a time.
//! All that is known of a table is its number of entries and its key range, so tables hold expected
//! values: see `contents`. The number of distinct keys is chosen so that the recorded merges would
//! have dropped as many entries as they did; without a recorded merge, no key counts as written
//! twice.
//!
//! If the keys of flushes ascend from one to the next, they go on ascending. Snapshots, deadlines,
//! expiry by key and the contents of memtables are left out. Pure: no I/O, no clock.

mod contents;
mod positions;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_table::{TableProperties, TableTimes};

use crate::plan::Busy;
use crate::policy::Policy;
use crate::recorded::{Recorded, RecordedMerge};
use crate::shape::{LevelShape, RunId, Shape};
use contents::{Cell, Contents, Grid};
use positions::{PER_ENTRY, Positions};
use tree::{EntryBytes, FlushedTable, Tree};

/// About how many cells the key positions of the live tree are divided into.
const CELL_COUNT: u64 = 512;

/// Recorded merges that are used to estimate how many keys there are.
const MERGES_MAX: usize = 64;

/// Largest estimate of keys, as a multiple of the known entries: then hardly any key is written
/// twice.
const KEYS_FACTOR_MAX: f64 = 1024.0;

/// Minimum number of plans after one flush at which a replay gives up, since the policy does not
/// come to rest.
const PLANS_MAX: usize = 10_000;

/// The same, for each table of the tree.
const PLANS_PER_TABLE_MAX: usize = 64;

/// What a replay starts from.
#[derive(Clone, Copy, Debug)]
pub struct ReplaySetup<'a> {
    /// The live tree.
    pub shape: &'a Shape,
    /// Its past.
    pub recorded: &'a Recorded,
    /// Bytes of a flush, if none is known.
    pub memtable_bytes: u64,
    /// Time since the epoch that policies count from.
    pub now: Duration,
}

/// A past that can be replayed, through any number of policies.
#[derive(Debug)]
pub struct Replay {
    start: Tree,
    flushes: Vec<Vec<FlushedTable>>,
    /// Cells from one round of flushes to the next.
    ascent: u64,
    interval: Duration,
    now: Duration,
    grid: Grid,
    facts: ReplayFacts,
}

/// What a replay knows of the past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplayFacts {
    /// Flushes of the past; a replay repeats them cyclically.
    pub flushes: usize,
    /// Merges that show how often keys are overwritten.
    pub merges: usize,
    /// How many percent of the newer entries in these merges replaced an older one.
    pub overwrite_percent: Option<u64>,
    /// Whether the keys of flushes ascend from one to the next.
    pub is_ascending: bool,
    /// Time from one flush to the next.
    pub interval: Duration,
}

/// What a policy costs.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplayFigures {
    /// Flushes.
    pub flush_count: u64,
    /// Bytes of their tables.
    pub flush_bytes: u64,
    /// Bytes that compactions wrote before the first flush: the cost of changing the policy.
    pub takeover_bytes: u64,
    /// Bytes that compactions wrote afterwards.
    pub compaction_bytes: u64,
    /// Bytes of tables that were dropped with their data.
    pub dropped_bytes: u64,
    /// Bytes of all tables at the end.
    pub table_bytes: u64,
    /// Peak of bytes of tables per byte that the same data would take as a single run, counting
    /// both inputs and outputs of a running compaction.
    pub space_amplification_peak: f64,
    /// The same at the end.
    pub space_amplification: f64,
    /// The most runs after a flush, before its compactions.
    pub run_count_max: usize,
    /// Runs at the end.
    pub run_count: usize,
    /// Average number of runs after the compactions of each flush.
    pub run_count_mean: f64,
    /// The tree at the end, up to the deepest level that is not empty.
    pub levels: Vec<ReplayLevel>,
}

/// One level at the end of a replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplayLevel {
    /// How many runs it has.
    pub run_count: usize,
    /// How many tables.
    pub table_count: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl ReplayFigures {
    /// Bytes that flushes and compactions wrote for each byte flushed; 0 without flushes.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        let written = (self.flush_bytes + self.compaction_bytes) as f64;
        if self.flush_bytes == 0 { 0.0 } else { written / self.flush_bytes as f64 }
    }
}

impl Replay {
    /// Of a live tree and its past.
    #[must_use]
    pub fn new(setup: ReplaySetup<'_>) -> Self {
        let ReplaySetup { shape, recorded, memtable_bytes, now } = setup;
        let past = || {
            let merges = newest(recorded).into_iter().flat_map(|merge| {
                merge.inputs.iter().map(|(_, table)| table).chain(&merge.outputs)
            });
            recorded.flushes.iter().flatten().chain(merges).map(|table| &**table)
        };
        let live = shape.levels.iter().flat_map(LevelShape::tables).map(|table| &**table);
        let positions = Positions::new(live, past());
        let width = (positions.end / CELL_COUNT).max(1);
        let grid = fitted(recorded, &positions, width);
        let flushed = flushes_of(shape, recorded);
        let entry_bytes = entry_bytes(shape, recorded, &flushed);
        let mut start = Tree::new(grid, entry_bytes);
        start.shape.timeline = shape.timeline.clone();
        for (level, runs) in shape.levels.iter().enumerate() {
            for run in &runs.runs {
                for table in &run.tables {
                    start.adopt((level, run.id), positions.hull(table), table);
                }
            }
        }
        let interval = interval(&flushed);
        let mut flushes: Vec<Vec<FlushedTable>> = flushed
            .iter()
            .map(|tables| tables.iter().map(|table| model(grid, &positions, table)).collect())
            .collect();
        if flushes.is_empty() && !shape.is_empty() {
            let hull = (PER_ENTRY, positions.end - 1);
            let entries = memtable_bytes as f64 / entry_bytes.shallow;
            let contents = Contents::spread(grid, hull, Cell { entries, tombstones: 0.0 });
            flushes.push(vec![FlushedTable { hull, contents }]);
        }
        let ascent = ascent(&flushes, width);
        let facts = ReplayFacts {
            flushes: flushed.len(),
            merges: informative(recorded).count(),
            overwrite_percent: overwrite_percent(recorded),
            is_ascending: ascent > 0,
            interval,
        };
        Self { start, flushes, ascent, interval, now, grid, facts }
    }

    /// What is known of the past.
    #[must_use]
    pub const fn facts(&self) -> ReplayFacts {
        self.facts
    }

    /// Replays as much data as `flush_count` recorded flushes have, under `policy`, in flushes that
    /// are `scale` times as large, and so fewer. Without a policy, nothing is compacted.
    ///
    /// # Errors
    /// If the policy does not come to rest, or returns an impossible plan.
    pub fn run(
        &self,
        policy: Option<&dyn Policy>,
        flush_count: u64,
        scale: f64,
    ) -> Result<ReplayFigures, String> {
        let flush_count = match self.flushes.len() {
            0 => 0,
            _ => ((flush_count as f64 / scale).ceil() as u64).max(1),
        };
        let mut course = Course::new(self, policy);
        course.settle()?;
        course.figures.takeover_bytes = std::mem::take(&mut course.figures.compaction_bytes);
        course.note_space(0, 0);
        let mut run_counts = 0;
        for number in 0..flush_count {
            course.flush(self, number, scale);
            course.settle()?;
            run_counts += course.run_count();
        }
        Ok(course.end(flush_count, run_counts))
    }

    /// The tables of a flush.
    fn flushed(&self, number: u64, scale: f64) -> Vec<FlushedTable> {
        let count = self.flushes.len() as u64;
        let cells = self.ascent * (number / count + 1);
        let tables = &self.flushes[(number % count) as usize];
        let moved = cells * self.grid.width;
        let table = |table: &FlushedTable| FlushedTable {
            hull: (table.hull.0 + moved, table.hull.1 + moved),
            contents: table.contents.scaled(self.grid, scale).moved(cells),
        };
        tables.iter().map(table).collect()
    }
}

/// A replay in progress, under one policy.
struct Course<'a> {
    policy: Option<&'a dyn Policy>,
    tree: Tree,
    now: Duration,
    figures: ReplayFigures,
    /// Bytes written since the size of the tree was last noted.
    unnoted_bytes: u64,
}

/// The size of the tree is noted after writes of one part in this many of it. Noting it visits all
/// runs, so doing that at each flush would be quadratic without compactions: 8,000 flushes took
/// minutes.
const NOTED_SHARE: u64 = 64;

impl<'a> Course<'a> {
    fn new(replay: &Replay, policy: Option<&'a dyn Policy>) -> Self {
        let figures = ReplayFigures {
            flush_count: 0,
            flush_bytes: 0,
            takeover_bytes: 0,
            compaction_bytes: 0,
            dropped_bytes: 0,
            table_bytes: 0,
            space_amplification_peak: 0.0,
            space_amplification: 0.0,
            run_count_max: 0,
            run_count: 0,
            run_count_mean: 0.0,
            levels: Vec::new(),
        };
        let tree = replay.start.clone();
        Self { policy, tree, now: replay.now, figures, unnoted_bytes: u64::MAX }
    }

    fn flush(&mut self, replay: &Replay, number: u64, scale: f64) {
        let before = self.now;
        let passed = Duration::try_from_secs_f64(replay.interval.as_secs_f64() * scale);
        self.now = self.now.saturating_add(passed.unwrap_or(Duration::MAX));
        let now = millis(self.now);
        let times = TableTimes {
            oldest: millis(before),
            newest: now,
            oldest_tombstone: None,
            written: now,
        };
        let written = self.tree.flush(&replay.flushed(number, scale), times);
        self.figures.flush_bytes += written;
        self.figures.run_count_max = self.figures.run_count_max.max(self.run_count());
        self.note_space(written, 0);
    }

    /// Carries out what the policy plans until it plans nothing.
    fn settle(&mut self) -> Result<(), String> {
        let Some(policy) = self.policy else { return Ok(()) };
        let table_count: usize = self.tree.shape.levels.iter().map(|l| l.tables().count()).sum();
        for _ in 0..PLANS_MAX.max(PLANS_PER_TABLE_MAX * table_count) {
            let Some(plan) = policy.pick(&self.tree.shape, &Busy::new(), self.now) else {
                return Ok(());
            };
            let before = self.tree.shape.bytes();
            let done = self.tree.carry_out(&plan, millis(self.now))?;
            self.figures.compaction_bytes += done.written;
            self.figures.dropped_bytes += done.dropped;
            if done.written > 0 {
                let more = (before + done.written).saturating_sub(self.tree.shape.bytes());
                self.note_space(done.written, more);
            }
        }
        Err(format!("{} does not come to rest", policy.name()))
    }

    /// Notes how much space the tree takes, plus `more` bytes, once enough was `written` since the
    /// last time.
    fn note_space(&mut self, written: u64, more: u64) {
        self.unnoted_bytes = self.unnoted_bytes.saturating_add(written);
        if self.unnoted_bytes < self.tree.shape.bytes() / NOTED_SHARE {
            return;
        }
        self.unnoted_bytes = 0;
        let bare = self.tree.bare_bytes();
        if bare >= 1.0 {
            let amplification = (self.tree.shape.bytes() + more) as f64 / bare;
            let peak = &mut self.figures.space_amplification_peak;
            *peak = amplification.max(*peak);
        }
    }

    fn run_count(&self) -> usize {
        self.tree.shape.levels.iter().map(|level| level.runs.len()).sum()
    }

    fn end(mut self, flush_count: u64, run_counts: usize) -> ReplayFigures {
        let (bare, bytes) = (self.tree.bare_bytes(), self.tree.shape.bytes());
        let shape = &self.tree.shape;
        let count = shape.levels.iter().rposition(|l| !l.runs.is_empty()).map_or(0, |d| d + 1);
        let level = |level: &LevelShape| ReplayLevel {
            run_count: level.runs.len(),
            table_count: level.tables().count(),
            bytes: level.bytes(),
        };
        ReplayFigures {
            flush_count,
            table_bytes: bytes,
            space_amplification: if bare >= 1.0 { bytes as f64 / bare } else { 0.0 },
            run_count: self.run_count(),
            run_count_mean: run_counts as f64 / flush_count.max(1) as f64,
            levels: shape.levels.iter().take(count).map(level).collect(),
            ..self.figures
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn model(grid: Grid, positions: &Positions, table: &TableProperties) -> FlushedTable {
    let hull = positions.hull(table);
    let tombstones = table.tombstone_count.min(table.entry_count) as f64;
    let all = Cell { entries: table.entry_count as f64, tombstones };
    FlushedTable { hull, contents: Contents::spread(grid, hull, all) }
}

/// The flushes to repeat: those that are recorded, or else those that are still in level 0.
fn flushes_of(shape: &Shape, recorded: &Recorded) -> Vec<Vec<Arc<TableProperties>>> {
    if recorded.flushes.is_empty() {
        return shape.levels[0].runs.iter().rev().map(|run| run.tables.clone()).collect();
    }
    recorded.flushes.iter().cloned().collect()
}

/// The newest merges of the past.
fn newest(recorded: &Recorded) -> Vec<&RecordedMerge> {
    recorded.merges.iter().rev().take(MERGES_MAX).collect()
}

/// Merges without tombstones, which are dropped for other reasons.
fn informative(recorded: &Recorded) -> impl Iterator<Item = &RecordedMerge> {
    let plain = |m: &&RecordedMerge| m.inputs.iter().all(|(_, table)| table.tombstone_count == 0);
    newest(recorded).into_iter().filter(plain)
}

fn entry_count<'a>(tables: impl Iterator<Item = &'a Arc<TableProperties>>) -> u64 {
    tables.map(|table| table.entry_count).sum()
}

fn overwrite_percent(recorded: &Recorded) -> Option<u64> {
    let (mut newer, mut dropped) = (0, 0);
    for merge in informative(recorded) {
        let mut by_run: BTreeMap<RunId, u64> = BTreeMap::new();
        for (run, table) in &merge.inputs {
            *by_run.entry(*run).or_default() += table.entry_count;
        }
        let all: u64 = by_run.values().sum();
        newer += all - by_run.values().max().copied().unwrap_or(0);
        dropped += all.saturating_sub(entry_count(merge.outputs.iter()));
    }
    (newer > 0).then(|| (100 * dropped / newer).min(100))
}

/// The grid with which the recorded merges would drop as many entries as they did.
fn fitted(recorded: &Recorded, positions: &Positions, width: u64) -> Grid {
    let mut merges: Vec<Vec<Contents>> = Vec::new();
    let mut left = 0;
    let known = width as f64 / PER_ENTRY as f64;
    let grid = |factor: f64| Grid { width, keys: (known * factor).max(1.0) };
    for merge in informative(recorded) {
        let mut runs: BTreeMap<RunId, Contents> = BTreeMap::new();
        for (run, table) in &merge.inputs {
            let contents = model(grid(1.0), positions, table).contents;
            runs.entry(*run).or_default().add(&contents);
        }
        // The largest is the oldest, and the one whose entries are hidden.
        let mut runs: Vec<Contents> = runs.into_values().collect();
        runs.sort_by(|a, b| a.sum().entries.total_cmp(&b.sum().entries));
        merges.push(runs);
        left += entry_count(merge.outputs.iter());
    }
    let expected = |factor: f64| -> f64 {
        let kept = |runs: &Vec<Contents>| Contents::merged(grid(factor), runs, false).sum().entries;
        merges.iter().map(kept).sum()
    };
    // More keys, fewer that are hit twice.
    let (mut few, mut many) = (KEYS_FACTOR_MAX.recip(), KEYS_FACTOR_MAX);
    if merges.is_empty() || expected(many) <= left as f64 {
        return grid(many);
    }
    for _ in 0..24 {
        let middle = (few * many).sqrt();
        if expected(middle) < left as f64 { few = middle } else { many = middle }
    }
    grid(many)
}

fn entry_bytes(
    shape: &Shape,
    recorded: &Recorded,
    flushes: &[Vec<Arc<TableProperties>>],
) -> EntryBytes {
    fn mean<'a>(tables: impl Iterator<Item = &'a Arc<TableProperties>>) -> Option<f64> {
        let sum = |(bytes, entries), table: &Arc<TableProperties>| {
            (bytes + table.file_bytes, entries + table.entry_count)
        };
        let (bytes, entries) = tables.fold((0, 0), sum);
        (entries > 0).then(|| (bytes as f64 / entries as f64).max(1.0))
    }
    let shallow = mean(flushes.iter().flatten());
    let deep = mean(shape.levels[1..].iter().flat_map(LevelShape::tables))
        .or_else(|| mean(recorded.merges.iter().flat_map(|merge| &merge.outputs)));
    let any = shallow.or(deep).unwrap_or(1.0);
    EntryBytes { shallow: shallow.unwrap_or(any), deep: deep.unwrap_or(any) }
}

/// The time between flushes, if tables record when they were written.
fn interval(flushes: &[Vec<Arc<TableProperties>>]) -> Duration {
    let written =
        |tables: &Vec<Arc<TableProperties>>| tables.first()?.extras.times.map(|t| t.written);
    let (first, last) = (flushes.first().and_then(written), flushes.last().and_then(written));
    let (Some(first), Some(last)) = (first, last) else { return Duration::ZERO };
    let count = (flushes.len() as u64 - 1).max(1);
    Duration::from_millis(last.saturating_sub(first) / count)
}

/// By how many cells each round of `flushes` is beyond the previous one; 0 unless nearly all
/// flushes begin after the end of the one before.
fn ascent(flushes: &[Vec<FlushedTable>], width: u64) -> u64 {
    let hull = |tables: &Vec<FlushedTable>| {
        Some((tables.first()?.hull.0, tables.last().map(|table| table.hull.1)?))
    };
    let hulls: Vec<(u64, u64)> = flushes.iter().filter_map(hull).collect();
    let ascending = hulls.windows(2).filter(|pair| pair[0].1 < pair[1].0).count();
    if hulls.len() < 3 || ascending * 10 < (hulls.len() - 1) * 9 {
        return 0;
    }
    let first = hulls.iter().map(|hull| hull.0).min().unwrap_or(0);
    let last = hulls.iter().map(|hull| hull.1).max().unwrap_or(0);
    (last - first) / width + 1
}

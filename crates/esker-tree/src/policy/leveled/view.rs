//! The tree as the leveled policy sees it: shape and plans in flight, base level, targets, scores;
//! and how chosen tables become a plan.

use std::cmp::Reverse;
use std::sync::Arc;

use esker_table::TableProperties;

use crate::plan::{Busy, Plan, PlanInput, PlanReason};
use crate::policy::leveled::LeveledOptions;
use crate::shape::{LEVEL_COUNT_MAX, RunId, RunShape, Shape, table_bytes};

/// The deepest level.
pub(super) const LAST: usize = LEVEL_COUNT_MAX - 1;

/// A table whose tombstones are at least one in this many of its entries is rewritten rather than
/// moved to where they have nothing to hide.
const TOMBSTONE_SHARE: u64 = 4;

pub(super) struct View<'a> {
    pub(super) options: &'a LeveledOptions,
    pub(super) shape: &'a Shape,
    pub(super) busy: &'a Busy,
    /// The level that level 0 compacts into.
    pub(super) base: usize,
    /// The most that each level should hold.
    pub(super) targets: Vec<u64>,
}

/// Chosen tables of one run.
pub(super) struct Choice<'a> {
    pub(super) level: usize,
    pub(super) run: RunId,
    pub(super) tables: Vec<&'a Arc<TableProperties>>,
}

/// The smallest and the largest user key of some tables.
#[derive(Clone, Copy)]
pub(super) struct Hull<'a> {
    pub(super) first: &'a [u8],
    pub(super) last: &'a [u8],
}

impl<'a> Hull<'a> {
    /// That of one table.
    pub(super) fn of(table: &'a TableProperties) -> Self {
        Self { first: &table.smallest_key, last: &table.largest_key }
    }

    /// That of at least one table.
    pub(super) fn of_all(
        tables: impl IntoIterator<Item = &'a Arc<TableProperties>>,
    ) -> Option<Self> {
        tables.into_iter().map(|table| Self::of(table)).reduce(Self::with)
    }

    /// That of both.
    pub(super) fn with(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

impl<'a> View<'a> {
    pub(super) fn new(options: &'a LeveledOptions, shape: &'a Shape, busy: &'a Busy) -> Self {
        assert_eq!(shape.levels.len(), LEVEL_COUNT_MAX, "a shape has every level");
        // Inputs stay in the shape until their plan is installed, so plans in flight need not be
        // examined: a level that is about to be emptied still counts.
        let filled = (1..=LAST).find(|&level| !shape.levels[level].runs.is_empty());
        let targets = Self::targets(options, shape);
        let wanted = targets.iter().position(|&target| target > 0).unwrap_or(LAST);
        Self { options, shape, busy, base: filled.unwrap_or(LAST).min(wanted), targets }
    }

    /// From the largest level up, each is smaller by the multiplier, until one is within the limit
    /// of the base level; zero for the levels above that.
    fn targets(options: &LeveledOptions, shape: &Shape) -> Vec<u64> {
        let largest = (1..=LAST).map(|level| shape.levels[level].bytes()).max().unwrap_or(0);
        let mut targets = vec![0; LEVEL_COUNT_MAX];
        let mut target = largest.max(options.base_bytes_max());
        for level in (1..=LAST).rev() {
            targets[level] = target;
            if target <= options.base_bytes_max() {
                break;
            }
            target /= options.multiplier;
        }
        targets
    }

    /// Bytes of a level that no plan in flight takes away.
    fn idle_bytes(&self, level: usize) -> u64 {
        let idle = |table: &&Arc<TableProperties>| !self.busy.has(table.id);
        self.shape.levels[level].tables().filter(idle).map(|table| table.file_bytes).sum()
    }

    /// One score per level; at 1 or more, it is due for compaction.
    pub(super) fn scores(&self) -> Vec<f64> {
        (0..LEVEL_COUNT_MAX).map(|level| self.score(level)).collect()
    }

    fn score(&self, level: usize) -> f64 {
        let runs = &self.shape.levels[level].runs;
        let bytes = self.idle_bytes(level) as f64;
        if level == 0 {
            let is_idle = |run: &&RunShape| run.tables.iter().any(|t| !self.busy.has(t.id));
            let count = runs.iter().filter(is_idle).count() as f64;
            let by_count = count / self.options.level_zero_run_count as f64;
            return by_count.max(bytes / self.options.level_zero_bytes() as f64);
        }
        // Several runs are left by another policy; every read pays for each.
        let by_runs = if runs.len() > 1 { runs.len() as f64 } else { 0.0 };
        let by_bytes = match self.targets[level] {
            _ if level == LAST || bytes == 0.0 => 0.0,
            0 => 1.0 + bytes / self.options.base_bytes_max() as f64,
            target => bytes / target as f64,
        };
        by_runs.max(by_bytes)
    }

    /// The run that outputs join in `level`, which is deeper than 0: the newest, or the one that a
    /// plan in flight will create or refill.
    ///
    /// `Err` if a plan in flight will create a run whose id is not known yet: a second run beside
    /// it would have to be merged with it.
    pub(super) fn target_run(&self, level: usize) -> Result<Option<RunId>, Blocked> {
        if let Some(run) = self.shape.levels[level].runs.first() {
            return Ok(Some(run.id));
        }
        match self.busy.plans().find(|plan| plan.target_level == level) {
            None => Ok(None),
            Some(plan) => plan.target_run.map(Some).ok_or(Blocked),
        }
    }

    /// The tables that overlap `hull` in the run that outputs join in `level`.
    ///
    /// `Err` if one of them is in flight, or a plan in flight writes there.
    pub(super) fn target_tables(
        &self,
        level: usize,
        hull: Hull<'_>,
    ) -> Result<&'a [Arc<TableProperties>], Blocked> {
        let tables = self.overlapping(level, hull);
        let is_busy = tables.iter().any(|table| self.busy.has(table.id));
        let joined = Hull::of_all(tables).map_or(hull, |tables| tables.with(hull));
        if is_busy || self.busy.writes_into(level, joined.first, joined.last) {
            return Err(Blocked);
        }
        Ok(tables)
    }

    /// The tables of the newest run of `level` that overlap `hull`; none beyond the last level.
    pub(super) fn overlapping(&self, level: usize, hull: Hull<'_>) -> &'a [Arc<TableProperties>] {
        let newest = self.shape.levels.get(level).and_then(|level| level.runs.first());
        newest.map_or(&[], |run| run.overlapping(hull.first, hull.last))
    }

    /// The plan that merges `sources`, and what they overlap in `target_level`, into that level.
    ///
    /// `sources` contain everything from their own levels that must come along.
    pub(super) fn plan_into(
        &self,
        reason: PlanReason,
        sources: Vec<Choice<'a>>,
        target_level: usize,
    ) -> Result<Plan, Blocked> {
        let hull = Hull::of_all(sources.iter().flat_map(|choice| choice.tables.iter().copied()))
            .expect("a plan has inputs");
        let target_run = self.target_run(target_level)?;
        let targets = self.target_tables(target_level, hull)?;
        let mut choices = sources;
        let is_move = targets.is_empty() && self.may_move(&choices, target_level);
        if let Some(run) = target_run
            && !targets.is_empty()
        {
            let tables = targets.iter().collect();
            choices.push(Choice { level: target_level, run, tables });
        }
        Ok(self.plan(reason, choices, target_level, target_run, is_move))
    }

    /// Whether tables that overlap nothing in the target level should be moved, not rewritten.
    fn may_move(&self, choices: &[Choice<'a>], target_level: usize) -> bool {
        let mut tables: Vec<_> = choices.iter().flat_map(|choice| &choice.tables).collect();
        tables.sort_by(|a, b| a.smallest_key.cmp(&b.smallest_key));
        let are_disjoint = tables.is_sorted_by(|a, b| a.largest_key < b.smallest_key);
        are_disjoint
            && tables.iter().all(|table| {
                let hull = Hull::of(table);
                let grandparents = self.overlapping(target_level + 1, hull);
                let hides_nothing = table.tombstone_count * TOMBSTONE_SHARE >= table.entry_count
                    && table.has_tombstones()
                    && (target_level..=LAST).all(|level| !self.has_overlap(level, hull));
                table_bytes(grandparents) <= self.options.grandparent_bytes_max() && !hides_nothing
            })
    }

    /// Whether any run of `level` has a table that overlaps `hull`.
    fn has_overlap(&self, level: usize, hull: Hull<'_>) -> bool {
        let runs = &self.shape.levels[level].runs;
        runs.iter().any(|run| !run.overlapping(hull.first, hull.last).is_empty())
    }

    /// The plan for exactly these tables.
    pub(super) fn plan(
        &self,
        reason: PlanReason,
        mut choices: Vec<Choice<'a>>,
        target_level: usize,
        target_run: Option<RunId>,
        is_trivial_move: bool,
    ) -> Plan {
        choices.sort_by_key(|choice| (choice.level, Reverse(choice.run)));
        let tables = || choices.iter().flat_map(|choice| choice.tables.iter().copied());
        let hull = Hull::of_all(tables()).expect("a plan has inputs");
        let input_bytes = tables().map(|table| table.file_bytes).sum();
        let (cut_keys, output_bytes_max) = if is_trivial_move {
            (Vec::new(), self.options.table_bytes)
        } else {
            self.cuts(target_level, hull, input_bytes)
        };
        let inputs = choices.iter().map(|choice| PlanInput {
            level: choice.level,
            run: choice.run,
            tables: choice.tables.iter().map(|table| table.id).collect(),
        });
        Plan {
            reason,
            inputs: inputs.collect(),
            target_level,
            target_run,
            cut_keys,
            output_bytes_max,
            is_trivial_move,
            is_drop: false,
            first_key: hull.first.to_vec(),
            last_key: hull.last.to_vec(),
            input_bytes,
        }
    }

    /// Where to cut outputs, and how large each may become.
    ///
    /// Cuts are first keys of grandparent tables, spaced so that about half a table's worth of
    /// inputs lies between two, if they are distributed like the grandparents. In the simulation,
    /// random overwrites wrote 15 to 25 % more without cuts, and 4 % more with whole tables:
    /// smaller tables give the next compaction more choice. Without grandparents, outputs are cut
    /// into even parts.
    fn cuts(&self, target_level: usize, hull: Hull<'_>, input_bytes: u64) -> (Vec<Vec<u8>>, u64) {
        let wanted = self.options.table_bytes;
        let part_count = |part: u64| ((input_bytes + part / 2) / part).max(1);
        let grandparents = match target_level {
            0 => &[],
            level => self.overlapping(level + 1, hull),
        };
        if grandparents.len() < 2 {
            // Slightly more than even, so that the last part is not split for a few bytes.
            let part = input_bytes / part_count(wanted);
            return (Vec::new(), (part + part / 16).max(wanted / 2).max(1));
        }
        let part_bytes = table_bytes(grandparents) / part_count((wanted / 2).max(1));
        let (mut cut_keys, mut since_cut) = (Vec::new(), 0);
        for (table, next) in grandparents.iter().zip(&grandparents[1..]) {
            since_cut += table.file_bytes;
            // The boundary nearest to a full part.
            if since_cut + next.file_bytes / 2 >= part_bytes
                && next.smallest_key.as_slice() > hull.first
            {
                cut_keys.push(next.smallest_key.clone());
                since_cut = 0;
            }
        }
        (cut_keys, wanted)
    }
}

/// A plan in flight is in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Blocked;

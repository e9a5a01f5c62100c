//! Upkeep: what is compacted besides the plans of any policy, however well-shaped the levels are.
//!
//! Deletes whose deadline is near come first, before the policy. When the policy has nothing to do:
//! tables whose tombstones free enough for what they cost, tables that were written too long ago,
//! level 0, once seeks have paid for it or while nobody writes, and small tables, where a run has
//! many. Pure, like policies.
//!
//! Seeks pay by searching more than one run. A merge is due when the searches that it would have
//! spared, since the tables last changed, have cost as much as the merge will
//! ([`BYTES_PER_SEARCH`]); a search whose block is not in the cache counts for more
//! ([`SEARCHES_PER_READ`]). So searches and merge together never cost more than twice the optimal
//! choice with knowledge of the future, and such merges read at most [`BYTES_PER_SEARCH`] bytes of
//! files for each superfluous search.
//!
//! All but small tables are compacted as on demand, level by level down to the last: only there are
//! a tombstone and what it hides certain to end.
//!
//! The estimate of what can be freed: each tombstone frees itself and one entry of average size
//! among the older tables that its table overlaps, as far as they have that many. Other entries
//! likewise free one as often as they did in recent compactions.

use std::collections::BTreeSet;
use std::time::Duration;

use esker_base::{KeyRange, SeqNo, TableId};
use esker_table::TableProperties;

use crate::plan::{Busy, Plan, PlanReason};
use crate::policy::{LastLevel, Leveled, Policy as _, RangeRequest};
use crate::shape::{LEVEL_COUNT_MAX, RunShape, Shape};
use crate::times::times_of;

/// A plan for tombstones frees at least one in this many of the bytes that it rewrites.
const GAIN_SHARE: u64 = 4;

/// An idle-time plan rewrites at most this many times what it takes out of level 0.
const IDLE_COST_MAX: u64 = 10;

/// Bytes of input files that are merged in the time that a seek takes to search one more run.
///
/// Measured with 1 million entries of 16 + 100 bytes in cache: a seek with ten steps takes 0.16 us
/// for each further run (1.26 us over three runs and 0.94 over one), and a merge with LZ4 takes 2.0
/// ns of processor time for each byte that it reads. On a machine half as fast it was 0.13 us and
/// 3.7 ns, on a busy one 0.25 and 7.5.
pub const BYTES_PER_SEARCH: u64 = 64;

/// Number of searches that take as long as reading one block that is not in the cache.
///
/// Measured with 1 million entries of 16 + 100 bytes, their tables in the page cache, and a block
/// cache of a ninth of their size: a seek with ten steps takes 9.9 us over three runs, and 1.5 us
/// with everything in the block cache. So 8/9 of three blocks are read, at 2.8 us each.
pub const SEARCHES_PER_READ: u64 = 10;

/// Minimum gain of a plan for tombstones, unless tables are smaller: a job has fixed costs.
const GAIN_BYTES_MAX: u64 = 1 << 20;

/// Candidates that are examined closely for one plan.
const CANDIDATES_MAX: usize = 4;

/// A table of the last level is not rewritten for its tombstones again within this time.
const LAST_LEVEL_REST: Duration = Duration::from_secs(60);

/// The upkeep rules of a keyspace.
#[derive(Clone, Debug)]
pub struct Upkeep {
    /// The way down to the last level.
    pub leveled: Leveled,
    /// Deleted data is gone from the tables this long after the delete.
    pub delete_deadline: Option<Duration>,
    /// A table is rewritten when it is this old.
    pub rewrite_after: Option<Duration>,
    /// Whether tables are compacted for their tombstones even without a deadline.
    pub frees_space: bool,
    /// Whether level 0 is compacted while nobody writes.
    pub uses_idle_time: bool,
    /// Whether level 0 is compacted once seeks have paid for it.
    pub spares_searches: bool,
    /// Whether many small neighbours of a run become one table.
    pub joins_small_tables: bool,
}

/// The circumstances of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Time since the Unix epoch.
    pub now: Duration,
    /// Every reader sees every entry up to here.
    pub oldest_reader: SeqNo,
    /// Whether nobody has written for a while.
    pub is_idle: bool,
    /// How many runs seeks have searched beyond one each, since the tables last changed.
    pub searches: u64,
}

/// A run and where it stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    level: usize,
    run: &'a RunShape,
}

/// Due deletes are computed twice: to plan for them, and to know whether to wait.
impl Upkeep {
    /// The plan for the delete that is most overdue, if one is. Comes before the policy.
    #[must_use]
    pub fn pick_overdue(&self, shape: &Shape, busy: &Busy, moment: Moment) -> Option<Plan> {
        let mut due = self.overdue(shape, moment);
        due.sort_by_key(|(since, _)| *since);
        due.iter().find_map(|(_, table)| self.carry_down(PlanReason::Deadline, table, shape, busy))
    }

    /// Whether a delete is due but nothing can be done about it while the present plans are in
    /// flight.
    #[must_use]
    pub fn is_overdue(&self, shape: &Shape, moment: Moment) -> bool {
        !self.overdue(shape, moment).is_empty()
    }

    /// The most useful of the other upkeep plans. Comes after the policy.
    #[must_use]
    pub fn pick(&self, shape: &Shape, busy: &Busy, moment: Moment) -> Option<Plan> {
        if !busy.is_empty() {
            return None;
        }
        self.pick_tombstones(shape, busy, moment)
            .or_else(|| self.pick_old(shape, busy, moment))
            .or_else(|| self.pick_searched(shape, busy, moment))
            .or_else(|| self.pick_idle(shape, busy, moment))
            .or_else(|| self.pick_small(shape, busy))
    }

    /// How many searches pay for the cheapest merge; `None` if a merge would spare none.
    #[must_use]
    pub fn searches_due(&self, shape: &Shape) -> Option<u64> {
        self.cheapest_merge(shape, &Busy::new()).map(|(searches, _)| searches)
    }

    /// Tables with deletes older than half of the deadline, with the time of the delete: the other
    /// half is for doing the work.
    fn overdue<'a>(
        &self,
        shape: &'a Shape,
        moment: Moment,
    ) -> Vec<(Duration, &'a TableProperties)> {
        let Some(deadline) = self.delete_deadline else { return Vec::new() };
        let due = |(place, table): (Place<'a>, &'a TableProperties)| {
            let since = Duration::from_millis(times_of(table, 0).oldest_tombstone?);
            let is_due = since.saturating_add(deadline / 2) <= moment.now
                && may_hold_deleted(shape, place, table)
                && is_seen_by_all(table, moment)
                && is_rested(place, table, deadline / 8, moment);
            is_due.then_some((since, table))
        };
        tables(shape).filter_map(due).collect()
    }

    fn pick_tombstones(&self, shape: &Shape, busy: &Busy, moment: Moment) -> Option<Plan> {
        if !self.frees_space {
            return None;
        }
        let mut candidates: Vec<(u64, &TableProperties)> = tables(shape)
            .filter(|(place, table)| {
                table.tombstone_count > 0
                    && is_seen_by_all(table, moment)
                    && is_rested(*place, table, LAST_LEVEL_REST, moment)
            })
            .map(|(place, table)| (freed_by_tombstones(shape, place, table), table))
            .collect();
        candidates.sort_by_key(|(gain, table)| (std::cmp::Reverse(*gain), table.id));
        let gain_min = (self.leveled.options().table_bytes / 16).min(GAIN_BYTES_MAX);
        candidates.truncate(CANDIDATES_MAX);
        candidates.iter().filter(|(gain, _)| gain_min <= *gain).find_map(|(gain, table)| {
            let plan = self.carry_down(PlanReason::Tombstones, table, shape, busy)?;
            (plan.input_bytes <= gain.saturating_mul(GAIN_SHARE)).then_some(plan)
        })
    }

    fn pick_old(&self, shape: &Shape, busy: &Busy, moment: Moment) -> Option<Plan> {
        let limit = self.rewrite_after?;
        let written = |table: &TableProperties| Duration::from_millis(times_of(table, 0).written);
        let is_old = |table: &&TableProperties| written(table).saturating_add(limit) <= moment.now;
        let oldest = tables(shape).map(|(_, table)| table).filter(is_old);
        let table = oldest.min_by_key(|table| (written(table), table.id))?;
        self.carry_down(PlanReason::Age, table, shape, busy)
    }

    fn pick_idle(&self, shape: &Shape, busy: &Busy, moment: Moment) -> Option<Plan> {
        if !self.uses_idle_time || !moment.is_idle || shape.levels[0].runs.len() < 2 {
            return None;
        }
        self.level_zero_down(PlanReason::Idle, shape, busy)
    }

    fn pick_small(&self, shape: &Shape, busy: &Busy) -> Option<Plan> {
        self.joins_small_tables.then(|| self.leveled.join_small_tables(shape, busy))?
    }

    fn pick_searched(&self, shape: &Shape, busy: &Busy, moment: Moment) -> Option<Plan> {
        let (due, plan) = self.cheapest_merge(shape, busy)?;
        (due <= moment.searches).then_some(plan)
    }

    /// The merge with the lowest cost per run that it removes, and how many searches pay for it.
    /// All runs were searched equally often, so it would have spared its share of the searches.
    fn cheapest_merge(&self, shape: &Shape, busy: &Busy) -> Option<(u64, Plan)> {
        if !self.spares_searches || shape.levels[0].runs.is_empty() {
            return None;
        }
        let within = self.leveled.merge_within_level_zero(shape, busy);
        let within = within.map(|plan| Plan { reason: PlanReason::Searches, ..plan });
        let down = self.level_zero_down(PlanReason::Searches, shape, busy);
        let extra = (run_count(shape) as u64).saturating_sub(1);
        let priced = [down, within].into_iter().flatten().filter_map(|plan| {
            let spared = runs_spared(shape, &plan) as u64;
            let bytes = plan.input_bytes.saturating_mul(extra);
            (spared > 0).then(|| (bytes.div_ceil(BYTES_PER_SEARCH * spared), plan))
        });
        // Of equals, the first, which moves data down: that is then not merged again.
        priced.min_by_key(|(due, _)| *due)
    }

    /// All of level 0 into the next level, unless that rewrites too much.
    fn level_zero_down(&self, reason: PlanReason, shape: &Shape, busy: &Busy) -> Option<Plan> {
        let request = RangeRequest {
            range: KeyRange::all(),
            up_to: SeqNo::MAX,
            last_level: LastLevel::Keep,
            expired_at: 0,
            compression: None,
        };
        let plan = self.leveled.plan_range(shape, busy, &request)?;
        let from_level_zero = plan.inputs.iter().filter(|input| input.level == 0);
        let chosen: Vec<_> = from_level_zero.flat_map(|input| &input.tables).collect();
        let level_zero = shape.levels[0].tables().filter(|table| chosen.contains(&&table.id));
        let bytes: u64 = level_zero.map(|table| table.file_bytes).sum();
        (plan.input_bytes <= bytes.saturating_mul(IDLE_COST_MAX)).then_some(Plan { reason, ..plan })
    }

    /// The next plan to bring `table`, and what must move with it, to the last level.
    fn carry_down(
        &self,
        reason: PlanReason,
        table: &TableProperties,
        shape: &Shape,
        busy: &Busy,
    ) -> Option<Plan> {
        let (first, last) = (table.smallest_key.as_slice(), table.largest_key.as_slice());
        let after = table.id.0.counter + 1;
        let request = RangeRequest {
            range: KeyRange::from_bounds::<&[u8]>(&(first..=last)),
            up_to: table.seqno_max,
            last_level: match reason {
                PlanReason::Age => LastLevel::RewriteAll(after),
                _ => LastLevel::RewriteTombstones(after),
            },
            expired_at: 0,
            compression: None,
        };
        let plan = self.leveled.plan_range(shape, busy, &request)?;
        Some(Plan { reason, ..plan })
    }
}

/// An estimate of the bytes that compactions could free; see the top of this file.
/// `overwrite_share` is the percentage of newer entries that were found to replace an older one.
#[must_use]
pub fn reclaimable_bytes(shape: &Shape, overwrite_percent: u64) -> u64 {
    let freed = |(place, table): (Place<'_>, &TableProperties)| {
        let puts = table.entry_count - table.tombstone_count.min(table.entry_count);
        let replaced = puts.saturating_mul(overwrite_percent.min(100)) / 100;
        freed_by_tombstones(shape, place, table) + bytes_hidden(shape, place, table, replaced)
    };
    tables(shape).map(freed).sum::<u64>().min(shape.bytes())
}

/// Whether the tombstones of the newest run of level 0 free a good part of what they overlap: then
/// flushing more such runs is worthwhile, however small they are.
#[must_use]
pub fn newest_run_frees_much(shape: &Shape) -> bool {
    let Some(run) = shape.levels[0].runs.first() else { return false };
    let place = Place { level: 0, run };
    let freed: u64 = run.tables.iter().map(|t| freed_by_tombstones(shape, place, t)).sum();
    let overlapped = run.tables.iter().flat_map(|table| older_overlapping(shape, place, table));
    let overlapped: u64 = overlapped.map(|table| table.file_bytes).sum();
    overlapped + run.bytes() <= freed.saturating_mul(GAIN_SHARE)
}

/// The time, since the Unix epoch, of the oldest delete whose deleted entries may still be in the
/// tables.
#[must_use]
pub fn oldest_delete(shape: &Shape) -> Option<Duration> {
    let owed = |(place, table): (Place<'_>, &TableProperties)| {
        let since = times_of(table, 0).oldest_tombstone?;
        may_hold_deleted(shape, place, table).then_some(since)
    };
    tables(shape).filter_map(owed).min().map(Duration::from_millis)
}

fn freed_by_tombstones(shape: &Shape, place: Place<'_>, table: &TableProperties) -> u64 {
    if table.tombstone_count == 0 {
        return 0;
    }
    let own = table.tombstone_count * (table.key_bytes / table.entry_count.max(1) + 8);
    own + bytes_hidden(shape, place, table, table.tombstone_count)
}

/// Bytes of `count` entries of average size among the older tables that overlap `table`.
fn bytes_hidden(shape: &Shape, place: Place<'_>, table: &TableProperties, count: u64) -> u64 {
    if count == 0 {
        return 0;
    }
    let (mut entries, mut bytes) = (0_u64, 0_u64);
    for older in older_overlapping(shape, place, table) {
        entries += older.entry_count;
        bytes += older.file_bytes;
    }
    let hidden = u128::from(bytes) * u128::from(count.min(entries)) / u128::from(entries.max(1));
    u64::try_from(hidden).unwrap_or(u64::MAX)
}

fn run_count(shape: &Shape) -> usize {
    shape.levels.iter().map(|level| level.runs.len()).sum()
}

/// By how many runs `plan` reduces the tree.
fn runs_spared(shape: &Shape, plan: &Plan) -> usize {
    let inputs: BTreeSet<TableId> = plan.tables().collect();
    let runs = || shape.levels.iter().flat_map(|level| &level.runs);
    let stays = |run: &&RunShape| {
        Some(run.id) == plan.target_run || run.tables.iter().any(|t| !inputs.contains(&t.id))
    };
    let after = runs().filter(stays).count() + usize::from(plan.target_run.is_none());
    run_count(shape).saturating_sub(after)
}

fn tables(shape: &Shape) -> impl Iterator<Item = (Place<'_>, &TableProperties)> {
    assert_eq!(shape.levels.len(), LEVEL_COUNT_MAX, "a shape has every level");
    let levels = shape.levels.iter().enumerate();
    let places =
        levels.flat_map(|(level, runs)| runs.runs.iter().map(move |run| Place { level, run }));
    places.flat_map(|place| place.run.tables.iter().map(move |table| (place, &**table)))
}

/// Tables of older runs that overlap `table`, which is at `place`.
fn older_overlapping<'a>(
    shape: &'a Shape,
    place: Place<'_>,
    table: &'a TableProperties,
) -> impl Iterator<Item = &'a TableProperties> {
    let (level, id) = (place.level, place.run.id);
    let beside = shape.levels[level].runs.iter().filter(move |run| run.id < id);
    let deeper = shape.levels[level + 1..].iter().flat_map(|level| &level.runs);
    let overlapping =
        move |run: &'a RunShape| run.overlapping(&table.smallest_key, &table.largest_key);
    beside.chain(deeper).flat_map(overlapping).map(|table| &**table)
}

/// Whether entries that a delete of `table` has hidden may be left: in it, for a snapshot, or in
/// older tables.
fn may_hold_deleted(shape: &Shape, place: Place<'_>, table: &TableProperties) -> bool {
    table.has_spent() || older_overlapping(shape, place, table).next().is_some()
}

/// Whether every reader sees the newest entry of the table: then its tombstones hide what they hide
/// from everybody.
fn is_seen_by_all(table: &TableProperties, moment: Moment) -> bool {
    table.seqno_max <= moment.oldest_reader
}

/// Whether a compaction would move the table on, or it has not been rewritten for `rest`.
fn is_rested(place: Place<'_>, table: &TableProperties, rest: Duration, moment: Moment) -> bool {
    let is_last = place.level == LEVEL_COUNT_MAX - 1;
    let written = Duration::from_millis(times_of(table, 0).written);
    !is_last || written.saturating_add(rest) <= moment.now
}

#[cfg(test)]
mod tests;

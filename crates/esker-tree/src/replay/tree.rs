//! The tree of a replay: a shape as policies see it, with what its tables would hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use esker_base::{FileId, OwnerId, SeqNo, TableId};
use esker_table::{TableProperties, TableTimes};

use super::contents::{Cell, Contents, Grid, Whole};
use crate::imagined::{imagined_table, key_number};
use crate::plan::{Plan, PlanInput};
use crate::shape::{RunId, Shape};

/// Fewer entries than this in a cell are none.
const ENTRIES_MIN: f64 = 1e-3;

/// Bytes of a file for each of its entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryBytes {
    /// In level 0.
    pub(super) shallow: f64,
    /// In the others, where compression may be another.
    pub(super) deep: f64,
}

impl EntryBytes {
    const fn of_level(self, level: usize) -> f64 {
        if level == 0 { self.shallow } else { self.deep }
    }
}

/// One table of a flush.
#[derive(Clone, Debug)]
pub(super) struct FlushedTable {
    /// Positions, both ends inclusive.
    pub(super) hull: (u64, u64),
    pub(super) contents: Contents,
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) shape: Shape,
    contents: BTreeMap<TableId, Contents>,
    /// `None` until somebody asks, and after tables were dropped.
    pub(super) whole: Option<Whole>,
    grid: Grid,
    entry_bytes: EntryBytes,
    last_id: u64,
    last_seqno: u64,
}

/// What a plan did, in bytes.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Done {
    pub(super) written: u64,
    pub(super) dropped: u64,
}

/// What all outputs of one merge have in common.
struct Output {
    place: (usize, RunId),
    seqnos: (SeqNo, SeqNo),
    times: TableTimes,
}

impl Tree {
    pub(super) fn new(grid: Grid, entry_bytes: EntryBytes) -> Self {
        Self {
            shape: Shape::default(),
            contents: BTreeMap::new(),
            whole: None,
            grid,
            entry_bytes,
            last_id: 0,
            last_seqno: 0,
        }
    }

    /// Adds a table of the live tree, which reaches from one position to the other.
    pub(super) fn adopt(
        &mut self,
        place: (usize, RunId),
        hull: (u64, u64),
        live: &TableProperties,
    ) {
        self.last_id = self.last_id.max(live.id.0.counter).max(place.1.0);
        self.last_seqno = self.last_seqno.max(live.seqno_max.get());
        let all = Cell {
            entries: live.entry_count as f64,
            tombstones: live.tombstone_count.min(live.entry_count) as f64,
        };
        self.contents.insert(live.id, Contents::spread(self.grid, hull, all));
        let properties = TableProperties {
            seqno_min: live.seqno_min,
            seqno_max: live.seqno_max,
            entry_count: live.entry_count,
            tombstone_count: live.tombstone_count,
            key_bytes: live.key_bytes,
            value_bytes: live.value_bytes,
            extras: esker_table::TableExtras { times: live.extras.times, ..Default::default() },
            ..imagined_table(live.id, hull, live.file_bytes)
        };
        self.shape.place(place, Arc::new(properties));
    }

    fn mint(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Adds `tables` as a run of level 0, and returns their bytes.
    pub(super) fn flush(&mut self, tables: &[FlushedTable], times: TableTimes) -> u64 {
        let run = RunId(self.mint());
        let entries: f64 = tables.iter().map(|table| table.contents.sum().entries).sum();
        let first = self.last_seqno + 1;
        self.last_seqno += (entries as u64).max(1);
        let seqnos = (seqno(first), seqno(self.last_seqno));
        let output = Output { place: (0, run), seqnos, times };
        if let Some(whole) = &mut self.whole {
            whole.add(self.grid, &joined(tables.iter().map(|table| &table.contents)));
        }
        tables.iter().map(|t| self.add(&output, t.hull, t.contents.clone())).sum()
    }

    fn add(&mut self, output: &Output, hull: (u64, u64), contents: Contents) -> u64 {
        let id = TableId(FileId { owner: OwnerId::FIRST, counter: self.mint() });
        let sum = contents.sum();
        let bytes = (sum.entries * self.entry_bytes.of_level(output.place.0)).round().max(1.0);
        let mut properties = imagined_table(id, hull, bytes as u64);
        (properties.seqno_min, properties.seqno_max) = output.seqnos;
        properties.entry_count = sum.entries.round().max(1.0) as u64;
        properties.tombstone_count = sum.tombstones.round() as u64;
        properties.extras.times = Some(output.times);
        self.contents.insert(id, contents);
        self.shape.place(output.place, Arc::new(properties));
        bytes as u64
    }

    /// Does what `plan` says.
    ///
    /// # Errors
    /// If it cannot be done.
    pub(super) fn carry_out(&mut self, plan: &Plan, now: u64) -> Result<Done, String> {
        if plan.table_count() == 0 || !plan.fits(&self.shape) {
            return Err(format!("the tree does not have the inputs of the plan: {plan}"));
        }
        let taken = self.shape.take(plan);
        if plan.is_drop {
            let dropped = taken.iter().map(|table| table.file_bytes).sum();
            taken.iter().for_each(|table| drop(self.contents.remove(&table.id)));
            self.whole = None;
            return Ok(Done { written: 0, dropped });
        }
        let run = plan.target_run.unwrap_or_else(|| RunId(self.mint()));
        let place = (plan.target_level, run);
        if plan.is_trivial_move {
            taken.into_iter().for_each(|table| self.shape.place(place, table));
            return Ok(Done::default());
        }
        let is_last = !self.has_older(plan, place);
        let runs: Vec<Contents> = plan.inputs.iter().map(|input| self.take_run(input)).collect();
        let merged = Contents::merged(self.grid, &runs, is_last);
        let output = Output { place, seqnos: seqnos_of(&taken), times: times_of(&taken, now) };
        let written = self.write(plan, &output, &merged);
        Ok(Done { written, dropped: 0 })
    }

    fn take_run(&mut self, input: &PlanInput) -> Contents {
        let mut run = Contents::default();
        for id in &input.tables {
            run.add(&self.contents.remove(id).expect("every table has contents"));
        }
        run
    }

    /// Whether an older table overlaps the inputs of `plan`, which were taken out.
    fn has_older(&self, plan: &Plan, (level, run): (usize, RunId)) -> bool {
        let beside = self.shape.levels[level].runs.iter().filter(|other| other.id < run);
        let deeper = self.shape.levels[level + 1..].iter().flat_map(|level| &level.runs);
        let overlaps = |run: &crate::shape::RunShape| {
            !run.overlapping(&plan.first_key, &plan.last_key).is_empty()
        };
        beside.chain(deeper).any(overlaps)
    }

    fn merge_all(&self) -> Whole {
        let runs = self.shape.levels.iter().flat_map(|level| &level.runs);
        let contents = |table: &Arc<TableProperties>| &self.contents[&table.id];
        let runs: Vec<_> = runs.map(|run| joined(run.tables.iter().map(contents))).collect();
        Whole::of(self.grid, &runs)
    }

    /// Writes `merged` to tables that end where `plan` says, and returns their bytes.
    fn write(&mut self, plan: &Plan, output: &Output, merged: &Contents) -> u64 {
        let (first, last) = (key_number(&plan.first_key), key_number(&plan.last_key));
        let cuts: Vec<u64> = plan.cut_keys.iter().map(|key| key_number(key)).collect();
        let entry_bytes = self.entry_bytes.of_level(output.place.0);
        let entries_max = (plan.output_bytes_max as f64 / entry_bytes).max(1.0);
        let width = self.grid.width;
        let mut written = 0;
        let (mut hull, mut contents, mut held) = ((first, first), Contents::default(), 0.0);
        for (number, cell) in merged.iter().filter(|(_, cell)| cell.entries >= ENTRIES_MIN) {
            let mut start = first.max(number * width);
            let end = last.min((number + 1) * width - 1);
            let length = (end.saturating_sub(start) + 1) as f64;
            while start <= end {
                let next_cut = cuts.get(cuts.partition_point(|cut| *cut <= start));
                let room = ((entries_max - held) / cell.entries * length).max(0.0) as u64;
                let stop = end.min(start.saturating_add(room));
                let stop = next_cut.map_or(stop, |cut| stop.min(cut - 1));
                if held > 0.0 && (entries_max <= held || cuts.binary_search(&start).is_ok()) {
                    written += self.add(output, hull, std::mem::take(&mut contents));
                    held = 0.0;
                    continue;
                }
                let share = (stop - start + 1) as f64 / length;
                let piece =
                    Cell { entries: cell.entries * share, tombstones: cell.tombstones * share };
                contents.add(&Contents::spread(self.grid, (start, stop), piece));
                hull = (if held > 0.0 { hull.0 } else { start }, stop);
                held += piece.entries;
                start = stop + 1;
            }
        }
        if held > 0.0 {
            written += self.add(output, hull, contents);
        }
        written
    }

    /// Bytes of a tree of one run with the same keys and values.
    pub(super) fn bare_bytes(&mut self) -> f64 {
        let kept = self.whole.as_mut().and_then(Whole::step).unwrap_or_else(|| {
            let whole = self.merge_all();
            self.whole.insert(whole).step().unwrap_or(0.0)
        });
        let deepest = self.shape.levels.iter().rposition(|level| !level.runs.is_empty());
        kept * self.entry_bytes.of_level(deepest.unwrap_or(0))
    }
}

/// The contents of a run of these tables.
fn joined<'a>(tables: impl Iterator<Item = &'a Contents>) -> Contents {
    let mut run = Contents::default();
    tables.for_each(|table| run.add(table));
    run
}

fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number).unwrap_or(SeqNo::MAX)
}

fn seqnos_of(tables: &[Arc<TableProperties>]) -> (SeqNo, SeqNo) {
    let min = tables.iter().map(|table| table.seqno_min).min();
    let max = tables.iter().map(|table| table.seqno_max).max();
    (min.unwrap_or(SeqNo::ZERO), max.unwrap_or(SeqNo::ZERO))
}

/// Times of a merge of `tables` that is written at `now`.
fn times_of(tables: &[Arc<TableProperties>], now: u64) -> TableTimes {
    let times = tables.iter().filter_map(|table| table.extras.times);
    TableTimes {
        oldest: times.clone().map(|times| times.oldest).min().unwrap_or(0),
        newest: times.map(|times| times.newest).max().unwrap_or(now),
        oldest_tombstone: None,
        written: now,
    }
}

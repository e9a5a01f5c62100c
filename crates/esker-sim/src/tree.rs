//! The tree: a shape as policies see it, and what its tables would contain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{FileId, OwnerId, SeqNo, TableId};
use esker_table::TableProperties;
use esker_tree::{Plan, RunId, Shape, imagined_table};

use crate::ages::Ages;
use crate::keys::Stretch;
use crate::picture::{Picture, Rows, TablePicture};

/// Entries of a table; no figure depends on it.
const ENTRY_COUNT: u64 = 1000;

#[derive(Debug)]
struct Table {
    stretch: Stretch,
    ages: Ages,
    origin: u64,
}

#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) shape: Shape,
    tables: BTreeMap<TableId, Table>,
    table_bytes: u64,
    table_count: u64,
    run_count: u64,
    flush_count: u64,
}

/// The result of a plan.
#[derive(Debug)]
pub(crate) struct Done {
    /// Tables that were written.
    pub(crate) outputs: Vec<TablePicture>,
    /// The most tables that existed at once.
    pub(crate) peak_tables: u64,
}

impl Tree {
    /// An empty tree, whose tables are taken to have `table_bytes` each.
    pub(crate) fn new(table_bytes: u64) -> Self {
        Self {
            shape: Shape::default(),
            tables: BTreeMap::new(),
            table_bytes,
            table_count: 0,
            run_count: 0,
            flush_count: 0,
        }
    }

    pub(crate) fn table_count(&self) -> u64 {
        self.tables.len() as u64
    }

    pub(crate) fn table(&self, id: TableId) -> TablePicture {
        let table = &self.tables[&id];
        let Stretch { first, last } = table.stretch;
        TablePicture { id: id.0.counter, origin: table.origin, first_key: first, last_key: last }
    }

    pub(crate) fn picture(&self, rows: Rows) -> Picture {
        rows.picture(&self.shape, |id| self.table(id))
    }

    fn mint_run(&mut self) -> RunId {
        self.run_count += 1;
        RunId(self.run_count)
    }

    /// Adds one table to level 0, as a new run.
    pub(crate) fn flush(&mut self, stretch: Stretch, now: Duration) {
        self.flush_count += 1;
        self.shape.timeline.mark(seqno(self.flush_count), now);
        let run = self.mint_run();
        let ages = Ages::of_flush(stretch, self.flush_count);
        let origin = self.table_count + 1;
        self.add((0, run), Table { stretch, ages, origin });
    }

    fn add(&mut self, (level, run): (usize, RunId), table: Table) -> TableId {
        self.table_count += 1;
        let id = TableId(FileId { owner: OwnerId::FIRST, counter: self.table_count });
        let properties = Arc::new(properties(id, &table, self.table_bytes));
        self.tables.insert(id, table);
        self.shape.place((level, run), properties);
        id
    }

    /// Executes `plan`; a merge writes as many tables as it reads.
    ///
    /// # Errors
    /// If that is impossible.
    pub(crate) fn carry_out(&mut self, plan: &Plan) -> Result<Done, String> {
        if plan.table_count() == 0 || !plan.fits(&self.shape) {
            return Err(format!("the tree does not have the inputs of the plan: {plan}"));
        }
        if plan.target_level >= self.shape.levels.len() {
            return Err(format!("there is no level {}", plan.target_level));
        }
        let before = self.table_count();
        let inputs: Vec<TableId> = plan.tables().collect();
        let taken = self.shape.take(plan);
        if plan.is_drop {
            self.tables.retain(|id, _| !inputs.contains(id));
            return Ok(Done { outputs: Vec::new(), peak_tables: before });
        }
        let target = (plan.target_level, plan.target_run.unwrap_or_else(|| self.mint_run()));
        if plan.is_trivial_move {
            for table in taken {
                self.shape.place(target, table);
            }
            return Ok(Done { outputs: Vec::new(), peak_tables: before });
        }
        let sources: Vec<Table> = inputs.iter().filter_map(|id| self.tables.remove(id)).collect();
        let ages = Ages::merged(sources.iter().map(|table| &table.ages));
        let first = sources.iter().map(|table| table.stretch.first).min();
        let last = sources.iter().map(|table| table.stretch.last).max();
        let (first, last) = first.zip(last).expect("the plan has inputs");
        let mut outputs = Vec::new();
        let parts = Stretch { first, last }.split(sources.len() as u64);
        for (stretch, source) in parts.into_iter().zip(&sources) {
            let ages = ages.within(stretch);
            let id = self.add(target, Table { stretch, ages, origin: source.origin });
            outputs.push(self.table(id));
        }
        let peak_tables = before + outputs.len() as u64;
        Ok(Done { outputs, peak_tables })
    }

    /// Checks that no two tables of one run overlap, and that no key has an older entry in front of
    /// a newer one.
    ///
    /// # Errors
    /// Says what is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        let all = || self.tables.values().flat_map(|table| table.ages.iter());
        let mut bounds: Vec<u64> = all().flat_map(|(s, _)| [s.first, s.last + 1]).collect();
        bounds.sort_unstable();
        bounds.dedup();
        // From each bound to the next: the oldest entry in front.
        let mut in_front = vec![u64::MAX; bounds.len()];
        for (level, runs) in self.shape.levels.iter().enumerate() {
            for run in &runs.runs {
                let is_sorted = run.tables.is_sorted_by(|a, b| a.largest_key < b.smallest_key);
                if !is_sorted {
                    return Err(format!("tables of one run of tree level {level} overlap"));
                }
                for table in &run.tables {
                    for (stretch, age) in self.tables[&table.id].ages.iter() {
                        let start = bounds.partition_point(|&bound| bound < stretch.first);
                        let end = bounds.partition_point(|&bound| bound <= stretch.last);
                        for oldest in &mut in_front[start..end] {
                            if *oldest <= age.newest {
                                let (id, newest) = (table.id.0.counter, age.newest);
                                return Err(format!(
                                    "table {id} in tree level {level} holds an entry of flush \
                                     {newest} behind one of flush {oldest}"
                                ));
                            }
                            *oldest = age.oldest;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn seqno(flush: u64) -> SeqNo {
    SeqNo::new(flush).expect("fewer flushes than sequence numbers")
}

fn properties(id: TableId, table: &Table, bytes: u64) -> TableProperties {
    let age = table.ages.extremes();
    TableProperties {
        seqno_min: age.map_or(SeqNo::ZERO, |age| seqno(age.oldest)),
        seqno_max: age.map_or(SeqNo::ZERO, |age| seqno(age.newest)),
        entry_count: ENTRY_COUNT,
        ..imagined_table(id, (table.stretch.first, table.stretch.last), bytes)
    }
}

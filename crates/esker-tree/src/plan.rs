//! What to compact, as plain data: a policy makes a plan, one executor carries it out.
//!
//! A plan names its inputs by id, so it can be shown, recorded, or sent to another machine. Does
//! not know how plans are made or carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use esker_base::TableId;
use esker_table::TableProperties;

use crate::shape::{Bytes, RunId, Shape};

/// One compaction: which tables to merge, and where to put the result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Why it is worth doing.
    pub reason: PlanReason,
    /// The inputs, at least one table. Shallower levels first, newer runs of a level first.
    pub inputs: Vec<PlanInput>,
    /// The level that the outputs go to.
    pub target_level: usize,
    /// The run of the target level that the outputs join; `None` for a run of their own, newer than
    /// the others of the level.
    pub target_run: Option<RunId>,
    /// No output holds entries on both sides of one of these: each starts an output. Ascending.
    /// They are aligned with the tables of the next deeper level, so that the next compaction
    /// overlaps few.
    pub cut_keys: Vec<Vec<u8>>,
    /// Size, in bytes, at which an output is finished.
    pub output_bytes_max: u64,
    /// Whether nothing is read or written: the tables only change their place in the tree. None of
    /// them overlaps another, or a table of the target run.
    pub is_trivial_move: bool,
    /// Whether nothing is read or written because the tables are dropped with their entries. They
    /// include everything older that overlaps them, or entries that they hide would come back.
    pub is_drop: bool,
    /// Smallest user key of the inputs.
    pub first_key: Vec<u8>,
    /// Largest user key of the inputs.
    pub last_key: Vec<u8>,
    /// Bytes of the input files.
    pub input_bytes: u64,
}

/// Tables of one run that go into a compaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanInput {
    /// The level of the run.
    pub level: usize,
    /// The run.
    pub run: RunId,
    /// Tables of the run, ascending by key; at least one.
    pub tables: Vec<TableId>,
}

/// Why a compaction is worth doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanReason {
    /// Level 0 has too many runs or bytes.
    LevelZero,
    /// Level 0 has too many runs, and merging them with each other is all that can be done, or is
    /// cheapest.
    WithinLevelZero,
    /// The level holds more bytes than its target.
    Size,
    /// The table is mostly tombstones, which hide entries deeper down.
    Tombstones,
    /// The level has more runs than the policy allows.
    Runs,
    /// Too many bytes may be garbage, judging by the size of the newer runs compared with the
    /// oldest.
    Garbage,
    /// Newer runs together are as large as the next older one.
    SizeRatio,
    /// Runs of one time window belong together.
    Window,
    /// The tables have reached their maximum age.
    Age,
    /// The deadline for removing deleted data is near.
    Deadline,
    /// Nobody is writing, so there is time to make reads cheaper.
    Idle,
    /// Seeks have spent as much on searching several runs as merging them costs.
    Searches,
    /// Everything in the tables has expired.
    Expired,
    /// Range tombstones hide everything in the tables.
    RangeDeleted,
    /// A run has many small tables, which nothing else would merge.
    SmallTables,
    /// Too much of the blob files is garbage.
    BlobWaste,
    /// It was requested by a call.
    Manual,
}

impl PlanReason {
    /// The reason, in a lower-case word or two.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LevelZero => "level-0",
            Self::WithinLevelZero => "within-level-0",
            Self::Size => "size",
            Self::Tombstones => "tombstones",
            Self::Runs => "runs",
            Self::Garbage => "garbage",
            Self::SizeRatio => "size-ratio",
            Self::Window => "window",
            Self::Age => "age",
            Self::Deadline => "deadline",
            Self::Idle => "idle",
            Self::Searches => "searches",
            Self::Expired => "expired",
            Self::RangeDeleted => "range-deleted",
            Self::SmallTables => "small-tables",
            Self::BlobWaste => "blob-waste",
            Self::Manual => "manual",
        }
    }
}

impl fmt::Display for PlanReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Plan {
    /// Every input table.
    pub fn tables(&self) -> impl Iterator<Item = TableId> {
        self.inputs.iter().flat_map(|input| input.tables.iter().copied())
    }

    /// Number of input tables.
    #[must_use]
    pub fn table_count(&self) -> usize {
        self.inputs.iter().map(|input| input.tables.len()).sum()
    }

    /// This trivial move as a merge, for tables that must be written anew where they go: those of
    /// `shape`, for which the plan was made.
    ///
    /// The tables may stand around others of the target run, or around what a plan in flight is about
    /// to put there, so no output reaches from one input to the next. Only entries are held apart by
    /// cut keys; so a table with range tombstones is merged alone, and the others stay for other plans.
    #[must_use]
    pub fn as_merge(self, shape: &Shape) -> Self {
        let ids: BTreeSet<TableId> = self.tables().collect();
        let tables = || {
            let tables = shape.levels.iter().flat_map(|level| level.tables());
            tables.filter(|table| ids.contains(&table.id))
        };
        if let Some(table) = tables().find(|table| table.extras.ranges.is_some()) {
            return self.merge_of(table);
        }
        let mut cut_keys: Vec<_> = tables().map(|table| table.smallest_key.clone()).collect();
        cut_keys.sort();
        cut_keys.remove(0);
        Self { is_trivial_move: false, cut_keys, ..self }
    }

    /// A merge of this input alone to where the plan takes it.
    fn merge_of(mut self, table: &TableProperties) -> Self {
        self.inputs.retain(|input| input.tables.contains(&table.id));
        self.inputs.iter_mut().for_each(|input| input.tables = vec![table.id]);
        Self {
            is_trivial_move: false,
            first_key: table.smallest_key.clone(),
            last_key: table.largest_key.clone(),
            input_bytes: table.file_bytes,
            ..self
        }
    }

    /// Whether every input is still in `shape` where the plan says.
    #[must_use]
    pub fn fits(&self, shape: &Shape) -> bool {
        self.inputs.iter().all(|input| {
            let runs = shape.levels.get(input.level).map_or(&[][..], |level| &level.runs);
            runs.iter().find(|run| run.id == input.run).is_some_and(|run| {
                let standing: BTreeSet<_> = run.tables.iter().map(|t| t.id).collect();
                input.tables.iter().all(|id| standing.contains(id))
            })
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match (self.is_drop, self.is_trivial_move) {
            (true, _) => "drop",
            (false, true) => "move",
            (false, false) => "merge",
        };
        write!(f, "{}: {verb}", self.reason)?;
        for input in &self.inputs {
            write!(f, " L{}{}[", input.level, input.run)?;
            for (index, id) in input.tables.iter().enumerate() {
                write!(f, "{}{id}", if index > 0 { " " } else { "" })?;
            }
            f.write_str("]")?;
        }
        if !self.is_drop {
            write!(f, " to L{}", self.target_level)?;
            match self.target_run {
                Some(run) => write!(f, "{run}")?,
                None => f.write_str(" new run")?,
            }
        }
        let (first, last) = (KeyText(&self.first_key), KeyText(&self.last_key));
        write!(f, ", {first}..{last}, {}", Bytes(self.input_bytes))?;
        if !self.is_trivial_move && !self.is_drop {
            write!(f, ", outputs to {}", Bytes(self.output_bytes_max))?;
        }
        for (index, key) in self.cut_keys.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { ", cut at " } else { " " }, KeyText(key))?;
        }
        Ok(())
    }
}

/// Bytes of a key that are shown: events hold plans as text, outside the memory budget.
const KEY_BYTES_SHOWN: usize = 32;

/// A key, or the start of a long one and its length.
struct KeyText<'a>(&'a [u8]);

impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..KEY_BYTES_SHOWN) {
            Some(start) if KEY_BYTES_SHOWN < self.0.len() => {
                write!(f, "{} (of {} bytes)", start.escape_ascii(), self.0.len())
            }
            _ => write!(f, "{}", self.0.escape_ascii()),
        }
    }
}

/// Names one plan in flight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobId(pub u64);

/// The compactions in flight, which a new plan must not conflict with.
///
/// Plans that are made one after another, with the earlier ones registered here, can run and be
/// installed in any order.
#[derive(Clone, Default, Debug)]
pub struct Busy {
    jobs: BTreeMap<JobId, Plan>,
    tables: BTreeSet<TableId>,
    next_job: u64,
    ended_count: u64,
}

impl Busy {
    /// Nothing in flight.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `plan`, until [`Busy::finish`].
    ///
    /// # Panics
    /// If one of its tables is in flight already.
    pub fn start(&mut self, plan: Plan) -> JobId {
        for id in plan.tables() {
            assert!(self.tables.insert(id), "table {id} is compacted twice at once");
        }
        let job = JobId(self.next_job);
        self.next_job += 1;
        self.jobs.insert(job, plan);
        job
    }

    /// Forgets `job`, which is installed, failed or cancelled, and returns its plan.
    ///
    /// # Panics
    /// If it is not in flight.
    pub fn finish(&mut self, job: JobId) -> Plan {
        let plan = self.jobs.remove(&job).expect("a job ends once, after it started");
        self.ended_count += 1;
        for id in plan.tables() {
            self.tables.remove(&id);
        }
        plan
    }

    /// Whether `table` is an input of a plan in flight.
    #[must_use]
    pub fn has(&self, table: TableId) -> bool {
        self.tables.contains(&table)
    }

    /// How many plans have ended so far.
    #[must_use]
    pub const fn ended_count(&self) -> u64 {
        self.ended_count
    }

    /// Whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The plans in flight, oldest first.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.jobs.values()
    }

    /// Whether a plan in flight will put tables into `level` that may overlap `first..=last`.
    #[must_use]
    pub fn writes_into(&self, level: usize, first: &[u8], last: &[u8]) -> bool {
        self.jobs.values().any(|plan| {
            plan.target_level == level
                && !plan.is_drop
                && plan.first_key.as_slice() <= last
                && first <= plan.last_key.as_slice()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database of keys of 64 KiB kept 32 MiB of plans in its list of events.
    #[test]
    fn plan_in_words_shows_the_start_of_long_keys() {
        let plan = Plan {
            reason: PlanReason::Size,
            inputs: Vec::new(),
            target_level: 2,
            target_run: Some(RunId(7)),
            cut_keys: vec![vec![b'm'; 32], vec![b'n'; 33]],
            output_bytes_max: 2048,
            is_trivial_move: false,
            is_drop: false,
            first_key: b"a".to_vec(),
            last_key: vec![b'z'; 65_535],
            input_bytes: 4096,
        };
        let (m, n, z) = ("m".repeat(32), "n".repeat(32), "z".repeat(32));
        assert_eq!(
            plan.to_string(),
            format!(
                "size: merge to L2#7, a..{z} (of 65535 bytes), 4KiB, outputs to 2KiB, \
                 cut at {m} {n} (of 33 bytes)"
            )
        );
    }
}

//! How much of each blob file is garbage, and planning its collection.
//!
//! Pure: a function of the references that the tables of a tree record. Bytes of a blob file that
//! no table refers to are garbage; a file that no table refers to at all no longer belongs to the
//! tree. Nothing is accumulated over time, so nothing can drift.
//!
//! With a delete deadline, a file past a certain age must hold no garbage at all. Clearing it moves
//! its live values to a new file, so no value is moved for a deadline more than once in that age.
//!
//! Small files are joined by compactions that meet several of them anyway, whatever is in them.
//!
//! Why this bounds the waste: if more than the allowed share of all blob bytes is garbage, at least
//! one file has more than that share. The worst one is cleared: every table that refers to it is
//! rewritten in place in the tree, which moves live values to new files without garbage. Each such
//! plan leaves fewer references to wasteful files, so this terminates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use esker_base::BlobFileId;
use esker_table::{BlobFileFacts, TableProperties};

use crate::blob_options::BlobBound;
use crate::plan::{Busy, Plan, PlanInput, PlanReason};
use crate::shape::{RunShape, Shape};

/// What is known about one blob file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobFileUse {
    /// The file.
    pub facts: BlobFileFacts,
    /// How many entries of tables refer to it.
    pub count: u64,
    /// Bytes of the records that they refer to.
    pub bytes: u64,
}

impl BlobFileUse {
    /// Bytes of records that no table refers to.
    #[must_use]
    pub const fn garbage_bytes(&self) -> u64 {
        self.facts.record_bytes().saturating_sub(self.bytes)
    }

    /// Whether it is too old to hold garbage, but does.
    fn is_due(&self, bound: BlobBound) -> bool {
        let is_old = bound.due_millis.is_some_and(|due| self.facts.written_millis <= due);
        is_old && self.garbage_bytes() > 0
    }
}

/// The blob files that the tables of a tree refer to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct BlobAccount {
    files: BTreeMap<BlobFileId, BlobFileUse>,
}

impl BlobAccount {
    /// What `tables` refer to.
    ///
    /// # Cost
    /// Looks at every table.
    pub fn of<'a>(tables: impl Iterator<Item = &'a TableProperties>) -> Self {
        let mut account = Self::default();
        for table in tables {
            for one in table.blob_uses() {
                let none = BlobFileUse { facts: one.facts, count: 0, bytes: 0 };
                let file = account.files.entry(one.facts.id).or_insert(none);
                file.count += one.count;
                file.bytes += one.bytes;
            }
        }
        account
    }

    /// What the tables of `shape` refer to.
    #[must_use]
    pub fn of_shape(shape: &Shape) -> Self {
        let runs = shape.levels.iter().flat_map(|level| &level.runs);
        Self::of(runs.flat_map(|run| &run.tables).map(Arc::as_ref))
    }

    /// The files, ascending.
    pub fn files(&self) -> impl Iterator<Item = &BlobFileUse> {
        self.files.values()
    }

    /// The file `id`.
    #[must_use]
    pub fn file(&self, id: BlobFileId) -> Option<&BlobFileUse> {
        self.files.get(&id)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.files().map(|file| file.facts.file_bytes).sum()
    }

    /// Bytes of all records.
    #[must_use]
    pub fn record_bytes(&self) -> u64 {
        self.files().map(|file| file.facts.record_bytes()).sum()
    }

    /// Bytes of all records that no table refers to.
    #[must_use]
    pub fn garbage_bytes(&self) -> u64 {
        self.files().map(BlobFileUse::garbage_bytes).sum()
    }

    /// Bytes of garbage beyond the allowed share of all records.
    #[must_use]
    pub fn excess_bytes(&self, waste_percent_max: u32) -> u64 {
        let allowed = u128::from(self.record_bytes()) * u128::from(waste_percent_max) / 100;
        let allowed = u64::try_from(allowed).unwrap_or(u64::MAX);
        self.garbage_bytes().saturating_sub(allowed)
    }

    /// Whether the file `id` holds more garbage than `bound` allows in it.
    #[must_use]
    pub fn is_past(&self, id: BlobFileId, bound: BlobBound) -> bool {
        self.file(id).is_some_and(|file| {
            let allowed =
                u128::from(file.facts.record_bytes()) * u128::from(bound.waste_percent_max);
            file.is_due(bound) || allowed < u128::from(file.garbage_bytes()) * 100
        })
    }

    /// The files that hold more garbage than `bound` allows: first those that are due, then the
    /// others, each with the most garbage first.
    fn past(&self, bound: BlobBound) -> Vec<BlobFileId> {
        let is_past = |file: &&BlobFileUse| self.is_past(file.facts.id, bound);
        let mut files: Vec<&BlobFileUse> = self.files().filter(is_past).collect();
        files.sort_by_key(|file| {
            let (is_due, garbage) = (file.is_due(bound), file.garbage_bytes());
            (std::cmp::Reverse((is_due, garbage)), file.facts.id)
        });
        files.into_iter().map(|file| file.facts.id).collect()
    }
}

/// A blob file is small if it is no larger than this share of a full one. So a table that is mostly
/// its own entries rewrites at most that much more for the values that it keeps in a small file.
const SMALL_SHARE: u64 = 64;

/// How many small files a compaction must meet to join them: each value is then moved for several
/// flushes, not for each.
const SMALL_COUNT_MIN: usize = 4;

/// The small blob files that `tables`, the inputs of one compaction, refer to, if they are many
/// enough to be joined: their values move to new files, each of up to `file_bytes_max`. Otherwise
/// there would be a file for each small flush for good.
pub(crate) fn small_files<'a>(
    tables: impl Iterator<Item = &'a TableProperties>,
    file_bytes_max: u64,
) -> BTreeSet<BlobFileId> {
    let uses = tables.flat_map(TableProperties::blob_uses);
    let small = uses.filter(|one| one.facts.file_bytes <= file_bytes_max / SMALL_SHARE);
    let small: BTreeSet<BlobFileId> = small.map(|one| one.facts.id).collect();
    if small.len() < SMALL_COUNT_MIN { BTreeSet::new() } else { small }
}

/// Most bytes that one plan rewrites, of tables and the values that move with them, so that it ends
/// soon and does not need much space.
const PLAN_BYTES_MAX: u64 = 256 << 20;

/// The plan that brings garbage in blob files back within `bound`, if it is exceeded: it rewrites
/// tables that refer to the worst file, in place. `output_bytes_max` is the target size of tables.
/// `None` also if all those tables are in flight in `busy`.
#[must_use]
pub fn pick_blob_waste(
    shape: &Shape,
    busy: &Busy,
    bound: BlobBound,
    output_bytes_max: u64,
) -> Option<Plan> {
    let account = BlobAccount::of_shape(shape);
    let is_due = account.files().any(|file| file.is_due(bound));
    if !is_due && account.excess_bytes(bound.waste_percent_max) == 0 {
        return None;
    }
    let past = account.past(bound);
    let all: BTreeSet<BlobFileId> = past.iter().copied().collect();
    // Deepest first: that is where most live data is.
    let runs = || {
        let levels = shape.levels.iter().enumerate().rev();
        levels.flat_map(|(level, runs)| runs.runs.iter().map(move |run| (level, run)))
    };
    past.iter().find_map(|&worst| {
        runs().find_map(|(level, run)| rewrite(level, run, worst, &all, busy, output_bytes_max))
    })
}

/// Rewrites the first adjacent tables of `run` that refer to `worst`, as many as one plan takes.
/// Adjacent, so that the outputs, including range tombstones, overlap no table that stays.
fn rewrite(
    level: usize,
    run: &RunShape,
    worst: BlobFileId,
    past: &BTreeSet<BlobFileId>,
    busy: &Busy,
    output_bytes_max: u64,
) -> Option<Plan> {
    let is_due = |table: &&Arc<TableProperties>| {
        !busy.has(table.id)
            && table.extras.blobs.as_ref().is_some_and(|uses| uses.of(worst).is_some())
    };
    let moves = |table: &TableProperties| -> u64 {
        table.blob_uses().filter(|one| past.contains(&one.facts.id)).map(|one| one.bytes).sum()
    };
    let mut bytes = 0;
    let due = run.tables.iter().skip_while(|table| !is_due(table)).take_while(is_due);
    let chosen: Vec<&Arc<TableProperties>> = due
        .take_while(|table| {
            let is_first = bytes == 0;
            bytes += table.file_bytes + moves(table);
            is_first || bytes <= PLAN_BYTES_MAX
        })
        .collect();
    let (first, last) = (chosen.first()?, chosen.last()?);
    // A plan in flight may put a table into a gap between them, which the outputs would span.
    if busy.writes_into(level, &first.smallest_key, &last.largest_key) {
        return None;
    }
    Some(Plan {
        reason: PlanReason::BlobWaste,
        target_level: level,
        target_run: Some(run.id),
        cut_keys: Vec::new(),
        output_bytes_max,
        is_trivial_move: false,
        is_drop: false,
        first_key: first.smallest_key.clone(),
        last_key: last.largest_key.clone(),
        input_bytes: chosen.iter().map(|table| table.file_bytes).sum(),
        inputs: vec![PlanInput {
            level,
            run: run.id,
            tables: chosen.iter().map(|table| table.id).collect(),
        }],
    })
}

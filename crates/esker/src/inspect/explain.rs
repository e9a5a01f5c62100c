//! What one read does, and why: every memtable and table considered, left out or read.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

use esker_base::{KeyRange, SeqNo};
use esker_memtable::Memtable;
use esker_table::{BlockRead, FilterVerdict, ReadTrace, Table};
use esker_tree::Run;

use crate::cursor::Cursor;
use crate::engine::Engine;
use crate::error::Result;
use crate::keyspace_core::KeyspaceCore;
use crate::read::{AsOf, Basis, GetTrace, Target, find};

/// How a point read went.
#[derive(Clone, Debug)]
pub struct GetExplanation {
    /// The key.
    pub key: Vec<u8>,
    /// The sequence number that was read at.
    pub snapshot: u64,
    /// What was considered, in order.
    pub steps: Vec<GetStep>,
    /// Operands that were merged into the value.
    pub operands_merged: u64,
    /// Length of the value; `None` if there is none.
    pub value_len: Option<usize>,
    /// How long until the value expires, zero if it has; `None` if it does not.
    pub expires_in: Option<Duration>,
    /// How long the read took, tracing included.
    pub time: Duration,
}

/// One memtable or run that a point read considered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GetStep {
    /// A memtable was searched.
    Memtable {
        /// Its entries.
        entry_count: u64,
        /// Whether it has a visible entry of the key.
        decides: bool,
    },
    /// No table of the run covers the key.
    OutsideRun {
        /// The level.
        level: usize,
        /// Tables of the run.
        table_count: usize,
    },
    /// A range tombstone over the key, in the memtable or table of the previous step, hides
    /// everything older.
    RangeTombstone {
        /// Its sequence number.
        seqno: u64,
    },
    /// All entries of the table are newer than the reader.
    TooNew {
        /// The level.
        level: usize,
        /// File name of the table.
        table: String,
    },
    /// A table was searched.
    Table {
        /// The level.
        level: usize,
        /// File name of the table.
        table: String,
        /// What its filter said, if it was asked.
        filter: Option<FilterVerdict>,
        /// The blocks that were needed.
        blocks: Vec<BlockRead>,
        /// Entries of the key that the reader may not see.
        stepped_over: u64,
        /// Whether it has a visible entry of the key.
        decides: bool,
    },
}

impl fmt::Display for GetExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "get {} at sequence number {}: ", self.key.escape_ascii(), self.snapshot)?;
        match self.value_len {
            Some(len) => write!(f, "a value of {len} bytes")?,
            None => write!(f, "no value")?,
        }
        match (self.expires_in, self.value_len) {
            (Some(rest), Some(_)) => write!(f, ", which expires in {rest:.1?}")?,
            (Some(_), None) => write!(f, ", it has expired")?,
            (None, _) => {}
        }
        if 0 < self.operands_merged {
            write!(f, ", merged from {} operands", self.operands_merged)?;
        }
        writeln!(f, ", in {:.1?}", self.time)?;
        for (index, step) in self.steps.iter().enumerate() {
            let branch = if index + 1 == self.steps.len() { "`-" } else { "|-" };
            writeln!(f, "{branch} {step}")?;
        }
        Ok(())
    }
}

impl fmt::Display for GetStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = |decides| if decides { "found" } else { "not found" };
        match self {
            Self::Memtable { entry_count, decides } => {
                write!(f, "memtable of {entry_count} entries: {}", found(*decides))
            }
            Self::OutsideRun { level, table_count } => {
                write!(f, "L{level} run of {table_count} tables: no table covers the key")
            }
            Self::RangeTombstone { seqno } => {
                write!(f, "a range tombstone of number {seqno} deletes the key there")
            }
            Self::TooNew { level, table } => {
                write!(f, "L{level} {table}: left out, all entries are newer than the reader")
            }
            Self::Table { level, table, filter, blocks, stepped_over, decides } => {
                write!(f, "L{level} {table}:")?;
                match filter {
                    Some(FilterVerdict::Excluded) => f.write_str(" filter excludes the key,")?,
                    Some(FilterVerdict::MayContain) => f.write_str(" filter lets the key pass,")?,
                    Some(FilterVerdict::Absent) => f.write_str(" no filter,")?,
                    Some(FilterVerdict::Damaged) => f.write_str(" filter is damaged, ignored,")?,
                    None => {}
                }
                for block in blocks {
                    write!(f, " {} block at {}", block.kind, block.offset)?;
                    if block.from_cache {
                        f.write_str(" from the cache,")?;
                    } else {
                        write!(f, " from disk ({} bytes, {:.1?}),", block.bytes, block.time)?;
                    }
                }
                if 0 < *stepped_over {
                    write!(f, " {stepped_over} newer versions stepped over,")?;
                }
                write!(f, " {}", found(*decides))
            }
        }
    }
}

#[derive(Default)]
struct Recorder {
    steps: Vec<GetStep>,
    operands_merged: u64,
    expiry: Option<u64>,
}

impl ReadTrace for Recorder {
    fn filter(&mut self, verdict: FilterVerdict) {
        if let Some(GetStep::Table { filter, .. }) = self.steps.last_mut() {
            *filter = Some(verdict);
        }
    }

    fn block(&mut self, read: BlockRead) {
        if let Some(GetStep::Table { blocks, .. }) = self.steps.last_mut() {
            blocks.push(read);
        }
    }

    fn stepped_over(&mut self, count: u64) {
        if let Some(GetStep::Table { stepped_over, .. }) = self.steps.last_mut() {
            *stepped_over += count;
        }
    }
}

impl GetTrace for Recorder {
    fn memtable(&mut self, memtable: &Memtable, decides: bool) {
        let entry_count = memtable.entry_count();
        self.steps.push(GetStep::Memtable { entry_count, decides });
    }

    fn outside(&mut self, level: usize, run: &Run) {
        self.steps.push(GetStep::OutsideRun { level, table_count: run.tables().len() });
    }

    fn covered(&mut self, seqno: SeqNo) {
        self.steps.push(GetStep::RangeTombstone { seqno: seqno.get() });
    }

    fn too_new(&mut self, level: usize, table: &Table) {
        let table = table.properties().id.file_name();
        self.steps.push(GetStep::TooNew { level, table });
    }

    fn enter(&mut self, level: usize, table: &Table) {
        self.steps.push(GetStep::Table {
            level,
            table: table.properties().id.file_name(),
            filter: None,
            blocks: Vec::new(),
            stepped_over: 0,
            decides: false,
        });
    }

    fn leave(&mut self, found: bool) {
        if let Some(GetStep::Table { decides, .. }) = self.steps.last_mut() {
            *decides = found;
        }
    }

    fn merged(&mut self, operands: u64) {
        self.operands_merged = operands;
    }

    fn expires(&mut self, millis: u64) {
        self.expiry = Some(millis);
    }
}

/// How a scan went.
#[derive(Clone, Debug)]
pub struct ScanExplanation {
    /// The range, as text.
    pub range: String,
    /// The sequence number that was read at.
    pub snapshot: u64,
    /// The memtables and runs that were merged, newest first. Their number is the number of active
    /// inputs.
    pub inputs: Vec<ScanInput>,
    /// Tables of the keyspace that lie outside of the range: not opened.
    pub tables_left_out: usize,
    /// Tables whose prefix filter excludes the range: neither their index nor their data was read.
    pub tables_excluded: Vec<ExcludedTable>,
    /// Entries that the scan yielded.
    pub entry_count: u64,
    /// Entries stepped over because newer ones hide them, or because they are newer than the
    /// reader.
    pub versions_stepped_over: u64,
    /// Tombstones stepped over.
    pub tombstones_stepped_over: u64,
    /// Entries stepped over because a range tombstone hides them.
    pub range_deleted_stepped_over: u64,
    /// Jumps to the end of a deleted range, past tables and blocks that are not read.
    pub range_jumps: u64,
    /// Operands that were merged into values.
    pub operands_merged: u64,
    /// Cache hits during the scan, of the whole database.
    pub cache_hits: u64,
    /// Blocks loaded into the cache during the scan, of the whole database.
    pub cache_loads: u64,
    /// How long the scan took.
    pub time: Duration,
}

/// One input of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanInput {
    /// A memtable.
    Memtable {
        /// Its entries.
        entry_count: u64,
    },
    /// A run, of which only the tables that overlap the range are read.
    Run {
        /// The level.
        level: usize,
        /// The run's id.
        run: u64,
        /// Tables that overlap the range.
        table_count: usize,
    },
}

/// A table in the range of a scan that has no entry in it, according to its prefix filter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExcludedTable {
    /// The level.
    pub level: usize,
    /// File name of the table.
    pub table: String,
}

impl fmt::Display for ScanExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "scan {} at sequence number {}: {} entries in {:.1?}",
            self.range, self.snapshot, self.entry_count, self.time
        )?;
        writeln!(f, "|- {} active inputs", self.inputs.len())?;
        for input in &self.inputs {
            match input {
                ScanInput::Memtable { entry_count } => {
                    writeln!(f, "|  |- memtable of {entry_count} entries")?;
                }
                ScanInput::Run { level, run, table_count } => {
                    writeln!(f, "|  |- L{level} run {run}: {table_count} tables in the range")?;
                }
            }
        }
        writeln!(f, "|- {} tables lie outside and were not opened", self.tables_left_out)?;
        for ExcludedTable { level, table } in &self.tables_excluded {
            writeln!(f, "|- L{level} {table}: left out, its prefix filter excludes the range")?;
        }
        writeln!(
            f,
            "|- stepped over {} versions and {} tombstones",
            self.versions_stepped_over, self.tombstones_stepped_over
        )?;
        if 0 < self.range_jumps + self.range_deleted_stepped_over {
            writeln!(
                f,
                "|- met {} entries deleted by range, and jumped {} times",
                self.range_deleted_stepped_over, self.range_jumps
            )?;
        }
        if 0 < self.operands_merged {
            writeln!(f, "|- merged {} operands", self.operands_merged)?;
        }
        writeln!(f, "`- {} blocks from the cache, {} loaded", self.cache_hits, self.cache_loads)
    }
}

/// What a scan will merge, and what it leaves out.
struct ScanInputs {
    inputs: Vec<ScanInput>,
    tables_left_out: usize,
    tables_excluded: Vec<ExcludedTable>,
}

impl Engine {
    pub(crate) fn explain_get(
        &self,
        keyspace: &KeyspaceCore,
        key: &[u8],
    ) -> Result<GetExplanation> {
        self.check_open()?;
        let stored = keyspace.stored_key(key)?;
        let AsOf { view, seqno: snapshot, millis } = self.as_of(keyspace, None)?;
        let mut recorder = Recorder::default();
        let started = self.now();
        let target = Target { keyspace, view: &view, key: &stored, snapshot };
        let basis = || Basis::at_once(self.read_context(keyspace, millis));
        let found = find(target, basis, &mut recorder)?;
        let rest = |expiry: u64| Duration::from_millis(expiry.saturating_sub(millis));
        Ok(GetExplanation {
            key: key.to_vec(),
            snapshot: snapshot.get(),
            steps: recorder.steps,
            operands_merged: recorder.operands_merged,
            value_len: found.map(|found| found.as_bytes().len()),
            expires_in: recorder.expiry.map(rest),
            time: self.now().saturating_sub(started),
        })
    }

    pub(crate) fn explain_scan<K: AsRef<[u8]>>(
        self: &Arc<Self>,
        keyspace: &Arc<KeyspaceCore>,
        range: &impl RangeBounds<K>,
        limit: Option<u64>,
    ) -> Result<ScanExplanation> {
        let stored = keyspace.stored_range(range)?;
        let pin = Arc::new(self.snapshots.pin(self.now()));
        let ScanInputs { inputs, tables_left_out, tables_excluded } =
            self.scan_inputs(keyspace, &stored, pin.seqno())?;
        let cache = self.cache.stats();
        let started = self.now();
        let mut cursor = Cursor::new(self, keyspace, stored, Some(Arc::clone(&pin)))?;
        let mut entry_count = 0;
        cursor.seek_to_first()?;
        while cursor.is_valid() && limit.is_none_or(|limit| entry_count < limit) {
            entry_count += 1;
            cursor.next()?;
        }
        let time = self.now().saturating_sub(started);
        let stepped_over = cursor.stepped_over();
        let cache_after = self.cache.stats();
        Ok(ScanExplanation {
            range: describe(&KeyRange::from_bounds(range)),
            snapshot: pin.seqno().get(),
            inputs,
            tables_left_out,
            tables_excluded,
            entry_count,
            versions_stepped_over: stepped_over.versions,
            tombstones_stepped_over: stepped_over.tombstones,
            range_deleted_stepped_over: stepped_over.covered,
            range_jumps: stepped_over.jumps,
            operands_merged: stepped_over.operands,
            cache_hits: cache_after.hits.saturating_sub(cache.hits),
            cache_loads: cache_after.loads.saturating_sub(cache.loads),
            time,
        })
    }

    fn scan_inputs(
        &self,
        keyspace: &KeyspaceCore,
        range: &KeyRange,
        seqno: SeqNo,
    ) -> Result<ScanInputs> {
        self.check_open()?;
        let view = keyspace.view();
        let mut inputs = Vec::new();
        let mut tables_excluded = Vec::new();
        for memtable in view.memtables() {
            if memtable.entry_seqno_range().is_some_and(|(oldest, _)| oldest <= seqno) {
                inputs.push(ScanInput::Memtable { entry_count: memtable.entry_count() });
            }
        }
        let mut left_out = 0;
        for (level, runs) in view.version.levels().iter().enumerate() {
            for run in runs.runs() {
                let tables = run.overlapping(range);
                let table_count = tables.len();
                left_out += run.tables().len() - table_count;
                if let [table] = tables
                    && table.prefix_verdict(range)? == FilterVerdict::Excluded
                {
                    let table = table.properties().id.file_name();
                    tables_excluded.push(ExcludedTable { level, table });
                } else if 0 < table_count {
                    inputs.push(ScanInput::Run { level, run: run.id().0, table_count });
                }
            }
        }
        Ok(ScanInputs { inputs, tables_left_out: left_out, tables_excluded })
    }
}

fn describe(range: &KeyRange) -> String {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let start = match &range.start {
        Included(key) => format!("[{}", key.escape_ascii()),
        Excluded(key) => format!("({}", key.escape_ascii()),
        Unbounded => "(".to_owned(),
    };
    let end = match &range.end {
        Included(key) => format!("{}]", key.escape_ascii()),
        Excluded(key) => format!("{})", key.escape_ascii()),
        Unbounded => ")".to_owned(),
    };
    format!("{start} .. {end}")
}

//! What a repair keeps of the log: the operations that are in no table, up to the first hole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use esker_base::{Corruption, EntryKind, FileHeader, FileKind, KeyspaceId, LogId, SeqNo, TableId};
use esker_memtable::Memtable;

use super::causes::Causes;
use super::history::History;
use super::place::Place;
use super::repair_report::Loss;
use super::report::AffectedKeys;
use crate::damaged::log_walk::{Group, Hole, LogItem, SegmentEnd, walk_logs};
use crate::error::Result;
use crate::logs::durable_of_all;
use crate::operation::Operation;

/// What is in a log and in no table.
#[derive(Default)]
pub(super) struct LogRescue {
    /// By keyspace.
    pub(super) memtables: BTreeMap<KeyspaceId, Memtable>,
    pub(super) operation_count: u64,
    /// The largest sequence number found, whether kept or not.
    pub(super) last_seqno: SeqNo,
    pub(super) lost: Vec<Loss>,
    /// Segments of which something is lost, or may be.
    pub(super) spoilt: BTreeSet<LogId>,
}

/// Reads `logs`, which are in order. With `goes_on`, also keeps what follows a hole.
///
/// Without an intact manifest, groups separated by a gap from later ones are from segments that
/// were released but whose files were not removed yet: they are in tables. If no table shows that, it
/// may be a hole as well, and they count as lost.
///
/// # Errors
/// Of the system.
pub(super) fn rescue(
    place: &Place,
    history: &History,
    causes: &Causes,
    logs: &[LogId],
    goes_on: bool,
) -> Result<LogRescue> {
    let before = if history.is_whole { history.catalog.last_seqno } else { SeqNo::MAX };
    let flushed = if history.is_whole { BTreeMap::new() } else { newest_flushed(place, history)? };
    let found = LogRescue::default();
    let mut walk = Walk {
        history,
        causes,
        logs,
        goes_on,
        flushed,
        found,
        stopped: false,
        is_behind_damage: false,
        gaps: Vec::new(),
        behind_hole: Keys::new(),
        taken: SeqNo::ZERO,
        repeated: Keys::new(),
        doubtful: Keys::new(),
    };
    let durable = durable_of_all(&history.catalog);
    let log = place.damaged_log(history.database());
    walk_logs(log, logs, &durable, before, |item| walk.item(item))?;
    let behind_hole = std::mem::take(&mut walk.behind_hole);
    walk.lose(behind_hole, "operations behind a hole in the log");
    let repeated = std::mem::take(&mut walk.repeated);
    walk.lose(repeated, "operations with numbers that others before had");
    Ok(walk.found)
}

/// Keys of operations, by segment and keyspace.
type Keys = BTreeMap<(LogId, KeyspaceId), AffectedKeys>;

struct Walk<'a> {
    history: &'a History,
    causes: &'a Causes,
    logs: &'a [LogId],
    goes_on: bool,
    /// For each keyspace, a number up to which its operations are in tables, where tables show that.
    flushed: BTreeMap<KeyspaceId, SeqNo>,
    found: LogRescue,
    /// A hole was found, and what is behind it does not count.
    stopped: bool,
    /// A gap that follows damage is the hole that the damage left.
    is_behind_damage: bool,
    /// Gaps of which no segment has said yet that they were durable.
    gaps: Vec<(SeqNo, SeqNo, Option<Hole>)>,
    behind_hole: Keys,
    /// The largest number that was taken.
    taken: SeqNo,
    /// Of operations with numbers that were taken before.
    repeated: Keys,
    /// Of those that were taken: no table shows that they are in tables, and without an intact
    /// manifest, nothing else would.
    doubtful: Keys,
}

impl Walk<'_> {
    fn item(&mut self, item: LogItem<'_>) {
        match item {
            LogItem::Damage(damage) => self.damage(damage),
            LogItem::HeaderDamage(log, _) => drop(self.found.spoilt.insert(log)),
            LogItem::Gap { after, before, hole } => self.gap(after, before, hole),
            LogItem::Group(group) => self.group(&group),
            LogItem::End(segment) => self.end(&segment),
        }
    }

    fn damage(&mut self, damage: Corruption) {
        self.is_behind_damage = true;
        self.stopped |= !self.goes_on;
        let what = self.causes.of(&damage);
        let log = self.logs.iter().find(|log| log.file_name() == damage.file);
        self.found.spoilt.extend(log);
        self.found.lost.push(Loss { file: damage.file, what, keys: None });
    }

    fn gap(&mut self, after: SeqNo, before: SeqNo, hole: Option<Hole>) {
        self.gaps.push((after, before, hole));
        if std::mem::take(&mut self.is_behind_damage) {
            return;
        }
        // What is there of them that nobody can read goes with the log.
        let segments = hole.into_iter().flat_map(|hole| hole.segments(self.logs));
        self.found.spoilt.extend(segments);
        if self.history.is_whole {
            self.stopped |= !self.goes_on;
            return;
        }
        self.found.memtables.clear();
        self.taken = SeqNo::ZERO;
        self.found.operation_count = 0;
        let what = "operations before a gap in the log: nothing tells whether tables have them";
        let doubtful = std::mem::take(&mut self.doubtful);
        self.lose(doubtful, what);
    }

    fn group(&mut self, group: &Group<'_>) {
        self.is_behind_damage = false;
        self.found.last_seqno = self.found.last_seqno.max(group.last_seqno());
        let history = self.history;
        // A segment of a copy of the database, which has gone on by itself, may be in the place of one.
        let repeats = group.first_seqno <= self.taken
            && !esker_base::planted::is("salvage-takes-numbers-twice");
        for (seqno, operation) in group.numbered().filter(|(at, one)| is_needed(history, *at, one))
        {
            if repeats {
                widen(&mut self.repeated, history, group.log, operation);
                continue;
            }
            if self.stopped {
                widen(&mut self.behind_hole, history, group.log, operation);
                continue;
            }
            self.taken = self.taken.max(seqno);
            let memtable = self.found.memtables.entry(operation.keyspace).or_default();
            memtable.writer().insert(operation.key, seqno, operation.kind, operation.value);
            self.found.operation_count += 1;
            let flushed = self.flushed.get(&operation.keyspace);
            if !history.is_whole && flushed.is_none_or(|flushed| *flushed < seqno) {
                widen(&mut self.doubtful, history, group.log, operation);
            }
        }
    }

    fn end(&mut self, segment: &SegmentEnd) {
        // A sync of any later segment covers those before it first.
        let was_durable = (FileHeader::LEN as u64) < segment.marked_durable;
        if !self.history.is_whole || !was_durable {
            return;
        }
        for (after, before, hole) in self.gaps.drain(..) {
            let place = hole.map_or_else(String::new, |hole| format!(", {hole}"));
            let what = format!("groups between {after} and {before} are missing{place}");
            let file = segment.log.file_name();
            self.found.lost.push(Loss { file, what, keys: None });
        }
    }

    fn lose(&mut self, keys: Keys, what: &str) {
        for ((log, _), keys) in keys {
            self.found.spoilt.insert(log);
            let (file, what) = (log.file_name(), what.to_owned());
            self.found.lost.push(Loss { file, what, keys: Some(keys) });
        }
    }
}

/// For each keyspace, the newest number in its tables that came out of memtables: these are flushed in
/// the order of their numbers.
fn newest_flushed(place: &Place, history: &History) -> Result<BTreeMap<KeyspaceId, SeqNo>> {
    let mut newest = BTreeMap::new();
    let tables = place.tables(history.database());
    for (id, _) in place.files_of(FileKind::Table) {
        let Ok(table) = place.open_table(&tables, TableId(id))? else { continue };
        let properties = table.properties();
        if properties.level == 0 && properties.extras.origin.is_none() {
            let newest = newest.entry(properties.keyspace).or_insert(SeqNo::ZERO);
            *newest = properties.seqno_max.max(*newest);
        }
    }
    Ok(newest)
}

/// Whether an operation is in no table yet.
fn is_needed(history: &History, seqno: SeqNo, operation: &Operation<'_>) -> bool {
    match history.catalog.keyspaces.get(&operation.keyspace) {
        Some(state) => state.flushed_up_to < seqno,
        // Only an edit that is lost can have created it.
        None => {
            let is_new = history.catalog.next_keyspace_id <= operation.keyspace.0;
            (is_new || !history.is_whole) && !history.dropped.contains(&operation.keyspace)
        }
    }
}

/// Adds the keys that an operation affects. The end of a range counts as one of them.
fn widen(all: &mut Keys, history: &History, log: LogId, operation: &Operation<'_>) {
    let keys = all.entry((log, operation.keyspace)).or_insert_with(|| {
        let keyspace = match history.catalog.keyspaces.get(&operation.keyspace) {
            Some(state) => state.name.clone(),
            None => format!("keyspace-{}", operation.keyspace),
        };
        let bound = Bound::Included(operation.key.to_vec());
        AffectedKeys { keyspace, start: bound.clone(), end: bound }
    });
    let is_range = operation.kind == EntryKind::RangeTombstone
        && !esker_base::planted::is("lost-range-is-its-first-key");
    let last = if is_range { operation.value } else { operation.key };
    if let Bound::Included(start) = &mut keys.start
        && operation.key < start.as_slice()
    {
        *start = operation.key.to_vec();
    }
    if is_range && last.is_empty() {
        keys.end = Bound::Unbounded;
    } else if let Bound::Included(end) = &mut keys.end
        && end.as_slice() < last
    {
        *end = last.to_vec();
    }
}

//! What a repair keeps of the log: the operations that are in no table, up to the first hole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use esker_base::{EntryKind, FileHeader, KeyspaceId, LogId, SeqNo};
use esker_memtable::Memtable;

use super::causes::Causes;
use super::history::History;
use super::place::Place;
use super::repair_report::Loss;
use super::report::AffectedKeys;
use crate::damaged::log_walk::{Group, LogItem, walk_logs};
use crate::error::Result;
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
    stopped_by: Option<String>,
}

/// Reads `logs`, which are in order. With `goes_on`, also keeps what follows a hole.
///
/// Without an intact manifest, groups separated by a gap from later ones are from segments that
/// were released but whose files were not removed yet: they are in tables.
pub(super) fn rescue(
    place: &Place,
    history: &History,
    causes: &Causes,
    logs: &[LogId],
    goes_on: bool,
) -> Result<LogRescue> {
    let mut rescue = LogRescue::default();
    let before = if history.is_whole { history.catalog.last_seqno } else { SeqNo::MAX };
    // A gap that follows damage is the hole that the damage left.
    let mut is_behind_damage = false;
    // Gaps of which no segment has said yet that they were durable.
    let mut gaps = Vec::new();
    let durable = &history.catalog.durable_logs;
    walk_logs(place.damaged_log(history.database()), logs, durable, before, |item| match item {
        LogItem::Damage(damage) => {
            is_behind_damage = true;
            let what = causes.of(&damage);
            if !goes_on {
                rescue.stopped_by.get_or_insert_with(|| damage.file.clone());
            }
            let log = logs.iter().find(|log| log.file_name() == damage.file);
            rescue.spoilt.extend(log);
            rescue.lost.push(Loss { file: damage.file, what, keys: None });
        }
        LogItem::HeaderDamage(log, _) => {
            rescue.spoilt.insert(log);
        }
        LogItem::Gap { after, before, hole } => {
            gaps.push((after, before, hole));
            if std::mem::take(&mut is_behind_damage) {
                return;
            }
            // What is there of them that nobody can read goes with the log.
            rescue.spoilt.extend(hole.into_iter().flat_map(|hole| hole.segments(logs)));
            if history.is_whole {
                if !goes_on {
                    rescue.stopped_by.get_or_insert_with(|| "a gap".to_owned());
                }
            } else {
                rescue.memtables.clear();
                rescue.operation_count = 0;
            }
        }
        LogItem::Group(group) => {
            is_behind_damage = false;
            rescue.last_seqno = rescue.last_seqno.max(group.last_seqno());
            if rescue.stopped_by.is_some() {
                rescue.lose(history, &group);
            } else {
                rescue.take(history, &group);
            }
        }
        LogItem::End(segment) => {
            // A sync of any later segment covers those before it first.
            let was_durable = (FileHeader::LEN as u64) < segment.marked_durable;
            if history.is_whole && was_durable {
                for (after, before, hole) in gaps.drain(..) {
                    let place = hole.map_or_else(String::new, |hole| format!(", {hole}"));
                    let what = format!("groups between {after} and {before} are missing{place}");
                    let file = segment.log.file_name();
                    rescue.lost.push(Loss { file, what, keys: None });
                }
            }
        }
    })?;
    Ok(rescue)
}

impl LogRescue {
    fn take(&mut self, history: &History, group: &Group<'_>) {
        for (seqno, operation) in group.numbered().filter(|(at, one)| is_needed(history, *at, one))
        {
            let memtable = self.memtables.entry(operation.keyspace).or_default();
            memtable.writer().insert(operation.key, seqno, operation.kind, operation.value);
            self.operation_count += 1;
        }
    }

    /// Lists the keys of a group after a hole.
    fn lose(&mut self, history: &History, group: &Group<'_>) {
        self.spoilt.insert(group.log);
        let file = group.log.file_name();
        for (_, operation) in group.numbered().filter(|(at, one)| is_needed(history, *at, one)) {
            let keyspace = match history.catalog.keyspaces.get(&operation.keyspace) {
                Some(state) => state.name.clone(),
                None => format!("keyspace-{}", operation.keyspace),
            };
            let found = self.lost.iter_mut().find(|loss| {
                loss.file == file
                    && loss.keys.as_ref().is_some_and(|keys| keys.keyspace == keyspace)
            });
            match found.and_then(|loss| loss.keys.as_mut()) {
                Some(keys) => widen(keys, operation),
                None => {
                    let bound = Bound::Included(operation.key.to_vec());
                    let mut keys = AffectedKeys { keyspace, start: bound.clone(), end: bound };
                    widen(&mut keys, operation);
                    let what = "operations behind a hole in the log".to_owned();
                    self.lost.push(Loss { file: file.clone(), what, keys: Some(keys) });
                }
            }
        }
    }
}

/// Whether an operation is in no table yet.
fn is_needed(history: &History, seqno: SeqNo, operation: &Operation<'_>) -> bool {
    match history.catalog.keyspaces.get(&operation.keyspace) {
        Some(state) => state.flushed_up_to < seqno,
        // Only without an intact manifest can an existing keyspace be unknown.
        None => !history.is_whole && !history.dropped.contains(&operation.keyspace),
    }
}

/// Adds the keys that an operation affects. The end of a range counts as one of them.
fn widen(keys: &mut AffectedKeys, operation: &Operation<'_>) {
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

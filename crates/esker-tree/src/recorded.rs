//! The flushes and merges of a keyspace that the manifests on disk still show.
//!
//! A manifest is a log of edits, so it contains history, and nothing extra has to be stored for it.
//! The history covers the newest manifest and, if it is still there, the previous one. A clean
//! close starts a new manifest, so that is the time since open and the session before, or less
//! after a very long session. At most [`RECORDED_MAX`] of each are kept, the newest.
//!
//! Changes nothing, and takes what it can get: damage or a torn end stops the reading of that file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use esker_base::{FileKind, KeyspaceId, ManifestId, TableId};
use esker_env::{FileError, FileSystem};
use esker_log::{ExpectedHeader, LogReader};
use esker_table::TableProperties;

use crate::edit::{EditRecord, MANIFEST_FORMAT, VersionEdit};
use crate::manifest::names::{files_in, parse_name, parse_predecessor};
use crate::shape::RunId;

/// Most flushes, and most merges, that are kept.
const RECORDED_MAX: usize = 512;

/// What was done to one tree, oldest first.
#[derive(Clone, Default, Debug)]
pub struct Recorded {
    /// The tables of each flush, ascending.
    pub flushes: VecDeque<Vec<Arc<TableProperties>>>,
    /// Compactions that wrote something.
    pub merges: VecDeque<RecordedMerge>,
}

/// One compaction that wrote something.
#[derive(Clone, Debug)]
pub struct RecordedMerge {
    /// The inputs, with the run that each was in.
    pub inputs: Vec<(RunId, Arc<TableProperties>)>,
    /// The outputs.
    pub outputs: Vec<Arc<TableProperties>>,
}

/// The reading of one keyspace's past.
struct Reading {
    keyspace: KeyspaceId,
    tables: BTreeMap<TableId, (RunId, Arc<TableProperties>)>,
    /// Tables seen already: the first edit of a manifest lists those of the previous manifest's
    /// flushes and merges again.
    seen: BTreeSet<TableId>,
    recorded: Recorded,
}

impl Recorded {
    /// Reads what the manifests in `dir` show about `keyspace`.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    ///
    /// # Cost
    /// Reads two manifests whole: usually less than 1 MiB each.
    pub fn read(fs: &dyn FileSystem, dir: &Path, keyspace: KeyspaceId) -> Result<Self, FileError> {
        let mut manifests: Vec<(ManifestId, String)> = files_in(fs, dir)?
            .into_iter()
            .filter_map(|entry| {
                let id = parse_name(&entry.name).or_else(|| parse_predecessor(&entry.name));
                Some((id?, entry.name))
            })
            .collect();
        manifests.sort();
        let (tables, seen) = (BTreeMap::new(), BTreeSet::new());
        let mut reading = Reading { keyspace, tables, seen, recorded: Self::default() };
        for (id, name) in manifests {
            reading.read(fs, &dir.join(name), id);
        }
        Ok(reading.recorded)
    }
}

impl Reading {
    fn read(&mut self, fs: &dyn FileSystem, path: &Path, id: ManifestId) {
        let expected = ExpectedHeader {
            kind: FileKind::Manifest,
            id: id.0,
            database: None,
            newest_format: MANIFEST_FORMAT,
        };
        let Ok(mut reader) = LogReader::open(fs, path, &expected) else { return };
        let mut is_first = true;
        while let Ok(Some(frame)) = reader.next_frame() {
            let Ok(edit) = VersionEdit::decode(frame.payload) else { return };
            if std::mem::take(&mut is_first) {
                // It repeats what is there.
                self.tables.clear();
                self.take_in(&edit);
            } else {
                self.note(&edit);
            }
        }
    }

    /// Notes what `edit` does, and takes it in.
    fn note(&mut self, edit: &VersionEdit) {
        let of = |id: KeyspaceId| id == self.keyspace;
        let is_flush = edit.records.iter().any(
            |record| matches!(record, EditRecord::FlushedUpTo { keyspace, .. } if of(*keyspace)),
        );
        let mut inputs = Vec::new();
        let mut outputs = Vec::new();
        for record in &edit.records {
            match record {
                EditRecord::TableAdded { keyspace, properties, .. } if of(*keyspace) => {
                    outputs.push(Arc::clone(properties));
                }
                EditRecord::TableRemoved { keyspace, table } if of(*keyspace) => {
                    inputs.extend(self.tables.get(table).cloned());
                }
                _ => {}
            }
        }
        let is_seen = outputs.iter().any(|table| self.seen.contains(&table.id));
        self.take_in(edit);
        if outputs.is_empty() || is_seen {
            return;
        }
        if is_flush && inputs.is_empty() {
            push(&mut self.recorded.flushes, outputs);
        } else if !is_flush && !inputs.is_empty() {
            push(&mut self.recorded.merges, RecordedMerge { inputs, outputs });
        }
    }

    fn take_in(&mut self, edit: &VersionEdit) {
        for record in &edit.records {
            match record {
                EditRecord::TableAdded { keyspace, run, properties, .. }
                    if *keyspace == self.keyspace =>
                {
                    self.seen.insert(properties.id);
                    self.tables.insert(properties.id, (*run, Arc::clone(properties)));
                }
                EditRecord::TableRemoved { keyspace, table } if *keyspace == self.keyspace => {
                    self.tables.remove(table);
                }
                EditRecord::TableMoved { keyspace, table, run, .. }
                    if *keyspace == self.keyspace =>
                {
                    if let Some(place) = self.tables.get_mut(table) {
                        place.0 = *run;
                    }
                }
                _ => {}
            }
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.len() == RECORDED_MAX {
        queue.pop_front();
    }
    queue.push_back(item);
}

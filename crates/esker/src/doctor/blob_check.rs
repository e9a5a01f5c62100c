//! Blob files: each by itself, and whether every reference of a table leads to its value.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use esker_base::{BlobFileId, Corruption, EntryKind, FileKind, InternalKey, KeyspaceId};
use esker_env::{FileError, IoError};
use esker_table::{
    BLOB_FILE_FRAME_LEN, BlobFileFacts, BlobFiles, BlobReference, NoTrace, Table, TableContext,
    TableProperties, WalkedBlock, verify_blob_file,
};

use super::causes::UNREADABLE;
use super::place::Place;
use super::report::{AffectedKeys, Finding, Totals};
use crate::error::Result;

/// Checks the blob file of `facts`, and adds what is wrong to `findings`.
///
/// # Errors
/// Of the system, and `UnsupportedFormat`. Damage is a finding.
pub(super) fn check_blob_file(
    place: &Place,
    context: &TableContext,
    facts: &BlobFileFacts,
    keyspace: KeyspaceId,
    findings: &mut Vec<Finding>,
    totals: &mut Totals,
) -> Result<()> {
    totals.blob_files += 1;
    let Some(len) = place.file_len(facts.id.0, FileKind::Blob) else {
        let what = "tables refer to this file, and it is missing";
        findings.push(Finding::at(facts.id.file_name(), 0, what));
        return Ok(());
    };
    totals.blob_bytes += len;
    let report = verify_blob_file(context, facts, keyspace)?;
    totals.blob_values += report.record_count;
    findings.extend(report.corruptions.into_iter().map(Finding::new));
    Ok(())
}

/// Reads the value of every entry of `table` that refers to a blob file; those that do not lead to
/// a value together are one finding.
///
/// # Errors
/// Of the system, and `UnsupportedFormat`. Damage is a finding.
pub(super) fn check_references(
    place: &Place,
    table: &Table,
    keyspace: &str,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    if table.properties().extras.blobs.is_none() {
        return Ok(());
    }
    // Its blob files are closed with it: there may be more of them than files that may be open.
    let context =
        TableContext { blobs: BlobFiles::default(), ..TableContext::clone(table.context()) };
    let table = &Table::new(Arc::new(context), Arc::clone(table.properties()));
    let walk = match table.walk() {
        Ok(walk) => walk,
        // The table has a finding for it.
        Err(FileError::Corruption(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut broken = Broken::default();
    for block in walk {
        match block {
            Ok(block) => broken.block(place, table.context(), &block)?,
            Err(FileError::Corruption(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let (Some((first, last)), Some(cause)) = (broken.keys, broken.cause) {
        let told = cause.to_string();
        // Not damaged, as far as anybody can tell.
        let at = format!("{} at {}: {}", cause.file, cause.offset, cause.what);
        let is_unreadable = cause.what.starts_with(UNREADABLE);
        let told = if is_unreadable { at } else { told };
        let what = format!("{} values in blob files cannot be read: {told}", broken.count);
        let affected = AffectedKeys {
            keyspace: keyspace.to_owned(),
            start: Bound::Included(first),
            end: Bound::Included(last),
        };
        let finding = Finding::at(table.properties().id.file_name(), 0, what);
        findings.push(Finding { is_unreadable, ..finding.affecting(Some(affected)) });
    }
    Ok(())
}

/// References that lead nowhere.
#[derive(Default)]
struct Broken {
    count: u64,
    /// First and last.
    keys: Option<(Vec<u8>, Vec<u8>)>,
    /// What is wrong with the first.
    cause: Option<Corruption>,
}

impl Broken {
    fn block(&mut self, place: &Place, context: &TableContext, block: &WalkedBlock) -> Result<()> {
        let mut failure = Ok(());
        block.for_each_entry(|key, value| {
            if key.kind() != EntryKind::BlobReference || failure.is_err() {
                return;
            }
            match context.read_blob(key.user_key, value, false, &mut NoTrace) {
                Ok(_) => {}
                Err(FileError::Corruption(corruption)) => {
                    self.add(key.user_key, cause_of(place, value, corruption));
                }
                // The file is missing, which is a finding of its own.
                Err(FileError::Io(error)) if is_missing(place, value, &error) => {
                    let file = BlobReference::decode(value)
                        .map_or_else(|_| String::new(), |reference| reference.file.file_name());
                    self.add(key.user_key, Corruption::new(file, 0, "the file is missing"));
                }
                Err(error) => failure = Err(error.into()),
            }
        });
        failure
    }

    fn add(&mut self, user_key: &[u8], cause: Corruption) {
        self.count += 1;
        self.cause.get_or_insert(cause);
        match &mut self.keys {
            None => self.keys = Some((user_key.to_vec(), user_key.to_vec())),
            Some((_, last)) => *last = user_key.to_vec(),
        }
    }
}

/// Whether `error` comes of it that there is no file that `value` refers to. A directory of that name is
/// none.
fn is_missing(place: &Place, value: &[u8], error: &IoError) -> bool {
    let is_there =
        |reference: BlobReference| place.file_len(reference.file.0, FileKind::Blob).is_some();
    error.is_not_found() || BlobReference::decode(value).is_ok_and(|it| !is_there(it))
}

/// What is wrong with the value that `value` refers to, if `corruption` is what it looks like.
fn cause_of(place: &Place, value: &[u8], corruption: Corruption) -> Corruption {
    let why = BlobReference::decode(value).ok().and_then(|reference| {
        let (file, block) = (reference.file.file_name(), reference.block);
        let why = place.why_unreadable(&file, block.offset..block.end());
        let at = corruption.offset;
        // Or it is the header or the footer that is not as it should be.
        why.or_else(|| match (block.offset..block.end()).contains(&at) {
            true => None,
            false => place.why_unreadable(&file, at..at.saturating_add(BLOB_FILE_FRAME_LEN)),
        })
    });
    match why {
        Some(why) => Corruption { what: why.into(), ..corruption },
        None => corruption,
    }
}

/// The blob files that a table refers to.
pub(super) fn blob_files_of(properties: &TableProperties) -> impl Iterator<Item = BlobFileFacts> {
    properties.blob_uses().map(|one| one.facts)
}

/// Hands an entry of a damaged table to `keep`. A value that lies in one of the blob files of
/// `lacking`, which are damaged, comes back into the table. If it is lost, that is returned with its
/// key, and `keep` is not called.
///
/// # Errors
/// Of the system, and of `keep`.
pub(super) fn salvaged(
    place: &Place,
    context: &TableContext,
    lacking: &BTreeSet<BlobFileId>,
    key: InternalKey<'_>,
    value: &[u8],
    keep: impl FnOnce(InternalKey<'_>, &[u8]) -> Result<()>,
) -> Result<Option<(Vec<u8>, Corruption)>> {
    if key.kind() != EntryKind::BlobReference {
        return keep(key, value).map(|()| None);
    }
    let lost = |corruption| Ok(Some((key.user_key.to_vec(), corruption)));
    match context.rescue_blob(key.user_key, value) {
        Ok((id, rescued)) if lacking.contains(&id) => {
            let inline = InternalKey::new(key.user_key, key.seqno(), EntryKind::Put);
            keep(inline, &rescued).map(|()| None)
        }
        Ok(_) => keep(key, value).map(|()| None),
        Err(FileError::Corruption(corruption)) => lost(cause_of(place, value, corruption)),
        Err(FileError::Io(error)) if is_missing(place, value, &error) => {
            let name = error.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
            lost(Corruption::new(name, 0, "the file is missing"))
        }
        Err(error) => Err(error.into()),
    }
}

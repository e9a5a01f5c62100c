//! Tables and blob files of which no manifest says anything: each is checked by itself.

use std::sync::Arc;

use esker_base::{BlobFileId, DatabaseId, FileId, FileKind, TableId};
use esker_env::FileError;
use esker_table::{BlobFileWalk, Table, TableContext};

use super::blob_check::{check_blob_file, check_references};
use super::causes::Causes;
use super::place::{Name, Place};
use super::report::{Finding, UnreferencedFile, VerifyReport};
use super::table_check::check_table;
use super::{Progress, ProgressListener};
use crate::error::Result;

/// Checks the tables and blob files of `unreferenced`, which a manifest that is not whole does not
/// name. Returns what is wrong, and adds to `causes` what is due to unreadable parts.
///
/// # Errors
/// As [`check_lone_file`].
pub(super) fn check_lone_files(
    place: &Place,
    database: DatabaseId,
    unreferenced: &[UnreferencedFile],
    causes: &mut Causes,
    listener: &mut ProgressListener<'_>,
) -> Result<Vec<Finding>> {
    let tables = place.tables(database);
    let mut report = VerifyReport::default();
    let bytes_total = unreferenced.iter().map(|file| file.bytes).sum();
    let mut progress = Progress { subject: String::new(), bytes_done: 0, bytes_total };
    for UnreferencedFile { file, bytes } in unreferenced {
        progress.subject.clone_from(file);
        listener(&progress);
        if let Some(name) = FileId::parse_file_name(file) {
            check_lone_file(place, &tables, name, &mut report)?;
        }
        progress.bytes_done += bytes;
        listener(&progress);
    }
    let mut findings = report.findings;
    causes.extend(Causes::attribute(&place.unreadable, &mut findings));
    // What is unreadable in other files has been told.
    findings.retain(|finding| unreferenced.iter().any(|lone| lone.file == finding.file));
    Ok(findings)
}

/// Checks the file of that name, if it is a table or a blob file, and adds what is wrong to the
/// findings of `report`.
///
/// # Errors
/// Of the system, and `UnsupportedFormat`. Damage is a finding.
pub(super) fn check_lone_file(
    place: &Place,
    tables: &Arc<TableContext>,
    (id, kind): Name,
    report: &mut VerifyReport,
) -> Result<()> {
    match kind {
        FileKind::Table => check_lone_table(place, tables, TableId(id), report),
        FileKind::Blob => check_lone_blob_file(place, tables, BlobFileId(id), report),
        FileKind::Log | FileKind::Manifest | FileKind::Warm => Ok(()),
    }
}

fn check_lone_table(
    place: &Place,
    tables: &Arc<TableContext>,
    id: TableId,
    report: &mut VerifyReport,
) -> Result<()> {
    let VerifyReport { findings, totals, .. } = report;
    totals.tables += 1;
    totals.table_bytes += place.file_len(id.0, FileKind::Table).unwrap_or(0);
    let table = match Table::open_file(Arc::clone(tables), id) {
        Ok(table) => table,
        Err(FileError::Corruption(corruption)) => {
            findings.push(Finding::new(corruption));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let keyspace = format!("keyspace {}", table.properties().keyspace);
    let checked = check_table(&table, &keyspace, findings)?;
    totals.blocks += checked.block_count;
    totals.entries += checked.entry_count;
    check_references(place, &table, &keyspace, findings)
}

fn check_lone_blob_file(
    place: &Place,
    tables: &TableContext,
    id: BlobFileId,
    report: &mut VerifyReport,
) -> Result<()> {
    let VerifyReport { findings, totals, .. } = report;
    match BlobFileWalk::open(tables, id) {
        Ok(walk) => {
            let facts = walk.facts(id);
            check_blob_file(place, tables, &facts, walk.keyspace(), findings, totals)
        }
        Err(FileError::Corruption(corruption)) => {
            findings.push(Finding::new(corruption));
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

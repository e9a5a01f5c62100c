//! Reports as JSON. Names of fields are part of the interface: they are added to, never changed.

use std::ops::Bound;

use esker::doctor::{AffectedKeys, Finding, Loss, RepairReport, SalvageReport, VerifyReport};
use serde_json::{Map, Value, json};

use crate::text::hex;

/// The report of a verification.
pub(super) fn of_verification(report: &VerifyReport) -> Value {
    let totals = &report.totals;
    let unreferenced = report.unreferenced.iter();
    json!({
        "sound": report.is_sound(),
        "findings": report.findings.iter().map(of_finding).collect::<Vec<_>>(),
        "unreferenced": unreferenced
            .map(|file| json!({ "file": file.file, "bytes": file.bytes }))
            .collect::<Vec<_>>(),
        "totals": {
            "keyspaces": totals.keyspaces,
            "tables": totals.tables,
            "table_bytes": totals.table_bytes,
            "blocks": totals.blocks,
            "entries": totals.entries,
            "logs": totals.logs,
            "log_bytes": totals.log_bytes,
            "groups": totals.groups,
            "operations": totals.operations,
        },
    })
}

/// The report of a repair.
pub(super) fn of_repair(report: &RepairReport) -> Value {
    let of_loss = |loss: &Loss| {
        json!({
            "file": loss.file,
            "what": loss.what,
            "keys": loss.keys.as_ref().map(of_keys),
        })
    };
    let rebuilt = report.rebuilt.iter();
    json!({
        "was_sound": report.was_sound(),
        "dry_run": report.is_dry_run,
        "findings": report.findings.iter().map(of_finding).collect::<Vec<_>>(),
        "kept": report.kept,
        "rebuilt": rebuilt
            .map(|rebuilt| json!({ "from": rebuilt.from, "entries": rebuilt.entries }))
            .collect::<Vec<_>>(),
        "lost": report.lost.iter().map(of_loss).collect::<Vec<_>>(),
        "set_aside": report.set_aside,
        "notes": report.notes,
    })
}

/// The report of a salvage.
pub(super) fn of_salvage(report: &SalvageReport) -> Value {
    let unreadable = report.unreadable.iter();
    json!({
        "files": report.files,
        "bytes": report.bytes,
        "unreadable": unreadable
            .map(|part| {
                json!({
                    "file": part.file,
                    "offset": part.offset,
                    "bytes": part.bytes,
                    "what": part.what,
                })
            })
            .collect::<Vec<_>>(),
        "repair": of_repair(&report.repair),
    })
}

fn of_finding(finding: &Finding) -> Value {
    json!({
        "file": finding.file,
        "offset": finding.offset,
        "what": finding.what,
        "affected": finding.affected.as_ref().map(of_keys),
    })
}

/// Bounds that are missing are unbounded; bytes that are not UTF-8 stand in fields `..._hex`.
fn of_keys(keys: &AffectedKeys) -> Value {
    let mut object = Map::new();
    object.insert("keyspace".into(), keys.keyspace.as_str().into());
    let names = [("from", "after", &keys.start), ("to", "before", &keys.end)];
    for (included, excluded, bound) in names {
        let (name, key) = match bound {
            Bound::Included(key) => (included, key),
            Bound::Excluded(key) => (excluded, key),
            Bound::Unbounded => continue,
        };
        match std::str::from_utf8(key) {
            Ok(text) => object.insert(name.into(), text.into()),
            Err(_) => object.insert(format!("{name}_hex"), hex(key).into()),
        };
    }
    object.into()
}

//! Reports as JSON. Field names are part of the interface: they are added, never changed.

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
            "blob_files": totals.blob_files,
            "blob_bytes": totals.blob_bytes,
            "blob_values": totals.blob_values,
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
        "unreadable": finding.is_unreadable,
        "affected": finding.affected.as_ref().map(of_keys),
    })
}

/// Missing bounds are unbounded; bytes that are not UTF-8 are in fields `..._hex`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use esker::doctor::{Rebuilt, Totals, UnreadablePart, UnreferencedFile};

    fn keys(start: Bound<&[u8]>, end: Bound<&[u8]>) -> AffectedKeys {
        let (start, end) = (start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec));
        AffectedKeys { keyspace: "users".into(), start, end }
    }

    #[test]
    fn keys_have_a_name_for_each_sort_of_bound_and_another_where_they_are_no_text() {
        use Bound::{Excluded, Included, Unbounded};
        let cases = [
            (Unbounded, Unbounded, json!({ "keyspace": "users" })),
            (Included(&b"a"[..]), Unbounded, json!({ "keyspace": "users", "from": "a" })),
            (Unbounded, Excluded(&b"z"[..]), json!({ "keyspace": "users", "before": "z" })),
            (
                Excluded(&b"a\n"[..]),
                Included(&b"\xc3\xa4"[..]),
                json!({ "keyspace": "users", "after": "a\n", "to": "\u{e4}" }),
            ),
            (
                Included(&b"\xff"[..]),
                Included(&b"\x00\xfe"[..]),
                json!({ "keyspace": "users", "from_hex": "ff", "to_hex": "00fe" }),
            ),
            (
                Excluded(&b"\xff"[..]),
                Excluded(&b"\xfe"[..]),
                json!({ "keyspace": "users", "after_hex": "ff", "before_hex": "fe" }),
            ),
        ];
        for (start, end, expected) in cases {
            assert_eq!(of_keys(&keys(start, end)), expected);
        }
    }

    #[test]
    fn a_verification_has_all_that_the_report_has() {
        let affected = Some(keys(Bound::Included(b"a"), Bound::Included(b"b")));
        let finding = |affected: Option<AffectedKeys>| Finding {
            file: "1.table".into(),
            offset: 77,
            what: "block checksum does not match".into(),
            is_unreadable: affected.is_some(),
            affected,
        };
        let report = VerifyReport {
            findings: vec![finding(affected), finding(None)],
            unreferenced: vec![UnreferencedFile { file: "2.table".into(), bytes: 5 }],
            totals: Totals {
                keyspaces: 1,
                tables: 2,
                table_bytes: 3,
                blocks: 4,
                entries: 5,
                blob_files: 6,
                blob_bytes: 7,
                blob_values: 8,
                logs: 9,
                log_bytes: 10,
                groups: 11,
                operations: 12,
            },
        };
        let finding = |affected: Value| {
            let what = "block checksum does not match";
            let unreadable = !affected.is_null();
            json!({
                "file": "1.table", "offset": 77, "what": what, "unreadable": unreadable,
                "affected": affected,
            })
        };
        let affected = json!({ "keyspace": "users", "from": "a", "to": "b" });
        let expected = json!({
            "sound": false,
            "findings": [finding(affected), finding(Value::Null)],
            "unreferenced": [{ "file": "2.table", "bytes": 5 }],
            "totals": {
                "keyspaces": 1, "tables": 2, "table_bytes": 3, "blocks": 4, "entries": 5,
                "blob_files": 6, "blob_bytes": 7, "blob_values": 8,
                "logs": 9, "log_bytes": 10, "groups": 11, "operations": 12,
            },
        });
        assert_eq!(of_verification(&report), expected);
        assert_eq!(of_verification(&VerifyReport::default())["sound"], true);
    }

    #[test]
    fn a_salvage_has_all_that_its_report_and_that_of_the_repair_have() {
        let lost = |keys| Loss { file: "1.table".into(), what: "the file is missing".into(), keys };
        let repair = RepairReport {
            is_dry_run: true,
            findings: vec![Finding {
                file: "1.log".into(),
                offset: 48,
                what: "damaged".into(),
                is_unreadable: false,
                affected: None,
            }],
            kept: vec!["3.table".into()],
            rebuilt: vec![Rebuilt { from: "4.table".into(), entries: 9 }],
            lost: vec![lost(None), lost(Some(keys(Bound::Unbounded, Bound::Excluded(b"m"))))],
            set_aside: vec!["1.table".into()],
            notes: vec!["the manifest is new".into()],
        };
        let part = UnreadablePart {
            file: "1.table".into(),
            offset: 4096,
            bytes: 8192,
            what: "input/output error".into(),
        };
        let report = SalvageReport { files: 3, bytes: 70, unreadable: vec![part], repair };
        let lost =
            |keys: Value| json!({ "file": "1.table", "what": "the file is missing", "keys": keys });
        let keys = json!({ "keyspace": "users", "before": "m" });
        let finding = json!({
            "file": "1.log", "offset": 48, "what": "damaged", "unreadable": false, "affected": null,
        });
        let expected = json!({
            "files": 3,
            "bytes": 70,
            "unreadable": [{
                "file": "1.table", "offset": 4096, "bytes": 8192, "what": "input/output error",
            }],
            "repair": {
                "was_sound": false,
                "dry_run": true,
                "findings": [finding],
                "kept": ["3.table"],
                "rebuilt": [{ "from": "4.table", "entries": 9 }],
                "lost": [lost(Value::Null), lost(keys)],
                "set_aside": ["1.table"],
                "notes": ["the manifest is new"],
            },
        });
        assert_eq!(of_salvage(&report), expected);
        assert_eq!(of_repair(&RepairReport::default())["was_sound"], true);
    }
}

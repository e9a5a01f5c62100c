//! Merges, single deletes and compaction filters, case by case. Other tests compare them with a
//! model, beside everything else.

mod filters;

use esker::operators::{AddU64, Append, Associative};
use esker::{Db, ErrorKind, KeyspaceOptions, Merge, MergeFailure, MergeOperator, Options, Result};

use crate::recovered::env_of;

/// Joins with commas; the operand `bad` fails it, and `panic` makes it panic.
struct Commas;

impl MergeOperator for Commas {
    fn name(&self) -> &str {
        "commas"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), MergeFailure> {
        assert!(!operands.contains(&b"panic".as_slice()), "as asked");
        if operands.contains(&b"bad".as_slice()) {
            return Err(MergeFailure::new("an operand is bad"));
        }
        let all: Vec<&[u8]> = existing.into_iter().chain(operands.iter().copied()).collect();
        out.extend(all.join(&b','));
        Ok(())
    }
}

fn with(merge: Merge) -> KeyspaceOptions {
    KeyspaceOptions { merge_operator: Some(merge), ..KeyspaceOptions::default() }
}

fn open(fs: &esker::env::MemoryFileSystem, options: Option<KeyspaceOptions>) -> Result<Db> {
    let builder = Db::builder("db").env(env_of(fs));
    let builder = builder.options(Options { background_threads: 0, ..Options::default() });
    match options {
        Some(options) => builder.default_keyspace(options).open(),
        None => builder.open(),
    }
}

/// Every way to read `key` says `expected`.
fn check(db: &Db, key: &str, expected: Option<&str>) {
    assert_eq!(db.get(key).unwrap().as_deref(), expected.map(str::as_bytes));
    assert_eq!(db.multi_get(&[key]).unwrap()[0].as_deref(), expected.map(str::as_bytes));
    assert_eq!(db.get_with(key, <[u8]>::len).unwrap(), expected.map(str::len));
    let snapshot = db.snapshot();
    assert_eq!(snapshot.get(key).unwrap().as_deref(), expected.map(str::as_bytes));
    let mut forward = db.scan(key..).map(Result::unwrap).filter(|(found, _)| found == key);
    assert_eq!(forward.next().as_ref().map(|(_, v)| &**v), expected.map(str::as_bytes));
    let mut back = db.scan(..=key).rev().map(Result::unwrap).filter(|(found, _)| found == key);
    assert_eq!(back.next().as_ref().map(|(_, v)| &**v), expected.map(str::as_bytes));
    let explained = db.explain_get(key).unwrap();
    assert_eq!(explained.value_len, expected.map(str::len));
}

#[test]
fn operands_are_merged_wherever_they_lie() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, Some(with(Merge::new(Commas)))).unwrap();
    db.merge("list", "a").unwrap();
    check(&db, "list", Some("a"));
    db.flush().unwrap();
    db.merge("list", "b").unwrap();
    db.put("other", "x").unwrap();
    check(&db, "list", Some("a,b"));
    let snapshot = db.snapshot();
    db.flush().unwrap();
    let mut batch = db.batch();
    batch.merge(db.default_keyspace(), "list", "c");
    batch.delete(db.default_keyspace(), "other");
    batch.merge(db.default_keyspace(), "other", "");
    batch.merge(db.default_keyspace(), "other", "y");
    batch.commit().unwrap();
    check(&db, "list", Some("a,b,c"));
    check(&db, "other", Some(",y"));
    // The first flush has made a put of "a", since nothing can be older.
    assert_eq!(db.explain_get("list").unwrap().operands_merged, 2);
    assert_eq!(db.explain_scan::<&[u8]>(.., None).unwrap().operands_merged, 4);
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(db.explain_get("list").unwrap().operands_merged, 1, "the snapshot keeps it apart");
    check(&db, "list", Some("a,b,c"));
    assert_eq!(snapshot.get("list").unwrap().unwrap(), "a,b");
    assert_eq!(snapshot.get("other").unwrap().unwrap(), "x");
    drop(snapshot);
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(db.explain_get("list").unwrap().operands_merged, 0);
    check(&db, "list", Some("a,b,c"));
    db.delete("list").unwrap();
    db.merge("list", "z").unwrap();
    check(&db, "list", Some("z"));
}

#[test]
fn operands_wait_for_their_operator_and_nothing_is_lost() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, Some(with(Merge::new(Commas)))).unwrap();
    db.put("k", "base").unwrap();
    db.merge("k", "a").unwrap();
    db.flush().unwrap();
    db.merge("k", "b").unwrap();
    drop(db);
    // Neither at all nor with other options, as a tool would open it.
    for options in [None, Some(KeyspaceOptions { block_size_bytes: 512, ..Default::default() })] {
        let db = open(&fs, options).unwrap();
        assert_eq!(db.default_keyspace().options().merge_operator, Some(Merge::named("commas")));
        db.put("plain", "x").unwrap();
        let message = "the key \"k\" has operands for the merge operator \"commas\", and the \
                       keyspace was opened with none";
        let error = db.get("k").unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::UserCode, message));
        assert_eq!(db.multi_get(&["plain", "k"]).unwrap_err().to_string(), message);
        assert_eq!(db.iter().next().unwrap().unwrap_err().to_string(), message);
        assert_eq!(db.iter().next_back().unwrap().unwrap().0, "plain");
        assert_eq!(db.iter().rev().nth(1).unwrap().unwrap_err().to_string(), message);
        assert_eq!(db.get("plain").unwrap().unwrap(), "x");
        db.merge("k", "c").unwrap();
        db.flush().unwrap();
        db.compact::<&[u8]>(..).unwrap();
        db.close().unwrap();
    }
    let db = open(&fs, Some(with(Merge::new(Commas)))).unwrap();
    check(&db, "k", Some("base,a,b,c,c"));
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(db.explain_get("k").unwrap().operands_merged, 0);
    check(&db, "k", Some("base,a,b,c,c"));
}

#[test]
fn another_operator_is_refused_by_both_names_and_changes_nothing() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, Some(with(Merge::new(Commas)))).unwrap();
    db.merge("k", "a").unwrap();
    let message = "merge_operator is \"esker.add-u64\", and must be \"commas\", which the keyspace \
                   \"default\" was given first";
    let error = db.keyspace("default", with(Merge::new(AddU64))).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, message));
    check(&db, "k", Some("a"));
    db.close().unwrap();
    let error = open(&fs, Some(with(Merge::new(AddU64)))).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, message));
    let too_long = with(Merge::named(&"x".repeat(256)));
    let error = open(&fs, Some(too_long)).unwrap_err();
    let message = "the name of merge_operator has 256 bytes, and must have from 1 to 255";
    assert_eq!(error.to_string(), message);
    check(&open(&fs, Some(with(Merge::new(Commas)))).unwrap(), "k", Some("a"));
}

#[test]
fn a_keyspace_without_an_operator_takes_no_operands_until_it_has_one() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, None).unwrap();
    let message = "the keyspace \"default\" has no merge operator";
    let error = db.merge("k", "a").unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, message));
    let mut batch = db.batch();
    batch.put(db.default_keyspace(), "k", "x");
    batch.merge(db.default_keyspace(), "k", "a");
    assert_eq!(batch.commit().unwrap_err().to_string(), message);
    check(&db, "k", None);
    db.keyspace("default", with(Merge::new(Append::new("-")))).unwrap();
    db.merge("k", "a").unwrap();
    db.merge("k", "b").unwrap();
    check(&db, "k", Some("a-b"));
    // A ready-made one is found by its name.
    drop(db);
    let db = open(&fs, None).unwrap();
    check(&db, "k", Some("a-b"));
    db.compact::<&[u8]>(..).unwrap();
    check(&db, "k", Some("a-b"));
}

#[test]
fn a_failing_operator_is_an_error_of_its_key_and_compaction_keeps_the_operands() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, Some(with(Merge::new(Commas)))).unwrap();
    for (key, operand) in [("a", "1"), ("b", "bad"), ("c", "3"), ("d", "panic")] {
        db.put(key, "base").unwrap();
        db.merge(key, operand).unwrap();
    }
    for _ in 0..2 {
        let failed = "the merge operator \"commas\" failed for the key \"b\": an operand is bad";
        assert_eq!(db.get("b").unwrap_err().to_string(), failed);
        let failed =
            "the merge operator \"commas\" failed for the key \"d\": it panicked: as asked";
        assert_eq!(db.get("d").unwrap_err().to_string(), failed);
        check(&db, "a", Some("base,1"));
        assert_eq!(db.get("c").unwrap().unwrap(), "base,3");
        let mut cursor = db.cursor().unwrap();
        cursor.seek("b").unwrap_err();
        cursor.seek("c").unwrap();
        assert_eq!(cursor.value(), b"base,3");
        db.compact::<&[u8]>(..).unwrap();
        assert!(db.health().failing_jobs.is_empty(), "{:?}", db.health());
    }
    // A put over it, and the key is well again.
    db.put("b", "fine").unwrap();
    check(&db, "b", Some("fine"));
}

/// Joins whatever it is given, and fails to fold it.
struct NeverFolds;

impl MergeOperator for NeverFolds {
    fn name(&self) -> &str {
        "never folds"
    }

    fn merge(
        &self,
        _: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        merged: &mut Vec<u8>,
    ) -> std::result::Result<(), MergeFailure> {
        merged.extend_from_slice(existing.unwrap_or_default());
        operands.iter().for_each(|operand| merged.extend_from_slice(operand));
        Ok(())
    }

    fn fold_operands(
        &self,
        _: &[u8],
        _: &[&[u8]],
        _: &mut Vec<u8>,
    ) -> std::result::Result<bool, MergeFailure> {
        Err(MergeFailure::new("as asked"))
    }
}

/// Of operands that were heavy together reads failed, where compactions kept them. Found by reading.
#[test]
fn operands_that_fail_to_fold_are_merged_one_by_one() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, Some(with(Merge::new(NeverFolds)))).unwrap();
    let mut expected = Vec::new();
    for number in 0..1200 {
        let operand = [number as u8; 1000];
        db.merge("k", operand).unwrap();
        expected.extend(operand);
    }
    for _ in 0..2 {
        assert!(db.get("k").unwrap().unwrap() == *expected);
        assert!(db.iter().map(|entry| entry.unwrap().1).eq([&*expected]));
        assert!(db.iter().rev().map(|entry| entry.unwrap().1).eq([&*expected]));
        db.compact::<&[u8]>(..).unwrap();
    }
}

#[test]
fn keyspaces_in_another_order_show_the_operator_their_keys() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, None).unwrap();
    let key_first = Associative::new("key first", |key, older: &[u8], newer: &[u8], out| {
        out.extend([key, older, newer].join(&b':'));
        Ok(())
    });
    let options =
        KeyspaceOptions { order: esker::Order::reverse_bytewise(), ..with(Merge::new(key_first)) };
    let reversed = db.keyspace("reversed", options).unwrap();
    reversed.merge("key", "a").unwrap();
    reversed.merge("key", "b").unwrap();
    assert_eq!(reversed.get("key").unwrap().unwrap(), "key:a:b");
    reversed.compact::<&[u8]>(..).unwrap();
    assert_eq!(reversed.get("key").unwrap().unwrap(), "key:a:b");
}

/// The message named the key as the tree holds it: for `apple`, bytes that nobody had written.
#[test]
fn an_error_names_the_key_that_was_written_in_another_order() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, None).unwrap();
    let options =
        || KeyspaceOptions { order: esker::Order::reverse_bytewise(), ..with(Merge::new(Commas)) };
    let reversed = db.keyspace("reversed", options()).unwrap();
    reversed.put("apple", "red").unwrap();
    reversed.merge("apple", "bad").unwrap();
    let check = |reversed: &esker::Keyspace, what: &str| {
        let mut cursor = reversed.cursor().unwrap();
        for error in [
            reversed.get("apple").unwrap_err(),
            reversed.multi_get(&["apple"]).unwrap_err(),
            reversed.explain_get("apple").unwrap_err(),
            reversed.iter().next().unwrap().unwrap_err(),
            reversed.iter().next_back().unwrap().unwrap_err(),
            cursor.seek("apple").unwrap_err(),
            cursor.seek_for_prev("apple").unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::UserCode, what));
        }
    };
    let failed = "the merge operator \"commas\" failed for the key \"apple\": an operand is bad";
    check(&reversed, failed);
    // More than are merged without a cursor.
    (0..3).for_each(|_| reversed.merge("apple", vec![b'x'; 600 << 10]).unwrap());
    check(&reversed, failed);
    // Between two that are well.
    reversed.put("zebra", "striped").unwrap();
    reversed.put("aardvark", "grey").unwrap();
    let mut cursor = reversed.cursor().unwrap();
    cursor.seek_to_first().unwrap();
    assert_eq!(cursor.next().unwrap_err().to_string(), failed);
    cursor.seek_to_last().unwrap();
    assert_eq!(cursor.prev().unwrap_err().to_string(), failed);
    drop((cursor, reversed, db));
    let db = open(&fs, None).unwrap();
    let reversed = db.existing_keyspace("reversed").unwrap().unwrap();
    let error = reversed.get("apple").unwrap_err().to_string();
    assert!(error.starts_with("the key \"apple\" has operands for the merge operator"), "{error}");
}

/// The table entries of the default keyspace.
fn entry_count(db: &Db) -> u64 {
    let levels = db.levels();
    let runs = levels.levels.iter().flat_map(|level| &level.runs);
    runs.flat_map(|run| &run.tables).map(|table| table.entry_count).sum()
}

#[test]
fn a_single_delete_goes_with_its_put() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, None).unwrap();
    db.put("below", "everything").unwrap();
    db.put("k", "old").unwrap();
    db.compact::<&[u8]>(..).unwrap();
    check(&db, "k", Some("old"));
    db.single_delete("k").unwrap();
    check(&db, "k", None);
    db.flush().unwrap();
    check(&db, "k", None);
    assert_eq!(entry_count(&db), 3);
    // Put again, and deleted again, in one memtable: both are gone at the flush, where a
    // tombstone would have to stay for the put in the last level.
    db.put("k", "new").unwrap();
    check(&db, "k", Some("new"));
    db.single_delete("k").unwrap();
    db.flush().unwrap();
    assert_eq!(entry_count(&db), 3);
    check(&db, "k", None);
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(entry_count(&db), 1);
    check(&db, "k", None);
    // Of nothing.
    db.single_delete("never there").unwrap();
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(entry_count(&db), 1);
}

#[test]
fn a_snapshot_sees_what_was_single_deleted_since() {
    let fs = esker::env::MemoryFileSystem::new(1);
    let db = open(&fs, None).unwrap();
    db.put("k", "v").unwrap();
    let snapshot = db.snapshot();
    let mut batch = db.batch();
    batch.single_delete(db.default_keyspace(), "k");
    batch.commit().unwrap();
    db.flush().unwrap();
    db.compact::<&[u8]>(..).unwrap();
    check(&db, "k", None);
    assert_eq!(snapshot.get("k").unwrap().unwrap(), "v");
    drop(snapshot);
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(entry_count(&db), 0);
}

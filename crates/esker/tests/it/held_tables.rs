//! Tables stay as long as somebody may read them, even if nobody has opened them yet.

use std::path::Path;

use esker::KeyspaceOptions;
use esker::env::{FileSystem as _, MemoryFileSystem};

use crate::recovered::{DIR, env_of, open, options};

fn table_count(fs: &MemoryFileSystem) -> usize {
    let entries = fs.list(Path::new(DIR)).unwrap();
    entries.iter().filter(|entry| entry.name.ends_with(".table")).count()
}

/// Nothing but the scan keeps the file, which is opened when the scan comes to it.
#[test]
fn scan_goes_on_over_a_keyspace_that_was_dropped_before_a_table_was_opened() {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &options()).unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    keyspace.put("a", "1").unwrap();
    keyspace.put("b", "2").unwrap();
    keyspace.flush().unwrap();
    drop(keyspace);
    db.close().unwrap();

    let db = open(&env_of(&fs), &options()).unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    let mut cursor = keyspace.cursor().unwrap();
    db.drop_keyspace(&keyspace).unwrap();
    assert_eq!(table_count(&fs), 1);
    cursor.seek_to_first().unwrap();
    assert_eq!((cursor.key(), cursor.value()), (b"a".as_slice(), b"1".as_slice()));
    cursor.next().unwrap();
    assert_eq!(cursor.key(), b"b");
    drop(cursor);
    assert_eq!(table_count(&fs), 0);
}

/// Only the ends that have begun looked for files that were theirs alone.
#[test]
fn tables_go_with_the_last_scan_over_them_wherever_it_stands() {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), &options()).unwrap();
    for taken in 0..4 {
        db.delete_range::<&str>(..).unwrap();
        db.compact::<&str>(..).unwrap();
        for key in ["a", "b", "c", "d"] {
            db.put(key, "value").unwrap();
        }
        db.flush().unwrap();
        let mut scan = db.iter();
        let other = db.prefix("c");
        for nth in 0..taken {
            let entry = if nth == 1 { scan.next_back() } else { scan.next() };
            entry.unwrap().unwrap();
        }
        db.put("b", "new").unwrap();
        db.compact::<&str>(..).unwrap();
        assert_eq!(table_count(&fs), 2);
        drop(other);
        assert_eq!(table_count(&fs), 2);
        drop(scan);
        assert_eq!(table_count(&fs), 1, "{taken} taken");
    }
}

//! Tables against a sorted vector: point reads at every snapshot.

use esker_base::SeqNo;

use crate::Compression;
use crate::testing::{Bed, Entry, expected, get, options};

#[test]
fn entries_are_found_and_absent_keys_are_not() {
    let bed = Bed::new();
    let entries: Vec<Entry> = (0..2_000_u32)
        .map(|number| Entry::put(format!("key{number:06}").as_bytes(), u64::from(number), b"value"))
        .collect();
    let properties = bed.build(1, options(512, Compression::Lz4), &entries);
    let table = bed.table(&properties);
    for entry in &entries {
        let found = get(&table, &entry.user_key, SeqNo::MAX).unwrap();
        assert_eq!(found.as_ref(), expected(&entries, &entry.user_key, SeqNo::MAX));
    }
    assert_eq!(get(&table, b"key", SeqNo::MAX).unwrap(), None);
    let mut cursor = table.cursor(true);
    cursor.seek_to_first().unwrap();
    for entry in &entries {
        assert!(cursor.is_valid());
        assert_eq!((cursor.key(), cursor.value()), (entry.key(), entry.value.as_slice()));
        cursor.next().unwrap();
    }
    assert!(!cursor.is_valid());
}

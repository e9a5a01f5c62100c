//! What is asked for ahead leaves the cache, and the answers, as they were.

use esker_base::checksum::hash_key;
use esker_base::{InternalKey, SeqNo};

use super::*;
use crate::testing::{Bed, get, hard_entries, options};
use crate::{Compression, TableEntry};

#[test]
fn nothing_is_opened_or_loaded_and_the_block_is_the_one_that_is_read() {
    let entries = hard_entries(3, 1_500);
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(512, Compression::Lz4), &entries));
    let (first, hash) = (&entries[0].user_key, hash_key(&entries[0].user_key));
    table.prefetch_filter(first, hash);
    assert!(matches!(table.look_ahead(first, hash), Ahead::Unknown));
    assert_eq!((bed.context.cache.stats().loads, table.memory_bytes()), (0, 0), "it is not open");

    let (mut blocks, mut cursor) = (Vec::new(), table.cursor(true));
    for entry in &entries {
        cursor.seek(InternalKey::seek(&entry.user_key, SeqNo::MAX)).unwrap();
        get(&table, &entry.user_key, SeqNo::MAX).unwrap();
    }
    let before = bed.context.cache.stats();
    for entry in &entries {
        let (key, hash) = (&entry.user_key, hash_key(&entry.user_key));
        table.prefetch_filter(key, hash);
        let Ahead::Block(block) = table.look_ahead(key, hash) else {
            panic!("the filter has the key")
        };
        block.prefetch_block();
        block.prefetch_value();
        // Of all versions of a key the first stands in the first block that may hold it.
        let mut has_key = false;
        block.look(|block| {
            let data = block.data();
            let key_at = |index| [data.prefix(), data.suffix(index)].concat();
            has_key = data
                .first_with_tag(tag_of(hash))
                .is_some_and(|index| (index..data.count()).any(|index| key_at(index) == *key));
        });
        blocks.push(has_key);
    }
    let after = bed.context.cache.stats();
    assert_eq!((after.loads, after.resident_bytes), (before.loads, before.resident_bytes));
    for entry in &entries {
        let key = &entry.user_key;
        let Ahead::Block(block) = table.look_ahead(key, hash_key(key)) else {
            panic!("the filter has the key")
        };
        for snapshot in [SeqNo::MAX, entry.trailer.seqno()] {
            let whole = get(&table, key, snapshot).unwrap();
            let half = table.get_in(block, key, snapshot, &mut crate::NoTrace).unwrap();
            let seen = |entry: TableEntry| (entry.trailer, entry.value.to_vec());
            let expected = whole.map(|entry| (entry.trailer, entry.value));
            assert_eq!(half.map(seen), expected, "{key:?} at {snapshot:?}");
        }
    }
    let found = blocks.iter().filter(|&&has_key| has_key).count();
    // A separator may equal the last key of a block, so that a key's versions start in the next.
    assert!(found * 10 > blocks.len() * 9, "{found} of {}", blocks.len());
    let absent = b"absent from the table";
    assert!(matches!(table.look_ahead(absent, hash_key(absent)), Ahead::RuledOut), "by the filter");
}

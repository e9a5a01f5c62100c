//! What is asked for ahead leaves the cache, and the answers, as they were.

use esker_base::checksum::hash_key;
use esker_base::{InternalKey, SeqNo};

use super::*;
use crate::Compression;
use crate::testing::{Bed, get, hard_entries, options};

#[test]
fn nothing_is_opened_loaded_or_counted_and_the_block_is_the_one_that_is_read() {
    let entries = hard_entries(3, 1_500);
    let bed = Bed::new();
    let table = bed.table(&bed.build(1, options(512, Compression::Lz4), &entries));
    let (first, hash) = (&entries[0].user_key, hash_key(&entries[0].user_key));
    table.ask_filter(first, hash);
    assert!(table.block_of_key(first, hash).is_none());
    assert_eq!((bed.context.cache.stats().loads, table.memory_bytes()), (0, 0), "it is not open");

    let (mut blocks, mut cursor) = (Vec::new(), table.cursor(true));
    for entry in &entries {
        cursor.seek(InternalKey::seek(&entry.user_key, SeqNo::MAX)).unwrap();
        get(&table, &entry.user_key, SeqNo::MAX).unwrap();
    }
    let before = bed.context.cache.stats();
    for entry in &entries {
        let (key, hash) = (&entry.user_key, hash_key(&entry.user_key));
        table.ask_filter(key, hash);
        let block = table.block_of_key(key, hash).expect("the filter has the key");
        block.ask_block();
        block.ask_value();
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
    assert_eq!(bed.context.cache.stats(), before);
    let found = blocks.iter().filter(|&&has_key| has_key).count();
    // A separator may equal the last key of a block, so that a key's versions start in the next.
    assert!(found * 10 > blocks.len() * 9, "{found} of {}", blocks.len());
    let absent = b"absent from the table";
    assert!(table.block_of_key(absent, hash_key(absent)).is_none(), "the filter rules it out");
}

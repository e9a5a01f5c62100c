//! Tables whose blocks were compressed with a dictionary: read back, smaller, and damaged.

use std::sync::Arc;

use esker_base::SeqNo;
use esker_env::FileError;

use super::*;
use crate::testing::{Bed, Entry, get, identity, options};
use crate::{BlockKind, Compression, Table, TableBuilder, TableProperties};

/// Records that are alike, as rows of one shape are.
fn entries(count: u64) -> Vec<Entry> {
    let one = |number: u64| {
        let value = format!(
            "{{\"name\":\"city number {number}\",\"country\":\"{}\",\"population\":{}}}",
            ["Germany", "Portugal", "Argentina"][number as usize % 3],
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000
        );
        Entry::put(format!("city/{number:06}").as_bytes(), 5, value.as_bytes())
    };
    (0..count).map(one).collect()
}

/// Builds table `counter`, with `dictionary`.
fn build(
    bed: &Bed,
    counter: u64,
    entries: &[Entry],
    dictionary: Option<Arc<Dictionary>>,
) -> TableProperties {
    let options = options(512, Compression::Zstd);
    let builder = TableBuilder::new(bed.create(counter), identity(counter), options);
    let mut builder = builder.with_dictionary(dictionary);
    entries.iter().for_each(|entry| builder.add(entry.key(), &entry.value).unwrap());
    builder.finish().unwrap()
}

fn learn(bed: &Bed, entries: &[Entry]) -> Arc<Dictionary> {
    let plain = bed.build(1, options(512, Compression::None), entries);
    let samples = bed.table(&plain).sample_blocks(500).unwrap();
    Arc::new(Dictionary::train(&samples, 4096).expect("there is enough to learn from"))
}

fn read_all(table: &Arc<Table>, entries: &[Entry]) -> Result<(), FileError> {
    for entry in entries {
        assert_eq!(get(table, &entry.user_key, SeqNo::MAX)?.as_ref(), Some(entry));
    }
    let mut cursor = table.cursor(false);
    cursor.seek_to_first()?;
    for entry in entries {
        assert_eq!((cursor.key(), cursor.value()), (entry.key(), &*entry.value));
        cursor.next()?;
    }
    Ok(())
}

#[test]
fn blocks_become_smaller_and_read_the_same() {
    let bed = Bed::new();
    let entries = entries(5_000);
    let dictionary = learn(&bed, &entries);
    let without = build(&bed, 2, &entries, None);
    let with = build(&bed, 3, &entries, Some(dictionary));
    assert_eq!(without.extras.dictionary, None);
    assert!(with.extras.dictionary.is_some());
    assert!(with.data_bytes * 10 < without.data_bytes * 8, "{with:?} {without:?}");
    for table in [bed.table(&with), bed.open_file(3).unwrap()] {
        assert_eq!(**table.properties(), with);
        assert_eq!(table.verify().unwrap().corruptions, []);
        let before = bed.budget.used_total();
        read_all(&table, &entries).unwrap();
        assert!(bed.budget.used_total() > before.max(300 << 10), "the contexts are charged");
    }
}

#[test]
fn damage_to_the_dictionary_is_noticed_before_anything_is_unpacked() {
    let bed = Bed::new();
    let entries = entries(3_000);
    let dictionary = learn(&bed, &entries);
    let properties = build(&bed, 3, &entries, Some(dictionary));
    let handle = properties.extras.dictionary.unwrap();
    let good = bed.bytes(3);
    for at in (handle.offset..handle.end()).step_by(97) {
        let mut bad = good.clone();
        bad[at as usize] ^= 0x10;
        bed.replace(3, &bad);
        let table = bed.table(&properties);
        let error = read_all(&table, &entries).unwrap_err();
        assert!(
            error.to_string().contains(&format!("damaged at offset {}", handle.offset)),
            "{error}"
        );
        assert_ne!(table.verify().unwrap().corruptions, []);
        assert!(bed.open_file(3).is_err());
    }
    bed.replace(3, &good);
    // A place that is not the dictionary's: another block, or none.
    for wrong in [48, handle.offset + 1, u64::MAX] {
        let mut moved = properties.clone();
        moved.extras.dictionary = Some(crate::BlockHandle { offset: wrong, ..handle });
        assert!(matches!(read_all(&bed.table(&moved), &entries), Err(FileError::Corruption(_))));
    }
    // Without it no block unpacks.
    let mut forgotten = properties;
    forgotten.extras.dictionary = None;
    assert!(matches!(read_all(&bed.table(&forgotten), &entries), Err(FileError::Corruption(_))));
}

#[test]
fn dictionary_is_a_block_of_the_walk() {
    let bed = Bed::new();
    let entries = entries(3_000);
    let dictionary = learn(&bed, &entries);
    let properties = build(&bed, 3, &entries, Some(dictionary));
    let walk = bed.table(&properties).walk().unwrap().map(Result::unwrap);
    let found: Vec<_> = walk.filter(|block| block.kind == BlockKind::Dictionary).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(Some(found[0].handle), properties.extras.dictionary);
}

#[test]
fn too_little_to_learn_from_gives_no_dictionary() {
    assert!(Dictionary::train(&[], 4096).is_none());
    assert!(Dictionary::train(&[vec![1; 100], vec![2; 100]], 4096).is_none());
}

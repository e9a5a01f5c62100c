//! Damaged files: every flipped bit, every cut, every foreign file. A read of one gives the right
//! answer or an error that names it; never a wrong answer, never a panic.

use esker_base::{DatabaseId, EntryKind, FileHeader, FileKind, SeqNo};
use esker_cache::BlockCache;
use esker_env::FileError;

use crate::format::FORMAT_NEWEST;
use crate::table_file::TableFile;
use crate::testing::{Bed, DATABASE, Entry, get, id, options, sorted};
use crate::{BlockHandle, Compression, Table, TableContext, TableProperties};

/// Few enough entries that every bit of their table can be flipped; two partitions, both kinds of
/// stored block.
fn entries() -> Vec<Entry> {
    let numbers = 0..64_u64;
    sorted(
        numbers
            .map(|number| {
                let kind = if number % 7 == 0 { EntryKind::Tombstone } else { EntryKind::Put };
                let value = if number < 40 { vec![b'v'; 12] } else { vec![number as u8; 3] };
                Entry::new(format!("key{:02}", number / 2).as_bytes(), 90 - number, kind, &value)
            })
            .collect(),
    )
}

fn small_table(bed: &Bed) -> (Vec<Entry>, TableProperties, Vec<u8>) {
    let entries = entries();
    let properties = bed.build(1, options(100, Compression::Lz4), &entries);
    assert!(properties.partition_count >= 2);
    (entries, properties, bed.bytes(1))
}

/// Whether `error` names the file of table 1.
fn names_file(error: &FileError) -> bool {
    error.to_string().contains(&id(1).file_name())
}

/// Reads everything in every way; panics on a wrong answer. Whether nothing was noticed.
fn read_all(table: &std::sync::Arc<Table>, entries: &[Entry]) -> bool {
    let mut is_clean = true;
    let mut note = |error: &FileError| {
        is_clean = false;
        assert!(matches!(error, FileError::Corruption(_)) && names_file(error), "{error}");
    };
    for entry in entries {
        match get(table, &entry.user_key, entry.trailer.seqno()) {
            Ok(found) => assert_eq!(found.as_ref(), Some(entry)),
            Err(error) => note(&error),
        }
    }
    for absent in [b"key".as_slice(), b"key05x", b"", b"zzz"] {
        match get(table, absent, SeqNo::MAX) {
            Ok(found) => assert_eq!(found, None),
            Err(error) => note(&error),
        }
    }
    let mut cursor = table.cursor(false);
    let mut seen = Vec::new();
    let mut outcome = cursor.seek_to_first();
    while outcome.is_ok() && cursor.is_valid() {
        seen.push(Entry {
            user_key: cursor.key().user_key.to_vec(),
            trailer: cursor.key().trailer,
            value: cursor.value().to_vec(),
        });
        outcome = cursor.next();
    }
    assert_eq!(seen, entries[..seen.len()], "a scan shows right entries up to the damage");
    match outcome {
        Ok(()) => assert_eq!(seen.len(), entries.len()),
        Err(error) => note(&error),
    }
    is_clean
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let bed = Bed::new();
    let (entries, properties, good) = small_table(&bed);
    assert!(read_all(&bed.table(&properties), &entries));
    let mut harmless = 0;
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        bed.replace(1, &bad);
        let table = bed.table(&properties);
        let is_clean = read_all(&table, &entries);
        let damaged_filters = table.damaged_filter_count();
        harmless += usize::from(is_clean && damaged_filters == 0);
        // What reads do not come by, a check of the whole table does.
        let report = table.verify().unwrap();
        assert_ne!(report.corruptions, [], "bit {bit}");
        assert!(report.corruptions.iter().all(|corruption| corruption.file == id(1).file_name()));
        // Opened from the file alone: an error, or the same.
        match bed.open_file(1) {
            Ok(table) => drop(read_all(&table, &entries)),
            Err(FileError::UnsupportedFormat(_)) => panic!("a flipped bit is no newer format"),
            Err(error) => assert!(names_file(&error), "{error}"),
        }
    }
    // The properties block is the only one that reads from a manifest's properties pass by.
    assert!(harmless > 0 && harmless <= 8 * 100, "{harmless} bits");
}

#[test]
fn damaged_filter_is_counted_and_reads_go_on() {
    let bed = Bed::new();
    let (entries, properties, mut bytes) = small_table(&bed);
    let filters: Vec<_> = bed
        .table(&properties)
        .walk()
        .unwrap()
        .map(Result::unwrap)
        .filter(|block| block.kind == crate::BlockKind::Filter)
        .collect();
    for filter in &filters {
        bytes[filter.handle.offset as usize + 20] ^= 1;
    }
    bed.replace(1, &bytes);
    let table = bed.table(&properties);
    assert!(read_all(&table, &entries));
    assert!(read_all(&table, &entries));
    assert_eq!(table.damaged_filter_count(), filters.len() as u64);
    assert_eq!(table.verify().unwrap().corruptions.len(), filters.len());
}

#[test]
fn every_cut_and_every_extension_is_noticed() {
    let bed = Bed::new();
    let (_, properties, good) = small_table(&bed);
    for len in (0..good.len()).chain([good.len() + 1, good.len() + 4096]) {
        let mut bad = good.clone();
        bad.resize(len, 0);
        bed.replace(1, &bad);
        let table = bed.table(&properties);
        let errors = [
            get(&table, b"key01", SeqNo::MAX).unwrap_err(),
            table.check_size().unwrap_err(),
            bed.open_file(1).unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error, FileError::Corruption(_)) && names_file(&error),
                "{len}: {error}"
            );
        }
        assert_eq!(table.verify().unwrap().corruptions.len(), 1);
    }
}

#[test]
fn file_cut_while_it_is_open_is_damage() {
    let bed = Bed::new();
    let (_, properties, good) = small_table(&bed);
    let table = bed.table(&properties);
    assert!(!table.may_contain(b"zzz", 0, &mut crate::NoTrace).unwrap());
    bed.context.fs.open_for_write(&bed.path(1)).unwrap().truncate(60).unwrap();
    let error = get(&table, b"key01", SeqNo::MAX).unwrap_err();
    assert!(error.to_string().contains("was cut while it was open"), "{error}");
    assert!(good.len() > 60);
}

#[test]
fn missing_file_is_not_found_and_named() {
    let bed = Bed::new();
    let (_, properties, _) = small_table(&bed);
    bed.context.fs.remove(&bed.path(1)).unwrap();
    let table = bed.table(&properties);
    let errors = [
        get(&table, b"key01", SeqNo::MAX).unwrap_err(),
        table.check_size().unwrap_err(),
        table.verify().unwrap_err(),
        bed.open_file(1).unwrap_err(),
    ];
    for error in errors {
        let FileError::Io(error) = error else { panic!("{error}") };
        assert!(error.is_not_found());
        assert_eq!(error.path(), bed.path(1));
    }
}

fn what(error: FileError) -> String {
    match error {
        FileError::Corruption(corruption) => {
            assert_eq!(corruption.file, id(1).file_name());
            corruption.what.into_owned()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn foreign_files_are_refused_by_name() {
    let bed = Bed::new();
    let (entries, properties, good) = small_table(&bed);

    let other = bed.build(2, options(100, Compression::Lz4), &entries);
    assert_eq!(other.entry_count, properties.entry_count);
    bed.replace(1, &bed.bytes(2));
    let error = bed.open_file(1).unwrap_err();
    assert_eq!(what(error), "file was created as 1-00000002.table");

    bed.replace(1, &good);
    let budget = bed.budget.clone();
    let context = TableContext {
        database: DatabaseId([9; 16]),
        cache: BlockCache::new(budget, None),
        ..TableContext::clone(&bed.context)
    };
    let error = Table::open_file(context.into(), id(1)).unwrap_err();
    let expected = format!("file belongs to database {DATABASE}, not {}", DatabaseId([9; 16]));
    assert_eq!(what(error), expected);

    let header = |kind, format| {
        let header = FileHeader { kind, format, id: id(1).0, database: DATABASE };
        [header.encode().as_slice(), &good[FileHeader::LEN..]].concat()
    };
    bed.replace(1, &header(FileKind::Log, 1));
    assert_eq!(what(bed.open_file(1).unwrap_err()), "file is a log and not a table");
    bed.replace(1, &header(FileKind::Table, 0));
    assert_eq!(what(bed.open_file(1).unwrap_err()), "file has format version 0");
    bed.replace(1, &header(FileKind::Table, FORMAT_NEWEST + 1));
    let table = bed.table(&properties);
    for error in [bed.open_file(1).unwrap_err(), table.verify().unwrap_err()] {
        let FileError::UnsupportedFormat(error) = error else { panic!("{error}") };
        assert_eq!((error.found, error.newest), (FORMAT_NEWEST + 1, FORMAT_NEWEST));
    }
}

#[test]
fn table_rebuilt_under_the_same_id_is_not_taken_for_the_first() {
    let bed = Bed::new();
    let mut entries = entries();
    let properties = bed.build(1, options(100, Compression::None), &entries);
    entries[3].value[0] ^= 1;
    bed.context.fs.remove(&bed.path(1)).unwrap();
    let rebuilt = bed.build(1, options(100, Compression::None), &entries);
    assert_eq!(rebuilt.file_bytes, properties.file_bytes, "only the checksum tells them apart");
    let error = get(&bed.table(&properties), b"key01", SeqNo::MAX).unwrap_err();
    assert_eq!(what(error), "footer has another checksum than the table's properties");
    assert_ne!(bed.table(&properties).verify().unwrap().corruptions, []);
}

#[test]
fn manifest_that_counts_other_blocks_is_refused_before_slots_are_numbered_by_it() {
    let bed = Bed::new();
    let (_, mut properties, _) = small_table(&bed);
    properties.data_block_count += 1;
    let error = get(&bed.table(&properties), b"key01", SeqNo::MAX).unwrap_err();
    assert_eq!(what(error), "top index counts other blocks than properties");
}

#[test]
fn handle_that_reaches_out_of_the_file_is_refused_before_anything_is_allocated() {
    let bed = Bed::new();
    let (_, _, good) = small_table(&bed);
    let context = &bed.context;
    let mut file = TableFile::open(&*context.fs, &context.dir, DATABASE, id(1)).unwrap();
    file.forget_tail();
    let end = good.len() as u64 - 48;
    for (offset, len) in
        [(0, 60), (48, 4), (48, end), (end, 6), (end - 6, 7), (u64::MAX, 9), (50, u64::MAX)]
    {
        let error = file.read_block(BlockHandle { offset, len }).map(|_| ()).unwrap_err();
        assert_eq!(what(error), "block handle reaches out of the file");
    }
}

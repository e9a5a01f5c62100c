//! Segments that nothing has happened to.

use std::path::Path;
use std::sync::Arc;

use esker_base::FileHeader;
use esker_env::{
    Fault, FaultFileSystem, FileError, FileExt, FileSystem, ManualClock, MemoryFileSystem,
    Operation, Rule,
};
use esker_log::{LogEnd, LogReader, LogWriter};

use crate::segment::{
    append, assert_corruption, bytes, create, expected, header, path, payload, payloads, read,
    read_bytes,
};

#[test]
fn frames_come_back_in_order_with_their_offsets() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    let mut offsets = Vec::new();
    for index in 0..50 {
        offsets.push(log.end_offset());
        let whole = payload(index);
        let (front, back) = whole.split_at(whole.len() / 3);
        let end = log.append(&[front, &[], back]);
        assert_eq!(end, log.end_offset());
        if index % 4 == 0 {
            log.write().unwrap();
            assert_eq!(log.written_offset(), end);
            assert_eq!(log.buffered_bytes(), 0);
        }
    }
    log.write().unwrap();
    let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
    assert_eq!(*reader.header(), header(7));
    for (index, offset) in offsets.into_iter().enumerate() {
        let frame = reader.next_frame().unwrap().unwrap();
        assert_eq!((frame.offset, frame.payload), (offset, payload(index).as_slice()));
    }
    assert_eq!(reader.next_frame().unwrap(), None);
    assert_eq!(reader.next_frame().unwrap(), None);
    assert_eq!(reader.end(), LogEnd::Clean { offset: log.end_offset() });
}

#[test]
fn reader_tells_what_the_frames_say_of_durability() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    let first = log.append(&[b"first"]);
    log.write().unwrap();
    log.sync_handle().sync().unwrap();
    log.append(&[b"second"]);
    log.write().unwrap();
    let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
    for marked in [0, first] {
        reader.next_frame().unwrap();
        assert_eq!(reader.marked_durable_offset(), marked);
    }
}

#[test]
fn frames_not_written_are_not_there() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    log.append(&[b"written"]);
    log.write().unwrap();
    assert_eq!(log.buffered_bytes(), 0);
    let written = log.end_offset();
    log.append(&[b"buffered"]);
    assert_eq!(log.buffered_bytes() as u64, log.end_offset() - written);
    assert_eq!(read(&fs, path()).unwrap().payloads, [b"written".to_vec()]);
}

#[test]
fn room_reserved_ahead_is_a_clean_end() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 3 << 20);
    log.append(&[b"one"]);
    log.write().unwrap();
    assert_eq!(fs.open(path()).unwrap().len().unwrap(), 3 << 20);
    assert_eq!(read(&fs, path()).unwrap().end, LogEnd::Clean { offset: log.end_offset() });
}

#[test]
fn segment_without_frames_is_clean() {
    let fs = MemoryFileSystem::new(0);
    create(&fs, 0);
    let read = read(&fs, path()).unwrap();
    assert_eq!((read.payloads.len(), read.end), (0, LogEnd::Clean { offset: 48 }));
}

#[test]
fn seal_gives_room_back_and_ends_the_segment() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 1 << 20);
    log.append(&[b"last"]);
    log.seal().unwrap();
    assert_eq!(fs.open(path()).unwrap().len().unwrap(), log.end_offset());
    assert_eq!(fs.pending_count(), 1, "all but the name is durable");
    let read = read(&fs, path()).unwrap();
    assert_eq!(read.payloads, [b"last".to_vec()]);
    assert_eq!(read.end, LogEnd::Sealed { offset: log.end_offset() });
}

#[test]
fn frames_larger_than_a_read_come_back() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    let big: Vec<u8> = (0..5_000_000_u32).map(|at| (at * 7 / 3) as u8).collect();
    for end in [1_000, 1 << 20, 3_000_000, 5_000_000, 1_048_500, 12] {
        log.append(&[&big[..end]]);
        log.write().unwrap();
    }
    log.seal().unwrap();
    let read = read(&fs, path()).unwrap();
    let lens: Vec<usize> = read.payloads.iter().map(Vec::len).collect();
    assert_eq!(lens, [1_000, 1 << 20, 3_000_000, 5_000_000, 1_048_500, 12]);
    assert!(read.payloads.iter().all(|payload| *payload == big[..payload.len()]));
}

#[test]
fn writing_goes_on_where_a_clean_segment_ends() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 4096);
    append(&mut log, 0..3);
    log.write().unwrap();
    let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
    while reader.next_frame().unwrap().is_some() {}
    let mut log = LogWriter::resume(&fs, &reader).unwrap();
    assert_eq!(log.sync_handle().durable_offset(), 0, "what was read may be in memory only");
    append(&mut log, 3..6);
    log.seal().unwrap();
    assert_eq!(read(&fs, path()).unwrap().payloads, payloads(6));
}

#[test]
fn file_of_another_identity_is_refused_by_name() {
    let fs = MemoryFileSystem::new(0);
    create(&fs, 0);
    let open = |expected| match LogReader::open(&fs, path(), &expected) {
        Err(error) => error.to_string(),
        Ok(_) => "opened".into(),
    };
    let good = expected(7);
    let at = "1-00000007.log is damaged at offset 0: ";
    assert_eq!(open(expected(8)), format!("{at}file was written under the id 1-00000007"));
    let mut other = good;
    other.kind = esker_base::FileKind::Manifest;
    assert_eq!(open(other), format!("{at}file is a log, not a manifest"));
    let mut other = good;
    other.database = Some(esker_base::DatabaseId([0xab; 16]));
    assert_eq!(
        open(other),
        format!("{at}file belongs to database 30313233343536373839616263646566")
    );
    let mut other = good;
    other.newest_format = 0;
    assert_eq!(
        open(other),
        "1-00000007.log is a log of format version 1, and this release reads versions up to 0"
    );
    let mut any = good;
    any.database = None;
    assert_eq!(open(any), "opened");
}

#[test]
fn file_that_never_got_its_header_has_no_frames() {
    for blank in [0, 1, 47, 48, 5_000] {
        let read = read_bytes(&vec![0; blank]).unwrap();
        assert_eq!((read.payloads.len(), read.end), (0, LogEnd::Torn { offset: 0 }), "{blank}");
    }
    assert_eq!(read_bytes(&[0xee; 900]).unwrap().end, LogEnd::Torn { offset: 0 });
    let fs = MemoryFileSystem::new(0);
    create(&fs, 0);
    let mut damaged = bytes(&fs, path());
    damaged[20] ^= 1;
    assert_corruption(read_bytes(&damaged));
}

#[test]
fn lost_header_of_an_unknown_database_is_damage_where_contents_follow() {
    let mut any = expected(7);
    any.database = None;
    let read = |contents: &[u8]| {
        let fs = MemoryFileSystem::new(0);
        fs.create(path()).unwrap().write_all_at(0, contents).unwrap();
        let mut reader = LogReader::open(&fs, path(), &any).unwrap();
        reader.next_frame().map(|frame| assert_eq!(frame, None))
    };
    let mut contents = vec![0; 48];
    contents.extend_from_slice(b"something");
    assert!(matches!(read(&contents), Err(FileError::Corruption(_))));
    assert!(read(&contents[..48]).is_ok());
    assert!(read(&header(7).encode()[..47]).is_ok());
}

#[test]
fn missing_segment_is_an_error_of_the_system() {
    let fs = MemoryFileSystem::new(0);
    match LogReader::open(&fs, Path::new("1-00000001.log"), &expected(1)) {
        Err(FileError::Io(error)) => assert!(error.is_not_found()),
        other => panic!("{other:?}"),
    }
}

/// A segment of several reads, each of a mebibyte.
fn large_segment(fs: &MemoryFileSystem) -> Vec<u64> {
    let mut log = create(fs, 0);
    let ends = (0..9).map(|index| log.append(&[&vec![index; 400_000]])).collect();
    log.write().unwrap();
    ends
}

#[test]
fn reads_that_give_less_than_asked_for_change_nothing() {
    let memory = MemoryFileSystem::new(0);
    let ends = large_segment(&memory);
    let fs = FaultFileSystem::new(Arc::new(memory), Arc::new(ManualClock::default()));
    fs.add(Rule::new(Fault::Short).on(&[Operation::Read]));
    let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
    for index in 0..9 {
        assert_eq!(reader.next_frame().unwrap().unwrap().payload, [index; 400_000]);
    }
    assert_eq!(reader.next_frame().unwrap(), None);
    assert_eq!(reader.end(), LogEnd::Clean { offset: ends[8] });
}

#[test]
fn segment_that_is_cut_while_it_is_read_ends_in_order() {
    for count in 0..9 {
        let fs = MemoryFileSystem::new(0);
        let ends = large_segment(&fs);
        let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
        let cut = ends[count] - 200_000;
        fs.open_for_write(path()).unwrap().truncate(cut).unwrap();
        let mut found = 0;
        while let Some(frame) = reader.next_frame().unwrap() {
            assert_eq!(frame.payload, [found; 400_000]);
            found += 1;
        }
        // What was in memory already may still be given.
        let found = usize::from(found);
        assert!(count <= found, "{found} of {count} frames");
        let end = found.checked_sub(1).map_or(FileHeader::LEN as u64, |last| ends[last]);
        assert_eq!(reader.end().offset(), end);
    }
}

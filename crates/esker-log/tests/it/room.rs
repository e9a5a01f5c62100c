//! Room that is reserved before a write needs it.

use std::sync::{Arc, Mutex};

use esker_env::{
    Fault, FaultFileSystem, FileError, FileSystem, ManualClock, MemoryFileSystem, Operation, Rule,
    When,
};
use esker_log::LogWriter;

use crate::segment::{header, path};

const PIECE: u64 = 64 << 10;

/// A file system in memory, beside how often room was asked for.
fn counted() -> (MemoryFileSystem, FaultFileSystem, Arc<Mutex<u32>>) {
    let memory = MemoryFileSystem::new(0);
    let fs = FaultFileSystem::new(Arc::new(memory.clone()), Arc::new(ManualClock::default()));
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    fs.observe(move |event| {
        *counter.lock().unwrap() += u32::from(event.operation == Operation::Allocate);
    });
    (memory, fs, count)
}

fn len(fs: &MemoryFileSystem) -> u64 {
    fs.open(path()).unwrap().len().unwrap()
}

#[test]
fn room_is_added_in_pieces_and_only_once_it_is_used_up() {
    let (memory, fs, count) = counted();
    let mut log = LogWriter::create(&fs, path(), header(7), 0).unwrap();
    assert_eq!(std::mem::take(&mut *count.lock().unwrap()), 1, "room for the header");
    let start = log.end_offset();
    log.append(&[&[7; 100]]);
    log.reserve(500).unwrap();
    assert_eq!((len(&memory), *count.lock().unwrap()), (start + PIECE, 1));
    let left = start + PIECE - log.end_offset();
    log.reserve(left).unwrap();
    assert_eq!(*count.lock().unwrap(), 1, "what is there is enough");
    log.reserve(left + 1).unwrap();
    assert_eq!((len(&memory), *count.lock().unwrap()), (start + 2 * PIECE, 2));
    log.reserve(10 * PIECE).unwrap();
    assert_eq!((len(&memory), *count.lock().unwrap()), (log.end_offset() + 10 * PIECE, 3));
}

#[test]
fn where_a_piece_does_not_fit_what_is_needed_may() {
    let (memory, fs, count) = counted();
    let mut log = LogWriter::create(&fs, path(), header(7), 0).unwrap();
    assert_eq!(std::mem::take(&mut *count.lock().unwrap()), 1, "room for the header");
    log.append(&[&[7; 100]]);
    fs.add(Rule::new(Fault::Error(28)).on(&[Operation::Allocate]).when(When::Nth(1)));
    log.reserve(500).unwrap();
    assert_eq!((len(&memory), *count.lock().unwrap()), (log.end_offset() + 500, 2));
    log.reserve(500).unwrap();
    assert_eq!(*count.lock().unwrap(), 2);
    log.reserve(501).unwrap();
    assert_eq!(*count.lock().unwrap(), 3);
}

#[test]
fn refused_room_is_an_error_that_changes_nothing_and_can_be_asked_for_again() {
    let (memory, fs, _) = counted();
    let mut log = LogWriter::create(&fs, path(), header(7), 0).unwrap();
    log.append(&[&[7; 100]]);
    let before = len(&memory);
    fs.add(Rule::new(Fault::Error(28)).on(&[Operation::Allocate]));
    match log.reserve(500) {
        Err(FileError::Io(error)) => assert!(error.is_no_space(), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(len(&memory), before);
    fs.clear();
    log.reserve(500).unwrap();
    assert!(log.end_offset() + 500 <= len(&memory));
}

#[test]
fn room_that_was_given_back_can_be_reserved_again() {
    let (memory, fs, count) = counted();
    let mut log = LogWriter::create(&fs, path(), header(7), 0).unwrap();
    assert_eq!(std::mem::take(&mut *count.lock().unwrap()), 1, "room for the header");
    log.append(&[&[7; 100]]);
    log.reserve(500).unwrap();
    log.write().unwrap();
    log.give_back_room().unwrap();
    let end = log.end_offset();
    assert_eq!(len(&memory), end);
    log.reserve(1).unwrap();
    assert_eq!((len(&memory), *count.lock().unwrap()), (end + PIECE, 2));
}

/// A segment whose whole room was made at once took it from the disk from its first frame on.
#[test]
fn a_segment_grows_by_the_step_to_what_was_foreseen_and_then_by_the_piece() {
    const STEP: u64 = 4 << 20;
    const FORESEEN: u64 = 2 * STEP + 10 * PIECE;
    let (memory, fs, count) = counted();
    let mut log = LogWriter::create(&fs, path(), header(7), FORESEEN).unwrap();
    let mut steps = vec![len(&memory)];
    while log.end_offset() < FORESEEN + PIECE {
        log.reserve(1 << 16).unwrap();
        log.append(&[&[7; 60_000]]);
        log.write().unwrap();
        steps.push(len(&memory));
    }
    steps.dedup();
    assert_eq!(steps[..4], [STEP, 2 * STEP, FORESEEN, FORESEEN + PIECE]);
    assert_eq!(*count.lock().unwrap() as usize, steps.len());
}

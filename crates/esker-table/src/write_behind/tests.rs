//! Order, limits, failures and ends of the thread that writes.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use esker_env::{
    Advice, CrashPolicy, Env, Fault, FaultFileSystem, FileSystem, MemoryFileSystem, Operation,
    Rule, SystemThreads, When,
};

use super::*;
use crate::testing::{Bed, Entry, id, identity, options};
use crate::{Compression, TableBuilder, TableProperties};

const PIECE_BYTES: usize = 1000;

/// Threads of the system that are counted, as many as it may have.
#[derive(Debug, Default)]
struct Counted {
    started: AtomicUsize,
    are_refused: bool,
}

impl Threads for Counted {
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> Result<JoinHandle, IoError> {
        if self.are_refused {
            return Err(IoError::new("start thread", name, io::ErrorKind::WouldBlock.into()));
        }
        self.started.fetch_add(1, Ordering::Relaxed);
        SystemThreads.spawn(name, task)
    }
}

/// Files in memory that may go wrong.
struct Files {
    memory: MemoryFileSystem,
    faults: FaultFileSystem,
}

impl Files {
    fn new() -> Self {
        let memory = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(memory.clone()), Env::memory(1).clock);
        faults.create_dir_all(Path::new("/dir")).unwrap();
        Self { memory, faults }
    }

    fn failing(fault: Fault, operation: Operation, when: When) -> Self {
        let files = Self::new();
        files.faults.add(Rule::new(fault).on(&[operation]).when(when));
        files
    }

    fn create(&self, name: &str) -> Arc<dyn File> {
        self.faults.create(&path(name)).unwrap()
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("/dir").join(name)
}

fn bytes_of(fs: &dyn FileSystem, name: &str) -> Vec<u8> {
    let file = fs.open(&path(name)).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn behind() -> Arc<WriteBehind> {
    WriteBehind::new(Arc::new(SystemThreads), PIECE_BYTES)
}

/// Gives pieces of the file until that fails, at most `count`. Returns how many were taken.
fn give(behind: &WriteBehind, file: &Arc<dyn File>, count: usize) -> (usize, Result<(), IoError>) {
    let mut bytes = Vec::new();
    for piece in 0..count {
        bytes.resize(PIECE_BYTES, piece as u8);
        match behind.write(file, (piece * PIECE_BYTES) as u64, bytes) {
            Ok(empty) => bytes = empty,
            Err(error) => return (piece, Err(error)),
        }
        assert!(bytes.is_empty());
    }
    (count, Ok(()))
}

fn pieces(count: usize) -> Vec<u8> {
    (0..count * PIECE_BYTES).map(|at| (at / PIECE_BYTES) as u8).collect()
}

#[test]
fn pieces_are_written_and_synced_once_settled() {
    let files = Files::new();
    let behind = behind();
    for (name, count) in [("a", 100), ("b", 3)] {
        let file = files.create(name);
        give(&behind, &file, count).1.unwrap();
        behind.sync(&file).unwrap();
    }
    let unsynced = files.create("c");
    give(&behind, &unsynced, 1).1.unwrap();
    behind.settle().unwrap();
    files.faults.sync_dir(Path::new("/dir")).unwrap();
    assert_eq!(bytes_of(&files.memory, "c"), pieces(1));
    let crashed = files.memory.crash(CrashPolicy::AllLost, 0);
    assert_eq!(bytes_of(&crashed, "a"), pieces(100));
    assert_eq!(bytes_of(&crashed, "b"), pieces(3));
    assert_eq!(bytes_of(&crashed, "c"), pieces(0));
}

/// A file that notes for which bytes a sync is begun.
#[derive(Debug)]
struct Noting(Arc<dyn File>, Arc<Mutex<Vec<Range<u64>>>>);

impl File for Noting {
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        self.0.write_at(offset, bytes)
    }
    fn sync_data(&self) -> Result<(), IoError> {
        self.0.sync_data()
    }
    fn sync_all(&self) -> Result<(), IoError> {
        self.0.sync_all()
    }
    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.0.allocate(offset, len)
    }
    fn truncate(&self, len: u64) -> Result<(), IoError> {
        self.0.truncate(len)
    }
    fn len(&self) -> Result<u64, IoError> {
        self.0.len()
    }
    fn advise(&self, advice: Advice) {
        self.0.advise(advice);
    }
    fn begin_sync(&self, range: Range<u64>) {
        // Only of what is written.
        assert!(range.end <= self.0.len().unwrap());
        self.1.lock().unwrap().push(range);
    }
}

#[test]
fn sync_of_every_piece_is_begun_once_it_is_written() {
    let noted = Arc::default();
    let file: Arc<dyn File> = Arc::new(Noting(Files::new().create("a"), Arc::clone(&noted)));
    let behind = behind();
    give(&behind, &file, 5).1.unwrap();
    behind.settle().unwrap();
    let ranges = (0..5_u64).map(|piece| piece * 1_000..(piece + 1) * 1_000);
    assert_eq!(*noted.lock().unwrap(), ranges.collect::<Vec<_>>());
}

#[test]
fn giver_is_never_far_ahead() {
    let files = Files::new();
    let behind = behind();
    let given = Arc::new(AtomicUsize::new(0));
    let furthest = Arc::new(AtomicUsize::new(0));
    let (seen, ahead) = (Arc::clone(&given), Arc::clone(&furthest));
    let written = AtomicUsize::new(0);
    files.faults.observe(move |event| {
        if event.operation == Operation::Write {
            let before = written.fetch_add(1, Ordering::Relaxed);
            let given = seen.load(Ordering::Relaxed);
            ahead.fetch_max(given.saturating_sub(before), Ordering::Relaxed);
        }
    });
    let file = files.create("a");
    for piece in 0..2_000 {
        let bytes = vec![piece as u8; PIECE_BYTES];
        behind.write(&file, (piece * PIECE_BYTES) as u64, bytes).unwrap();
        given.fetch_add(1, Ordering::Relaxed);
        assert!(behind.memory_bytes() <= (2 * PIECES_WAITING_MAX + 2) * PIECE_BYTES);
    }
    behind.settle().unwrap();
    let furthest = furthest.load(Ordering::Relaxed);
    assert!(furthest <= PIECES_WAITING_MAX + 1, "{furthest}");
}

#[test]
fn first_failure_answers_every_later_call_and_nothing_more_is_written() {
    for (operation, nth) in [(Operation::Write, 1), (Operation::Write, 20), (Operation::Sync, 1)] {
        let files = Files::failing(Fault::Error(5), operation, When::Nth(nth));
        let behind = behind();
        let file = files.create("a");
        let (_, outcome) = give(&behind, &file, 5);
        let outcome = outcome.and_then(|()| behind.sync(&file));
        let later = give(&behind, &file, 1_000);
        let error = later.1.unwrap_err();
        assert_eq!(error.path(), path("a"));
        let verb = if operation == Operation::Write { "write" } else { "sync" };
        assert_eq!(error.operation(), verb);
        for outcome in [behind.settle(), behind.sync(&file), outcome.and(behind.settle())] {
            assert_eq!(outcome.unwrap_err().to_string(), error.to_string());
        }
        let calls = files.faults.calls();
        behind.abandon();
        drop(behind);
        assert_eq!(files.faults.calls(), calls);
    }
}

#[test]
fn panic_of_the_thread_is_a_failure() {
    for operation in [Operation::Write, Operation::Sync] {
        let files = Files::failing(Fault::Panic, operation, When::Nth(1));
        let behind = behind();
        let file = files.create("a");
        let (_, outcome) = give(&behind, &file, 3);
        let outcome = outcome.and_then(|()| behind.sync(&file)).and_then(|()| behind.settle());
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("has panicked"), "{error}");
        assert!(give(&behind, &file, 1_000).1.is_err());
        behind.abandon();
    }
}

#[test]
fn without_a_thread_whoever_gives_a_piece_writes_it() {
    let threads = Arc::new(Counted { are_refused: true, ..Counted::default() });
    let files = Files::failing(Fault::Error(5), Operation::Write, When::Nth(11));
    let behind = WriteBehind::new(threads, PIECE_BYTES);
    let file = files.create("a");
    assert_eq!(give(&behind, &file, 10).0, 10);
    assert_eq!(bytes_of(&files.memory, "a"), pieces(10));
    behind.sync(&file).unwrap();
    let (taken, outcome) = give(&behind, &file, 10);
    assert!(taken == 0 && outcome.is_err());
    assert!(behind.settle().is_err());
}

#[test]
fn panic_of_who_writes_by_itself_hangs_nobody() {
    let threads = Arc::new(Counted { are_refused: true, ..Counted::default() });
    let files = Files::failing(Fault::Panic, Operation::Write, When::Nth(1));
    let behind = WriteBehind::new(threads, PIECE_BYTES);
    let file = files.create("a");
    let given = std::panic::AssertUnwindSafe(|| give(&behind, &file, 1));
    assert!(std::panic::catch_unwind(given).is_err());
    assert!(behind.settle().is_err());
    behind.abandon();
}

#[test]
fn what_is_abandoned_is_not_written_and_what_is_under_way_is_waited_for() {
    let files = Files::new();
    let gate = Arc::new(Mutex::new(()));
    let passed = Arc::new(AtomicUsize::new(0));
    let (closed, count) = (Arc::clone(&gate), Arc::clone(&passed));
    files.faults.observe(move |event| {
        if event.operation == Operation::Write {
            drop(closed.lock().unwrap());
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let behind = behind();
    let file = files.create("a");
    let held = gate.lock().unwrap();
    give(&behind, &file, 6).1.unwrap();
    while behind.shared.state().under_way.is_none() {
        std::hint::spin_loop();
    }
    let at_return = Arc::new(AtomicUsize::new(0));
    let (abandoned, seen, returned) =
        (Arc::clone(&behind), Arc::clone(&passed), Arc::clone(&at_return));
    let task = move || {
        abandoned.abandon();
        returned.store(seen.load(Ordering::Relaxed), Ordering::Relaxed);
    };
    let thread = SystemThreads.spawn("abandons", Box::new(task)).unwrap();
    // Bounded, so that a step which is kept is found, and not waited for.
    for _ in 0..10_000_000 {
        if behind.shared.state().steps.is_empty() {
            break;
        }
        std::hint::spin_loop();
    }
    drop(held);
    thread.join();
    behind.settle().unwrap();
    assert_eq!((at_return.load(Ordering::Relaxed), passed.load(Ordering::Relaxed)), (1, 1));
}

/// A table of 100-byte values, and how many threads were started for it.
fn table(bed: &Bed, counter: u64, count: u32, is_behind: bool) -> (TableProperties, usize) {
    let threads = Arc::new(Counted::default());
    let behind = is_behind.then(|| WriteBehind::new(threads.clone(), 20_000));
    let (file, options) = (bed.create(counter), options(4096, Compression::Lz4));
    // The name of the first, so that all are of the same bytes.
    let builder = TableBuilder::new(file, identity(1), options);
    let mut builder = builder.writing_behind(behind.clone());
    for number in 0..count {
        let value = number.to_le_bytes().repeat(25);
        let entry = Entry::put(format!("{number:05}").as_bytes(), 1, &value);
        builder.add(entry.key(), &entry.value).unwrap();
    }
    let properties = builder.finish().unwrap();
    behind.iter().for_each(|behind| behind.settle().unwrap());
    drop(behind);
    (properties, threads.started.load(Ordering::Relaxed))
}

#[test]
fn tables_are_the_same_and_short_ones_start_no_thread() {
    for (count, started) in [(10, 0), (5_000, 1)] {
        let bed = Bed::new();
        let (expected, _) = table(&bed, 1, count, false);
        let (properties, threads) = table(&bed, 2, count, true);
        assert_eq!(properties, expected);
        assert_eq!(bed.bytes(2), bed.bytes(1));
        assert_eq!(threads, started, "{count}");
        assert_eq!(properties.id, id(1));
    }
}

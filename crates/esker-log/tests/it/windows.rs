//! A segment written through windows of the real file system, readied ahead or not, beside one whose
//! file gives none: the same bytes, at every place where a window ends or a page has just been synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker_env::{FaultFileSystem, FileError, FileExt, FileSystem, OsFileSystem, SystemClock};
use esker_log::{LogEnd, LogReader, LogSync, LogWriter};

use crate::segment::{expected, header};

/// Removed with its contents when dropped.
struct TestDir(PathBuf);

impl TestDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("esker-log-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Room for six windows and a half.
const ROOM_BYTES: u64 = 13 << 20;

/// Writes a segment with frames of many lengths, more than the room holds, and some syncs; calls
/// `serve` after each frame, and returns how often the writer asked for a window.
fn write(fs: &dyn FileSystem, path: &Path, mut log: LogWriter, serve: impl Fn(&LogSync)) -> usize {
    let sync = log.sync_handle();
    let mut wanted = 0;
    let mut random = 1_u32;
    let mut frames = 0;
    while log.end_offset() < ROOM_BYTES + (1 << 19) {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let len = match random >> 24 {
            // More than a window holds.
            _ if frames == 700 => 2_500_000,
            0 => 70_000,
            1..4 => 40_000,
            _ => (random >> 8) as usize % 400,
        };
        log.append(&[&vec![(random >> 16) as u8; len]]);
        frames += 1;
        if random >> 12 & 3 != 0 {
            log.write().unwrap();
        }
        wanted += usize::from(log.take_window_request());
        serve(&sync);
        if random >> 8 & 4095 == 0 {
            log.sync_handle().sync().unwrap();
        }
    }
    log.write().unwrap();
    let mut reader = LogReader::open(fs, path, &expected(7)).unwrap();
    let mut found = 0;
    while reader.next_frame().unwrap().is_some() {
        found += 1;
    }
    assert_eq!(found, frames);
    log.seal().unwrap();
    assert!(matches!(read_end(fs, path), LogEnd::Sealed { .. }));
    wanted
}

fn read_end(fs: &dyn FileSystem, path: &Path) -> LogEnd {
    let mut reader = LogReader::open(fs, path, &expected(7)).unwrap();
    while reader.next_frame().unwrap().is_some() {}
    reader.end()
}

#[test]
fn a_segment_is_the_same_with_and_without_windows() {
    let dir = TestDir::new("windows");
    let (through, by_calls) = (dir.0.join("through"), dir.0.join("by-calls"));
    let system: Arc<dyn FileSystem> = Arc::new(OsFileSystem);
    // A file system that can fail gives no windows: each of its writes is to be seen.
    let clock = Arc::new(SystemClock::new());
    let plain = FaultFileSystem::new(Arc::clone(&system), clock);
    for (fs, path) in [(&*system, &through), (&plain as &dyn FileSystem, &by_calls)] {
        write(fs, path, LogWriter::create(fs, path, header(7), ROOM_BYTES).unwrap(), |_| ());
    }
    assert_eq!(std::fs::read(&through).unwrap(), std::fs::read(&by_calls).unwrap());
}

#[test]
fn what_is_synced_all_the_time_is_written_by_calls() {
    let dir = TestDir::new("synced");
    let wanted = [100 << 10, u64::MAX].map(|sync_every| {
        let path = dir.0.join(format!("every-{sync_every}"));
        let mut log = LogWriter::create(&OsFileSystem, &path, header(7), ROOM_BYTES).unwrap();
        let (mut wanted, mut synced) = (0, 0);
        while log.end_offset() < 6 << 20 {
            log.append(&[&[7; 1000]]);
            log.write().unwrap();
            wanted += usize::from(log.take_window_request());
            if sync_every < log.end_offset() - synced {
                synced = log.end_offset();
                log.sync_handle().sync().unwrap();
            }
        }
        wanted
    });
    let gives_windows = OsFileSystem.open_for_write(&dir.0.join("every-102400")).unwrap();
    let gives_windows = gives_windows.window(0, 4096).is_some();
    assert_eq!(wanted.map(|count| 0 < count), [false, gives_windows]);
}

#[test]
fn a_used_segment_takes_windows_again() {
    let dir = TestDir::new("used");
    let (old, new) = (dir.0.join("old"), dir.0.join("new"));
    let mut log = LogWriter::create(&OsFileSystem, &old, header(6), ROOM_BYTES).unwrap();
    for _ in 0..10_000 {
        log.append(&[&[6; 200]]);
        log.write().unwrap();
    }
    drop(log);
    let log = LogWriter::recycle(&OsFileSystem, &old, &new, header(7)).unwrap();
    write(&OsFileSystem, &new, log, |_| ());
}

/// Written through a window that reaches behind the end of the file, frames would be lost, or end the
/// process.
#[test]
fn room_that_was_given_back_is_not_written_through_a_window() {
    let dir = TestDir::new("given-back");
    let path = dir.0.join("log");
    let mut log = LogWriter::create(&OsFileSystem, &path, header(7), ROOM_BYTES).unwrap();
    let mut frames = 0;
    for end in [1 << 20, 3 << 20, 5 << 20, 6 << 20] {
        while log.end_offset() < end {
            log.append(&[&[7; 3000]]);
            log.write().unwrap();
            log.sync_handle().ready_window();
            frames += 1;
        }
        log.give_back_room().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), log.end_offset());
        // By calls at first, and then through windows of new room.
        log.append(&[&[8; 3000]]);
        log.write().unwrap();
        log.reserve(ROOM_BYTES).unwrap();
        frames += 1;
    }
    let mut reader = LogReader::open(&OsFileSystem, &path, &expected(7)).unwrap();
    let mut found = 0;
    while let Some(frame) = reader.next_frame().unwrap() {
        assert!(frame.payload == [7; 3000] || frame.payload == [8; 3000]);
        found += 1;
    }
    assert_eq!((found, reader.end()), (frames, LogEnd::Clean { offset: log.end_offset() }));
}

#[test]
fn windows_that_are_readied_ahead_change_nothing() {
    let dir = TestDir::new("ahead");
    let names = ["plain", "ahead", "beside"].map(|name| dir.0.join(name));
    let create = |path| LogWriter::create(&OsFileSystem, path, header(7), ROOM_BYTES).unwrap();
    let [plain, ahead, beside] = &names;
    let wanted = write(&OsFileSystem, plain, create(plain), |_| ());
    let mut log = create(ahead);
    log.ready_first_window();
    let wanted_ahead = write(&OsFileSystem, ahead, log, LogSync::ready_window);
    // Where the file system gives windows, they are asked for.
    assert_eq!(wanted == 0, wanted_ahead == 0);
    // Another thread readies them at any moment, the end of the segment included.
    let log = create(beside);
    let (sync, is_over) = (log.sync_handle(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                sync.ready_window();
            }
        });
        write(&OsFileSystem, beside, log, |_| ());
        is_over.store(true, Ordering::Relaxed);
    });
    let [plain, ahead, beside] = names.map(|path| std::fs::read(path).unwrap());
    assert_eq!(plain, ahead);
    assert_eq!(plain, beside);
}

/// All but the first `start` bytes and those from `end` on was never written.
fn with_hole(path: &Path, bytes: &[u8], start: usize, end: usize) {
    let file = OsFileSystem.create(path).unwrap();
    file.allocate(0, bytes.len() as u64).unwrap();
    file.write_all_at(0, &bytes[..start]).unwrap();
    file.write_all_at(end as u64, &bytes[end..]).unwrap();
}

#[test]
fn room_that_was_never_written_hides_nothing_behind_it() {
    let dir = TestDir::new("holes");
    let path = dir.0.join("whole");
    let mut log = LogWriter::create(&OsFileSystem, &path, header(7), 0).unwrap();
    let mut ends = Vec::new();
    for index in 0..6000 {
        ends.push(log.append(&[&[index as u8; 1000]]) as usize);
    }
    log.write().unwrap();
    log.sync_handle().sync().unwrap();
    ends.push(log.append(&[b"it was durable"]) as usize);
    log.write().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let start = ends[100];
    // Nothing but room follows.
    let holey = dir.0.join("room");
    with_hole(&holey, &bytes[..start], start, start);
    OsFileSystem.open_for_write(&holey).unwrap().allocate(0, 8 << 20).unwrap();
    assert_eq!(read_end(&OsFileSystem, &holey), LogEnd::Clean { offset: start as u64 });
    // The last frame stands behind it, and says that all before it was there.
    let holey = dir.0.join("hole");
    with_hole(&holey, &bytes, start, ends[5999]);
    assert_damaged(&holey);
    // The same behind more pieces than are told apart.
    let file = OsFileSystem.open_for_write(&holey).unwrap();
    for piece in 0..300 {
        file.write_all_at((start + 8192 * (1 + piece)) as u64, b"x").unwrap();
    }
    file.sync_data().unwrap();
    assert_damaged(&holey);
}

fn assert_damaged(path: &Path) {
    let mut reader = LogReader::open(&OsFileSystem, path, &expected(7)).unwrap();
    let error = loop {
        match reader.next_frame() {
            Ok(frame) => assert!(frame.is_some(), "the damage was taken for an end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, FileError::Corruption(_)), "{error}");
}

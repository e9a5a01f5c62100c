//! Power losses and failures at every operation: what is read is a prefix that holds everything
//! that was said to be durable.

use std::path::Path;
use std::sync::{Arc, Mutex};

use esker_base::FileHeader;
use esker_env::{
    CrashPolicy, Fault, FaultFileSystem, FileError, FileSystem, ManualClock, MemoryFileSystem,
    Operation, Rule, When,
};
use esker_log::{LogEnd, LogWriter};

use crate::segment::{header, path, payload, payloads, read};

const COUNT: usize = 14;
const SEEDS: u64 = 16;

/// A life of a segment that ends with a seal; returns early when something fails. `acknowledge`
/// hears how many frames are durable.
fn live(
    fs: &dyn FileSystem,
    sync_every: usize,
    recycle: bool,
    mut acknowledge: impl FnMut(usize),
) -> Result<(), FileError> {
    let mut log = if recycle {
        let old = Path::new("1-00000006.log");
        let mut former = LogWriter::create(fs, old, header(6), 0)?;
        for index in 0..COUNT {
            former.append(&[&payload(index)]);
        }
        former.seal()?;
        fs.sync_dir(Path::new(""))?;
        LogWriter::recycle(fs, old, path(), header(7))?
    } else {
        LogWriter::create(fs, path(), header(7), 16 << 10)?
    };
    // As those above must: header and name are durable before the segment counts.
    log.sync_handle().sync()?;
    fs.sync_dir(Path::new(""))?;
    acknowledge(0);
    for index in 0..COUNT {
        log.append(&[&payload(index)]);
        if index % 3 != 1 {
            log.write()?;
        }
        if index % sync_every == sync_every - 1 {
            log.write()?;
            log.sync_handle().sync()?;
            acknowledge(index + 1);
        }
    }
    log.seal()?;
    acknowledge(COUNT);
    Ok(())
}

/// One moment to lose power at, and how many frames were durable by then; `None` while the
/// segment did not count yet.
struct Moment {
    fs: MemoryFileSystem,
    durable: Option<usize>,
}

/// The moments before every change that a life makes, and the last.
fn moments(sync_every: usize, recycle: bool) -> Vec<Moment> {
    let memory = MemoryFileSystem::new(0);
    let fs = FaultFileSystem::new(Arc::new(memory.clone()), Arc::new(ManualClock::default()));
    let moments = Arc::new(Mutex::new(Vec::new()));
    let durable = Arc::new(Mutex::new(None));
    let (seen, known, below) = (Arc::clone(&moments), Arc::clone(&durable), memory.clone());
    fs.observe(move |event| {
        if event.operation.is_change() {
            let durable = *known.lock().unwrap();
            seen.lock().unwrap().push(Moment { fs: below.snapshot(), durable });
        }
    });
    live(&fs, sync_every, recycle, |count| *durable.lock().unwrap() = Some(count)).unwrap();
    let mut moments = std::mem::take(&mut *moments.lock().unwrap());
    moments.push(Moment { fs: memory.snapshot(), durable: Some(COUNT) });
    moments
}

fn check(fs: &MemoryFileSystem, durable: Option<usize>, context: &str) {
    if durable.is_none() && !fs.exists(path()).unwrap() {
        return;
    }
    match read(fs, path()) {
        Ok(read) => {
            let count = read.payloads.len();
            assert!(durable.unwrap_or(0) <= count, "{context}: {count}");
            assert_eq!(read.payloads, payloads(count), "{context}");
        }
        // Before the header was synced, blocks of another file may stand in its place.
        Err(FileError::Corruption(damage)) if durable.is_none() => {
            assert_eq!(damage.offset, 0, "{context}: {damage}");
        }
        Err(error) => panic!("{context}: {error}"),
    }
}

#[test]
fn what_is_read_after_a_crash_is_a_prefix_with_everything_durable() {
    for (sync_every, recycle) in [(1, false), (2, true), (5, false), (5, true), (100, false)] {
        for (index, Moment { fs, durable }) in moments(sync_every, recycle).iter().enumerate() {
            for policy in CrashPolicy::ALL {
                for seed in 0..SEEDS {
                    let context = format!("{sync_every} {recycle} {index} {policy:?} {seed}");
                    check(&fs.crash(policy, seed), *durable, &context);
                }
            }
        }
    }
}

#[test]
fn whatever_fails_nothing_durable_is_lost_and_nothing_is_retried() {
    for fault in [Fault::Error(5), Fault::TornWrite(28), Fault::Short] {
        for nth in 1.. {
            let memory = MemoryFileSystem::new(0);
            let clock = Arc::new(ManualClock::default());
            let fs = FaultFileSystem::new(Arc::new(memory.clone()), clock);
            let below = memory.clone();
            fs.observe(move |event| {
                // As Linux does: what a failed sync did not store is never stored.
                if event.operation == Operation::Sync && event.fault.is_some() {
                    below.forget_unsynced(&event.path);
                }
            });
            fs.add(Rule::new(fault.clone()).when(When::Nth(nth)));
            let mut durable = None;
            let result = live(&fs, 2, true, |count| durable = Some(count));
            if fs.injected().is_empty() {
                assert_eq!(durable, Some(COUNT));
                break;
            }
            assert_eq!(result.is_ok(), fault == Fault::Short, "{fault:?} {nth}");
            for policy in CrashPolicy::ALL {
                for seed in 0..SEEDS {
                    let context = format!("{fault:?} {nth} {policy:?} {seed}");
                    check(&memory.crash(policy, seed), durable, &context);
                }
            }
        }
    }
}

#[test]
fn failed_sync_is_not_called_again() {
    let memory = Arc::new(MemoryFileSystem::new(0));
    let fs = FaultFileSystem::new(memory, Arc::new(ManualClock::default()));
    let mut log = LogWriter::create(&fs, path(), header(7), 0).unwrap();
    fs.add(Rule::new(Fault::Error(5)).on(&[Operation::Sync]).when(When::Nth(1)));
    let (sync, other) = (log.sync_handle(), log.sync_handle());
    let error = sync.sync().unwrap_err().to_string();
    let calls = fs.calls();
    log.append(&[b"late"]);
    for later in [sync.sync().map(drop), other.sync().map(drop), log.write(), log.seal()] {
        assert_eq!(later.unwrap_err().to_string(), error);
    }
    assert_eq!((fs.calls(), log.written_offset()), (calls, FileHeader::LEN as u64));
    assert_eq!(sync.durable_offset(), 0);
}

#[test]
fn write_is_one_call_and_so_is_a_sync_that_others_share() {
    let memory = MemoryFileSystem::new(0);
    let fs = FaultFileSystem::new(Arc::new(memory.clone()), Arc::new(ManualClock::default()));
    let mut log = LogWriter::create(&fs, path(), header(7), 0).unwrap();
    let calls = fs.calls();
    for index in 0..COUNT {
        log.append(&[&payload(index)]);
    }
    log.write().unwrap();
    assert_eq!(fs.calls() - calls, 1);
    for _ in 0..3 {
        log.sync_handle().sync().unwrap();
    }
    assert_eq!(fs.calls() - calls, 2);
    log.seal().unwrap();
    assert_eq!(fs.calls() - calls, 5, "the seal is written, the room cut, both synced");
    assert_eq!(read(&memory, path()).unwrap().end, LogEnd::Sealed { offset: log.end_offset() });
}

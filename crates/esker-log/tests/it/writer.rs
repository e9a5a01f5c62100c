//! The writer and its sync handles when the system refuses, and beside each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use esker_env::{Env, FileError, FileSystem, MemoryFileSystem};
use esker_log::{LogEnd, LogWriter};

use crate::segment::{create, header, path, payload, payloads, read};

#[test]
fn full_disk_ends_the_writing_with_one_and_the_same_error() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    let sync = log.sync_handle();
    log.append(&[b"fits"]);
    log.write().unwrap();
    fs.set_capacity(Some(log.end_offset() + 10));
    log.append(&[&[1; 100]]);
    let error = log.write().unwrap_err();
    assert!(matches!(&error, FileError::Io(error) if error.is_no_space()));
    fs.set_capacity(None);
    log.append(&[b"fits again"]);
    assert_eq!(log.write().unwrap_err().to_string(), error.to_string());
    assert_eq!(sync.sync().unwrap_err().to_string(), error.to_string());
    assert_eq!(log.seal().unwrap_err().to_string(), error.to_string());
    assert_eq!(read(&fs, path()).unwrap().payloads, [b"fits".to_vec()]);
}

#[test]
fn segment_that_cannot_be_prepared_is_removed_again() {
    let fs = MemoryFileSystem::new(0);
    fs.set_capacity(Some(1000));
    assert!(LogWriter::create(&fs, path(), header(7), 4096).is_err());
    assert!(!fs.exists(path()).unwrap());
}

#[test]
fn sync_covers_what_was_written_and_not_what_is_buffered() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    let sync = log.sync_handle();
    assert_eq!(sync.durable_offset(), 0);
    let first = log.append(&[b"first"]);
    log.write().unwrap();
    log.append(&[b"second"]);
    assert_eq!(sync.sync().unwrap(), first);
    assert_eq!(sync.durable_offset(), first);
    log.write().unwrap();
    assert_eq!(sync.sync().unwrap(), log.written_offset());
}

#[test]
#[should_panic(expected = "a sealed segment is complete")]
fn append_after_the_seal_is_refused() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    log.seal().unwrap();
    log.append(&[b"late"]);
}

#[test]
fn syncs_from_other_threads_run_beside_the_writer() {
    let env = Env::memory(0);
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    let is_done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (sync, is_done) = (log.sync_handle(), Arc::clone(&is_done));
            let task = move || {
                let mut last = 0;
                while !is_done.load(Ordering::Acquire) {
                    let durable = sync.sync().expect("memory does not fail");
                    assert!(last <= durable && durable <= sync.durable_offset());
                    last = durable;
                }
            };
            env.threads.spawn("sync", Box::new(task)).unwrap()
        })
        .collect();
    for index in 0..2_000 {
        log.append(&[&payload(index)]);
        log.write().unwrap();
    }
    is_done.store(true, Ordering::Release);
    threads.into_iter().for_each(esker_env::JoinHandle::join);
    log.seal().unwrap();
    let read = read(&fs, path()).unwrap();
    assert_eq!(read.payloads, payloads(2_000));
    assert_eq!(read.end, LogEnd::Sealed { offset: log.end_offset() });
}

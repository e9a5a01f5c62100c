//! Power losses at every operation: what is read is a prefix that holds everything synced.

use std::path::Path;

use esker_env::{CrashPolicy, FileSystem, MemoryFileSystem};

use crate::segment::{append, create, path, payload, payloads, read};

/// One moment to lose power at, and how many frames were durable by then.
struct Moment {
    fs: MemoryFileSystem,
    durable_count: usize,
}

/// Writes frames with a sync after each `sync_every`, and a seal.
fn moments(sync_every: usize) -> Vec<Moment> {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 16 << 10);
    // As the top floor must: the segment is durable, by header and name, before it counts.
    log.sync_handle().sync().unwrap();
    fs.sync_dir(Path::new("")).unwrap();
    let mut moments = Vec::new();
    let mut durable_count = 0;
    for index in 0..14 {
        log.append(&[&payload(index)]);
        if index % 3 != 1 {
            log.write().unwrap();
        }
        moments.push(Moment { fs: fs.snapshot(), durable_count });
        if index % sync_every == sync_every - 1 {
            log.write().unwrap();
            log.sync_handle().sync().unwrap();
            durable_count = index + 1;
            moments.push(Moment { fs: fs.snapshot(), durable_count });
        }
    }
    log.seal().unwrap();
    moments.push(Moment { fs: fs.snapshot(), durable_count: 14 });
    moments
}

#[test]
fn what_is_read_after_a_crash_is_a_prefix_with_everything_synced() {
    for sync_every in [1, 2, 5, 100] {
        for Moment { fs, durable_count } in moments(sync_every) {
            for policy in CrashPolicy::ALL {
                for seed in 0..24 {
                    let read = read(&fs.crash(policy, seed), path()).unwrap();
                    let count = read.payloads.len();
                    assert!(durable_count <= count, "{policy:?} {seed}: {count}");
                    assert_eq!(read.payloads, payloads(count), "{policy:?} {seed}");
                }
            }
        }
    }
}

#[test]
fn seal_never_outlives_the_frames_before_it() {
    // A seal that vouches for frames which no sync has covered yet would turn a crash between the
    // two into an error: the frames torn, the seal there.
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    fs.sync_dir(Path::new("")).unwrap();
    append(&mut log, 0..5);
    log.seal().unwrap();
    let sealed = read(&fs.crash(CrashPolicy::AllLost, 0), path()).unwrap();
    assert_eq!(sealed.payloads, payloads(5));
    assert!(matches!(sealed.end, esker_log::LogEnd::Sealed { .. }));
}

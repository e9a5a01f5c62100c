//! Writers that share syncs of one device: who is told that something is durable, and when.
//!
//! The device is a number: everything up to it is durable. Knows nothing of segments.

use std::sync::Arc;
use std::time::Duration;

use super::{in_many_orders, spawn};
use crate::error::{Error, Result};
use crate::logs::sync_group::SyncGroup;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A log whose end is a number, and the device below it.
struct Log {
    group: SyncGroup,
    written: AtomicU64,
    /// How far the device has it, and how often it was asked.
    device: Mutex<(u64, u64)>,
    fate: Fate,
}

/// What becomes of a sync.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Fails,
    Panics,
}

impl Log {
    fn new(fate: Fate) -> Arc<Self> {
        let (group, written) = (SyncGroup::default(), AtomicU64::new(0));
        Arc::new(Self { group, written, device: Mutex::new((0, 0)), fate })
    }

    fn write(&self) -> u64 {
        self.written.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn sync_to(&self, position: u64) -> Result<()> {
        self.group.sync_to(position, now, || {
            let end = self.written.load(Ordering::Acquire);
            let mut device = self.device.try_lock().expect("one sync runs at a time");
            device.1 += 1;
            match self.fate {
                Fate::Done => device.0 = end,
                Fate::Fails => return Err(failure()),
                Fate::Panics => {
                    drop(device);
                    std::panic::resume_unwind(Box::new("as the model asks"));
                }
            }
            Ok(end)
        })
    }

    /// Writes, and waits until that is durable.
    fn write_and_sync(&self) {
        let position = self.write();
        self.sync_to(position).unwrap();
        assert!(position <= self.device.lock().unwrap().0, "{position} was said to be durable");
    }
}

/// A clock by which every sync takes long enough to wait for others. Not under loom, where no wait ends
/// by a limit of time: there syncs take no time, and none waits.
fn now() -> Duration {
    #[cfg(not(loom))]
    {
        static MILLIS: AtomicU64 = AtomicU64::new(0);
        Duration::from_millis(MILLIS.fetch_add(1, Ordering::Relaxed))
    }
    #[cfg(loom)]
    Duration::ZERO
}

fn failure() -> Error {
    Error::invalid_input("as the model asks")
}

/// Runs `work` on three threads.
fn on_three_threads(log: &Arc<Log>, work: fn(&Log)) {
    let others = [(), ()].map(|()| {
        let log = Arc::clone(log);
        spawn(move || work(&log))
    });
    work(log);
    others.into_iter().for_each(|join| join());
}

#[test]
fn nobody_is_told_of_durability_before_the_device_has_it() {
    in_many_orders(|| {
        let log = Log::new(Fate::Done);
        on_three_threads(&log, Log::write_and_sync);
        let (durable, sync_count) = *log.device.lock().unwrap();
        assert_eq!(durable, 3);
        assert!((1..=3).contains(&sync_count), "{sync_count} syncs of three writes");
    });
}

/// Two of them write once more, so that the third is waited for in vain, and one another time.
#[cfg(not(loom))]
#[test]
fn writers_that_are_waited_for_come_or_do_not() {
    in_many_orders(|| {
        let log = Log::new(Fate::Done);
        let others = [1, 2].map(|count| {
            let log = Arc::clone(&log);
            spawn(move || (0..count).for_each(|_| log.write_and_sync()))
        });
        (0..3).for_each(|_| log.write_and_sync());
        others.into_iter().for_each(|join| join());
        let (durable, sync_count) = *log.device.lock().unwrap();
        assert_eq!(durable, 6);
        assert!((3..=6).contains(&sync_count), "{sync_count} syncs of six writes");
    });
}

#[test]
fn a_sync_that_fails_is_told_to_all_and_not_tried_again() {
    in_many_orders(|| {
        let log = Log::new(Fate::Fails);
        on_three_threads(&log, |log| {
            let error = log.sync_to(log.write()).unwrap_err();
            assert_eq!(error.to_string(), failure().to_string());
        });
        assert_eq!(*log.device.lock().unwrap(), (0, 1));
    });
}

#[test]
fn a_sync_that_panics_leaves_nobody_waiting_and_is_not_tried_again() {
    in_many_orders(|| {
        let log = Log::new(Fate::Panics);
        on_three_threads(&log, |log| {
            let position = log.write();
            let sync = std::panic::AssertUnwindSafe(|| log.sync_to(position));
            if let Ok(result) = std::panic::catch_unwind(sync) {
                let text = result.unwrap_err().to_string();
                assert!(text.contains("a sync of the log panicked"), "{text}");
            }
        });
        assert_eq!(log.device.lock().unwrap().1, 1);
    });
}

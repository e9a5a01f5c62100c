//! Compactions on demand in the background: what they do, how they are paused and cancelled, and
//! how they are reported.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use esker::env::{Env, Event, Fault, FaultFileSystem, MemoryFileSystem, Operation, Rule};
use esker::{
    CompactionEnd, CompactionHandle, CompactionState, Db, ErrorKind, JobKind, Keyspace,
    KeyspaceOptions, Options, RunningJob,
};

use crate::policies::KEEPING;
use crate::random::Rng;
use crate::recovered::{DIR, env_over};
use crate::referenced::assert_tidy;
use crate::watchdog::Watchdog;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A database over files that can be watched.
struct Bed {
    fs: MemoryFileSystem,
    faults: FaultFileSystem,
    db: Db,
    keyspace: Keyspace,
    model: Model,
    rng: Rng,
}

impl Bed {
    fn new(background_threads: usize, options: KeyspaceOptions) -> Self {
        let fs = MemoryFileSystem::new(1);
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
        let env = env_over(Arc::new(faults.clone()));
        let engine = Options { background_threads, ..Options::default() };
        let db = Db::builder(DIR).env(env).options(engine).open().unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions { block_size_bytes: 512, ..options });
        let keyspace = keyspace.unwrap();
        Self { fs, faults, db, keyspace, model: Model::new(), rng: Rng::new(1) }
    }

    /// So many runs in level 0.
    fn write(&mut self, runs: usize) {
        for _ in 0..runs {
            for _ in 0..300 {
                let key = format!("key {:03}", self.rng.below(500)).into_bytes();
                if self.rng.one_in(4) {
                    self.keyspace.delete(&key).unwrap();
                    self.model.remove(&key);
                } else {
                    let value = self.rng.bytes(50);
                    self.keyspace.put(&key, &value).unwrap();
                    self.model.insert(key, value);
                }
            }
            self.keyspace.flush().unwrap();
        }
    }

    fn check(&self, what: &str) {
        let read = self.keyspace.iter().map(|entry| {
            let (key, value) = entry.unwrap();
            (key.to_vec(), value.to_vec())
        });
        assert!(read.collect::<Model>() == self.model, "{what}");
    }

    fn runs(&self) -> Vec<usize> {
        self.keyspace.levels().levels.iter().map(|level| level.runs.len()).collect()
    }

    /// Calls `seen` whenever a table is created, until [`Bed::forget`].
    fn on_table(&self, seen: impl Fn() + Send + Sync + 'static) {
        let is_table = |path: &Path| path.extension().is_some_and(|e| e == "table");
        self.faults.observe(move |event: &Event| {
            if event.operation == Operation::Create && is_table(&event.path) {
                seen();
            }
        });
    }

    /// Who writes the first table from now on stands still: the first channel says when, and the
    /// second lets him go on.
    fn hold_first_table(&self) -> (mpsc::Receiver<()>, mpsc::SyncSender<()>) {
        let (reached, is_reached) = mpsc::sync_channel(1);
        let (release, is_released) = mpsc::sync_channel(1);
        let gate = Mutex::new(Some((reached, is_released)));
        self.on_table(move || {
            let taken = gate.lock().unwrap().take();
            if let Some((reached, is_released)) = taken {
                reached.send(()).unwrap();
                is_released.recv().unwrap();
            }
        });
        (is_reached, release)
    }

    /// Without this, the observer would keep the database open.
    fn forget(&self) {
        self.faults.observe(|_| ());
    }
}

fn leveled() -> KeyspaceOptions {
    KeyspaceOptions::default()
}

#[test]
fn job_by_job_it_does_what_the_blocking_one_does_under_every_policy() {
    for compaction in KEEPING {
        let options = || KeyspaceOptions { compaction, ..leveled() };
        let (mut blocking, mut stepped) = (Bed::new(0, options()), Bed::new(0, options()));
        blocking.write(3);
        stepped.write(3);
        blocking.keyspace.compact::<&[u8]>(..).unwrap();
        let handle = stepped.db.existing_keyspace("k").unwrap().unwrap();
        let handle = handle.start_compaction::<&[u8]>(..).unwrap();
        let progress = handle.progress();
        assert_eq!(
            (progress.state, progress.bytes_done, progress.tables_done),
            (CompactionState::Waiting, 0, 0)
        );
        while stepped.db.run_background_job() {}
        assert!(handle.has_ended(), "{compaction:?}: no job is left");
        let report = handle.wait().unwrap();
        let progress = handle.progress();
        assert_eq!(report.end, CompactionEnd::Finished, "{compaction:?}");
        assert_eq!(
            (progress.state, progress.bytes_done, progress.tables_done),
            (CompactionState::Ended, progress.bytes_estimated, progress.tables_estimated)
        );
        assert_eq!((report.bytes_in, report.tables), (progress.bytes_done, progress.tables_done));
        blocking.check("blocking");
        stepped.check("stepped");
        blocking.db.wait_until_settled().unwrap();
        stepped.db.wait_until_settled().unwrap();
        assert_eq!(stepped.runs(), blocking.runs(), "{compaction:?}");
        assert_tidy(&stepped.db, &stepped.fs, "after all");
    }
}

#[test]
fn cancelled_before_its_first_step_it_changes_nothing() {
    let mut bed = Bed::new(0, leveled());
    bed.write(2);
    let before = bed.keyspace.levels();
    let handle = bed.keyspace.start_compaction("key 100".."key 200").unwrap();
    handle.cancel();
    let report = handle.wait().unwrap();
    assert_eq!(report.end, CompactionEnd::Cancelled);
    assert_eq!(
        report.to_string(),
        "cancelled after 0 steps with 0 tables: 0 bytes in, 0 out",
        "and it says so"
    );
    bed.db.wait_until_settled().unwrap();
    assert_eq!(bed.keyspace.levels(), before);
    assert_eq!(bed.db.stats().counters.job_failures, 0);
}

#[test]
fn cancelled_in_the_middle_it_leaves_no_file_and_loses_nothing() {
    let mut bed = Bed::new(0, leveled());
    bed.write(3);
    let before = bed.runs();
    let handle = Arc::new(bed.keyspace.start_compaction::<&[u8]>(..).unwrap());
    let (cancels, created) = (Arc::clone(&handle), Arc::new(Mutex::new(0)));
    let count = Arc::clone(&created);
    bed.on_table(move || {
        *count.lock().unwrap() += 1;
        cancels.cancel();
    });
    let report = handle.wait().unwrap();
    bed.forget();
    assert_eq!((report.end, report.steps), (CompactionEnd::Cancelled, 0));
    assert_eq!(*created.lock().unwrap(), 1, "it had begun to write");
    assert_eq!(bed.runs(), before);
    assert!(bed.db.health().is_good() && bed.db.plan().is_empty(), "{:?}", bed.db.plan());
    assert_tidy(&bed.db, &bed.fs, "cancelled");
    bed.check("cancelled");
    // Nothing is held back by what was given up.
    let again = bed.keyspace.start_compaction::<&[u8]>(..).unwrap().wait().unwrap();
    assert_eq!((again.end, again.tables), (CompactionEnd::Finished, 3));
    assert_eq!(bed.runs().iter().sum::<usize>(), 1);
    bed.check("compacted");
}

#[test]
fn failure_ends_it_and_leaves_no_file() {
    let mut bed = Bed::new(0, leveled());
    bed.write(3);
    let before = bed.runs();
    const EIO: i32 = 5;
    bed.faults.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Sync]).path("*.table"));
    let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
    let error = handle.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(handle.progress().state, CompactionState::Ended);
    bed.faults.clear();
    bed.db.wait_until_settled().unwrap();
    assert_eq!((bed.runs(), bed.db.stats().counters.job_failures), (before, 1));
    assert!(
        bed.db
            .events()
            .iter()
            .any(|(_, event)| { event.to_string().contains("compaction on demand") })
    );
    assert_tidy(&bed.db, &bed.fs, "failed");
    bed.check("failed");
}

#[test]
fn it_goes_on_without_its_handle_and_ends_with_the_database() {
    let mut bed = Bed::new(0, leveled());
    bed.write(3);
    drop(bed.keyspace.start_compaction::<&[u8]>(..).unwrap());
    bed.db.wait_until_settled().unwrap();
    assert_eq!(bed.runs().iter().sum::<usize>(), 1);
    bed.check("compacted");
    let dropped = bed.db.keyspace("dropped", KeyspaceOptions::default()).unwrap();
    let handle = dropped.start_compaction::<&[u8]>(..).unwrap();
    bed.db.drop_keyspace(&dropped).unwrap();
    let error = handle.wait().unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Closed, "the keyspace dropped was dropped".to_owned())
    );
    let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
    let db = bed.db.clone();
    db.close().unwrap();
    assert_eq!(handle.wait().unwrap_err().to_string(), "the database is closed");
    let error = bed.keyspace.start_compaction::<&[u8]>(..).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn paused_it_is_not_wanted_and_no_step_begins() {
    let mut bed = Bed::new(0, leveled());
    bed.write(3);
    let before = bed.runs();
    let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
    handle.pause();
    assert_eq!(handle.progress().state, CompactionState::Paused);
    bed.db.wait_until_settled().unwrap();
    assert_eq!(bed.runs(), before);
    handle.resume();
    bed.db.pause_compactions();
    bed.db.wait_until_settled().unwrap();
    assert_eq!(bed.runs(), before);
    bed.db.resume_compactions();
    assert_eq!(handle.wait().unwrap().end, CompactionEnd::Finished);
    assert_eq!(bed.runs().iter().sum::<usize>(), 1);
}

/// A table that could be moved, or dropped, without a merge was, though compactions were paused.
#[test]
fn a_blocking_one_moves_nothing_while_all_are_paused() {
    let bed = Bed::new(0, leveled());
    bed.keyspace.put("key", "value").unwrap();
    bed.keyspace.flush().unwrap();
    let before = bed.runs();
    bed.db.pause_compactions();
    let (began, has_begun) = mpsc::channel();
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| {
            began.send(()).unwrap();
            bed.keyspace.compact::<&[u8]>(..)
        });
        has_begun.recv().unwrap();
        // One that does not wait has ended long before, nearly always.
        for _ in 0..1000 {
            std::thread::yield_now();
            assert!(!compaction.is_finished());
        }
        assert_eq!(bed.runs(), before);
        bed.db.resume_compactions();
        compaction.join().unwrap().unwrap();
    });
    assert_ne!(bed.runs(), before);
}

/// The only thread for compactions stands in a step that is paused: it does automatic ones meanwhile,
/// with one thread in all even flushes, and takes the step up again.
#[test]
fn automatic_jobs_are_done_by_the_thread_of_a_paused_one() {
    for threads in [1, 2] {
        let mut bed = Bed::new(threads, leveled());
        bed.write(3);
        let other = bed.db.keyspace("other", KeyspaceOptions::default()).unwrap();
        let (is_reached, release) = bed.hold_first_table();
        let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
        is_reached.recv().unwrap();
        handle.pause();
        release.send(()).unwrap();
        let is_level0 = || other.levels().levels[0].runs.len();
        for _ in 0..8 {
            other.put("key", vec![b'x'; 1000]).unwrap();
            other.flush().unwrap();
        }
        while 4 <= is_level0() {
            std::thread::yield_now();
        }
        let running = bed.db.stats().running_jobs;
        assert!(running.iter().any(|job| job.reason == "manual"), "{running:?}");
        assert_eq!((handle.progress().state, handle.has_ended()), (CompactionState::Paused, false));
        bed.check("while it waits");
        handle.resume();
        assert_eq!(handle.wait().unwrap().end, CompactionEnd::Finished, "{threads} threads");
        bed.forget();
        bed.check("compacted");
        assert_eq!(bed.runs().iter().sum::<usize>(), 1);
    }
}

#[test]
fn two_of_one_keyspace_and_a_blocking_one_all_end() {
    let mut bed = Bed::new(3, leveled());
    bed.write(3);
    let first = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
    let second = bed.keyspace.start_compaction(.."key 250").unwrap();
    bed.keyspace.compact("key 100"..).unwrap();
    for handle in [first, second] {
        assert_eq!(handle.wait().unwrap().end, CompactionEnd::Finished);
    }
    bed.db.wait_until_settled().unwrap();
    assert_eq!(bed.runs().iter().sum::<usize>(), 1);
    bed.check("compacted");
}

#[test]
fn flushes_and_compactions_show_while_they_run() {
    let mut bed = Bed::new(0, leveled());
    let seen: Arc<Mutex<Vec<RunningJob>>> = Arc::default();
    let (db, shown) = (bed.db.clone(), Arc::clone(&seen));
    bed.on_table(move || shown.lock().unwrap().extend(db.stats().running_jobs));
    bed.write(2);
    let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
    handle.wait().unwrap();
    bed.forget();
    let seen = seen.lock().unwrap();
    let kinds: Vec<_> = seen.iter().map(|job| (job.kind, job.reason, job.input_count)).collect();
    let (flush, compaction) = (JobKind::Flush, JobKind::Compaction);
    assert_eq!(kinds, [(flush, "flush", 1), (flush, "flush", 1), (compaction, "manual", 2)]);
    assert!(seen.iter().all(|job| job.keyspace == "k" && job.bytes_in <= job.input_bytes));
    let text = seen[2].to_string();
    assert!(text.starts_with("compaction of k for 0.0ns: 0 of "), "{text}");
    assert!(text.contains("; manual: merge L0#"), "{text}");
    let stats = bed.db.stats();
    assert!(stats.running_jobs.is_empty());
    assert!(stats.to_string().contains("running_job_count 0\n"));
}

/// One that was paused within a step held up every later one in its keyspace, whatever its keys: each
/// waited for nothing to be in flight, though nothing of its own was left to do.
#[test]
fn compaction_of_other_keys_than_those_of_a_paused_one_ends() {
    let name = "on_demand::compaction_of_other_keys_than_those_of_a_paused_one_ends";
    let _watchdog = Watchdog::start(name.to_owned());
    let mut bed = Bed::new(3, leveled());
    // The last level has its run, and level 0 too few for anything automatic.
    for (number, part) in ["c", "a", "a", "b"].into_iter().enumerate() {
        for key in 0..300 {
            let key = format!("{part} {key:03}").into_bytes();
            bed.keyspace.put(&key, "value").unwrap();
            bed.model.insert(key, b"value".to_vec());
        }
        bed.keyspace.flush().unwrap();
        if number == 0 {
            bed.keyspace.compact::<&[u8]>(..).unwrap();
        }
    }
    let (is_reached, release) = bed.hold_first_table();
    let paused = bed.keyspace.start_compaction("a".."b").unwrap();
    is_reached.recv().unwrap();
    paused.pause();
    release.send(()).unwrap();
    let queued = bed.keyspace.start_compaction("b".."c").unwrap();
    bed.keyspace.compact("b".."c").unwrap();
    assert_eq!(queued.wait().unwrap().end, CompactionEnd::Finished);
    assert!(!paused.has_ended());
    paused.resume();
    assert_eq!(paused.wait().unwrap().end, CompactionEnd::Finished);
    bed.forget();
    bed.check("compacted");
}

/// Holds, cancels and forgets compactions of random ranges while somebody writes.
fn hold_and_cancel(bed: &Bed, rng: &mut Rng) {
    let mut handles = Vec::new();
    for _ in 0..40 {
        let (a, b) = (rng.below(500), rng.below(500));
        let range = format!("key {:03}", a.min(b))..format!("key {:03}", a.max(b) + 1);
        match rng.below(4) {
            0 | 1 => handles.push(bed.keyspace.start_compaction(range).unwrap()),
            2 => drop(bed.keyspace.start_compaction(range).unwrap()),
            _ => {
                resume_all(&handles);
                bed.keyspace.compact(range).unwrap();
            }
        }
        if handles.is_empty() {
            continue;
        }
        let index = rng.index(handles.len());
        match rng.below(4) {
            0 => handles[index].pause(),
            1 => handles[index].resume(),
            2 => handles[index].cancel(),
            _ => {
                let handle = handles.swap_remove(index);
                handle.resume();
                if rng.one_in(2) {
                    resume_all(&handles);
                    let report = handle.wait().unwrap();
                    let progress = handle.progress();
                    assert_eq!(report.bytes_in, progress.bytes_done);
                    assert!(progress.bytes_done <= progress.bytes_estimated);
                }
            }
        }
    }
    resume_all(&handles);
    for handle in handles {
        handle.wait().unwrap();
    }
}

/// One that is paused may be in the way of those that are waited for.
fn resume_all(handles: &[CompactionHandle]) {
    handles.iter().for_each(CompactionHandle::resume);
}

#[test]
fn holding_and_cancelling_beside_writers_loses_nothing_under_any_policy() {
    for (index, compaction) in KEEPING.into_iter().enumerate() {
        let options = KeyspaceOptions { compaction, memtable_bytes: 8_000, ..leveled() };
        let mut bed = Bed::new(1 + index % 3, options);
        let mut rng = Rng::new(index as u64);
        bed.write(2);
        let keyspace = bed.keyspace.clone();
        let mut written = Model::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut rng = Rng::new(99);
                for number in 0..4000_u64 {
                    let key = format!("written {:03}", rng.below(300)).into_bytes();
                    keyspace.put(&key, number.to_le_bytes()).unwrap();
                    written.insert(key, number.to_le_bytes().to_vec());
                }
            });
            hold_and_cancel(&bed, &mut rng);
            writer.join().unwrap();
        });
        bed.model.append(&mut written);
        bed.db.wait_until_settled().unwrap();
        bed.check(&format!("{compaction:?}"));
        assert!(bed.db.stats().running_jobs.is_empty());
        assert_eq!(bed.db.stats().counters.job_failures, 0, "{:?}", bed.db.events());
        assert_tidy(&bed.db, &bed.fs, &format!("{compaction:?}"));
    }
}

#[test]
fn with_another_in_its_way_it_waits_and_goes_on_at_the_end_of_that() {
    let mut bed = Bed::new(0, leveled());
    bed.write(3);
    let (is_reached, release) = bed.hold_first_table();
    let keyspace = bed.keyspace.clone();
    let handle = std::thread::scope(|scope| {
        let blocking = scope.spawn(move || keyspace.compact::<&[u8]>(..).unwrap());
        is_reached.recv().unwrap();
        let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
        while bed.db.run_background_job() {}
        assert_eq!(handle.progress().state, CompactionState::Waiting);
        release.send(()).unwrap();
        blocking.join().unwrap();
        handle
    });
    bed.forget();
    while bed.db.run_background_job() {}
    assert!(handle.has_ended(), "{:?}", handle.progress());
    assert_eq!(handle.wait().unwrap().end, CompactionEnd::Finished);
    bed.check("compacted");
}

#[test]
fn automatic_compactions_overtake_one_that_is_under_way() {
    let mut bed = Bed::new(2, leveled());
    bed.write(3);
    let other = bed.db.keyspace("other", KeyspaceOptions::default()).unwrap();
    let (is_reached, release) = bed.hold_first_table();
    let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
    is_reached.recv().unwrap();
    for _ in 0..5 {
        other.put("key", "value").unwrap();
        other.flush().unwrap();
    }
    release.send(()).unwrap();
    handle.wait().unwrap();
    bed.forget();
    let events = bed.db.events();
    let compacted = events.iter().filter_map(|(_, event)| match event {
        esker::Event::Compacted { keyspace, .. } => Some(keyspace.as_str()),
        _ => None,
    });
    assert_eq!(compacted.collect::<Vec<_>>(), ["other", "k"]);
}

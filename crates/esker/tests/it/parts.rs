//! Compactions in parts, on the threads of the engine: they differ only in time from those in one
//! piece, however they end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use esker::env::{
    Env, Event, Fault, FaultFileSystem, ManualClock, MemoryFileSystem, Operation, Rule, When,
};
use esker::{
    CompactionFilter, CompactionFilterFactory, CompactionPolicy, Db, Expiry, FilterContext,
    FilterDecision, FilterFailure, Keyspace, KeyspaceOptions, Options, Snapshot,
};

use crate::random::{Rng, for_each_seed};
use crate::recovered::{DIR, env_over};
use crate::referenced::assert_tidy;
use crate::state::merge_operator;

/// A database over files that can be watched; compactions on demand only.
struct Bed {
    fs: MemoryFileSystem,
    faults: FaultFileSystem,
    clock: Arc<ManualClock>,
    db: Db,
    keyspace: Keyspace,
}

const START: Duration = Duration::from_secs(1_700_000_000);

impl Bed {
    fn new(background_threads: usize, part_bytes: Option<u64>, options: KeyspaceOptions) -> Self {
        let fs = MemoryFileSystem::new(1);
        let clock = Arc::new(ManualClock::new(START));
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), clock.clone());
        let env = Env { clock: clock.clone(), ..env_over(Arc::new(faults.clone())) };
        let engine = Options { background_threads, part_bytes, ..Options::default() };
        let db = Db::builder(DIR).env(env).options(engine).open().unwrap();
        let options = KeyspaceOptions {
            compaction: CompactionPolicy::None,
            block_size_bytes: 512,
            merge_operator: merge_operator(),
            ..options
        };
        let keyspace = db.keyspace("k", options).unwrap();
        Self { fs, faults, clock, db, keyspace }
    }

    /// Three runs of ascending keys, overlapping, of a thousand entries each.
    fn with_three_runs(background_threads: usize, options: KeyspaceOptions) -> Self {
        let bed = Self::new(background_threads, Some(2000), options);
        for run in 0..3 {
            for key in 0..1000 {
                let value = vec![run; 100];
                bed.keyspace.put(format!("key {:05}", key * 3 + u32::from(run)), value).unwrap();
            }
            bed.keyspace.flush().unwrap();
        }
        bed
    }

    fn split_compactions(&self) -> u64 {
        self.db.stats().counters.split_compactions
    }

    fn key_count(&self) -> usize {
        self.keyspace.iter().inspect(|entry| assert!(entry.is_ok())).count()
    }

    /// Calls `seen` before every change of a kind, until [`Bed::forget`].
    fn on(&self, operation: Operation, seen: impl Fn(&Event) + Send + Sync + 'static) {
        self.faults.observe(move |event: &Event| {
            let is_table = event.path.extension().is_some_and(|e| e == "table");
            if event.operation == operation && (is_table || operation == Operation::SyncDir) {
                seen(event);
            }
        });
    }

    /// Two parts stand still at their first table, between two waits of the third at the barrier.
    fn hold_two_parts(&self) -> Arc<Barrier> {
        let (barrier, tables) = (Arc::new(Barrier::new(3)), AtomicUsize::new(0));
        let at_tables = Arc::clone(&barrier);
        self.on(Operation::Create, move |_| {
            if tables.fetch_add(1, Ordering::Relaxed) < 2 {
                at_tables.wait();
                at_tables.wait();
            }
        });
        barrier
    }

    /// Without this, the observer would keep the database open.
    fn forget(&self) {
        self.faults.observe(|_| ());
    }
}

/// What there is to see, under every snapshot and now.
fn seen(bed: &Bed, snapshots: &[Snapshot]) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let own = |entry: esker::Result<(esker::Key, esker::Value)>| {
        let (key, value) = entry.unwrap();
        (key.to_vec(), value.to_vec())
    };
    let views = snapshots.iter().map(|snapshot| {
        let view = snapshot.keyspace(&bed.keyspace);
        let scanned: Vec<_> = view.scan::<&[u8]>(..).map(own).collect();
        for (key, value) in &scanned {
            assert_eq!(view.get(key).unwrap().as_deref(), Some(value.as_slice()));
        }
        scanned
    });
    views.chain([bed.keyspace.iter().map(own).collect()]).collect()
}

/// Writes of every kind, flushes and snapshots, the same for the same seed.
fn write_all(bed: &Bed, seed: u64) -> Vec<Snapshot> {
    let mut rng = Rng::new(seed);
    let mut snapshots = Vec::new();
    for number in 0..1500 {
        let key = format!("{:03}", rng.below(400)).into_bytes();
        let value = rng.bytes(20 + rng.clone().index(80));
        match rng.below(12) {
            0 => bed.keyspace.delete(&key),
            1 | 2 => bed.keyspace.merge(&key, &value),
            3 => {
                let expiry = UNIX_EPOCH + START + Duration::from_millis(rng.below(40_000));
                bed.keyspace.put_with_expiry(&key, &value, Expiry::At(expiry))
            }
            4 if rng.one_in(8) => {
                let end = format!("{:03}", rng.below(400)).into_bytes();
                if key < end { bed.keyspace.delete_range(key..end) } else { Ok(()) }
            }
            _ => bed.keyspace.put(&key, &value),
        }
        .unwrap();
        bed.clock.advance(Duration::from_millis(rng.below(20)));
        if number % 300 == 299 {
            bed.keyspace.flush().unwrap();
        }
        if rng.one_in(200) {
            snapshots.push(bed.db.snapshot());
        }
    }
    bed.keyspace.flush().unwrap();
    snapshots
}

#[test]
fn parts_on_several_threads_answer_as_one_piece_does_under_every_snapshot() {
    for_each_seed("parts_on_several_threads_answer_as_one_piece_does", 6, |seed| {
        // Some values in blob files, of which compactions write some anew.
        let blob_threshold_bytes = (seed % 2 == 1).then_some(64);
        let options = || KeyspaceOptions { blob_threshold_bytes, ..KeyspaceOptions::default() };
        let whole = Bed::new(0, None, options());
        let parts = Bed::new(3, Some(1000), options());
        let beds = [&whole, &parts].map(|bed| (bed, write_all(bed, seed)));
        let expected = seen(beds[0].0, &beds[0].1);
        assert_eq!(seen(beds[1].0, &beds[1].1), expected, "before");
        for (bed, snapshots) in &beds {
            bed.keyspace.compact::<&[u8]>(..).unwrap();
            assert_eq!(seen(bed, snapshots), expected, "after");
        }
        assert!(parts.split_compactions() > 0 && whole.split_compactions() == 0);
        let entries =
            |bed: &Bed| bed.db.stats().keyspaces.iter().map(|k| k.table_entries).sum::<u64>();
        assert_eq!(entries(&parts), entries(&whole), "both have dropped the same");
        assert_tidy(&parts.db, &parts.fs, "in parts");
    });
}

#[test]
fn idle_threads_take_parts_at_the_same_time() {
    let bed = Bed::with_three_runs(3, KeyspaceOptions::default());
    // Two parts stand at the creation of a table before either goes on.
    let (barrier, tables) = (Arc::new(Barrier::new(2)), AtomicUsize::new(0));
    bed.on(Operation::Create, move |_| {
        if tables.fetch_add(1, Ordering::Relaxed) < 2 {
            barrier.wait();
        }
    });
    bed.keyspace.compact::<&[u8]>(..).unwrap();
    bed.forget();
    assert_eq!((bed.split_compactions(), bed.key_count()), (1, 3000));
    let levels = bed.keyspace.levels().levels;
    assert!(levels.iter().map(|level| level.runs.len()).eq([0, 0, 0, 0, 0, 0, 1]));
    assert_tidy(&bed.db, &bed.fs, "after all");
}

#[test]
fn a_thread_that_does_not_come_is_not_waited_for() {
    // The only compacting thread is held by a compaction of another keyspace.
    let bed = Bed::with_three_runs(2, KeyspaceOptions::default());
    let other = bed.db.keyspace("other", KeyspaceOptions::default()).unwrap();
    other.put("a", "1").unwrap();
    other.flush().unwrap();
    let (entered, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let held = Mutex::new(Some((Arc::clone(&entered), Arc::clone(&go_on))));
    bed.on(Operation::Read, move |_| {
        let first = held.lock().unwrap().take();
        if let Some((entered, go_on)) = first {
            entered.wait();
            go_on.wait();
        }
    });
    other.delete("a").unwrap();
    let handle = other.start_compaction::<&[u8]>(..).unwrap();
    entered.wait();
    bed.keyspace.compact::<&[u8]>(..).unwrap();
    assert_eq!((bed.split_compactions(), bed.key_count()), (1, 3000));
    go_on.wait();
    handle.wait().unwrap();
    bed.forget();
}

#[test]
fn a_part_that_fails_fails_the_whole_and_leaves_no_file() {
    for threads in [0, 3] {
        for operation in [Operation::Create, Operation::Write, Operation::Sync] {
            let mut failures = 0;
            for nth in (1..).step_by(2) {
                let bed = Bed::with_three_runs(threads, KeyspaceOptions::default());
                let before = bed.keyspace.levels();
                let rule = Rule::new(Fault::Error(5)).on(&[operation]).path("*.table");
                bed.faults.add(rule.when(When::Nth(nth)));
                let result = bed.keyspace.compact::<&[u8]>(..);
                bed.faults.clear();
                if result.is_ok() {
                    break;
                }
                failures += 1;
                assert_eq!(bed.keyspace.levels(), before, "{operation:?} {nth}");
                assert_eq!(bed.key_count(), 3000);
                assert_tidy(&bed.db, &bed.fs, &format!("{operation:?} {nth}"));
                bed.keyspace.compact::<&[u8]>(..).unwrap();
            }
            assert!(failures >= 2, "{operation:?} with {threads} threads: {failures}");
        }
    }
}

#[test]
fn cancelled_while_several_parts_are_under_way_it_leaves_no_file() {
    let bed = Bed::with_three_runs(4, KeyspaceOptions::default());
    let before = bed.keyspace.levels();
    let barrier = bed.hold_two_parts();
    let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
    barrier.wait();
    handle.cancel();
    barrier.wait();
    let report = handle.wait().unwrap();
    bed.forget();
    assert_eq!((report.end, report.steps), (esker::CompactionEnd::Cancelled, 0));
    assert_eq!(bed.keyspace.levels(), before);
    bed.db.wait_until_settled().unwrap();
    assert_tidy(&bed.db, &bed.fs, "after the cancellation");
}

#[test]
fn progress_of_a_handle_counts_all_parts() {
    let bed = Bed::with_three_runs(3, KeyspaceOptions::default());
    let handle = Arc::new(bed.keyspace.start_compaction::<&[u8]>(..).unwrap());
    let report = handle.wait().unwrap();
    let progress = handle.progress();
    assert_eq!((report.steps, report.tables), (1, 3));
    assert_eq!(progress.bytes_done, report.bytes_in);
    assert_eq!(bed.split_compactions(), 1);
}

#[test]
fn paused_with_parts_under_way_it_stands_still_and_goes_on() {
    let bed = Bed::with_three_runs(3, KeyspaceOptions::default());
    let barrier = bed.hold_two_parts();
    let handle = bed.keyspace.start_compaction::<&[u8]>(..).unwrap();
    barrier.wait();
    handle.pause();
    barrier.wait();
    bed.forget();
    // Its threads do what else there is.
    let other = bed.db.keyspace("other", KeyspaceOptions::default()).unwrap();
    for _ in 0..3 {
        other.put("a", "1").unwrap();
        other.flush().unwrap();
    }
    other.compact::<&[u8]>(..).unwrap();
    assert!(!handle.has_ended());
    handle.resume();
    handle.wait().unwrap();
    assert_eq!(bed.key_count(), 3000);
}

/// Keeps everything, and notes that its keys ascend and that there is one of it a compaction.
struct InOrder(Arc<Mutex<Vec<Vec<Vec<u8>>>>>);

struct Noting(Arc<Mutex<Vec<Vec<Vec<u8>>>>>, usize);

impl CompactionFilterFactory for InOrder {
    fn name(&self) -> &str {
        "in order"
    }

    fn create(&self, _: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        let mut seen = self.0.lock().unwrap();
        seen.push(Vec::new());
        Box::new(Noting(Arc::clone(&self.0), seen.len() - 1))
    }
}

impl CompactionFilter for Noting {
    fn filter(&mut self, key: &[u8], _: &[u8]) -> Result<FilterDecision, FilterFailure> {
        self.0.lock().unwrap()[self.1].push(key.to_vec());
        Ok(FilterDecision::Keep)
    }
}

#[test]
fn a_compaction_with_a_filter_is_not_cut() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let filter = esker::Filter::new(InOrder(Arc::clone(&asked)));
    let options = KeyspaceOptions { compaction_filter: Some(filter), ..KeyspaceOptions::default() };
    let bed = Bed::with_three_runs(3, options);
    bed.keyspace.compact::<&[u8]>(..).unwrap();
    assert_eq!(bed.split_compactions(), 0);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1, "one filter for one compaction");
    assert_eq!(asked[0].len(), 3000);
    assert!(asked[0].is_sorted());
}

/// With tables of a mebibyte, from half of one on: a load of some hundred megabytes was merged by one thread.
#[test]
fn merges_of_some_size_are_cut_by_default_and_only_where_several_threads_compact() {
    let cases = [(0, 600, 0), (1, 600, 0), (2, 600, 1), (3, 600, 1), (2, 60, 1), (2, 40, 0)];
    for (threads, key_count, expected) in cases {
        let bed = Bed::new(threads, None, KeyspaceOptions::default());
        let keyspace = bed.db.keyspace(
            "large",
            KeyspaceOptions {
                compaction: CompactionPolicy::None,
                memtable_bytes: 1 << 20,
                compression: esker::Compression::None,
                ..KeyspaceOptions::default()
            },
        );
        let keyspace = keyspace.unwrap();
        let mut rng = Rng::new(1);
        for key in 0..key_count {
            keyspace.put(format!("{:03}", key * 7919 % 600), rng.bytes(10_000)).unwrap();
        }
        keyspace.flush().unwrap();
        // What is one run already is not merged.
        keyspace.put("000", "").unwrap();
        keyspace.flush().unwrap();
        keyspace.compact::<&[u8]>(..).unwrap();
        let counted = bed.split_compactions();
        assert_eq!(counted, expected, "{threads} threads, {key_count} keys");
        assert_eq!(keyspace.iter().count(), key_count);
    }
}

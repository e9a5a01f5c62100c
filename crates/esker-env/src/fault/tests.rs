//! Each fault does what its documentation says, on a file system in memory.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use crate::{CrashPolicy, FileExt, ManualClock, MemoryFileSystem};

const EIO: i32 = 5;

struct Rig {
    memory: MemoryFileSystem,
    clock: Arc<ManualClock>,
    fs: FaultFileSystem,
}

fn rig() -> Rig {
    let memory = MemoryFileSystem::new(0);
    let clock = Arc::new(ManualClock::default());
    let fs = FaultFileSystem::new(Arc::new(memory.clone()), clock.clone());
    Rig { memory, clock, fs }
}

fn contents(fs: &dyn FileSystem, name: &str) -> Vec<u8> {
    let file = fs.open(Path::new(name)).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn rule_fires_on_its_operation_its_path_and_its_turn() {
    let Rig { fs, .. } = rig();
    let rule = Rule::new(Fault::Error(EIO)).on(&[Operation::Write]).path("*.log");
    fs.add(rule.when(When::Nth(2)));
    let log = fs.create(Path::new("dir/../1.log")).unwrap();
    let table = fs.create(Path::new("1.table")).unwrap();
    log.write_at(0, b"first").unwrap();
    table.write_at(0, b"not a log").unwrap();
    log.read_at(0, &mut [0]).unwrap();
    assert_eq!(
        log.write_at(5, b"second").unwrap_err().to_string(),
        "cannot write dir/../1.log: Input/output error (os error 5)"
    );
    log.write_at(5, b"third").unwrap();
    assert_eq!(contents(&fs, "1.log"), b"firstthird");
    let [event] = fs.injected().try_into().unwrap();
    assert_eq!((event.call, event.operation), (6, Operation::Write));
}

#[test]
fn every_operation_can_fail_and_then_does_nothing() {
    let Rig { memory, fs, .. } = rig();
    let path = Path::new("f");
    let file = fs.create(path).unwrap();
    file.write_at(0, b"kept").unwrap();
    fs.add(Rule::new(Fault::Error(EIO)));
    let before = fs.calls();
    assert!(fs.create(Path::new("g")).is_err());
    assert!(fs.open(path).is_err());
    assert!(fs.open_for_write(path).is_err());
    assert!(fs.rename(path, Path::new("g")).is_err());
    assert!(fs.remove(path).is_err());
    assert!(fs.list(Path::new("")).is_err());
    assert!(fs.exists(path).is_err());
    assert!(fs.create_dir_all(Path::new("d")).is_err());
    assert!(fs.sync_dir(Path::new("")).is_err());
    assert!(matches!(fs.lock(Path::new("LOCK"), LockMode::Exclusive), Err(LockError::Io(_))));
    assert!(fs.space(Path::new("")).is_err());
    assert!(file.read_at(0, &mut [0]).is_err());
    assert!(file.write_at(0, b"lost").is_err());
    assert!(file.sync_data().is_err());
    assert!(file.sync_all().is_err());
    assert!(file.allocate(0, 10).is_err());
    assert!(file.truncate(0).is_err());
    assert!(file.len().is_err());
    assert_eq!(fs.calls() - before, 18);
    assert_eq!(fs.injected().len(), 18);
    assert_eq!(memory.pending_count(), 2, "the name and the first write");
    fs.clear();
    assert_eq!(contents(&fs, "f"), b"kept");
}

#[test]
fn rule_from_a_turn_on_holds_until_it_is_cleared() {
    let Rig { fs, .. } = rig();
    fs.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Exists]).when(When::From(3)));
    let failures = (0..6).map(|_| fs.exists(Path::new("f")).is_err()).collect::<Vec<_>>();
    assert_eq!(failures, [false, false, true, true, true, true]);
    fs.clear();
    assert!(!fs.exists(Path::new("f")).unwrap());
}

#[test]
fn chance_is_repeated_by_its_seed() {
    let draw = |seed| {
        let Rig { fs, .. } = rig();
        fs.add(Rule::new(Fault::Error(EIO)).when(When::OneIn { count: 4, seed }));
        (0..200).map(|_| fs.exists(Path::new("f")).is_err()).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let fired = draw(1).into_iter().filter(|failed| *failed).count();
    assert!((20..80).contains(&fired), "{fired}");
}

#[test]
fn writes_are_torn_shortened_lost_misdirected_and_corrupted() {
    let write = |fault| {
        let Rig { fs, .. } = rig();
        let file = fs.create(Path::new("f")).unwrap();
        fs.add(Rule::new(fault));
        let result = file.write_at(0, b"abcd").ok();
        fs.clear();
        (result, contents(&fs, "f"))
    };
    assert_eq!(write(Fault::TornWrite(EIO)), (None, b"ab".to_vec()));
    assert_eq!(write(Fault::Short), (Some(2), b"ab".to_vec()));
    assert_eq!(write(Fault::LostWrite), (Some(4), b"".to_vec()));
    assert_eq!(write(Fault::MisdirectedWrite(3)), (Some(4), b"\0\0\0abcd".to_vec()));
    let (result, corrupt) = write(Fault::CorruptWrite);
    assert_eq!((result, bits_changed(&corrupt, b"abcd")), (Some(4), 1));
}

fn bits_changed(left: &[u8], right: &[u8]) -> u32 {
    left.iter().zip(right).map(|(left, right)| (left ^ right).count_ones()).sum()
}

#[test]
fn reads_are_shortened_and_corrupted_but_whole_reads_still_come_through() {
    let Rig { fs, .. } = rig();
    let file = fs.create(Path::new("f")).unwrap();
    file.write_all_at(0, b"abcdefgh").unwrap();
    fs.add(Rule::new(Fault::Short));
    let mut bytes = [0; 8];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), 4);
    file.read_exact_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"abcdefgh");
    fs.clear();
    fs.add(Rule::new(Fault::CorruptRead));
    file.read_exact_at(0, &mut bytes).unwrap();
    assert_eq!(bits_changed(&bytes, b"abcdefgh"), 1);
}

#[test]
fn what_is_not_at_hand_is_still_read_by_who_waits() {
    let Rig { fs, .. } = rig();
    let file = fs.create(Path::new("f")).unwrap();
    file.write_all_at(0, b"abcdefgh").unwrap();
    let mut bytes = [0; 8];
    assert_eq!(file.read_at_hand(0, &mut bytes).unwrap(), Some(8));
    fs.add(Rule::new(Fault::NotAtHand));
    assert_eq!(file.read_at_hand(0, &mut bytes).unwrap(), None);
    bytes.fill(0);
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), 8);
    assert_eq!(&bytes, b"abcdefgh");
    fs.clear();
    fs.add(Rule::new(Fault::Error(EIO)));
    let calls = fs.calls();
    file.will_need(0, 8);
    assert_eq!(fs.calls(), calls + 1);
    assert!(file.read_at_hand(0, &mut bytes).is_err());
}

#[test]
fn delays_pass_on_the_clock_and_panics_are_panics() {
    let Rig { fs, clock, .. } = rig();
    fs.add(Rule::new(Fault::Delay(Duration::from_secs(3))));
    fs.exists(Path::new("f")).unwrap();
    assert_eq!(clock.now(), Duration::from_secs(3));
    fs.add(Rule::new(Fault::Panic));
    assert!(catch_unwind(AssertUnwindSafe(|| fs.exists(Path::new("f")))).is_err());
    fs.clear();
    assert!(!fs.exists(Path::new("f")).unwrap());
}

#[test]
fn observer_can_crash_before_every_change() {
    let Rig { memory, fs, .. } = rig();
    let states = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&states);
    fs.observe(move |event| {
        if event.operation.is_change() {
            let names = memory.crash(CrashPolicy::AllKept, 0).list(Path::new("")).unwrap();
            let mut names: Vec<String> = names.into_iter().map(|entry| entry.name).collect();
            names.sort();
            seen.lock().unwrap().push((event.operation, names.join(" ")));
        }
    });
    fs.create(Path::new("a")).unwrap();
    fs.exists(Path::new("a")).unwrap();
    fs.rename(Path::new("a"), Path::new("b")).unwrap();
    fs.sync_dir(Path::new("")).unwrap();
    fs.link(Path::new("b"), Path::new("c")).unwrap();
    fs.remove(Path::new("b")).unwrap();
    let expected = [
        (Operation::Create, ""),
        (Operation::Rename, "a"),
        (Operation::SyncDir, "b"),
        (Operation::Link, "b"),
        (Operation::Remove, "b c"),
    ];
    let states = states.lock().unwrap();
    let states: Vec<_> = states.iter().map(|(operation, names)| (*operation, &**names)).collect();
    assert_eq!(states, expected);
}

#[test]
fn sync_that_failed_as_linux_fails_leaves_bytes_that_no_later_sync_saves() {
    let Rig { memory, fs, .. } = rig();
    let below = memory.clone();
    fs.observe(move |event| {
        if event.operation == Operation::Sync && event.fault.is_some() {
            assert!(below.forget_unsynced(&event.path));
        }
    });
    let file = fs.create(Path::new("f")).unwrap();
    fs.sync_dir(Path::new("")).unwrap();
    file.write_all_at(0, b"doomed").unwrap();
    fs.add(Rule::new(Fault::Error(EIO)).on(&[Operation::Sync]).when(When::Nth(1)));
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(contents(&fs, "f"), b"doomed");
    assert_eq!(contents(&memory.crash(CrashPolicy::AllKept, 0), "f"), b"");
}

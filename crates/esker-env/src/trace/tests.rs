//! What is pending, compared with what a power loss takes; and rules that are broken and kept.

use super::*;
use crate::random::SplitMix;
use crate::testing::TestDir;
use crate::{CrashPolicy, Fault, FaultFileSystem, FileExt, ManualClock, MemoryFileSystem};
use crate::{OsFileSystem, Rule, When};

const EIO: i32 = 5;

fn rig() -> (MemoryFileSystem, TraceFileSystem) {
    let memory = MemoryFileSystem::new(0);
    let fs = TraceFileSystem::new(Arc::new(memory.clone()));
    (memory, fs)
}

fn create(fs: &TraceFileSystem, path: &str) -> Arc<dyn File> {
    fs.create(Path::new(path)).unwrap()
}

fn rename(fs: &TraceFileSystem, from: &str, to: &str) {
    fs.rename(Path::new(from), Path::new(to)).unwrap();
}

fn sync_root(fs: &TraceFileSystem) {
    fs.sync_dir(Path::new("")).unwrap();
}

/// Numbers of the changes of a file's bytes that are pending.
fn bytes(fs: &TraceFileSystem, path: &str) -> Vec<u64> {
    fs.pending().bytes_of(Path::new(path)).iter().map(|change| change.number).collect()
}

/// Numbers of the changes of names that are pending.
fn names(fs: &TraceFileSystem, dir: &str) -> Vec<u64> {
    fs.pending().names_in(Path::new(dir)).iter().map(|change| change.number).collect()
}

fn is_durable(fs: &TraceFileSystem, path: &str) -> bool {
    fs.pending().is_durable(Path::new(path))
}

#[test]
fn every_change_is_recorded_and_nothing_else() {
    let (_, fs) = rig();
    let file = create(&fs, "a");
    file.write_at(3, b"hello").unwrap();
    file.read_at(0, &mut [0; 4]).unwrap();
    file.allocate(8, 100).unwrap();
    file.truncate(4).unwrap();
    file.sync_all().unwrap();
    fs.create_dir_all(Path::new("d")).unwrap();
    rename(&fs, "a", "d/b");
    fs.link(Path::new("d/b"), Path::new("c")).unwrap();
    fs.list(Path::new("d")).unwrap();
    fs.sync_dir(Path::new("d")).unwrap();
    fs.remove(Path::new("c")).unwrap();
    drop(fs.lock(Path::new("LOCK"), LockMode::Exclusive).unwrap());
    let changes: Vec<String> = fs.changes().iter().map(Change::to_string).collect();
    let expected = [
        "1, Create of a",
        "2, Write of a, bytes 3..8",
        "3, Allocate of a, bytes 8..108",
        "4, Truncate of a, from byte 4",
        "5, Sync of a",
        "6, CreateDir of d",
        "7, Rename of a to d/b",
        "8, Link of d/b to c",
        "9, SyncDir of d",
        "10, Remove of c",
        "11, Lock of LOCK",
    ];
    assert_eq!(changes, expected);
}

#[test]
fn bytes_are_pending_until_a_sync_and_names_until_one_of_their_directory() {
    let (_, fs) = rig();
    fs.create_dir_all(Path::new("d")).unwrap();
    let file = create(&fs, "d/a");
    file.write_at(0, b"hello").unwrap();
    assert_eq!((bytes(&fs, "d/a"), names(&fs, "d")), (vec![3], vec![2]));
    sync_root(&fs);
    assert_eq!(names(&fs, "d"), [2], "that was another directory");
    file.sync_data().unwrap();
    assert_eq!((bytes(&fs, "d/a"), is_durable(&fs, "d/a")), (vec![], false));
    fs.sync_dir(Path::new("/x/../d/.")).unwrap();
    assert!(is_durable(&fs, "d/a"));
    assert_eq!(fs.pending().count(), 0);
    rename(&fs, "d/a", "b");
    assert_eq!((names(&fs, "d"), names(&fs, "")), (vec![7], vec![7]), "in both directories");
    assert!(!fs.pending().is_name_durable(Path::new("d/a")), "it may come back");
    fs.remove(Path::new("b")).unwrap();
    assert_eq!(names(&fs, ""), [7, 8]);
}

#[test]
fn handle_goes_on_after_a_rename_and_names_of_one_file_share_bytes() {
    let (_, fs) = rig();
    let file = create(&fs, "a");
    rename(&fs, "a", "b");
    fs.link(Path::new("b"), Path::new("c")).unwrap();
    let other = create(&fs, "a");
    other.write_at(0, b"of the other").unwrap();
    file.write_at(0, b"of the first").unwrap();
    assert_eq!(bytes(&fs, "a"), [5]);
    assert_eq!((bytes(&fs, "b"), bytes(&fs, "c")), (vec![6], vec![6]));
    assert_eq!(fs.changes()[5].path, Path::new("b"), "the name that it has by now");
    assert_eq!(fs.pending().names_of(Path::new("c")), [Path::new("b"), Path::new("c")]);
    // Two names of one file: both stay, as POSIX has it.
    rename(&fs, "b", "c");
    assert_eq!(names(&fs, ""), [1, 2, 3, 4]);
    // The file that is replaced goes on without a name.
    rename(&fs, "a", "c");
    assert_eq!((bytes(&fs, "b"), bytes(&fs, "c")), (vec![6], vec![5]));
    fs.open_for_write(Path::new("b")).unwrap().sync_data().unwrap();
    assert_eq!((bytes(&fs, "b"), bytes(&fs, "c")), (vec![], vec![5]));
    assert_eq!(fs.pending().files("*"), [Path::new("b"), Path::new("c")], "names");
    sync_root(&fs);
    assert_eq!(fs.pending().files("*"), [Path::new("c")]);
    assert!(fs.pending().files("b*").is_empty());
}

#[test]
fn files_from_before_the_trace_are_durable() {
    let memory = MemoryFileSystem::new(0);
    memory.create(Path::new("a")).unwrap().write_at(0, b"hello").unwrap();
    let fs = TraceFileSystem::new(Arc::new(memory));
    let file = fs.open_for_write(Path::new("a")).unwrap();
    assert!(is_durable(&fs, "a"));
    rename(&fs, "a", "b");
    assert_eq!((bytes(&fs, "b"), is_durable(&fs, "b")), (vec![], false));
    file.write_at(0, b"j").unwrap();
    assert_eq!(bytes(&fs, "b"), [2]);
}

#[test]
fn sync_covers_only_what_had_ended_when_it_began() {
    let memory: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::new(0));
    let faults = FaultFileSystem::new(memory, Arc::new(ManualClock::default()));
    let fs = TraceFileSystem::new(Arc::new(faults.clone()));
    let file = create(&fs, "a");
    file.write_at(0, b"before").unwrap();
    let (same, root) = (Arc::clone(&file), fs.clone());
    // A sync from beginning to end while a write is under way, and a write and a name while a sync is.
    faults.observe(move |event| match event.operation {
        Operation::Write if root.changes().len() == 3 => same.sync_data().unwrap(),
        Operation::Sync if root.changes().len() == 4 => drop(same.write_at(0, b"during").unwrap()),
        // Names are changed under the lock of the trace: nothing can be asked then.
        Operation::SyncDir => drop(create(&root, "b")),
        _ => {}
    });
    file.write_at(6, b"under way").unwrap();
    assert_eq!(bytes(&fs, "a"), [3]);
    file.sync_data().unwrap();
    assert_eq!(bytes(&fs, "a"), [6], "what was written during the sync");
    sync_root(&fs);
    assert_eq!(names(&fs, ""), [8]);
}

#[test]
fn failed_write_counts_as_made_and_any_other_failed_change_does_not() {
    let memory: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::new(0));
    let faults = FaultFileSystem::new(memory, Arc::new(ManualClock::default()));
    let fs = TraceFileSystem::new(Arc::new(faults.clone()));
    let file = create(&fs, "a");
    faults.add(Rule::new(Fault::Error(EIO)));
    assert!(file.write_at(0, b"perhaps").is_err());
    assert!(file.sync_data().is_err());
    assert!(fs.create(Path::new("b")).is_err());
    assert!(fs.rename(Path::new("a"), Path::new("b")).is_err());
    assert!(fs.link(Path::new("a"), Path::new("b")).is_err());
    assert!(fs.remove(Path::new("a")).is_err());
    assert!(fs.sync_dir(Path::new("")).is_err());
    assert!(fs.create_dir_all(Path::new("d")).is_err());
    assert!(fs.lock(Path::new("LOCK"), LockMode::Shared).is_err());
    assert_eq!((bytes(&fs, "a"), names(&fs, "")), (vec![2], vec![1]));
    let numbers: Vec<u64> = fs.changes().iter().map(|change| change.number).collect();
    assert_eq!(numbers, [1, 2]);
    faults.clear();
    file.sync_data().unwrap();
    assert_eq!(fs.changes().last().map(|change| change.number), Some(11));
}

#[test]
fn panic_below_leaves_the_trace_in_order() {
    let memory: Arc<dyn FileSystem> = Arc::new(MemoryFileSystem::new(0));
    let faults = FaultFileSystem::new(memory, Arc::new(ManualClock::default()));
    let fs = TraceFileSystem::new(Arc::new(faults.clone()));
    faults.add(Rule::new(Fault::Panic).when(When::Nth(1)));
    let panics = std::panic::AssertUnwindSafe(|| fs.create(Path::new("a")));
    assert!(std::panic::catch_unwind(panics).is_err());
    create(&fs, "a");
    assert_eq!(names(&fs, ""), [2]);
}

#[test]
fn nobody_writes_unseen_through_a_window() {
    let dir = TestDir::new("trace-window");
    let fs = TraceFileSystem::new(Arc::new(OsFileSystem));
    let file = fs.create(&dir.path().join("f")).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    assert!(file.window(0, 1 << 16).is_none());
}

#[test]
fn paths_of_a_file_system_with_a_working_directory_are_absolute() {
    let dir = TestDir::new("trace-absolute");
    let fs = TraceFileSystem::new(Arc::new(OsFileSystem));
    fs.create(&dir.path().join("f")).unwrap().write_at(0, b"x").unwrap();
    assert!(!fs.pending().is_durable(&dir.path().join("./f")));
    assert!(fs.exists(Path::new("Cargo.toml")).unwrap(), "tests run in their crate");
    fs.open(Path::new("Cargo.toml")).unwrap();
    let absolute = std::path::absolute("Cargo.toml").unwrap();
    assert_eq!(fs.pending().names_of(&absolute), [absolute.as_path()]);
}

/// What is not pending, no power loss takes; and as many names are pending as the file system below
/// says.
#[test]
fn pending_is_what_a_power_loss_takes() {
    const NAMES: [&str; 5] = ["a", "b", "d/a", "d/b", "d/c"];
    for seed in 0..40 {
        let (memory, fs) = rig();
        fs.create_dir_all(Path::new("d")).unwrap();
        let mut files: Vec<Arc<dyn File>> = Vec::new();
        let mut random = SplitMix(seed);
        let has_bytes = seed % 2 == 0;
        for step in 0..150 {
            let mut pick = || Path::new(NAMES[random.below(NAMES.len() as u64) as usize]);
            let (path, other) = (pick(), pick());
            match random.below(8) {
                0 | 1 => files.extend(fs.create(path)),
                2 => drop(fs.rename(path, other)),
                3 => drop(fs.link(path, other)),
                4 => drop(fs.remove(path)),
                5 => files.extend(fs.open_for_write(path)),
                6 => sync_root(&fs),
                _ => fs.sync_dir(Path::new("d")).unwrap(),
            }
            if has_bytes && !files.is_empty() {
                let file = &files[random.below(files.len() as u64) as usize];
                match random.below(8) {
                    0..3 => drop(file.write_at(random.below(5000), &[step as u8; 700]).unwrap()),
                    3 => file.truncate(random.below(5000)).unwrap(),
                    4 => file.allocate(random.below(5000), 600).unwrap(),
                    _ => file.sync_data().unwrap(),
                }
            }
            let pending = fs.pending();
            let crashed = memory.crash(CrashPolicy::AllLost, 0);
            for path in NAMES.map(Path::new).into_iter().filter(|path| memory.exists(path).unwrap())
            {
                if pending.is_durable(path) {
                    let (left, right) = (contents(&memory, path), contents(&crashed, path));
                    assert!(left == right, "seed {seed} step {step}: {}", path.display());
                }
            }
            // Bytes of files without names are not counted here.
            if !has_bytes {
                assert_eq!(pending.count(), memory.pending_count(), "seed {seed} step {step}");
            }
        }
    }
}

fn contents(fs: &MemoryFileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn rename_of_a_file_that_is_not_whole_is_refused() {
    let (_, fs) = rig();
    fs.require_whole_before_rename("*.tmp");
    for (name, is_right) in [("a", true), ("b", false)] {
        let temporary = format!("{name}.tmp");
        let file = create(&fs, &temporary);
        file.write_at(0, b"hello").unwrap();
        if is_right {
            file.sync_data().unwrap();
        }
        rename(&fs, &temporary, name);
        file.sync_data().unwrap();
        sync_root(&fs);
    }
    // Not of this form.
    create(&fs, "c").truncate(7).unwrap();
    rename(&fs, "c", "d");
    let violations: Vec<String> = fs.violations().iter().map(Violation::to_string).collect();
    let expected = "whole before it is renamed: before change 9, Rename of b.tmp to b: its bytes are \
                    not durable since change 8, Write of b.tmp, bytes 0..5";
    assert_eq!(violations, [expected]);
}

#[test]
fn file_that_refers_to_others_changes_only_once_they_are_durable() {
    let order = Order { first: "*.data", then: "index*" };
    let run = |syncs_bytes: bool, syncs_names: bool| {
        let (_, fs) = rig();
        let index = create(&fs, "index.tmp");
        rename(&fs, "index.tmp", "index");
        fs.require_order(order);
        let data = create(&fs, "1.data");
        data.write_at(0, b"hello").unwrap();
        if syncs_bytes {
            data.sync_data().unwrap();
        }
        if syncs_names {
            sync_root(&fs);
        }
        index.write_at(0, b"1").unwrap();
        index.sync_data().unwrap();
        let violations = fs.violations();
        assert!(violations.iter().all(|one| one.what == "1.data is not durable"));
        violations.into_iter().map(|one| (one.rule, one.change.operation)).collect::<Vec<_>>()
    };
    assert_eq!(run(true, true), []);
    let refused = [("*.data before index*".to_owned(), Operation::Write)];
    assert_eq!(run(false, true), refused);
    assert_eq!(run(true, false), refused);
}

#[test]
fn order_holds_under_every_name_of_a_file_and_for_its_names() {
    let (_, fs) = rig();
    fs.link(Path::new("index"), Path::new("b")).unwrap_err();
    let index = create(&fs, "a");
    fs.link(Path::new("a"), Path::new("index")).unwrap();
    create(&fs, "1.data");
    fs.require_order(Order { first: "*.data", then: "index" });
    index.write_at(0, b"1").unwrap();
    rename(&fs, "a", "b");
    fs.remove(Path::new("index")).unwrap();
    index.write_at(0, b"2").unwrap();
    rename(&fs, "b", "index");
    fs.create_dir_all(Path::new("d/index")).unwrap();
    fs.sync_dir(Path::new("d/index")).unwrap();
    let refused: Vec<Operation> =
        fs.violations().iter().map(|violation| violation.change.operation).collect();
    assert_eq!(refused, [Operation::Write, Operation::Remove, Operation::Rename]);
}

#[test]
fn rule_of_a_users_own_sees_each_change_and_may_keep_a_state() {
    let (memory, fs) = rig();
    let mut creations = 0;
    fs.require("two files", move |change, pending| {
        assert_eq!(pending.count(), memory.pending_count(), "the change has not been made");
        creations += usize::from(change.operation == Operation::Create);
        if creations < 3 { Ok(()) } else { Err(format!("{creations} files")) }
    });
    for name in ["a", "b", "c"] {
        create(&fs, name);
    }
    let [violation] = fs.violations().try_into().unwrap();
    assert_eq!((&*violation.rule, violation.change.number), ("two files", 3));
    assert_eq!(violation.what, "3 files");
    assert!(fs.exists(Path::new("c")).unwrap(), "it was made all the same");
}

//! What each crash policy may leave, and nothing else; copies; space; threads.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::{FileExt, SystemThreads, Threads};

const SEEDS: std::ops::Range<u64> = 0..300;

fn root() -> &'static Path {
    Path::new("")
}

fn contents(fs: &MemoryFileSystem, name: &str) -> Option<Vec<u8>> {
    let file = fs.open(Path::new(name)).ok()?;
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    Some(bytes)
}

/// The names of all files, in order.
fn names(fs: &MemoryFileSystem) -> String {
    let names: BTreeSet<String> =
        fs.list(root()).unwrap().into_iter().map(|entry| entry.name).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

/// A durable file `name` of these bytes, with its name.
fn durable(fs: &MemoryFileSystem, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = fs.create(Path::new(name)).unwrap();
    file.write_all_at(0, bytes).unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(root()).unwrap();
    file
}

/// All that crashes under `policy` leave, as `view` sees it.
fn outcomes<T: Ord>(
    fs: &MemoryFileSystem,
    policy: CrashPolicy,
    view: impl Fn(&MemoryFileSystem) -> T,
) -> BTreeSet<T> {
    SEEDS.map(|seed| view(&fs.crash(policy, seed))).collect()
}

#[test]
fn what_is_synced_survives_every_crash() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", b"synced");
    file.write_all_at(6, b" and not").unwrap();
    file.truncate(10).unwrap();
    for policy in CrashPolicy::ALL {
        for seen in outcomes(&fs, policy, |fs| contents(fs, "f").unwrap()) {
            assert!(seen.starts_with(b"synced"), "{policy:?}: {seen:?}");
        }
    }
}

#[test]
fn all_lost_and_all_kept_are_the_two_ends() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", b"old");
    file.write_all_at(0, b"new!").unwrap();
    fs.create(Path::new("g")).unwrap();
    fs.remove(Path::new("f")).unwrap();
    let lost = fs.crash(CrashPolicy::AllLost, 0);
    assert_eq!((names(&lost), contents(&lost, "f")), ("f".into(), Some(b"old".to_vec())));
    assert_eq!(names(&fs.crash(CrashPolicy::AllKept, 0)), "g");
    let undone = outcomes(&fs, CrashPolicy::Coin, names);
    assert_eq!(undone, ["", "f", "f g", "g"].map(String::from).into());
}

#[test]
fn new_file_needs_a_sync_of_its_directory() {
    let fs = MemoryFileSystem::new(0);
    let file = fs.create(Path::new("f")).unwrap();
    file.write_all_at(0, b"bytes").unwrap();
    file.sync_all().unwrap();
    assert_eq!(contents(&fs.crash(CrashPolicy::AllLost, 0), "f"), None);
    fs.sync_dir(root()).unwrap();
    assert_eq!(contents(&fs.crash(CrashPolicy::AllLost, 0), "f"), Some(b"bytes".to_vec()));
}

#[test]
fn synced_name_does_not_bring_bytes_with_it() {
    let fs = MemoryFileSystem::new(0);
    let file = fs.create(Path::new("f")).unwrap();
    file.write_all_at(0, b"bytes").unwrap();
    fs.sync_dir(root()).unwrap();
    assert_eq!(contents(&fs.crash(CrashPolicy::AllLost, 0), "f"), Some(Vec::new()));
}

#[test]
fn rename_leaves_the_old_name_the_new_one_or_both_but_never_none() {
    let fs = MemoryFileSystem::new(0);
    durable(&fs, "new", b"replaced");
    durable(&fs, "old", b"moved");
    fs.rename(Path::new("old"), Path::new("new")).unwrap();
    let seen = outcomes(&fs, CrashPolicy::Coin, |fs| {
        let text = |name| contents(fs, name).map(|bytes| String::from_utf8(bytes).unwrap());
        (text("old"), text("new"))
    });
    let some = |text: &str| Some(String::from(text));
    let expected =
        [(some("moved"), some("replaced")), (some("moved"), some("moved")), (None, some("moved"))];
    assert_eq!(seen, expected.into());
    fs.sync_dir(root()).unwrap();
    assert_eq!(names(&fs.crash(CrashPolicy::AllLost, 0)), "new");
}

#[test]
fn link_is_lost_or_kept_and_shares_the_bytes() {
    let fs = MemoryFileSystem::new(0);
    durable(&fs, "old", b"bytes");
    fs.link(Path::new("old"), Path::new("new")).unwrap();
    let seen = outcomes(&fs, CrashPolicy::Coin, names);
    assert_eq!(seen, ["old".to_owned(), "new old".to_owned()].into());
    fs.sync_dir(root()).unwrap();
    let file = fs.open_for_write(Path::new("new")).unwrap();
    file.write_all_at(5, b" more").unwrap();
    file.sync_data().unwrap();
    fs.remove(Path::new("old")).unwrap();
    fs.sync_dir(root()).unwrap();
    let after = fs.crash(CrashPolicy::AllLost, 0);
    assert_eq!(names(&after), "new");
    assert_eq!(contents(&after, "new").unwrap(), b"bytes more");
}

#[test]
fn coin_tears_at_sectors_and_only_there() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", &[1; 2048]);
    file.write_all_at(256, &[2; 1024]).unwrap();
    let mut torn = 0;
    for bytes in outcomes(&fs, CrashPolicy::Coin, |fs| contents(fs, "f").unwrap()) {
        assert_eq!(bytes.len(), 2048);
        let changes: Vec<usize> = (1..2048).filter(|at| bytes[at - 1] != bytes[*at]).collect();
        assert!(changes.iter().all(|at| [256, 512, 1024, 1280].contains(at)), "{changes:?}");
        torn += usize::from(!changes.is_empty() && changes != [256, 1280]);
    }
    assert!(torn != 0);
}

#[test]
fn growth_may_come_with_zeros_stale_or_random_bytes() {
    let fs = MemoryFileSystem::new(0);
    durable(&fs, "stale", &[3; 4096]);
    let file = durable(&fs, "f", &[1; 4]);
    file.write_all_at(4, &[2; 100]).unwrap();
    let seen = outcomes(&fs, CrashPolicy::Coin, |fs| contents(fs, "f").unwrap().split_off(4));
    let all_are =
        |byte: u8| move |tail: &&Vec<u8>| tail.len() == 100 && tail.iter().all(|at| *at == byte);
    for byte in [0, 2, 3] {
        assert_eq!(seen.iter().filter(all_are(byte)).count(), 1, "{byte}");
    }
    assert!(seen.contains(&Vec::new()));
    let is_random = |tail: &&Vec<u8>| tail.iter().collect::<BTreeSet<_>>().len() > 20;
    assert!(seen.iter().filter(is_random).count() > 10);
}

/// What was never written has no block, and a hole of a terabyte was as many bytes of memory.
#[test]
fn holes_read_as_zeros_after_every_crash() {
    const FAR: u64 = 1 << 40;
    for seed in 0..50 {
        let fs = MemoryFileSystem::new(0);
        durable(&fs, "stale", &[3; 4096]);
        let file = durable(&fs, "f", &[1; 4]);
        file.write_all_at(8, &[2; 4]).unwrap();
        file.write_all_at(FAR, &[2; 4]).unwrap();
        let crashed = fs.crash(CrashPolicy::Coin, seed);
        let file = crashed.open(Path::new("f")).unwrap();
        for (offset, len) in [(4, 4), (12, 100), (FAR - 100, 100)] {
            let mut bytes = vec![0; len];
            let count = file.read_at(offset, &mut bytes).unwrap();
            assert!(bytes[..count].iter().all(|byte| *byte == 0), "{seed}, {offset}");
        }
    }
}

#[test]
fn one_kept_and_one_lost_reach_every_change() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", b"....");
    for at in 0..4 {
        file.write_all_at(at, b"X").unwrap();
    }
    let view = |fs: &MemoryFileSystem| String::from_utf8(contents(fs, "f").unwrap()).unwrap();
    let seeds = 0..fs.pending_count() as u64;
    let kept: Vec<_> =
        seeds.clone().map(|seed| view(&fs.crash(CrashPolicy::OneKept, seed))).collect();
    assert_eq!(kept, ["X...", ".X..", "..X.", "...X"]);
    let lost: Vec<_> = seeds.map(|seed| view(&fs.crash(CrashPolicy::OneLost, seed))).collect();
    assert_eq!(lost, [".XXX", "X.XX", "XX.X", "XXX."]);
}

#[test]
fn prefix_keeps_the_order_of_names_and_bytes() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", b"...");
    file.write_all_at(0, b"X").unwrap();
    fs.create(Path::new("g")).unwrap();
    file.write_all_at(1, b"X").unwrap();
    fs.remove(Path::new("g")).unwrap();
    file.write_all_at(2, b"X").unwrap();
    let seen = outcomes(&fs, CrashPolicy::Prefix, |fs| {
        (String::from_utf8(contents(fs, "f").unwrap()).unwrap(), names(fs))
    });
    let legal = [("...", "f"), ("X..", "f"), ("X..", "f g"), ("XX.", "f g"), ("XX.", "f")];
    let legal = legal.into_iter().chain([("XXX", "f")]);
    assert_eq!(seen, legal.map(|(bytes, names)| (bytes.into(), names.into())).collect());
}

#[test]
fn same_seed_gives_the_same_crash() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", &[1; 3000]);
    file.write_all_at(100, &[2; 5000]).unwrap();
    fs.rename(Path::new("f"), Path::new("g")).unwrap();
    let view = |fs: &MemoryFileSystem| (contents(fs, "f"), contents(fs, "g"));
    for seed in SEEDS {
        let crash = || view(&fs.crash(CrashPolicy::Coin, seed));
        assert_eq!(crash(), crash());
    }
    assert!(outcomes(&fs, CrashPolicy::Coin, view).len() > 20);
}

#[test]
fn crash_leaves_the_original_and_its_handles_alone_and_gives_locks_back() {
    let fs = MemoryFileSystem::new(0);
    let lock = fs.lock(Path::new("LOCK"), LockMode::Exclusive).unwrap();
    let file = durable(&fs, "f", b"one");
    let crashed = fs.crash(CrashPolicy::AllLost, 0);
    file.write_all_at(3, b" two").unwrap();
    assert_eq!(contents(&fs, "f"), Some(b"one two".to_vec()));
    assert_eq!(contents(&crashed, "f"), Some(b"one".to_vec()));
    assert!(matches!(
        fs.lock(Path::new("./LOCK"), LockMode::Exclusive),
        Err(LockError::Held(Some(_)))
    ));
    assert!(crashed.lock(Path::new("LOCK"), LockMode::Exclusive).is_ok());
    drop(lock);
    assert!(fs.lock(Path::new("LOCK"), LockMode::Exclusive).is_ok());
}

#[test]
fn snapshot_keeps_what_is_pending_and_goes_its_own_way() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", b"durable");
    file.write_all_at(0, b"pending").unwrap();
    fs.rename(Path::new("f"), Path::new("g")).unwrap();
    let copy = fs.snapshot();
    assert_eq!(copy.pending_count(), 2);
    file.write_all_at(0, b"later..").unwrap();
    file.sync_data().unwrap();
    fs.sync_dir(root()).unwrap();
    assert_eq!(contents(&copy, "g"), Some(b"pending".to_vec()));
    let crashed = copy.crash(CrashPolicy::AllLost, 0);
    assert_eq!(contents(&crashed, "f"), Some(b"durable".to_vec()));
    copy.open_for_write(Path::new("g")).unwrap().sync_all().unwrap();
    copy.sync_dir(root()).unwrap();
    let crashed = copy.crash(CrashPolicy::AllLost, 0);
    assert_eq!((names(&crashed), contents(&crashed, "g")), ("g".into(), Some(b"pending".to_vec())));
}

#[test]
fn capacity_limits_growth_and_space_says_so() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", &[0; 60]);
    fs.set_capacity(Some(100));
    assert_eq!(fs.space(root()).unwrap(), Space { available: 40, total: 100 });
    assert!(file.write_at(60, &[1; 41]).unwrap_err().is_no_space());
    assert!(file.allocate(0, 101).unwrap_err().is_no_space());
    file.write_all_at(0, &[1; 100]).unwrap();
    fs.link(Path::new("f"), Path::new("g")).unwrap();
    assert_eq!(fs.space(root()).unwrap(), Space { available: 0, total: 100 });
    file.truncate(10).unwrap();
    for fs in [fs.snapshot(), fs.crash(CrashPolicy::AllKept, 0), fs] {
        assert_eq!(fs.space(root()).unwrap(), Space { available: 90, total: 100 });
    }
}

#[test]
fn removed_file_lives_on_in_its_handles() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", b"bytes");
    fs.remove(Path::new("f")).unwrap();
    fs.create(Path::new("f")).unwrap();
    let mut bytes = [0; 5];
    file.read_exact_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"bytes");
}

#[test]
fn copies_beside_running_threads_never_see_a_later_change_without_an_earlier_one() {
    let fs = MemoryFileSystem::new(0);
    let (first, second) = (durable(&fs, "first", &[0; 8]), durable(&fs, "second", &[0; 8]));
    let is_done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_done);
    let write = move || {
        for count in 1..=3_000_u64 {
            for file in [&first, &second] {
                file.write_all_at(0, &count.to_le_bytes()).expect("memory does not fail");
            }
            for file in [&first, &second] {
                file.sync_data().expect("memory does not fail");
            }
        }
        flag.store(true, Ordering::Release);
    };
    let thread = SystemThreads.spawn("writer", Box::new(write)).unwrap();
    let count = |fs: &MemoryFileSystem, name| {
        u64::from_le_bytes(contents(fs, name).unwrap().try_into().unwrap())
    };
    while !is_done.load(Ordering::Acquire) {
        for crashed in [fs.crash(CrashPolicy::AllLost, 0), fs.snapshot()] {
            let (first, second) = (count(&crashed, "first"), count(&crashed, "second"));
            assert!(second <= first && first <= second + 1, "{first} {second}");
        }
    }
    thread.join();
}

#[test]
fn digests_are_those_of_what_reads_see() {
    let fs = MemoryFileSystem::new(0);
    let file = durable(&fs, "f", b"bytes");
    fs.create_dir_all(Path::new("dir")).unwrap();
    let first = fs.digest();
    assert_eq!(fs.crash(CrashPolicy::AllLost, 3).digest(), first);
    assert_eq!(fs.snapshot().digest(), first);

    let mut seen = vec![first];
    let mut differs = |what: &str| {
        let digest = fs.digest();
        assert!(!seen.contains(&digest), "{what}");
        seen.push(digest);
        digest
    };
    file.write_all_at(4, b"S").unwrap();
    differs("one byte");
    file.write_all_at(4, b"s").unwrap();
    assert_eq!(fs.digest(), first, "what is pending does not count");
    file.allocate(0, 9000).unwrap();
    let with_room = differs("room");
    file.write_all_at(5, &[0; 8000]).unwrap();
    assert_eq!(fs.digest(), with_room, "zeros that were written are zeros that were not");
    fs.rename(Path::new("f"), Path::new("g")).unwrap();
    differs("a name");
    fs.rename(Path::new("g"), Path::new("dir/g")).unwrap();
    differs("a directory");
    fs.create(Path::new("empty")).unwrap();
    differs("an empty file");
}

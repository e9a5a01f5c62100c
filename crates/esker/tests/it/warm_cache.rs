//! The cache across close and open: its contents are loaded again, and nothing else changes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use esker::doctor::{Doctor, RepairOptions, VerifyReport};
use esker::env::{Env, Fault, FaultFileSystem, FileSystem as _, MemoryFileSystem, Operation, Rule};
use esker::{
    CompactionPolicy, Compression, Db, Durability, ErrorKind, Event, EventListener,
    KeyspaceOptions, Options,
};
use esker_base::{FileHeader, FileId, FileKind, TableId};
use esker_tree::WarmList;

use crate::files;
use crate::recovered::{DIR, env_of, env_over, options};

const KEYS: u32 = 2_000;

fn warm() -> Options {
    Options { warm_cache: true, ..options() }
}

fn keyspace_options() -> KeyspaceOptions {
    KeyspaceOptions { compaction: CompactionPolicy::None, ..KeyspaceOptions::default() }
}

fn open(env: &Env, options: &Options) -> Db {
    let builder = Db::builder(DIR).env(env.clone()).options(options.clone());
    builder.default_keyspace(keyspace_options()).open().unwrap()
}

fn key(number: u32) -> String {
    format!("key {number:06}")
}

fn value(number: u32) -> String {
    format!("{number} {}", "v".repeat(150))
}

/// Reads the keys in the first half, which must be there.
fn read_half(db: &Db) {
    for number in 0..KEYS / 2 {
        let found = db.get(key(number)).unwrap();
        assert_eq!(found.as_deref(), Some(value(number).as_bytes()), "{number}");
    }
}

fn settle(db: &Db) {
    while db.run_background_job() {}
}

/// The list of a closed database.
fn list_file(fs: &MemoryFileSystem) -> Option<(String, Vec<u8>)> {
    let mut all = files::read_all(fs, Path::new(DIR)).into_iter();
    all.find(|(name, _)| name.contains(".warm"))
}

fn list(fs: &MemoryFileSystem) -> WarmList {
    let (name, bytes) = list_file(fs).unwrap();
    let header = FileHeader::decode(&bytes).unwrap();
    let file = fs.open(&Path::new(DIR).join(name)).unwrap();
    WarmList::read(&*file, header.id, header.database).unwrap()
}

/// A database of two tables whose first half was read, closed under `options`.
fn closed(options: &Options) -> MemoryFileSystem {
    let fs = MemoryFileSystem::new(1);
    let db = open(&env_of(&fs), options);
    for from in [0, 1] {
        for number in (from..KEYS).step_by(2) {
            db.put(key(number), value(number)).unwrap();
        }
        db.flush().unwrap();
    }
    read_half(&db);
    db.close().unwrap();
    fs
}

/// An environment over `fs`, and how many reads of tables it has seen.
fn counting(fs: &MemoryFileSystem) -> (Env, Arc<AtomicU64>) {
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let reads = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&reads);
    faults.observe(move |event| {
        let is_table = event.path.extension().is_some_and(|it| it == "table");
        if event.operation == Operation::Read && is_table {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    (env_over(Arc::new(faults)), reads)
}

/// What the database in `fs` says happened while it was opened with the option, and settled.
fn events_of(fs: &MemoryFileSystem) -> Vec<String> {
    let db = open(&env_of(fs), &warm());
    settle(&db);
    read_half(&db);
    let told = |event: &Event| match event {
        Event::Warmed { blocks, .. } => Some(format!("warmed {}", 0 < *blocks)),
        Event::WarmListIgnored { .. } | Event::WarmBlocksLeftOut { .. } => Some(event.to_string()),
        _ => None,
    };
    db.events().iter().filter_map(|(_, event)| told(event)).collect()
}

fn verified(fs: &MemoryFileSystem) -> VerifyReport {
    Doctor::new(DIR).env(env_of(fs)).verify(&mut |_| {}).unwrap()
}

#[test]
fn what_was_in_the_cache_is_read_from_memory_after_the_next_open() {
    for is_warm in [false, true] {
        let options = if is_warm { warm() } else { options() };
        let fs = closed(&options);
        assert_eq!(list_file(&fs).is_some(), is_warm);
        assert!(verified(&fs).is_sound());
        let (env, reads) = counting(&fs);
        let db = open(&env, &options);
        let headers = reads.swap(0, Ordering::Relaxed);
        let tables = db.levels().table_count() as u64;
        assert_eq!(headers, tables, "an open reads no more of a table than its header");
        assert!(list_file(&fs).is_none(), "the list is true no more");
        settle(&db);
        let loading = reads.swap(0, Ordering::Relaxed);
        read_half(&db);
        let after = reads.load(Ordering::Relaxed);
        let stats = db.stats();
        let loads = stats.cache.loads;
        let warmed = stats.counters.warmed_blocks;
        if is_warm {
            assert_eq!((after, loads), (0, 0), "{warmed} blocks were loaded");
            assert!(30 < warmed && loading < warmed / 3, "{loading} reads for {warmed} blocks");
            let resident = stats.cache.resident_count;
            assert_eq!(resident, warmed, "nothing that nobody had read");
        } else {
            assert_eq!((loading, warmed), (0, 0));
            assert!(30 < after, "{after}");
        }
        assert!(db.get(key(KEYS - 1)).unwrap().is_some());
        assert!(reads.load(Ordering::Relaxed) > after, "what was not in the cache");
    }
}

#[test]
fn threads_warm_the_cache_and_a_database_that_is_only_read_leaves_the_list() {
    for is_read_only in [true, false] {
        for background_threads in [1, 2] {
            let fs = closed(&warm());
            let before = list_file(&fs);
            let (sender, receiver) = mpsc::channel();
            let sender = Mutex::new(sender);
            let listener = move |event: &Event| {
                if matches!(event, Event::Warmed { .. }) {
                    sender.lock().unwrap().send(()).unwrap();
                }
            };
            let env = Env { clock: Env::os().clock, ..env_of(&fs) };
            let options = Options { background_threads, ..warm() };
            let builder = Db::builder(DIR).env(env).options(options).read_only(is_read_only);
            let db = builder.on_event(Arc::new(listener)).open().unwrap();
            receiver.recv().unwrap();
            read_half(&db);
            assert_eq!(db.stats().cache.loads, 0);
            assert_eq!(list_file(&fs).is_some(), is_read_only);
            db.close().unwrap();
            assert!(list_file(&fs).is_some());
            if is_read_only {
                assert_eq!(list_file(&fs), before);
            }
        }
    }
}

/// It was refused, as a write is, and nothing else tells when the cache is warm.
#[test]
fn a_database_that_is_only_read_settles_once_its_cache_is_warm() {
    for background_threads in [0, 1, 2] {
        let fs = closed(&warm());
        let env = Env { clock: Env::os().clock, ..env_of(&fs) };
        let options = Options { background_threads, ..warm() };
        let db = Db::builder(DIR).env(env).options(options).read_only(true).open().unwrap();
        db.wait_until_settled().unwrap();
        let loads = db.stats().cache.loads;
        read_half(&db);
        assert_eq!((db.stats().cache.loads, loads), (0, 0), "{background_threads} threads");
        db.wait_until_settled().unwrap();
        db.clone().close().unwrap();
        assert_eq!(db.wait_until_settled().unwrap_err().kind(), ErrorKind::Closed);
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_the_list_is_noticed_and_stops_nothing() {
    let fs = closed(&warm());
    let (name, bytes) = list_file(&fs).unwrap();
    let dir = Path::new(DIR);
    let check = |damaged: &[u8], what: &str| {
        let fs = files::with(&fs, dir, &name, damaged);
        let report = verified(&fs);
        let found: Vec<&str> = report.findings.iter().map(|f| f.file.as_str()).collect();
        assert_eq!(found, [&name], "{what}: {report}");
        let events = events_of(&fs);
        let expected = format!("did not warm the cache by {name}: ");
        assert!(events.len() == 1 && events[0].starts_with(&expected), "{what}: {events:?}");
    };
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        check(&damaged, &format!("a bit of byte {at}"));
        check(&bytes[..at], &format!("cut to {at} bytes"));
    }
}

#[test]
fn list_that_is_not_of_this_name_and_database_is_named() {
    let fs = closed(&warm());
    let (name, bytes) = list_file(&fs).unwrap();
    let header = FileHeader::decode(&bytes).unwrap();
    let dir = Path::new(DIR);
    let other = Env { fs: Arc::new(MemoryFileSystem::new(2)), ..Env::memory(2) };
    let db = open(&other, &warm());
    db.put("k", "v").unwrap();
    db.flush().unwrap();
    db.get("k").unwrap();
    db.close().unwrap();
    let theirs = files::read_all(&*other.fs, dir);
    let (_, foreign) = theirs.iter().find(|(name, _)| name.ends_with(".warm")).unwrap();
    let renamed = WarmList::default().encode(FileId { counter: 3, ..header.id }, header.database);
    let newer = FileHeader { format: 2, ..header }.encode();
    let manifest = files::read_all(&fs, dir)[&header.id.file_name(FileKind::Manifest)].clone();
    for (contents, what, is_damage) in [
        (foreign.clone(), "file belongs to database", true),
        (renamed, "file was created as 1-00000003.warm", true),
        (manifest, "file is a manifest and not a list of warm blocks", true),
        ([&newer[..], &bytes[FileHeader::LEN..]].concat(), "format version 2", false),
    ] {
        let fs = files::with(&fs, dir, &name, &contents);
        if is_damage {
            let report = verified(&fs);
            assert!(report.findings[0].to_string().contains(what), "{report}");
        } else {
            assert!(verified(&fs).is_sound(), "nothing is missing without it");
        }
        let events = events_of(&fs);
        assert!(events.len() == 1 && events[0].contains(what), "{events:?}");
        assert!(list_file(&fs).is_none());
    }
}

/// The list that a close wrote names tables of that close; one of an earlier close was true once.
#[test]
fn list_that_names_what_its_manifest_does_not_is_damaged() {
    let fs = closed(&warm());
    let (name, bytes) = list_file(&fs).unwrap();
    let header = FileHeader::decode(&bytes).unwrap();
    let mut forged = list(&fs);
    forged.tables[0] = TableId(FileId { counter: 1, ..header.id });
    let forged_at = |id: FileId| (id.file_name(FileKind::Warm), forged.encode(id, header.database));
    let (_, bytes) = forged_at(header.id);
    let report = verified(&files::with(&fs, Path::new(DIR), &name, &bytes));
    let what = format!(
        "{name} at 0: names {}, a table that the manifest of its id does not name",
        forged.tables[0]
    );
    let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(found, [what]);
    let (earlier, bytes) = forged_at(FileId { counter: header.id.counter - 1, ..header.id });
    let report = verified(&files::with(&fs, Path::new(DIR), &earlier, &bytes));
    assert!(report.is_sound(), "{report}");
    let unreferenced: Vec<_> = report.unreferenced.iter().map(|it| &it.file).collect();
    assert_eq!(unreferenced, [&earlier]);
}

#[test]
fn repair_takes_a_damaged_list_away_and_touches_nothing_else() {
    let fs = closed(&warm());
    let (name, mut bytes) = list_file(&fs).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    let fs = files::with(&fs, Path::new(DIR), &name, &bytes);
    let tables = |fs: &MemoryFileSystem| -> BTreeMap<String, Vec<u8>> {
        let all = files::read_all(fs, Path::new(DIR)).into_iter();
        all.filter(|(name, _)| files::kind(name) == Some(FileKind::Table)).collect()
    };
    let before = tables(&fs);
    let doctor = Doctor::new(DIR).env(env_of(&fs));
    let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(report.set_aside, [name]);
    assert_eq!(tables(&fs), before);
    assert!(verified(&fs).is_sound());
    assert_eq!(events_of(&fs), [""; 0]);
}

#[test]
fn list_of_an_earlier_close_is_not_taken_for_the_last_one() {
    let fs = closed(&warm());
    let (name, bytes) = list_file(&fs).unwrap();
    let db = open(&env_of(&fs), &options());
    assert!(list_file(&fs).is_none(), "whatever the option says");
    db.put("one", "more").unwrap();
    db.close().unwrap();
    assert!(list_file(&fs).is_none());
    // As after a loss of power, by which the removal was undone.
    let fs = files::with(&fs, Path::new(DIR), &name, &bytes);
    let report = verified(&fs);
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.unreferenced.iter().map(|it| &it.file).collect::<Vec<_>>(), [&name]);
    assert_eq!(events_of(&fs), [""; 0]);
    assert!(list_file(&fs).is_none());
}

#[test]
fn what_was_not_loaded_yet_is_on_the_next_list() {
    let fs = closed(&warm());
    let set = |list: WarmList| {
        let blocks = list.blocks.iter();
        let mut all: Vec<_> =
            blocks.map(|block| (list.tables[block.table as usize], block.slot)).collect();
        all.sort_unstable();
        all
    };
    let before = set(list(&fs));
    open(&env_of(&fs), &warm()).close().unwrap();
    assert_eq!(set(list(&fs)), before, "nothing was loaded");
    let db = open(&env_of(&fs), &warm());
    while db.stats().counters.warmed_blocks == 0 {
        assert!(db.run_background_job(), "the blocks of one of the tables");
    }
    db.close().unwrap();
    assert_eq!(set(list(&fs)), before, "half of it was loaded");
}

/// A step of the loading is many reads, and frames in memory waited for all of them.
#[test]
fn buffered_writes_are_handed_over_in_the_middle_of_the_loading() {
    let fs = closed(&warm());
    let clock = env_of(&fs).clock;
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Arc::clone(&clock));
    let db = open(&Env { fs: Arc::new(faults.clone()), clock, ..Env::memory(1) }, &warm());
    let slow = Rule::new(Fault::Delay(2 * Options::BUFFERED_INTERVAL));
    faults.add(slow.on(&[Operation::Read]).path("*.table"));
    let counters = || db.stats().counters;
    let mut was_handed_over = false;
    while counters().warmed_blocks == 0 {
        db.put_with("key", "value", Durability::Buffered).unwrap();
        let before = counters().log_bytes;
        assert!(db.run_background_job());
        was_handed_over = before < counters().log_bytes;
    }
    assert!(was_handed_over);
}

/// With one thread, a flush waited for a whole step of the loading.
#[test]
fn a_flush_does_not_wait_for_the_loading() {
    let fs = MemoryFileSystem::new(1);
    let open = |env: Env, background_threads, memtable_bytes, listener: EventListener| {
        let compression = Compression::None;
        let keyspace = KeyspaceOptions { memtable_bytes, compression, ..keyspace_options() };
        let builder = Db::builder(DIR).env(env).default_keyspace(keyspace);
        let builder = builder.options(Options { background_threads, ..warm() });
        builder.on_event(listener).open().unwrap()
    };
    let db = open(env_of(&fs), 0, 1 << 20, Arc::new(|_: &Event| ()));
    for number in 0..KEYS {
        db.put(key(number), value(number)).unwrap();
    }
    db.flush().unwrap();
    // Far enough apart that each is a read of its own.
    for number in (0..KEYS).step_by(200) {
        assert!(db.get(key(number)).unwrap().is_some());
    }
    db.close().unwrap();

    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let ((begun, has_begun), (asked, is_asked)) = (mpsc::channel(), mpsc::channel::<()>());
    let (is_asked, operations) = (Mutex::new(is_asked), Arc::clone(&seen));
    faults.observe(move |event| {
        let is_table = event.path.extension().is_some_and(|it| it == "table");
        if is_table && [Operation::Read, Operation::Create].contains(&event.operation) {
            // The first read goes on once a flush is asked for; whoever asked is gone after that.
            let _gone = begun.send(());
            let _gone = is_asked.lock().unwrap().recv_timeout(Duration::from_secs(20));
            operations.lock().unwrap().push(event.operation);
        }
    });
    let (told, is_told) = mpsc::channel();
    let told = Mutex::new(told);
    let listener = move |event: &Event| {
        if matches!(event, Event::Warmed { .. } | Event::Flushed { .. }) {
            told.lock().unwrap().send(()).unwrap();
        }
    };
    let db = open(env_over(Arc::new(faults)), 1, 64 << 10, Arc::new(listener));
    has_begun.recv_timeout(Duration::from_secs(20)).unwrap();
    while db.levels().memtables.len() == 1 {
        db.put("key", [b'v'; 1000]).unwrap();
    }
    drop(asked);
    for _ in 0..2 {
        is_told.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    assert!(seen.contains(&Operation::Create) && seen.ends_with(&[Operation::Read]), "{seen:?}");
}

#[test]
fn only_free_room_is_taken() {
    let fs = closed(&warm());
    let options = Options { cache_bytes: Some(60_000), ..warm() };
    let db = open(&env_of(&fs), &options);
    for number in KEYS - 100..KEYS {
        db.get(key(number)).unwrap();
    }
    let loads = db.stats().cache.loads;
    settle(&db);
    let stats = db.stats().cache;
    assert_eq!((stats.evictions, stats.loads), (0, loads), "{stats:?}");
    assert!(stats.resident_bytes <= stats.capacity_bytes, "{stats:?}");
    assert!(loads < stats.resident_count, "there was some room: {stats:?}");
    for number in KEYS - 100..KEYS {
        db.get(key(number)).unwrap();
    }
    assert_eq!(db.stats().cache.loads, loads, "what was read is still there");
}

#[test]
fn damaged_block_is_left_out_and_who_reads_it_is_told() {
    let fs = closed(&warm());
    let all = files::read_all(&fs, Path::new(DIR));
    let (name, bytes) = all.iter().find(|(name, _)| name.ends_with(".table")).unwrap();
    let mut bytes = bytes.clone();
    bytes[100] ^= 1;
    let fs = files::with(&fs, Path::new(DIR), name, &bytes);
    let db = open(&env_of(&fs), &warm());
    settle(&db);
    let told = db.events().iter().map(|(_, event)| event.to_string()).collect::<Vec<_>>();
    let expected = format!("did not warm the cache with blocks of {name}: {name} is damaged at");
    assert_eq!(told.iter().filter(|event| event.starts_with(&expected)).count(), 1, "{told:?}");
    assert!(0 < db.stats().counters.warmed_blocks, "those of the other table");
    assert!((0..KEYS / 2).any(|number| db.get(key(number)).is_err()));
}

#[test]
fn close_succeeds_where_the_list_cannot_be_written() {
    for operation in [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename] {
        let fs = closed(&warm());
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
        let env = env_over(Arc::new(faults.clone()));
        let told = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::clone(&told);
        let listener = move |event: &Event| events.lock().unwrap().push(event.to_string());
        let builder = Db::builder(DIR).env(env).options(warm()).on_event(Arc::new(listener));
        let db = builder.open().unwrap();
        db.put("one", "more").unwrap();
        faults.add(Rule::new(Fault::Error(28)).on(&[operation]).path("*.warm*"));
        db.close().unwrap();
        let told = told.lock().unwrap().clone();
        let what = "could not write down what the cache holds: ";
        assert!(told.last().unwrap().starts_with(what), "{operation:?}: {told:?}");
        assert_eq!(list_file(&fs), None, "{operation:?}");
        assert!(verified(&fs).is_sound());
        let db = open(&env_of(&fs), &warm());
        assert_eq!(db.get("one").unwrap().as_deref(), Some(&b"more"[..]));
    }
}

/// What an attempt to write the list left that a crash ended is removed.
#[test]
fn unfinished_list_is_removed() {
    let fs = closed(&warm());
    let (name, bytes) = list_file(&fs).unwrap();
    fs.remove(&Path::new(DIR).join(&name)).unwrap();
    let unfinished = format!("{name}.tmp");
    let fs = files::with(&fs, Path::new(DIR), &unfinished, &bytes[..60]);
    assert!(verified(&fs).is_sound());
    assert_eq!(events_of(&fs), [""; 0]);
    assert_eq!(list_file(&fs), None);
}

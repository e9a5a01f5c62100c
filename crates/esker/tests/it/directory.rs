//! Which files may be in a database directory: those that something refers to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use esker::env::{
    DirEntry, Env, Fault, FaultFileSystem, FileExt as _, FileSystem, MemoryFileSystem, Operation,
    Rule, When,
};
use esker::{Db, Durability, ErrorKind, KeyspaceOptions, Options, Order, RecoveryMode};
use esker_base::{DatabaseId, FileHeader, FileId, FileKind, LogId};
use esker_tree::Manifest;

use crate::files;
use crate::recovered::{self, DIR, env_of, env_over, open};
use crate::temp_dir::TempDir;

#[test]
fn a_log_directory_belongs_to_one_database_and_keeps_what_is_not_of_the_log() {
    let env = Env::memory(1);
    let open = |dir: &str, log_dir: Option<&str>| {
        let options = Options { log_dir: log_dir.map(Into::into), ..recovered::options() };
        Db::builder(dir).env(env.clone()).options(options).open()
    };
    let names = |dir: &str| -> Vec<String> {
        env.fs.list(dir.as_ref()).unwrap().into_iter().map(|entry| entry.name).collect()
    };
    let first = open("first", None).unwrap();
    first.put("k", "of the first").unwrap();
    first.flush().unwrap();
    first.put("k2", "in its log").unwrap();
    drop(first);
    let before = names("first");
    assert!(before.iter().any(|name| name.ends_with(".table")));

    let error = open("second", Some("first")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let what = ".log is a log of another database: a log directory belongs to one";
    assert!(error.to_string().ends_with(what), "{error}");
    // Nor does it leave a database that would be found the next time.
    assert_eq!(names("second"), ["LOCK"]);
    assert_eq!(names("first"), before);

    // Without logs that would say so, tables still are not its own.
    let third = open("third", Some("tables")).unwrap();
    third.put("k", "of the third").unwrap();
    drop(third);
    for name in before.iter().filter(|name| name.ends_with(".table")) {
        let copy = Path::new("tables").join(name);
        env.fs.rename(&Path::new("first").join(name), &copy).unwrap();
    }
    // What an open that was cut short leaves: nothing yet, or nothing but zeros.
    for (name, len) in [("1-00000900.log", 0), ("1-00000901.log", 100)] {
        let file = env.fs.create(&Path::new("tables").join(name)).unwrap();
        file.write_all_at(0, &vec![0; len]).unwrap();
    }
    let third = open("third", Some("tables")).unwrap();
    assert_eq!(third.get("k").unwrap().unwrap(), "of the third");
    let after = names("tables");
    assert!(after.iter().any(|name| name.ends_with(".table")), "{after:?}");
    assert!(!after.iter().any(|name| name.starts_with("1-000009")), "{after:?}");
}

/// After a close that leaves no segment an open that forgets the log directory begins a log beside the
/// tables: whoever remembers it is told, loses nothing, and may move the file or go back.
#[test]
fn a_log_that_was_begun_beside_the_tables_is_told_and_not_dropped() {
    for moves in [false, true] {
        let env = Env::memory(1);
        let open = |log_dir: Option<&str>, recovery: RecoveryMode| {
            let options = Options { log_dir: log_dir.map(Into::into), ..recovered::options() };
            Db::builder("db").env(env.clone()).options(options).recovery(recovery).open()
        };
        let first = open(Some("log"), RecoveryMode::default()).unwrap();
        first.put("k", "apart").unwrap();
        first.flush().unwrap();
        first.close().unwrap();
        let segments = env.fs.list("log".as_ref()).unwrap();
        for entry in segments.iter().filter(|entry| entry.name.ends_with(".log")) {
            env.fs
                .rename(&Path::new("log").join(&entry.name), &Path::new("db").join(&entry.name))
                .unwrap();
        }
        let forgets = open(None, RecoveryMode::default()).unwrap();
        forgets.put("k2", "beside").unwrap();
        forgets.close().unwrap();
        for mode in [RecoveryMode::TornTail, RecoveryMode::Strict, RecoveryMode::PointInTime] {
            let error = open(Some("log"), mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{mode:?}: {error}");
            let what = ".log is in db and not in log, as the database was opened without log_dir \
                        (--log-dir): open it so again, or move that file to log";
            assert!(error.to_string().ends_with(what), "{error}");
        }
        let beside = env.fs.list("db".as_ref()).unwrap();
        let beside = beside.iter().filter(|entry| moves && entry.name.ends_with(".log"));
        beside.for_each(|entry| {
            env.fs
                .rename(&Path::new("db").join(&entry.name), &Path::new("log").join(&entry.name))
                .unwrap();
        });
        let last = open(moves.then_some("log"), RecoveryMode::Strict).unwrap();
        assert_eq!(last.get("k").unwrap().unwrap(), "apart");
        assert_eq!(last.get("k2").unwrap().unwrap(), "beside");
    }
}

/// What a file system of its own has in its root is no other database.
#[test]
fn the_root_of_a_file_system_may_be_the_directory() {
    let env = Env::memory(1);
    env.fs.create_dir_all(Path::new("root/lost+found")).unwrap();
    let open = || Db::builder("root").env(env.clone()).options(recovered::options()).open();
    open().unwrap().put("k", "v").unwrap();
    assert_eq!(open().unwrap().get("k").unwrap().unwrap(), "v");
}

/// A file of which the device does not even give the length is no reason not to list the others: what the
/// manifest does not name is passed over, and what it names is told by its name.
#[test]
fn an_open_names_the_file_that_has_no_length() {
    let env = Env::memory(1);
    let faults = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
    let env = Env { fs: Arc::new(faults.clone()), ..env };
    let open = || Db::builder("db").env(env.clone()).options(recovered::options()).open();
    let db = open().unwrap();
    db.put("k", "v").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    env.fs.create(Path::new("db/foreign")).unwrap();
    let without_length = |name: &str| {
        faults.clear();
        faults.add(Rule::new(Fault::Error(5)).on(&[Operation::Stat]).path(name));
        open().and_then(|db| Ok(db.get("k")?.expect("the value")))
    };
    assert_eq!(without_length("foreign").unwrap(), "v");
    let error = without_length("*.table").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let (message, name) = (error.to_string(), "cannot look at db/1-");
    assert!(
        message.starts_with(name) && message.contains(".table: Input/output error"),
        "{message}"
    );
}

/// Directories and files, where the log goes, and what stands in the way.
type Strange =
    (&'static [&'static str], &'static [&'static str], &'static str, Option<&'static str>);

/// A directory in which nothing shows that it is that of a database is left as it is, without a lock file.
#[test]
fn a_directory_that_holds_something_else_is_refused_and_left_as_it_is() {
    let cases: [Strange; 11] = [
        (&[], &[], "log", None),
        (&[], &["LOCK", "1-00000001.manifest.tmp"], "log", None),
        (&["lost+found"], &[], "log", None),
        (&["log"], &[], "root/log", None),
        (&["log/inner"], &[], "root/log/inner", None),
        (&["logs"], &[], "root/log/inner", Some("logs")),
        (&["photos"], &[], "log", Some("photos")),
        (&["log"], &[], "log", Some("log")),
        (&["log", "photos"], &[], "root/log", Some("photos")),
        (&[], &["lost+found"], "log", Some("lost+found")),
        (&[], &["LOCK", "notes.txt"], "log", Some("notes.txt")),
    ];
    for (dirs, files, log_dir, told) in cases {
        let env = Env::memory(1);
        let root = Path::new("root");
        env.fs.create_dir_all(root).unwrap();
        dirs.iter().for_each(|name| env.fs.create_dir_all(&root.join(name)).unwrap());
        files.iter().for_each(|name| drop(env.fs.create(&root.join(name)).unwrap()));
        let names = || -> BTreeSet<String> {
            env.fs.list(root).unwrap().into_iter().map(|entry| entry.name).collect()
        };
        let before = names();
        let options = Options { log_dir: Some(log_dir.into()), ..recovered::options() };
        let opened = Db::builder(root).env(env.clone()).options(options).open();
        let Some(told) = told else {
            opened.unwrap().put("k", "v").unwrap();
            continue;
        };
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        let what = format!("root is not a database: it holds {told} and no manifest");
        assert!(error.to_string().ends_with(&what), "{error}");
        assert_eq!(names(), before, "{told}");
        assert!(!env.fs.exists(Path::new("log")).unwrap());
    }
}

/// The names of a directory were read while another process replaced its manifest, and none of them was one:
/// "repair can rebuild it", said the open of a database that was sound and in use.
#[test]
fn a_database_that_replaces_its_manifest_just_now_is_locked_and_not_damaged() {
    for is_in_use in [true, false] {
        let memory = MemoryFileSystem::new(1);
        let db = open(&env_of(&memory), &recovered::options()).unwrap();
        db.put("k", "v").unwrap();
        db.flush().unwrap();
        if !is_in_use {
            db.close().unwrap();
        }
        let names = || memory.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name);
        let manifests: Vec<String> = names().filter(|name| name.contains(".manifest")).collect();
        assert!(!manifests.is_empty());
        let turn = {
            let memory = memory.clone();
            move |from: &str, to: &str| {
                for name in &manifests {
                    let path = |suffix: &str| Path::new(DIR).join(format!("{name}{suffix}"));
                    memory.rename(&path(from), &path(to)).unwrap();
                }
            }
        };
        let faults = FaultFileSystem::new(Arc::new(memory.clone()), Env::memory(1).clock);
        let looks = AtomicUsize::new(0);
        faults.observe(move |event| {
            let is_own = event.operation == Operation::List && event.path == Path::new(DIR);
            match looks.load(Ordering::Relaxed) {
                0 if is_own => turn("", " away"),
                1 => turn(" away", ""),
                0 => return,
                _ => {}
            }
            looks.fetch_add(1, Ordering::Relaxed);
        });
        let opened = open(&env_over(Arc::new(faults)), &recovered::options());
        match is_in_use {
            true => assert_eq!(opened.unwrap_err().kind(), ErrorKind::Locked),
            false => assert_eq!(opened.unwrap().get("k").unwrap().unwrap(), "v"),
        }
    }
}

/// The directory of the log had been made by then, and that of the database with a lock file.
#[test]
fn an_open_that_finds_no_database_and_may_make_none_makes_nothing() {
    let env = Env::memory(1);
    let builder = |dir: &str, log_dir: &str| {
        let options = Options { log_dir: Some(log_dir.into()), ..recovered::options() };
        Db::builder(dir).env(env.clone()).options(options)
    };
    let there = |path: &str| env.fs.exists(Path::new(path)).unwrap();
    let db = builder("db", "log").open().unwrap();
    let shortlex = crate::orders::Shortlex { name: "shortlex" };
    let options = KeyspaceOptions { order: Order::new(shortlex), ..KeyspaceOptions::default() };
    db.keyspace("k", options).unwrap();
    db.put("k", "v").unwrap();
    db.close().unwrap();
    let refused = |builder: esker::DbBuilder, what: &str| {
        let error = builder.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(what), "{error}");
        assert!(!there("new") && !there("new log"));
    };
    // An order of which a database has recorded nothing but the name.
    let db = builder("db", "log").open().unwrap();
    let nameless = db.existing_keyspace("k").unwrap().unwrap().options();
    db.close().unwrap();
    refused(builder("new", "new log").default_keyspace(nameless), "is known by name only");
    refused(builder("new", "new log").create_if_missing(false), "there is no database in");
    refused(builder("new", "log"), "log holds a log, and");
    refused(builder("db", "new log").create_new(true), "it is to be new");
    assert_eq!(builder("db", "log").open().unwrap().get("k").unwrap().unwrap(), "v");
}

/// An attempt that ended too early may have made the directories, and their names may not be durable.
#[test]
fn the_names_of_the_directories_of_a_new_database_are_made_durable() {
    for log_dir in [None, Some("other/log"), Some("outer/db/a/b/log")] {
        let env = Env::memory(1);
        env.fs.create_dir_all(Path::new("outer/db")).unwrap();
        log_dir.iter().for_each(|dir| env.fs.create_dir_all(Path::new(dir)).unwrap());
        let faults = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
        let synced: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
        let noted = Arc::clone(&synced);
        let (memory, dir) = (Arc::clone(&env.fs), Path::new("outer/db"));
        faults.observe(move |event| {
            // What comes behind the manifest's name is not repeated by the next open.
            let is_manifest = |entry: DirEntry| entry.name.ends_with(".manifest");
            if event.operation == Operation::SyncDir
                && !memory.list(dir).unwrap().into_iter().any(is_manifest)
            {
                noted.lock().unwrap().insert(event.path.clone());
            }
        });
        let env = Env { fs: Arc::new(faults), ..env };
        let options = Options { log_dir: log_dir.map(Into::into), ..recovered::options() };
        let db = Db::builder(dir).env(env).options(options).open().unwrap();
        let synced = synced.lock().unwrap().clone();
        let parents: &[&str] = match log_dir {
            None => &["outer"],
            Some("other/log") => &["outer", "other"],
            Some(_) => &["outer", "outer/db", "outer/db/a", "outer/db/a/b"],
        };
        assert_eq!(synced, parents.iter().map(PathBuf::from).collect());
        drop(db);
    }
}

/// The parent of a directory that is all ours may be one that this process may not read, or of a file system
/// that has no syncs of directories.
#[test]
fn a_parent_that_can_never_be_synced_keeps_no_database_from_being_made() {
    for (code, is_passed_over) in [(13, true), (22, true), (30, true), (5, false), (28, false)] {
        let env = Env::memory(1);
        env.fs.create_dir_all(Path::new("outer/db")).unwrap();
        let faults = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
        faults.add(Rule::new(Fault::Error(code)).on(&[Operation::SyncDir]).path("outer"));
        let env = Env { fs: Arc::new(faults), ..env };
        let opened = Db::builder("outer/db").env(env).options(recovered::options()).open();
        assert_eq!(opened.is_ok(), is_passed_over, "{code}");
    }
}

/// An open that was refused for the key order of the default keyspace had cut the log and removed files.
#[test]
fn an_open_with_another_key_order_changes_nothing() {
    let env = Env::memory(1);
    let builder = || Db::builder("db").env(env.clone()).options(recovered::options());
    let db = builder().open().unwrap();
    db.put("k", "v").unwrap();
    drop(db);
    let dir = Path::new("db");
    let orphan = env.fs.create(&dir.join("1-00000900.log")).unwrap();
    orphan.write_all_at(0, &[0; 100]).unwrap();
    let before = files::read_all(&*env.fs, dir);
    let reverse =
        KeyspaceOptions { order: Order::reverse_bytewise(), ..KeyspaceOptions::default() };
    let error = builder().default_keyspace(reverse).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let what = "keyspace default was created with the key order \"bytewise\", and is opened with \"reverse-bytewise\"";
    assert_eq!(error.to_string(), what);
    assert_eq!(files::read_all(&*env.fs, dir), before);
    assert_eq!(builder().open().unwrap().get("k").unwrap().unwrap(), "v");
    assert_ne!(files::read_all(&*env.fs, dir), before);
}

/// Once the process had gone elsewhere, files were looked for and made below that directory.
#[test]
fn a_relative_directory_stays_where_it_was_when_the_database_was_opened() {
    let dir = TempDir::new("relative");
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = up.join(dir.path().strip_prefix("/").unwrap());
    let options = Options { log_dir: Some(relative.join("log")), ..recovered::options() };
    let db = Db::builder(relative.join("db")).options(options).open().unwrap();
    assert_eq!(db.path(), here.join(relative.join("db")));
    assert_eq!(db.options().log_dir, Some(here.join(relative.join("log"))));
    db.put("k", "v").unwrap();
    db.close().unwrap();
    assert!(dir.path().join("log").read_dir().unwrap().next().is_some());
}

/// A copy that came without the lock file could be verified there, and not read.
#[test]
fn where_nobody_can_write_a_database_is_read_without_a_lock_file() {
    let memory = Arc::new(MemoryFileSystem::new(1));
    let faults = FaultFileSystem::new(memory, Env::memory(1).clock);
    let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
    let builder = || Db::builder("db").env(env.clone()).options(recovered::options());
    builder().open().unwrap().put("k", "v").unwrap();
    // That there is no file, and that none can be made: `EROFS`.
    faults.add(Rule::new(Fault::Error(30)).on(&[Operation::Lock]));
    let error = builder().open().unwrap_err();
    assert_eq!(error.to_string(), "cannot lock db/LOCK: Read-only file system (os error 30)");
    let db = builder().read_only(true).open().unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), "v");
    drop(db);
    faults.clear();
    faults.add(Rule::new(Fault::Error(13)).on(&[Operation::Lock]));
    let error = builder().read_only(true).open().unwrap_err();
    assert_eq!(error.to_string(), "cannot lock db/LOCK: Permission denied (os error 13)");
}

/// Two databases with one log directory, neither of which had a log in it when the other was opened,
/// gave their segments the same names. The second failed to make its first one, and removed the file
/// of that name: the log of the first, with all that had been acknowledged.
#[test]
fn a_log_directory_is_locked_by_the_database_that_has_it_open() {
    let env = Env::memory(1);
    let open = |dir: &str, log_dir: Option<&str>| {
        let options = Options { log_dir: log_dir.map(Into::into), ..recovered::options() };
        Db::builder(dir).env(env.clone()).options(options).open()
    };
    let first = open("first", Some("logs")).unwrap();
    let error = open("second", Some("logs")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let what = "the log directory logs is in use by another database: its lock is held by process ";
    assert!(error.to_string().starts_with(what), "{error}");
    // Nor may it be the directory of a database that is open.
    assert_eq!(open("second", Some("first")).unwrap_err().kind(), ErrorKind::Locked);
    let second = env.fs.list(Path::new("second")).unwrap();
    assert!(second.iter().all(|entry| entry.name == "LOCK"), "{second:?}");
    first.put_with("k", "v", Durability::Power).unwrap();
    first.close().unwrap();
    let first = open("first", Some("logs")).unwrap();
    assert_eq!(first.get("k").unwrap().unwrap(), "v");
    drop(first);
    // Its own directory under another name.
    let third = open("third", Some("./third")).unwrap();
    third.put("k", "v").unwrap();
    drop(third);
    assert_eq!(open("third", Some("other/../third")).unwrap().get("k").unwrap().unwrap(), "v");
}

/// Whatever read fails while it looks whose directory that is: it was taken for its own, and not locked.
#[test]
fn no_fault_lets_a_log_into_the_directory_of_another_database() {
    let env = Env::memory(1);
    let first = Db::builder("first").env(env.clone()).options(recovered::options()).open().unwrap();
    let operations = [Operation::Open, Operation::Read, Operation::Len, Operation::Exists];
    for (operation, nth) in operations.iter().flat_map(|one| (1..20).map(move |nth| (*one, nth))) {
        let faults = FaultFileSystem::new(Arc::clone(&env.fs), Arc::clone(&env.clock));
        faults.add(Rule::new(Fault::Error(5)).on(&[operation]).when(When::Nth(nth)));
        let env = Env { fs: Arc::new(faults), ..env.clone() };
        let options = Options { log_dir: Some("first".into()), ..recovered::options() };
        let stranger = Db::builder("second").env(env).options(options).open();
        assert!(stranger.is_err(), "{operation:?} {nth}");
    }
    first.close().unwrap();
}

/// A file that is too short for a header is that of no database, whatever its name is. The open ended with
/// what the system says of a file that ends too early.
#[test]
fn a_short_file_with_the_name_of_the_manifest_is_passed_over_in_a_log_directory() {
    let env = Env::memory(1);
    let options = Options { log_dir: Some("logs".into()), ..recovered::options() };
    let open = |dir: &str| Db::builder(dir).env(env.clone()).options(options.clone()).open();
    open("db").unwrap().put("k", "v").unwrap();
    let name = Manifest::recover(&*env.fs, Path::new("db")).unwrap().unwrap().id.file_name();
    let short = env.fs.create(&Path::new("logs").join(&name)).unwrap();
    for len in 0..FileHeader::LEN {
        short.truncate(0).unwrap();
        short.write_all_at(0, &vec![7; len]).unwrap();
        let db = open("db").unwrap_or_else(|error| panic!("{len} bytes: {error}"));
        assert_eq!(db.get("k").unwrap().unwrap(), "v");
        // It keeps nobody from being kept out.
        assert_eq!(open("other").unwrap_err().kind(), ErrorKind::Locked, "{len} bytes");
        drop(db);
    }
    assert_eq!(short.len().unwrap(), FileHeader::LEN as u64 - 1);
}

/// What nothing refers to and cannot be removed stopped the open, whatever it was. It does no harm, is
/// told, and goes with the next open that can remove it.
#[test]
fn an_orphan_that_cannot_be_removed_stops_no_open() {
    let memory = Arc::new(MemoryFileSystem::new(1));
    let faults = FaultFileSystem::new(memory, Env::memory(1).clock);
    let env = Env { fs: Arc::new(faults.clone()), ..Env::memory(1) };
    let options = Options { log_dir: Some("logs".into()), ..recovered::options() };
    let open = || Db::builder("db").env(env.clone()).options(options.clone()).open().unwrap();
    let db = open();
    db.put("k", "v").unwrap();
    db.flush().unwrap();
    db.put("in the log", "v").unwrap();
    drop(db);
    let id = |counter| FileId { owner: esker_base::OwnerId::FIRST, counter };
    let unfinished = format!("{}.tmp", id(5).file_name(FileKind::Table));
    let name = |kind| id(100).file_name(kind);
    // No id has been given beyond those.
    let orphans = [
        ("db", name(FileKind::Table)),
        ("db", name(FileKind::Blob)),
        ("db", id(101).file_name(FileKind::Log)),
        ("db", unfinished),
        ("logs", name(FileKind::Log)),
    ];
    for (dir, name) in &orphans {
        env.fs.create(&Path::new(dir).join(name)).unwrap();
    }
    let there = || -> Vec<bool> {
        let is_there = |(dir, name): &(&str, String)| env.fs.exists(&Path::new(dir).join(name));
        orphans.iter().map(|orphan| is_there(orphan).unwrap()).collect()
    };
    let told = |db: &Db| -> Vec<String> {
        let events = db.events().into_iter().map(|(_, event)| event.to_string());
        events.filter(|event| event.starts_with("could not remove")).collect()
    };
    const EIO: i32 = 5;
    const EPERM: i32 = 1;
    for code in [EIO, EPERM] {
        for (at, (dir, name)) in orphans.iter().enumerate() {
            faults.clear();
            let path = format!("{dir}/{name}");
            faults.add(Rule::new(Fault::Error(code)).on(&[Operation::Remove]).path(name));
            let db = open();
            let what = format!("could not remove obsolete {name}: cannot remove {path}: ");
            let told = told(&db);
            assert!(told.len() == 1 && told[0].starts_with(&what), "{told:?}");
            for key in ["k", "in the log"] {
                assert_eq!(db.get(key).unwrap().unwrap(), "v");
            }
            assert!(there()[at], "{path}");
            db.put("another", "v").unwrap();
            db.flush().unwrap();
            drop(db);
            for (dir, name) in orphans
                .iter()
                .filter(|(dir, name)| !env.fs.exists(&Path::new(dir).join(name)).unwrap())
            {
                env.fs.create(&Path::new(dir).join(name)).unwrap();
            }
        }
    }
    faults.clear();
    assert_eq!(there(), [true; 5]);
    let db = open();
    assert_eq!((there(), told(&db)), (vec![false; 5], Vec::new()));
    assert_eq!(db.get("k").unwrap().unwrap(), "v");
}

/// A write of a header that was cut short left a segment that looked damaged, and so like one that
/// somebody else may need: it stayed in a log directory of its own for good. Found by the simulator:
/// a file that nothing refers to, after a crash behind a short write. So did one whose header had raised
/// the length of the file before the power went, and no more: what stands there then is anything. Where it
/// was the start of a table from outside that had been removed, no open succeeded any more.
#[test]
fn a_log_segment_that_was_only_begun_is_removed_from_a_log_directory() {
    let env = Env::memory(1);
    let open = || {
        let options = Options { log_dir: Some("logs".into()), ..recovered::options() };
        Db::builder("db").env(env.clone()).options(options).open().unwrap()
    };
    let names = || -> Vec<String> {
        env.fs.list("logs".as_ref()).unwrap().into_iter().map(|entry| entry.name).collect()
    };
    let db = open();
    db.put("k", "v").unwrap();
    drop(db);
    let log = names().into_iter().find(|name| name.ends_with(".log")).unwrap();
    let log = env.fs.open(&Path::new("logs").join(log)).unwrap();
    let mut header = [0; FileHeader::LEN];
    log.read_exact_at(0, &mut header).unwrap();
    let own = FileHeader::decode(&header).unwrap();
    let id = |counter| FileId { counter, ..own.id };
    let header = |counter| FileHeader { id: id(counter), ..own }.encode();
    let write = |counter: u64, bytes: &[u8]| {
        let file = env.fs.create(&Path::new("logs").join(LogId(id(counter)).file_name())).unwrap();
        file.write_all_at(0, bytes).unwrap();
    };
    let cut = |counter, len: usize| [&header(counter)[..len], &vec![0; 300 - len]].concat();
    let before = names();
    for (counter, len) in [(900, 0), (901, 8), (902, 20), (903, 47)] {
        write(counter, &cut(counter, len));
    }
    // Over the header of a segment that was to be used again.
    write(904, &[&header(904)[..20], &header(3)[20..], b"a frame of its former life"].concat());
    // As long as a header, and nothing that anybody could read.
    let garbage: Vec<u8> =
        (0..FileHeader::LEN as u8).map(|byte| byte.wrapping_mul(37) ^ 90).collect();
    write(908, &garbage);
    // As long, and the start of a file that was there before: a table from outside, a log elsewhere.
    let database = DatabaseId([7; 16]);
    for (counter, kind) in [(909, FileKind::Table), (910, FileKind::Log)] {
        write(counter, &FileHeader { kind, database, ..own }.encode());
    }
    // Not ours, as far as anybody can tell.
    write(905, b"a text that is about something else");
    write(906, &[cut(907, 20), cut(907, 20)].concat());
    write(907, &[[0; FileHeader::LEN].as_slice(), b"frames whose header is gone"].concat());
    let db = open();
    assert_eq!(db.get("k").unwrap().unwrap(), "v");
    drop(db);
    let stays = [905, 906, 907].map(|counter| LogId(id(counter)).file_name());
    let mut expected = [before, stays.to_vec()].concat();
    expected.sort();
    let mut found = names();
    found.sort();
    assert_eq!(found, expected);
}

/// The number after the last of all is none: it was counted up to all the same, and the open panicked, or
/// began again at zero, under names that files have.
#[test]
fn a_file_with_the_last_number_of_all_is_refused_by_its_name() {
    let (fs, _) = crate::sample::in_memory();
    let dir = Path::new(recovered::DIR);
    let other = Env::memory(2);
    let db = recovered::open(&other, &recovered::options()).unwrap();
    db.put("key", "value").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let foreign = crate::files::read_all(&*other.fs, dir);
    let foreign = foreign.iter().find(|(name, _)| name.ends_with(".table")).unwrap().1;
    for extension in ["table", "blob", "log", "manifest"] {
        let name = format!("1-{}.{extension}", u64::MAX);
        let copy = crate::files::with(&fs, dir, &name, foreign);
        let before = crate::files::read_all(&copy, dir);
        let env = recovered::env_of(&copy);
        let error = recovered::open(&env, &recovered::options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains(&name), "{error}");
        assert_eq!(crate::files::read_all(&copy, dir), before, "{name}");
        let report = esker::doctor::Doctor::new(dir).env(env.clone()).verify(&mut |_| {}).unwrap();
        assert!(report.findings.iter().any(|it| it.file == name), "{name}: {report}");
        if extension != "manifest" {
            // One that only reads gives no numbers.
            Db::builder(dir).env(env.clone()).read_only(true).open().unwrap();
        }
        if extension == "table" {
            assert!(error.to_string().contains("somebody has put it there"), "{error}");
            let table = before.keys().find(|name| name.ends_with(".table")).unwrap();
            copy.remove(&dir.join(table)).unwrap();
            let options = esker::doctor::RepairOptions::default();
            let doctor = esker::doctor::Doctor::new(dir).env(env);
            let error = doctor.repair(&options, &mut |_| {}).unwrap_err();
            assert!(error.to_string().contains(&name), "{error}");
        }
    }
}

/// A directory that is called like a file of the database was taken for one: it could not be removed as
/// one, or not be read, so nothing opened; the doctor called that sound. Found beside other engines' tests.
#[test]
fn a_directory_is_no_file_of_the_database_whatever_it_is_called() {
    let fs = MemoryFileSystem::new(1);
    let (dir, log_dir) = (Path::new(recovered::DIR), Path::new("log"));
    let env = recovered::env_of(&fs);
    let options = Options { log_dir: Some(log_dir.into()), ..recovered::options() };
    let open = || recovered::open(&env, &options).unwrap();
    open().put("key", "value").unwrap();
    let names = [
        "1-00000090.manifest",
        "1-00000091.manifest.old",
        "1-00000090.table",
        "1-00000091.table.tmp",
        "1-00000090.blob",
        "1-00000090.log",
        "1-00000090.warm",
        "1-90000000.table",
        "1-5000000000000000000.table",
    ];
    let all = || [dir, log_dir].into_iter().flat_map(|dir| names.map(|name| dir.join(name)));
    all().for_each(|path| fs.create_dir_all(&path).unwrap());
    for _ in 0..3 {
        let db = open();
        assert_eq!(db.get("key").unwrap().unwrap(), "value");
        db.put("other", "value").unwrap();
        db.flush().unwrap();
        db.put("more", "value").unwrap();
        db.close().unwrap();
        let doctor = esker::doctor::Doctor::new(dir).env(env.clone()).log_dir(log_dir);
        let report = doctor.verify(&mut |_| {}).unwrap();
        assert!(report.is_sound(), "{report}");
    }
    all().for_each(|path| assert!(fs.list(&path).unwrap().is_empty(), "{}", path.display()));
}

/// To open a pipe is to wait for whoever writes to it: a directory stands for it here.
#[test]
fn what_is_no_file_in_place_of_a_log_segment_is_damage() {
    for log_dir in [None, Some("log".into())] {
        let fs = MemoryFileSystem::new(1);
        let (dir, env) = (Path::new(recovered::DIR), recovered::env_of(&fs));
        let options = Options { log_dir: log_dir.clone(), ..recovered::options() };
        recovered::open(&env, &options).unwrap().put("key", "value").unwrap();
        let log_dir = log_dir.as_deref().unwrap_or(dir);
        let mut logs = fs.list(log_dir).unwrap().into_iter().map(|entry| entry.name);
        let name = logs.rfind(|name| name.ends_with(".log")).unwrap();
        fs.remove(&log_dir.join(&name)).unwrap();
        fs.create_dir_all(&log_dir.join(&name)).unwrap();
        for mode in [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime] {
            let builder = Db::builder(dir).env(env.clone()).options(options.clone());
            let error = builder.recovery(mode).open().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
            let what = "the manifest names this file, and it is none";
            assert!(error.to_string().ends_with(what), "{mode:?}: {error}");
        }
        let doctor = esker::doctor::Doctor::new(dir).env(env.clone()).log_dir(log_dir);
        let report = doctor.verify(&mut |_| {}).unwrap();
        assert!(report.findings.iter().any(|it| it.file == name), "{report}");
    }
}

/// Somebody has put it there, and may look for it.
#[test]
fn a_file_of_another_database_is_not_removed_without_a_word() {
    let fs = MemoryFileSystem::new(1);
    let (dir, env) = (Path::new(recovered::DIR), recovered::env_of(&fs));
    let options = recovered::options();
    recovered::open(&env, &options).unwrap().put("key", "value").unwrap();
    let database = DatabaseId([7; 16]);
    let kinds = [FileKind::Table, FileKind::Blob, FileKind::Log];
    let put = |counter, kind: FileKind, bytes: &[u8]| {
        let name = FileId { owner: esker_base::OwnerId::FIRST, counter }.file_name(kind);
        fs.create(&dir.join(&name)).unwrap().write_all_at(0, bytes).unwrap();
        name
    };
    let foreign = |kind| {
        let id = FileId { owner: esker_base::OwnerId::FIRST, counter: 3 };
        put(90, kind, &FileHeader { kind, format: 1, id, database }.encode())
    };
    let others = kinds.map(foreign);
    // What a crash has left.
    let own = kinds.map(|kind| put(91, kind, b""));
    let db = recovered::open(&env, &options).unwrap();
    let mut told: Vec<String> = db.events().into_iter().map(|(_, it)| it.to_string()).collect();
    told.retain(|told| told.starts_with("removed "));
    assert_eq!(told.len(), others.len(), "{told:?}");
    for name in &others {
        let expected =
            format!("removed {name}, to which nothing refers, and whose header names another");
        assert!(told.iter().any(|told| told.starts_with(&expected)), "{told:?}");
    }
    assert!(others.iter().chain(&own).all(|name| !fs.exists(&dir.join(name)).unwrap()));
}

//! What no crash and no single flipped bit leaves: manifests that make no sense, files that are
//! whole and not the right ones; and what reports say, word for word.

use std::path::Path;
use std::sync::Arc;

use esker::doctor::{Doctor, RepairOptions, Totals};
use esker::env::{Env, FileExt as _};
use esker::{Db, Error, ErrorKind, KeyspaceOptions, Options, RecoveryMode};
use esker_base::{FileHeader, FileId, FileKind, KeyspaceId, ManifestId, OwnerId, SeqNo};
use esker_tree::{Catalog, Manifest};

use super::sample::{DIR, Files};

/// A closed database with a table in each of two keyspaces, and one write in the log of each.
fn database() -> Env {
    let env = Env::memory(1);
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
    let users = db.keyspace("users", KeyspaceOptions::default()).unwrap();
    for key in ["a", "b"] {
        db.put(key, "of the default").unwrap();
        users.put(key, "of users").unwrap();
    }
    db.flush().unwrap();
    db.put("c", "in the log").unwrap();
    users.put("c", "in the log").unwrap();
    db.close().unwrap();
    env
}

/// Writes a newer manifest, of the catalog as `change` leaves it.
fn with_manifest(env: &Env, change: impl FnOnce(&mut Catalog)) {
    let dir = Path::new(DIR);
    let mut catalog = Manifest::recover(&*env.fs, dir).unwrap().unwrap().catalog;
    let id = ManifestId(FileId { owner: OwnerId::FIRST, counter: catalog.next_file_counter });
    change(&mut catalog);
    drop(Manifest::create(Arc::clone(&env.fs), dir, id, catalog).unwrap());
}

/// What verification finds, a line for each.
fn found(env: &Env) -> Vec<String> {
    Files(env).verify().findings.iter().map(ToString::to_string).collect()
}

fn assert_finds(env: &Env, what: &str) {
    let found = found(env);
    assert!(found.iter().any(|line| line.contains(what)), "{what}: {found:?}");
}

#[test]
fn manifests_that_make_no_sense_are_found() {
    let env = database();
    assert_eq!(found(&env), [""; 0]);
    with_manifest(&env, |catalog| catalog.last_seqno = SeqNo::new(1).unwrap());
    assert_finds(&env, "the table holds sequence number 3, and the manifest knows none past 1");
    assert_finds(&env, "the table holds sequence number 4, and the manifest knows none past 1");

    let env = database();
    with_manifest(&env, |catalog| {
        let state = Arc::make_mut(catalog.keyspaces.get_mut(&KeyspaceId::DEFAULT).unwrap());
        state.options = vec![0xff; 3];
    });
    assert_finds(&env, "the options of default do not decode: ");

    let env = database();
    with_manifest(&env, |catalog| {
        catalog.keyspaces.remove(&KeyspaceId(1));
        catalog.next_keyspace_id = 1;
    });
    assert_finds(&env, "the group has an operation on a keyspace that never was");
}

#[test]
fn what_was_looked_at_is_counted() {
    let env = database();
    let files = Files(&env);
    let bytes = |suffix: &str| -> u64 {
        files.ending_with(suffix).iter().map(|name| files.read(name).len() as u64).sum()
    };
    let totals = files.verify().totals;
    assert_eq!((totals.keyspaces, totals.tables, totals.entries), (2, 2, 4));
    assert_eq!((totals.blocks % 2, totals.table_bytes), (0, bytes(".table")));
    assert!(2 <= totals.blocks, "{totals:?}");
    assert_eq!((totals.blob_files, totals.blob_bytes, totals.blob_values), (0, 0, 0));
    let logs = files.ending_with(".log").len() as u64;
    assert_eq!((totals.logs, totals.log_bytes), (logs, bytes(".log")));
    assert!(2 <= totals.operations && 2 <= totals.groups, "{totals:?}");

    // The same, but for what only a manifest knows.
    files.manifests().iter().for_each(|name| files.remove(name));
    let each = files.verify().totals;
    assert_eq!(each, Totals { keyspaces: 0, ..totals });
}

/// Every file is announced, and all bytes that were announced are done with, whether a manifest says
/// which they are or not.
#[test]
fn how_far_a_verification_is_adds_up() {
    let env = database();
    let options = Options { background_threads: 0, warm_cache: true, ..Options::default() };
    let db = Db::builder(DIR).env(env.clone()).options(options).open().unwrap();
    db.put("a value in the cache", "after a flush").unwrap();
    db.flush().unwrap();
    assert_eq!(db.iter().count(), 4);
    db.put("d", "in the log").unwrap();
    db.close().unwrap();
    let files = Files(&env);
    for has_manifest in [true, false] {
        if !has_manifest {
            files.manifests().iter().for_each(|name| files.remove(name));
        }
        let mut told = Vec::new();
        files.doctor().verify(&mut |progress| told.push(progress.clone())).unwrap();
        let last = told.last().unwrap();
        assert_eq!(last.bytes_done, last.bytes_total, "{has_manifest}: {told:?}");
        assert!(told.is_sorted_by_key(|progress| progress.bytes_done));
        let kinds = [".table", ".log", ".warm"];
        let names = kinds.iter().flat_map(|kind| {
            let names = files.ending_with(kind);
            assert!(!names.is_empty(), "{kind}");
            names
        });
        let mut bytes = 0;
        for name in names {
            assert!(told.iter().any(|progress| progress.subject == name), "{name}: {told:?}");
            bytes += files.read(&name).len() as u64;
        }
        assert_eq!(last.bytes_total, bytes, "{has_manifest}");
    }
}

/// A recovery to a point in time goes on behind a group that makes no sense from its middle on: what
/// stands before the middle must not count either.
#[test]
fn of_a_group_that_does_not_decode_to_its_end_nothing_counts() {
    let env = Env::memory(1);
    let db = Db::builder(DIR).env(env.clone()).open().unwrap();
    let users = db.keyspace("users", KeyspaceOptions::default()).unwrap();
    db.put("a", "alone").unwrap();
    let mut batch = db.batch();
    batch.put(db.default_keyspace(), "b", "with another");
    batch.put(&users, "b", "of a keyspace that never was");
    batch.commit().unwrap();
    drop((users, db));
    with_manifest(&env, |catalog| {
        catalog.keyspaces.remove(&KeyspaceId(1));
        catalog.next_keyspace_id = 1;
    });
    let open = |mode| Db::builder(DIR).env(env.clone()).recovery(mode).open();
    let error = open(RecoveryMode::TornTail).unwrap_err();
    assert!(error.to_string().contains("a keyspace that never was"), "{error}");
    let db = open(RecoveryMode::PointInTime).unwrap();
    assert_eq!(db.get("a").unwrap().unwrap(), "alone");
    assert_eq!(db.get("b").unwrap(), None);
    // Nor later, when its number has been given to another.
    db.put("c", "later").unwrap();
    assert_eq!(db.get("b").unwrap(), None);
    assert_eq!(db.iter().count(), 2);
}

#[test]
fn a_table_from_beyond_what_the_manifest_knows_says_that_a_newer_one_is_missing() {
    let env = database();
    let files = Files(&env);
    let table = files.ending_with(".table").remove(0);
    let bytes = files.read(&table);
    let header = FileHeader::decode(&bytes).unwrap();
    let copy = |counter: u64, header: FileHeader| {
        let id = FileId { counter, ..header.id };
        let header = FileHeader { id, ..header }.encode();
        let name = id.file_name(FileKind::Table);
        files.replace(&name, &[header.as_slice(), &bytes[FileHeader::LEN..]].concat());
        name
    };
    // One of another database, which somebody has put there.
    let other = copy(90_000, FileHeader { database: esker_base::DatabaseId([9; 16]), ..header });
    assert_eq!(found(&env), [""; 0]);
    let report = files.verify();
    assert_eq!(report.unreferenced[0].file, other);
    Db::builder(DIR).env(env.clone()).read_only(true).open().unwrap();
    // Nor does it make a repair doubt the manifest.
    let table = files.ending_with(".table").remove(0);
    let whole = files.read(&table);
    files.remove(&table);
    let plan = RepairOptions { dry_run: true, ..RepairOptions::default() };
    let report = files.doctor().repair(&plan, &mut |_| {}).unwrap();
    assert_eq!(report.notes, [""; 0]);
    files.replace(&table, &whole);
    files.remove(&other);
    let newer = copy(90_001, header);
    let manifest = files.newest_manifest();
    let line = format!(
        "{manifest} at 0: a newer one is missing: {newer} is newer than all that the manifest knows"
    );
    assert_eq!(found(&env), std::slice::from_ref(&line));
    let check_refused = || {
        let error = Db::builder(DIR).env(env.clone()).read_only(true).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains(&newer), "{error}");
    };
    check_refused();
    // One that does not say what it is may be ours.
    files.flip(&newer, 3);
    assert_eq!(found(&env), [line]);
    check_refused();
}

#[test]
fn a_log_apart_from_beyond_what_the_manifest_knows_says_that_a_newer_one_is_missing() {
    let env = Env::memory(1);
    let options =
        Options { background_threads: 0, log_dir: Some("logs".into()), ..Options::default() };
    let open = || Db::builder(DIR).env(env.clone()).options(options.clone()).open();
    let db = open().unwrap();
    db.put("key", "value").unwrap();
    db.close().unwrap();
    let logs = Path::new("logs");
    let log = env.fs.list(logs).unwrap().into_iter().find(|file| file.name.ends_with(".log"));
    let file = env.fs.open(&logs.join(log.unwrap().name)).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(0, &mut bytes).unwrap();
    let header = FileHeader::decode(&bytes).unwrap();
    let id = FileId { counter: 90_000, ..header.id };
    let later = [&FileHeader { id, ..header }.encode(), &bytes[FileHeader::LEN..]].concat();
    let path = logs.join(id.file_name(FileKind::Log));
    env.fs.create(&path).unwrap().write_all_at(0, &later).unwrap();
    let error = open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().ends_with("a newer one is missing"), "{error}");
    let doctor = Doctor::new(DIR).log_dir(logs).env(env.clone());
    let report = doctor.verify(&mut |_| {}).unwrap();
    assert_eq!(report.findings.len(), 1, "{report}");
    assert!(report.findings[0].to_string().contains("a newer one is missing"), "{report}");
    env.fs.remove(&path).unwrap();
    // So does one beside the tables, where the log was before.
    let name = id.file_name(FileKind::Log);
    Files(&env).replace(&name, &later);
    let error = open().unwrap_err();
    assert!(error.to_string().ends_with("a newer one is missing"), "{error}");
    let report = doctor.verify(&mut |_| {}).unwrap();
    assert!(report.findings[0].to_string().contains("a newer one is missing"), "{report}");
    Files(&env).remove(&name);
    assert_eq!(open().unwrap().get("key").unwrap().unwrap(), "value");
}

/// Numbers that were never given: of an empty log segment, and of somebody else's files. An open takes them for
/// the remains of a job; a verification called them damage, and a repair doubted the manifest.
#[test]
fn what_an_open_accepts_beyond_what_the_manifest_knows_is_no_damage() {
    let env = database();
    let files = Files(&env);
    let id = |owner, counter| FileId { owner, counter };
    let names = [
        id(OwnerId::FIRST, 99_999_999).file_name(FileKind::Log),
        id(OwnerId(2), 99_999_999).file_name(FileKind::Table),
    ];
    names.iter().zip([&b""[..], b"garbage"]).for_each(|(name, bytes)| files.replace(name, bytes));
    assert_eq!(found(&env), [""; 0]);
    let table = files.ending_with(".table").remove(0);
    let bytes = files.read(&table);
    files.remove(&table);
    let plan = RepairOptions { dry_run: true, ..RepairOptions::default() };
    let report = files.doctor().repair(&plan, &mut |_| {}).unwrap();
    assert_eq!(report.notes, [""; 0]);
    files.replace(&table, &bytes);
    drop(Db::builder(DIR).env(env.clone()).open().unwrap());
    assert!(names.iter().all(|name| !files.ending_with("").contains(name)));
}

#[test]
fn a_manifest_of_before_does_not_make_a_repair_give_up_what_came_after() {
    let env = database();
    let files = Files(&env);
    let manifest = files.newest_manifest();
    let before = files.read(&manifest);
    let db = Db::builder(DIR).env(env.clone()).open().unwrap();
    db.put("later", "than the manifest").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    assert_ne!(files.newest_manifest(), manifest, "an open begins a new one");
    files.manifests().iter().for_each(|name| files.remove(name));
    files.replace(&manifest, &before);
    let report = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert!(!report.was_sound());
    let db = Db::builder(DIR).env(env.clone()).open().unwrap();
    assert_eq!(db.get("later").unwrap().unwrap(), "than the manifest", "{report}");
    assert_eq!(db.get("c").unwrap().unwrap(), "in the log", "{report}");
}

#[test]
fn without_a_manifest_every_file_is_checked_by_itself() {
    let env = database();
    let files = Files(&env);
    files.manifests().iter().for_each(|name| files.remove(name));
    assert_eq!(found(&env), ["manifest at 0: there are files of a database, and no manifest"]);
    let tables = files.ending_with(".table");
    let [one, other] = tables.as_slice() else { panic!("two tables: {tables:?}") };
    let len = files.read(one).len();
    files.flip(one, len - 5);
    let found_now = found(&env);
    assert_eq!(found_now.len(), 2, "{found_now:?}");
    assert!(found_now[1].starts_with(one), "{found_now:?}");
    // Of one that opens, every block is read.
    files.flip(other, FileHeader::LEN + 3);
    let found_now = found(&env);
    let of_other = found_now.iter().find(|line| line.starts_with(other));
    assert!(of_other.is_some_and(|line| line.contains("checksum")), "{found_now:?}");
}

#[test]
fn what_a_newer_release_wrote_is_refused_and_not_repaired() {
    let env = database();
    let files = Files(&env);
    let manifest = files.newest_manifest();
    let mut bytes = files.read(&manifest);
    let header = FileHeader::decode(&bytes).unwrap();
    let newer = FileHeader { format: 77, ..header };
    bytes[..FileHeader::LEN].copy_from_slice(&newer.encode());
    files.replace(&manifest, &bytes);
    let before = files.everything();
    let check = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat, "{error:?}");
        assert!(error.to_string().contains("77"), "{error}");
        assert!(error.to_string().contains(&manifest), "{error}");
    };
    check(files.doctor().verify(&mut |_| {}).unwrap_err());
    check(files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap_err());
    check(files.doctor().salvage("copy", false, &mut |_| {}).unwrap_err());
    check(Db::builder(DIR).env(env.clone()).open().unwrap_err());
    check(Db::builder(DIR).env(env.clone()).read_only(true).open().unwrap_err());
    assert_eq!(files.everything(), before);
}

/// Not even which database it is can be told: nothing is guessed, and nothing changed.
#[test]
fn a_database_in_which_every_header_is_damaged_is_not_repaired() {
    let env = database();
    let files = Files(&env);
    for (name, _) in files.everything() {
        files.flip(&name, 20);
    }
    let before = files.everything();
    let doctor = files.doctor().log_dir(DIR);
    let error = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    let what = "no file has a header that is intact: which database it is cannot be told";
    assert!(error.to_string().ends_with(what), "{error}");
    assert_eq!(files.everything(), before);
}

#[test]
fn a_directory_with_nothing_but_a_lock_is_no_database() {
    let env = Env::memory(1);
    env.fs.create_dir_all(Path::new(DIR)).unwrap();
    env.fs.create(&Path::new(DIR).join("LOCK")).unwrap().write_all_at(0, b"7\n").unwrap();
    let error = Files(&env).doctor().verify(&mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "there is no database in db");
}

#[test]
fn reports_say_word_for_word_what_was_found_and_done() {
    let env = database();
    let files = Files(&env);
    let options = RepairOptions::default();
    let sound = files.doctor().repair(&options, &mut |_| {}).unwrap();
    assert_eq!(sound.to_string(), "sound: nothing to repair, and nothing was changed\n");

    let table = files.ending_with(".table").remove(0);
    files.remove(&table);
    let missing = format!(
        "{table} at 0: the manifest names this file, and it is missing; \
         affects keys from \"a\" up to \"b\" of default"
    );
    let report = files.verify().to_string();
    assert_eq!(report.lines().next(), Some(missing.as_str()), "{report}");
    assert_eq!(report.lines().last(), Some("damaged: 1 findings"), "{report}");
    assert!(!report.contains("blob"), "there are none: {report}");

    let expected = |end: &str| {
        format!(
            "found: {missing}\nkept: 1 tables as they are\n\
             lost: keys from \"a\" up to \"b\" of default ({table}: the file is missing)\n{end}\n"
        )
    };
    let before = files.everything();
    let dry = files.doctor().repair(&RepairOptions { dry_run: true, ..options }, &mut |_| {});
    assert_eq!(dry.unwrap().to_string(), expected("nothing was changed"));
    assert_eq!(files.everything(), before);
    let done = files.doctor().repair(&options, &mut |_| {}).unwrap();
    assert_eq!(done.to_string(), expected("repaired"));
    let report = files.verify();
    assert!(report.is_sound(), "{report}");
    assert!(report.to_string().ends_with("\nsound\n"), "{report}");
    let db = Db::builder(DIR).env(env.clone()).open().unwrap();
    assert_eq!(db.get("a").unwrap(), None);
    assert_eq!(db.get("c").unwrap().unwrap(), "in the log");
}

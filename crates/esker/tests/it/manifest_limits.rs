//! Intact manifests with contents that no release writes: limited to what is possible, or refused.

use std::path::Path;
use std::sync::Arc;

use esker::env::Env;
use esker::{Db, ErrorKind, KeyspaceOptions, Options};
use esker_base::coding::put_varint;
use esker_base::{FileId, KeyspaceId, ManifestId, OwnerId, SeqNo};
use esker_tree::{Catalog, Manifest};

use crate::watchdog::{self, Watchdog};

const DIR: &str = "db";

fn open(env: &Env) -> Db {
    let options =
        Options { background_threads: 0, memory_budget_bytes: 1 << 20, ..Options::default() };
    Db::builder(DIR).env(env.clone()).options(options).open().unwrap()
}

fn key(number: u32) -> [u8; 4] {
    number.wrapping_mul(0x9e37_79b9).to_le_bytes()
}

/// Fills several memtables, and does everything that there is to do with them.
fn use_it(env: &Env, count: u32) {
    let db = open(env);
    let value = |number: u32| vec![number as u8; 500];
    for round in 0..2 {
        for number in 0..count {
            watchdog::step();
            db.put(key(number), value(number + round)).unwrap();
        }
        db.flush().unwrap();
        db.wait_until_settled().unwrap();
    }
    db.compact_all().unwrap();
    watchdog::step();
    db.close().unwrap();
    let db = open(env);
    for number in 0..count {
        assert_eq!(db.get(key(number)).unwrap().unwrap(), value(number + 1)[..]);
    }
    db.close().unwrap();
}

/// Recorded options: the policy with its parameters and sections behind the seven numbers.
fn recorded(numbers: [u64; 7], rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    numbers.iter().for_each(|number| put_varint(&mut out, *number));
    out.extend_from_slice(rest);
    out
}

/// A closed database with one entry, whose newest manifest is what `change` makes of its catalog.
fn with_manifest(change: impl FnOnce(&mut Catalog)) -> Env {
    let env = Env::memory(1);
    let db = open(&env);
    db.put("in a table", "value").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let dir = Path::new(DIR);
    let mut catalog = Manifest::recover(&*env.fs, dir).unwrap().unwrap().catalog;
    let id = ManifestId(FileId { owner: OwnerId::FIRST, counter: catalog.next_file_counter });
    change(&mut catalog);
    drop(Manifest::create(Arc::clone(&env.fs), dir, id, catalog).unwrap());
    env
}

#[test]
fn recorded_options_that_nobody_can_have_chosen_do_no_harm() {
    const USUAL: [u64; 7] = [0, 1, 4096, 10, 64 << 20, 3, 1];
    let with = |place: usize, number: u64| {
        let mut numbers = USUAL;
        numbers[place] = number;
        recorded(numbers, &[])
    };
    let section = |tag: u8, body: &[u64]| {
        let mut out = Vec::new();
        body.iter().for_each(|number| put_varint(&mut out, *number));
        let mut rest = vec![0, tag, out.len() as u8];
        rest.extend(out);
        recorded(USUAL, &rest)
    };
    let big = u64::from(u32::MAX);
    let cases = [
        ("block size 0", with(2, 0)),
        ("block size 1", with(2, 1)),
        ("largest block size", with(2, big)),
        ("largest filter", with(3, big)),
        ("memtable of 0 bytes", with(4, 0)),
        ("largest memtable", with(4, u64::MAX)),
        ("no memtable may wait", with(5, 0)),
        ("any number may wait", with(5, u64::MAX)),
        ("ttl", section(2, &[u64::MAX])),
        ("smallest blobs", section(4, &[1, 0])),
        ("largest blobs", section(4, &[big, big])),
        ("short times", section(5, &[1, 1, 1])),
        ("long times", section(5, &[u64::MAX; 3])),
    ];
    for (what, options) in cases {
        let _watchdog = Watchdog::start(what.to_owned());
        let env = with_manifest(|catalog| {
            let state = catalog.keyspaces.get_mut(&KeyspaceId::DEFAULT).unwrap();
            Arc::make_mut(state).options = options;
        });
        use_it(&env, 2000);
    }
}

/// A bulk load and an ingest counted past the last sequence number, and panicked.
#[test]
fn sequence_numbers_that_are_used_up_are_refused_to_all_who_want_one() {
    for back in [0, 1, 5] {
        let last = SeqNo::new(SeqNo::MAX.get() - back).unwrap();
        let env = with_manifest(|catalog| catalog.last_seqno = last);
        let db = open(&env);
        let mut loader = db.bulk_loader(db.default_keyspace()).unwrap();
        loader.put("loaded", "value").unwrap();
        let loaded = loader.finish().map(drop);
        for refused in [db.put("k", "v"), db.delete_range("a".."b"), loaded] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let what = "the sequence numbers of this database are used up";
            assert_eq!(error.to_string(), what);
        }
        assert_eq!(db.get("in a table").unwrap().unwrap(), "value");
        db.compact_all().unwrap();
        db.close().unwrap();
        assert_eq!(open(&env).snapshot().iter().count(), 1);
    }
}

/// Whoever made a keyspace counted past the last id, and panicked.
#[test]
fn ids_of_keyspaces_that_are_used_up_are_refused() {
    let env = with_manifest(|catalog| catalog.next_keyspace_id = u32::MAX - 1);
    let db = open(&env);
    let last = db.keyspace("last", KeyspaceOptions::default()).unwrap();
    last.put("k", "v").unwrap();
    let error = db.keyspace("too many", KeyspaceOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the ids of keyspaces of this database are used up");
    db.close().unwrap();
    assert_eq!(open(&env).keyspaces(), ["default", "last"]);
}

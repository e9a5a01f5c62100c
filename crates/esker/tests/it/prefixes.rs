//! Prefix filters: scans of one prefix skip tables without it, and answers stay the same, whatever
//! filters there are, were or will be.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use esker::env::{Env, FileExt as _};
use esker::operators::AddU64;
use esker::{
    CompactionPolicy, Db, ErrorKind, IngestOptions, Keyspace, KeyspaceOptions, Merge, Options,
    Order, PrefixRule, TableWriter, TableWriterOptions,
};

use crate::random::{Rng, for_each_seed};

const DIR: &str = "db";

/// Runs stay as they are flushed.
fn keyspace_options(prefix_filter: Option<PrefixRule>) -> KeyspaceOptions {
    let compaction = CompactionPolicy::None;
    KeyspaceOptions {
        compaction,
        prefix_filter,
        block_size_bytes: 256,
        ..KeyspaceOptions::default()
    }
}

fn open_with(env: &Env, options: KeyspaceOptions) -> Db {
    let database = Options { background_threads: 0, ..Options::default() };
    let builder = Db::builder(DIR).env(env.clone()).options(database);
    builder.default_keyspace(options).open().unwrap()
}

fn keys(scan: impl Iterator<Item = esker::Result<(esker::Key, esker::Value)>>) -> Vec<String> {
    scan.map(|entry| String::from_utf8(entry.unwrap().0.to_vec()).unwrap()).collect()
}

/// A run for each of `heads`, with a few of its keys, between two that all runs have.
fn fill(keyspace: &Keyspace, heads: &[&str]) {
    for head in heads {
        for key in ["aaa/0", "zzz/0"] {
            keyspace.put(key, head).unwrap();
        }
        (0..30).for_each(|number| keyspace.put(format!("{head}/{number:02}"), "v").unwrap());
        keyspace.flush().unwrap();
    }
}

/// How many tables a scan of `prefix` leaves out, and how many runs it merges.
fn excluded(keyspace: &Keyspace, prefix: &str) -> (usize, usize) {
    let end = prefix.strip_suffix('/').map(|head| format!("{head}0")).unwrap();
    let explained = keyspace.explain_scan(prefix.to_owned()..end, None).unwrap();
    (explained.tables_excluded.len(), explained.inputs.len())
}

const RULES: [PrefixRule; 2] = [PrefixRule::First(4), PrefixRule::Through(b'/')];

#[test]
fn scans_of_one_prefix_leave_out_the_runs_without_it() {
    for rule in RULES {
        let db = open_with(&Env::memory(1), keyspace_options(Some(rule)));
        let keyspace = db.default_keyspace();
        fill(keyspace, &["bbb", "ccc", "ddd", "eee"]);
        let before = db.stats().counters;
        assert_eq!(keys(keyspace.prefix("ccc/")).len(), 30);
        assert_eq!(keys(keyspace.prefix("ccc/").rev()).len(), 30);
        let after = db.stats().counters;
        assert_eq!(after.prefix_filters_asked - before.prefix_filters_asked, 8);
        assert_eq!(after.prefix_filters_excluded - before.prefix_filters_excluded, 6);
        assert_eq!(keys(keyspace.prefix("ccc/1")).len(), 10, "a longer one");
        assert_eq!(keys(keyspace.scan("ccc/10".."ccc/15")).len(), 5);
        assert_eq!(excluded(keyspace, "ccc/"), (3, 1));
        assert_eq!(excluded(keyspace, "aaa/"), (0, 4));
        assert_eq!(excluded(keyspace, "ddx/"), (4, 0));
        let cursor = keyspace.cursor_in("ccc/00"..="ccc/99").unwrap();
        assert_eq!(cursor.source_count(), 1);
        // Over more than one prefix nothing is asked.
        let before = db.stats().counters;
        assert_eq!(keys(keyspace.scan("ccc/29"..="ddd/00")), ["ccc/29", "ddd/00"]);
        assert_eq!(keys(keyspace.prefix("cc")).len(), 30);
        assert_eq!(keys(keyspace.iter()).len(), 122);
        assert_eq!(db.stats().counters.prefix_filters_asked, before.prefix_filters_asked);
    }
}

#[test]
fn what_is_left_out_is_explained_and_not_read() {
    let env = Env::memory(1);
    let db = open_with(&env, keyspace_options(Some(RULES[0])));
    fill(db.default_keyspace(), &["bbb"]);
    db.close().unwrap();
    let db = open_with(&env, keyspace_options(None));
    let loads = db.stats().cache.loads;
    let text = db.explain_scan("ccc/".."ccc0", None).unwrap().to_string();
    assert_eq!(db.stats().cache.loads, loads + 1, "the filter, and no index");
    assert!(text.contains("0 active inputs"), "{text}");
    let line = "|- L0 1-3.table: left out, its prefix filter excludes the range\n";
    let file = db.explain_scan("ccc/".."ccc0", None).unwrap().tables_excluded[0].table.clone();
    assert!(text.contains(&line.replace("1-3.table", &file)), "{text}");
}

#[test]
fn tables_go_by_the_rule_that_they_were_written_with() {
    let env = Env::memory(1);
    let options = |rule| keyspace_options(rule);
    let add = |rule, head: &str| {
        let db = open_with(&env, options(rule));
        fill(db.default_keyspace(), &[head]);
        assert_eq!(db.default_keyspace().options().prefix_filter, rule);
        db.close().unwrap();
    };
    add(None, "bbb");
    add(Some(RULES[0]), "ccc");
    add(Some(RULES[1]), "ddd");
    add(Some(PrefixRule::First(2)), "eee");
    add(Some(PrefixRule::First(9)), "fff");
    for rule in [None, Some(RULES[0]), Some(RULES[1]), Some(PrefixRule::First(1))] {
        let db = open_with(&env, options(rule));
        let keyspace = db.default_keyspace();
        for head in ["bbb", "ccc", "ddd", "eee", "fff"] {
            assert_eq!(keys(keyspace.prefix(format!("{head}/"))).len(), 30, "{rule:?} {head}");
        }
        // Those of the first and the last rule say nothing of four bytes.
        assert_eq!(excluded(keyspace, "bbb/"), (3, 2));
        assert_eq!(excluded(keyspace, "ddd/"), (2, 3));
        db.close().unwrap();
    }
    let db = open_with(&env, options(Some(RULES[0])));
    db.compact::<&[u8]>(..).unwrap();
    assert_eq!(excluded(db.default_keyspace(), "bbc/"), (1, 0), "compaction writes them anew");
}

/// The tombstone lies in the run that is left out, over keys in the run below.
#[test]
fn range_tombstones_of_a_table_that_is_left_out_count() {
    let db = open_with(&Env::memory(1), keyspace_options(Some(RULES[0])));
    let keyspace = db.default_keyspace();
    fill(keyspace, &["ccc"]);
    keyspace.put("bbb/0", "v").unwrap();
    keyspace.delete_range("ccc/03".."ccc/28").unwrap();
    keyspace.flush().unwrap();
    assert_eq!(excluded(keyspace, "ccc/"), (1, 1));
    let left = ["ccc/00", "ccc/01", "ccc/02", "ccc/28", "ccc/29"];
    assert_eq!(keys(keyspace.prefix("ccc/")), left);
    assert_eq!(keys(keyspace.prefix("ccc/").rev()), left.into_iter().rev().collect::<Vec<_>>());
    // One that holds nothing else.
    keyspace.delete_range("ccc/".."ccc/29").unwrap();
    keyspace.flush().unwrap();
    assert_eq!(excluded(keyspace, "ccc/"), (2, 1));
    assert_eq!(keys(keyspace.prefix("ccc/")), ["ccc/29"]);
}

#[test]
fn operands_and_their_values_are_found_in_whichever_run_they_are() {
    let merge_operator = Some(Merge::new(AddU64));
    let options = KeyspaceOptions { merge_operator, ..keyspace_options(Some(RULES[1])) };
    let db = open_with(&Env::memory(1), options);
    let keyspace = db.default_keyspace();
    keyspace.put("n/1", 40_u64.to_le_bytes()).unwrap();
    fill(keyspace, &["bbb"]);
    fill(keyspace, &["ccc"]);
    keyspace.merge("n/1", 2_u64.to_le_bytes()).unwrap();
    fill(keyspace, &["ddd"]);
    assert_eq!(excluded(keyspace, "n/"), (1, 2));
    let entries: Vec<_> = keyspace.prefix("n/").map(Result::unwrap).collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].1, 42_u64.to_le_bytes());
}

#[test]
fn bulk_loads_and_tables_from_outside_have_prefixes() {
    let env = Env::memory(1);
    let db = open_with(&env, keyspace_options(Some(RULES[0])));
    let keyspace = db.default_keyspace();
    let mut load = db.bulk_loader(keyspace).unwrap();
    for key in ["aaa/0", "zzz/0"] {
        load.put(key, "v").unwrap();
    }
    load.finish().unwrap();
    assert_eq!(excluded(keyspace, "bbb/"), (1, 0));
    let path = Path::new("outside");
    let prefix_filter = Some(RULES[1]);
    let options = TableWriterOptions { prefix_filter, ..TableWriterOptions::default() };
    let mut table = TableWriter::create_in(&env, path, options).unwrap();
    for key in ["aaa/1", "ccc/0", "zzz/1"] {
        table.put(key, "v").unwrap();
    }
    table.finish().unwrap();
    db.ingest(keyspace, &[path], IngestOptions::default()).unwrap();
    assert_eq!(excluded(keyspace, "bbb/"), (2, 0));
    assert_eq!(excluded(keyspace, "ccc/"), (1, 1));
    assert_eq!(keys(keyspace.prefix("ccc/")), ["ccc/0"]);
    let options = TableWriterOptions {
        prefix_filter: Some(PrefixRule::First(0)),
        ..TableWriterOptions::default()
    };
    let error = TableWriter::create_in(&env, Path::new("none"), options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let what = "prefix_filter is first:0, and must take at least one byte";
    assert!(error.to_string().contains(what), "{error}");
}

/// Rules go by keys as the order writes them: complemented, in this one.
#[test]
fn keys_in_reverse_order_have_the_prefixes_of_their_encodings() {
    for rule in [PrefixRule::First(4), PrefixRule::Through(!b'/')] {
        let db = Db::in_memory().unwrap();
        let order = Order::reverse_bytewise();
        let options = KeyspaceOptions { order, ..keyspace_options(Some(rule)) };
        let keyspace = db.keyspace("reverse", options).unwrap();
        fill(&keyspace, &["bbb", "ccc", "ddd"]);
        let before = db.stats().counters.prefix_filters_excluded;
        let backwards: Vec<_> = (0..30).rev().map(|number| format!("ccc/{number:02}")).collect();
        assert_eq!(keys(keyspace.prefix("ccc/")), backwards);
        assert_eq!(db.stats().counters.prefix_filters_excluded, before + 2, "{rule}");
    }
}

/// A damaged filter excludes nothing; a damaged index is an error once it is needed.
#[test]
fn a_damaged_filter_makes_no_scan_wrong() {
    for seed in 0..40 {
        let env = Env::memory(seed);
        let db = open_with(&env, keyspace_options(Some(RULES[0])));
        fill(db.default_keyspace(), &["bbb"]);
        db.close().unwrap();
        let entries = env.fs.list(Path::new(DIR)).unwrap();
        let table = entries.iter().find(|entry| entry.name.ends_with(".table")).unwrap();
        let path = Path::new(DIR).join(&table.name);
        let file = env.fs.open_for_write(&path).unwrap();
        let len = file.len().unwrap();
        let at = len / 2 + seed * len / 100;
        let mut byte = [0];
        file.read_exact_at(at, &mut byte).unwrap();
        file.write_all_at(at, &[byte[0] ^ 1]).unwrap();
        let Ok(db) = Db::builder(DIR).env(env).open() else { continue };
        for head in ["aaa", "bbb", "ccc"] {
            let scan = db.prefix(format!("{head}/"));
            let found: esker::Result<Vec<_>> =
                scan.map(|entry| entry.map(|(key, _)| key)).collect();
            let expected = [1, 30, 0][usize::from(head.as_bytes()[0] - b'a')];
            match found {
                Ok(keys) => assert_eq!(keys.len(), expected, "{seed} {head}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{error}"),
            }
        }
    }
}

/// Keys with few prefixes and ranges of all kinds, against a map; the rule changes with every open.
#[test]
fn ranges_of_all_kinds_agree_with_a_map_under_every_rule() {
    for_each_seed("prefixes", 12, |seed| {
        let mut rng = Rng::new(seed);
        let env = Env::memory(seed);
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let some_key = |rng: &mut Rng| -> Vec<u8> {
            let len = rng.index(5);
            (0..len).map(|_| *rng.pick(b"ab/\xff")).collect()
        };
        for _ in 0..6 {
            let rules = [None, Some(PrefixRule::First(1)), Some(PrefixRule::First(2))];
            let rule = *rng
                .pick(&[&rules[..], &[Some(RULES[1]), Some(PrefixRule::Through(255))]].concat());
            let db = open_with(&env, keyspace_options(rule));
            for _ in 0..4 {
                for _ in 0..rng.below(6) {
                    let key = some_key(&mut rng);
                    if rng.one_in(5) {
                        let end = [&key[..], b"a"].concat();
                        db.delete_range(key.clone()..end.clone()).unwrap();
                        let gone = model.range(key..end).map(|(key, _)| key.clone());
                        gone.collect::<Vec<_>>().iter().for_each(|key| drop(model.remove(key)));
                    } else {
                        let value = rng.bytes(4);
                        db.put(&key, &value).unwrap();
                        model.insert(key, value);
                    }
                }
                db.flush().unwrap();
            }
            for _ in 0..300 {
                let (start, end) = (some_key(&mut rng), some_key(&mut rng));
                let bounds = match rng.below(5) {
                    0 => (Bound::Included(start.clone()), Bound::Included(end)),
                    1 => (Bound::Excluded(start.clone()), Bound::Excluded(end)),
                    2 => (Bound::Included(start.clone()), Bound::Unbounded),
                    3 => {
                        let end = [&start[..], b"\xff"].concat();
                        (Bound::Included(start.clone()), Bound::Excluded(end))
                    }
                    _ => (Bound::Included(start.clone()), Bound::Excluded(end)),
                };
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| std::ops::RangeBounds::contains(&bounds, *key))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                let own = |entry: esker::Result<(esker::Key, esker::Value)>| {
                    let (key, value) = entry.unwrap();
                    (key.to_vec(), value.to_vec())
                };
                let mut found: Vec<_> = db.scan(bounds.clone()).map(own).collect();
                assert_eq!(found, expected, "{rule:?} {bounds:?}");
                found = db.scan(bounds.clone()).rev().map(own).collect();
                found.reverse();
                assert_eq!(found, expected, "{rule:?} {bounds:?}, backwards");
                let expected = model.iter().filter(|(key, _)| key.starts_with(&start)).count();
                assert_eq!(db.prefix(&start).count(), expected, "{rule:?} {start:?}");
            }
            db.close().unwrap();
        }
    });
}

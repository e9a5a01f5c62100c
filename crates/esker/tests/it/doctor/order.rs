//! The order of runs: tables are put where no engine puts them, and the doctor must tell those that
//! stand right from those that do not, and set the latter right.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use esker::doctor::{RepairOptions, RepairReport, VerifyReport};
use esker::env::Env;
use esker::{Db, Options};
use esker_base::{
    EntryKind, FileId, Fragments, InternalKey, KeyspaceId, ManifestId, OwnerId, RangeTombstone,
    SeqNo, TableId,
};
use esker_table::{Compression, TableBuilder, TableIdentity, TableOptions};
use esker_tree::{Manifest, RunId, TablePlace};

use super::sample::{DIR, Files};
use crate::random::{Rng, for_each_seed};
use crate::shrink::run_shrinking;

/// Keys with the sequence numbers of their entries, and range tombstones: start, end and number.
#[derive(Clone, Default, Debug)]
struct Table {
    entries: BTreeSet<(Vec<u8>, std::cmp::Reverse<u64>)>,
    ranges: Vec<(Vec<u8>, Vec<u8>, u64)>,
}

impl Table {
    fn of(entries: &[(&str, u64)], ranges: &[(&str, &str, u64)]) -> Self {
        let entries = entries.iter().map(|(key, seqno)| {
            let key = key.as_bytes().to_vec();
            (key, std::cmp::Reverse(*seqno))
        });
        let ranges = ranges.iter().map(|(start, end, seqno)| {
            let (start, end) = (start.as_bytes().to_vec(), end.as_bytes().to_vec());
            (start, end, *seqno)
        });
        Self { entries: entries.collect(), ranges: ranges.collect() }
    }
}

fn open(env: &Env) -> Db {
    let options = Options { background_threads: 0, ..Options::default() };
    Db::builder(DIR).env(env.clone()).options(options).open().unwrap()
}

/// A closed database of these tables, each a run of its own, newest first; the last one alone in
/// level 1.
fn database(tables: &[Table]) -> Env {
    database_of(tables, |place| usize::from(place + 1 == tables.len()))
}

/// The same, with the table of each place in the level of it.
fn database_of(tables: &[Table], level_of: impl Fn(usize) -> usize) -> Env {
    let env = Env::memory(1);
    open(&env).close().unwrap();
    let dir = Path::new(DIR);
    let mut catalog = Manifest::recover(&*env.fs, dir).unwrap().unwrap().catalog;
    let mut counter = catalog.next_file_counter;
    let mut mint = || {
        counter += 1;
        FileId { owner: OwnerId::FIRST, counter }
    };
    let mut seqno_max = SeqNo::ZERO;
    for (place, table) in tables.iter().enumerate().rev() {
        let level = level_of(place);
        let id = TableId(mint());
        let file = env.fs.create(&dir.join(id.file_name())).unwrap();
        let identity = TableIdentity {
            database: catalog.database,
            id,
            keyspace: KeyspaceId::DEFAULT,
            level: level as u8,
        };
        let options = TableOptions { compression: Compression::None, ..TableOptions::default() };
        let mut builder = TableBuilder::new(file, identity, options);
        for (key, seqno) in &table.entries {
            let seqno = SeqNo::new(seqno.0).unwrap();
            let value = format!("{:08}", seqno.get());
            builder.add(InternalKey::new(key, seqno, EntryKind::Put), value.as_bytes()).unwrap();
        }
        let ranges = table.ranges.iter().map(|(start, end, seqno)| {
            let seqno = SeqNo::new(*seqno).unwrap();
            RangeTombstone { start: start.clone(), end: end.clone(), seqno }
        });
        builder.set_ranges(Fragments::of(ranges.collect()));
        let properties = Arc::new(builder.finish().unwrap());
        seqno_max = seqno_max.max(properties.seqno_max);
        let run = RunId(mint().counter);
        let state = catalog.keyspaces.get_mut(&KeyspaceId::DEFAULT).unwrap();
        Arc::make_mut(state).tables.insert(id, TablePlace { level, run, properties });
    }
    catalog.last_seqno = seqno_max;
    let id = ManifestId(mint());
    catalog.next_file_counter = mint().counter;
    drop(Manifest::create(Arc::clone(&env.fs), dir, id, catalog).unwrap());
    env
}

/// The tables, by their place, with an entry that the doctor should name.
fn misplaced(tables: &[Table]) -> BTreeSet<usize> {
    let mut wrong = BTreeSet::new();
    for (place, table) in tables.iter().enumerate() {
        for (key, seqno) in &table.entries {
            for (other_place, other) in tables.iter().enumerate() {
                let is_below = place < other_place;
                // A newer entry of the key stands behind, or the same in front.
                let is_hidden = |(k, s): &(Vec<u8>, std::cmp::Reverse<u64>)| {
                    let is_same = other_place < place && seqno.0 == s.0;
                    k == key && ((is_below && seqno.0 < s.0) || is_same)
                };
                let covers = |(start, end, _): &&(Vec<u8>, Vec<u8>, u64)| start <= key && key < end;
                let is_wrong = |(_, _, s): &(Vec<u8>, Vec<u8>, u64)| match is_below {
                    true => seqno.0 < *s,
                    false => other_place != place && *s < seqno.0,
                };
                if other.entries.iter().any(is_hidden)
                    || other.ranges.iter().filter(covers).any(is_wrong)
                {
                    wrong.insert(place);
                }
            }
        }
    }
    wrong
}

/// What reads should find: of each key that no range tombstone hides its newest entry.
fn contents(tables: &[Table]) -> BTreeMap<Vec<u8>, String> {
    let mut newest = BTreeMap::new();
    for (key, seqno) in tables.iter().flat_map(|table| &table.entries) {
        let newest: &mut u64 = newest.entry(key.clone()).or_default();
        *newest = (*newest).max(seqno.0);
    }
    let ranges = || tables.iter().flat_map(|table| &table.ranges);
    let is_hidden = |key: &Vec<u8>, seqno: u64| {
        ranges().any(|(start, end, over)| start <= key && key < end && seqno < *over)
    };
    let seen = newest.into_iter().filter(|(key, seqno)| !is_hidden(key, *seqno));
    seen.map(|(key, seqno)| (key, format!("{seqno:08}"))).collect()
}

fn assert_contents(env: &Env, tables: &[Table], when: &str) {
    let found: BTreeMap<Vec<u8>, String> = open(env)
        .iter()
        .map(|entry| {
            let (key, value) = entry.unwrap();
            (key.to_vec(), value.escape_ascii().to_string())
        })
        .collect();
    assert_eq!(found, contents(tables), "{when}");
}

/// Checks that the doctor names the tables at `expected` and no others, and what it makes of them.
fn check(tables: &[Table], expected: &BTreeSet<usize>) -> VerifyReport {
    let env = database(tables);
    let files = Files(&env);
    let mut names = files.ending_with(".table");
    names.reverse();
    let report = files.verify();
    let found: BTreeSet<&str> = report.findings.iter().map(|it| it.file.as_str()).collect();
    let expected: BTreeSet<&str> = expected.iter().map(|place| names[*place].as_str()).collect();
    assert_eq!(found, expected, "{tables:?}: {report}");
    assert_eq!(report.findings.len(), expected.len(), "each once: {report}");
    if report.is_sound() {
        assert_contents(&env, tables, "sound");
        return report;
    }
    let before = files.everything();
    let plan = RepairOptions { dry_run: true, ..RepairOptions::default() };
    let planned = files.doctor().repair(&plan, &mut |_| {}).unwrap();
    assert!(before == files.everything(), "a dry run changes nothing: {tables:?}");
    let done = files.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(RepairReport { is_dry_run: false, ..planned }, done, "{tables:?}");
    assert!(done.lost.is_empty(), "{tables:?}: {done}");
    let merged = done.rebuilt.iter().find(|it| it.from.starts_with("all tables of default"));
    let entries: BTreeSet<_> = tables.iter().flat_map(|table| &table.entries).collect();
    assert_eq!(merged.unwrap().entries, entries.len() as u64, "{done}");
    assert_eq!(done.kept, [""; 0], "none is there as it was: {done}");
    assert!(files.verify().is_sound(), "{tables:?}: {}", files.verify());
    assert_contents(&env, tables, "repaired");
    report
}

#[test]
fn runs_are_told_to_be_in_the_wrong_order_if_they_are_and_only_then() {
    let right: [&[Table]; 4] = [
        // The numbers of the tables do not tell; no key is in both.
        &[Table::of(&[("a", 1), ("c", 2)], &[]), Table::of(&[("b", 3), ("d", 4)], &[])],
        &[
            Table::of(&[("a", 9), ("c", 7), ("c", 5), ("e", 1)], &[]),
            Table::of(&[("b", 8), ("c", 4), ("c", 3), ("d", 2)], &[]),
        ],
        &[
            Table::of(&[("z", 1)], &[("a", "c", 5)]),
            Table::of(&[("b", 3), ("b", 2), ("c", 9), ("y", 4)], &[]),
        ],
        &[
            Table::of(&[("b", 5), ("z", 1)], &[]),
            Table::of(&[("b", 2), ("y", 4)], &[("a", "c", 3)]),
        ],
    ];
    for tables in right {
        check(tables, &BTreeSet::new());
    }
    let wrong: [(&[Table], usize, &str); 4] = [
        (
            &[Table::of(&[("k", 1)], &[]), Table::of(&[("k", 2)], &[])],
            0,
            "the table holds 1 of key \"k\", not newer than an entry in a run behind it",
        ),
        (
            &[Table::of(&[("a", 3), ("k", 2)], &[]), Table::of(&[("k", 2), ("z", 9)], &[])],
            1,
            "the table holds 2 of key \"k\", not newer than an entry in a run behind it",
        ),
        (
            &[Table::of(&[("z", 9)], &[("a", "c", 2)]), Table::of(&[("b", 3)], &[])],
            1,
            "the table holds 3 of key \"b\", on the wrong side of a range tombstone of 2",
        ),
        (
            &[Table::of(&[("b", 3)], &[]), Table::of(&[("y", 1)], &[("a", "c", 5)])],
            0,
            "the table holds 3 of key \"b\", on the wrong side of a range tombstone of 5",
        ),
    ];
    for (tables, place, what) in wrong {
        let report = check(tables, &BTreeSet::from([place]));
        assert_eq!(report.findings[0].what, what);
    }
}

/// A table that no manifest knows goes into a run of its level only if it overlaps none of the tables
/// there, however many there are.
#[test]
fn runs_that_no_manifest_knows_are_made_of_tables_that_do_not_overlap() {
    let table = |keys: &str, seqno: u64| {
        let entries = keys.chars().map(|key| (vec![key as u8], std::cmp::Reverse(seqno)));
        Table { entries: entries.collect(), ranges: Vec::new() }
    };
    for tables in [
        // In the order of their ids, which is from the last to the first.
        [table("bd", 9), table("eg", 2), table("ac", 1)],
        [table("df", 9), table("eg", 2), table("ac", 1)],
        [table("bf", 9), table("eg", 2), table("ac", 1)],
        [table("hi", 9), table("eg", 2), table("ac", 1)],
        [table("dd", 9), table("eg", 2), table("ac", 1)],
    ] {
        let env = database_of(&tables, |_| 1);
        let files = Files(&env);
        files.manifests().iter().for_each(|name| files.remove(name));
        let doctor = files.doctor().log_dir(DIR);
        let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert_eq!(report.kept.len(), 3, "{report}");
        assert!(files.verify().is_sound(), "{report}\n{}", files.verify());
        assert_contents(&env, &tables, "repaired");
    }
}

/// Only the keyspace that is out of order is merged.
#[test]
fn tables_of_other_keyspaces_are_kept_as_they_are() {
    let tables = [Table::of(&[("k", 1)], &[]), Table::of(&[("k", 2)], &[])];
    let env = database(&tables);
    let before = Files(&env).ending_with(".table");
    let db = open(&env);
    let other = db.keyspace("other", esker::KeyspaceOptions::default()).unwrap();
    other.put("k", "v").unwrap();
    other.flush().unwrap();
    drop((other, db));
    let mut others = Files(&env).ending_with(".table");
    others.retain(|name| !before.contains(name));
    assert_eq!(others.len(), 1);
    let report = Files(&env).doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
    assert_eq!(report.kept, others, "{report}");
    assert!(Files(&env).verify().is_sound(), "{report}");
}

/// So many tables of `writes`, each with its place, without those that have no entries.
fn tables_of(count: usize, writes: &[(usize, Table)]) -> Vec<Table> {
    let mut tables = vec![Table::default(); count];
    for (place, write) in writes {
        tables[*place].entries.extend(write.entries.iter().cloned());
        tables[*place].ranges.extend(write.ranges.iter().cloned());
    }
    tables.retain(|table| !table.entries.is_empty());
    tables
}

/// The doctor against a comparison of everything with everything.
#[test]
fn whatever_the_runs_hold_their_order_is_told_and_set_right() {
    let (right, wrong) = (Cell::new(0), Cell::new(0));
    for_each_seed("whatever_the_runs_hold_their_order_is_told_and_set_right", 300, |seed| {
        let mut rng = Rng::new(seed);
        let count = 2 + rng.index(2);
        // Of each the place of its table.
        let mut writes = Vec::new();
        // Each number is given once, mostly to a run that may have it.
        let is_mixed = rng.one_in(2);
        for seqno in 1..=4 + rng.below(8) {
            let key = |rng: &mut Rng| vec![b'a' + rng.below(6) as u8];
            let place =
                if is_mixed { rng.index(count) } else { (12 - seqno as usize) * count / 12 };
            if rng.one_in(4) {
                let (start, end) = (key(&mut rng), key(&mut rng));
                if start < end {
                    let ranges = vec![(start, end, seqno)];
                    writes.push((place, Table { ranges, ..Table::default() }));
                    continue;
                }
            }
            let entries = BTreeSet::from([(key(&mut rng), std::cmp::Reverse(seqno))]);
            writes.push((place, Table { entries, ..Table::default() }));
        }
        let show = |write: &(usize, Table)| format!("{write:?}");
        run_shrinking(&writes, show, |writes| {
            let tables = tables_of(count, writes);
            let expected = misplaced(&tables);
            let count = if expected.is_empty() { &right } else { &wrong };
            count.set(count.get() + 1);
            check(&tables, &expected);
        });
    });
    assert!(20 < right.get() && 20 < wrong.get(), "{right:?} right, {wrong:?} wrong");
}

/// Without a manifest nothing tells which entries of the log are in tables: all of them are, and again in
/// those that are made of the log. A dry run said that tables stay which the repair merges.
#[test]
fn a_dry_run_merges_what_the_repair_merges() {
    let env = Env::memory(1);
    let keyspace = esker::KeyspaceOptions { blob_threshold_bytes: Some(100), ..Default::default() };
    let options = Options { background_threads: 0, ..Options::default() };
    let builder = Db::builder(DIR).env(env.clone()).options(options);
    let db = builder.default_keyspace(keyspace).open().unwrap();
    for round in 0..3_usize {
        (0..100).for_each(|n| db.put([n], vec![n; 40 * (round + 1)]).unwrap());
        db.delete_range([round as u8]..[20]).unwrap();
        db.flush().unwrap();
    }
    let ttl = std::time::Duration::from_secs(1 << 30);
    (0..50).for_each(|n| db.put_with_ttl([n], [b'x'; 20], ttl).unwrap());
    db.close().unwrap();
    let files = Files(&env);
    files.manifests().iter().for_each(|name| files.remove(name));
    // One of the tables is made anew besides.
    let table = files.ending_with(".table").remove(0);
    files.flip(&table, files.read(&table).len() - 1);
    let before = files.everything();
    let repair = |dry_run| {
        let options = RepairOptions { dry_run, ..RepairOptions::default() };
        files.doctor().log_dir(DIR).repair(&options, &mut |_| {}).unwrap()
    };
    let planned = repair(true);
    assert!(before == files.everything(), "{planned}");
    let done = repair(false);
    assert_eq!(RepairReport { is_dry_run: false, ..planned }, done);
    let from = "all tables of default, merged by sequence number";
    assert!(done.rebuilt.iter().any(|it| it.from == from), "{done}");
    assert!(files.verify().is_sound(), "{done}");
}

#[test]
fn the_merge_that_compares_runs_says_how_far_it_is() {
    let entries = |first: u64| -> Table {
        let numbers = (first..20_000).step_by(2);
        let entries = numbers.map(|n| (format!("{n:08}").into_bytes(), std::cmp::Reverse(n + 1)));
        Table { entries: entries.collect(), ranges: Vec::new() }
    };
    let env = database(&[entries(0), entries(1)]);
    let mut told = Vec::new();
    let doctor = Files(&env).doctor();
    let report = doctor.verify(&mut |progress| {
        if progress.subject == "order of entries in default" {
            told.push((progress.bytes_done, progress.bytes_total));
        }
    });
    assert!(report.unwrap().is_sound());
    let [(start, _), (first, _), (second, _), (end, total)] = told[..] else { panic!("{told:?}") };
    // Keys and values of eight bytes each, and a report for 8,192 entries.
    assert_eq!((first - start, second - first), (8192 * 16, 8192 * 16));
    assert!(second < end && end == total, "{told:?}");
}

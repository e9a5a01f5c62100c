//! Versions against catalogs: the same edits make the same trees, and searching a version finds
//! what looking at every table finds.

use std::path::PathBuf;

use esker_base::{DatabaseId, FileId, KeyRange, OwnerId};
use esker_cache::{BlockCache, Budget};
use esker_env::Env;
use esker_table::TableContext;

use super::*;
use crate::catalog::Catalog;
use crate::test_random::TestRandom;
use crate::testing::{parse_edit, table};

const DATABASE: DatabaseId = DatabaseId([7; 16]);

fn context() -> Arc<TableContext> {
    let env = Env::memory(0);
    let budget = Budget::new(1 << 20);
    Arc::new(TableContext {
        fs: env.fs,
        dir: PathBuf::new(),
        database: DATABASE,
        cache: BlockCache::new(Arc::clone(&budget), None),
        budget,
        clock: env.clock,
        blobs: esker_table::BlobFiles::default(),
        owned: esker_table::Ownership::default(),
    })
}

fn new_catalog() -> Catalog {
    let mut catalog = Catalog::new(DATABASE);
    let created = "keyspace-created 0 \"default\" order \"bytewise\" options -\n\
                   keyspace-created 1 \"other\" order \"bytewise\" options -";
    catalog.apply(&parse_edit(created)).unwrap();
    catalog
}

/// An edit that may or may not fit: tables come, go and move, in this keyspace and another.
fn random_edit(random: &mut TestRandom, known: &[TableId], next: &mut u64) -> VersionEdit {
    let mut records = Vec::new();
    let place = |random: &mut TestRandom| {
        let level = random.below(LEVEL_COUNT_MAX as u64) as usize;
        (level, RunId(1 + random.below(3)))
    };
    for _ in 0..=random.below(3) {
        let keyspace = KeyspaceId(u32::from(random.one_in(8)));
        let picked = known.get(random.below(known.len() as u64) as usize).copied();
        match (random.below(4), picked) {
            (0, Some(table)) => records.push(EditRecord::TableRemoved { keyspace, table }),
            (1, Some(table)) => {
                let (level, run) = place(random);
                records.push(EditRecord::TableMoved { keyspace, table, level, run });
            }
            _ => {
                let mut keys = [random.key(3, 5), random.key(3, 5)];
                keys.sort();
                let id = TableId(FileId { owner: OwnerId::FIRST, counter: *next });
                *next += 1;
                let mut properties = table(id, &keys[0], &keys[1], 1 + random.below(100));
                properties.keyspace = keyspace;
                let (level, run) = place(random);
                let properties = Arc::new(properties);
                records.push(EditRecord::TableAdded { keyspace, level, run, properties });
            }
        }
    }
    VersionEdit { records }
}

fn check_search(version: &Version, random: &mut TestRandom) {
    for _ in 0..20 {
        let key = random.key(4, 5);
        let holds = |t: &Arc<Table>| {
            let p = t.properties();
            (p.smallest_key.as_slice()..=p.largest_key.as_slice()).contains(&key.as_slice())
        };
        let expected: Vec<TableId> =
            version.tables().filter(|t| holds(t)).map(|t| t.properties().id).collect();
        let found: Vec<TableId> =
            version.candidates(&key).map(|(_, t)| t.properties().id).collect();
        assert_eq!(found, expected, "{key:?}\n{}", version.shape());
        let mut ends = [key, random.key(4, 5)];
        ends.sort();
        let range = KeyRange::from_bounds(&(ends[0].as_slice()..ends[1].as_slice()));
        for run in version.levels().iter().flat_map(Level::runs) {
            let is_inside = |t: &&Arc<Table>| {
                !range.is_empty()
                    && range.overlaps(&t.properties().smallest_key, &t.properties().largest_key)
            };
            let expected = run.tables().iter().filter(is_inside).count();
            assert_eq!(run.overlapping(&range).len(), expected, "{range:?}\n{}", version.shape());
        }
    }
}

#[test]
fn versions_follow_catalogs_and_share_what_does_not_change() {
    let context = context();
    let (mut applied, mut refused) = (0, 0);
    for seed in 0..30 {
        let mut random = TestRandom::new(seed);
        let mut catalog = new_catalog();
        let mut version = Version::new(KeyspaceId::DEFAULT);
        let mut next = 10;
        for _ in 0..80 {
            let known: Vec<TableId> =
                catalog.keyspaces[&KeyspaceId::DEFAULT].tables.keys().copied().collect();
            let edit = random_edit(&mut random, &known, &mut next);
            if catalog.apply(&edit).is_err() {
                refused += 1;
                continue;
            }
            applied += 1;
            let make = |p| Arc::new(Table::new(Arc::clone(&context), p));
            let after = version.apply(&edit, make).unwrap();
            let expected = catalog.keyspaces[&KeyspaceId::DEFAULT].shape();
            assert_eq!(after.shape().to_string(), expected.to_string(), "{edit}");
            for table in version.tables().filter(|t| known.contains(&t.properties().id)) {
                let same = |t: &Arc<Table>| t.properties().id == table.properties().id;
                let shared = after.tables().find(|t| same(t));
                assert!(shared.is_none_or(|shared| Arc::ptr_eq(shared, table)));
            }
            let opened =
                Version::open(KeyspaceId::DEFAULT, &catalog.keyspaces[&KeyspaceId::DEFAULT], make);
            assert_eq!(opened.unwrap().shape().to_string(), expected.to_string());
            assert_eq!(after.bytes(), expected.bytes());
            check_search(&after, &mut random);
            version = after;
        }
    }
    assert!(applied > 300 && refused > 300, "{applied} applied, {refused} refused");
}

#[test]
fn edits_that_do_not_fit_are_refused() {
    let context = context();
    let make = |p| Arc::new(Table::new(Arc::clone(&context), p));
    let version = Version::new(KeyspaceId::DEFAULT);
    let version = version.apply(&parse_edit("table-added 0 L1 #5 7[b..d 1MiB]"), make).unwrap();
    for (edit, what) in [
        ("table-added 0 L1 #5 8[d..e 1MiB]", "tables 1-00000007 and 1-00000008 overlap in run #5"),
        ("table-removed 0 9", "table 1-00000009 leaves its place but has none"),
        ("table-moved 0 9 L1 #5", "table 1-00000009 leaves its place but has none"),
        ("table-moved 0 7 L7 #5", "there is no level 7"),
    ] {
        let refused = version.apply(&parse_edit(edit), make).unwrap_err();
        assert_eq!(refused.to_string(), what);
    }
}

#[test]
fn runs_that_an_edit_leaves_alone_are_the_same_runs() {
    let context = context();
    let make = |p| Arc::new(Table::new(Arc::clone(&context), p));
    let edit = parse_edit(
        "table-added 0 L1 #5 7[b..d 1MiB]\ntable-added 0 L0 #9 9[a..z 1MiB]\n\
         table-added 1 L0 #9 10[a..z 1MiB]",
    );
    let before = Version::new(KeyspaceId::DEFAULT).apply(&edit, make).unwrap();
    assert_eq!(before.table_count(), 2);
    let after = before.apply(&parse_edit("table-removed 0 9"), make).unwrap();
    assert!(Arc::ptr_eq(&before.levels()[1].runs()[0], &after.levels()[1].runs()[0]));
    assert!(after.levels()[0].runs().is_empty());
    let dropped = after.apply(&parse_edit("keyspace-dropped 0"), make).unwrap();
    assert_eq!(dropped.table_count(), 0);
}

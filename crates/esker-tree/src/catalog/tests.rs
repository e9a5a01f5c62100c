//! Edits in a row against the same edits one by one: the same catalogs, the same refusals.

use esker_base::FileId;

use super::*;
use crate::test_random::TestRandom;
use crate::testing::{parse_edit, table};

const KEYSPACES: u32 = 3;

fn new_catalog() -> Catalog {
    Catalog::new(DatabaseId([7; 16]))
}

fn table_id(counter: u64) -> TableId {
    TableId(FileId { owner: OwnerId::FIRST, counter })
}

/// An edit that mostly fits: tables come, also again, go and move, and keyspaces go.
fn random_edit(random: &mut TestRandom, catalog: &Catalog, next: &mut u64) -> VersionEdit {
    let mut records = Vec::new();
    for _ in 0..=random.below(2) {
        let keyspace = KeyspaceId(random.below(u64::from(KEYSPACES)) as u32);
        let tables = catalog.keyspaces.get(&keyspace).map(|state| &state.tables);
        let count = tables.map_or(0, |tables| tables.len() as u64);
        let standing = tables.and_then(|t| t.keys().nth(random.below(count) as usize).copied());
        let any = table_id(1 + random.below(*next));
        let known = standing.filter(|_| !random.one_in(16)).unwrap_or(any);
        let (level, run) = (random.below(6) as usize, RunId(1 + random.below(4)));
        records.push(match random.below(16) {
            0..3 => EditRecord::TableRemoved { keyspace, table: known },
            3..6 => EditRecord::TableMoved { keyspace, table: known, level, run },
            6 if random.one_in(16) => EditRecord::KeyspaceDropped { keyspace },
            _ => {
                let id = if random.one_in(8) { any } else { table_id(*next) };
                *next += 1;
                let mut keys = [random.key(4, 9), random.key(4, 9)];
                keys.sort();
                let mut properties = table(id, &keys[0], &keys[1], 1);
                properties.keyspace = keyspace;
                let properties = Arc::new(properties);
                EditRecord::TableAdded { keyspace, level, run, properties }
            }
        });
    }
    VersionEdit { records }
}

#[test]
fn edits_in_a_row_are_taken_and_refused_as_each_alone() {
    let (mut taken, mut twice, mut overlapping) = (0, 0, 0);
    for seed in 0..200 {
        let mut random = TestRandom::new(seed);
        let mut alone = new_catalog();
        let mut fold = Fold::new(new_catalog());
        let created = (0..KEYSPACES)
            .map(|id| format!("keyspace-created {id} \"{id}\" order \"bytewise\" options -\n"));
        let created = parse_edit(&created.collect::<String>());
        alone.apply(&created).unwrap();
        fold.take_in(&created).unwrap();
        let mut next = 10;
        for _ in 0..60 {
            let edit = random_edit(&mut random, &alone, &mut next);
            let before = alone.clone();
            let expected = alone.apply(&edit).map_err(|error| error.to_string());
            let found = fold.take_in(&edit).map_err(|error| error.to_string());
            assert_eq!(found, expected, "seed {seed}\n{edit}");
            match expected {
                Ok(()) => taken += 1,
                Err(why) => {
                    assert_eq!(alone, before, "a refused edit changes nothing");
                    twice += usize::from(why.ends_with("is added twice"));
                    overlapping += usize::from(why.contains("overlap"));
                    // What is left of the fold is of no use.
                    fold = Fold::new(before);
                }
            }
        }
        assert_eq!(fold.into_catalog(), alone, "seed {seed}");
    }
    assert!(taken > 1000 && twice > 50 && overlapping > 500, "{taken} {twice} {overlapping}");
}

#[test]
fn edits_in_a_row_copy_no_keyspace() {
    let mut fold = Fold::new(new_catalog());
    fold.take_in(&parse_edit("keyspace-created 0 \"a\" order \"bytewise\" options -")).unwrap();
    let state = |fold: &Fold| Arc::as_ptr(&fold.catalog().keyspaces[&KeyspaceId::DEFAULT]);
    let first = state(&fold);
    for edit in ["table-added 0 L1 #4 3[a..m 1MiB]", "table-moved 0 3 L2 #5", "table-removed 0 3"] {
        fold.take_in(&parse_edit(edit)).unwrap();
        assert_eq!(state(&fold), first, "{edit}");
    }
}

//! Which tables of small trees are dropped.

use esker_base::{FileId, OwnerId};
use esker_table::{TableExpiry, TableExtras};

use super::*;
use crate::shape::{LEVEL_COUNT_MAX, LevelShape, RunShape, Timeline};
use crate::testing;

/// A table of these keys; `latest` is the time from which on it holds nothing.
fn table(counter: u64, first: &str, last: &str, latest: Option<u64>) -> Arc<TableProperties> {
    let expiry = Some(TableExpiry { earliest: 1, latest });
    let id = TableId(FileId { owner: OwnerId::FIRST, counter });
    let extras = TableExtras { expiry, ..TableExtras::default() };
    let table = testing::table(id, first.as_bytes(), last.as_bytes(), 1 << 20);
    Arc::new(TableProperties { extras, ..table })
}

/// A shape with one run in each of these levels.
fn shape(levels: Vec<(usize, Vec<Arc<TableProperties>>)>) -> Shape {
    let none = LevelShape { runs: Vec::new() };
    let timeline = Timeline::default();
    let mut shape = Shape { levels: vec![none; LEVEL_COUNT_MAX], timeline };
    for (level, tables) in levels {
        let id = RunId(100 + level as u64);
        shape.levels[level].runs.push(RunShape { id, tables });
    }
    shape
}

/// The counters of the tables that are dropped at `time`.
fn dropped(shape: &Shape, time: u64) -> Vec<u64> {
    let plan = drop_expired(shape, &Busy::new(), time);
    plan.iter().flat_map(Plan::tables).map(|id| id.0.counter).collect()
}

#[test]
fn tables_go_when_the_last_of_their_entries_expires() {
    let shape = shape(vec![
        (0, vec![table(1, "a", "f", Some(10)), table(2, "g", "m", Some(20))]),
        (3, vec![table(3, "n", "z", Some(15)), table(4, "zz", "zz", None)]),
    ]);
    assert_eq!(dropped(&shape, 9), [0; 0]);
    assert_eq!(dropped(&shape, 10), [1]);
    assert_eq!(dropped(&shape, 15), [1, 3]);
    assert_eq!(dropped(&shape, u64::MAX), [1, 2, 3]);
    let plan = drop_expired(&shape, &Busy::new(), 15).unwrap();
    assert!(plan.fits(&shape));
    assert_eq!(plan.to_string(), "expired: drop L0#100[1-00000001] L3#103[1-00000003], a..z, 2MiB");
}

#[test]
fn a_table_stays_while_it_hides_an_older_one_that_stays() {
    let newer = || table(1, "a", "f", Some(10));
    let hiding = shape(vec![(0, vec![newer()]), (2, vec![table(2, "f", "k", None)])]);
    assert_eq!(dropped(&hiding, 50), [0; 0]);
    let beside = shape(vec![(0, vec![newer()]), (2, vec![table(2, "g", "k", None)])]);
    assert_eq!(dropped(&beside, 50), [1]);
    let both = shape(vec![(0, vec![newer()]), (2, vec![table(2, "f", "k", Some(20))])]);
    assert_eq!(dropped(&both, 15), [0; 0], "what is older expires later");
    assert_eq!(dropped(&both, 20), [1, 2], "and both go together");
    let beneath =
        shape(vec![(0, vec![table(1, "a", "f", None)]), (2, vec![table(2, "a", "f", Some(5))])]);
    assert_eq!(dropped(&beneath, 5), [2], "what is newer does not matter");
}

#[test]
fn a_table_in_flight_stays_and_holds_what_hides_it() {
    let shape = shape(vec![
        (0, vec![table(1, "a", "f", Some(10))]),
        (2, vec![table(2, "f", "k", Some(10)), table(3, "l", "m", Some(10))]),
    ]);
    let mut busy = Busy::new();
    let mut running = drop_expired(&shape, &Busy::new(), 10).unwrap();
    running.inputs.retain(|input| input.level == 2);
    running.inputs[0].tables.truncate(1);
    busy.start(running);
    let plan = drop_expired(&shape, &busy, 10).unwrap();
    assert_eq!(plan.tables().map(|id| id.0.counter).collect::<Vec<_>>(), [3]);
}

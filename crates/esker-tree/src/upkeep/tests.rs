//! Single decisions as text.

use super::*;
use crate::policy::LeveledOptions;
use crate::shape::Bytes;
use crate::testing::{parse_shape, replay};

fn seconds(text: &str) -> Duration {
    Duration::from_secs(text.parse().unwrap())
}

fn upkeep() -> Upkeep {
    Upkeep {
        leveled: Leveled::new(LeveledOptions::default()),
        delete_deadline: None,
        rewrite_after: None,
        frees_space: false,
        uses_idle_time: false,
        spares_searches: false,
        joins_small_tables: false,
    }
}

/// Reads `deadline=100 rewrite=50 frees idle searches small`.
fn parse(words: &str) -> Upkeep {
    let mut parsed = upkeep();
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("deadline", text) => parsed.delete_deadline = Some(seconds(text)),
            ("rewrite", text) => parsed.rewrite_after = Some(seconds(text)),
            ("frees", "") => parsed.frees_space = true,
            ("idle", "") => parsed.uses_idle_time = true,
            ("searches", "") => parsed.spares_searches = true,
            ("small", "") => parsed.joins_small_tables = true,
            other => panic!("{other:?} is no word"),
        }
    }
    parsed
}

/// Commands: `upkeep [deadline=SECONDS] [rewrite=SECONDS] [frees] [idle] [searches] [small]`, `shape`, `pick
/// [now=SECONDS] [reader=SEQNO] [idle] [searches=COUNT]`, `due`, `reclaimable [PERCENT]`.
#[test]
fn upkeep_decides_as_written() {
    let (mut upkeep, mut shape) = (upkeep(), Shape::default());
    replay("policy/upkeep.txt", |command, lines| {
        let (command, rest) = command.split_once(' ').unwrap_or((command, ""));
        match command {
            "upkeep" => {
                upkeep = parse(rest);
                "ok".to_owned()
            }
            "shape" => {
                shape = parse_shape(lines);
                "ok".to_owned()
            }
            "reclaimable" => {
                let percent = rest.parse().unwrap_or(0);
                let oldest = oldest_delete(&shape).map_or(String::new(), |time| {
                    format!(", oldest delete at {}s", time.as_secs())
                });
                format!("{}{oldest}", Bytes(reclaimable_bytes(&shape, percent)))
            }
            "due" => upkeep.searches_due(&shape).map_or("never".to_owned(), |due| due.to_string()),
            "pick" => {
                let mut moment = Moment {
                    now: Duration::ZERO,
                    oldest_reader: SeqNo::MAX,
                    is_idle: false,
                    searches: 0,
                };
                for word in rest.split_whitespace() {
                    match word.split_once('=').unwrap_or((word, "")) {
                        ("now", text) => moment.now = seconds(text),
                        ("reader", text) => {
                            moment.oldest_reader = SeqNo::new(text.parse().unwrap()).unwrap();
                        }
                        ("idle", "") => moment.is_idle = true,
                        ("searches", text) => moment.searches = text.parse().unwrap(),
                        other => panic!("{other:?} is no word"),
                    }
                }
                let busy = Busy::new();
                let overdue = upkeep.pick_overdue(&shape, &busy, moment);
                let plan = overdue.or_else(|| upkeep.pick(&shape, &busy, moment));
                plan.map_or("none".to_owned(), |plan| plan.to_string())
            }
            other => panic!("{other:?} is no command"),
        }
    });
}

/// Carries every plan out on a tree of numbers, until nothing is due.
#[test]
fn deletes_reach_the_end_from_wherever_they_stand() {
    let mut upkeep = upkeep();
    upkeep.delete_deadline = Some(Duration::from_secs(10));
    let shape = parse_shape(
        "L0\n  #9: 9[a..k 1MiB tombstones=500 deleted=1]\nL3\n  #5: 5[b..c 1MiB] 6[j..z 1MiB]\nL6\n  \
         #2: 2[a..z 8MiB]\n",
    );
    let moment = Moment {
        now: Duration::from_secs(6),
        oldest_reader: SeqNo::MAX,
        is_idle: false,
        searches: 0,
    };
    let plan = upkeep.pick_overdue(&shape, &Busy::new(), moment).unwrap();
    assert_eq!((plan.reason, plan.target_level), (PlanReason::Deadline, 3));
    assert!(!plan.is_trivial_move && plan.table_count() == 3);
}

//! Where a table that is newer than everything in a tree may join it: as deep as it fits.
//!
//! Pure: looks only at the shape and the plans in flight. A reader takes the first entry that it
//! finds, from the shallowest level on. So nothing that overlaps the table may be in its level or
//! above, now or after a plan in flight has put its outputs there. What overlaps it further down is
//! older and stays hidden.

use crate::plan::Busy;
use crate::shape::{LEVEL_COUNT_MAX, RunId, Shape};

/// A place for a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// The level that it joins.
    pub level: usize,
    /// The run that it joins; `None` for a run of its own, newer than the others of the level.
    pub run: Option<RunId>,
}

impl Placement {
    /// The deepest place of `shape`, no deeper than `level_max`, for a table with the keys
    /// `first..=last` that is newer than everything in the tree.
    #[must_use]
    pub fn deepest(
        shape: &Shape,
        busy: &Busy,
        level_max: usize,
        first: &[u8],
        last: &[u8],
    ) -> Self {
        let is_free = |level: usize| {
            let runs = &shape.levels[level].runs;
            !busy.writes_into(level, first, last)
                && runs.iter().all(|run| run.overlapping(first, last).is_empty())
        };
        let fits = (0..LEVEL_COUNT_MAX.min(level_max + 1)).take_while(|level| is_free(*level));
        // Level 0 always accepts another run.
        let own = Self { level: 0, run: None };
        let places = fits.filter(|level| *level > 0).filter_map(|level| {
            let run = Self::joined_run(shape, busy, level).ok()?;
            Some(Self { level, run })
        });
        places.last().unwrap_or(own)
    }

    /// The run of `level` that a table joins if it overlaps no table there; `Err` if a plan in
    /// flight is about to create one whose id is not known yet, so that there would be two.
    fn joined_run(shape: &Shape, busy: &Busy, level: usize) -> Result<Option<RunId>, ()> {
        if let Some(run) = shape.levels[level].runs.first() {
            return Ok(Some(run.id));
        }
        let mut makers = busy.plans().filter(|plan| plan.target_level == level && !plan.is_drop);
        match makers.next() {
            None => Ok(None),
            Some(plan) => plan.target_run.map(Some).ok_or(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, PlanReason};
    use crate::shape::RunShape;
    use crate::testing::parse_table;
    use std::sync::Arc;

    /// A tree of one run for each `(level, run, tables)`.
    fn shape(runs: &[(usize, u64, &[&str])]) -> Shape {
        let mut shape = Shape::default();
        for (level, id, tables) in runs {
            let tables = tables.iter().map(|table| Arc::new(parse_table(table))).collect();
            shape.levels[*level].runs.insert(0, RunShape { id: RunId(*id), tables });
        }
        shape
    }

    fn busy(target_level: usize, target_run: Option<u64>, first: &str, last: &str) -> Busy {
        let mut busy = Busy::new();
        busy.start(Plan {
            reason: PlanReason::Size,
            inputs: Vec::new(),
            target_level,
            target_run: target_run.map(RunId),
            cut_keys: Vec::new(),
            output_bytes_max: 1,
            is_trivial_move: false,
            is_drop: false,
            first_key: first.into(),
            last_key: last.into(),
            input_bytes: 1,
        });
        busy
    }

    fn deepest(shape: &Shape, busy: &Busy, first: &str, last: &str) -> (usize, Option<u64>) {
        let place = Placement::deepest(shape, busy, 6, first.as_bytes(), last.as_bytes());
        (place.level, place.run.map(|run| run.0))
    }

    #[test]
    fn table_goes_above_the_shallowest_that_it_overlaps() {
        let idle = Busy::new();
        let tree = shape(&[
            (0, 9, &["1-30[m..p 1MiB]"]),
            (5, 7, &["1-20[a..c 1MiB]", "1-21[h..k 1MiB]"]),
            (6, 3, &["1-10[a..f 1MiB]", "1-11[q..z 1MiB]"]),
        ]);
        assert_eq!(deepest(&Shape::default(), &idle, "a", "z"), (6, None));
        assert_eq!(deepest(&tree, &idle, "g", "g"), (6, Some(3)));
        assert_eq!(deepest(&tree, &idle, "d", "e"), (5, Some(7)));
        assert_eq!(deepest(&tree, &idle, "b", "b"), (4, None));
        assert_eq!(deepest(&tree, &idle, "c", "c"), (4, None));
        assert_eq!(deepest(&tree, &idle, "n", "n"), (0, None));
        assert_eq!(deepest(&tree, &idle, "0", "zz"), (0, None));
        let place = Placement::deepest(&tree, &idle, 0, b"g", b"g");
        assert_eq!(place, Placement { level: 0, run: None });
    }

    #[test]
    fn outputs_of_plans_in_flight_count_as_if_they_were_there() {
        let empty = Shape::default();
        assert_eq!(deepest(&empty, &busy(6, None, "a", "f"), "c", "d"), (5, None));
        assert_eq!(deepest(&empty, &busy(6, None, "a", "f"), "g", "h"), (5, None));
        assert_eq!(deepest(&empty, &busy(6, Some(4), "a", "f"), "g", "h"), (6, Some(4)));
        assert_eq!(deepest(&empty, &busy(3, None, "a", "f"), "c", "d"), (2, None));
        assert_eq!(deepest(&empty, &busy(3, None, "a", "f"), "g", "h"), (6, None));
        let tree = shape(&[(6, 3, &["1-10[a..f 1MiB]"])]);
        assert_eq!(deepest(&tree, &busy(6, Some(3), "a", "k"), "h", "h"), (5, None));
    }
}

//! The level: runs of one size class, newest first.

use std::cmp::Reverse;
use std::sync::Arc;

use esker_table::Table;

use crate::run::Run;
use crate::shape::LevelShape;

/// Runs, newest first; never changed.
#[derive(Clone, Default, Debug)]
pub struct Level {
    runs: Vec<Arc<Run>>,
    /// For each run the heads of its first and last key, so that most runs that cannot hold a key
    /// are passed over without being touched.
    bounds: Vec<(u64, u64)>,
}

impl Level {
    /// The level of `runs`, in any order.
    #[must_use]
    pub fn new(mut runs: Vec<Arc<Run>>) -> Self {
        runs.sort_by_key(|run| Reverse(run.id()));
        if esker_base::planted::is("level0-order-reversed") {
            runs.reverse();
        }
        let bounds = runs.iter().map(|run| run.head_bounds()).collect();
        Self { runs, bounds }
    }

    /// Its runs, newest first.
    #[must_use]
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// Bytes of its table files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes()).sum()
    }

    /// The tables that may hold `user_key`, newest run first. `head` is the
    /// [`key_head`](esker_base::key_head) of the key.
    ///
    /// # Cost
    /// No allocation; of each run whose bounds hold the key, one binary search over integers.
    #[inline]
    pub fn candidates<'a>(
        &'a self,
        user_key: &'a [u8],
        head: u64,
    ) -> impl Iterator<Item = &'a Arc<Table>> {
        self.bounds
            .iter()
            .zip(&self.runs)
            .filter(move |&(&(first, last), _)| {
                first <= head
                    && (head < last
                        || head == last && !esker_base::planted::is("level-bound-off-by-one"))
            })
            .filter_map(move |(_, run)| run.find(user_key))
    }

    /// The level as policies see it.
    #[must_use]
    pub fn shape(&self) -> LevelShape {
        LevelShape { runs: self.runs.iter().map(|run| run.shape()).collect() }
    }
}

//! The level: runs of one size class, newest first.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::run::Run;
use crate::shape::LevelShape;

/// Runs, newest first; never changed.
#[derive(Clone, Default, Debug)]
pub struct Level {
    runs: Vec<Arc<Run>>,
}

impl Level {
    /// The level of `runs`, in any order.
    #[must_use]
    pub fn new(mut runs: Vec<Arc<Run>>) -> Self {
        runs.sort_by_key(|run| Reverse(run.id()));
        if esker_base::planted::is("level0-order-reversed") {
            runs.reverse();
        }
        Self { runs }
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

    /// The shape of the level, for policies.
    #[must_use]
    pub fn shape(&self) -> LevelShape {
        LevelShape { runs: self.runs.iter().map(|run| run.shape()).collect() }
    }
}

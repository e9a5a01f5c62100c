//! No policy: only what is asked for is compacted.

use std::time::Duration;

use crate::plan::{Busy, Plan};
use crate::policy::{Policy, RangeRequest, on_demand};
use crate::shape::{LEVEL_COUNT_MAX, Shape};

/// Plans nothing but compactions on demand.
#[derive(Clone, Debug)]
pub struct Never {
    table_bytes: u64,
}

impl Never {
    /// The policy; an output of a compaction on demand that reaches `table_bytes` is ended.
    #[must_use]
    pub const fn new(table_bytes: u64) -> Self {
        Self { table_bytes }
    }
}

impl Policy for Never {
    fn name(&self) -> &'static str {
        "none"
    }

    fn pick(&self, _shape: &Shape, _busy: &Busy, _now: Duration) -> Option<Plan> {
        None
    }

    fn plan_range(&self, shape: &Shape, busy: &Busy, request: &RangeRequest) -> Option<Plan> {
        on_demand(self.table_bytes).plan_range(shape, busy, request)
    }

    fn level_targets(&self, _shape: &Shape) -> Vec<u64> {
        vec![0; LEVEL_COUNT_MAX]
    }

    fn scores(&self, _shape: &Shape) -> Vec<f64> {
        vec![0.0; LEVEL_COUNT_MAX]
    }

    fn debt_bytes(&self, _shape: &Shape) -> u64 {
        0
    }

    fn resting_run_count(&self) -> usize {
        usize::MAX
    }
}

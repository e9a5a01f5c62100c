//! Time windows: runs of one time window are merged into one run, and windows stay apart.
//!
//! For entries that arrive in the order of time, and are read and expire by time. A finished window
//! is merged once; the current one, whenever it has enough runs. Windows that are too old are
//! dropped whole and unread, as [`Fifo`](crate::Fifo) drops tables. A table without a time in
//! [`Shape::written_by`] counts as written now.

use std::ops::Range;
use std::time::Duration;

use crate::plan::{Busy, Plan, PlanReason};
use crate::policy::aged::{Aged, by_age, merge_into};
use crate::policy::fifo::drop_older;
use crate::policy::{BadOption, Policy, RangeRequest};
use crate::shape::{LEVEL_COUNT_MAX, Shape};

/// Parameters of [`TimeWindow`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimeWindowOptions {
    /// Length of a window. An hour by default; at least a second.
    pub window: Duration,
    /// Number of runs of the current window that are merged into one. 4 by default; at least 2.
    pub runs_per_window: u64,
    /// Age at which entries are dropped; never if not given. At least a second.
    pub age_max: Option<Duration>,
}

impl Default for TimeWindowOptions {
    fn default() -> Self {
        Self { window: Duration::from_secs(3600), runs_per_window: 4, age_max: None }
    }
}

impl TimeWindowOptions {
    /// # Errors
    /// The first option that [`TimeWindow`] cannot work with.
    pub fn check(&self) -> Result<(), BadOption> {
        BadOption::unless_too_short("window", self.window)?;
        let (runs, name) = (self.runs_per_window, "runs_per_window");
        BadOption::unless(runs >= 2, name, runs, "at least 2")?;
        self.age_max.map_or(Ok(()), |age| BadOption::unless_too_short("age_max", age))
    }
}

/// The policy; see the top of this file.
#[derive(Clone, Debug)]
pub struct TimeWindow {
    options: TimeWindowOptions,
    table_bytes: u64,
}

impl TimeWindow {
    /// The policy with `options`; output tables are finished when they reach `table_bytes`.
    ///
    /// # Panics
    /// If [`TimeWindowOptions::check`] refuses the options.
    #[must_use]
    pub fn new(options: TimeWindowOptions, table_bytes: u64) -> Self {
        assert_eq!(options.check(), Ok(()), "the options were checked");
        Self { options, table_bytes }
    }

    /// The number of the window that holds the newest entry of the run.
    fn window(&self, shape: &Shape, aged: Aged<'_>, now: Duration) -> u128 {
        // A table that does not record when it was written counts as written now.
        let written = aged.run.tables.iter().map(|table| shape.written_by(table).unwrap_or(now));
        let written = written.max().unwrap_or(now);
        written.as_millis() / self.options.window.as_millis()
    }

    /// Adjacent runs of one window that are due to be merged.
    fn due(&self, shape: &Shape, runs: &[Aged<'_>], now: Duration) -> Option<Range<usize>> {
        let windows: Vec<u128> = runs.iter().map(|aged| self.window(shape, *aged, now)).collect();
        let current = now.as_millis() / self.options.window.as_millis();
        let mut start = 0;
        while start < runs.len() {
            let same = windows[start..].iter().take_while(|&&window| window == windows[start]);
            let end = start + same.count();
            let wanted = if windows[start] < current { 2 } else { self.options.runs_per_window };
            if wanted <= (end - start) as u64 {
                return Some(start..end);
            }
            start = end;
        }
        None
    }
}

impl Policy for TimeWindow {
    fn name(&self) -> &'static str {
        "time-window"
    }

    fn pick(&self, shape: &Shape, busy: &Busy, now: Duration) -> Option<Plan> {
        if !busy.is_empty() {
            return None;
        }
        let runs = by_age(shape);
        let aged = self.options.age_max.and_then(|age| drop_older(shape, &runs, age, now));
        if aged.is_some() {
            return aged;
        }
        let span = self.due(shape, &runs, now)?;
        // Stays in its level, even if nothing is older: the next window is a run of its own.
        let oldest = runs[span.end - 1];
        let newest_there = runs[span.clone()].iter().find(|aged| aged.level == oldest.level);
        let target = (oldest.level, newest_there.map(|aged| aged.run.id));
        Some(merge_into(PlanReason::Window, &runs[span], target, self.table_bytes))
    }

    /// Nothing to compact on demand: windows stay apart.
    fn plan_range(&self, _shape: &Shape, _busy: &Busy, _request: &RangeRequest) -> Option<Plan> {
        None
    }

    /// Goes by time, so it has no target sizes.
    fn level_targets(&self, _shape: &Shape) -> Vec<u64> {
        vec![0; LEVEL_COUNT_MAX]
    }

    /// Goes by time, which no score shows.
    fn scores(&self, _shape: &Shape) -> Vec<f64> {
        vec![0.0; LEVEL_COUNT_MAX]
    }

    /// Each window is rewritten a few times and then left alone: never far behind.
    fn debt_bytes(&self, _shape: &Shape) -> u64 {
        0
    }

    fn resting_run_count(&self) -> usize {
        usize::MAX
    }
}

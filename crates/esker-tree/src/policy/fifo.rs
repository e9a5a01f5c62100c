//! First in, first out: nothing is merged, and the oldest tables are dropped whole.
//!
//! They are dropped once all tables together are too large, or once their entries are too old.
//! **Dropped data is gone, for snapshots too.** Tables of a run are dropped one by one, and runs
//! from the oldest on: an entry is dropped no earlier than the older ones that it hides, so nothing
//! old comes back. The newest run is dropped for its age only, however large it is.

use std::sync::Arc;
use std::time::Duration;

use esker_table::TableProperties;

use crate::plan::{Busy, Plan, PlanReason};
use crate::policy::aged::{Aged, by_age, drop_tables};
use crate::policy::{BadOption, Policy, RangeRequest};
use crate::shape::{LEVEL_COUNT_MAX, Shape};

/// Parameters of [`Fifo`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FifoOptions {
    /// Bytes that all tables together may take. 1 GiB by default; at least 1.
    pub bytes_max: u64,
    /// Age at which entries are dropped, according to [`Shape::written_by`]; never if not given. At
    /// least a second.
    pub age_max: Option<Duration>,
}

impl Default for FifoOptions {
    fn default() -> Self {
        Self { bytes_max: 1 << 30, age_max: None }
    }
}

impl FifoOptions {
    /// # Errors
    /// The first option that [`Fifo`] cannot work with.
    pub fn check(&self) -> Result<(), BadOption> {
        BadOption::unless(self.bytes_max > 0, "bytes_max", self.bytes_max, "at least 1")?;
        self.age_max.map_or(Ok(()), |age| BadOption::unless_too_short("age_max", age))
    }
}

/// The policy; see the top of this file.
#[derive(Clone, Debug)]
pub struct Fifo {
    options: FifoOptions,
}

impl Fifo {
    /// The policy with `options`.
    ///
    /// # Panics
    /// If [`FifoOptions::check`] refuses the options.
    #[must_use]
    pub fn new(options: FifoOptions) -> Self {
        assert_eq!(options.check(), Ok(()), "the options were checked");
        Self { options }
    }
}

/// The longest sequence of tables, from the oldest on, that may be dropped: each `is_due`.
fn oldest_due<'a>(
    runs: &[Aged<'a>],
    mut is_due: impl FnMut(&TableProperties) -> bool,
) -> Vec<(Aged<'a>, Vec<&'a Arc<TableProperties>>)> {
    let mut choices = Vec::new();
    for aged in runs.iter().rev() {
        let mut tables: Vec<&Arc<TableProperties>> = aged.run.tables.iter().collect();
        tables.retain(|table| is_due(table));
        let is_whole = tables.len() == aged.run.tables.len();
        choices.push((*aged, tables));
        if !is_whole {
            break;
        }
    }
    // Shallower first, as plans have them.
    choices.reverse();
    choices
}

fn is_nothing(choices: &[(Aged<'_>, Vec<&Arc<TableProperties>>)]) -> bool {
    choices.iter().all(|(_, tables)| tables.is_empty())
}

/// The plan that drops what is too old, if anything is.
pub(super) fn drop_older(
    shape: &Shape,
    runs: &[Aged<'_>],
    age_max: Duration,
    now: Duration,
) -> Option<Plan> {
    let is_old = |table: &TableProperties| {
        let written = shape.written_by(table);
        written.is_some_and(|written| written.saturating_add(age_max) <= now)
    };
    let due = oldest_due(runs, is_old);
    (!is_nothing(&due)).then(|| drop_tables(PlanReason::Age, due))
}

/// Bytes of all tables, and of the blob file records that they refer to.
fn held_bytes(shape: &Shape) -> u64 {
    let runs = shape.levels.iter().flat_map(|level| &level.runs);
    runs.flat_map(|run| &run.tables).map(|table| table.held_bytes()).sum()
}

impl Policy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
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
        let mut excess = held_bytes(shape).saturating_sub(self.options.bytes_max);
        let due = oldest_due(runs.get(1..).unwrap_or_default(), |table| {
            let is_due = excess > 0;
            excess = excess.saturating_sub(table.held_bytes());
            is_due
        });
        (!is_nothing(&due)).then(|| drop_tables(PlanReason::Size, due))
    }

    /// Nothing to compact on demand: merged tables would mix ages.
    fn plan_range(&self, _shape: &Shape, _busy: &Busy, _request: &RangeRequest) -> Option<Plan> {
        None
    }

    /// The limit is reported for level 0, where everything is.
    fn level_targets(&self, _shape: &Shape) -> Vec<u64> {
        let mut targets = vec![0; LEVEL_COUNT_MAX];
        targets[0] = self.options.bytes_max;
        targets
    }

    fn scores(&self, shape: &Shape) -> Vec<f64> {
        let mut scores = vec![0.0; LEVEL_COUNT_MAX];
        scores[0] = held_bytes(shape) as f64 / self.options.bytes_max as f64;
        scores
    }

    /// Nothing is ever rewritten.
    fn debt_bytes(&self, _shape: &Shape) -> u64 {
        0
    }

    fn resting_run_count(&self) -> usize {
        usize::MAX
    }
}

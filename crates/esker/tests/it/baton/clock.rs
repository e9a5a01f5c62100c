//! A wall clock that somebody sets back, as an operator or NTP does.
//!
//! While a database is open, nothing that has expired comes back: values expire by the latest that the
//! clock has shown. Between two opens it may have been set back, too; then what had expired is there again
//! where no compaction had met it (`History::find`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker::Db;
use esker::env::Clock;
use esker_base::baton;

use super::coverage;
use crate::random::Rng;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the wall clock shows, and what it showed at the latest since the run began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) wall: Duration,
    pub(super) latest: Duration,
}

impl Shown {
    /// By which values expire, in milliseconds since the epoch.
    pub(super) fn millis(self) -> u64 {
        self.latest.as_millis() as u64
    }
}

/// Time of a run, and its wall clock.
#[derive(Debug)]
pub(super) struct BatonClock {
    /// Where the wall clock stood when the run began.
    start: Duration,
    /// By how much it was set back since, and what it showed at the latest before. Never held at a step.
    set_back: Mutex<(Duration, Duration)>,
}

impl BatonClock {
    pub(super) fn new(start: Duration) -> Self {
        Self { start, set_back: Mutex::default() }
    }

    pub(super) fn shown(&self) -> Shown {
        let now = baton::now();
        let (by, latest) = *self.set_back();
        let wall = self.start + now - by;
        Shown { wall, latest: latest.max(wall) }
    }

    fn set_back(&self) -> MutexGuard<'_, (Duration, Duration)> {
        self.set_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the wall clock back, right after `db` has seen what it shows: nothing that has expired by then
    /// comes back.
    pub(super) fn go_back(&self, db: &Db, by: Duration) {
        loop {
            let before = self.shown();
            drop(db.snapshot());
            let shown = self.shown();
            // No step comes before the clock is set.
            if shown.millis() == before.millis() {
                let mut set_back = self.set_back();
                *set_back = (set_back.0 + by, shown.latest);
                return coverage::add("clocks set back while a database was open", 1);
            }
        }
    }

    /// Sets the wall clock to what it would show if nobody had set it back.
    pub(super) fn go_right(&self) {
        let shown = self.shown();
        *self.set_back() = (Duration::ZERO, shown.latest);
    }
}

impl Clock for BatonClock {
    fn now(&self) -> Duration {
        baton::now()
    }

    fn wall(&self) -> Duration {
        self.shown().wall
    }

    fn sleep(&self, duration: Duration) {
        baton::sleep(duration);
    }
}

/// By how much a clock is set back: mostly so little that values expire in between.
pub(super) fn clock_error(rng: &mut Rng) -> Duration {
    let millis_max = *rng.pick(&[5, 5_000, 30_000, 30_000, 120_000]);
    Duration::from_millis(1 + rng.below(millis_max))
}

/// The same while nobody has the database open.
pub(super) fn clock_error_between(rng: &mut Rng) -> Duration {
    if rng.one_in(4) { DAY * rng.below(30) as u32 } else { clock_error(rng) }
}

//! Somebody who stands still at a file until he is let go, and the rest of all others in the meantime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use esker::env::{Event, Operation};
use esker_base::baton;

use super::world::World;

/// How often it is looked whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// As long as anybody sleeps who was woken for nothing.
const REST: Duration = Duration::from_secs(5);

/// Where somebody stands still.
#[derive(Default)]
pub(super) struct Gate {
    is_reached: AtomicBool,
    is_open: AtomicBool,
}

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        baton::sleep(LOOK_EVERY);
    }
}

impl Gate {
    /// In front of the first such operation on a file of that kind from now on.
    pub(super) fn before(
        world: &World,
        operation: Operation,
        extension: &'static str,
    ) -> Arc<Self> {
        let gate = Arc::new(Self::default());
        let own = Arc::clone(&gate);
        world.faults.observe(move |event: &Event| {
            baton::step("file");
            let is_of_kind = event.path.extension().is_some_and(|e| e == extension);
            if event.operation == operation
                && is_of_kind
                && !own.is_reached.swap(true, Ordering::Relaxed)
            {
                wait_for(&own.is_open);
            }
        });
        gate
    }

    /// Waits until somebody stands there.
    pub(super) fn wait(&self) {
        wait_for(&self.is_reached);
    }

    /// Lets him go.
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }
}

/// Waits until nobody has had anything to do for a while.
pub(super) fn rest() {
    let until = baton::idle() + REST;
    while baton::idle() < until {
        baton::sleep(LOOK_EVERY);
    }
}

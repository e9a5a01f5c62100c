//! Atomics of std that are a step of the run where they order what other threads see.
//!
//! By the rules of the house, `Relaxed` is for counters: nothing depends on who is first, so those
//! are no steps.

use std::panic::Location;
use std::sync::atomic::Ordering;

use super::seat;

/// Another thread may go on here, unless only a counter is meant.
#[track_caller]
fn step(what: &'static str, ordering: Ordering) {
    if ordering != Ordering::Relaxed
        && let Some(seat) = seat()
    {
        seat.pause(what, Location::caller());
    }
}

/// Defines one atomic type.
macro_rules! atomic {
    ($(#[$docs:meta])* $name:ident, $value:ty $(, $($number:ident),+)?) => {
        $(#[$docs])*
        #[derive(Default, Debug)]
        #[repr(transparent)]
        pub struct $name(std::sync::atomic::$name);

        impl $name {
            /// As that of std.
            #[inline]
            #[must_use]
            pub const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }

            /// As that of std.
            #[inline]
            #[track_caller]
            pub fn load(&self, ordering: Ordering) -> $value {
                step("load", ordering);
                self.0.load(ordering)
            }

            /// As that of std.
            #[inline]
            #[track_caller]
            pub fn store(&self, value: $value, ordering: Ordering) {
                step("store", ordering);
                self.0.store(value, ordering);
            }

            /// As that of std.
            #[inline]
            #[track_caller]
            pub fn swap(&self, value: $value, ordering: Ordering) -> $value {
                step("swap", ordering);
                self.0.swap(value, ordering)
            }

            /// As that of std.
            ///
            /// # Errors
            /// With the value that was there, if it was not `current`.
            #[inline]
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step("compare_exchange", success);
                self.0.compare_exchange(current, new, success, failure)
            }

            $($(
                /// As that of std.
                #[inline]
                #[track_caller]
                pub fn $number(&self, value: $value, ordering: Ordering) -> $value {
                    step(stringify!($number), ordering);
                    self.0.$number(value, ordering)
                }
            )+)?
        }
    };
}

atomic!(
    /// `AtomicBool` of std; a step.
    AtomicBool,
    bool
);
atomic!(
    /// `AtomicU64` of std; a step.
    AtomicU64, u64, fetch_add, fetch_sub, fetch_max, fetch_min
);
atomic!(
    /// `AtomicUsize` of std; a step.
    AtomicUsize, usize, fetch_add, fetch_sub, fetch_max, fetch_min
);

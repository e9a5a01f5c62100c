//! Assertions that are too costly for release builds.

/// Asserts something that must hold, where the check costs more than the code around it.
///
/// On in tests and debug builds, off in release; a cheap check uses `assert!` and stays on.
#[macro_export]
macro_rules! invariant {
    ($($argument:tt)*) => {
        if cfg!(debug_assertions) {
            assert!($($argument)*);
        }
    };
}

//! Defects planted on purpose, to see that the tests find them.
//!
//! A build with `--cfg esker_planted` has all of them, asleep; the environment variable
//! `ESKER_PLANTED` wakes one by its name. Any other build has none: every question is answered
//! "no" when it is compiled. `cargo run -p xtask -- planted` runs the tests against each.
//!
//! Does not know what a defect does: that stands at its site, in one line.

/// The environment variable that names the defect that is awake.
pub const VARIABLE: &str = "ESKER_PLANTED";

/// Whether the defect `name` is awake.
#[cfg(not(esker_planted))]
#[inline(always)]
#[must_use]
pub const fn is(_name: &str) -> bool {
    false
}

/// Whether the defect `name` is awake.
///
/// # Cost
/// The variable is read at the first call.
#[cfg(esker_planted)]
#[must_use]
pub fn is(name: &str) -> bool {
    static AWAKE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    AWAKE.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() == Some(name)
}

//! Defects planted on purpose, to check that the tests find them.
//!
//! A build with `--cfg esker_planted` has all of them, dormant; the environment variable
//! `ESKER_PLANTED` activates one by its name. Any other build has none: [`is`] is always false, at
//! compile time. `cargo run -p xtask -- planted` runs the tests against each.
//!
//! Does not know what a defect does: that is one line at its site.

/// The environment variable that names the active defect.
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

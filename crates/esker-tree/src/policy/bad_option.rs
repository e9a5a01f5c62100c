//! What is wrong with an option of a policy.

use std::fmt;
use std::time::Duration;

/// An option whose value a policy cannot work with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadOption {
    /// The option.
    pub name: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it may be, such as `from 1 to 6`.
    pub allowed: &'static str,
}

impl BadOption {
    /// `Ok` if the value is allowed.
    pub(super) fn unless(
        is_allowed: bool,
        name: &'static str,
        value: u64,
        allowed: &'static str,
    ) -> Result<(), Self> {
        if is_allowed { Ok(()) } else { Err(Self { name, value: value.to_string(), allowed }) }
    }

    /// `Ok` if the time is at least a second.
    pub(super) fn unless_too_short(name: &'static str, time: Duration) -> Result<(), Self> {
        if time >= Duration::from_secs(1) {
            return Ok(());
        }
        Err(Self { name, value: format!("{time:?}"), allowed: "at least 1s" })
    }
}

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, and must be {}", self.name, self.value, self.allowed)
    }
}

impl std::error::Error for BadOption {}

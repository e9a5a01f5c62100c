//! Random numbers, for ids and seeds; never for a decision that a test would want to replay.

use std::fmt;

/// A source of random bytes.
pub trait Random: Send + Sync + fmt::Debug + 'static {
    /// Fills `buffer`.
    fn fill(&self, buffer: &mut [u8]);
}

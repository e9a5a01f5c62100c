//! One bundle of everything outside, handed down from the top floor.

use std::sync::Arc;

use crate::{Clock, FileSystem, Random, Threads};

/// The outside: cheap to clone, shared by every floor of one database.
#[derive(Clone, Debug)]
pub struct Env {
    /// Files.
    pub fs: Arc<dyn FileSystem>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Threads.
    pub threads: Arc<dyn Threads>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
}

//! What a policy costs.

/// What was counted up to some step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Flushes, each of one table.
    pub flushes: u64,
    /// Tables that flushes and compactions wrote.
    pub tables_written: u64,
    /// The most tables that were there at once, inputs and outputs of a running compaction
    /// together.
    pub peak_tables: u64,
    /// Tables of level 0, and levels or tiers below it that are not empty: what a read of a missing
    /// key looks into without filters.
    pub read_amplification: u64,
    /// Tables of level 0, then of each level or tier, the newest first.
    pub shape: Vec<u64>,
}

impl Figures {
    /// Tables written for each flush.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        self.tables_written as f64 / self.flushes as f64
    }

    /// The most tables at once for each flush.
    #[must_use]
    pub fn space_amplification(&self) -> f64 {
        self.peak_tables as f64 / self.flushes as f64
    }
}

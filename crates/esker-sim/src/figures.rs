//! What a policy costs.

/// What was counted up to a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Flushes, each of one table.
    pub flushes: u64,
    /// Tables that flushes and compactions wrote.
    pub tables_written: u64,
    /// The most tables that existed at once, including inputs and outputs of a running compaction.
    pub peak_tables: u64,
    /// Tables of level 0, plus levels or tiers below it that are not empty: where a read of a
    /// missing key looks without filters.
    pub read_amplification: u64,
    /// Tables of level 0, then of each level or tier, newest first.
    pub shape: Vec<u64>,
}

impl Figures {
    /// Tables written per flush.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        self.tables_written as f64 / self.flushes as f64
    }

    /// The most tables at once per flush.
    #[must_use]
    pub fn space_amplification(&self) -> f64 {
        self.peak_tables as f64 / self.flushes as f64
    }
}

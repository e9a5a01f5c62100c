//! Counts of what a cursor passed without showing it, for explaining a read.

/// How many entries a cursor passed that were not shown.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SteppedOver {
    /// Entries hidden by a newer version of their key, or newer than the snapshot.
    pub versions: u64,
    /// Tombstones that decided for their key.
    pub tombstones: u64,
    /// Seeks made to pass many entries of one key at once.
    pub seeks: u64,
    /// Operands that were merged into what was shown.
    pub operands: u64,
    /// Entries stepped over because a range tombstone hides them.
    pub covered: u64,
    /// Jumps of one source to the end of a deleted range.
    pub jumps: u64,
}

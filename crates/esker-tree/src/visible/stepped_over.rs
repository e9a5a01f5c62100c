//! What a cursor passed without showing it: counts for whoever explains a read.

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
    /// Entries looked at that a range tombstone hides.
    pub covered: u64,
    /// Jumps to the end of what range tombstones hide in one source.
    pub jumps: u64,
}

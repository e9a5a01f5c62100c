//! How an open handles damage in the log.

/// How an open handles a log that has a torn end or is damaged.
///
/// No mode replays part of a batch, and only `Salvage` replays anything after a gap in the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum RecoveryMode {
    /// Even a torn end, of the log or the manifest, is an error. For a database that was closed, or
    /// copied as a whole.
    Strict,
    /// A torn end is cut off: it is what a crash leaves of writes that were never acknowledged as
    /// durable. Damage anywhere else is an error.
    #[default]
    TornTail,
    /// The log is replayed up to the first gap or damage, even if what was there was durable. The
    /// rest is **dropped for good**, unless the open is [read-only](crate::DbBuilder::read_only);
    /// [`Event::LogDropped`](crate::Event::LogDropped) says what. Entries in tables stay, even if
    /// they were written later. So part of a batch over several keyspaces can remain, if one of
    /// them was flushed and the log of the others is dropped.
    PointInTime,
    /// Reads are answered from whatever is intact, and nothing is changed. Only for a
    /// [read-only](crate::DbBuilder::read_only) open of a database whose manifest is intact.
    ///
    /// The open succeeds even if tables are missing, truncated or damaged; reads that need the
    /// missing parts fail with `Corruption` or `Io`, all others succeed. Everything readable in the
    /// log is replayed, even after damage, and around what the device cannot read. Which keys the
    /// damaged parts of the log contained is unknown: reads return their earlier values, and
    /// [`Event::LogDropped`](crate::Event::LogDropped) says where the parts were.
    Salvage,
}

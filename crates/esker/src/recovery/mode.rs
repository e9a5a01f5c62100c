//! What an open does about damage in the log.

/// What an open does where the log does not end as it should, or is damaged.
///
/// In no mode is a part of a batch taken out of the log, and in none but `Salvage` anything behind a place
/// where frames are missing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum RecoveryMode {
    /// Only ends that are whole will do: a torn end is an error too, of the log or the manifest.
    /// For a database that was closed, or copied whole.
    Strict,
    /// A torn end, which is what a crash leaves of writes that nobody was told are durable, is cut
    /// off. Damage anywhere else is an error.
    #[default]
    TornTail,
    /// The log is taken up to the first place that is missing or damaged, even if what stood there
    /// was durable. The rest is **dropped for good**, unless the open is
    /// [read-only](crate::DbBuilder::read_only); [`Event::LogDropped`](crate::Event::LogDropped)
    /// says what. What is in tables stays, also where it was written later: so of a batch over several
    /// keyspaces a part can be left, where one of them was flushed and the log of the others is dropped.
    PointInTime,
    /// Everything that is intact is answered from, and nothing is changed: only for an open that is
    /// [read-only](crate::DbBuilder::read_only), of a database with a manifest that is whole.
    ///
    /// A table that is missing, cut or damaged is no reason to refuse; reads that need what is not
    /// there of it give `Corruption` or `Io`, all others answer. Of the log everything is taken that
    /// can be read, behind damage too; of a segment that the device does not give whole, what stands
    /// before that place. Which keys were written in what is damaged of it, nothing
    /// tells: they answer with what they had before, and
    /// [`Event::LogDropped`](crate::Event::LogDropped) says where it was.
    Salvage,
}

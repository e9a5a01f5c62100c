//! Which values lie in blob files, as jobs are told.

use esker_table::Compression;

/// Which values lie in blob files, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobOptions {
    /// Values of at least this many bytes go to blob files; `None` brings all back into tables.
    pub threshold_bytes: Option<u64>,
    /// A blob file of which more than this share is garbage is cleared by whoever meets it.
    pub waste_percent_max: u32,
    /// How values are compressed, each by itself.
    pub compression: Compression,
    /// A blob file that has reached this many bytes is ended.
    pub file_bytes_max: u64,
}

impl BlobOptions {
    /// No blob files.
    pub const OFF: Self = Self {
        threshold_bytes: None,
        waste_percent_max: 50,
        compression: Compression::None,
        file_bytes_max: 256 << 20,
    };

    /// Whether a value of this length goes to a blob file.
    #[inline]
    pub(crate) const fn separates(&self, value_len: u64) -> bool {
        match self.threshold_bytes {
            Some(threshold) => threshold <= value_len,
            None => false,
        }
    }
}

//! Checksums and hashes: XXH3 (Yann Collet, 2019), 64 bits.
//!
//! One function serves all purposes, because it is the fastest for the sizes that matter here (a
//! 20-byte key, a 4 KiB block, a 64 MiB file) and takes a seed: with a seed derived from file and
//! offset, a block that was written to the wrong place is a checksum error.

use crate::{DatabaseId, FileId};

/// Hash of a user key, as used by filters and block tags.
#[inline]
#[must_use]
pub fn hash_key(user_key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(user_key)
}

/// Checksum of `bytes` under `seed`.
#[inline]
#[must_use]
pub fn checksum64(seed: u64, bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed)
}

/// The low half of [`checksum64`], for blocks and frames.
#[inline]
#[must_use]
pub fn checksum32(seed: u64, bytes: &[u8]) -> u32 {
    (checksum64(seed, bytes) & u64::from(u32::MAX)) as u32
}

/// The seed for the checksums of a file's blocks or frames: different for every file of every
/// database. Add the offset of the block or frame to it.
#[must_use]
pub fn file_seed(database: DatabaseId, file: FileId) -> u64 {
    let mut bytes = [0; 28];
    bytes[..16].copy_from_slice(&database.0);
    bytes[16..20].copy_from_slice(&file.owner.0.to_le_bytes());
    bytes[20..].copy_from_slice(&file.counter.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// A checksum of a stream of bytes, for whole files.
#[derive(Clone, Default)]
pub struct Checksummer(xxhash_rust::xxh3::Xxh3Default);

impl Checksummer {
    /// A checksum of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`; how they are divided into calls does not matter.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything added.
    #[must_use]
    pub fn finish(&self) -> u64 {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_never_change() {
        // Part of every file format: a change here makes every database unreadable.
        assert_eq!(hash_key(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(checksum64(0, b"esker"), hash_key(b"esker"));
        assert_ne!(checksum64(1, b"esker"), checksum64(0, b"esker"));
    }

    #[test]
    fn stream_equals_one_piece() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        let mut stream = Checksummer::new();
        bytes.chunks(7).for_each(|chunk| stream.update(chunk));
        assert_eq!(stream.finish(), checksum64(0, &bytes));
    }
}

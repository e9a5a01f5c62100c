//! Limits of a database. What exceeds them is refused before anything is written.

/// Longest user key, in bytes.
pub const KEY_LEN_MAX: usize = 65_535;

/// Longest value, in bytes: 4 GiB less 1. One that expires is 8 bytes shorter at most.
pub const VALUE_LEN_MAX: u64 = u32::MAX as u64;

/// Longest name of a keyspace, in bytes.
pub const KEYSPACE_NAME_LEN_MAX: usize = 255;

/// Most operations in one batch.
pub const BATCH_COUNT_MAX: u64 = u32::MAX as u64;

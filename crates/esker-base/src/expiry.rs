//! The time stored before the value of an expiring put.
//!
//! An [`ExpiringPut`](crate::EntryKind::ExpiringPut) stores its expiry and then its value: 8 bytes,
//! little-endian, milliseconds since 1970-01-01 UTC. The key has its value before that time, and
//! none from it on.

/// Bytes before the value.
pub const EXPIRY_LEN: usize = 8;

/// The time at which an expiring put with `stored` as its value expires, in milliseconds since
/// 1970-01-01 UTC; `None` if `stored` is too short to say.
#[must_use]
pub fn expiry_of(stored: &[u8]) -> Option<u64> {
    stored.first_chunk::<EXPIRY_LEN>().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of FORMAT.md section 4.
    #[test]
    fn golden_bytes() {
        let stored = b"\x00\x68\xe5\xcf\x8b\x01\x00\x00value";
        assert_eq!(expiry_of(stored), Some(1_700_000_000_000));
        assert_eq!(&stored[EXPIRY_LEN..], b"value");
        assert_eq!(expiry_of(&stored[..7]), None);
    }
}

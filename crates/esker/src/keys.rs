//! Numbers as keys that sort like the numbers.
//!
//! They have a fixed width and are big-endian, so bytes compare as the numbers do, also after a
//! common prefix in a longer key. For descending order use
//! [`Order::reverse_bytewise`](crate::Order::reverse_bytewise), or write `!number`.
//!
//! ```
//! use esker::keys;
//!
//! assert!(keys::from_u64(255) < keys::from_u64(256));
//! assert!(keys::from_i64(-1) < keys::from_i64(0));
//! assert!(keys::from_f64(-0.5) < keys::from_f64(0.25));
//! assert_eq!(keys::to_u64(&keys::from_u64(7)), Some(7));
//! assert_eq!(keys::to_u64(b"seven"), None);
//! ```

#![expect(clippy::big_endian_bytes, reason = "bytes compare from the most significant on")]

/// The key of `number`.
#[must_use]
pub const fn from_u64(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number whose key is `key`; `None` if it does not have 8 bytes.
#[must_use]
pub fn to_u64(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// The key of `number`; negative numbers sort before the others.
#[must_use]
pub const fn from_i64(number: i64) -> [u8; 8] {
    from_u64(number.cast_unsigned() ^ SIGN)
}

/// The number whose key is `key`; `None` if it does not have 8 bytes.
#[must_use]
pub fn to_i64(key: &[u8]) -> Option<i64> {
    Some((to_u64(key)? ^ SIGN).cast_signed())
}

/// The key of `number`.
#[must_use]
pub const fn from_u128(number: u128) -> [u8; 16] {
    number.to_be_bytes()
}

/// The number whose key is `key`; `None` if it does not have 16 bytes.
#[must_use]
pub fn to_u128(key: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(key.try_into().ok()?))
}

/// The key of `number`, in the order of [`f64::total_cmp`]: -0.0 before 0.0, NaNs at the ends.
#[must_use]
pub const fn from_f64(number: f64) -> [u8; 8] {
    let bits = number.to_bits();
    // The larger a negative number, the smaller its bits.
    from_u64(if bits & SIGN == 0 { bits ^ SIGN } else { !bits })
}

/// The number whose key is `key`, bit for bit; `None` if it does not have 8 bytes.
#[must_use]
pub fn to_f64(key: &[u8]) -> Option<f64> {
    let bits = to_u64(key)?;
    Some(f64::from_bits(if bits & SIGN == 0 { !bits } else { bits ^ SIGN }))
}

const SIGN: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_the_order_of_their_numbers() {
        let unsigned = [0, 1, 255, 256, 1 << 32, u64::MAX];
        assert!(unsigned.is_sorted_by_key(|&number| from_u64(number)));
        let signed = [i64::MIN, -256, -255, -1, 0, 1, 255, 256, i64::MAX];
        assert!(signed.is_sorted_by_key(|&number| from_i64(number)));
        let wide = [0, 1, 1 << 64, u128::MAX];
        assert!(wide.is_sorted_by_key(|&number| from_u128(number)));
        let (nan, infinity) = (f64::NAN, f64::INFINITY);
        let floats =
            [-nan, -infinity, -1e300, -1.5, -1e-300, -0.0, 0.0, 1e-300, 1.5, infinity, nan];
        assert!(floats.is_sorted_by(|a, b| from_f64(*a) < from_f64(*b)));
    }

    #[test]
    fn keys_give_their_numbers_back_and_other_lengths_none() {
        for number in [0, 1, u64::MAX] {
            assert_eq!(to_u64(&from_u64(number)), Some(number));
            assert_eq!(to_f64(&from_f64(f64::from_bits(number))).map(f64::to_bits), Some(number));
        }
        for number in [i64::MIN, -1, 0, i64::MAX] {
            assert_eq!(to_i64(&from_i64(number)), Some(number));
        }
        assert_eq!(to_u128(&from_u128(u128::MAX - 1)), Some(u128::MAX - 1));
        assert_eq!((to_u64(b"1234567"), to_i64(b""), to_f64(&[0; 9])), (None, None, None));
        assert_eq!(to_u128(&[0; 8]), None);
    }
}

//! Asking for memory before it is needed: the one place of this crate with unsafe code.
//!
//! Promises that nothing but time depends on it: on a processor without such an instruction it does
//! nothing. Knows nothing of what lies where; `ahead.rs` does.

#![expect(unsafe_code, reason = "asks the processor for cache lines; see UNSAFE.md")]

/// Bytes that come with one request.
const LINE_LEN: usize = 64;

/// Asks for all of `value`, without what it points to.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    prefetch_at(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Asks for the first `len_max` bytes of `bytes`.
#[inline]
pub(crate) fn prefetch_bytes(bytes: &[u8], len_max: usize) {
    prefetch_at(bytes.as_ptr(), bytes.len().min(len_max));
}

/// Asks for the last `len_max` bytes of `bytes`, those at the end first.
#[inline]
pub(crate) fn prefetch_bytes_back(bytes: &[u8], len_max: usize) {
    for passed in (0..bytes.len().min(len_max)).step_by(LINE_LEN) {
        prefetch_at(bytes.as_ptr().wrapping_add(bytes.len() - 1 - passed), 1);
    }
}

/// Asks for `len` bytes from `start` on.
#[inline]
pub(crate) fn prefetch_at(start: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..len).step_by(LINE_LEN) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = start.wrapping_add(offset);
        // SAFETY: a prefetch is a hint; it reads nothing and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len);
}

//! Memory prefetches: the one place in this crate with unsafe code.
//!
//! Promises that only speed depends on it: on a processor without such an instruction it does
//! nothing. Does not know what to prefetch; `ahead.rs` does.

#![expect(unsafe_code, reason = "asks the processor for cache lines; see UNSAFE.md")]

/// Bytes of one cache line.
const LINE_LEN: usize = 64;

/// Prefetches all of `value`, but not what it points to.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    prefetch_at(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Prefetches the first `len_max` bytes of `bytes`.
#[inline]
pub(crate) fn prefetch_bytes(bytes: &[u8], len_max: usize) {
    prefetch_at(bytes.as_ptr(), bytes.len().min(len_max));
}

/// Prefetches the last `len_max` bytes of `bytes`, starting at the end.
#[inline]
pub(crate) fn prefetch_bytes_back(bytes: &[u8], len_max: usize) {
    for passed in (0..bytes.len().min(len_max)).step_by(LINE_LEN) {
        prefetch_at(bytes.as_ptr().wrapping_add(bytes.len() - 1 - passed), 1);
    }
}

/// Prefetches `len` bytes from `start` on.
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

//! Spare buffers that a thread keeps from one block load to the next.
//!
//! A read that misses the cache needs two buffers: one, briefly, for the bytes of the file, and
//! one, to keep, for the payload that they unpack to. The cache is then usually full, and evicts a
//! block of about the same size on the same thread, so the memory of that block is reused for the
//! next payload. This avoids the allocator, which would touch cold memory next to both.
//!
//! Promises that a thread keeps no more than two buffers of [`LEN_MAX`] bytes, which are charged to
//! nobody, and that reads on a thread that is ending work too, though it keeps nothing. A buffer
//! may contain bytes of an earlier block, after the requested length, and within it until it is
//! written.

use std::cell::Cell;

use crate::prefetch::prefetch_bytes;

/// The longest buffer that is kept.
pub(crate) const LEN_MAX: usize = 16 * 1024;

/// Payload buffers have a multiple of this length, so that blocks of about the same size can share
/// them.
const LEN_STEP: usize = 128;

thread_local! {
    static STORED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static PAYLOAD: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Runs `fill` on a buffer of `len` bytes, to be filled from a file.
///
/// # Panics
/// If `len` is greater than [`LEN_MAX`].
pub(crate) fn with_stored<R>(len: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
    assert!(len <= LEN_MAX, "longer buffers are not kept");
    // Not by `take`, which panics if a thread-local destructor reads after this one's has run.
    let mut stored = STORED.try_with(Cell::take).unwrap_or_default();
    if stored.len() < len {
        stored.resize(len, 0);
    }
    let result = fill(&mut stored[..len]);
    STORED.try_with(|kept| kept.set(stored)).ok();
    result
}

/// A buffer for a payload of `len` bytes, not much longer.
pub(crate) fn payload(len: usize) -> Box<[u8]> {
    let room = len.next_multiple_of(LEN_STEP);
    let spare = PAYLOAD.try_with(Cell::take).unwrap_or_default();
    // One step more than needed is accepted; otherwise sizes around a multiple would alternate.
    if spare.len() == room || spare.len() == room + LEN_STEP {
        spare.into_boxed_slice()
    } else {
        vec![0; room].into_boxed_slice()
    }
}

/// Prefetches the memory of the kept payload buffer, which nobody has read for long. For callers
/// that are about to wait for something else first.
pub(crate) fn prefetch_payload() {
    let ask = |kept: &Cell<Vec<u8>>| {
        let spare = kept.take();
        prefetch_bytes(&spare, LEN_MAX);
        kept.set(spare);
    };
    PAYLOAD.try_with(ask).ok();
}

/// Keeps the buffer of a payload that nobody reads any more, for the next one.
pub(crate) fn keep_payload(payload: Box<[u8]>) {
    if payload.len() <= LEN_MAX {
        PAYLOAD.try_with(|kept| kept.set(payload.into_vec())).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_payload_is_used_again_for_one_of_about_its_length() {
        let first = payload(4_100);
        assert_eq!(first.len(), 4_224);
        let place = first.as_ptr();
        keep_payload(first);
        let second = payload(4_000);
        assert_eq!((second.as_ptr(), second.len()), (place, 4_224), "one step more will do");
        keep_payload(second);
        assert_eq!(payload(3_900).len(), 3_968, "two steps more will not");
        keep_payload(vec![7; LEN_MAX + LEN_STEP].into());
        assert_eq!(payload(LEN_MAX + 1)[0], 0, "one that is too long is not kept");
        assert!(payload(0).is_empty());
    }

    #[test]
    fn buffer_for_what_is_read_grows_and_is_handed_out_at_the_length_that_was_asked_for() {
        let place = with_stored(100, |stored| {
            stored.fill(7);
            stored.as_ptr()
        });
        with_stored(50, |stored| assert_eq!((stored.len(), stored.as_ptr()), (50, place)));
        with_stored(LEN_MAX, |stored| assert_eq!(stored.len(), LEN_MAX));
    }
}

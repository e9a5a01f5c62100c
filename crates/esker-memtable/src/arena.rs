//! An arena: memory that only grows, holds everything of a memtable, and is freed all at once.
//!
//! Promises: memory from [`Arena::allocate`] is aligned, belongs to the caller alone, never moves,
//! and stays allocated until the arena drops. Does not know what is stored in it, and runs no
//! destructors.
//!
//! Chunk sizes double from [`CHUNK_SIZE_BYTES_MIN`], so that an almost empty keyspace costs
//! kilobytes, up to [`CHUNK_SIZE_BYTES_MAX`], one huge page. A page fault cost 1.85 us per 4 KiB
//! with small pages and 0.40 us with huge ones where this was measured, and a get touches three or
//! four pages at random. Chunks of that size come straight from the system and go back to it:
//! allocators that keep them return parts of them to the system, after which they consist of small
//! pages (of 188 chunks for two million puts, only 41 were huge under mimalloc).

#![expect(unsafe_code, reason = "raw memory is what this module is for; see UNSAFE.md")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Size of the first chunk.
pub(crate) const CHUNK_SIZE_BYTES_MIN: usize = 16 << 10;

/// Size of every chunk after the first few, and of a huge page of x86-64 and of AArch64 with
/// 4 KiB pages.
pub(crate) const CHUNK_SIZE_BYTES_MAX: usize = 2 << 20;

/// Chunks smaller than a huge page are aligned to this: a cache line.
const CHUNK_ALIGN_MIN: usize = 64;

/// An allocation larger than this share of the next chunk gets a chunk of its own, so that the rest
/// of the current chunk is not wasted.
const OWN_CHUNK_SHARE: usize = 4;

/// An append-only allocator.
pub(crate) struct Arena {
    chunks: Vec<Chunk>,
    /// First free byte of the current chunk.
    free: NonNull<u8>,
    /// Bytes left in the current chunk from `free` on.
    free_bytes: usize,
    used_bytes: usize,
    reserved_bytes: usize,
}

struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
    /// Whether it came from [`huge_pages::map`] and not from `alloc`.
    is_mapped: bool,
}

// SAFETY: the arena owns its chunks, and nothing in it is bound to the thread that made it.
unsafe impl Send for Arena {}

impl Arena {
    /// An arena that has allocated nothing.
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NonNull::dangling(),
            free_bytes: 0,
            used_bytes: 0,
            reserved_bytes: 0,
        }
    }

    /// Bytes handed out, including padding.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Bytes taken from the system's allocator.
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.reserved_bytes
    }

    /// Uninitialised memory of `layout`, which must not have size zero.
    #[inline]
    pub(crate) fn allocate(&mut self, layout: Layout) -> NonNull<u8> {
        assert!(layout.size() > 0 && layout.align() <= CHUNK_ALIGN_MIN, "a layout of the tree");
        let padding = self.free.as_ptr().align_offset(layout.align());
        let needed = layout.size() + padding;
        if self.free_bytes < needed {
            return self.allocate_from_new_chunk(layout);
        }
        // SAFETY: `padding + layout.size()` bytes are left in the current chunk (checked above).
        let start = unsafe { self.free.add(padding) };
        // SAFETY: as above; the result is at most one past the end of the chunk.
        self.free = unsafe { start.add(layout.size()) };
        self.free_bytes -= needed;
        self.used_bytes += needed;
        start
    }

    /// Moves `value` into the arena, where its destructor never runs.
    pub(crate) fn place<T>(&mut self, value: T) -> NonNull<T> {
        const { assert!(size_of::<T>() > 0) };
        let place = self.allocate(Layout::new::<T>()).cast::<T>();
        // SAFETY: `allocate` returned memory of the layout of `T` that is ours alone.
        unsafe { place.write(value) };
        place
    }

    #[cold]
    #[inline(never)]
    fn allocate_from_new_chunk(&mut self, layout: Layout) -> NonNull<u8> {
        // Doubling what is reserved keeps the unused part smaller than the used one.
        let chunk_size = (self.reserved_bytes.next_power_of_two())
            .clamp(CHUNK_SIZE_BYTES_MIN, CHUNK_SIZE_BYTES_MAX);
        if layout.size() > chunk_size / OWN_CHUNK_SHARE {
            let own = self.add_chunk(layout.size());
            self.used_bytes += layout.size();
            return own;
        }
        self.free = self.add_chunk(chunk_size);
        self.free_bytes = chunk_size;
        self.allocate(layout)
    }

    fn add_chunk(&mut self, size: usize) -> NonNull<u8> {
        let is_huge = size.is_multiple_of(CHUNK_SIZE_BYTES_MAX);
        let align = if is_huge { CHUNK_SIZE_BYTES_MAX } else { CHUNK_ALIGN_MIN };
        let layout = Layout::from_size_align(size, align)
            .expect("a chunk holds at most one key and one value of 4 GiB");
        let mapped = if is_huge { huge_pages::map(layout) } else { None };
        let start = mapped.unwrap_or_else(|| {
            // SAFETY: the layout's size is not zero: it is a chunk's, or that of a piece checked in
            // `allocate`.
            let start = unsafe { alloc(layout) };
            NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
        });
        self.chunks.push(Chunk { start, layout, is_mapped: mapped.is_some() });
        self.reserved_bytes += size;
        start
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            if chunk.is_mapped {
                // SAFETY: `chunk` came from `map` with this layout and is given back here only.
                unsafe { huge_pages::unmap(chunk.start, chunk.layout) };
            } else {
                // SAFETY: `chunk` came from `alloc` with this layout and is freed here only.
                unsafe { dealloc(chunk.start.as_ptr(), chunk.layout) };
            }
        }
    }
}

/// Memory from the system: in huge pages if it has them, otherwise in small ones.
#[cfg(target_os = "linux")]
mod huge_pages {
    use std::alloc::Layout;
    use std::ptr::{self, NonNull};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    /// Memory of `layout`, whose size is a multiple of its alignment, which is a multiple of the
    /// page size. `None` if the system refuses.
    pub(super) fn map(layout: Layout) -> Option<NonNull<u8>> {
        let (size, align) = (layout.size(), layout.align());
        let start = map_anywhere(size)?;
        // Linux 6.7 and later aligns mappings as large as a huge page by itself.
        let start = if start.as_ptr().align_offset(align) == 0 {
            start
        } else {
            // SAFETY: it was mapped just now with this size, and nobody knows it.
            unsafe { give_back(start, size) };
            map_and_trim(size, align)?
        };
        // SAFETY: the range was mapped just now, and the advice changes no contents.
        let advised = unsafe { madvise(start.as_ptr().cast(), size, Advice::LinuxHugepage) };
        // A kernel without huge pages refuses; only speed depends on them.
        advised.unwrap_or_default();
        Some(start)
    }

    /// Unmaps what [`map`] returned for `layout`.
    ///
    /// # Safety
    /// `start` must come from there, and must not be used any more.
    pub(super) unsafe fn unmap(start: NonNull<u8>, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { give_back(start, layout.size()) };
    }

    fn map_anywhere(size: usize) -> Option<NonNull<u8>> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so no memory of ours is replaced.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), size, protection, MapFlags::PRIVATE) };
        NonNull::new(start.ok()?.cast())
    }

    /// Maps more than needed, and unmaps what is before and after an aligned piece of it.
    pub(super) fn map_and_trim(size: usize, align: usize) -> Option<NonNull<u8>> {
        let start = map_anywhere(size.checked_add(align)?)?;
        let before = start.as_ptr().align_offset(align);
        // SAFETY: `before` is less than `align`, so that it lies in the mapping.
        let aligned = unsafe { start.add(before) };
        // SAFETY: the mapping is `align` bytes longer than `size`, and `before` less than that.
        let end = unsafe { aligned.add(size) };
        for (piece, len) in [(start, before), (end, align - before)] {
            if len != 0 {
                // SAFETY: what is before the piece that is kept, and what is behind it, are parts
                // of the mapping made above, and nobody knows them.
                unsafe { give_back(piece, len) };
            }
        }
        Some(aligned)
    }

    /// # Safety
    /// The range must be mapped by this module, and not be used any more.
    unsafe fn give_back(start: NonNull<u8>, len: usize) {
        // SAFETY: as the caller promises.
        let unmapped = unsafe { munmap(start.as_ptr().cast(), len) };
        // If it fails (too many mappings), the range stays mapped, which does no harm.
        unmapped.unwrap_or_default();
    }
}

#[cfg(not(target_os = "linux"))]
mod huge_pages {
    use std::alloc::Layout;
    use std::ptr::NonNull;

    pub(super) fn map(_layout: Layout) -> Option<NonNull<u8>> {
        None
    }

    pub(super) unsafe fn unmap(_start: NonNull<u8>, _layout: Layout) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_do_not_overlap() {
        let mut arena = Arena::new();
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for index in 0..5_000_usize {
            let layout =
                Layout::from_size_align(1 + index * 37 % 700, 1 << (index % 7)).expect("valid");
            let start = arena.allocate(layout).as_ptr() as usize;
            assert_eq!(start % layout.align(), 0);
            pieces.push((start, layout.size()));
        }
        pieces.sort_unstable();
        assert!(pieces.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        assert!(arena.used_bytes() <= arena.reserved_bytes());
    }

    #[test]
    fn an_empty_arena_costs_nothing_and_a_small_one_one_small_chunk() {
        let mut arena = Arena::new();
        assert_eq!(arena.reserved_bytes(), 0);
        arena.place(7_u64);
        assert_eq!(arena.reserved_bytes(), CHUNK_SIZE_BYTES_MIN);
    }

    #[test]
    fn a_huge_piece_leaves_the_current_chunk_in_use() {
        let mut arena = Arena::new();
        let before = arena.place(1_u64).as_ptr() as usize;
        let huge = Layout::from_size_align(10 << 20, 2).expect("valid");
        arena.allocate(huge);
        let after = arena.place(2_u64).as_ptr() as usize;
        assert_eq!(after, before + 8);
        assert_eq!(arena.reserved_bytes(), CHUNK_SIZE_BYTES_MIN + (10 << 20));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn huge_chunks_are_aligned_and_ours_alone() {
        let layout = Layout::from_size_align(2 * CHUNK_SIZE_BYTES_MAX, CHUNK_SIZE_BYTES_MAX);
        let layout = layout.expect("valid");
        let trimmed = || huge_pages::map_and_trim(layout.size(), layout.align());
        let mapped = || huge_pages::map(layout);
        let chunks: Vec<NonNull<u8>> =
            (0..8).filter_map(|index| if index % 2 == 0 { trimmed() } else { mapped() }).collect();
        assert_eq!(chunks.len(), 8);
        for (index, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk.as_ptr().align_offset(CHUNK_SIZE_BYTES_MAX), 0);
            // SAFETY: it was mapped with this size.
            unsafe { chunk.write_bytes(index as u8, layout.size()) };
        }
        for (index, chunk) in chunks.into_iter().enumerate() {
            // SAFETY: as above, every byte of it was written, and nothing writes to it now.
            let bytes = unsafe { std::slice::from_raw_parts(chunk.as_ptr(), layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == index as u8));
            // SAFETY: it came from `map` or what `map` uses, and is not used again.
            unsafe { huge_pages::unmap(chunk, layout) };
        }
    }
}

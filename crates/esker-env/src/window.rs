//! A window onto a file: a piece of it mapped into memory, to write through.
//!
//! Promises what a write promises: bytes written through a window survive the death of the process,
//! and [`File::sync_data`](crate::File::sync_data) makes them durable. Never reads. Knows nothing
//! of what is written.
//!
//! A write of 150 bytes to ext4 takes 25 to 55 ns through a window, and 570 to 630 ns by system
//! call, including pages that are written for the first time (64 MiB each, two busy cores, user and
//! system time).
//!
//! The risk of writing through memory: the system cannot report an error, and ends the process
//! instead. So a window is opened only if every page can be prepared in advance, including disk
//! space, with an error if that fails ([`Advice::LinuxPopulateWrite`]); only over bytes that the
//! file already has; and only on file systems that overwrite in place, so that a page that the
//! system has stored in the meantime needs no new space. The remaining cases are somebody
//! truncating the file under a running process, and a disk that cannot read back a page that was
//! dropped from memory since the window was opened.
//!
//! XFS is not among these file systems, though its windows are as fast: after it has shut itself
//! down, as after a device failure, it refuses to map a page that it has stored in the meantime,
//! which ends the program where a system call would get an error (ext4 lets such a write pass,
//! after a shutdown and after an abort; all three were tried). Also, a file that somebody has
//! cloned is copied there at the next write, which needs space.
//!
//! A window over exactly [`HUGE_PAGE_BYTES`] is requested as one page. If the file system uses
//! large folios (recent ext4), one fault then prepares it, in 65 to 140 us; page by page, the same
//! took 2.8 ms on ext4 (5.4 us each), since each fault there processes every block of the folio
//! that the page is part of.

#![expect(unsafe_code, reason = "writes to mapped memory; see UNSAFE.md")]

use std::fmt;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// The alignment of windows, and the unit that the system stores.
pub const PAGE_BYTES: u64 = 4096;

/// The next larger page size, of x86-64 and of AArch64 with 4 KiB pages: a window that covers
/// exactly one such page is the cheapest.
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// File systems that overwrite in place, as `statfs` names them: ext4 (and 2 and 3), tmpfs.
const IN_PLACE: [u64; 2] = [0xef53, 0x0102_1994];

/// A piece of a file, mapped into memory.
pub struct FileWindow {
    start: NonNull<u8>,
    len: usize,
    offset: u64,
}

// SAFETY: the mapping belongs to no thread, and only its owner uses it.
unsafe impl Send for FileWindow {}
// SAFETY: a shared reference gives access to plain numbers alone.
unsafe impl Sync for FileWindow {}

impl FileWindow {
    /// Opens a window of `len` bytes at `offset`, which must be inside the file. `None` if writing
    /// by system call is better, for whatever reason.
    pub(crate) fn open(file: impl AsFd, offset: u64, len: usize) -> Option<Self> {
        let file = file.as_fd();
        let kind = rustix::fs::fstatfs(file).ok()?.f_type;
        let is_in_place =
            IN_PLACE.iter().any(|known| u64::try_from(kind).is_ok_and(|it| it == *known));
        let file_bytes = u64::try_from(rustix::fs::fstat(file).ok()?.st_size).ok()?;
        let is_inside = offset.checked_add(len as u64)? <= file_bytes;
        if !is_in_place || !is_inside || len == 0 || !offset.is_multiple_of(PAGE_BYTES) {
            return None;
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so no memory of ours is replaced.
        let start =
            unsafe { mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, file, offset) };
        let window = Self { start: NonNull::new(start.ok()?.cast())?, len, offset };
        if window.is_huge() {
            // Without this, megabytes after the first page would be prepared too, page by page.
            window.advise(Advice::Random).unwrap_or_default();
            // If there are none, small pages do.
            window.advise(Advice::LinuxHugepage).unwrap_or_default();
        }
        window.advise(Advice::LinuxPopulateWrite).ok().map(|()| window)
    }

    fn advise(&self, advice: Advice) -> rustix::io::Result<()> {
        // SAFETY: the range is the mapping that `self` owns, and no advice that `open` gives changes
        // its contents.
        unsafe { madvise(self.start.as_ptr().cast(), self.len, advice) }
    }

    /// Whether it can be one huge page. A huge window mapped in small pages would cost more than
    /// many small windows.
    fn is_huge(&self) -> bool {
        let at = self.start.as_ptr() as u64;
        self.len as u64 == HUGE_PAGE_BYTES
            && self.offset.is_multiple_of(HUGE_PAGE_BYTES)
            && at.is_multiple_of(HUGE_PAGE_BYTES)
    }

    /// Whether `len` bytes at `offset` of the file are inside.
    #[inline]
    #[must_use]
    pub const fn contains(&self, offset: u64, len: usize) -> bool {
        match offset.checked_sub(self.offset) {
            Some(at) => at <= self.len as u64 && len as u64 <= self.len as u64 - at,
            None => false,
        }
    }

    /// Its end in the file.
    #[must_use]
    pub const fn end_offset(&self) -> u64 {
        self.offset + self.len as u64
    }

    /// Writes `bytes` at `offset` of the file.
    ///
    /// # Panics
    /// If they do not lie inside.
    #[inline]
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(self.contains(offset, bytes.len()), "a write through a window stays inside");
        let at = (offset - self.offset) as usize;
        // SAFETY: `at` is at most the length of the mapping (asserted above).
        let to = unsafe { self.start.add(at) };
        // SAFETY: `bytes.len()` bytes from there lie in the mapping (asserted above), which is
        // alive until `self` drops. No reference to it exists anywhere, so `bytes` is elsewhere.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }
}

impl Drop for FileWindow {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` with this length, and nothing refers to it.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        // It fails for a range that is none of ours; then it stays, and does no harm.
        unmapped.unwrap_or_default();
    }
}

impl fmt::Debug for FileWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileWindow({}..{})", self.offset, self.offset + self.len as u64)
    }
}

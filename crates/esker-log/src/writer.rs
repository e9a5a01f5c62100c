//! Appends frames to a segment.

use std::path::Path;
use std::sync::Arc;

use esker_base::FileHeader;
use esker_env::{
    File, FileError, FileExt, FileSystem, FileWindow, HUGE_PAGE_BYTES, IoError, PAGE_BYTES,
};

use crate::frame::{self, Content, HEAD_LEN_MAX, SegmentIdentity};
use crate::next_window::Piece;
use crate::reader::{LogEnd, LogReader};
use crate::sync::{LogSync, Shared};
use crate::write_back::write_back;

/// Largest buffer, in bytes, that is kept from one write to the next: a huge frame must not hold
/// its memory for the life of the segment.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// Size and alignment of a window, in bytes: see [`HUGE_PAGE_BYTES`].
const WINDOW_BYTES: u64 = HUGE_PAGE_BYTES;

/// Bytes that are written by system calls after a sync, before windows are used again. The first
/// write through a window after a sync makes all of it dirty, so that the next sync writes 2 MiB:
/// some two milliseconds, which is what system calls cost for this many bytes. So frequent syncs
/// write only new bytes, and a log that is seldom synced is seldom written by calls.
const CALLED_BYTES: u64 = 512 << 10;

/// A segment with less space than this, such as a manifest, is not worth a mapping.
const MAPPED_BYTES_MIN: u64 = 128 << 10;

/// The single writer of a segment: frames gather in a buffer until [`LogWriter::write`] hands them
/// to the system.
///
/// # Cost
/// A payload of 150 bytes, appended and written alone to ext4 on a machine of two cores, takes 200
/// ns through a [window](FileWindow), at a time when a system call took 1,000; on an idle machine,
/// 650 ns by system calls, which take 590 of them (`examples/append_cost.rs`, release build).
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    identity: SegmentIdentity,
    header: FileHeader,
    /// Frames not yet handed to the system.
    buffer: Vec<u8>,
    /// Offset of the first byte of `buffer` in the file.
    written: u64,
    /// Offset up to which space on the device is reserved.
    room_end: u64,
    /// Offset up to which space is added in large steps.
    room_max: u64,
    /// Checksum of the last frame, or 0.
    chain: u32,
    is_sealed: bool,
    /// Whether to try to open windows.
    may_map: bool,
    window: Option<FileWindow>,
    /// Whether a window was requested since this was last checked.
    wants_window: bool,
    /// How far the segment was durable when its first window was prepared in advance, if it was.
    readied_at: Option<u64>,
}

/// Space is reserved in pieces of this many bytes, if there is that much.
const ROOM_BYTES: u64 = 64 << 10;

/// The same, up to the planned size of a segment: two windows. That much space may be left unused;
/// each step costs a system call, and makes the next sync change metadata.
const ROOM_STEP_BYTES: u64 = 2 * WINDOW_BYTES;

impl LogWriter {
    /// The most that a frame takes besides its payload, in bytes.
    pub const FRAME_OVERHEAD_MAX: u64 = HEAD_LEN_MAX as u64;

    /// Creates the segment `path`, with a planned size of `allocate_bytes`, and writes its header.
    /// Reserves that much space, or the first 4 MiB of it; the rest is added when needed.
    ///
    /// # Durability
    /// None: neither the header nor the name is durable. Sync both (the name by a sync of the
    /// directory) before anything durable says that the segment exists; the reader takes a header
    /// that names another file to be damage.
    ///
    /// # Errors
    /// Of the system; the file is then removed again where possible.
    pub fn create(
        fs: &dyn FileSystem,
        path: &Path,
        header: FileHeader,
        allocate_bytes: u64,
    ) -> Result<Self, FileError> {
        let file = fs.create(path)?;
        let room_bytes = allocate_bytes.min(ROOM_STEP_BYTES);
        let prepare = || -> Result<(), IoError> {
            // Even if no space is planned: see `File::allocate` about the first allocation of an
            // empty file.
            file.allocate(0, room_bytes.max(FileHeader::LEN as u64))?;
            file.write_all_at(0, &header.encode())
        };
        match prepare() {
            Ok(()) => {
                let writer = Self::after_header(file, header, 0, room_bytes);
                Ok(Self { room_max: allocate_bytes, ..writer })
            }
            Err(error) => {
                // The first failure is the one to report; at worst, the file becomes an orphan.
                drop(file);
                drop(fs.remove(path));
                Err(error.into())
            }
        }
    }

    /// Turns the segment `old_path`, which nothing refers to any more, into an empty one under
    /// `path`. Its disk space is kept, and so are its bytes, which no longer count as frames.
    ///
    /// # Durability
    /// The header is durable before the file gets its new name, so that a file under that name
    /// never has an old header. The name needs a sync of the directory.
    ///
    /// # Errors
    /// Of the system. The file may then have either name.
    pub fn recycle(
        fs: &dyn FileSystem,
        old_path: &Path,
        path: &Path,
        header: FileHeader,
    ) -> Result<Self, FileError> {
        let file = fs.open_for_write(old_path)?;
        file.write_all_at(0, &header.encode())?;
        if !esker_base::planted::is("recycled-header-not-synced") {
            file.sync_data()?;
        }
        drop(file);
        fs.rename(old_path, path)?;
        let file = fs.open_for_write(path)?;
        let room_end = file.len()?;
        Ok(Self::after_header(file, header, FileHeader::LEN as u64, room_end))
    }

    /// Continues where `reader` found the end of an unsealed segment.
    ///
    /// # Durability
    /// What was read may be only in the system's memory, after a sync that failed; so it is written
    /// again, for the next sync to store.
    ///
    /// # Errors
    /// Of the system, and `Corruption` if a second read does not find what `reader` has found.
    ///
    /// # Panics
    /// Unless the reader has reached [`LogEnd::Clean`]: frames after a torn place would be lost to
    /// every later reader.
    pub fn resume(fs: &dyn FileSystem, reader: &LogReader) -> Result<Self, FileError> {
        let LogEnd::Clean { offset } = reader.end() else {
            panic!("a segment that is sealed or torn is not appended to");
        };
        let file = fs.open_for_write(reader.path())?;
        write_back(&*file, 0, &reader.extent()?)?;
        // Nothing is known to be durable: what was read may be only in the system's memory.
        let mut writer = Self::after_header(file, *reader.header(), 0, 0);
        writer.written = offset;
        writer.chain = reader.chain();
        writer.shared.set_written(offset);
        Ok(writer)
    }

    fn after_header(file: Arc<dyn File>, header: FileHeader, durable: u64, room_end: u64) -> Self {
        let written = FileHeader::LEN as u64;
        Self {
            shared: Shared::new(file, written, durable),
            identity: SegmentIdentity::new(&header),
            header,
            buffer: Vec::new(),
            written,
            room_end,
            room_max: 0,
            chain: 0,
            is_sealed: false,
            may_map: true,
            window: None,
            wants_window: false,
            readied_at: None,
        }
    }

    /// Makes sure that the device has space for `bytes` after what was appended, so that their
    /// write cannot fail for lack of space, after which the state of the segment would be unknown.
    ///
    /// # Errors
    /// Of the system. Nothing has changed then: the writer can go on, and this can be tried again.
    ///
    /// # Cost
    /// A comparison, unless the space is used up. Where the system cannot reserve space, zeros are
    /// written.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), FileError> {
        let end = self.end_offset() + bytes;
        if self.room_end < end {
            let start = self.room_end.max(self.written);
            let foreseen = self.room_max.saturating_sub(start).min(ROOM_STEP_BYTES);
            let ample = (end - start).max(foreseen).max(ROOM_BYTES);
            let file = &self.shared.file;
            let added = file.allocate(start, ample).map(|()| ample);
            // A whole piece is optional; the space for the frame is not.
            self.room_end = start
                + added.or_else(|_| file.allocate(start, end - start).map(|()| end - start))?;
        }
        Ok(())
    }

    /// The segment's header.
    #[must_use]
    pub const fn header(&self) -> &FileHeader {
        &self.header
    }

    /// The segment's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.shared.path()
    }

    /// Encodes one frame, whose payload is the concatenation of `parts`, and returns the offset
    /// that the segment ends at once the frame is written. An empty payload is a payload.
    ///
    /// # Panics
    /// After [`LogWriter::seal`].
    ///
    /// # Cost
    /// One copy of the payload. No allocation, once the buffer has grown to what is buffered
    /// between two writes; a buffer of over 1 MiB is freed after its write.
    pub fn append(&mut self, parts: &[&[u8]]) -> u64 {
        self.encode(&Content::Payload(parts))
    }

    fn encode(&mut self, content: &Content<'_>) -> u64 {
        assert!(!self.is_sealed, "a sealed segment is complete");
        let durable = self.shared.durable_offset();
        let place = frame::FramePosition { offset: self.end_offset(), durable, chain: self.chain };
        assert!(durable <= place.offset, "only what is written can be durable");
        self.chain = self.identity.encode(&mut self.buffer, place, content);
        self.end_offset()
    }

    /// Bytes waiting for [`LogWriter::write`].
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Where the segment ends once everything appended is written.
    #[must_use]
    pub const fn end_offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Offset up to which the system has the segment.
    #[must_use]
    pub const fn written_offset(&self) -> u64 {
        self.written
    }

    /// Hands everything appended to the system, in one write.
    ///
    /// # Durability
    /// Survives the death of the process; power loss only after a [`LogSync::sync`].
    ///
    /// # Errors
    /// If the write failed, or any earlier write or sync of this segment. It is then unknown
    /// whether the frames can be read back, and the writer only repeats the error.
    pub fn write(&mut self) -> Result<(), FileError> {
        let has_written = !self.buffer.is_empty() && self.write_through_window();
        let (shared, buffer) = (&self.shared, &self.buffer);
        let result = shared.attempt(|| match buffer.as_slice() {
            [] => Ok(()),
            _ if has_written => Ok(()),
            bytes => shared.file.write_all_at(self.written, bytes),
        });
        if result.is_ok() {
            self.written = self.end_offset();
            self.shared.set_written(self.written);
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        result
    }

    /// Writes the buffer through a window, if that is possible and cheaper than a system call;
    /// returns whether it did.
    #[inline]
    fn write_through_window(&mut self) -> bool {
        if !self.may_map || self.is_near_sync() || self.shared.check().is_err() {
            return false;
        }
        match &mut self.window {
            Some(window) if window.contains(self.written, self.buffer.len()) => {
                window.write(self.written, &self.buffer);
                true
            }
            _ => self.write_into_next_window(),
        }
    }

    /// Whether the last bytes written were synced, so that the next should be written by a system
    /// call. A window that was prepared in advance is dirty as a whole anyway, and the sync before
    /// it was that of the new file.
    #[inline]
    fn is_near_sync(&self) -> bool {
        let durable = self.shared.durable_offset();
        self.readied_at != Some(durable) && self.written.saturating_sub(durable) < CALLED_BYTES
    }

    /// Writes what fits through the current window, and the rest through the next one. If that does
    /// not complete, the system call writes everything again.
    #[cold]
    fn write_into_next_window(&mut self) -> bool {
        let rest = match &mut self.window {
            Some(window) if window.contains(self.written, 0) => {
                let fits = (window.end_offset() - self.written) as usize;
                let (head, rest) = self.buffer.split_at(fits);
                window.write(self.written, head);
                rest.len()
            }
            _ => self.buffer.len(),
        };
        let start = self.end_offset() - rest as u64;
        self.open_window(start, rest);
        let rest = &self.buffer[self.buffer.len() - rest..];
        match &mut self.window {
            Some(window) if window.contains(start, rest.len()) => {
                window.write(start, rest);
                true
            }
            _ => false,
        }
    }

    /// Opens the window that holds `len` bytes from `start`, if there can be one.
    fn open_window(&mut self, start: u64, len: usize) {
        let place = self.window_place(start);
        if self.room_end < MAPPED_BYTES_MIN || place.end() < start + len as u64 {
            return;
        }
        let ready = self.shared.next_window.exchange(self.window.take());
        let fits = |window: &FileWindow| window.contains(start, len);
        let open = || self.shared.file.window(place.offset, place.len);
        self.window = ready.filter(fits).or_else(open);
        self.may_map = self.window.is_some();
        if self.may_map && place.end() == self.room_end {
            self.add_step();
        }
        if self.may_map && place.end() < self.room_end {
            self.shared.next_window.want(self.window_place(place.end()));
            self.wants_window = true;
        }
    }

    /// Adds the next step of planned space before it is needed, so that its first window can be
    /// prepared. If that fails, it is tried again when needed.
    fn add_step(&mut self) {
        let step = self.room_max.saturating_sub(self.room_end).min(ROOM_STEP_BYTES);
        if step != 0 && self.shared.file.allocate(self.room_end, step).is_ok() {
            self.room_end += step;
        }
    }

    /// The place of the window that contains `offset`: a whole one, or the remaining pages of the
    /// space.
    const fn window_place(&self, offset: u64) -> Piece {
        let whole = Piece { offset: offset - offset % WINDOW_BYTES, len: WINDOW_BYTES as usize };
        if whole.end() <= self.room_end {
            return whole;
        }
        let offset = offset - offset % PAGE_BYTES;
        Piece { offset, len: self.room_end.saturating_sub(offset) as usize }
    }

    /// Opens the first window of a new segment, to be called on a thread that is not in a hurry.
    pub fn ready_first_window(&mut self) {
        if self.may_map && self.window.is_none() {
            self.open_window(self.written, 0);
            self.readied_at = self.window.is_some().then(|| self.shared.durable_offset());
        }
    }

    /// Whether the next window has become wanted: then another thread should call
    /// [`LogSync::ready_window`]. True once for each window; if nobody calls it, the writer goes on
    /// without.
    pub fn take_window_request(&mut self) -> bool {
        std::mem::take(&mut self.wants_window)
    }

    /// Closes all windows: none may be open on a part that is cut off.
    fn close_windows(&mut self) {
        self.window = None;
        self.shared.next_window.clear();
    }

    /// A handle that makes written bytes durable.
    #[must_use]
    pub fn sync_handle(&self) -> LogSync {
        LogSync::new(Arc::clone(&self.shared))
    }

    /// Releases the space reserved after what is written. It is not required: a segment grows as it
    /// is written.
    ///
    /// # Errors
    /// As [`LogWriter::write`].
    pub fn give_back_room(&mut self) -> Result<(), FileError> {
        self.close_windows();
        self.room_end = self.written;
        self.shared.attempt(|| self.shared.file.truncate(self.written))
    }

    /// Ends the segment: everything appended and the seal itself are durable when this returns, and
    /// the space after them is released. From then on every damaged frame is noticed, even the last
    /// one.
    ///
    /// # Errors
    /// As [`LogWriter::write`] and [`LogSync::sync`].
    ///
    /// # Panics
    /// If the segment is sealed already.
    ///
    /// # Cost
    /// One sync, and one more if frames were not durable before: the seal states that everything
    /// before it is durable, so it must not reach the disk first.
    pub fn seal(&mut self) -> Result<(), FileError> {
        self.write()?;
        let _durable =
            if esker_base::planted::is("seal-before-sync") { 0 } else { self.shared.sync()? };
        self.encode(&Content::Seal);
        self.is_sealed = true;
        self.write()?;
        self.close_windows();
        self.may_map = false;
        // Before the sync, which covers it; if it is lost, what follows a seal does not matter.
        self.shared.attempt(|| self.shared.file.truncate(self.written))?;
        self.shared.sync()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use esker_base::{DatabaseId, FileId, FileKind, OwnerId};
    use esker_env::OsFileSystem;

    use super::*;

    /// Of each segment the first 512 KiB were written by calls, since its header had been synced.
    #[test]
    fn a_window_that_was_readied_ahead_is_written_through_up_to_the_next_sync() {
        let path = std::env::temp_dir().join(format!("esker-readied-{}", std::process::id()));
        let id = FileId { owner: OwnerId::FIRST, counter: 7 };
        let (kind, database) = (FileKind::Log, DatabaseId([1; 16]));
        let header = FileHeader { kind, format: 1, id, database };
        let mut log = LogWriter::create(&OsFileSystem, &path, header, WINDOW_BYTES).unwrap();
        OsFileSystem.remove(&path).unwrap();
        let sync = log.sync_handle();
        sync.sync().unwrap();
        assert!(log.is_near_sync());
        log.ready_first_window();
        // Unless this file system gives none.
        assert_eq!(log.is_near_sync(), log.window.is_none());
        log.append(&[&[7; 100]]);
        log.write().unwrap();
        assert_eq!(log.is_near_sync(), log.window.is_none());
        sync.sync().unwrap();
        assert!(log.is_near_sync());
    }
}

//! Appends frames to a segment.

use std::path::Path;
use std::sync::Arc;

use esker_base::FileHeader;
use esker_env::{
    File, FileError, FileExt, FileSystem, FileWindow, HUGE_PAGE_BYTES, IoError, PAGE_BYTES,
};

use crate::frame::{self, Content, HEAD_LEN_MAX, SegmentIdentity};
use crate::next_window::Place;
use crate::reader::{LogEnd, LogReader};
use crate::sync::{LogSync, Shared};
use crate::write_back::write_back;

/// Largest buffer that is kept from one write to the next, in bytes: one huge frame must not hold
/// its memory for the life of the segment.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// What is written through one window, in bytes, and what its offset is a multiple of: see there.
const WINDOW_BYTES: u64 = HUGE_PAGE_BYTES;

/// What is written by calls behind a sync before windows are used again, in bytes. The first write
/// through a window that was synced makes all of it dirty, so that the next sync writes 2 MiB: some two
/// milliseconds, which is what calls cost for so many bytes. So syncs that come one after the other write
/// what is new, and a log that is seldom synced is seldom written by calls.
const CALLED_BYTES: u64 = 512 << 10;

/// A segment with less room than this is not worth a mapping: a manifest.
const MAPPED_BYTES_MIN: u64 = 128 << 10;

/// The one writer of a segment: frames gather in a buffer until [`LogWriter::write`] hands them to
/// the system.
///
/// # Cost
/// A payload of 150 bytes, appended and written alone to ext4 on a machine of two cores, takes
/// 200 ns through a [window](FileWindow), on a day when a call of the system takes 1,000; on an idle
/// one 650 ns by calls, of which the calls take 590 (`examples/append_cost.rs`, release build).
#[derive(Debug)]
pub struct LogWriter {
    shared: Arc<Shared>,
    identity: SegmentIdentity,
    header: FileHeader,
    /// Frames that the system does not have yet.
    buffer: Vec<u8>,
    /// Offset of the first byte of `buffer` in the file.
    written: u64,
    /// Up to where the file has room on the device.
    room_end: u64,
    /// Up to where room is added by the step.
    room_max: u64,
    /// Checksum of the last frame, or 0.
    chain: u32,
    is_sealed: bool,
    /// Whether to try for windows.
    may_map: bool,
    window: Option<FileWindow>,
    /// Whether a window was asked for since the last look.
    wants_window: bool,
    /// Up to where the segment was durable when its first window was readied ahead, if it was.
    readied_at: Option<u64>,
}

/// Room is added in pieces of this many bytes, where there is so much.
const ROOM_BYTES: u64 = 64 << 10;

/// The same up to the size that was foreseen for a segment: two windows. As much may lie on the device
/// unused; each step costs a call, and the sync behind it a change of metadata.
const ROOM_STEP_BYTES: u64 = 2 * WINDOW_BYTES;

impl LogWriter {
    /// The most that a frame takes beside its payload, in bytes.
    pub const FRAME_OVERHEAD_MAX: u64 = HEAD_LEN_MAX as u64;

    /// Creates the segment `path`, which is to grow to `allocate_bytes`, and writes its header. It has
    /// room for as much, or for the first 4 MiB of it; the rest is added when it is needed.
    ///
    /// # Durability
    /// None: neither the header nor the name is durable. Sync both (the name by a sync of the
    /// directory) before anything durable says that the segment exists; the reader takes a header
    /// that names another file for damage.
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
            // Also where no room is foreseen: see `File::allocate` on the first of an empty file.
            file.allocate(0, room_bytes.max(FileHeader::LEN as u64))?;
            file.write_all_at(0, &header.encode())
        };
        match prepare() {
            Ok(()) => {
                let writer = Self::after_header(file, header, 0, room_bytes);
                Ok(Self { room_max: allocate_bytes, ..writer })
            }
            Err(error) => {
                // The first failure is the one to tell; the file is an orphan at worst.
                drop(file);
                drop(fs.remove(path));
                Err(error.into())
            }
        }
    }

    /// Turns the segment `old_path`, which nothing refers to any more, into an empty one under
    /// `path`. The room that it has on the disk is kept, and so are its bytes, which no longer
    /// count as frames.
    ///
    /// # Durability
    /// The header is durable before the file has its new name, so that a file under that name
    /// never carries a former header. The name needs a sync of the directory.
    ///
    /// # Errors
    /// Of the system. The file may then be found under either name.
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

    /// Goes on where `reader` found the end of an unsealed segment.
    ///
    /// # Durability
    /// What was read may be nowhere but in the system's memory, and may have met a sync that failed: it is
    /// written once more, so that the next sync stores it.
    ///
    /// # Errors
    /// Of the system.
    ///
    /// # Panics
    /// Unless the reader has come to [`LogEnd::Clean`]: frames after a torn place would be lost
    /// to every later reader.
    pub fn resume(fs: &dyn FileSystem, reader: &LogReader) -> Result<Self, FileError> {
        let LogEnd::Clean { offset } = reader.end() else {
            panic!("a segment that is sealed or torn is not appended to");
        };
        let file = fs.open_for_write(reader.path())?;
        write_back(&*file, 0, offset)?;
        // Nothing is known durable: what was read may be in the system's memory only.
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

    /// Makes sure that the device has room for `bytes` behind what was appended, so that a write of
    /// them does not fail for want of space, after which nothing is known of the segment.
    ///
    /// # Errors
    /// Of the system. Nothing has changed then: the writer goes on, and it may be tried again.
    ///
    /// # Cost
    /// A comparison, unless the room is used up. Where the file system cannot reserve room it
    /// says that it did.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), FileError> {
        let end = self.end_offset() + bytes;
        if self.room_end < end {
            let start = self.room_end.max(self.written);
            let foreseen = self.room_max.saturating_sub(start).min(ROOM_STEP_BYTES);
            let ample = (end - start).max(foreseen).max(ROOM_BYTES);
            let file = &self.shared.file;
            let added = file.allocate(start, ample).map(|()| ample);
            // A piece is a convenience; the frame needs what it needs.
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
    /// between two writes; a buffer of over 1 MiB is given back after its write.
    pub fn append(&mut self, parts: &[&[u8]]) -> u64 {
        self.encode(&Content::Payload(parts))
    }

    fn encode(&mut self, content: &Content<'_>) -> u64 {
        assert!(!self.is_sealed, "a sealed segment is complete");
        let durable = self.shared.durable_offset();
        let place = frame::Place { offset: self.end_offset(), durable, chain: self.chain };
        assert!(durable <= place.offset, "only what is written can be durable");
        self.chain = self.identity.encode(&mut self.buffer, place, content);
        self.end_offset()
    }

    /// How many bytes wait for [`LogWriter::write`].
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Where the segment ends once everything appended is written.
    #[must_use]
    pub const fn end_offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Up to where the system has the segment.
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
    /// If the write failed, or any write or sync of this segment before it. Whether the frames
    /// can be read back is then unknown, and the writer only repeats the error.
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

    /// Writes the buffer through a window, if that can be done and is cheaper than a call; whether
    /// it was done.
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

    /// Whether what was written last was synced, and a call is to write what comes next. A window that
    /// was readied ahead is dirty as a whole, and the sync before it was that of the new file.
    #[inline]
    fn is_near_sync(&self) -> bool {
        let durable = self.shared.durable_offset();
        self.readied_at != Some(durable) && self.written.saturating_sub(durable) < CALLED_BYTES
    }

    /// Writes what fits through the window at hand, and the rest through the one that comes after it.
    /// What is left unwritten by that, the call writes again.
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

    /// Opens the window in which `len` bytes from `start` lie, unless there is none that holds them.
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

    /// Adds the next step of the room that was foreseen before it is needed, so that the first window
    /// there can be readied. If that fails, it is tried again when it is needed.
    fn add_step(&mut self) {
        let step = self.room_max.saturating_sub(self.room_end).min(ROOM_STEP_BYTES);
        if step != 0 && self.shared.file.allocate(self.room_end, step).is_ok() {
            self.room_end += step;
        }
    }

    /// Where the window lies that `offset` is in: a whole one, or the pages that are left of the room.
    const fn window_place(&self, offset: u64) -> Place {
        let whole = Place { offset: offset - offset % WINDOW_BYTES, len: WINDOW_BYTES as usize };
        if whole.end() <= self.room_end {
            return whole;
        }
        let offset = offset - offset % PAGE_BYTES;
        Place { offset, len: self.room_end.saturating_sub(offset) as usize }
    }

    /// Opens the first window of a new segment, for a thread that has the time.
    pub fn ready_first_window(&mut self) {
        if self.may_map && self.window.is_none() {
            self.open_window(self.written, 0);
            self.readied_at = self.window.is_some().then(|| self.shared.durable_offset());
        }
    }

    /// Whether the window that comes after the one in use is wanted: somebody is to call
    /// [`LogSync::ready_window`], on another thread. Says so once for each; where nobody does, the
    /// writer does without.
    pub fn wants_window(&mut self) -> bool {
        std::mem::take(&mut self.wants_window)
    }

    /// Closes all windows: none may be open on what is cut off.
    fn close_windows(&mut self) {
        self.window = None;
        self.shared.next_window.clear();
    }

    /// A handle that makes what is written durable.
    #[must_use]
    pub fn sync_handle(&self) -> LogSync {
        LogSync::new(Arc::clone(&self.shared))
    }

    /// Gives back the room that was reserved behind what is written. It is not missed: a segment
    /// grows as it is written.
    ///
    /// # Errors
    /// As [`LogWriter::write`].
    pub fn give_back_room(&mut self) -> Result<(), FileError> {
        self.close_windows();
        self.room_end = self.written;
        self.shared.attempt(|| self.shared.file.truncate(self.written))
    }

    /// Ends the segment: everything appended and the seal itself are durable when it returns, and
    /// the room behind them is given back. From then on every damaged frame is noticed, the last
    /// one too.
    ///
    /// # Errors
    /// As [`LogWriter::write`] and [`LogSync::sync`].
    ///
    /// # Panics
    /// If the segment is sealed already.
    ///
    /// # Cost
    /// One sync, and one more where frames were not durable before: the seal says that all before
    /// it was durable, so it may not reach the disk ahead of it.
    pub fn seal(&mut self) -> Result<(), FileError> {
        self.write()?;
        let _durable =
            if esker_base::planted::is("seal-before-sync") { 0 } else { self.shared.sync()? };
        self.encode(&Content::Seal);
        self.is_sealed = true;
        self.write()?;
        self.close_windows();
        self.may_map = false;
        // Ahead of the sync, which covers it: lost or not, what follows a seal does not matter.
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

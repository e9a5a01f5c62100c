//! Writes a file from front to back in large pieces, and checksums it on the way.

use std::sync::Arc;

use esker_base::checksum::Checksummer;
use esker_env::{File, FileExt, IoError};

use crate::WriteBehind;

/// Bytes handed to the system at a time: large enough to make the cost of the call negligible.
const BUFFER_BYTES: usize = 1 << 20;

/// A file that is written from front to back.
pub(crate) struct SequentialWriter {
    file: Arc<dyn File>,
    /// The thread that writes and syncs the buffer, if it is not the one that fills it.
    behind: Option<Arc<WriteBehind>>,
    buffer: Vec<u8>,
    buffer_bytes: usize,
    /// Bytes handed on.
    written_bytes: u64,
    checksum: Checksummer,
    /// The first failure. From then on it is unknown what was written, so every later call fails
    /// too.
    failure: Option<IoError>,
}

impl SequentialWriter {
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self {
            file,
            behind: None,
            buffer: Vec::new(),
            buffer_bytes: BUFFER_BYTES,
            written_bytes: 0,
            checksum: Checksummer::new(),
            failure: None,
        }
    }

    /// Leaves writes and syncs to `behind`.
    pub(crate) fn write_behind(&mut self, behind: Arc<WriteBehind>) {
        self.buffer_bytes = behind.piece_bytes();
        self.behind = Some(behind);
    }

    /// The file offset of the next byte.
    pub(crate) const fn offset(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    /// What is allocated, in bytes.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The buffer for the next bytes, which must only be appended. To be followed by
    /// [`SequentialWriter::advance`].
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            // Room for the block that fills it, too.
            self.buffer.reserve(self.buffer_bytes + BUFFER_BYTES / 8);
        }
        &mut self.buffer
    }

    /// Hands the buffer on if it is full.
    pub(crate) fn advance(&mut self) -> Result<(), IoError> {
        if self.buffer.len() < self.buffer_bytes { Ok(()) } else { self.write() }
    }

    /// Hands the buffer on.
    pub(crate) fn write(&mut self) -> Result<(), IoError> {
        self.check()?;
        if self.written_bytes == 0 && self.buffer.len() < self.buffer_bytes {
            // A short file is not worth a thread.
            self.behind = None;
        }
        self.checksum.update(&self.buffer);
        let offset = self.written_bytes;
        self.written_bytes += self.buffer.len() as u64;
        if let Some(behind) = &self.behind {
            let bytes = std::mem::take(&mut self.buffer);
            let empty = behind.write(&self.file, offset, bytes);
            self.failure = empty.map(|empty| self.buffer = empty).err();
            return self.check();
        }
        let outcome = self.file.write_all_at(offset, &self.buffer);
        self.buffer.clear();
        if self.buffer.capacity() > 4 * BUFFER_BYTES {
            // It had grown for one large value.
            self.buffer = Vec::new();
        }
        self.failure = outcome.err();
        self.check()
    }

    /// The checksum of everything handed on.
    pub(crate) fn written_checksum(&self) -> u64 {
        self.checksum.finish()
    }

    /// Makes everything handed on durable: at once, or once it is written.
    pub(crate) fn sync(&mut self) -> Result<(), IoError> {
        self.check()?;
        self.failure = if esker_base::planted::is("skip-table-sync") {
            None
        } else {
            let behind = self.behind.as_ref();
            behind.map_or_else(|| self.file.sync_data(), |behind| behind.sync(&self.file)).err()
        };
        self.check()
    }

    /// Fails if an earlier call did.
    pub(crate) fn check(&self) -> Result<(), IoError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

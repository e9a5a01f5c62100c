//! Writes a file from front to back in large pieces, and checksums it on the way.

use std::sync::Arc;

use esker_base::checksum::Checksummer;
use esker_env::{File, FileExt, IoError};

/// What is handed to the system at once: large enough that the call costs nothing per byte.
const BUFFER_BYTES: usize = 1 << 20;

/// A file that is written from front to back.
pub(crate) struct SequentialWriter {
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    /// Bytes handed to the system.
    written_bytes: u64,
    checksum: Checksummer,
    /// The first failure. What was written is unknown from then on, so every later call fails too.
    failure: Option<IoError>,
}

impl SequentialWriter {
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            written_bytes: 0,
            checksum: Checksummer::new(),
            failure: None,
        }
    }

    /// The offset at which the next byte will stand.
    pub(crate) const fn offset(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    /// What is allocated, in bytes.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Where the next bytes go: they are appended, and nothing else is touched. To be followed by
    /// [`SequentialWriter::advance`].
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            // Room for the block that fills it, too.
            self.buffer.reserve(BUFFER_BYTES + BUFFER_BYTES / 8);
        }
        &mut self.buffer
    }

    /// Hands the buffer to the system if it is full.
    pub(crate) fn advance(&mut self) -> Result<(), IoError> {
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.write() }
    }

    /// Hands the buffer to the system.
    pub(crate) fn write(&mut self) -> Result<(), IoError> {
        self.check()?;
        self.checksum.update(&self.buffer);
        let outcome = self.file.write_all_at(self.written_bytes, &self.buffer);
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        if self.buffer.capacity() > 4 * BUFFER_BYTES {
            // Grown for one large value.
            self.buffer = Vec::new();
        }
        self.failure = outcome.err();
        self.check()
    }

    /// The checksum of everything handed to the system.
    pub(crate) fn written_checksum(&self) -> u64 {
        self.checksum.finish()
    }

    /// Makes everything handed to the system durable.
    pub(crate) fn sync(&mut self) -> Result<(), IoError> {
        self.check()?;
        self.failure = if esker_base::planted::is("skip-table-sync") {
            None
        } else {
            self.file.sync_data().err()
        };
        self.check()
    }

    /// Fails if an earlier call did.
    pub(crate) fn check(&self) -> Result<(), IoError> {
        self.failure.clone().map_or(Ok(()), Err)
    }
}

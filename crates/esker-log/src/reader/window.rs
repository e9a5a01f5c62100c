//! A file seen through a buffer: big reads from the system, small ones from memory.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

use std::io;
use std::ops::Range;
use std::sync::Arc;

use esker_base::checksum::checksum64;
use esker_env::{File, FileError, IoError};

/// How much is asked of the system at once, in bytes.
const CHUNK_BYTES: u64 = 1 << 20;

/// Pieces that are told apart; what follows them counts as one.
const PIECES_MAX: usize = 256;

/// The checksum of a part of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Digest {
    pub(crate) bytes: Range<u64>,
    pub(crate) checksum: u64,
}

/// Part of a file, in memory.
#[derive(Debug)]
pub(super) struct Window {
    file: Arc<dyn File>,
    /// What was ever written of it, in order; between them it reads as zeros. As the system says before
    /// the first read: what was read since, or was read ahead, counts as written for it.
    pieces: Vec<Range<u64>>,
    /// Length of the file when it was opened: no length inside it can be larger.
    file_len: u64,
    buffer: Vec<u8>,
    /// Offset of the first byte of `buffer`.
    start: u64,
    /// How many bytes of `buffer` are the file's.
    filled: usize,
    /// What was stepped over, from the start of the file on.
    passed: Passed,
}

/// Checksums of bytes that are no longer in memory, or soon will not be.
#[derive(Debug, Default)]
struct Passed {
    digests: Vec<Digest>,
    /// Where the last of them ends.
    end: u64,
    /// Nothing more is added.
    is_closed: bool,
}

impl Window {
    pub(super) fn new(file: Arc<dyn File>) -> Result<Self, FileError> {
        let file_len = file.len()?;
        let pieces = pieces(&*file, file_len);
        let (buffer, passed) = (Vec::new(), Passed::default());
        Ok(Self { file, pieces, file_len, buffer, start: 0, filled: 0, passed })
    }

    pub(super) const fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    pub(super) const fn file_len(&self) -> u64 {
        self.file_len
    }

    /// How many bytes the file has from `offset` on.
    pub(super) const fn room(&self, offset: u64) -> u64 {
        self.file_len.saturating_sub(offset)
    }

    /// The bytes in memory from `offset` on; none if `offset` is not in memory.
    pub(super) fn buffered(&self, offset: u64) -> &[u8] {
        let within = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let filled = self.buffer.get(..self.filled).unwrap_or_default();
        within.and_then(|within| filled.get(within..)).unwrap_or_default()
    }

    /// The bytes from `offset` on: at least `len`, unless the file ends before.
    ///
    /// # Cost
    /// None while they are in memory. Else one read of 1 MiB or `len`, whichever is more, of what was
    /// ever written, and a copy of the bytes that were in memory already; the system is told that the
    /// next mebibyte will be read.
    pub(super) fn at_least(&mut self, offset: u64, len: usize) -> Result<&[u8], FileError> {
        let wanted = self.room(offset).min(len as u64);
        if (self.buffered(offset).len() as u64) < wanted {
            let data_end = self.data_end(offset);
            let data_len = data_end.saturating_sub(offset);
            self.refill(offset, data_len.min(CHUNK_BYTES).max(wanted))?;
            let next = offset.saturating_add(self.buffered(offset).len() as u64);
            self.file.will_need(next, data_end.saturating_sub(next).min(CHUNK_BYTES));
        }
        Ok(self.buffered(offset))
    }

    /// The bytes from `offset` on: `len`, unless the file ends before, or what follows was never written.
    pub(super) fn written(&mut self, offset: u64, len: usize) -> Result<&[u8], FileError> {
        if self.buffered(offset).len() < len {
            let data_len = self.data_end(offset).saturating_sub(offset);
            self.refill(offset, data_len.min(CHUNK_BYTES.max(len as u64)))?;
        }
        Ok(self.buffered(offset))
    }

    /// The first offset from `offset` on that was ever written; the length of the file, if none was.
    pub(super) fn data_from(&self, offset: u64) -> u64 {
        let piece = self.pieces.iter().find(|piece| offset < piece.end);
        piece.map_or(self.file_len, |piece| piece.start).max(offset)
    }

    /// Where the piece ends that `offset` lies in; `offset`, if it lies in none.
    fn data_end(&self, offset: u64) -> u64 {
        let piece = self.pieces.iter().find(|piece| piece.contains(&offset));
        piece.map_or(offset, |piece| piece.end)
    }

    /// Whether only zeros stand from `offset` on.
    pub(super) fn is_zeros_from(&mut self, mut offset: u64) -> Result<bool, FileError> {
        loop {
            offset = self.data_from(offset);
            let bytes = self.written(offset, 1)?;
            if bytes.is_empty() || !is_zeros(bytes) {
                return Ok(bytes.is_empty());
            }
            offset = offset.saturating_add(bytes.len() as u64);
        }
    }

    /// The bytes before `end` are those that were stepped over: what is read behind it does not count.
    pub(super) fn close_digests(&mut self, end: u64) {
        self.digest_to(end);
        self.passed.is_closed = true;
    }

    /// The checksums of what was stepped over up to `end`; `None` if they are of less or more.
    pub(super) fn digests(&self, end: u64) -> Option<Vec<Digest>> {
        let mut digests = self.passed.digests.clone();
        if !self.passed.is_closed {
            digests.extend(self.digest(end));
        }
        (digests.last().map_or(0, |digest| digest.bytes.end) == end).then_some(digests)
    }

    fn digest_to(&mut self, end: u64) {
        if !self.passed.is_closed
            && let Some(digest) = self.digest(end)
        {
            self.passed.end = digest.bytes.end;
            self.passed.digests.push(digest);
        }
    }

    /// The checksum of what is in memory from the end of the last one up to `end`.
    fn digest(&self, end: u64) -> Option<Digest> {
        let start = self.passed.end;
        let len = usize::try_from(end.checked_sub(start)?).ok()?;
        let bytes = self.buffered(start).get(..len).filter(|bytes| !bytes.is_empty())?;
        Some(Digest { bytes: start..end, checksum: checksum64(0, bytes) })
    }

    fn refill(&mut self, offset: u64, len: u64) -> Result<(), FileError> {
        self.digest_to(offset);
        let kept = self.buffered(offset).len();
        let from = self.filled.saturating_sub(kept);
        self.buffer.copy_within(from..self.filled, 0);
        (self.start, self.filled) = (offset, kept);
        // Bounded by the length of the file, whatever a damaged frame asks for.
        let target = self.room(offset).min(len) as usize;
        if self.buffer.len() < target {
            let more = target.saturating_sub(self.buffer.len());
            self.buffer.try_reserve_exact(more).map_err(|error| {
                let source = io::Error::new(io::ErrorKind::OutOfMemory, error);
                IoError::new("read", self.file.path(), source)
            })?;
            self.buffer.resize(target, 0);
        }
        while self.filled < target {
            let rest = self.buffer.get_mut(self.filled..target).unwrap_or_default();
            let at = offset.saturating_add(self.filled as u64);
            match self.file.read_at(at, rest)? {
                // Cut since it was opened.
                0 => self.file_len = at,
                count => self.filled = self.filled.saturating_add(count),
            }
            if self.file_len <= at {
                break;
            }
        }
        Ok(())
    }
}

/// What was ever written of a file that has `len` bytes.
fn pieces(file: &dyn File, len: u64) -> Vec<Range<u64>> {
    let mut pieces = Vec::new();
    let mut end = 0;
    while end < len {
        let start = file.data_from(end);
        if len <= start {
            break;
        }
        let is_last = pieces.len().saturating_add(1) == PIECES_MAX;
        end = if is_last { len } else { file.data_end(start).min(len) };
        pieces.push(start..end);
    }
    pieces
}

/// Whether all of `bytes` are 0. In pieces, each without an early exit, for vector instructions.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

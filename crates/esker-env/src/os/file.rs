//! An open file of the operating system.

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::{Advice, File, FileWindow, IoError, PAGE_BYTES};

#[expect(clippy::disallowed_types, reason = "the one place that talks to the system")]
pub(super) type SystemFile = fs::File;

/// Btrfs, as `statfs` names it.
const BTRFS: u64 = 0x9123_683e;

#[derive(Debug)]
pub(super) struct OsFile {
    file: SystemFile,
    path: PathBuf,
}

impl OsFile {
    pub(super) fn new(file: SystemFile, path: &Path) -> Self {
        Self { file, path: path.to_path_buf() }
    }

    fn error(&self, operation: &'static str, source: io::Error) -> IoError {
        IoError::new(operation, &self.path, source)
    }

    /// Has Btrfs write over what stands in a file, which it does for one that says so while it is
    /// empty. It would look for new room at each write, in a file that has some, too: on a full disk
    /// writes of the log failed at once, in 6 of 6 runs, and in none of 12 with this.
    fn keep_room(&self) {
        let is_btrfs =
            rustix::fs::fstatfs(&self.file).is_ok_and(|of| u64::try_from(of.f_type) == Ok(BTRFS));
        if !is_btrfs {
            return;
        }
        let flags = rustix::fs::ioctl_getflags(&self.file);
        // Where it is refused, as for a file that is not empty, all is as it was.
        let (Ok(()) | Err(_)) = flags.and_then(|flags| {
            rustix::fs::ioctl_setflags(&self.file, flags | rustix::fs::IFlags::NOCOW)
        });
    }

    /// Makes the file at least `end` bytes long by writing zeros behind its end: a file system that
    /// knows no reservation finds the room for them now, or says that there is none. Holes within the
    /// file stay holes; the engine has none.
    pub(super) fn fill_with_zeros(&self, end: u64) -> Result<(), IoError> {
        let mut at = self.len()?;
        while at < end {
            let count = (end - at).min(ZEROS.len() as u64) as usize;
            let written = uninterrupted(|| match self.file.write_at(&ZEROS[..count], at) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                result => result,
            });
            at += written.map_err(|source| self.error("allocate", source))? as u64;
        }
        Ok(())
    }
}

/// Zeros that room is made of, where it cannot be reserved.
pub(super) static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Repeats a call that a signal interrupted. Never used for a sync: what an interrupted one has
/// done is not known.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl File for OsFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        uninterrupted(|| self.file.read_at(buffer, offset))
            .map_err(|source| self.error("read", source))
    }

    fn read_at_hand(&self, offset: u64, buffer: &mut [u8]) -> Result<Option<usize>, IoError> {
        let mut buffers = [io::IoSliceMut::new(buffer)];
        match preadv2(&self.file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            // A system that knows or allows no such reads; of any other failure the plain one tells.
            Err(_) => self.read_at(offset, buffer).map(Some),
        }
    }

    fn will_need(&self, offset: u64, len: u64) {
        let advice = rustix::fs::Advice::WillNeed;
        // No length would stand for the whole file. A hint that is not taken is no failure.
        let (Ok(()) | Err(_)) = NonZeroU64::new(len)
            .map_or(Ok(()), |len| rustix::fs::fadvise(&self.file, offset, Some(len), advice));
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        uninterrupted(|| self.file.write_at(bytes, offset))
            .map_err(|source| self.error("write", source))
    }

    fn sync_data(&self) -> Result<(), IoError> {
        // Not `File::sync_data`: the standard library repeats it when a signal interrupts.
        rustix::fs::fdatasync(&self.file).map_err(|error| self.error("sync", error.into()))
    }

    fn sync_all(&self) -> Result<(), IoError> {
        rustix::fs::fsync(&self.file).map_err(|error| self.error("sync", error.into()))
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        if len == 0 {
            return Ok(());
        }
        if offset == 0 {
            self.keep_room();
        }
        loop {
            return match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, len) {
                Ok(()) => Ok(()),
                // As ext2, NFS before 4.2 and many a FUSE.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fill_with_zeros(offset + len),
                Err(Errno::INTR) => continue,
                Err(error) => Err(self.error("allocate", error.into())),
            };
        }
    }

    fn truncate(&self, len: u64) -> Result<(), IoError> {
        self.file.set_len(len).map_err(|source| self.error("truncate", source))
    }

    fn len(&self) -> Result<u64, IoError> {
        let metadata = self.file.metadata().map_err(|source| self.error("measure", source))?;
        Ok(metadata.len())
    }

    fn advise(&self, advice: Advice) {
        let advice = match advice {
            Advice::Random => rustix::fs::Advice::Random,
            Advice::DontNeed => rustix::fs::Advice::DontNeed,
        };
        // A hint that the system does not take is no failure.
        let (Ok(()) | Err(_)) = rustix::fs::fadvise(&self.file, 0, None, advice);
    }

    fn forget(&self, range: Range<u64>) {
        // To the system, no length means all that follows.
        if let Some(len) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
            let advice = rustix::fs::Advice::DontNeed;
            let (Ok(()) | Err(_)) = rustix::fs::fadvise(&self.file, range.start, Some(len), advice);
        }
    }

    fn begin_sync(&self, range: Range<u64>) {
        // There is a call of the system for just this, which is not to be had without unsafe code.
        // To forget begins to write what is not durable, and only drops what is: of what was just
        // written, nothing. A page that more may come to is left for later.
        let whole = |offset: u64| offset - offset % PAGE_BYTES;
        self.forget(whole(range.start)..whole(range.end));
    }

    fn data_from(&self, offset: u64) -> u64 {
        // Moves a position that no read or write goes by.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => data.max(offset),
            Err(rustix::io::Errno::NXIO) => self.len().map_or(offset, |len| len.max(offset)),
            Err(_) => offset,
        }
    }

    fn data_end(&self, offset: u64) -> u64 {
        // As above. What lies in a hole ends where it begins, which says nothing to a reader.
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(offset)) {
            Ok(hole) if offset < hole => hole,
            _ => u64::MAX,
        }
    }

    fn window(&self, offset: u64, len: usize) -> Option<FileWindow> {
        FileWindow::open(&self.file, offset, len)
    }
}

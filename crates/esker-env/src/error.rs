//! What goes wrong when a file is read or written.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::{Corruption, FileKind};

/// An operation of the file system that failed: which, on what, and why.
///
/// Cheap to clone, so that one failed sync can answer every writer that waited for it.
#[derive(Clone, Debug)]
pub struct IoError {
    operation: &'static str,
    path: PathBuf,
    source: Arc<io::Error>,
}

impl IoError {
    /// The failure of `operation` (a verb: "open", "sync") on `path`.
    #[must_use]
    pub fn new(operation: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self { operation, path: path.as_ref().to_path_buf(), source: Arc::new(source) }
    }

    /// What was tried.
    #[must_use]
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// The file or directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kind of the underlying error.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the file or directory does not exist. False for every other failure to open it.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Whether the disk or a quota is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }

    /// Whether the process or the system is out of file descriptors.
    #[must_use]
    pub fn is_too_many_files(&self) -> bool {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        matches!(self.source.raw_os_error(), Some(ENFILE | EMFILE))
    }

    /// Whether it is the device, or the file system on it, that does not give what it should have. Says
    /// nothing of how long that will be so: a cable that is loose looks like a sector that is worn out.
    #[must_use]
    pub fn is_of_the_device(&self) -> bool {
        const EIO: i32 = 5;
        // What the device says of a bad sector, where the kernel passes that on.
        const ENODATA: i32 = 61;
        const EREMOTEIO: i32 = 121;
        // Checksums of the device, and of the file system, that do not match.
        const EILSEQ: i32 = 84;
        const EBADMSG: i32 = 74;
        const EUCLEAN: i32 = 117;
        let code = self.source.raw_os_error();
        matches!(code, Some(EIO | ENODATA | EREMOTEIO | EILSEQ | EBADMSG | EUCLEAN))
    }

    /// Whether it is this process or its system that is short of something for now: nothing is said of
    /// the file.
    #[must_use]
    pub fn is_of_the_moment(&self) -> bool {
        const EINTR: i32 = 4;
        const EAGAIN: i32 = 11;
        const ENOMEM: i32 = 12;
        const ENOBUFS: i32 = 105;
        let code = self.source.raw_os_error();
        self.is_too_many_files() || matches!(code, Some(EINTR | EAGAIN | ENOMEM | ENOBUFS))
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.path.display(), self.source)
    }
}

impl std::error::Error for IoError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// A file of a format version that this release does not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnsupportedFormat {
    /// Name of the file.
    pub file: String,
    /// What it is.
    pub kind: FileKind,
    /// The version that it carries.
    pub found: u16,
    /// The newest version that this release reads.
    pub newest: u16,
}

impl fmt::Display for UnsupportedFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is a {} of format version {}, and this release reads versions up to {}",
            self.file, self.kind, self.found, self.newest
        )
    }
}

impl std::error::Error for UnsupportedFormat {}

/// Why a file of ours could not be read or written. Shared by the floors that own file formats.
#[derive(Clone, Debug)]
pub enum FileError {
    /// The file system refused.
    Io(IoError),
    /// The bytes are damaged.
    Corruption(Corruption),
    /// The bytes are of a newer release.
    UnsupportedFormat(UnsupportedFormat),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Corruption(error) => error.fmt(f),
            Self::UnsupportedFormat(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(match self {
            Self::Io(error) => error,
            Self::Corruption(error) => error,
            Self::UnsupportedFormat(error) => error,
        })
    }
}

impl From<IoError> for FileError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}

impl From<Corruption> for FileError {
    fn from(error: Corruption) -> Self {
        Self::Corruption(error)
    }
}

impl From<UnsupportedFormat> for FileError {
    fn from(error: UnsupportedFormat) -> Self {
        Self::UnsupportedFormat(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_device_refuses_is_told_from_what_is_short_for_the_moment() {
        let error = |code| IoError::new("read", "file", io::Error::from_raw_os_error(code));
        let codes = |is: fn(&IoError) -> bool| -> Vec<i32> {
            (1..140).filter(|code| is(&error(*code))).collect()
        };
        assert_eq!(codes(IoError::is_of_the_device), [5, 61, 74, 84, 117, 121]);
        assert_eq!(codes(IoError::is_of_the_moment), [4, 11, 12, 23, 24, 105]);
        let not_of_the_system = IoError::new("read", "file", io::ErrorKind::UnexpectedEof.into());
        assert!(!not_of_the_system.is_of_the_device() && !not_of_the_system.is_of_the_moment());
    }
}

//! Segments as values: made, changed byte by byte, and read back whole.

use std::ops::Range;
use std::path::Path;

use esker_base::{DatabaseId, FileHeader, FileId, FileKind, OwnerId};
use esker_env::{FileError, FileExt, FileSystem, MemoryFileSystem};
use esker_log::{ExpectedHeader, LogEnd, LogReader, LogWriter};

pub(crate) const DATABASE: DatabaseId = DatabaseId(*b"0123456789abcdef");

pub(crate) fn header(counter: u64) -> FileHeader {
    let id = FileId { owner: OwnerId::FIRST, counter };
    FileHeader { kind: FileKind::Log, format: 1, id, database: DATABASE }
}

pub(crate) fn expected(counter: u64) -> ExpectedHeader {
    let FileHeader { kind, id, database, format } = header(counter);
    ExpectedHeader { kind, id, database: Some(database), newest_format: format }
}

pub(crate) fn path() -> &'static Path {
    Path::new("1-00000007.log")
}

/// A fresh segment with the counter 7.
pub(crate) fn create(fs: &MemoryFileSystem, allocate_bytes: u64) -> LogWriter {
    LogWriter::create(fs, path(), header(7), allocate_bytes).unwrap()
}

/// The payload of frame `index`: of many lengths, the empty one among them.
pub(crate) fn payload(index: usize) -> Vec<u8> {
    let len = [5, 0, 1, 130, 40, 700, 17][index % 7];
    (0..len).map(|at| (index * 31 + at) as u8).collect()
}

/// Appends the frames of `indexes`.
pub(crate) fn append(log: &mut LogWriter, indexes: Range<usize>) {
    for index in indexes {
        log.append(&[&payload(index)]);
    }
}

/// All bytes of the file `path`.
pub(crate) fn bytes(fs: &MemoryFileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// What reading gave.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Read {
    pub(crate) payloads: Vec<Vec<u8>>,
    pub(crate) end: LogEnd,
}

/// Reads the segment with the counter 7 from `path`.
pub(crate) fn read(fs: &MemoryFileSystem, path: &Path) -> Result<Read, FileError> {
    let mut reader = LogReader::open(fs, path, &expected(7))?;
    let mut payloads = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        payloads.push(frame.payload.to_vec());
    }
    Ok(Read { payloads, end: reader.end() })
}

/// Reads a segment that consists of `bytes`.
pub(crate) fn read_bytes(bytes: &[u8]) -> Result<Read, FileError> {
    let fs = MemoryFileSystem::new(0);
    fs.create(path()).unwrap().write_all_at(0, bytes).unwrap();
    read(&fs, path())
}

/// The payloads of the frames `0..count`.
pub(crate) fn payloads(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(payload).collect()
}

#[track_caller]
pub(crate) fn assert_corruption(read: Result<Read, FileError>) {
    match read {
        Err(FileError::Corruption(damage)) => assert_eq!(damage.file, "1-00000007.log"),
        other => panic!("not reported as damage: {other:?}"),
    }
}

//! Rewrites, in place, frames that were read but may never have reached the device.
//!
//! After a failed sync, bytes can still be read back as written, but no later sync stores them: the
//! system takes them for stored. Whoever opens a file that another process has written cannot tell.
//! Bytes that are written again are stored by the next sync; a crash in between does no harm, since
//! they are the same as before.
//!
//! To be written they are read a second time, and that read may find something else: the system may
//! have dropped what it could not store, or the device may err. So each frame is checked again before it
//! is written, and the last one must be the one that the first read has ended with.

use esker_base::{Corruption, FileHeader};
use esker_env::{File, FileError, FileExt as _, FileSystem};

use crate::reader::{ExpectedHeader, Extent, LogReader, file_name};

/// Bytes written at a time, at least.
const PIECE_BYTES: usize = 256 << 10;

/// Writes again what the segment `file` has from `start` up to the end of `extent`, of a read of before.
/// Only a sync makes it durable.
///
/// # Errors
/// Of the system, and [`FileError::Corruption`] if what was read before is not there any more. Every byte
/// is still what it was.
///
/// # Cost
/// A read of the segment up to there, as by [`LogReader`], and a write of what is behind `start`.
pub fn write_back(
    fs: &dyn FileSystem,
    file: &dyn File,
    header: &ExpectedHeader,
    start: u64,
    extent: Extent,
) -> Result<(), FileError> {
    if extent.end <= start || esker_base::planted::is("read-bytes-not-written-back") {
        return Ok(());
    }
    let mut reader = LogReader::open(fs, file.path(), header)?;
    let mut bytes = Vec::new();
    let (mut at, mut found) = (start, reader.extent());
    if start < FileHeader::LEN as u64 && found.end != 0 {
        bytes.extend_from_slice(&reader.header().encode()[start as usize..]);
    }
    while found.end < extent.end {
        let from = start.saturating_sub(found.end);
        let Some(frame) = reader.next_bytes()? else { break };
        bytes.extend_from_slice(frame.get(from as usize..).unwrap_or_default());
        found = reader.extent();
        if PIECE_BYTES <= bytes.len() {
            file.write_all_at(at, &bytes)?;
            at += bytes.len() as u64;
            bytes.clear();
        }
    }
    if !reader.has_read(extent) && !esker_base::planted::is("second-read-not-compared") {
        let what = "what was read here is not found again";
        return Err(Corruption::new(file_name(file.path()), found.end, what).into());
    }
    Ok(file.write_all_at(at, &bytes)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use esker_base::{DatabaseId, FileId, FileKind, OwnerId};
    use esker_env::{
        CrashPolicy, Env, Fault, FaultFileSystem, MemoryFileSystem, Operation, Rule, When,
    };

    use super::*;
    use crate::LogWriter;

    const HEADER: FileHeader = FileHeader {
        kind: FileKind::Log,
        format: 2,
        id: FileId { owner: OwnerId::FIRST, counter: 1 },
        database: DatabaseId([7; 16]),
    };

    /// A segment of frames of 1000 bytes, the first `synced` of which are durable; how far it goes, and
    /// up to where it is durable.
    fn segment(fs: &MemoryFileSystem, synced: usize, count: usize) -> (Extent, u64) {
        let path = Path::new("file");
        let mut writer = LogWriter::create(fs, path, HEADER, 0).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        for number in 0..count {
            writer.append(&[&[number as u8; 1000]]);
            writer.write().unwrap();
            if number + 1 == synced {
                writer.sync_handle().sync().unwrap();
            }
        }
        let durable = writer.sync_handle().durable_offset();
        drop(writer);
        (read(fs), durable)
    }

    /// How far the segment can be read.
    fn read(fs: &dyn FileSystem) -> Extent {
        let mut reader =
            LogReader::open(fs, Path::new("file"), &ExpectedHeader::of(&HEADER)).unwrap();
        while reader.next_frame().unwrap().is_some() {}
        reader.extent()
    }

    /// As Linux does after a sync that failed: what was not stored then is stored by no later sync.
    #[test]
    fn what_a_failed_sync_did_not_store_is_stored_by_the_next_one() {
        for from in ["start", "durable", "end"] {
            let fs = MemoryFileSystem::new(1);
            let path = Path::new("file");
            let (extent, durable) = segment(&fs, 3, 600);
            assert!(fs.forget_unsynced(path));
            let start = match from {
                "start" => 0,
                "durable" => durable,
                _ => extent.end,
            };
            let file = fs.open_for_write(path).unwrap();
            write_back(&fs, &*file, &ExpectedHeader::of(&HEADER), start, extent).unwrap();
            file.sync_all().unwrap();
            let after = read(&fs.crash(CrashPolicy::AllLost, 0));
            let expected = if from == "end" { durable } else { extent.end };
            assert_eq!(after.end, expected, "{from}");
        }
    }

    /// What the second read gets wrong was written, and was then the only copy.
    #[test]
    fn what_a_second_read_finds_otherwise_is_not_written() {
        for fault in [Fault::CorruptRead, Fault::Short] {
            for nth in 1..20 {
                let fs = MemoryFileSystem::new(1);
                let (extent, durable) = segment(&fs, 3, 600);
                let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
                let rule = Rule::new(fault.clone()).on(&[Operation::Read]);
                faults.add(rule.when(When::Nth(nth)));
                let file = faults.open_for_write(Path::new("file")).unwrap();
                let header = ExpectedHeader::of(&HEADER);
                let result = write_back(&faults, &*file, &header, durable, extent);
                let has_fired = !faults.injected().is_empty();
                assert_eq!(result.is_err(), has_fired && fault == Fault::CorruptRead, "{nth}");
                assert_eq!(read(&fs), extent, "{nth}");
            }
        }
    }

    #[test]
    fn what_is_no_longer_there_is_an_error() {
        let fs = MemoryFileSystem::new(1);
        let (extent, durable) = segment(&fs, 3, 600);
        let file = fs.open_for_write(Path::new("file")).unwrap();
        file.truncate(durable + 2500).unwrap();
        let header = ExpectedHeader::of(&HEADER);
        let error = write_back(&fs, &*file, &header, durable, extent).unwrap_err();
        assert!(error.to_string().contains("is not found again"), "{error}");
    }
}

//! Rewrites, in place, bytes that were read but may never have reached the device.
//!
//! After a failed sync, bytes can still be read back as written, but no later sync stores them: the
//! system takes them for stored. Whoever opens a file that another process has written cannot tell.
//! Bytes that are written again are stored by the next sync; a crash in between does no harm, since
//! they are the same as before.
//!
//! To be written they are read a second time, and that read may find something else: the system may
//! have dropped what it could not store, or the device may err. So each piece is compared with what the
//! first read has found before it is written.

use esker_base::Corruption;
use esker_base::checksum::checksum64;
use esker_env::{File, FileError, FileExt as _};

use crate::reader::{Extent, file_name};

/// Writes again what `file` has from `start` up to the end of `extent`, which was read before. Only a sync
/// makes it durable.
///
/// # Errors
/// Of the system, and [`FileError::Corruption`] if what was read before is not found again. Every byte
/// is still what it was.
///
/// # Cost
/// A read and a write of what is behind `start`, and a checksum of it, as while it is read first: of the 2,630
/// instructions that a replay takes for an entry of 116 bytes, 280. (To parse the frames again took 880.)
/// Memory: 1 MiB, or the largest frame.
pub fn write_back(file: &dyn File, start: u64, extent: &Extent) -> Result<(), FileError> {
    let mut bytes = Vec::new();
    let is_behind =
        |end: u64| start < end && !esker_base::planted::is("read-bytes-not-written-back");
    for digest in extent.digests.iter().filter(|digest| is_behind(digest.bytes.end)) {
        let piece = &digest.bytes;
        bytes.resize((piece.end - piece.start) as usize, 0);
        file.read_exact_at(piece.start, &mut bytes)?;
        if checksum64(0, &bytes) != digest.checksum
            && !esker_base::planted::is("second-read-not-compared")
        {
            let what = "what was read here is not found again";
            return Err(Corruption::new(file_name(file.path()), piece.start, what).into());
        }
        let at = piece.start.max(start);
        file.write_all_at(at, &bytes[(at - piece.start) as usize..])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use esker_base::{DatabaseId, FileHeader, FileId, FileKind, OwnerId};
    use esker_env::{
        CrashPolicy, Env, Fault, FaultFileSystem, FileSystem, MemoryFileSystem, Operation, Rule,
        When,
    };

    use super::*;
    use crate::{ExpectedHeader, LogWriter};

    const HEADER: FileHeader = FileHeader {
        kind: FileKind::Log,
        format: 2,
        id: FileId { owner: OwnerId::FIRST, counter: 1 },
        database: DatabaseId([7; 16]),
    };

    /// A segment of frames of 4000 bytes, the first `synced` of which are durable; how far it goes, and
    /// up to where it is durable.
    fn segment(fs: &MemoryFileSystem, synced: usize, count: usize) -> (Extent, u64) {
        let path = Path::new("file");
        let mut writer = LogWriter::create(fs, path, HEADER, 0).unwrap();
        fs.sync_dir(Path::new("")).unwrap();
        for number in 0..count {
            writer.append(&[&[number as u8; 4000]]);
            writer.write().unwrap();
            if number + 1 == synced {
                writer.sync_handle().sync().unwrap();
            }
        }
        let durable = writer.sync_handle().durable_offset();
        drop(writer);
        (read(fs), durable)
    }

    fn read(fs: &dyn FileSystem) -> Extent {
        Extent::read(fs, Path::new("file"), &ExpectedHeader::of(&HEADER)).unwrap()
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
                _ => extent.end(),
            };
            let file = fs.open_for_write(path).unwrap();
            write_back(&*file, start, &extent).unwrap();
            file.sync_all().unwrap();
            let after = read(&fs.crash(CrashPolicy::AllLost, 0));
            let expected = if from == "end" { durable } else { extent.end() };
            assert_eq!(after.end(), expected, "{from}");
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
                let result = write_back(&*file, durable, &extent);
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
        let error = write_back(&*file, durable, &extent).unwrap_err();
        assert!(error.to_string().contains("the file ends too early"), "{error}");
    }
}

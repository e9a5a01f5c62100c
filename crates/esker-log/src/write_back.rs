//! Bytes that were read and may never have reached the device, written once more where they stand.
//!
//! A sync that fails leaves bytes that read as they were written, and that no later sync stores: the system
//! takes them for stored. Whoever opens a file that somebody else has left cannot tell. Written again they
//! are stored by the next sync; a crash in between leaves what stood there, since it is the same.
//!
//! Does not know what the bytes mean.

use esker_env::{File, FileExt as _, IoError};

/// How much is read and written at a time.
const PIECE_BYTES: u64 = 256 << 10;

/// Writes what `file` has from `start` to `end`, exclusive, as it stands. Only a sync makes it durable.
///
/// # Errors
/// Of the system. Every byte still is what it was.
pub fn write_back(file: &dyn File, start: u64, end: u64) -> Result<(), IoError> {
    let mut bytes = Vec::new();
    let mut at = start;
    while at < end && !esker_base::planted::is("read-bytes-not-written-back") {
        let piece = PIECE_BYTES.min(end - at);
        bytes.resize(piece as usize, 0);
        file.read_exact_at(at, &mut bytes)?;
        file.write_all_at(at, &bytes)?;
        at += piece;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use esker_env::{CrashPolicy, FileSystem as _, MemoryFileSystem};

    use super::*;

    /// As Linux does after a sync that failed: what was not stored then is stored by no later sync.
    #[test]
    fn what_a_failed_sync_did_not_store_is_stored_by_the_next_one() {
        let len = PIECE_BYTES + 1000;
        for (start, is_stored) in [(0, true), (700, true), (len, false)] {
            let fs = MemoryFileSystem::new(1);
            let path = Path::new("file");
            let bytes: Vec<u8> = (0..len).map(|place| (place % 251) as u8).collect();
            let file = fs.create(path).unwrap();
            fs.sync_dir(Path::new("")).unwrap();
            file.write_all_at(0, &bytes[..700]).unwrap();
            file.sync_all().unwrap();
            file.write_all_at(700, &bytes[700..]).unwrap();
            assert!(fs.forget_unsynced(path));
            write_back(&*file, start, len).unwrap();
            file.sync_all().unwrap();
            let after = fs.crash(CrashPolicy::AllLost, 0);
            let file = after.open(path).unwrap();
            let mut found = vec![0; file.len().unwrap() as usize];
            file.read_exact_at(0, &mut found).unwrap();
            assert_eq!(found == bytes, is_stored, "{start}");
        }
    }
}

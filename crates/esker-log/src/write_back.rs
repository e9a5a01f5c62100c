//! Rewrites, in place, bytes that were read but may never have reached the device.
//!
//! After a failed sync, bytes can still be read back as written, but no later sync stores them: the
//! system takes them for stored. Whoever opens a file that another process has written cannot tell.
//! Bytes that are written again are stored by the next sync; a crash in between does no harm, since
//! they are the same as before.
//!
//! Does not know what the bytes mean.

use esker_env::{File, FileExt as _, IoError};

/// Bytes read and written at a time.
const PIECE_BYTES: u64 = 256 << 10;

/// Writes again what `file` has from `start` to `end`, exclusive. Only a sync makes it durable.
///
/// # Errors
/// Of the system. Every byte is still what it was.
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

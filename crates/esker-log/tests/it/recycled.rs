//! Segments that take over the file of a former one.

use std::path::Path;

use esker_env::{FileSystem, MemoryFileSystem};
use esker_log::{LogEnd, LogWriter};

use crate::segment::{append, header, path, payloads, read};

/// A file of a former life, under the counter 6, with `count` frames.
fn former(fs: &MemoryFileSystem, count: usize) -> &'static Path {
    let old = Path::new("1-00000006.log");
    let mut log = LogWriter::create(fs, old, header(6), 0).unwrap();
    append(&mut log, 0..count);
    log.seal().unwrap();
    old
}

#[test]
fn frames_of_the_former_life_are_never_accepted() {
    // The frames of both lives have the same lengths, so that the old ones stand exactly where
    // the next ones would.
    for count in 0..20 {
        let fs = MemoryFileSystem::new(0);
        let old = former(&fs, 20);
        let mut log = LogWriter::recycle(&fs, old, path(), header(7)).unwrap();
        append(&mut log, 0..count);
        log.write().unwrap();
        let read = read(&fs, path()).unwrap();
        assert_eq!(read.payloads, payloads(count));
        assert_eq!(read.end, LogEnd::Torn { offset: log.end_offset() });
        assert!(!fs.exists(old).unwrap());
    }
}

#[test]
fn sealed_again_it_ends_cleanly_and_is_cut() {
    let fs = MemoryFileSystem::new(0);
    let old = former(&fs, 20);
    let mut log = LogWriter::recycle(&fs, old, path(), header(7)).unwrap();
    log.append(&[b"only"]);
    log.seal().unwrap();
    assert_eq!(read(&fs, path()).unwrap().end, LogEnd::Sealed { offset: log.end_offset() });
    assert_eq!(fs.open(path()).unwrap().len().unwrap(), log.end_offset());
}

#[test]
fn file_under_the_new_name_never_has_the_former_header() {
    use esker_env::CrashPolicy;
    let base = MemoryFileSystem::new(0);
    let old = former(&base, 3);
    base.sync_dir(Path::new("")).unwrap();
    LogWriter::recycle(&base, old, path(), header(7)).unwrap();
    for policy in CrashPolicy::ALL {
        for seed in 0..20 {
            let fs = base.crash(policy, seed);
            if fs.exists(path()).unwrap() {
                assert_eq!(read(&fs, path()).unwrap().payloads.len(), 0);
            }
        }
    }
}

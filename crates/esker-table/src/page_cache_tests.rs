//! What the system keeps a copy of, on a real file system.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_cache::{BlockCache, Budget};
use esker_env::{Env, FileExt as _};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::testing::{DATABASE, Entry, id, identity, options};
use crate::{BlobFiles, Blocks, Compression, Ownership, Table, TableBuilder, TableContext};

/// A directory of the system, removed with what is in it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn context(dir: &Path) -> Arc<TableContext> {
    let env = Env::os();
    let budget = Budget::new(64 << 20);
    env.fs.create_dir_all(dir).unwrap();
    Arc::new(TableContext {
        fs: env.fs,
        dir: dir.to_path_buf(),
        database: DATABASE,
        cache: BlockCache::new(Arc::clone(&budget), None),
        budget,
        clock: env.clock,
        blobs: BlobFiles::default(),
        owned: Ownership::default(),
    })
}

/// How many of the first `len` bytes of a file, looked at here and there, the system has a copy of;
/// `None` if it does not say, or the file is in memory alone.
#[expect(clippy::disallowed_types, reason = "asks the system what no one else asks")]
fn copied(path: &Path, len: u64) -> Option<usize> {
    const TMPFS: i64 = 0x0102_1994;
    if rustix::fs::statfs(path).unwrap().f_type == TMPFS {
        return None;
    }
    let file = std::fs::File::open(path).unwrap();
    let mut count = 0;
    for offset in (0..len).step_by(256 << 10) {
        let mut byte = [0];
        let buffers = &mut [std::io::IoSliceMut::new(&mut byte)];
        match preadv2(&file, buffers, offset, ReadWriteFlags::NOWAIT) {
            Ok(_) => count += 1,
            Err(Errno::AGAIN) => {}
            Err(_) => return None,
        }
    }
    Some(count)
}

/// Says that `test` has not looked at copies, and counts as passed all the same. Not by a macro: what
/// those print of a test that passes is shown to nobody, and `.ci/run` looks for this.
fn skipped(test: &str) {
    let why = "nothing says here what the system has a copy of";
    drop(writeln!(std::io::stdout(), "{test}: SKIPPED, not passed: {why}"));
}

fn entry(number: u32) -> Entry {
    Entry::put(format!("{number:05}").as_bytes(), 1, &[number as u8; 4_000])
}

/// Table 1, of 12 MB.
fn table(context: &Arc<TableContext>) -> Arc<Table> {
    let file = context.fs.create(&context.dir.join(id(1).file_name())).unwrap();
    let options = options(4096, Compression::None);
    let mut builder = TableBuilder::new(file, identity(1), options);
    for number in 0..3_000 {
        let entry = entry(number);
        builder.add(entry.key(), &entry.value).unwrap();
    }
    let properties = Arc::new(builder.finish().unwrap());
    Arc::new(Table::new(Arc::clone(context), properties))
}

#[test]
fn last_reader_leaves_no_copy_of_what_it_has_passed() {
    let name = format!("esker-last-reader-{}", std::process::id());
    let dir = Directory(std::env::temp_dir().join(name));
    let context = context(&dir.0);
    let path = dir.0.join(id(1).file_name());
    let table = table(&context);
    let read_all = |blocks| {
        let mut cursor = table.cursor_with(blocks);
        cursor.seek_to_first().unwrap();
        for number in 0..3_000 {
            assert_eq!(
                (cursor.key(), cursor.value()),
                (entry(number).key(), &entry(number).value[..])
            );
            cursor.next().unwrap();
        }
        assert!(!cursor.is_valid());
    };
    // All but the last windows.
    let passed_bytes = 8 << 20;
    read_all(Blocks::Passing);
    let before = copied(&path, passed_bytes);
    read_all(Blocks::ReadLast);
    let after = copied(&path, passed_bytes);
    if let (Some(before), Some(after)) = (before, after) {
        assert!(after <= before / 4, "{after} of {before}");
    } else {
        skipped("last_reader_leaves_no_copy_of_what_it_has_passed");
    }
    read_all(Blocks::ReadLast);
}

#[test]
fn file_whose_sync_was_begun_keeps_its_copy_and_its_bytes() {
    let name = format!("esker-begun-{}", std::process::id());
    let dir = Directory(std::env::temp_dir().join(name));
    let context = context(&dir.0);
    let path = dir.0.join("file");
    let file = context.fs.create(&path).unwrap();
    let piece: Vec<u8> = (0..3_000_001_u32).map(|byte| (byte % 251) as u8).collect();
    let len = piece.len() as u64;
    for number in 0..4 {
        file.write_all_at(number * len, &piece).unwrap();
        file.begin_sync(number * len..(number + 1) * len);
        file.begin_sync(number * len + 1..number * len + 2);
    }
    if let Some(count) = copied(&path, 4 * len) {
        // Some that were durable at once may be gone.
        assert!(40 <= count, "{count} of 46");
    } else {
        skipped("file_whose_sync_was_begun_keeps_its_copy_and_its_bytes");
    }
    file.sync_data().unwrap();
    let mut bytes = vec![0; 4 * piece.len()];
    file.read_exact_at(0, &mut bytes).unwrap();
    assert!(bytes == piece.repeat(4));
}

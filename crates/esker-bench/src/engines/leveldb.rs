//! LevelDB through its C interface, linked with the library of the system (libleveldb-dev).
#![expect(unsafe_code, reason = "LevelDB has no other interface for Rust")]

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt as _;
use std::ptr::{null_mut, slice_from_raw_parts};
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};

use super::EngineKind;
use crate::engine::{Direction, Engine, MEMTABLE_BYTES, Result, Seen, Session, Settings};

pub(super) const KIND: EngineKind = EngineKind {
    name: "leveldb",
    about: "the library of the system: write buffer 64 MiB, tables of 64 MiB, 10-bit filters, \
            Snappy; not built for this processor",
    open,
    survives_kill: true,
    writes_few: false,
};

/// It is settled when its figures did not change for so long.
const REST: Duration = Duration::from_millis(500);

type Raw = *mut c_void;

#[link(name = "leveldb")]
unsafe extern "C" {
    fn leveldb_open(options: Raw, name: *const c_char, error: *mut *mut c_char) -> Raw;
    fn leveldb_close(db: Raw);
    fn leveldb_put(
        db: Raw,
        options: Raw,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
        error: *mut *mut c_char,
    );
    fn leveldb_delete(
        db: Raw,
        options: Raw,
        key: *const u8,
        key_len: usize,
        error: *mut *mut c_char,
    );
    fn leveldb_write(db: Raw, options: Raw, batch: Raw, error: *mut *mut c_char);
    fn leveldb_get(
        db: Raw,
        options: Raw,
        key: *const u8,
        key_len: usize,
        value_len: *mut usize,
        error: *mut *mut c_char,
    ) -> *mut u8;
    fn leveldb_compact_range(
        db: Raw,
        start: *const u8,
        start_len: usize,
        end: *const u8,
        end_len: usize,
    );
    fn leveldb_property_value(db: Raw, name: *const c_char) -> *mut c_char;
    fn leveldb_create_iterator(db: Raw, options: Raw) -> Raw;
    fn leveldb_iter_destroy(iter: Raw);
    fn leveldb_iter_valid(iter: Raw) -> c_uchar;
    fn leveldb_iter_seek_to_first(iter: Raw);
    fn leveldb_iter_seek_to_last(iter: Raw);
    fn leveldb_iter_seek(iter: Raw, key: *const u8, key_len: usize);
    fn leveldb_iter_next(iter: Raw);
    fn leveldb_iter_prev(iter: Raw);
    fn leveldb_iter_key(iter: Raw, len: *mut usize) -> *const u8;
    fn leveldb_iter_value(iter: Raw, len: *mut usize) -> *const u8;
    fn leveldb_writebatch_create() -> Raw;
    fn leveldb_writebatch_destroy(batch: Raw);
    fn leveldb_writebatch_clear(batch: Raw);
    fn leveldb_writebatch_put(
        batch: Raw,
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
    );
    fn leveldb_options_create() -> Raw;
    fn leveldb_options_set_create_if_missing(options: Raw, value: c_uchar);
    fn leveldb_options_set_write_buffer_size(options: Raw, size: usize);
    fn leveldb_options_set_max_file_size(options: Raw, size: usize);
    fn leveldb_options_set_max_open_files(options: Raw, count: c_int);
    fn leveldb_options_set_filter_policy(options: Raw, policy: Raw);
    fn leveldb_options_set_cache(options: Raw, cache: Raw);
    fn leveldb_options_set_compression(options: Raw, kind: c_int);
    fn leveldb_filterpolicy_create_bloom(bits_per_key: c_int) -> Raw;
    fn leveldb_cache_create_lru(capacity: usize) -> Raw;
    fn leveldb_readoptions_create() -> Raw;
    fn leveldb_writeoptions_create() -> Raw;
    fn leveldb_writeoptions_set_sync(options: Raw, value: c_uchar);
    fn leveldb_free(pointer: Raw);
}

/// Frees the message of an error, and makes one of ours.
fn check(message: *mut c_char) -> Result<()> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: LevelDB gives a C string that the caller owns.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: as above, and it is not used again.
    unsafe { leveldb_free(message.cast()) };
    Err(text.into())
}

struct Level {
    db: Raw,
    read_options: Raw,
    write_options: Raw,
}

// SAFETY: LevelDB synchronises itself; its handle and options may be used from any thread.
unsafe impl Send for Level {}
// SAFETY: as above.
unsafe impl Sync for Level {}

struct LevelSession<'a> {
    engine: &'a Level,
    batch: Raw,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let path = CString::new(settings.dir.as_os_str().as_bytes())?;
    let cache_bytes = usize::try_from(settings.cache_bytes)?;
    let mut error = null_mut();
    // SAFETY: every pointer comes from the function that LevelDB has for it, none is freed while
    // the database is open, and the options are leaked: the process ends with the row.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument covers all of them")]
    unsafe {
        let options = leveldb_options_create();
        leveldb_options_set_create_if_missing(options, 1);
        leveldb_options_set_write_buffer_size(options, MEMTABLE_BYTES);
        leveldb_options_set_max_file_size(options, MEMTABLE_BYTES);
        leveldb_options_set_max_open_files(options, 5000);
        leveldb_options_set_filter_policy(options, leveldb_filterpolicy_create_bloom(10));
        leveldb_options_set_cache(options, leveldb_cache_create_lru(cache_bytes));
        leveldb_options_set_compression(options, 1);
        let db = leveldb_open(options, path.as_ptr(), &raw mut error);
        check(error)?;
        let write_options = leveldb_writeoptions_create();
        leveldb_writeoptions_set_sync(write_options, u8::from(settings.syncs));
        Ok(Box::new(Level { db, read_options: leveldb_readoptions_create(), write_options }))
    }
}

impl Level {
    fn property(&self, name: &CStr) -> String {
        // SAFETY: the database is open, and the name is a C string.
        let text = unsafe { leveldb_property_value(self.db, name.as_ptr()) };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: LevelDB gives a C string that the caller owns.
        let owned = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        // SAFETY: as above, and it is not used again.
        unsafe { leveldb_free(text.cast()) };
        owned
    }
}

impl Engine for Level {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        // SAFETY: it has no conditions.
        let batch = unsafe { leveldb_writebatch_create() };
        Ok(Box::new(LevelSession { engine: self, batch }))
    }

    fn settle(&self) -> Result<Duration> {
        let clock = SystemClock::new();
        let (mut last, mut at_rest_since) = (String::new(), clock.now());
        loop {
            let stats = self.property(c"leveldb.stats");
            if stats != last {
                (last, at_rest_since) = (stats, clock.now());
            }
            let rest = clock.now() - at_rest_since;
            if REST <= rest {
                return Ok(rest);
            }
            clock.sleep(Duration::from_millis(5));
        }
    }

    fn compact(&self) -> Result<bool> {
        // SAFETY: the database is open; null stands for the ends.
        unsafe { leveldb_compact_range(self.db, null_mut(), 0, null_mut(), 0) };
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<()> {
        // SAFETY: it is open, and nothing uses it again.
        unsafe { leveldb_close(self.db) };
        Ok(())
    }
}

impl Drop for LevelSession<'_> {
    fn drop(&mut self) {
        // SAFETY: it was made by `session` and goes with it.
        unsafe { leveldb_writebatch_destroy(self.batch) };
    }
}

impl Session for LevelSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (db, options, mut error) = (self.engine.db, self.engine.write_options, null_mut());
        let (data, len) = (value.as_ptr(), value.len());
        // SAFETY: the database is open, and the slices outlive the call, which copies them.
        unsafe {
            leveldb_put(db, options, key.as_ptr(), key.len(), data, len, &raw mut error);
        }
        check(error)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let (db, options, mut error) = (self.engine.db, self.engine.write_options, null_mut());
        // SAFETY: the database is open, and the key outlives the call.
        unsafe { leveldb_delete(db, options, key.as_ptr(), key.len(), &raw mut error) };
        check(error)
    }

    fn put_batch(&mut self, entries: &[(&[u8], &[u8])]) -> Result<()> {
        for (key, value) in entries {
            let (data, len) = (value.as_ptr(), value.len());
            // SAFETY: the batch lives with the session, and the slices are copied.
            unsafe { leveldb_writebatch_put(self.batch, key.as_ptr(), key.len(), data, len) };
        }
        let mut error = null_mut();
        // SAFETY: database, options and batch are alive.
        unsafe {
            leveldb_write(self.engine.db, self.engine.write_options, self.batch, &raw mut error);
        }
        // SAFETY: the batch lives with the session.
        unsafe { leveldb_writebatch_clear(self.batch) };
        check(error)
    }

    fn get(&mut self, key: &[u8], use_value: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let (db, options, mut error) = (self.engine.db, self.engine.read_options, null_mut());
        let mut len = 0;
        // SAFETY: the database is open, and the key outlives the call.
        let value = unsafe {
            leveldb_get(db, options, key.as_ptr(), key.len(), &raw mut len, &raw mut error)
        };
        check(error)?;
        if value.is_null() {
            return Ok(false);
        }
        // SAFETY: LevelDB allocated `len` bytes there, which are ours until they are freed.
        use_value(unsafe { &*slice_from_raw_parts(value, len) });
        // SAFETY: as above, and it is not used again.
        unsafe { leveldb_free(value.cast()) };
        Ok(true)
    }

    fn scan(&mut self, from: Option<&[u8]>, direction: Direction, limit: u64) -> Result<Seen> {
        // SAFETY: database and options are alive, and the iterator is destroyed below.
        let iter = unsafe { leveldb_create_iterator(self.engine.db, self.engine.read_options) };
        // SAFETY: it was just made.
        let seen = unsafe { visit(iter, from, direction, limit) };
        // SAFETY: it is not used again.
        unsafe { leveldb_iter_destroy(iter) };
        Ok(seen)
    }
}

/// Visits entries.
///
/// # Safety
/// `iter` is a live iterator.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "one argument covers all of them")]
unsafe fn visit(iter: Raw, from: Option<&[u8]>, direction: Direction, limit: u64) -> Seen {
    let mut seen = Seen::default();
    // SAFETY: the iterator is alive as the caller promises; keys and values are read only while it
    // is valid and before it moves.
    unsafe {
        match (direction, from) {
            (_, Some(key)) => leveldb_iter_seek(iter, key.as_ptr(), key.len()),
            (Direction::Forward, None) => leveldb_iter_seek_to_first(iter),
            (Direction::Backward, None) => leveldb_iter_seek_to_last(iter),
        }
        if direction == Direction::Backward && leveldb_iter_valid(iter) == 0 {
            leveldb_iter_seek_to_last(iter);
        }
        while leveldb_iter_valid(iter) != 0 {
            let (mut key_len, mut value_len) = (0, 0);
            let key = leveldb_iter_key(iter, &raw mut key_len);
            let value = leveldb_iter_value(iter, &raw mut value_len);
            let key = &*slice_from_raw_parts(key, key_len);
            let is_past = direction == Direction::Backward && from.is_some_and(|from| from < key);
            if !is_past {
                seen.note(black_box(key), &*slice_from_raw_parts(value, value_len));
                if seen.entries == limit {
                    break;
                }
            }
            match direction {
                Direction::Forward => leveldb_iter_next(iter),
                Direction::Backward => leveldb_iter_prev(iter),
            }
        }
    }
    seen
}

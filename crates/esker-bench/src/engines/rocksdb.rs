//! RocksDB, as it comes and tuned.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use ::rocksdb::{
    BlockBasedOptions, Cache, CompactOptions, DB, DBCompressionType, DataBlockIndexType,
    IngestExternalFileOptions, Options, SstFileWriter, WaitForCompactOptions, WriteBatch,
    WriteOptions,
};

use super::EngineKind;
use crate::engine::{Direction, Engine, MEMTABLE_BYTES, Result, Seen, Session, Settings};
use crate::keys::Key;

/// Size of a table that is loaded, in bytes; its default for compactions.
const TABLE_BYTES: u64 = 64 << 20;

pub(super) const DEFAULT: EngineKind = EngineKind {
    name: "rocksdb",
    about: "crate rocksdb 0.25 (11.8.1): LRU cache, 10-bit Bloom filters, LZ4, write buffer 64 MiB \
            x 4, 2 background jobs, everything else as it comes",
    open: |settings| open(settings, false),
    survives_kill: true,
    writes_few: false,
};

pub(super) const TUNED: EngineKind = EngineKind {
    name: "rocksdb-tuned",
    about: "the same with the hyper-clock cache, hash index in data blocks, filters and indexes in \
            the cache and pinned for level 0, 2 subcompactions, bytes_per_sync 1 MiB",
    open: |settings| open(settings, true),
    survives_kill: true,
    writes_few: false,
};

struct Rocks {
    db: DB,
    dir: PathBuf,
    options: Options,
    syncs: bool,
}

struct RocksSession<'a> {
    db: &'a DB,
    write_options: WriteOptions,
}

fn open(settings: &Settings, is_tuned: bool) -> Result<Box<dyn Engine>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(MEMTABLE_BYTES);
    options.set_max_write_buffer_number(4);
    options.set_max_background_jobs(2);
    if !settings.compacts {
        options.set_disable_auto_compactions(true);
        // Nobody is to wait for what does not come.
        options.set_level_zero_slowdown_writes_trigger(i32::MAX);
        options.set_level_zero_stop_writes_trigger(i32::MAX);
    }
    let mut table = BlockBasedOptions::default();
    table.set_block_size(4096);
    table.set_bloom_filter(10.0, false);
    let cache_bytes = usize::try_from(settings.cache_bytes)?;
    if is_tuned {
        table.set_block_cache(&Cache::new_hyper_clock_cache(cache_bytes, 4096));
        table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_pin_top_level_index_and_filter(true);
        options.set_max_subcompactions(2);
        options.set_bytes_per_sync(1 << 20);
    } else {
        table.set_block_cache(&Cache::new_lru_cache(cache_bytes));
    }
    options.set_block_based_table_factory(&table);
    let db = DB::open_cf_with_opts(&options, &settings.dir, [("default", options.clone())])?;
    Ok(Box::new(Rocks { db, dir: settings.dir.clone(), options, syncs: settings.syncs }))
}

impl Engine for Rocks {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let mut write_options = WriteOptions::default();
        write_options.set_sync(self.syncs);
        Ok(Box::new(RocksSession { db: &self.db, write_options }))
    }

    fn settle(&self) -> Result<Duration> {
        self.db.wait_for_compact(&WaitForCompactOptions::default())?;
        Ok(Duration::ZERO)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.flush()?)
    }

    fn compact(&self) -> Result<bool> {
        let all = None::<&[u8]>;
        self.db.compact_range_opt(all, all, &CompactOptions::default());
        Ok(true)
    }

    fn bulk_load(&self, entries: &mut dyn Iterator<Item = (Key, &[u8])>) -> Result<()> {
        let mut paths = Vec::new();
        let mut entries = entries.peekable();
        while entries.peek().is_some() {
            let path = self.dir.join(format!("load-{}.sst", paths.len()));
            let mut writer = SstFileWriter::create(&self.options);
            writer.open(&path)?;
            while let Some((key, value)) = entries.next_if(|_| writer.file_size() < TABLE_BYTES) {
                writer.put(key, value)?;
            }
            writer.finish()?;
            paths.push(path);
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        Ok(self.db.ingest_external_file_opts(&options, paths)?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

impl Session for RocksSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write_options)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Ok(self.db.delete_opt(key, &self.write_options)?)
    }

    fn put_batch(&mut self, entries: &[(&[u8], &[u8])]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in entries {
            batch.put(key, value);
        }
        Ok(self.db.write_opt(batch, &self.write_options)?)
    }

    fn get(&mut self, key: &[u8], use_value: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.db.get_pinned(key)?.map(|value| use_value(&value)).is_some())
    }

    fn multi_get(&mut self, keys: &[&[u8]]) -> Result<u64> {
        let family = self.db.cf_handle("default").expect("opened with it");
        let mut found = 0;
        for value in self.db.batched_multi_get_cf(family, keys.iter().copied(), false) {
            if let Some(value) = value? {
                black_box(value[0]);
                found += 1;
            }
        }
        Ok(found)
    }

    fn scan(&mut self, from: Option<&[u8]>, direction: Direction, limit: u64) -> Result<Seen> {
        let mut cursor = self.db.raw_iterator();
        match (direction, from) {
            (Direction::Forward, Some(key)) => cursor.seek(key),
            (Direction::Forward, None) => cursor.seek_to_first(),
            (Direction::Backward, Some(key)) => cursor.seek_for_prev(key),
            (Direction::Backward, None) => cursor.seek_to_last(),
        }
        let mut seen = Seen::default();
        while let Some((key, value)) = cursor.item() {
            seen.note(key, value);
            if seen.entries == limit {
                break;
            }
            match direction {
                Direction::Forward => cursor.next(),
                Direction::Backward => cursor.prev(),
            }
        }
        cursor.status()?;
        Ok(seen)
    }
}

//! Esker, with default options but for the cache.

use std::hint::black_box;
use std::time::Duration;

use esker::{Batch, CompactionPolicy, Db, Durability, KeyspaceOptions, Options};

use super::EngineKind;
use crate::engine::{Direction, Engine, MEMTABLE_BYTES, Result, Seen, Session, Settings};
use crate::keys::Key;

pub(super) const KIND: EngineKind = EngineKind {
    name: "esker",
    about: "default options; the budget is the cache and four memtables of 64 MiB, and the block \
            cache is held to its share of it",
    open,
    survives_kill: true,
    writes_few: false,
};

struct Own {
    db: Db,
    durability: Durability,
}

struct OwnSession<'a> {
    db: &'a Db,
    durability: Durability,
    batch: Batch,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let options = Options {
        memory_budget_bytes: settings.cache_bytes + 4 * MEMTABLE_BYTES as u64,
        cache_bytes: Some(settings.cache_bytes),
        ..Options::default()
    };
    let mut keyspace =
        KeyspaceOptions { memtable_bytes: MEMTABLE_BYTES as u64, ..KeyspaceOptions::default() };
    if !settings.compacts {
        keyspace.compaction = CompactionPolicy::None;
    }
    let db = Db::builder(&settings.dir).options(options).default_keyspace(keyspace).open()?;
    let durability = if settings.syncs { Durability::Power } else { Durability::Process };
    Ok(Box::new(Own { db, durability }))
}

impl Engine for Own {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let batch = self.db.batch();
        Ok(Box::new(OwnSession { db: &self.db, durability: self.durability, batch }))
    }

    fn settle(&self) -> Result<Duration> {
        self.db.wait_until_settled()?;
        Ok(Duration::ZERO)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.flush()?)
    }

    fn compact(&self) -> Result<bool> {
        self.db.compact_all()?;
        Ok(true)
    }

    fn bulk_load(&self, entries: &mut dyn Iterator<Item = (Key, &[u8])>) -> Result<()> {
        let mut loader = self.db.bulk_loader(self.db.default_keyspace())?;
        for (key, value) in entries {
            loader.put(key, value)?;
        }
        loader.finish()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.close()?)
    }
}

impl Session for OwnSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_with(key, value, self.durability)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Ok(self.db.default_keyspace().delete_with(key, self.durability)?)
    }

    fn put_batch(&mut self, entries: &[(&[u8], &[u8])]) -> Result<()> {
        let keyspace = self.db.default_keyspace();
        for (key, value) in entries {
            self.batch.put(keyspace, key, value);
        }
        Ok(self.batch.commit_and_clear(self.durability)?)
    }

    fn get(&mut self, key: &[u8], use_value: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.db.get_with(key, use_value)?.is_some())
    }

    fn multi_get(&mut self, keys: &[&[u8]]) -> Result<u64> {
        let values = self.db.multi_get(keys)?;
        let mut found = 0;
        for value in values.iter().flatten() {
            black_box(value[0]);
            found += 1;
        }
        Ok(found)
    }

    fn scan(&mut self, from: Option<&[u8]>, direction: Direction, limit: u64) -> Result<Seen> {
        let mut cursor = self.db.cursor()?;
        match (direction, from) {
            (Direction::Forward, Some(key)) => cursor.seek(key)?,
            (Direction::Forward, None) => cursor.seek_to_first()?,
            (Direction::Backward, Some(key)) => cursor.seek_for_prev(key)?,
            (Direction::Backward, None) => cursor.seek_to_last()?,
        }
        let mut seen = Seen::default();
        while cursor.is_valid() {
            seen.note(cursor.key(), cursor.value());
            if seen.entries == limit {
                break;
            }
            match direction {
                Direction::Forward => cursor.next()?,
                Direction::Backward => cursor.prev()?,
            }
        }
        Ok(seen)
    }
}

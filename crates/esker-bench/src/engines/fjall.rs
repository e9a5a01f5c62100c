//! Fjall 3. Its iterators own what they yield, and it can be asked but not waited for when
//! background work is done.

use std::time::Duration;

use ::fjall::config::PinningPolicy;
use ::fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};
use esker::env::{Clock as _, SystemClock};

use super::EngineKind;
use crate::engine::{Direction, Engine, MEMTABLE_BYTES, Result, Seen, Session, Settings};
use crate::keys::Key;

pub(super) const KIND: EngineKind = EngineKind {
    name: "fjall",
    about: "crate fjall 3.1: its own compression (LZ4 from level 2 on) and filters (10 bits, more \
            on level 0), 64 MiB memtables, 2 workers, indexes and filters pinned",
    open,
    survives_kill: true,
    writes_few: false,
};

/// It is settled when it was at rest for so long.
const REST: Duration = Duration::from_millis(100);

struct Fjall {
    db: Database,
    keyspace: Keyspace,
    syncs: bool,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let db = Database::builder(&settings.dir)
        .cache_size(settings.cache_bytes)
        .worker_threads(2)
        .open()?;
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES as u64)
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(true))
    };
    let keyspace = db.keyspace("bench", options)?;
    Ok(Box::new(Fjall { db, keyspace, syncs: settings.syncs }))
}

impl Engine for Fjall {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(FjallSession { engine: self }))
    }

    fn settle(&self) -> Result<Duration> {
        let clock = SystemClock::new();
        let mut at_rest_since = clock.now();
        loop {
            if 0 < self.db.active_compactions() + self.db.outstanding_flushes() {
                at_rest_since = clock.now();
            }
            let rest = clock.now() - at_rest_since;
            if REST <= rest {
                return Ok(rest);
            }
            clock.sleep(Duration::from_millis(2));
        }
    }

    fn flush(&self) -> Result<()> {
        Ok(self.keyspace.rotate_memtable_and_wait()?)
    }

    fn compact(&self) -> Result<bool> {
        self.flush()?;
        self.keyspace.major_compact()?;
        Ok(true)
    }

    fn bulk_load(&self, entries: &mut dyn Iterator<Item = (Key, &[u8])>) -> Result<()> {
        let mut ingestion = self.keyspace.start_ingestion()?;
        for (key, value) in entries {
            ingestion.write(key, value)?;
        }
        Ok(ingestion.finish()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct FjallSession<'a> {
    engine: &'a Fjall,
}

impl FjallSession<'_> {
    fn sync_if_asked(&self) -> Result<()> {
        if self.engine.syncs {
            self.engine.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Session for FjallSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.engine.keyspace.insert(key, value)?;
        self.sync_if_asked()
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.engine.keyspace.remove(key)?;
        self.sync_if_asked()
    }

    fn put_batch(&mut self, entries: &[(&[u8], &[u8])]) -> Result<()> {
        let mut batch = self.engine.db.batch();
        for (key, value) in entries {
            batch.insert(&self.engine.keyspace, *key, *value);
        }
        batch.commit()?;
        self.sync_if_asked()
    }

    fn get(&mut self, key: &[u8], use_value: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.engine.keyspace.get(key)?.map(|value| use_value(&value)).is_some())
    }

    fn scan(&mut self, from: Option<&[u8]>, direction: Direction, limit: u64) -> Result<Seen> {
        let keyspace = &self.engine.keyspace;
        match (direction, from) {
            (Direction::Forward, Some(key)) => visit(keyspace.range(key..), limit),
            (Direction::Forward, None) => visit(keyspace.iter(), limit),
            (Direction::Backward, Some(key)) => visit(keyspace.range(..=key).rev(), limit),
            (Direction::Backward, None) => visit(keyspace.iter().rev(), limit),
        }
    }
}

fn visit(entries: impl Iterator<Item = Guard>, limit: u64) -> Result<Seen> {
    let mut seen = Seen::default();
    for entry in entries {
        let (key, value) = entry.into_inner()?;
        seen.note(&key, &value);
        if seen.entries == limit {
            break;
        }
    }
    Ok(seen)
}

//! sled 0.34. It writes in the background, and has no compaction to ask for or to wait for.

use std::time::Duration;

use ::sled::{Batch, Db, IVec, Mode};

use super::EngineKind;
use crate::engine::{Direction, Engine, Result, Seen, Session, Settings};

pub(super) const KIND: EngineKind = EngineKind {
    name: "sled",
    about: "crate sled 0.34: HighThroughput, no compression; in D1 it writes in the background \
            every 500 ms, so that it promises less than the others; not ranked in D2",
    open,
    survives_kill: false,
    writes_few: false,
};

struct Sled {
    db: Db,
    syncs: bool,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    let db = ::sled::Config::new()
        .path(&settings.dir)
        .cache_capacity(settings.cache_bytes)
        .mode(Mode::HighThroughput)
        .open()?;
    Ok(Box::new(Sled { db, syncs: settings.syncs }))
}

impl Engine for Sled {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(SledSession { engine: self }))
    }

    fn settle(&self) -> Result<Duration> {
        Ok(Duration::ZERO)
    }

    fn compact(&self) -> Result<bool> {
        Ok(false)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.db.flush()?;
        Ok(())
    }
}

struct SledSession<'a> {
    engine: &'a Sled,
}

impl SledSession<'_> {
    fn sync_if_asked(&self) -> Result<()> {
        if self.engine.syncs {
            self.engine.db.flush()?;
        }
        Ok(())
    }
}

impl Session for SledSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.engine.db.insert(key, value)?;
        self.sync_if_asked()
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.engine.db.remove(key)?;
        self.sync_if_asked()
    }

    fn put_batch(&mut self, entries: &[(&[u8], &[u8])]) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in entries {
            batch.insert(*key, *value);
        }
        self.engine.db.apply_batch(batch)?;
        self.sync_if_asked()
    }

    fn get(&mut self, key: &[u8], use_value: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.engine.db.get(key)?.map(|value| use_value(&value)).is_some())
    }

    fn scan(&mut self, from: Option<&[u8]>, direction: Direction, limit: u64) -> Result<Seen> {
        let db = &self.engine.db;
        match (direction, from) {
            (Direction::Forward, Some(key)) => visit(db.range(key..), limit),
            (Direction::Forward, None) => visit(db.iter(), limit),
            (Direction::Backward, Some(key)) => visit(db.range(..=key).rev(), limit),
            (Direction::Backward, None) => visit(db.iter().rev(), limit),
        }
    }
}

fn visit(entries: impl Iterator<Item = ::sled::Result<(IVec, IVec)>>, limit: u64) -> Result<Seen> {
    let mut seen = Seen::default();
    for entry in entries {
        let (key, value) = entry?;
        seen.note(&key, &value);
        if seen.entries == limit {
            break;
        }
    }
    Ok(seen)
}

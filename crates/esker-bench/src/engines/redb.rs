//! redb: every write is a transaction, reads share one.

use std::time::Duration;

use ::redb::{
    AccessGuard, Database, Durability, ReadOnlyTable, ReadableDatabase as _, ReadableTable as _,
    StorageError, TableDefinition,
};

use super::EngineKind;
use crate::engine::{Direction, Engine, READS_PER_TRANSACTION, Result, Seen, Session, Settings};

pub(super) const KIND: EngineKind = EngineKind {
    name: "redb",
    about: "crate redb 4: Durability::None in D1 (a killed process loses such writes, so that it \
            promises less than the others), Immediate in D2; one read transaction per 1000 reads, \
            no compression",
    open,
    survives_kill: false,
    writes_few: true,
};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

struct Redb {
    db: Database,
    durability: Durability,
}

struct RedbSession<'a> {
    engine: &'a Redb,
    reader: Option<Table>,
    reads: u32,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    std::fs::create_dir_all(&settings.dir)?;
    let db = Database::builder()
        .set_cache_size(usize::try_from(settings.cache_bytes)?)
        .create(settings.dir.join("bench.redb"))?;
    let writer = db.begin_write()?;
    writer.open_table(TABLE)?;
    writer.commit()?;
    let durability = if settings.syncs { Durability::Immediate } else { Durability::None };
    Ok(Box::new(Redb { db, durability }))
}

impl Engine for Redb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(RedbSession { engine: self, reader: None, reads: 0 }))
    }

    fn settle(&self) -> Result<Duration> {
        Ok(Duration::ZERO)
    }

    fn compact(&self) -> Result<bool> {
        Ok(false)
    }

    fn close(self: Box<Self>) -> Result<()> {
        // What was committed without durability becomes durable with the next one that has it.
        Ok(self.db.begin_write()?.commit()?)
    }
}

impl RedbSession<'_> {
    fn reader(&mut self) -> Result<&Table> {
        self.reads += 1;
        if self.reads.is_multiple_of(READS_PER_TRANSACTION) {
            self.reader = None;
        }
        if self.reader.is_none() {
            self.reader = Some(self.engine.db.begin_read()?.open_table(TABLE)?);
        }
        Ok(self.reader.as_ref().expect("just made"))
    }
}

impl Session for RedbSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_batch(&[(key, value)])
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.reader = None;
        let mut writer = self.engine.db.begin_write()?;
        writer.set_durability(self.engine.durability)?;
        writer.open_table(TABLE)?.remove(key)?;
        Ok(writer.commit()?)
    }

    fn put_batch(&mut self, entries: &[(&[u8], &[u8])]) -> Result<()> {
        self.reader = None;
        let mut writer = self.engine.db.begin_write()?;
        writer.set_durability(self.engine.durability)?;
        {
            let mut table = writer.open_table(TABLE)?;
            for (key, value) in entries {
                table.insert(*key, *value)?;
            }
        }
        Ok(writer.commit()?)
    }

    fn get(&mut self, key: &[u8], use_value: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Ok(self.reader()?.get(key)?.map(|value| use_value(value.value())).is_some())
    }

    fn scan(&mut self, from: Option<&[u8]>, direction: Direction, limit: u64) -> Result<Seen> {
        let table = self.reader()?;
        match (direction, from) {
            (Direction::Forward, Some(key)) => visit(table.range::<&[u8]>(key..)?, limit),
            (Direction::Forward, None) => visit(table.iter()?, limit),
            (Direction::Backward, Some(key)) => visit(table.range::<&[u8]>(..=key)?.rev(), limit),
            (Direction::Backward, None) => visit(table.iter()?.rev(), limit),
        }
    }
}

type Guard<'a> = AccessGuard<'a, &'static [u8]>;

fn visit<'a>(
    entries: impl Iterator<Item = std::result::Result<(Guard<'a>, Guard<'a>), StorageError>>,
    limit: u64,
) -> Result<Seen> {
    let mut seen = Seen::default();
    for entry in entries {
        let (key, value) = entry?;
        seen.note(key.value(), value.value());
        if seen.entries == limit {
            break;
        }
    }
    Ok(seen)
}

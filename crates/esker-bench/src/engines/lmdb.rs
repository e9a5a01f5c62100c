//! LMDB through heed: every write is a transaction, reads share one.
#![expect(unsafe_code, reason = "heed cannot know that nobody else changes the mapped file")]

use std::time::Duration;

use ::heed::types::Bytes;
use ::heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags, RoTxn, WithoutTls};

use super::EngineKind;
use crate::engine::{Direction, Engine, READS_PER_TRANSACTION, Result, Seen, Session, Settings};

pub(super) const KIND: EngineKind = EngineKind {
    name: "lmdb",
    about: "heed 0.23: NO_READ_AHEAD; D1 is WRITE_MAP and NO_SYNC, D2 is its default; one read \
            transaction per 1000 reads, APPEND for keys that ascend; the page cache is its cache, \
            no compression",
    open,
    survives_kill: true,
    writes_few: false,
};

type Table = Database<'static, Bytes, Bytes>;

struct Lmdb {
    /// Leaked: its tables borrow from it, and the process ends with the row.
    env: &'static Env<WithoutTls>,
    table: Table,
    /// Whether keys are first tried behind the last one.
    appends: bool,
}

struct LmdbSession<'a> {
    engine: &'a Lmdb,
    reader: Option<RoTxn<'a, WithoutTls>>,
    reads: u32,
}

fn open(settings: &Settings) -> Result<Box<dyn Engine>> {
    std::fs::create_dir_all(&settings.dir)?;
    let mut flags = EnvFlags::NO_READ_AHEAD;
    if !settings.syncs {
        flags |= EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP;
    }
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    // A multiple of any page size.
    options.map_size(usize::try_from(settings.file_bytes_max.next_multiple_of(2 << 20))?);
    // SAFETY: what NO_SYNC and WRITE_MAP give up is safety from crashes of the machine and from
    // stray writes of this process; the benchmark depends on neither.
    unsafe { options.flags(flags) };
    // SAFETY: the driver opens each directory in one process at a time.
    let env: &Env<WithoutTls> = Box::leak(Box::new(unsafe { options.open(&settings.dir)? }));
    let table = env
        .create_databases_and_commit(env.write_txn()?, |opener, writer| {
            let table = opener.create_database::<Bytes, Bytes>(writer, None)?;
            Ok::<_, ::heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
        })?
        .unwrap_commit();
    Ok(Box::new(Lmdb { env, table, appends: settings.keys_ascend }))
}

impl Engine for Lmdb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(LmdbSession { engine: self, reader: None, reads: 0 }))
    }

    fn settle(&self) -> Result<Duration> {
        Ok(Duration::ZERO)
    }

    fn compact(&self) -> Result<bool> {
        Ok(false)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl LmdbSession<'_> {
    fn renew_reader(&mut self) -> Result<()> {
        self.reads += 1;
        if self.reader.is_none() || self.reads.is_multiple_of(READS_PER_TRANSACTION) {
            self.reader = None;
            self.reader = Some(self.engine.env.read_txn()?);
        }
        Ok(())
    }
}

impl Session for LmdbSession<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_batch(&[(key, value)])
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.reader = None;
        let mut writer = self.engine.env.write_txn()?;
        self.engine.table.delete(&mut writer, key)?;
        Ok(writer.commit()?)
    }

    fn put_batch(&mut self, entries: &[(&[u8], &[u8])]) -> Result<()> {
        // A reader of this thread would keep pages from being reused.
        self.reader = None;
        let table = &self.engine.table;
        let mut writer = self.engine.env.write_txn()?;
        for (key, value) in entries {
            if self.engine.appends {
                let is_last = table.put_with_flags(&mut writer, PutFlags::APPEND, key, value);
                if is_last.is_ok() {
                    continue;
                }
            }
            table.put(&mut writer, key, value)?;
        }
        Ok(writer.commit()?)
    }

    fn get(&mut self, key: &[u8], use_value: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.renew_reader()?;
        let reader = self.reader.as_ref().expect("just made");
        Ok(self.engine.table.get(reader, key)?.map(use_value).is_some())
    }

    fn scan(&mut self, from: Option<&[u8]>, direction: Direction, limit: u64) -> Result<Seen> {
        use std::ops::Bound::{Included, Unbounded};
        self.renew_reader()?;
        let reader = self.reader.as_ref().expect("just made");
        let table = &self.engine.table;
        let from = from.map_or(Unbounded, Included);
        match direction {
            Direction::Forward => visit(table.range(reader, &(from, Unbounded))?, limit),
            Direction::Backward => visit(table.rev_range(reader, &(Unbounded, from))?, limit),
        }
    }
}

fn visit<'a>(
    entries: impl Iterator<Item = ::heed::Result<(&'a [u8], &'a [u8])>>,
    limit: u64,
) -> Result<Seen> {
    let mut seen = Seen::default();
    for entry in entries {
        let (key, value) = entry?;
        seen.note(key, value);
        if seen.entries == limit {
            break;
        }
    }
    Ok(seen)
}

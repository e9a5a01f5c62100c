//! A run of tables written outside any tree: ascending, disjoint, in no manifest.
//!
//! When it is dropped, its files are removed, unless they were taken. After a crash, the next open
//! removes them, like all tables that no manifest names.

use std::path::PathBuf;
use std::sync::Arc;

use esker_base::{EntryKind, InternalKey, KeyspaceId, SeqNo};
use esker_table::{Table, TableBuilder, TableIdentity, TableOptions, TableProperties, WriteBehind};
use esker_tree::{LEVEL_COUNT_MAX, Run, RunId};

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};

/// Tables of puts at sequence number zero.
pub(crate) struct TableSequence {
    engine: Arc<Engine>,
    keyspace: KeyspaceId,
    options: TableOptions,
    /// Size, in bytes, at which a table is finished.
    bytes_max: u64,
    /// Writes the files, if whoever adds entries does not.
    behind: Option<Arc<WriteBehind>>,
    builder: Option<TableBuilder>,
    finished: Vec<TableProperties>,
    paths: Vec<PathBuf>,
}

impl TableSequence {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        keyspace: KeyspaceId,
        options: TableOptions,
        bytes_max: u64,
        behind: Option<Arc<WriteBehind>>,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            keyspace,
            options,
            bytes_max,
            behind,
            builder: None,
            finished: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Adds an entry, whose key is greater than the previous one.
    #[inline]
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let is_full = |builder: &TableBuilder| self.bytes_max <= builder.estimated_file_bytes();
        if self.builder.as_ref().is_some_and(is_full) {
            self.end_table()?;
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            None => self.start_table()?,
        };
        Ok(builder.add(InternalKey::new(key, SeqNo::ZERO, EntryKind::Put), value)?)
    }

    #[cold]
    fn start_table(&mut self) -> Result<&mut TableBuilder> {
        self.engine.check_writable()?;
        let id = self.engine.ledger.allocate_table()?;
        let path = self.engine.dir.join(id.file_name());
        let file = self.engine.env.fs.create(&path)?;
        self.paths.push(path);
        let level = u8::try_from(LEVEL_COUNT_MAX - 1).expect("levels are few");
        let (database, keyspace) = (self.engine.tables.database, self.keyspace);
        let identity = TableIdentity { database, id, keyspace, level };
        let builder = TableBuilder::new(file, identity, self.options.clone());
        Ok(self.builder.insert(builder.writing_behind(self.behind.clone())))
    }

    #[cold]
    fn end_table(&mut self) -> Result<()> {
        if let Some(builder) = self.builder.take() {
            let table = builder.finish()?;
            self.finished.push(table);
        }
        Ok(())
    }

    /// Finishes the last table.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.end_table()
    }

    /// Returns once the finished tables are written and durable.
    pub(crate) fn settle(&self) -> Result<()> {
        Ok(self.behind.as_ref().map_or(Ok(()), |behind| behind.settle())?)
    }

    /// Bytes held in memory until they are written.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let open = self.builder.as_ref().map_or(0, TableBuilder::memory_bytes);
        let behind = self.behind.as_ref().map_or(0, |behind| behind.memory_bytes());
        (open + behind) as u64
    }

    /// The finished tables.
    pub(crate) fn finished(&self) -> &[TableProperties] {
        &self.finished
    }

    /// The finished and settled tables, for reading.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn run(&self) -> Result<Arc<Run>> {
        let open = |table: &TableProperties| self.engine.open_table(Arc::new(table.clone()));
        let tables = self.finished.iter().map(open).collect::<Vec<Arc<Table>>>();
        let run = Run::new(RunId(0), tables);
        run.map(Arc::new).map_err(|error| Error::new(ErrorKind::Corruption, error.to_string()))
    }

    /// Leaves the files to the caller, who has added them to a tree.
    pub(crate) fn take(mut self) {
        self.paths.clear();
    }
}

impl Drop for TableSequence {
    fn drop(&mut self) {
        self.builder = None;
        if let Some(behind) = self.behind.as_ref().filter(|_| !self.paths.is_empty()) {
            behind.abandon();
        }
        let paths = std::mem::take(&mut self.paths);
        self.engine.tables.owned.while_owned(|| {
            for path in paths {
                // Best effort: the next open removes it.
                drop(self.engine.env.fs.remove(&path));
            }
        });
    }
}

//! Opening a database, with default or other settings.
//!
//! Collects the settings and passes them to recovery; knows nothing of what is on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker_base::KeyspaceId;
use esker_env::Env;

use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use crate::events::EventListener;
use crate::handle::Handle;
use crate::key_order::{KeyOrder, Order};
use crate::keyspace::Keyspace;
use crate::options::{KeyspaceOptions, Options};
use crate::recovery::mode::RecoveryMode;
use crate::recovery::{self, OpenRequest};

/// Opens a database with settings other than the defaults.
#[derive(Clone)]
#[must_use = "a builder opens nothing until `open` is called"]
pub struct DbBuilder {
    dir: PathBuf,
    env: Option<Env>,
    options: Options,
    default_keyspace: Option<KeyspaceOptions>,
    orders: Vec<Order>,
    is_read_only: bool,
    creates: bool,
    must_be_new: bool,
    recovery: RecoveryMode,
    listener: Option<EventListener>,
}

impl DbBuilder {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            env: None,
            options: Options::default(),
            default_keyspace: None,
            orders: Vec::new(),
            is_read_only: false,
            creates: true,
            must_be_new: false,
            recovery: RecoveryMode::default(),
            listener: None,
        }
    }

    /// Options of the database.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Options of the default keyspace; they replace all its options, as in [`Db::keyspace`].
    /// Without this call it keeps the recorded ones.
    pub fn default_keyspace(mut self, options: KeyspaceOptions) -> Self {
        self.default_keyspace = Some(options);
        self
    }

    /// Registers a custom key order for keyspaces that were created with it, so that they can be
    /// used without giving it again for each. A keyspace whose order is not known is recovered and
    /// compacted, but refuses calls that take or return keys.
    pub fn key_order(mut self, order: impl KeyOrder) -> Self {
        self.orders.push(Order::new(order));
        self
    }

    /// Opens for reading only: nothing on disk changes except the lock file, and writes are
    /// refused. The unflushed part of the log is read into memory. Any number of readers, in one
    /// process or many, may have the database open while nobody has it open for writing. On a
    /// read-only file system, the lock file may be missing.
    pub const fn read_only(mut self, is_read_only: bool) -> Self {
        self.is_read_only = is_read_only;
        self
    }

    /// Whether a database that does not exist is created. Default true.
    pub const fn create_if_missing(mut self, creates: bool) -> Self {
        self.creates = creates;
        self
    }

    /// Whether a database that exists is refused. Default false.
    pub const fn create_new(mut self, must_be_new: bool) -> Self {
        self.must_be_new = must_be_new;
        self
    }

    /// What to do about damage in the log. Default [`RecoveryMode::TornTail`].
    pub const fn recovery(mut self, mode: RecoveryMode) -> Self {
        self.recovery = mode;
        self
    }

    /// The environment of the database: files, clock and threads. Default: those of the operating
    /// system. For tests, and for databases in memory.
    pub fn env(mut self, env: Env) -> Self {
        self.env = Some(env);
        self
    }

    /// Calls `listener` with each event as it happens; see [`EventListener`].
    pub fn on_event(mut self, listener: EventListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Opens the database.
    ///
    /// # Errors
    /// - `Locked`: it is open elsewhere, in this process or another.
    /// - `InvalidInput`: the database does not exist and must not be created, or exists and must be
    ///   new; the directory holds something else; or an option makes no sense.
    /// - `Corruption`: the manifest or the log is damaged, or a file is missing.
    /// - `UnsupportedFormat`: a newer release wrote it. (Tables tell only when they are read.)
    /// - `Io`, `NoSpace`.
    ///
    /// An open that fails with one of the first four changes no file of a database, though
    /// directories and lock files that it created may remain. If it finds no database and must not
    /// create one, or finds something else in the directory, it creates nothing.
    ///
    /// # Cost
    /// Proportional to the number of live tables and the length of the unflushed log, not to the
    /// size or history of the database. Tables are opened when they are first read.
    pub fn open(self) -> Result<Db> {
        let engine = recovery::open(OpenRequest {
            env: self.env.unwrap_or_else(Env::os),
            dir: self.dir,
            options: self.options,
            default_keyspace: self.default_keyspace,
            orders: self.orders,
            is_read_only: self.is_read_only,
            creates: self.creates,
            must_be_new: self.must_be_new,
            recovery: self.recovery,
            listener: self.listener,
        })?;
        let default = engine.keyspace(KeyspaceId::DEFAULT).ok_or_else(|| {
            Error::new(ErrorKind::Corruption, "the manifest has no default keyspace")
        })?;
        let handle = Arc::new(Handle::new(engine)?);
        Ok(Db::new(Keyspace::new(handle, default)))
    }
}

impl Db {
    /// Opens the database in `dir` with the default options, creating it if there is none.
    ///
    /// # Errors
    /// As [`DbBuilder::open`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> esker::Result<()> {
    /// # let dir = std::env::temp_dir().join(format!("esker-doc-open-{}", std::process::id()));
    /// let db = esker::Db::open(&dir)?;
    /// db.put("answer", "42")?;
    /// assert_eq!(db.get("answer")?.unwrap(), "42");
    /// db.close()?;
    /// # std::fs::remove_dir_all(&dir).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder(dir).open()
    }

    /// A builder that opens the database in `dir` with settings other than the defaults.
    pub fn builder(dir: impl AsRef<Path>) -> DbBuilder {
        DbBuilder::new(dir.as_ref())
    }

    /// Opens a new database in memory, which ends with its last handle: the same engine, on files
    /// in memory.
    ///
    /// # Errors
    /// If threads cannot be started.
    pub fn in_memory() -> Result<Self> {
        Self::builder("memory").env(Env { clock: Env::os().clock, ..Env::memory(0) }).open()
    }
}

//! Making a segment durable, from any thread, concurrently with the one that writes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use esker_base::sync::atomic::{AtomicU64, Ordering};
use esker_base::sync::{Mutex, PoisonError};
use esker_env::{File, FileError};

use crate::next_window::NextWindow;

/// Makes what a [`LogWriter`](crate::LogWriter) has written durable. Clones share one state.
#[derive(Clone, Debug)]
pub struct LogSync {
    shared: Arc<Shared>,
}

/// What the writer of a segment and its sync handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) file: Arc<dyn File>,
    /// One sync at a time: waiters usually find that the sync before covered their bytes. Held
    /// across the sync, but never while writing.
    syncing: Mutex<()>,
    /// Offset up to which the system has the bytes. Stored with Release by the writer after each
    /// write; loaded with Acquire before a sync, which therefore covers them.
    written: AtomicU64,
    /// Offset up to which the bytes are durable. Stored with Release after a sync, loaded with
    /// Acquire.
    durable: AtomicU64,
    /// The first failure of a write or a sync: after it, the state of the file is unknown, and
    /// nothing is retried.
    failure: OnceLock<FileError>,
    pub(crate) next_window: NextWindow,
}

impl Shared {
    pub(crate) fn new(file: Arc<dyn File>, written: u64, durable: u64) -> Arc<Self> {
        Arc::new(Self {
            file,
            syncing: Mutex::new(()),
            written: AtomicU64::new(written),
            durable: AtomicU64::new(durable),
            failure: OnceLock::new(),
            next_window: NextWindow::default(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(crate) fn durable_offset(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn set_written(&self, offset: u64) {
        self.written.store(offset, Ordering::Release);
    }

    /// The failure that ended this segment's writing, if there was one.
    pub(crate) fn check(&self) -> Result<(), FileError> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Runs `operation`, unless one has failed before; its failure is final.
    pub(crate) fn attempt<T, E: Into<FileError>>(
        &self,
        operation: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, FileError> {
        self.check()?;
        operation().map_err(|error| self.failure.get_or_init(|| error.into()).clone())
    }

    pub(crate) fn sync(&self) -> Result<u64, FileError> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.written.load(Ordering::Acquire);
        if self.durable_offset() < written {
            if !esker_base::planted::is("skip-log-sync") {
                let retried = |error| {
                    if esker_base::planted::is("retry-failed-sync") {
                        self.file.sync_data()
                    } else {
                        Err(error)
                    }
                };
                self.attempt(|| self.file.sync_data().or_else(retried))?;
            }
            self.durable.store(written, Ordering::Release);
        } else {
            self.check()?;
        }
        Ok(written)
    }
}

impl LogSync {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes everything written before the call durable, and returns the offset up to which the
    /// segment then is.
    ///
    /// # Errors
    /// If this sync failed, or any earlier write or sync of the segment: a failed sync is never
    /// retried, because the system may have dropped what it could not store.
    ///
    /// # Cost
    /// One sync of the file, or none if another has covered the same bytes. Waits for a running
    /// sync; does not block the writer.
    pub fn sync(&self) -> Result<u64, FileError> {
        self.shared.sync()
    }

    /// Prepares the window that the writer will soon need, if it has requested one: see
    /// [`LogWriter::take_window_request`](crate::LogWriter::take_window_request).
    ///
    /// # Cost
    /// 90 to 370 us, or nothing if nothing is requested. The writer goes on in the meantime.
    pub fn ready_window(&self) {
        self.shared.next_window.ready(&*self.shared.file);
    }

    /// Offset up to which the segment is known durable; 0 before the first sync.
    #[must_use]
    pub fn durable_offset(&self) -> u64 {
        self.shared.durable_offset()
    }
}

//! An open file that is followed.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Shared;
use crate::fault::Operation;
use crate::{Advice, File, IoError};

#[derive(Debug)]
pub(super) struct TraceFile {
    pub(super) inner: Arc<dyn File>,
    pub(super) shared: Arc<Shared>,
    /// Which file it is, whatever its names.
    pub(super) id: u64,
    /// The path that it was opened under.
    pub(super) opened: PathBuf,
}

impl TraceFile {
    /// Changes bytes: they count as written from before the change, whether or not it fails, and can
    /// be covered by a sync from after it.
    fn change<T>(
        &self,
        operation: Operation,
        bytes: Range<u64>,
        make: impl FnOnce() -> Result<T, IoError>,
    ) -> Result<T, IoError> {
        let number = {
            let mut state = self.shared.state();
            let path = state.pending.path_of(self.id, &self.opened);
            let change = state.ask(operation, (path, None), Some(bytes));
            state.pending.begin(self.id, &change);
            let number = change.number;
            state.changes.push(change);
            number
        };
        let result = make();
        self.shared.state().pending.end(number);
        result
    }

    fn sync_with(&self, sync: impl FnOnce() -> Result<(), IoError>) -> Result<(), IoError> {
        let (change, covered) = {
            let mut state = self.shared.state();
            let path = state.pending.path_of(self.id, &self.opened);
            (state.ask(Operation::Sync, (path, None), None), state.pending.covered(self.id))
        };
        sync()?;
        let mut state = self.shared.state();
        state.pending.note_sync(self.id, &covered);
        state.changes.push(change);
        Ok(())
    }
}

/// Without [`File::window`]: nobody would see what is written through one.
impl File for TraceFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        self.inner.read_at(offset, buffer)
    }

    fn read_at_hand(&self, offset: u64, buffer: &mut [u8]) -> Result<Option<usize>, IoError> {
        self.inner.read_at_hand(offset, buffer)
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.inner.will_need(offset, len);
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        let range = offset..offset.saturating_add(bytes.len() as u64);
        self.change(Operation::Write, range, || self.inner.write_at(offset, bytes))
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.sync_with(|| self.inner.sync_data())
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.sync_with(|| self.inner.sync_all())
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        let range = offset..offset.saturating_add(len);
        self.change(Operation::Allocate, range, || self.inner.allocate(offset, len))
    }

    fn truncate(&self, len: u64) -> Result<(), IoError> {
        self.change(Operation::Truncate, len..u64::MAX, || self.inner.truncate(len))
    }

    fn len(&self) -> Result<u64, IoError> {
        self.inner.len()
    }

    fn advise(&self, advice: Advice) {
        self.inner.advise(advice);
    }

    fn forget(&self, range: Range<u64>) {
        self.inner.forget(range);
    }

    fn begin_sync(&self, range: Range<u64>) {
        self.inner.begin_sync(range);
    }

    fn data_from(&self, offset: u64) -> u64 {
        self.inner.data_from(offset)
    }

    fn data_end(&self, offset: u64) -> u64 {
        self.inner.data_end(offset)
    }
}

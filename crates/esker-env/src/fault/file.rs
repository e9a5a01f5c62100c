//! An open file with faults between it and its user.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::rule::{Fault, Operation};
use super::{Shared, error};
use crate::{Advice, File, IoError};

#[derive(Debug)]
pub(super) struct FaultFile {
    pub(super) inner: Arc<dyn File>,
    pub(super) shared: Arc<Shared>,
}

impl FaultFile {
    fn pass(&self, operation: Operation, verb: &'static str) -> Result<Option<Fault>, IoError> {
        self.shared.pass(operation, verb, &[self.path()], None)
    }

    fn pass_bytes(
        &self,
        operation: Operation,
        verb: &'static str,
        (offset, len): (u64, usize),
    ) -> Result<Option<Fault>, IoError> {
        let bytes = offset..offset.saturating_add(len as u64);
        self.shared.pass(operation, verb, &[self.path()], Some(bytes))
    }

    /// Reads as `fault` has it.
    fn read_with(
        &self,
        fault: Option<Fault>,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, IoError> {
        match fault {
            Some(Fault::Short) => {
                let half = half(buffer.len());
                self.inner.read_at(offset, &mut buffer[..half])
            }
            Some(Fault::CorruptRead) => {
                let count = self.inner.read_at(offset, buffer)?;
                self.flip_bit(&mut buffer[..count]);
                Ok(count)
            }
            _ => self.inner.read_at(offset, buffer),
        }
    }

    /// A bit that differs from call to call, and not from run to run.
    fn flip_bit(&self, bytes: &mut [u8]) {
        let bits = bytes.len() as u64 * 8;
        if let Some(bit) = self.shared.calls().wrapping_mul(0x9e37_79b9).checked_rem(bits) {
            bytes[bit as usize / 8] ^= 1 << (bit % 8);
        }
    }
}

/// No more than half of `len`, but something.
fn half(len: usize) -> usize {
    (len / 2).max(len.min(1))
}

impl File for FaultFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, IoError> {
        let fault = self.pass_bytes(Operation::Read, "read", (offset, buffer.len()))?;
        self.read_with(fault, offset, buffer)
    }

    fn read_at_hand(&self, offset: u64, buffer: &mut [u8]) -> Result<Option<usize>, IoError> {
        match self.pass_bytes(Operation::Read, "read", (offset, buffer.len()))? {
            Some(Fault::NotAtHand) => Ok(None),
            fault => self.read_with(fault, offset, buffer).map(Some),
        }
    }

    fn will_need(&self, offset: u64, len: u64) {
        // What rules have against it does not matter: it is a hint.
        if self.pass(Operation::WillNeed, "ask for").is_ok() {
            self.inner.will_need(offset, len);
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        match self.pass_bytes(Operation::Write, "write", (offset, bytes.len()))? {
            Some(Fault::Short) => self.inner.write_at(offset, &bytes[..half(bytes.len())]),
            Some(Fault::TornWrite(code)) => {
                self.inner.write_at(offset, &bytes[..half(bytes.len())])?;
                Err(error("write", self.path(), code))
            }
            Some(Fault::LostWrite) => Ok(bytes.len()),
            Some(Fault::MisdirectedWrite(by)) => self.inner.write_at(offset + by, bytes),
            Some(Fault::CorruptWrite) => {
                let mut corrupt = bytes.to_vec();
                self.flip_bit(&mut corrupt);
                self.inner.write_at(offset, &corrupt)
            }
            _ => self.inner.write_at(offset, bytes),
        }
    }

    fn sync_data(&self) -> Result<(), IoError> {
        self.pass(Operation::Sync, "sync")?;
        self.inner.sync_data()
    }

    fn sync_all(&self) -> Result<(), IoError> {
        self.pass(Operation::Sync, "sync")?;
        self.inner.sync_all()
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<(), IoError> {
        self.pass(Operation::Allocate, "allocate")?;
        self.inner.allocate(offset, len)
    }

    fn truncate(&self, len: u64) -> Result<(), IoError> {
        self.pass(Operation::Truncate, "truncate")?;
        self.inner.truncate(len)
    }

    fn len(&self) -> Result<u64, IoError> {
        self.pass(Operation::Len, "measure")?;
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
}

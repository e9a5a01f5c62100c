//! Operands and single deletes of one key, waiting until the entries beneath them are known.
//!
//! All that wait together are of one stripe (see `gc.rs`): the same readers see them. The results
//! are:
//!
//! - *Operands* over a value, or over the known lack of one, become the merged value: a put. If it
//!   is not known what is beneath, they are folded to one operand, if the operator can. The same
//!   holds over a value that will expire, since operands do not expire with it.
//! - *A single delete* and the put directly beneath it are dropped together, and neither without
//!   the other: without the put, the single delete would delete an older put; without the single
//!   delete, the put would come back. A single delete is also dropped if there is nothing beneath
//!   it that another job may find.
//!
//! If the operator is missing or fails, operands stay as they are.
//!
//! Does not know where the results go, nor what older entries there are.

use esker_base::{EntryKind, SeqNo, Trailer};

use crate::operands::{Operands, Order};
use crate::operator::Merger;

/// What is beneath the waiting entries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Below<'a> {
    /// A value, of the same stripe.
    Value(&'a [u8]),
    /// A value of the same stripe that will expire.
    Expiring,
    /// A tombstone, of the same stripe.
    Tombstone,
    /// Nothing, anywhere.
    Nothing,
    /// Unknown, or seen by other readers.
    Unknown,
}

/// What is known of the entries around the waiting ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) below: Below<'a>,
    /// Whether a newer entry of the stripe hides them.
    pub(crate) covered: bool,
    /// Whether everything older is of this stripe and processed by the same job.
    pub(crate) is_all: bool,
}

/// The result for the waiting entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    /// Whether every reader that sees them gets its answer without what is beneath.
    pub(crate) covers: bool,
    /// Whether the value beneath was used up.
    pub(crate) takes_below: bool,
    /// How many entries were written for them.
    pub(crate) written: u64,
}

/// Entries of one key and one stripe, newest first.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) user_key: Vec<u8>,
    pub(crate) stripe: usize,
    trailers: Vec<Trailer>,
    bytes: Vec<u8>,
    /// Where the value of each entry ends in `bytes`.
    ends: Vec<usize>,
    operands: Operands,
    result: Vec<u8>,
}

/// Memory of waiting entries, in bytes, beyond which they no longer wait.
const WAITING_BYTES_MAX: usize = 16 << 20;

impl Waiting {
    pub(crate) const fn is_empty(&self) -> bool {
        self.trailers.is_empty()
    }

    pub(crate) const fn len(&self) -> u64 {
        self.trailers.len() as u64
    }

    /// Whether they take so much memory that they must be resolved.
    pub(crate) fn is_heavy(&self) -> bool {
        WAITING_BYTES_MAX < self.bytes.len() + self.trailers.len() * 2 * size_of::<u64>()
    }

    /// Adds an operand or a single delete. The first one determines the key and stripe of all.
    pub(crate) fn add(&mut self, user_key: &[u8], stripe: usize, trailer: Trailer, value: &[u8]) {
        if self.is_empty() {
            self.user_key.clear();
            self.user_key.extend_from_slice(user_key);
            self.stripe = stripe;
        }
        self.trailers.push(trailer);
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    fn value(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    fn is_operand(&self, index: usize) -> bool {
        self.trailers[index].kind() == EntryKind::Merge
    }

    /// Decides about all, passes the results to `write`, newest first, and is empty afterwards.
    pub(crate) fn resolve<E>(
        &mut self,
        merger: Option<Merger<'_>>,
        surroundings: Surroundings<'_>,
        mut write: impl FnMut(SeqNo, EntryKind, &[u8]) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let Surroundings { below, covered, is_all } = surroundings;
        let mut outcome = Outcome { covers: covered, takes_below: false, written: 0 };
        let mut index = 0;
        let count = self.trailers.len();
        while index < count {
            if self.is_operand(index) {
                let end = (index..count).find(|&at| !self.is_operand(at)).unwrap_or(count);
                // A single delete beneath acts as a tombstone for them.
                let below = if end < count { Below::Tombstone } else { below };
                if !outcome.covers {
                    self.merge(index..end, merger, below, &mut outcome, &mut write)?;
                }
                index = end;
                continue;
            }
            let is_last = index + 1 == count;
            match below {
                Below::Value(_) | Below::Expiring if is_last => {
                    outcome.takes_below = true;
                    outcome.covers |= is_all;
                }
                Below::Tombstone | Below::Nothing if is_last => {}
                // Of two adjacent single deletes, one does what both would.
                _ if !is_last && !self.is_operand(index + 1) => {}
                _ if is_all || esker_base::planted::is("single-delete-dropped-early") => {
                    outcome.covers = true;
                }
                _ => {
                    write(self.trailers[index].seqno(), EntryKind::SingleDelete, &[])?;
                    outcome.written += 1;
                    outcome.covers = true;
                }
            }
            index += 1;
        }
        self.clear();
        Ok(outcome)
    }

    /// Writes what becomes of adjacent operands.
    fn merge<E>(
        &mut self,
        range: std::ops::Range<usize>,
        merger: Option<Merger<'_>>,
        below: Below<'_>,
        outcome: &mut Outcome,
        write: &mut impl FnMut(SeqNo, EntryKind, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let seqno = self.trailers[range.start].seqno();
        if let Some(kind) = merger.and_then(|merger| self.merged(range.clone(), merger, below)) {
            write(seqno, kind, &self.result)?;
            outcome.written += 1;
            outcome.covers = kind == EntryKind::Put;
            outcome.takes_below = outcome.covers && matches!(below, Below::Value(_));
            return Ok(());
        }
        for index in range {
            write(self.trailers[index].seqno(), EntryKind::Merge, self.value(index))?;
            outcome.written += 1;
        }
        Ok(())
    }

    /// Merges or folds operands into `self.result`, and returns the kind of the result; `None` if
    /// they stay.
    fn merged(
        &mut self,
        range: std::ops::Range<usize>,
        merger: Merger<'_>,
        below: Below<'_>,
    ) -> Option<EntryKind> {
        let mut operands = std::mem::take(&mut self.operands);
        operands.clear();
        range.for_each(|index| operands.add(self.value(index)));
        let existing = match below {
            Below::Value(value) => Some(value),
            Below::Tombstone | Below::Nothing | Below::Expiring | Below::Unknown => None,
        };
        // A failure does no harm here: reads of the key will report it.
        let kind = if let Below::Expiring | Below::Unknown = below {
            let folds = operands.added() > 1 && operands.fold(merger, Order::NewestFirst);
            folds.then_some(EntryKind::Merge)
        } else {
            let merged = operands.merge(merger, existing, Order::NewestFirst, &mut self.result);
            merged.is_ok().then_some(EntryKind::Put)
        };
        if let (Some(EntryKind::Merge), Some(operand)) = (kind, operands.only()) {
            self.result.clear();
            self.result.extend_from_slice(operand);
        }
        self.operands = operands;
        kind
    }

    fn clear(&mut self) {
        self.trailers.clear();
        self.ends.clear();
        if self.bytes.capacity() > WAITING_BYTES_MAX / 16 {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }
}

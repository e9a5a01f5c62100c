//! A point read of a key whose newest visible entry is neither a put nor a tombstone.
//!
//! The reader goes from the newest source to the oldest, and passes in the newest visible entry of
//! the key from each source that has one. The answer is known when a value or the lack of one is
//! met, or after the last source.
//!
//! Does not know which sources there are.

use esker_base::{EntryKind, InternalKey, SeqNo, Trailer, expiry_of};

use crate::cursor::Cursor;
use crate::meaning::{Meaning, ReadContext};
use crate::operands::{Operands, Order};
use crate::operator::Merger;
use crate::read_error::ReadError;

/// What is known of the key after an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PointStep {
    /// The entry has the value: the stored bytes from this one on.
    Stored {
        /// How many bytes are stored before the value.
        from: usize,
    },
    /// The value is in a blob file; the entry is a reference to it.
    Blob,
    /// The value was merged.
    Merged(Vec<u8>),
    /// The key has no value.
    Nothing,
    /// Older sources are needed too.
    Older,
    /// There are too many operands to keep in memory: read the key with a
    /// [`VisibleCursor`](crate::VisibleCursor), which can move both ways.
    TooMany,
}

/// The operands of one key that a read has met so far, initially none.
#[derive(Default)]
pub struct PointMerge {
    operands: Operands,
    /// When the value that was met expires or has expired, if ever.
    expiry: Option<u64>,
    has_met_expired: bool,
    /// How many operands there are, if there were too many.
    counted: Option<u64>,
}

impl PointMerge {
    /// How many operands were met.
    #[must_use]
    pub const fn operand_count(&self) -> u64 {
        match self.counted {
            Some(count) => count,
            None => self.operands.added(),
        }
    }

    /// When the value that was met expires, or has expired, in milliseconds since 1970-01-01 UTC;
    /// `None` if it does not. Operands above it do not change that.
    #[must_use]
    pub const fn expiry(&self) -> Option<u64> {
        self.expiry
    }

    /// Whether a value was met that had expired by the time of the context: so the answer is what it
    /// is because of that time.
    #[must_use]
    pub const fn has_met_expired(&self) -> bool {
        self.has_met_expired
    }

    /// Takes the newest visible entry of `key` in a source. If older entries matter, continues in
    /// that source with a `cursor` over it, down to `floor`, below which a range tombstone hides
    /// them.
    ///
    /// # Errors
    /// Of reading the source, of the operator, or for an entry without a meaning.
    pub fn step<C: Cursor>(
        &mut self,
        context: &ReadContext,
        key: &[u8],
        (trailer, stored): (Trailer, &[u8]),
        floor: SeqNo,
        cursor: impl FnOnce() -> C,
    ) -> Result<PointStep, ReadError> {
        let meaning = context.meaning(trailer.kind(), stored)?;
        self.note_expiry(meaning, trailer.kind(), stored);
        match meaning {
            Meaning::Value { from } if self.operands.is_empty() => Ok(PointStep::Stored { from }),
            Meaning::Value { from } => self.merge(context.merger(key)?, Some(&stored[from..])),
            Meaning::Blob if self.operands.is_empty() => Ok(PointStep::Blob),
            Meaning::Blob => {
                let value = context.blob(key, stored)?;
                self.merge(context.merger(key)?, Some(&value))
            }
            Meaning::Nothing if self.operands.is_empty() => Ok(PointStep::Nothing),
            Meaning::Nothing => self.merge(context.merger(key)?, None),
            Meaning::Operand => {
                let merger = context.merger(key)?;
                if !self.add(merger, stored) {
                    return Ok(PointStep::TooMany);
                }
                let mut cursor = cursor();
                cursor.seek(InternalKey { user_key: key, trailer })?;
                self.walk(context, merger, floor, &mut cursor)
            }
        }
    }

    /// Takes the entries of the key after the current one of the cursor.
    fn walk<C: Cursor>(
        &mut self,
        context: &ReadContext,
        merger: Merger<'_>,
        floor: SeqNo,
        cursor: &mut C,
    ) -> Result<PointStep, ReadError> {
        loop {
            if cursor.is_valid() {
                cursor.next()?;
            }
            if !cursor.is_valid()
                || cursor.key().user_key != merger.key()
                || cursor.key().seqno() < floor
            {
                return Ok(PointStep::Older);
            }
            let (kind, stored) = (cursor.key().kind(), cursor.value());
            let meaning = context.meaning(kind, stored)?;
            self.note_expiry(meaning, kind, stored);
            match meaning {
                Meaning::Value { from } => {
                    return self.merge(merger, Some(&cursor.value()[from..]));
                }
                Meaning::Blob => {
                    let value = context.blob(merger.key(), cursor.value())?;
                    return self.merge(merger, Some(&value));
                }
                Meaning::Nothing => return self.merge(merger, None),
                Meaning::Operand if !self.add(merger, cursor.value()) => {
                    return Ok(PointStep::TooMany);
                }
                Meaning::Operand => {}
            }
        }
    }

    /// Counts the operands of `key` that a reader at `snapshot` sees, of which there were [too
    /// many](PointStep::TooMany), and notes when the value beneath them expires. `cursor` is over
    /// all sources; entries older than `floor` are hidden.
    ///
    /// # Errors
    /// As [`PointMerge::step`].
    pub fn count<C: Cursor>(
        &mut self,
        context: &ReadContext,
        (key, snapshot): (&[u8], SeqNo),
        floor: SeqNo,
        cursor: &mut C,
    ) -> Result<(), ReadError> {
        let mut count = 0;
        cursor.seek(InternalKey::seek(key, snapshot))?;
        while cursor.is_valid() && cursor.key().user_key == key && floor <= cursor.key().seqno() {
            let (kind, stored) = (cursor.key().kind(), cursor.value());
            let meaning = context.meaning(kind, stored)?;
            self.note_expiry(meaning, kind, stored);
            if meaning != Meaning::Operand {
                break;
            }
            count += 1;
            cursor.next()?;
        }
        self.counted = Some(count);
        Ok(())
    }

    /// The result after the last source, that is, without a value beneath; `None` if there were no
    /// operands.
    ///
    /// # Errors
    /// Of the operator.
    pub fn finish(self, context: &ReadContext, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        if self.operands.is_empty() {
            return Ok(None);
        }
        let mut merged = Vec::new();
        self.operands.merge(context.merger(key)?, None, Order::NewestFirst, &mut merged)?;
        Ok(Some(merged))
    }

    fn note_expiry(&mut self, meaning: Meaning, kind: EntryKind, stored: &[u8]) {
        if kind != EntryKind::ExpiringPut {
            return;
        }
        let has_expired = meaning == Meaning::Nothing;
        self.has_met_expired |= has_expired;
        // The result of merging operands over an expired value does not expire.
        if !has_expired || self.operands.is_empty() {
            self.expiry = expiry_of(stored);
        }
    }

    /// Adds an operand; false if they now take too much memory.
    fn add(&mut self, merger: Merger<'_>, operand: &[u8]) -> bool {
        self.operands.add(operand);
        !self.operands.is_heavy() || self.operands.fold(merger, Order::NewestFirst)
    }

    fn merge(&self, merger: Merger<'_>, existing: Option<&[u8]>) -> Result<PointStep, ReadError> {
        let mut merged = Vec::new();
        self.operands.merge(merger, existing, Order::NewestFirst, &mut merged)?;
        Ok(PointStep::Merged(merged))
    }
}

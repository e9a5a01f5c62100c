//! The loop of flush and compaction: entries go in order through gc into tables.
//!
//! Checks what it reads: keys must ascend, and at the end the caller compares the count. So damage
//! that the checksums cannot show (it happened in memory before they were computed) ends the job
//! instead of spreading.

use std::cmp::Ordering;

use esker_base::{Corruption, InternalKey, SeqNo};
use esker_env::FileError;

use crate::cursor::Cursor;
use crate::job::{Job, JobError, Reached, Signal};
use crate::merge::MergingCursor;
use crate::output::Outputs;
use crate::range_gc::RangeGc;
use crate::sieve::{Sieve, Sink};
use crate::split::PartRange;

/// Bytes read between two checks of the interrupt: about one block.
pub const INTERRUPT_BYTES: u64 = 4096;

/// Counts of a rewrite.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) bytes_in: u64,
    pub(crate) entries_in: u64,
    pub(crate) entries_dropped: u64,
    /// Values that the compaction filter removed or changed.
    pub(crate) filtered: u64,
}

/// The previous entry, to tell where a key ends and whether entries ascend.
#[derive(Default)]
struct Last {
    user_key: Vec<u8>,
    head: u64,
    trailer_word: u64,
    exists: bool,
}

impl Last {
    /// Stores `key`, and compares it with the previous entry: `Greater` for the first entry of a
    /// key, `Equal` for another of the same key, `Less` if the order is violated.
    #[inline]
    fn advance(&mut self, head: u64, key: InternalKey<'_>) -> Ordering {
        let by_head = head.cmp(&self.head);
        let order = by_head.then_with(|| key.user_key.cmp(&self.user_key));
        let word = key.trailer.word();
        let before = std::mem::replace(&mut self.trailer_word, word);
        if order == Ordering::Equal && self.exists {
            return if word < before { Ordering::Equal } else { Ordering::Less };
        }
        if order == Ordering::Less && self.exists {
            return Ordering::Less;
        }
        self.exists = true;
        self.head = head;
        self.user_key.clear();
        self.user_key.extend_from_slice(key.user_key);
        Ordering::Greater
    }
}

/// Passes all entries of `source` with keys in `part` through `sieve` to `outputs`, except those
/// hidden by `ranges`, which never reach the sieve. `name_of` returns the name of the file that a
/// source is reading.
pub(crate) fn rewrite<C: Cursor>(
    job: &Job<'_>,
    source: &mut MergingCursor<C>,
    mut sieve: Sieve<'_, impl FnMut(&[u8]) -> bool>,
    ranges: &RangeGc,
    (part, outputs): (&PartRange, &mut Outputs<'_>),
    name_of: impl Fn(&C) -> String,
) -> Result<Counts, JobError> {
    let mut counts = Counts::default();
    let mut last = Last::default();
    let mut hidden = 0;
    let mut interrupt_at = 0;
    let mut reached = Reached::default();
    source.seek(InternalKey::seek(&part.start, SeqNo::MAX))?;
    while source.is_valid() {
        if counts.bytes_in >= interrupt_at {
            interrupt_at = counts.bytes_in + INTERRUPT_BYTES;
            counts.entries_dropped = sieve.entries_dropped() + hidden;
            pause(job, &counts, outputs, &mut reached)?;
        }
        let (_, current) = source.current();
        let key = current.key();
        match last.advance(current.head(), key) {
            Ordering::Equal => {}
            Ordering::Greater => {
                if !part.goes_on_to(key.user_key) {
                    break;
                }
                sieve.start_key(outputs)?;
                outputs.start_key(key.user_key)?;
            }
            Ordering::Less => {
                let what = "keys do not ascend";
                return Err(FileError::from(Corruption::new(name_of(current), 0, what)).into());
            }
        }
        let value = current.value();
        counts.entries_in += 1;
        counts.bytes_in += (key.user_key.len() + size_of::<u64>() + value.len()) as u64;
        if !ranges.is_empty() && ranges.hides(key.user_key, key.seqno()) {
            hidden += 1;
        } else {
            sieve.take(key, value, outputs)?;
        }
        source.next()?;
    }
    if !esker_base::planted::is("last-key-forgotten") {
        sieve.end_key(outputs)?;
    }
    counts.filtered = sieve.filtered();
    counts.entries_dropped = sieve.entries_dropped() + hidden;
    pause(job, &counts, outputs, &mut reached)?;
    let added = counts.entries_in - counts.entries_dropped;
    assert_eq!(outputs.entry_count(), added, "every entry is kept or dropped");
    Ok(counts)
}

impl Sink for Outputs<'_> {
    #[inline]
    fn add(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<(), JobError> {
        Outputs::add(self, key, value)
    }
}

/// Publishes the progress since `reached`, and asks whether to go on.
fn pause(
    job: &Job<'_>,
    counts: &Counts,
    outputs: &mut Outputs<'_>,
    reached: &mut Reached,
) -> Result<(), JobError> {
    let Counts { bytes_in, entries_in, entries_dropped, .. } = *counts;
    outputs.charge();
    let now = Reached { bytes_in, bytes_out: outputs.bytes(), entries_in, entries_dropped };
    job.progress.advance(&std::mem::replace(reached, now), &now);
    match (job.interrupt)() {
        Signal::Continue => Ok(()),
        Signal::Cancel => Err(JobError::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob_account::BlobAccount;
    use crate::cursor::vec_cursor::{Entry, VecCursor};
    use crate::gc::{Gc, Readers};
    use crate::output::Cuts;
    use crate::test_tree::TestTree;
    use crate::times::OutputTimes;
    use esker_base::{EntryKind, SeqNo};
    use esker_table::TableTimes;

    fn rewrite_of(job: &Job<'_>, source: VecCursor) -> Result<Counts, JobError> {
        let cuts = Cuts { keys: &[], bytes_max: 1 };
        let times = OutputTimes::of_memtables(TableTimes::default(), true, |_, _| true);
        let (options, none) = (esker_table::TableOptions::default(), BlobAccount::default());
        let mut outputs = Outputs::new(*job, 0, options, cuts, times, &none);
        let mut source = MergingCursor::new(vec![source]);
        let name_of = |_: &VecCursor| "7.table".to_owned();
        let gc = Gc::new(Readers::new(&[], SeqNo::ZERO), false);
        let sieve = Sieve::new(gc, job.context, |_: &[u8]| true);
        let ranges = RangeGc::none(&Readers::new(&[], SeqNo::ZERO));
        let whole = PartRange::whole();
        rewrite(job, &mut source, sieve, &ranges, (&whole, &mut outputs), name_of)
    }

    /// Rewrites one source with these keys and sequence numbers.
    fn rewrite_all(entries: &[(&str, u64)]) -> Result<Counts, JobError> {
        let entry = |&(key, number): &(&str, u64)| {
            Entry::new(key.as_bytes(), number, EntryKind::Put, b"value")
        };
        let source = VecCursor::as_given(entries.iter().map(entry).collect());
        TestTree::new().job(|job| rewrite_of(job, source))
    }

    #[test]
    fn what_a_builder_holds_is_charged_until_the_job_ends() {
        let tree = TestTree::new();
        let entry = |number: u64| {
            Entry::new(format!("{number:04}").as_bytes(), 1, EntryKind::Put, &[7; 64])
        };
        let source = VecCursor::as_given((0..500).map(entry).collect());
        let used = || tree.context.budget.used(esker_cache::Owner::Compaction);
        let most = std::cell::Cell::new(0);
        let interrupt = || {
            most.set(most.get().max(used()));
            Signal::Continue
        };
        tree.job(|job| rewrite_of(&Job { interrupt: &interrupt, ..*job }, source)).unwrap();
        // The buffer of the file is a megabyte.
        assert!(most.get() > 1 << 20, "{}", most.get());
        assert_eq!(used(), 0);
    }

    #[test]
    fn entries_that_do_not_ascend_are_damage_of_the_file_that_they_stand_in() {
        assert_eq!(rewrite_all(&[("", 2), ("", 1), ("a", 9), ("b", 3)]).unwrap().entries_in, 4);
        for damaged in [
            [("b", 3), ("a", 2)],
            [("longprefixb", 3), ("longprefixa", 2)],
            [("a", 2), ("a", 3)],
            [("a", 2), ("a", 2)],
        ] {
            let error = rewrite_all(&damaged).unwrap_err();
            assert_eq!(error.to_string(), "7.table is damaged at offset 0: keys do not ascend");
        }
    }
}

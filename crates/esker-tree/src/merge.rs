//! Merges many sorted sources into one.
//!
//! The valid sources are kept in a list ordered by their current entries, with the one to show at
//! the end, so that showing and removing it is cheap. When the shown source has moved, it is
//! compared with its neighbour in the list, the *runner-up*. As long as it still comes first,
//! nothing else happens (a gallop: one comparison of two words per entry); otherwise it is moved
//! down the list to its place. If sources are of equal size, which one comes next is unpredictable,
//! so short lists are reordered without branches.
//!
//! A seek over several sources does its first part in all of them, then its second, and so on, so
//! that their waits for memory overlap.
//!
//! Why not a loser tree: the sources of an LSM tree differ in size by large factors, so the moved
//! one usually comes first or second again. The list finds that out in one or two comparisons,
//! without replaying a path of a tree, and always has the runner-up at hand. With equal sources,
//! the list moves on average half of its adjacent words; a tree would win beyond a few dozen
//! sources, which the compaction triggers prevent.
//!
//! Comparisons use the head of the key, and load the whole key only if heads are equal.
//!
//! Figures (`examples/merge_bench.rs`: 1 million cached entries of 16 + 100 bytes, reading key and
//! value, while other work loaded both cores three times over): 27 ns an entry for one run, 50 for
//! four equal runs in random interleaving, 60 for eight, 32 for runs of 1, 1, 1, 10 and 100 parts.

use std::cell::Cell;
use std::cmp::Ordering;
use std::hint::select_unpredictable;

use esker_base::{InternalKey, SeqNo, is_same_key};
use esker_env::FileError;

use crate::cursor::{Cursor, PinnedValue, Step};

/// At a change of direction, a source that is not in place after this many steps seeks instead.
const TURN_STEPS_MAX: u32 = 8;

/// Up to this many places are ordered without branches.
const UNBRANCHED_MAX: usize = 8;

/// The entries of several sources as one sorted source.
///
/// The sources of one tree never have equal internal keys; if they did, all would be shown, that of
/// the newer source first.
///
/// # Cost
/// A step allocates nothing. A change of direction moves every source.
pub struct MergingCursor<C> {
    /// Newest first.
    sources: Vec<C>,
    /// The valid sources, ordered by their entries in the current direction; the last is shown.
    order: Vec<RankedSource>,
    direction: Direction,
    blocks_read: u32,
}

/// A source, with what decides about its turn in most cases.
#[derive(Clone, Copy, Debug)]
struct RankedSource {
    /// The head of its key, complemented when going back. The smaller rank comes first.
    rank: u64,
    /// Its index among the sources.
    source: u32,
}

impl RankedSource {
    /// `a` if `is_first`, else `b`, without a branch.
    #[inline]
    fn either(is_first: bool, a: Self, b: Self) -> Self {
        Self {
            rank: select_unpredictable(is_first, a.rank, b.rank),
            source: select_unpredictable(is_first, a.source, b.source),
        }
    }
}

/// On which side of the shown entry the other sources are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    /// Each at its first entry after the shown one.
    Forward,
    /// Each at its last entry before the shown one.
    Reverse,
}

impl<C: Cursor> MergingCursor<C> {
    /// Merges `sources`, which are given newest first. Not valid until the first seek.
    #[must_use]
    pub fn new(sources: Vec<C>) -> Self {
        let order = Vec::with_capacity(sources.len());
        Self { sources, order, direction: Direction::Forward, blocks_read: 0 }
    }

    /// The source whose entry is shown, with its index.
    ///
    /// # Panics
    /// If the cursor is not valid.
    #[inline]
    #[must_use]
    pub fn current(&self) -> (usize, &C) {
        let shown = self.order.last().expect("the cursor is valid").source as usize;
        (shown, &self.sources[shown])
    }

    /// The sources, the newest first.
    #[must_use]
    pub fn sources(&self) -> &[C] {
        &self.sources
    }

    /// Blocks that seeks of all sources have read because they were not in the cache. The count
    /// wraps around.
    #[must_use]
    pub const fn blocks_read(&self) -> u32 {
        self.blocks_read
    }

    /// Moves every source with `place`, then orders them.
    fn seek_all(
        &mut self,
        direction: Direction,
        place: impl FnMut(&mut C) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        self.order.clear();
        self.direction = direction;
        self.sources.iter_mut().try_for_each(place)?;
        self.rebuild();
        Ok(())
    }

    /// Does all parts of a seek but the last, in every source: so memory is being loaded for all of
    /// them while the first one is searched.
    fn approach_all(&mut self, user_key: &[u8]) -> Result<(), FileError> {
        self.order.clear();
        self.sources.iter_mut().try_for_each(|source| source.approach(user_key))?;
        if self.sources.len() > 1 {
            self.sources.iter_mut().for_each(|source| source.prefetch_head(user_key));
        }
        let mut sources = self.sources.as_mut_slice();
        let is_announced = Cell::new(sources.len() < 2);
        while let Some((source, others)) = sources.split_first_mut() {
            // When one has to wait for the device, the others are read in the meantime.
            let mut announce = || {
                others.iter().for_each(C::announce);
                is_announced.set(true);
            };
            let waits: Option<&mut dyn FnMut()> =
                if is_announced.get() { None } else { Some(&mut announce) };
            let was_read = source.hold_approached(user_key, waits)?;
            self.blocks_read = self.blocks_read.wrapping_add(u32::from(was_read));
            sources = others;
        }
        Ok(())
    }

    /// Rebuilds the order from the positions of the sources.
    fn rebuild(&mut self) {
        self.order.clear();
        for (index, source) in self.sources.iter().enumerate() {
            if source.is_valid() {
                let rank = self.direction.rank(source.head());
                self.order.push(RankedSource { rank, source: index as u32 });
                sink(&self.sources, &mut self.order, self.direction);
            }
        }
    }

    /// Moves only the sources that are before `target`: the shown one and those next in the order.
    fn seek_near(
        &mut self,
        target: InternalKey<'_>,
        place: impl Fn(&mut C, InternalKey<'_>) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let beyond = self.direction.ordering();
        while let Some(shown) = self.order.last() {
            let source = &mut self.sources[shown.source as usize];
            if source.key().cmp(&target) != beyond {
                break;
            }
            let moved = place(source, target);
            self.settle(moved)?;
        }
        Ok(())
    }

    /// Moves the shown source one entry in the current direction.
    #[inline]
    fn advance(
        &mut self,
        step: impl FnOnce(&mut C) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let shown = self.order.last().expect("the cursor is valid");
        let moved = step(&mut self.sources[shown.source as usize]);
        self.settle(moved)
    }

    /// Moves the shown source one entry in the current direction, if that entry is at hand and of
    /// another user key, and returns the entry reached.
    #[inline]
    fn advance_at_hand(&mut self, step: impl FnOnce(&mut C) -> Option<Step>) -> Option<Step> {
        let (shown, others) = self.order.split_last_mut()?;
        if others.last().is_some_and(|runner_up| has_same_key(&self.sources, *shown, *runner_up)) {
            return None;
        }
        let step = step(&mut self.sources[shown.source as usize])?;
        shown.rank = self.direction.rank(step.head);
        match others.last() {
            Some(runner_up) if shown.rank >= runner_up.rank => {
                self.sink();
                Some(Step { head: self.head(), trailer: self.key().trailer })
            }
            _ => Some(step),
        }
    }

    /// Lets the shown source skip, and puts it into its place if it did.
    fn skip_shown(
        &mut self,
        skip: impl FnOnce(&mut C) -> Result<bool, FileError>,
    ) -> Result<bool, FileError> {
        let shown = self.order.last().expect("the cursor is valid");
        match skip(&mut self.sources[shown.source as usize]) {
            Ok(false) => Ok(false),
            Ok(true) => self.settle(Ok(())).map(|()| true),
            Err(error) => self.settle(Err(error)).map(|()| true),
        }
    }

    /// Puts the shown source into its place, after it has `moved`.
    #[inline]
    fn settle(&mut self, moved: Result<(), FileError>) -> Result<(), FileError> {
        if moved.is_err() {
            self.order.clear();
            return moved;
        }
        let Some((shown, others)) = self.order.split_last_mut() else { return Ok(()) };
        let source = &self.sources[shown.source as usize];
        if !source.is_valid() {
            self.order.pop();
            return Ok(());
        }
        shown.rank = self.direction.rank(source.head());
        match others.last() {
            Some(runner_up) if shown.rank >= runner_up.rank => self.sink(),
            _ => {}
        }
        Ok(())
    }

    /// Moves the last place of the order down to where it belongs.
    fn sink(&mut self) {
        sink(&self.sources, &mut self.order, self.direction);
    }

    /// Changes direction at the shown entry, so that every other source is on its far side.
    ///
    /// A source is next to the shown entry, so one step is usually enough. A memtable that took
    /// writes in the meantime needs more; a source that has jumped over entries hidden by range
    /// tombstones may need as many steps as there are, so it seeks.
    #[cold]
    fn turn(&mut self, to: Direction) -> Result<(), FileError> {
        let (shown, _) = self.current();
        self.order.clear();
        let (newer, rest) = self.sources.split_at_mut(shown);
        let (current, older) = rest.split_first_mut().expect("the shown source exists");
        let key = current.key();
        // Ties: the newer source comes first.
        for source in newer {
            to.pass(source, key, to == Direction::Forward)?;
        }
        for source in older {
            to.pass(source, key, to == Direction::Reverse)?;
        }
        match to {
            Direction::Forward => current.next()?,
            Direction::Reverse => current.prev()?,
        }
        self.direction = to;
        self.rebuild();
        Ok(())
    }
}

impl Direction {
    /// The head of a key, so that smaller comes first.
    #[inline]
    const fn rank(self, head: u64) -> u64 {
        match self {
            Self::Forward => head,
            Self::Reverse => !head,
        }
    }

    /// How a key that comes earlier compares with one that comes later.
    const fn ordering(self) -> Ordering {
        match self {
            Self::Forward => Ordering::Less,
            Self::Reverse => Ordering::Greater,
        }
    }

    /// `Less` if `a` comes before `b`.
    #[inline]
    fn compare<C: Cursor>(self, sources: &[C], a: RankedSource, b: RankedSource) -> Ordering {
        a.rank.cmp(&b.rank).then_with(|| {
            let keys = sources[a.source as usize].key().cmp(&sources[b.source as usize].key());
            let forward = keys.then(a.source.cmp(&b.source));
            if self == Self::Forward { forward } else { forward.reverse() }
        })
    }

    /// Moves `source`, which is on the other side of `key`, to its first entry past `key` in this
    /// direction; passes an entry equal to `key` too if `passes_equal`.
    fn pass<C: Cursor>(
        self,
        source: &mut C,
        key: InternalKey<'_>,
        passes_equal: bool,
    ) -> Result<(), FileError> {
        match (self, source.is_valid()) {
            (Self::Forward, true) => source.next()?,
            (Self::Forward, false) => source.seek_to_first()?,
            (Self::Reverse, true) => source.prev()?,
            (Self::Reverse, false) => source.seek_to_last()?,
        }
        let mut steps = 0;
        while source.is_valid() {
            let order = source.key().cmp(&key);
            if order != self.ordering() && !(passes_equal && order == Ordering::Equal) {
                break;
            }
            steps += 1;
            match self {
                Self::Forward if steps == TURN_STEPS_MAX => source.seek(key)?,
                Self::Reverse if steps == TURN_STEPS_MAX => source.seek_for_prev(key)?,
                Self::Forward => source.next()?,
                Self::Reverse => source.prev()?,
            }
        }
        Ok(())
    }
}

/// Whether two sources are at entries of the same user key.
#[inline]
fn has_same_key<C: Cursor>(sources: &[C], a: RankedSource, b: RankedSource) -> bool {
    let user_key = |place: RankedSource| sources[place.source as usize].key().user_key;
    a.rank == b.rank && is_same_key(user_key(a), user_key(b))
}

/// Moves the last place of `order` down to where it belongs; the others are in order.
#[inline]
fn sink<C: Cursor>(sources: &[C], order: &mut [RankedSource], direction: Direction) {
    let Some((moved, others)) = order.split_last() else { return };
    if others.len() > UNBRANCHED_MAX || others.iter().any(|other| other.rank == moved.rank) {
        return sink_by_keys(sources, order, direction);
    }
    // Which source comes next is unpredictable, and a mispredicted branch costs more than this
    // branch-free pass over all places.
    let mut later = *moved;
    for at in (0..others.len()).rev() {
        let other = order[at];
        let is_later = other.rank < later.rank;
        order[at + 1] = RankedSource::either(is_later, other, later);
        later = RankedSource::either(is_later, later, other);
    }
    order[0] = later;
}

/// As [`sink`], for many places, or for places with equal ranks.
fn sink_by_keys<C: Cursor>(sources: &[C], order: &mut [RankedSource], direction: Direction) {
    let Some((moved, others)) = order.split_last() else { return };
    let (moved, mut at) = (*moved, others.len());
    while at > 0 && direction.compare(sources, order[at - 1], moved) == Ordering::Less {
        order[at] = order[at - 1];
        at -= 1;
    }
    order[at] = moved;
}

impl<C: Cursor> Cursor for MergingCursor<C> {
    #[inline]
    fn is_valid(&self) -> bool {
        !self.order.is_empty()
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.current().1.key()
    }

    #[inline]
    fn head(&self) -> u64 {
        self.direction.rank(self.order.last().expect("the cursor is valid").rank)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current().1.value()
    }

    fn pinned_value(&self) -> PinnedValue {
        self.current().1.pinned_value()
    }

    /// Moves only the shown source: the others may have entries that are not hidden.
    fn skip_to(&mut self, end: &[u8], below: SeqNo) -> Result<bool, FileError> {
        if self.direction != Direction::Forward {
            return Ok(false);
        }
        self.skip_shown(|source| source.skip_to(end, below))
    }

    /// As [`MergingCursor::skip_to`].
    fn skip_back_to(&mut self, start: &[u8], below: SeqNo) -> Result<bool, FileError> {
        if self.direction != Direction::Reverse {
            return Ok(false);
        }
        self.skip_shown(|source| source.skip_back_to(start, below))
    }

    /// # Cost
    /// When seeking forward, sources that are already past the target stay where they are.
    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        let is_near = self.direction == Direction::Forward && self.is_valid();
        if is_near && self.key() <= target {
            return self.seek_near(target, C::seek_on);
        }
        self.approach_all(target.user_key)?;
        self.seek_all(Direction::Forward, |source| source.seek_approached(target))
    }

    /// # Cost
    /// As [`MergingCursor::seek`], going back.
    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), FileError> {
        let is_near = self.direction == Direction::Reverse && self.is_valid();
        if is_near && self.key() >= target {
            return self.seek_near(target, C::seek_back_on);
        }
        self.approach_all(target.user_key)?;
        self.seek_all(Direction::Reverse, |source| source.seek_for_prev_approached(target))
    }

    fn out_of_order(&self) -> FileError {
        let shown = self.order.last().map_or(0, |shown| shown.source as usize);
        self.sources[shown].out_of_order()
    }

    fn seek_to_first(&mut self) -> Result<(), FileError> {
        self.seek_all(Direction::Forward, C::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<(), FileError> {
        self.seek_all(Direction::Reverse, C::seek_to_last)
    }

    #[inline]
    fn next(&mut self) -> Result<(), FileError> {
        match self.direction {
            Direction::Forward => self.advance(C::next),
            Direction::Reverse => self.turn(Direction::Forward),
        }
    }

    #[inline]
    fn prev(&mut self) -> Result<(), FileError> {
        match self.direction {
            Direction::Reverse => self.advance(C::prev),
            Direction::Forward => self.turn(Direction::Reverse),
        }
    }

    #[inline]
    fn step(&mut self) -> Option<Step> {
        match self.direction {
            Direction::Forward => self.advance_at_hand(C::step),
            Direction::Reverse => None,
        }
    }

    #[inline]
    fn step_back(&mut self) -> Option<Step> {
        match self.direction {
            Direction::Forward => None,
            Direction::Reverse => self.advance_at_hand(C::step_back),
        }
    }

    /// If any other source has an entry of the key, the runner-up has one.
    #[inline]
    fn is_first_of_key(&self) -> bool {
        let Some((shown, others)) = self.order.split_last() else { return false };
        self.direction == Direction::Reverse
            && others.last().is_none_or(|place| !has_same_key(&self.sources, *shown, *place))
            && self.sources[shown.source as usize].is_first_of_key()
    }
}

#[cfg(test)]
mod tests;

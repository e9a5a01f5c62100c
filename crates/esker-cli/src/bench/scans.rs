//! The benchmarks that read entries in order.

use std::hint::black_box;

use esker::Cursor;

use crate::failure::{Failure, Result};

use super::session::Session;
use super::work::Work;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Forward,
    Backward,
}

impl Session<'_> {
    pub(super) fn seek_random(&self) -> Result<Work> {
        self.seek_each(Direction::Forward)
    }

    pub(super) fn seek_reverse(&self) -> Result<Work> {
        self.seek_each(Direction::Backward)
    }

    /// An operation is a seek with the following steps.
    fn seek_each(&self, direction: Direction) -> Result<Work> {
        let db = self.db();
        self.on_threads(self.arguments.seek_count(), |share| {
            let mut key = self.keys.buffer();
            let mut work = Work::start(self.clock);
            let mut kept = self.arguments.reuse_cursor.then(|| db.cursor()).transpose()?;
            for (number, index) in (0..).zip(self.random_indexes(share)) {
                self.keys.write(index, &mut key);
                let operation = || match &mut kept {
                    Some(cursor) => self.seek_and_step(cursor, &key, direction),
                    None => self.seek_and_step(&mut db.cursor()?, &key, direction),
                };
                let (found, is_exact) = work.latencies.sample(number, operation)?;
                work.operations += 1;
                work.found += found;
                if self.is_complete && !is_exact {
                    return Err(Failure::Damaged("a seek did not find a key that exists".into()));
                }
            }
            Ok(work)
        })
    }

    /// Returns how many entries were read, and whether the first one is `key` itself.
    fn seek_and_step(
        &self,
        cursor: &mut Cursor,
        key: &[u8],
        direction: Direction,
    ) -> Result<(u64, bool)> {
        match direction {
            Direction::Forward => cursor.seek(key)?,
            Direction::Backward => cursor.seek_for_prev(key)?,
        }
        let is_exact = cursor.is_valid() && cursor.key() == key;
        let mut found = 0;
        while cursor.is_valid() {
            read_bytes(cursor);
            found += 1;
            if found == self.arguments.nexts {
                break;
            }
            match direction {
                Direction::Forward => cursor.next()?,
                Direction::Backward => cursor.prev()?,
            }
        }
        Ok((found, is_exact))
    }

    pub(super) fn read_all_forward(&self) -> Result<Work> {
        self.read_all(Direction::Forward)
    }

    pub(super) fn read_all_backward(&self) -> Result<Work> {
        self.read_all(Direction::Backward)
    }

    /// Every thread reads everything. Single steps are too short to be timed.
    fn read_all(&self, direction: Direction) -> Result<Work> {
        self.on_threads(self.arguments.threads, |_| {
            let mut cursor = self.db().cursor()?;
            let mut work = Work::start(self.clock);
            match direction {
                Direction::Forward => cursor.seek_to_first()?,
                Direction::Backward => cursor.seek_to_last()?,
            }
            while cursor.is_valid() {
                read_bytes(&cursor);
                work.operations += 1;
                match direction {
                    Direction::Forward => cursor.next()?,
                    Direction::Backward => cursor.prev()?,
                }
            }
            work.found = work.operations;
            if self.is_complete && work.found != self.keys.count {
                let (found, count) = (work.found, self.keys.count);
                let message = format!("a scan found {found} entries where {count} were written");
                return Err(Failure::Damaged(message));
            }
            Ok(work)
        })
    }
}

/// Reads those parts of key and value that have to come from memory: a real user of a scan waits
/// for that.
#[inline]
fn read_bytes(cursor: &Cursor) {
    black_box((cursor.key().first().copied(), cursor.value().last().copied()));
}

//! When the log needs somebody: frames that wait in memory are due, or it has rested for so long that it is
//! to be marked.
//!
//! Does not do what is due.

use std::time::Duration;

use crate::options::Options;

/// A log that has taken no frame for this long is synced and marked.
const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// What there is to see of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateOfLog {
    /// Frames wait in memory and can be written.
    pub(crate) waits: bool,
    /// There are frames behind the last mark, and there can be another.
    pub(crate) is_unmarked: bool,
    /// The end of what is written.
    pub(crate) position: u64,
}

/// What somebody who looks at the log now and then has seen of it.
#[derive(Debug, Default)]
pub(crate) struct LogWatch {
    /// When frames that wait in memory were first seen.
    buffered_since: Option<Duration>,
    /// Where the log ended, and since when it has.
    end: Option<(u64, Duration)>,
}

impl LogWatch {
    /// When something is to be done: `now` if at once, `None` if nothing.
    pub(crate) fn look(&mut self, log: StateOfLog, now: Duration) -> Option<Duration> {
        self.buffered_since = log.waits.then(|| self.buffered_since.unwrap_or(now));
        let end = self.end.filter(|(end, _)| *end == log.position).unwrap_or((log.position, now));
        self.end = log.is_unmarked.then_some(end);
        let write_at = self.buffered_since.map(|since| since + Options::BUFFERED_INTERVAL);
        let mark_at = self.end.map(|(_, since)| since + MARK_INTERVAL);
        [write_at, mark_at].into_iter().flatten().min().map(|due| due.max(now))
    }

    /// Where the log is to be marked, if that is due; frames that wait are to be written in any case.
    pub(crate) fn take(&mut self, now: Duration) -> Option<u64> {
        self.buffered_since = None;
        let due = self.end.take_if(|(_, since)| *since + MARK_INTERVAL <= now);
        due.map(|(position, _)| position)
    }
}

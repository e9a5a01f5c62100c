//! Which operations go wrong, when, and how.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::random::SplitMix;

/// What was asked of the file system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Operation {
    /// `FileSystem::create`.
    Create,
    /// `FileSystem::open`.
    Open,
    /// `FileSystem::open_for_write`.
    OpenForWrite,
    /// `FileSystem::rename`.
    Rename,
    /// `FileSystem::link`.
    Link,
    /// `FileSystem::remove`.
    Remove,
    /// `FileSystem::list`.
    List,
    /// What `FileSystem::list` says of one entry.
    Stat,
    /// `FileSystem::exists`.
    Exists,
    /// `FileSystem::create_dir_all`.
    CreateDir,
    /// `FileSystem::sync_dir`.
    SyncDir,
    /// `FileSystem::lock`.
    Lock,
    /// `FileSystem::space`.
    Space,
    /// `File::read_at` and `File::read_at_hand`.
    Read,
    /// `File::will_need`, which cannot fail.
    WillNeed,
    /// `File::write_at`.
    Write,
    /// `File::sync_data` and `File::sync_all`.
    Sync,
    /// `File::allocate`.
    Allocate,
    /// `File::truncate`.
    Truncate,
    /// `File::len`.
    Len,
}

impl Operation {
    /// Whether the operation changes what a crash may leave: a test that crashes before each of
    /// these has crashed everywhere.
    #[must_use]
    pub const fn is_change(self) -> bool {
        !matches!(
            self,
            Self::Open
                | Self::OpenForWrite
                | Self::List
                | Self::Stat
                | Self::Exists
                | Self::Space
                | Self::Read
                | Self::WillNeed
                | Self::Len
        )
    }
}

/// What goes wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The operation fails with this error of the system, such as 5 for EIO, 24 for EMFILE or 28
    /// for ENOSPC, and does nothing.
    Error(i32),
    /// A write leaves the first half of its bytes, then fails with this error.
    TornWrite(i32),
    /// A read or write does no more than half of what was asked, and says so.
    Short,
    /// The clock stands still for the caller this long, then the operation goes on.
    Delay(Duration),
    /// A write does nothing and reports success.
    LostWrite,
    /// A write goes this many bytes further than asked and reports success.
    MisdirectedWrite(u64),
    /// A write has one of its bits flipped on the way, and reports success.
    CorruptWrite,
    /// A read has one of its bits flipped on the way.
    CorruptRead,
    /// Nothing of what is read is at hand; no fault to a read that waits.
    NotAtHand,
    /// The caller's thread panics.
    Panic,
}

impl Fault {
    const fn applies_to(&self, operation: Operation) -> bool {
        match self {
            Self::Error(_) | Self::Delay(_) | Self::Panic => true,
            Self::Short => matches!(operation, Operation::Read | Operation::Write),
            Self::CorruptRead | Self::NotAtHand => matches!(operation, Operation::Read),
            Self::TornWrite(_)
            | Self::LostWrite
            | Self::MisdirectedWrite(_)
            | Self::CorruptWrite => matches!(operation, Operation::Write),
        }
    }
}

/// Which of the operations that a rule is about it fires on. They are counted from 1, for each
/// rule by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// All.
    Always,
    /// That of this number only.
    Nth(u64),
    /// That of this number and all later ones.
    From(u64),
    /// One in so many, chosen by a seed.
    OneIn {
        /// How many there are for each that is chosen; not 0.
        count: u64,
        /// Repeats the choice.
        seed: u64,
    },
}

/// One way for things to go wrong.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    operations: Vec<Operation>,
    path: Option<String>,
    bytes: Option<Range<u64>>,
    when: When,
    /// How many operations were of the rule's kind.
    matched: u64,
    random: SplitMix,
}

impl Rule {
    /// `fault` on every operation that can have it, on every path.
    #[must_use]
    pub const fn new(fault: Fault) -> Self {
        Self {
            fault,
            operations: Vec::new(),
            path: None,
            bytes: None,
            when: When::Always,
            matched: 0,
            random: SplitMix(0),
        }
    }

    /// Only on these operations.
    #[must_use]
    pub fn on(mut self, operations: &[Operation]) -> Self {
        self.operations = operations.to_vec();
        self
    }

    /// Only on files whose name has the form of `pattern`, in which `*` stands for any characters.
    #[must_use]
    pub fn path(mut self, pattern: impl Into<String>) -> Self {
        self.path = Some(pattern.into());
        self
    }

    /// Only on reads and writes of some of these bytes of a file: a bad sector.
    #[must_use]
    pub const fn bytes(mut self, range: Range<u64>) -> Self {
        self.bytes = Some(range);
        self
    }

    /// Only on these of them.
    #[must_use]
    pub const fn when(mut self, when: When) -> Self {
        if let When::OneIn { seed, .. } = when {
            self.random = SplitMix(seed);
        }
        self.when = when;
        self
    }

    /// Counts an operation, on these bytes of a file if it is about any, and says what goes wrong with it.
    pub(super) fn fire(
        &mut self,
        operation: Operation,
        paths: &[&Path],
        bytes: Option<&Range<u64>>,
    ) -> Option<Fault> {
        let is_listed = self.operations.is_empty() || self.operations.contains(&operation);
        let is_named = self.path.as_ref().is_none_or(|pattern| {
            let names = paths.iter().filter_map(|path| path.file_name());
            names.into_iter().any(|name| matches(pattern, &name.to_string_lossy()))
        });
        let is_touched = self.bytes.as_ref().is_none_or(|wanted| {
            bytes.is_some_and(|bytes| bytes.start < wanted.end && wanted.start < bytes.end)
        });
        if !(is_listed && is_named && is_touched && self.fault.applies_to(operation)) {
            return None;
        }
        self.matched += 1;
        let fires = match self.when {
            When::Always => true,
            When::Nth(nth) => self.matched == nth,
            When::From(first) => first <= self.matched,
            When::OneIn { count, .. } => self.random.below(count) == 0,
        };
        fires.then(|| self.fault.clone())
    }
}

/// Whether `name` has the form of `pattern`, in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(name) = name.strip_prefix(front) else { return false };
    let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    ends.any(|at| matches(rest, &name[at..]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.log", "1-2.log", true),
            ("*.log", "1-2.log.tmp", false),
            ("1-*.*", "1-2.log", true),
            ("1-2.log", "1-2.log", true),
            ("1-2", "1-2.log", false),
            ("*2*", "1-2.log", true),
            ("*3*", "1-2.log", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}

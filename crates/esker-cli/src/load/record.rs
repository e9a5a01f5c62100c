//! The result of reading any input format, and how reading fails.

use std::fmt;
use std::io::{self, BufRead as _, Read as _};

use crate::text::size;

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    /// Line of the input, from 1, on which the record starts.
    pub(crate) line: u64,
}

/// Why no further record can be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The text is not in the format.
    Line {
        /// Line of the input, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The input could not be read.
    Input {
        /// Line of the input, from 1, that was being read.
        line: u64,
        /// The error of the system.
        error: io::Error,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, what } => write!(f, "line {line}: {what}"),
            Self::Input { line, error } => write!(f, "line {line}: cannot be read: {error}"),
        }
    }
}

/// Reads records one by one.
pub(crate) trait Records {
    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`], with the line. Nothing is read after one.
    fn next_record(&mut self) -> Result<Option<Record>, ReadError>;
}

/// Longest line, or paragraph of lines, in bytes. Much less than the limit of a value, since it is
/// held in memory more than once, and an input of binary data may have no line end at all.
pub(crate) const LINE_LEN_MAX: u64 = 256 << 20;

/// Lines of an input, counted.
pub(crate) struct Lines<R> {
    input: R,
    line: u64,
    len_max: u64,
    buffer: Vec<u8>,
}

impl<R: io::BufRead> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self::up_to(LINE_LEN_MAX, input)
    }

    /// Lines, and paragraphs of lines, of at most `len_max` bytes.
    pub(crate) fn up_to(len_max: u64, input: R) -> Self {
        Self { input, line: 0, len_max, buffer: Vec::new() }
    }

    /// Number of the last line read, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.line
    }

    /// The next line without its end; `None` at the end of the input.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.buffer.clear();
        // One more, for the end of the line.
        let mut input = (&mut self.input).take(self.len_max.saturating_add(1));
        let read = input.read_until(b'\n', &mut self.buffer);
        let line = self.line + 1;
        if read.map_err(|error| ReadError::Input { line, error })? == 0 {
            return Ok(None);
        }
        self.line = line;
        if !self.buffer.ends_with(b"\n") {
            self.check_len("line", self.buffer.len())?;
        }
        let bytes = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        Ok(Some(bytes.strip_suffix(b"\r").unwrap_or(bytes)))
    }

    /// Refuses a line or a paragraph of this many bytes, if that is too many.
    pub(crate) fn check_len(&self, what: &str, len: usize) -> Result<(), ReadError> {
        if len as u64 <= self.len_max {
            return Ok(());
        }
        let most = size(self.len_max);
        Err(self
            .error(format!("the {what} is longer than {most}, the most that is loaded at once")))
    }

    /// An error that names the last line read.
    pub(crate) fn error(&self, what: impl Into<String>) -> ReadError {
        ReadError::Line { line: self.line, what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_end_somewhere() {
        let text = b"abcd\nabcd\r\nabcde\n";
        let mut lines = Lines::up_to(5, &text[..]);
        let mut next = || lines.next_line().map(|line| line.map(<[u8]>::to_vec));
        assert_eq!(next().unwrap().unwrap(), b"abcd");
        assert_eq!(next().unwrap().unwrap(), b"abcd");
        assert_eq!(next().unwrap().unwrap(), b"abcde");
        assert!(next().unwrap().is_none());
        for endless in [&b"a\nabcdef"[..], b"a\nabcdef\n", b"a\nabcdefgh"] {
            let mut lines = Lines::up_to(5, endless);
            assert_eq!(lines.next_line().unwrap().unwrap(), b"a");
            let error = lines.next_line().unwrap_err().to_string();
            assert_eq!(
                error,
                "line 2: the line is longer than 5 B, the most that is loaded at once"
            );
        }
        let mut whole = Lines::up_to(5, &b"abcde"[..]);
        assert_eq!(whole.next_line().unwrap().unwrap(), b"abcde");
    }
}

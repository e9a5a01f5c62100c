//! What every input format is read into, and how reading one fails.

use std::fmt;
use std::io;

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
    /// The text is not of the format.
    Line {
        /// Line of the input, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The input could not be read.
    Input {
        /// Line of the input, from 1, that was to be read.
        line: u64,
        /// What the system said.
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

/// Lines of an input, counted.
pub(crate) struct Lines<R> {
    input: R,
    line: u64,
    buffer: Vec<u8>,
}

impl<R: io::BufRead> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, line: 0, buffer: Vec::new() }
    }

    /// Number of the line that was read last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.line
    }

    /// The next line without its end; `None` at the end of the input.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, ReadError> {
        self.buffer.clear();
        let read = self.input.read_until(b'\n', &mut self.buffer);
        let line = self.line + 1;
        if read.map_err(|error| ReadError::Input { line, error })? == 0 {
            return Ok(None);
        }
        self.line = line;
        let bytes = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        Ok(Some(bytes.strip_suffix(b"\r").unwrap_or(bytes)))
    }

    /// The error that names the line that was read last.
    pub(crate) fn error(&self, what: impl Into<String>) -> ReadError {
        ReadError::Line { line: self.line, what: what.into() }
    }
}

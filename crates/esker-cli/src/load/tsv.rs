//! Tab-separated lines: the key is the first column, the value everything after the first tab.
//!
//! There is no quoting and no escaping: bytes are taken as they are. A carriage return at the end
//! of a line belongs to the line end.

use std::io::BufRead;

use super::record::{Lines, ReadError, Record, Records};

/// Reads tab-separated lines.
pub(crate) struct Tsv<R>(Lines<R>);

impl<R: BufRead> Tsv<R> {
    pub(crate) fn new(input: R) -> Self {
        Self(Lines::new(input))
    }
}

impl<R: BufRead> Records for Tsv<R> {
    fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        let Some(line) = self.0.next_line()? else { return Ok(None) };
        let Some(tab) = line.iter().position(|&byte| byte == b'\t') else {
            return Err(self.0.error("there is no tab between key and value"));
        };
        let (key, value) = (line[..tab].to_vec(), line[tab + 1..].to_vec());
        Ok(Some(Record { key, value, line: self.0.number() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_the_first_column() {
        let mut tsv = Tsv::new(&b"a\tb\tc\n\t\r\nk\tv"[..]);
        let record = |key: &[u8], value: &[u8], line| {
            Some(Record { key: key.to_vec(), value: value.to_vec(), line })
        };
        assert_eq!(tsv.next_record().unwrap(), record(b"a", b"b\tc", 1));
        assert_eq!(tsv.next_record().unwrap(), record(b"", b"", 2));
        assert_eq!(tsv.next_record().unwrap(), record(b"k", b"v", 3));
        assert_eq!(tsv.next_record().unwrap(), None);
    }

    #[test]
    fn line_without_a_tab_is_named() {
        let mut tsv = Tsv::new(&b"a\tb\nonly\n"[..]);
        tsv.next_record().unwrap();
        let error = tsv.next_record().unwrap_err();
        assert_eq!(error.to_string(), "line 2: there is no tab between key and value");
    }
}

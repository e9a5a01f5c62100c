//! Splits a line into words as a POSIX shell does.
//!
//! White space separates words; `'...'` keeps everything in it; `"..."` keeps all but `\"` and
//! `\\`; a backslash outside quotes keeps the next character. One addition: outside single quotes,
//! `\xNN` is the byte with that hexadecimal number. `#` at the start of a word starts a comment.
//! Nothing is expanded.

use crate::text::hex_byte;

/// The words of a line.
///
/// # Errors
/// A phrase, if a quote is not closed or nothing follows a backslash.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut splitter = Splitter { rest: line, word: None, words: Vec::new() };
    splitter.run()?;
    Ok(splitter.words)
}

struct Splitter<'a> {
    rest: &'a [u8],
    /// The current word; an empty one is a word too, if it was quoted.
    word: Option<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Splitter<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(byte) = self.next() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => self.words.extend(self.word.take()),
                b'#' if self.word.is_none() => break,
                b'\'' => self.single_quoted()?,
                b'"' => self.double_quoted()?,
                b'\\' => match self.next() {
                    Some(b'x') => self.hex()?,
                    Some(kept) => self.push(kept),
                    None => return Err("nothing follows the last backslash".into()),
                },
                byte => self.push(byte),
            }
        }
        self.words.extend(self.word.take());
        Ok(())
    }

    fn single_quoted(&mut self) -> Result<(), String> {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some(b'\'') => return Ok(()),
                Some(byte) => self.push(byte),
                None => return Err("a ' is not closed".into()),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<(), String> {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => match self.next() {
                    Some(b'x') => self.hex()?,
                    Some(kept @ (b'"' | b'\\' | b'$' | b'`')) => self.push(kept),
                    Some(byte) => {
                        self.push(b'\\');
                        self.push(byte);
                    }
                    None => return Err("a \" is not closed".into()),
                },
                Some(byte) => self.push(byte),
                None => return Err("a \" is not closed".into()),
            }
        }
    }

    /// The two digits after `\x`.
    fn hex(&mut self) -> Result<(), String> {
        let byte = match self.rest {
            [high, low, ..] => hex_byte(*high, *low),
            _ => None,
        };
        let byte = byte.ok_or("\\x needs two hexadecimal digits")?;
        self.rest = &self.rest[2..];
        self.push(byte);
        Ok(())
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn push(&mut self, byte: u8) {
        self.word.get_or_insert_default().push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = split(line.as_bytes()).unwrap();
        words.into_iter().map(|word| word.escape_ascii().to_string()).collect()
    }

    #[test]
    fn quotes_and_backslashes_work_as_in_a_shell() {
        assert_eq!(words("put  a\tb \r"), ["put", "a", "b"]);
        assert_eq!(words("'a b' \"c d\" e\\ f"), ["a b", "c d", "e f"]);
        assert_eq!(words("a'b'\"c\"d"), ["abcd"]);
        assert_eq!(words("'' \"\""), ["", ""]);
        assert_eq!(words(r#""a\"b\\c\d" '\"'"#), [r#"a\"b\\c\\d"#, r#"\\\""#]);
        assert_eq!(words(""), [] as [&str; 0]);
    }

    #[test]
    fn hex_stands_for_a_byte_outside_single_quotes() {
        assert_eq!(words(r"\x00\xFFz"), [r"\x00\xffz"]);
        assert_eq!(words(r#""\x41 \x42""#), ["A B"]);
        assert_eq!(words(r"'\x41'"), [r"\\x41"]);
    }

    #[test]
    fn comment_starts_at_the_start_of_a_word() {
        assert_eq!(words("# all of it"), [] as [&str; 0]);
        assert_eq!(words("get a#b # rest"), ["get", "a#b"]);
        assert_eq!(words("get '#a' \\#b"), ["get", "#a", "#b"]);
    }

    #[test]
    fn unfinished_words_are_refused() {
        for bad in ["'a", "\"a", "\"a\\", "a\\", "\\x", "\\x4", "\\xzz"] {
            assert!(split(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}

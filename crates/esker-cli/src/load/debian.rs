//! A Debian package index: paragraphs of fields, with an empty line between two.
//!
//! The key of a paragraph is `name/version/architecture`, so that a prefix scan of `name/` finds
//! every version; the value is the paragraph itself, without the empty line. A line that starts
//! with white space continues the previous field.

use std::io::BufRead;

use super::record::{Lines, ReadError, Record, Records};

/// Reads paragraphs.
pub(crate) struct DebianPackages<R>(Lines<R>);

impl<R: BufRead> DebianPackages<R> {
    pub(crate) fn new(input: R) -> Self {
        Self(Lines::new(input))
    }
}

/// The fields that form the key.
#[derive(Default)]
struct Identity {
    package: Vec<u8>,
    version: Vec<u8>,
    architecture: Vec<u8>,
}

impl Identity {
    fn note(&mut self, name: &[u8], content: &[u8]) {
        let field = match name.to_ascii_lowercase().as_slice() {
            b"package" => &mut self.package,
            b"version" => &mut self.version,
            b"architecture" => &mut self.architecture,
            _ => return,
        };
        *field = content.trim_ascii().to_vec();
    }

    /// The key, or the name of a missing field.
    fn key(&self) -> Result<Vec<u8>, &'static str> {
        let fields = [
            (&self.package, "Package"),
            (&self.version, "Version"),
            (&self.architecture, "Architecture"),
        ];
        match fields.iter().find(|(content, _)| content.is_empty()) {
            Some((_, name)) => Err(name),
            None => Ok(fields.map(|(content, _)| content.as_slice()).join(&b'/')),
        }
    }
}

impl<R: BufRead> Records for DebianPackages<R> {
    fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        let mut identity = Identity::default();
        let mut value = Vec::new();
        let mut first_line = 0;
        while let Some(line) = self.0.next_line()? {
            if line.trim_ascii().is_empty() {
                if value.is_empty() {
                    continue;
                }
                break;
            }
            let is_continued = line.starts_with(b" ") || line.starts_with(b"\t");
            let colon = line.iter().position(|&byte| byte == b':');
            match colon {
                _ if is_continued && !value.is_empty() => {}
                Some(colon) if colon > 0 && !is_continued => {
                    identity.note(&line[..colon], &line[colon + 1..]);
                }
                _ => return Err(self.0.error("is neither a field nor the continuation of one")),
            }
            value.extend_from_slice(line);
            value.push(b'\n');
            self.0.check_len("paragraph", value.len())?;
            if first_line == 0 {
                first_line = self.0.number();
            }
        }
        if value.is_empty() {
            return Ok(None);
        }
        match identity.key() {
            Ok(key) => Ok(Some(Record { key, value, line: first_line })),
            Err(name) => Err(ReadError::Line {
                line: first_line,
                what: format!("the paragraph has no field '{name}'"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASH: &str =
        "Package: bash\nVersion: 5.2-1\nArchitecture: amd64\nDescription: shell\n .\n";

    fn read(text: &str) -> Result<Vec<(String, u64)>, String> {
        let mut packages = DebianPackages::new(text.as_bytes());
        let mut out = Vec::new();
        while let Some(record) = packages.next_record().map_err(|error| error.to_string())? {
            out.push((String::from_utf8(record.key).unwrap(), record.line));
        }
        Ok(out)
    }

    #[test]
    fn paragraphs_become_records() {
        let text = format!("\n{BASH}\n\npackage: z\nVERSION:1:2~x\nArchitecture: all");
        let expected = [("bash/5.2-1/amd64".to_owned(), 2), ("z/1:2~x/all".to_owned(), 9)];
        assert_eq!(read(&text).unwrap(), expected);
        let mut packages = DebianPackages::new(BASH.as_bytes());
        assert_eq!(packages.next_record().unwrap().unwrap().value, BASH.as_bytes());
    }

    #[test]
    fn wrong_lines_are_named() {
        let missing = format!("{BASH}\nPackage: z\nVersion: 1\n");
        assert_eq!(
            read(&missing).unwrap_err(),
            "line 7: the paragraph has no field 'Architecture'"
        );
        let stray = format!("{BASH}no colon\n");
        assert_eq!(
            read(&stray).unwrap_err(),
            "line 6: is neither a field nor the continuation of one"
        );
        assert!(read(" continued\n").unwrap_err().starts_with("line 1: "));
        let mut endless = DebianPackages(Lines::up_to(50, BASH.as_bytes()));
        let error = endless.next_record().unwrap_err().to_string();
        assert_eq!(
            error,
            "line 4: the paragraph is longer than 50 B, the most that is loaded at once"
        );
    }
}

//! The file or pipe that is loaded: opened, decompressed if it is gzip or LZ4, and measured.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use lz4_flex::frame::FrameDecoder;

use crate::failure::{Failure, Result};

const BUFFER_BYTES: usize = 256 << 10;

/// The first bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The first bytes of an LZ4 frame: Debian keeps its package indexes so.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// What messages call the input.
pub(super) fn name(from: &Path) -> String {
    if is_stdin(from) { "standard input".into() } else { from.display().to_string() }
}

fn is_stdin(from: &Path) -> bool {
    from == Path::new("-")
}

/// A bar over the bytes of a file, or a spinner for a pipe. It draws only on a terminal.
pub(super) fn progress(from: &Path) -> Result<ProgressBar> {
    let len = if is_stdin(from) { None } else { Some(file_len(from)?) };
    let (bar, template) = match len {
        Some(len) => (ProgressBar::new(len), "{bar:30} {bytes}/{total_bytes} {msg}, {eta} left"),
        None => (ProgressBar::no_length(), "{spinner} {bytes} {msg}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    Ok(bar.with_style(style))
}

fn file_len(from: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(from).map_err(|error| cannot_open(from, &error))?;
    if metadata.is_dir() {
        return Err(Failure::other(format!("{} is a directory", from.display())));
    }
    Ok(metadata.len())
}

/// Opens the input; `progress` counts the bytes that are taken from it.
pub(super) fn open(from: &Path, progress: &ProgressBar) -> Result<Box<dyn BufRead>> {
    if is_stdin(from) {
        return decompressed(progress.wrap_read(io::stdin().lock()));
    }
    #[expect(clippy::disallowed_types, reason = "a file of the user's, none of a database")]
    let file = std::fs::File::open(from).map_err(|error| cannot_open(from, &error))?;
    decompressed(progress.wrap_read(file))
}

fn cannot_open(from: &Path, error: &io::Error) -> Failure {
    Failure::other(format!("cannot open {}: {error}", from.display()))
}

/// Looks at the first bytes, and decompresses what follows if they are those of gzip or LZ4.
fn decompressed(input: impl Read + 'static) -> Result<Box<dyn BufRead>> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let start = input
        .fill_buf()
        .map_err(|error| Failure::other(format!("cannot read the input: {error}")))?;
    let buffered = |decoder: Box<dyn Read>| BufReader::with_capacity(BUFFER_BYTES, decoder);
    if start.starts_with(&GZIP_MAGIC) {
        return Ok(Box::new(buffered(Box::new(MultiGzDecoder::new(input)))));
    }
    if start.starts_with(&LZ4_MAGIC) {
        return Ok(Box::new(buffered(Box::new(FrameDecoder::new(input)))));
    }
    Ok(Box::new(input))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn read(input: Vec<u8>) -> String {
        let mut text = String::new();
        decompressed(io::Cursor::new(input)).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn compression_is_recognised_and_plain_text_is_left_alone() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"a\tb\n").unwrap();
        assert_eq!(read(encoder.finish().unwrap()), "a\tb\n");
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(b"a\tb\n").unwrap();
        assert_eq!(read(encoder.finish().unwrap()), "a\tb\n");
        assert_eq!(read(b"a\tb\n".to_vec()), "a\tb\n");
        assert_eq!(read(Vec::new()), "");
    }

    #[test]
    fn missing_file_is_named() {
        let error = progress(Path::new("no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("cannot open no/such/file: "), "{error}");
    }
}

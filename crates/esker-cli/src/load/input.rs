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
        return Ok(Box::new(buffered(Box::new(Lz4Frames::new(input)))));
    }
    Ok(Box::new(input))
}

/// Decompresses all frames of an LZ4 input. To its decoder the end of a frame is the end of the input,
/// and so is the end of an input that was cut off between two blocks.
struct Lz4Frames<R: Read> {
    decoder: FrameDecoder<Watched<R>>,
    is_in_frame: bool,
}

impl<R: BufRead> Lz4Frames<R> {
    fn new(input: R) -> Self {
        let input = Watched { input, has_ended: false };
        Self { decoder: FrameDecoder::new(input), is_in_frame: false }
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_in_frame && self.decoder.get_mut().input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.is_in_frame = true;
            let count = self.decoder.read(out)?;
            if 0 < count || out.is_empty() {
                return Ok(count);
            }
            let is_cut = self.decoder.get_ref().has_ended;
            if is_cut && !esker_base::planted::is("cut-input-taken-for-whole") {
                let what = "the LZ4 frame is not whole";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
            }
            self.is_in_frame = false;
        }
    }
}

/// An input that notes when somebody wants more of it than there is.
struct Watched<R> {
    input: R,
    has_ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(out)?;
        self.has_ended |= count == 0 && !out.is_empty();
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

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

    fn lz4(text: &[u8], block_size: BlockSize) -> Vec<u8> {
        let info = FrameInfo::new().block_size(block_size);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_frame_of_an_lz4_input_is_read() {
        let parts = [&b"a\tb\n"[..], b"", b"c\td\n"];
        let frames = parts.map(|part| lz4(part, BlockSize::Max64KB)).concat();
        assert_eq!(read(frames), "a\tb\nc\td\n");
    }

    #[test]
    fn an_lz4_input_that_was_cut_off_is_an_error_wherever_it_was() {
        let text: Vec<u8> = (0..200_000_u64).map(|n| ((n * n) >> 7) as u8 & 0x7f).collect();
        let whole = lz4(&text, BlockSize::Max64KB);
        let (mut len, mut cut_between_blocks) = (7, 0);
        while len < whole.len() {
            for cut in len..(len + 5).min(whole.len()) {
                let mut rest = decompressed(io::Cursor::new(whole[..cut].to_vec())).unwrap();
                let error = rest.read_to_end(&mut Vec::new()).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "cut to {cut}: {error}");
            }
            let size = u32::from_le_bytes(*whole[len..].first_chunk().unwrap());
            len += 4 + (size & 0x7fff_ffff) as usize;
            cut_between_blocks += 1;
        }
        assert_eq!(cut_between_blocks, 5, "four blocks and the end mark");
    }

    #[test]
    fn missing_file_is_named() {
        let error = progress(Path::new("no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("cannot open no/such/file: "), "{error}");
    }
}

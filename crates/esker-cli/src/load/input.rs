//! The file or pipe that is loaded: opened, decompressed if it is gzip or LZ4, and measured. Input
//! compressed in another way is refused, since it would be taken for text.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use lz4_flex::frame::{Error as FrameError, FrameDecoder};

use crate::failure::{Failure, Result};

const BUFFER_BYTES: usize = 256 << 10;

/// The first bytes of a gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The first bytes of an LZ4 frame, as in Debian's package indexes.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The last three of the first four bytes of a skippable frame; the upper half of the first one is
/// 5.
const SKIPPED_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];
/// The first bytes of input that must be decompressed elsewhere. No text starts with any of them.
const REFUSED: [(&[u8], &str); 6] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh?1AY&SY", "bzip2"),
    (b"BZh?\x17rE8P\x90", "bzip2"),
    (b"\x02\x21\x4c\x18", "LZ4 of the legacy format"),
    (b"PK\x03\x04", "zip"),
];
/// The number of first bytes needed to tell them apart.
const START_LEN: u64 = 10;

/// The name of the input in messages.
pub(super) fn name(from: &Path) -> String {
    if is_stdin(from) { "standard input".into() } else { from.display().to_string() }
}

fn is_stdin(from: &Path) -> bool {
    from == Path::new("-")
}

/// A bar over the bytes of a file, or a spinner for a pipe. Drawn only on a terminal.
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

/// Opens the input; `progress` counts the bytes taken from it.
pub(super) fn open(from: &Path, progress: &ProgressBar) -> Result<Box<dyn BufRead>> {
    if is_stdin(from) {
        return decompressed(from, progress.wrap_read(io::stdin().lock()));
    }
    #[expect(clippy::disallowed_types, reason = "a file of the user's, none of a database")]
    let file = std::fs::File::open(from).map_err(|error| cannot_open(from, &error))?;
    decompressed(from, progress.wrap_read(file))
}

fn cannot_open(from: &Path, error: &io::Error) -> Failure {
    Failure::other(format!("cannot open {}: {error}", from.display()))
}

/// Examines the first bytes, and decompresses the input if it is gzip or LZ4.
fn decompressed(from: &Path, mut input: impl Read + 'static) -> Result<Box<dyn BufRead>> {
    let mut start = Vec::new();
    // A pipe may return them one by one.
    (&mut input)
        .take(START_LEN)
        .read_to_end(&mut start)
        .map_err(|error| Failure::other(format!("cannot read {}: {error}", name(from))))?;
    let is_gzip = start.starts_with(&GZIP_MAGIC);
    let is_lz4 = start.starts_with(&LZ4_MAGIC) || is_skipped(&start);
    let is_start = |magic: &[u8]| {
        magic.len() <= start.len()
            && magic.iter().zip(&start).all(|(magic, byte)| *magic == b'?' || magic == byte)
    };
    if let Some((_, compression)) = REFUSED.iter().find(|(magic, _)| is_start(magic)) {
        let name = name(from);
        return Err(Failure::other(format!("{name} is {compression}: decompress it first")));
    }
    let input = BufReader::with_capacity(BUFFER_BYTES, io::Cursor::new(start).chain(input));
    let buffered = |decoder: Box<dyn Read>| BufReader::with_capacity(BUFFER_BYTES, decoder);
    if is_gzip {
        return Ok(Box::new(buffered(Box::new(MultiGzDecoder::new(input)))));
    }
    if is_lz4 {
        return Ok(Box::new(buffered(Box::new(Lz4Frames::new(input)))));
    }
    Ok(Box::new(input))
}

/// Whether a skippable LZ4 frame starts here.
fn is_skipped(start: &[u8]) -> bool {
    matches!(start, [first, rest @ ..] if first >> 4 == 5 && rest.starts_with(&SKIPPED_MAGIC))
}

/// Decompresses all frames of an LZ4 input. The decoder takes the end of a frame for the end of the
/// input, and also the end of an input truncated between two blocks.
struct Lz4Frames<R: Read> {
    decoder: FrameDecoder<Watched<R>>,
    is_in_frame: bool,
}

impl<R: BufRead> Lz4Frames<R> {
    fn new(input: R) -> Self {
        let input = Watched { input, has_ended: false };
        Self { decoder: FrameDecoder::new(input), is_in_frame: false }
    }

    /// Skips the contents of a frame whose head has been read.
    fn skip(&mut self, len: u32) -> io::Result<()> {
        let input = self.decoder.get_mut();
        let skipped = io::copy(&mut input.take(len.into()), &mut io::sink())?;
        if skipped < u64::from(len) {
            return Err(cut());
        }
        self.is_in_frame = false;
        Ok(())
    }
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_in_frame && self.decoder.get_mut().input.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.is_in_frame = true;
            let count = match self.decoder.read(out).map_err(FrameError::from) {
                Err(FrameError::SkippableFrame(len)) => {
                    self.skip(len)?;
                    continue;
                }
                Err(FrameError::IoError(error)) => return Err(error),
                Err(error) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, wrong(&error)));
                }
                Ok(count) => count,
            };
            if 0 < count || out.is_empty() {
                return Ok(count);
            }
            let is_cut = self.decoder.get_ref().has_ended;
            if is_cut && !esker_base::planted::is("cut-input-taken-for-whole") {
                return Err(cut());
            }
            self.is_in_frame = false;
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the LZ4 frame is not whole")
}

/// What is wrong with an LZ4 frame.
fn wrong(error: &FrameError) -> &'static str {
    match error {
        FrameError::WrongMagicNumber => "something that is no LZ4 frame follows one",
        FrameError::UnsupportedBlocksize(_)
        | FrameError::UnsupportedVersion(_)
        | FrameError::ReservedBitsSet
        | FrameError::DictionaryNotSupported => "the LZ4 frame is of a kind that is not known here",
        FrameError::HeaderChecksumError => "the header of the LZ4 frame is damaged",
        FrameError::ContentLengthError { .. } => "the LZ4 frame has another length than it says",
        FrameError::BlockChecksumError | FrameError::ContentChecksumError => {
            "the LZ4 frame is damaged: a checksum is wrong"
        }
        _ => "the LZ4 frame is damaged",
    }
}

/// An input that records reads beyond its end.
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

    fn opened(input: impl Read + 'static) -> Result<Box<dyn BufRead>> {
        decompressed(Path::new("in"), input)
    }

    fn read(input: Vec<u8>) -> String {
        let mut text = String::new();
        opened(io::Cursor::new(input)).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// A pipe that gives a byte at a time.
    struct Trickle(io::Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let len = out.len().min(1);
            self.0.read(&mut out[..len])
        }
    }

    #[test]
    fn a_pipe_that_starts_slowly_is_recognised_too() {
        let mut text = String::new();
        let input = Trickle(io::Cursor::new(lz4(b"a\tb\n", BlockSize::Max64KB)));
        opened(input).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\tb\n");
    }

    #[test]
    fn what_cannot_be_decompressed_is_refused_by_its_name() {
        for (start, name) in [
            (&b"\xfd7zXZ\0\0\x04"[..], "xz"),
            (b"\x28\xb5\x2f\xfd\x24", "zstd"),
            (b"BZh91AY&SY\x01", "bzip2"),
            (b"BZh1\x17rE8P\x90\0\0\0\0", "bzip2"),
            (b"\x02\x21\x4c\x18\x05", "LZ4 of the legacy format"),
            (b"PK\x03\x04\x14", "zip"),
        ] {
            let expected = format!("in is {name}: decompress it first");
            let error = opened(io::Cursor::new(start.to_vec())).err().unwrap();
            assert_eq!(error.to_string(), expected);
        }
        for text in ["BZh9\tb\n", "PK\tb\n", "P*M\tb\n", "7zXZ\tb\n", "BZ"] {
            assert_eq!(read(text.as_bytes().to_vec()), text);
        }
    }

    #[test]
    fn frames_to_be_skipped_are_skipped_wherever_they_stand() {
        let skipped = |nibble: u8, text: &[u8]| {
            let len = u32::try_from(text.len()).unwrap().to_le_bytes();
            [&[0x50 | nibble][..], &SKIPPED_MAGIC, &len, text].concat()
        };
        let (one, two) = (lz4(b"a\tb\n", BlockSize::Max64KB), lz4(b"c\td\n", BlockSize::Max64KB));
        let (empty, long) = (skipped(0, b""), skipped(15, &[7; 100_000]));
        for input in [
            [&empty[..], &one, &long, &two].concat(),
            [&long[..], &empty, &one, &two, &empty].concat(),
        ] {
            assert_eq!(read(input.clone()), "a\tb\nc\td\n");
        }
        let cut = long[..50_000].to_vec();
        let error = opened(io::Cursor::new(cut)).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "the LZ4 frame is not whole");
    }

    #[test]
    fn damage_to_an_lz4_input_is_said_in_words() {
        let said = |input: Vec<u8>| {
            let mut rest = opened(io::Cursor::new(input)).unwrap();
            rest.read_to_end(&mut Vec::new()).unwrap_err().to_string()
        };
        let info = FrameInfo::new().content_checksum(true).block_size(BlockSize::Max64KB);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(b"a\tb\n").unwrap();
        let whole = encoder.finish().unwrap();
        let with = |place: usize| {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            bytes
        };
        let last = whole.len() - 1;
        assert_eq!(said(with(last)), "the LZ4 frame is damaged: a checksum is wrong");
        assert_eq!(said(with(6)), "the header of the LZ4 frame is damaged");
        let followed = [&whole[..], b"a\tb\tc\td\n"].concat();
        assert_eq!(said(followed), "something that is no LZ4 frame follows one");
        for place in 4..whole.len() {
            assert!(!said(with(place)).contains("Error"), "{place}: {}", said(with(place)));
        }
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
                let mut rest = opened(io::Cursor::new(whole[..cut].to_vec())).unwrap();
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

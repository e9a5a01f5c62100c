//! How a block is stored in a file: compressed or not, with a checksum that depends on its place.
//!
//! ```text
//! block   := body, compression u8, checksum u32
//! body    := payload                                    compression 0
//!          | payload length varint, compressed payload  otherwise
//! ```
//!
//! The checksum covers the body and the compression byte, and is seeded with the file's seed plus
//! the block's offset: a block written elsewhere, or to another file, does not match.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

use esker_base::checksum::checksum32;
use esker_base::coding::{Decoder, put_varint};
use esker_base::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::{Compression, Dictionary, TableOptions};

/// Bytes of compression byte and checksum.
pub(crate) const BLOCK_TRAILER_LEN: usize = 5;

/// Longest payload that is compressed. LZ4 counts in 32 bits; blocks this large are single values.
const COMPRESS_LEN_MAX: usize = 1 << 30;

/// Longest possible payload: one entry with the longest key and value, and its columns.
const PAYLOAD_LEN_MAX: u64 = VALUE_LEN_MAX.saturating_add(KEY_LEN_MAX as u64).saturating_add(1024);

/// A scratch buffer that grew past this for one large value is freed.
const SCRATCH_KEPT_MAX: usize = 4 << 20;

/// Most bytes that one byte of LZ4 can unpack to.
const LZ4_RATIO_MAX: u64 = 255;

/// Seals blocks; keeps what compression needs from one block to the next.
pub(crate) struct Sealer {
    compression: Compression,
    file_seed: u64,
    table: CompressTable,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Buffer for compressed blocks. Only ever grows, so that it is zeroed once.
    scratch: Vec<u8>,
}

impl Sealer {
    /// A sealer for `options`; with a `dictionary`, blocks compressed with Zstandard need it to be
    /// read.
    ///
    /// # Panics
    /// If the compression is not built in.
    pub(crate) fn new(
        options: &TableOptions,
        dictionary: Option<&Dictionary>,
        file_seed: u64,
    ) -> Self {
        let compression = options.compression;
        assert!(compression.is_built_in(), "compression {compression} is not built in");
        #[cfg(not(feature = "zstd"))]
        let _ = dictionary;
        Self {
            compression,
            file_seed,
            table: CompressTable::default(),
            #[cfg(feature = "zstd")]
            zstd: compressor(options, dictionary),
            scratch: Vec::new(),
        }
    }

    /// Turns the payload at `out[start..]` into a block for position `offset` of the file;
    /// compresses it if that is requested and saves enough.
    pub(crate) fn seal(&mut self, out: &mut Vec<u8>, start: usize, offset: u64, compress: bool) {
        let mut byte = Compression::None.as_byte();
        let payload = out.get(start..).unwrap_or_default();
        let payload_len = payload.len();
        if compress
            && payload_len <= COMPRESS_LEN_MAX
            && let Some(packed_len) = self.compress(payload)
            // Stored uncompressed if an eighth or less would be saved: faster reading is then
            // worth more.
            && packed_len < payload_len.saturating_sub(payload_len / 8)
        {
            out.truncate(start);
            put_varint(out, payload_len as u64);
            out.extend_from_slice(self.scratch.get(..packed_len).unwrap_or_default());
            byte = self.compression.as_byte();
        }
        if self.scratch.len() > SCRATCH_KEPT_MAX {
            self.scratch = Vec::new();
        }
        out.push(byte);
        let seed = self.file_seed.wrapping_add(offset);
        let checksum = checksum32(seed, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&checksum.to_le_bytes());
    }

    /// What is held between blocks, in bytes.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.scratch.capacity()
    }

    /// Compresses `payload` to the front of the scratch buffer; returns its compressed length, or
    /// `None` if it is to be stored uncompressed.
    fn compress(&mut self, payload: &[u8]) -> Option<usize> {
        let room = match self.compression {
            Compression::None => return None,
            Compression::Lz4 => get_maximum_output_size(payload.len()),
            Compression::Zstd => payload.len(),
        };
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        if self.compression == Compression::Zstd {
            return self.compress_zstd(payload);
        }
        // The table grows for a payload past 64 KiB, and would then stay slow to clear.
        if payload.len() < usize::from(u16::MAX) && matches!(self.table, CompressTable::Large(_)) {
            self.table = CompressTable::default();
        }
        compress_into_with_table(payload, &mut self.scratch, &mut self.table).ok()
    }
}

impl Sealer {
    /// A failure means that the result does not fit, so compression would not save enough.
    #[cfg(feature = "zstd")]
    fn compress_zstd(&mut self, payload: &[u8]) -> Option<usize> {
        self.zstd.as_mut()?.compress_to_buffer(payload, self.scratch.as_mut_slice()).ok()
    }

    #[cfg(not(feature = "zstd"))]
    const fn compress_zstd(&mut self, _payload: &[u8]) -> Option<usize> {
        None
    }
}

/// If there is none, for lack of memory, blocks are stored uncompressed.
#[cfg(feature = "zstd")]
fn compressor(
    options: &TableOptions,
    dictionary: Option<&Dictionary>,
) -> Option<zstd::bulk::Compressor<'static>> {
    if options.compression != Compression::Zstd {
        return None;
    }
    let level = i32::from(options.zstd_level);
    match dictionary {
        Some(dictionary) => zstd::bulk::Compressor::with_dictionary(level, dictionary.bytes()),
        None => zstd::bulk::Compressor::new(level),
    }
    .ok()
}

/// Checks a stored block that was read at `offset`, and returns its payload and how it was
/// compressed. `dictionary` is its table's.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn unseal(
    mut stored: Vec<u8>,
    file_seed: u64,
    offset: u64,
    dictionary: Option<&Dictionary>,
) -> Result<(Vec<u8>, Compression), &'static str> {
    let (body, compression) = checked_body(&stored, file_seed, offset)?;
    if compression == Compression::None {
        let len = body.len();
        stored.truncate(len);
        return Ok((stored, compression));
    }
    let room = |len| vec![0; len].into_boxed_slice();
    let (payload, _) = unpack(body, compression, dictionary, room)?;
    Ok((payload.into_vec(), compression))
}

/// As [`unseal`], from borrowed bytes. The payload is put at the front of the buffer that `room`
/// returns for its length, and returned together with that length.
///
/// # Errors
/// What is wrong with the block.
pub(crate) fn unseal_into(
    stored: &[u8],
    file_seed: u64,
    offset: u64,
    dictionary: Option<&Dictionary>,
    room: impl FnOnce(usize) -> Box<[u8]>,
) -> Result<(Box<[u8]>, usize), &'static str> {
    let (body, compression) = checked_body(stored, file_seed, offset)?;
    if compression == Compression::None {
        let mut payload = room(body.len());
        payload.get_mut(..body.len()).unwrap_or_default().copy_from_slice(body);
        return Ok((payload, body.len()));
    }
    unpack(body, compression, dictionary, room)
}

/// The body of a stored block that was read at `offset`, and how it is compressed.
fn checked_body(
    stored: &[u8],
    file_seed: u64,
    offset: u64,
) -> Result<(&[u8], Compression), &'static str> {
    let (checked, checksum) = stored.split_last_chunk::<4>().ok_or("block is too short")?;
    if checksum32(file_seed.wrapping_add(offset), checked) != u32::from_le_bytes(*checksum)
        && !esker_base::planted::is("block-checksum-not-checked")
    {
        return Err("block checksum does not match");
    }
    let (&byte, body) = checked.split_last().ok_or("block is too short")?;
    let compression = Compression::from_byte(byte).ok_or("block has an unknown compression")?;
    Ok((body, compression))
}

/// Unpacks a compressed body: the payload, at the front of a buffer, and its length.
fn unpack(
    body: &[u8],
    compression: Compression,
    dictionary: Option<&Dictionary>,
    room: impl FnOnce(usize) -> Box<[u8]>,
) -> Result<(Box<[u8]>, usize), &'static str> {
    let mut decoder = Decoder::new(body);
    let len = decoder.varint().map_err(|error| error.what)?;
    let packed = decoder.rest();
    if compression == Compression::Zstd {
        let payload = unpack_zstd(packed, len, dictionary)?.into_boxed_slice();
        let len = payload.len();
        return Ok((payload, len));
    }
    unpack_lz4(packed, len, room)
}

fn unpack_lz4(
    packed: &[u8],
    len: u64,
    room: impl FnOnce(usize) -> Box<[u8]>,
) -> Result<(Box<[u8]>, usize), &'static str> {
    // Bounded before anything is allocated.
    let most = (packed.len() as u64).saturating_mul(LZ4_RATIO_MAX);
    let len = payload_len(len, most)?;
    let mut payload = room(len);
    let front = payload.get_mut(..len).unwrap_or_default();
    match lz4_flex::block::decompress_into(packed, front) {
        Ok(written) if written == len => Ok((payload, len)),
        Ok(_) => Err("block unpacks to fewer bytes than it says"),
        Err(_) => Err("block does not unpack"),
    }
}

#[cfg(feature = "zstd")]
fn unpack_zstd(
    packed: &[u8],
    len: u64,
    dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>, &'static str> {
    // Zstandard has no useful bound on its ratio; a frame with another length is refused.
    let len = payload_len(len, COMPRESS_LEN_MAX as u64)?;
    let payload = match dictionary {
        Some(dictionary) => dictionary.unpack(packed, len),
        None => zstd::bulk::decompress(packed, len).ok(),
    };
    match payload {
        Some(payload) if payload.len() == len => Ok(payload),
        Some(_) => Err("block unpacks to fewer bytes than it says"),
        None => Err("block does not unpack"),
    }
}

#[cfg(not(feature = "zstd"))]
const fn unpack_zstd(
    _packed: &[u8],
    _len: u64,
    _dictionary: Option<&Dictionary>,
) -> Result<Vec<u8>, &'static str> {
    Err("block is compressed with zstd in a table whose format version has none")
}

/// `len` as a length that can be allocated.
fn payload_len(len: u64, most: u64) -> Result<usize, &'static str> {
    let is_possible = len <= most && len <= PAYLOAD_LEN_MAX;
    let len = usize::try_from(len).ok().ok_or("block says an impossible length")?;
    if is_possible { Ok(len) } else { Err("block says an impossible length") }
}

#[cfg(test)]
mod tests;

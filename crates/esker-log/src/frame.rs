//! One frame: the unit that is written, checked and read.
//!
//! | size     | field         | meaning                                                        |
//! |---------:|---------------|----------------------------------------------------------------|
//! |        4 | `tag`         | the same in all frames of a segment, never 0                   |
//! |        4 | `checksum`    | of all that follows, seeded with the segment and the offset    |
//! |        4 | `chain`       | `checksum` of the frame before; 0 in the first                 |
//! | 1 to 10  | `length`      | varint: 0 for a seal, else the length of the payload plus 1    |
//! | 1 to 10  | `durable_lag` | varint: offset of this frame less the offset known durable     |
//! | the rest | payload       | none in a seal                                                 |
//!
//! The tag lets a search find frames after a damaged place, and keeps zeros from looking like a
//! frame. The seed of the checksum makes a frame valid only at one offset of one segment: neither
//! old frames of a recycled file nor a misplaced write pass.

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

use esker_base::FileHeader;
use esker_base::checksum::{checksum32, file_seed};
use esker_base::coding::{Decoder, VARINT_LEN_MAX, put_varint};

/// Length of the fields before the varints, in bytes.
const FIXED_LEN: usize = 12;

/// Bytes before those that the checksum covers.
const UNCHECKED_LEN: usize = 8;

/// Length of the tag, in bytes.
pub(crate) const TAG_LEN: usize = 4;

/// Largest size of a frame without its payload, in bytes.
pub(crate) const HEAD_LEN_MAX: usize = FIXED_LEN + 2 * VARINT_LEN_MAX;
const _: () = assert!(HEAD_LEN_MAX == 32, "room for a frame is reserved by this");

/// What binds frames to their segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentIdentity {
    seed: u64,
    tag: u32,
}

/// The fields before a payload, as far as they can be trusted before the checksum is verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Checksum of the frame, and so the `chain` of the next.
    pub(crate) checksum: u32,
    pub(crate) chain: u32,
    pub(crate) is_seal: bool,
    /// Offset up to which the segment was known durable when the frame was encoded.
    pub(crate) durable: u64,
    /// Where the payload starts inside the frame.
    pub(crate) head_len: usize,
    /// Length of the whole frame.
    pub(crate) frame_len: usize,
}

/// The content of a frame to be encoded.
pub(crate) enum Content<'a> {
    /// The concatenation of these.
    Payload(&'a [&'a [u8]]),
    Seal,
}

/// The position of a frame to be encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePosition {
    /// Offset of the frame.
    pub(crate) offset: u64,
    /// Offset known durable; at most `offset`.
    pub(crate) durable: u64,
    /// Checksum of the frame before, or 0.
    pub(crate) chain: u32,
}

impl SegmentIdentity {
    pub(crate) fn new(header: &FileHeader) -> Self {
        let seed = file_seed(header.database, header.id);
        Self { seed, tag: checksum32(seed, b"frame") | 1 }
    }

    pub(crate) const fn tag_bytes(&self) -> [u8; TAG_LEN] {
        self.tag.to_le_bytes()
    }

    fn checksum(&self, offset: u64, checked: &[u8]) -> u32 {
        checksum32(self.seed.wrapping_add(offset), checked)
    }

    /// Appends a frame to `out` and returns its checksum.
    pub(crate) fn encode(
        &self,
        out: &mut Vec<u8>,
        position: FramePosition,
        content: &Content<'_>,
    ) -> u32 {
        let start = out.len();
        out.extend_from_slice(&self.tag_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&position.chain.to_le_bytes());
        let parts = match content {
            Content::Payload(parts) => {
                let len = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(len64(part)));
                put_varint(out, len.saturating_add(1));
                *parts
            }
            Content::Seal => {
                put_varint(out, 0);
                &[]
            }
        };
        put_varint(out, position.offset.saturating_sub(position.durable));
        for part in parts {
            out.extend_from_slice(part);
        }
        let frame = out.get_mut(start..).unwrap_or_default();
        let Some((unchecked, checked)) = frame.split_at_mut_checked(UNCHECKED_LEN) else {
            return 0;
        };
        let checksum = self.checksum(position.offset, checked);
        if let Some(field) = unchecked.last_chunk_mut() {
            *field = checksum.to_le_bytes();
        }
        checksum
    }

    /// Decodes the fields before the payload of a frame at `offset`; `bytes` is the start of the
    /// frame, or all of it. `None` if no frame can start here, or if it would be longer than
    /// `room`.
    pub(crate) fn head(&self, bytes: &[u8], offset: u64, room: u64) -> Option<Head> {
        let mut decoder = Decoder::new(bytes);
        if decoder.u32().ok()? != self.tag {
            return None;
        }
        let checksum = decoder.u32().ok()?;
        let chain = decoder.u32().ok()?;
        let length = decoder.varint().ok()?;
        let durable = offset.checked_sub(decoder.varint().ok()?)?;
        let head_len = decoder.position();
        let frame_len = length.saturating_sub(1).checked_add(len64(bytes.get(..head_len)?))?;
        if room < frame_len {
            return None;
        }
        let frame_len = usize::try_from(frame_len).ok()?;
        Some(Head { checksum, chain, is_seal: length == 0, durable, head_len, frame_len })
    }

    /// Whether the frame at `offset`, given as a whole, is as it was encoded.
    pub(crate) fn is_intact(&self, frame: &[u8], offset: u64, head: &Head) -> bool {
        let checked = frame.get(UNCHECKED_LEN..).unwrap_or_default();
        self.checksum(offset, checked) == head.checksum
            || esker_base::planted::is("log-checksum-not-checked")
    }
}

fn len64(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}

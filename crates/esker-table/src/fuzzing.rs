//! The decoders of blocks, for fuzzers: no bytes make any of them panic, whatever is then asked of what
//! they made. No part of the interface.

use esker_base::coding::Decoder;
use esker_base::{EntryKind, InternalKey, SeqNo, Trailer};

use crate::TableProperties;
use crate::data_block::DataBlock;
use crate::filter::FilterBlock;
use crate::footer::Footer;
use crate::index_block::IndexBlock;
use crate::top_index::TopIndex;

/// A data block, read from end to end and searched.
pub fn data_block(payload: &[u8]) {
    let Ok(block) = DataBlock::decode(payload.into(), payload.len()) else { return };
    let mut bytes = 0;
    for index in 0..block.count() {
        bytes += block.suffix(index).len() + block.value(index).len();
        bytes += usize::from(block.tag(index)) + (block.trailer(index).word() & 1) as usize;
    }
    let user_key = block.prefix().to_vec();
    use_up(block.find(&user_key, 7, SeqNo::MAX));
    let key =
        InternalKey { user_key: &user_key, trailer: Trailer::new(SeqNo::MAX, EntryKind::Put) };
    use_up(bytes + block.lower_bound(key));
}

/// The index of a partition of as many blocks as it says itself, in a file of a megabyte.
pub fn index_block(payload: &[u8]) {
    let count = payload.first_chunk().map_or(0, |count| u32::from_le_bytes(*count));
    let Ok(block) = IndexBlock::decode(payload.into(), count, 1 << 20) else { return };
    let mut separator = Vec::new();
    for number in 0..block.block_count() {
        block.append_separator(number, &mut separator);
        use_up(block.handle(number));
    }
    use_up(block.candidates(&separator));
}

/// The top index.
pub fn top_index(payload: &[u8]) {
    let Ok(top) = TopIndex::decode(payload.into()) else { return };
    let mut separator = Vec::new();
    for number in 0..top.partitions().len() {
        top.append_separator(number, &mut separator);
    }
    use_up(top.find(&separator));
}

/// A filter.
pub fn filter(payload: &[u8]) {
    if let Ok(filter) = FilterBlock::decode(payload) {
        (0..64_u64).for_each(|n| use_up(filter.may_contain((n << 58) | n)));
    }
}

/// The footer: the first 16 bytes of `bytes` are its seed and its offset.
pub fn footer(bytes: &[u8]) {
    let Some((seed, rest)) = bytes.split_first_chunk() else { return };
    let Some((offset, rest)) = rest.split_first_chunk() else { return };
    let (seed, offset) = (u64::from_le_bytes(*seed), u64::from_le_bytes(*offset));
    use_up(Footer::decode(rest, seed, offset).is_ok());
}

/// Properties of a table.
pub fn properties(bytes: &[u8]) {
    use_up(TableProperties::decode(&mut Decoder::new(bytes)).is_ok());
}

/// Keeps a result from being left out with the work for it.
fn use_up<T>(result: T) {
    std::hint::black_box(result);
}

//! The decoders of blocks, for fuzzers: no bytes make any of them panic, whatever is then asked of what
//! they made. No part of the interface.

pub mod forge;

use std::sync::Arc;

use esker_base::checksum::checksum32;
use esker_base::coding::Decoder;
use esker_base::{EntryKind, InternalKey, SeqNo, Trailer};
use esker_env::File;

use crate::blob_format::{BLOB_FOOTER_MAGIC, BlobFooter, split_payload};
use crate::blob_reference::BlobReference;
use crate::builder::PartitionLimits;
use crate::data_block::DataBlock;
use crate::filter::FilterBlock;
use crate::footer::{FOOTER_MAGIC, Footer};
use crate::index_block::IndexBlock;
use crate::top_index::TopIndex;
use crate::{TableBuilder, TableIdentity, TableOptions, TableProperties, range_block};

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

/// A block of range tombstones, each of which is looked for.
pub fn range_tombstones(payload: &[u8]) {
    let Ok(fragments) = range_block::decode(payload) else { return };
    let mut again = Vec::new();
    range_block::encode(&fragments, &mut again);
    assert!(range_block::decode(&again).as_ref() == Ok(&fragments), "ranges come back as others");
    for fragment in fragments.as_slice() {
        let covering = fragments.covering(&fragment.start, SeqNo::MAX);
        assert!(
            covering.is_some() && covering == fragment.newest(SeqNo::MAX),
            "a range is not found"
        );
        use_up(fragments.stretch(&fragment.end, SeqNo::MAX));
        assert!(fragments.overlapping(&fragment.start, &fragment.end) == [fragment.clone()]);
    }
}

/// The payload of a record of a blob file, and the same bytes as a reference to one.
pub fn blob_record(bytes: &[u8]) {
    if let Ok((key, value)) = split_payload(bytes) {
        assert!(key.end == value.start && value.end == bytes.len(), "parts of a record overlap");
        use_up(bytes[key].len() + bytes[value].len());
    }
    if let Ok(reference) = BlobReference::decode(bytes) {
        let mut again = Vec::new();
        reference.encode(&mut again);
        assert!(
            BlobReference::decode(&again) == Ok(reference),
            "a reference comes back as another"
        );
        use_up(reference.record_bytes());
    }
}

/// The footers of a table and of a blob file, with checksums that are right: the first 16 bytes of
/// `bytes` are their seed and their offset.
pub fn footers(bytes: &[u8]) {
    let Some((seed, rest)) = bytes.split_first_chunk() else { return };
    let Some((offset, rest)) = rest.split_first_chunk() else { return };
    let (seed, offset) = (u64::from_le_bytes(*seed), u64::from_le_bytes(*offset));
    let sealed = |len: usize, magic: [u8; 4]| {
        let mut footer = rest.to_vec();
        footer.resize(len - size_of::<u32>() - magic.len(), 0);
        let checksum = checksum32(seed.wrapping_add(offset), &footer);
        [footer, checksum.to_le_bytes().to_vec(), magic.to_vec()].concat()
    };
    let of_table = sealed(Footer::LEN, FOOTER_MAGIC);
    let footer = Footer::decode(&of_table, seed, offset).expect("its checksum is right");
    assert!(footer.encode(seed, offset) == of_table, "a footer comes back as another");
    let of_blobs = sealed(BlobFooter::LEN, BLOB_FOOTER_MAGIC);
    let footer = BlobFooter::decode(&of_blobs, seed, offset).expect("its checksum is right");
    assert!(footer.encode(seed, offset) == of_blobs, "a footer comes back as another");
}

/// Properties of a table.
pub fn properties(bytes: &[u8]) {
    use_up(TableProperties::decode(&mut Decoder::new(bytes)).is_ok());
}

/// Starts a table whose partitions have a few blocks each, so that a small one has several.
pub fn in_small_partitions(
    file: Arc<dyn File>,
    identity: TableIdentity,
    options: TableOptions,
) -> TableBuilder {
    let limits = PartitionLimits { block_count: 3, key_count: 100 };
    TableBuilder::with_limits(file, identity, options, limits)
}

/// Keeps a result from being left out with the work for it.
fn use_up<T>(result: T) {
    std::hint::black_box(result);
}

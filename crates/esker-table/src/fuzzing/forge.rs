//! Forges tables: the file of a sound one, with other contents behind checksums that are right.
//!
//! A table is taken apart into the payloads of its blocks. Sealing it puts them together again, in the
//! order of the file: whoever asks for it may change each part before it is sealed, and every handle,
//! end and checksum of what follows is that of what stands in the file then. So a change reaches what
//! checks contents, and no further part is wrong unless it is changed, too.
//!
//! Does not know what changes mean. For sound tables only: it panics where one is not.

use esker_base::checksum::{Checksummer, checksum32, file_seed};
use esker_base::coding::Decoder;
use esker_base::{DatabaseId, FileHeader, FileId};

use crate::footer::{FOOTER_MAGIC, Footer};
use crate::index_block::IndexBlock;
use crate::sealed::{Sealer, unseal};
use crate::top_index::{Partition, TopIndex};
use crate::{BlockHandle, TableOptions, TableProperties};

/// The footer without its content checksum: the handles.
const HANDLES_LEN: usize = 32;

/// Bytes of the checksum of a block, and of a header.
const CHECKSUM_LEN: usize = 4;

/// A part of a table that may be changed: `number` counts them from the front of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForgedPart {
    /// 0 is the header, the last one the footer, and those between are blocks.
    pub number: usize,
    /// Whether it is the body of a block as it is stored, with the byte that tells its compression;
    /// its payload otherwise.
    pub is_stored: bool,
}

/// A sound table, taken apart.
#[derive(Debug)]
pub struct Forge {
    header: FileHeader,
    options: TableOptions,
    partitions: Vec<Pieces>,
    top: Separators,
    ranges: Option<Vec<u8>>,
    properties: TableProperties,
}

#[derive(Debug)]
struct Pieces {
    data: Vec<Vec<u8>>,
    separators: Separators,
    filter: Option<Vec<u8>>,
}

/// Separators as they are encoded from.
#[derive(Default, Debug)]
struct Separators {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Forge {
    /// Takes a table apart. One without an adoption and without a dictionary.
    ///
    /// # Panics
    /// If it is not sound.
    #[must_use]
    pub fn of(file: &[u8]) -> Self {
        let header = FileHeader::decode(file).expect("the header of a sound table");
        let seed = file_seed(header.database, header.id);
        let footer_at = file.len() - Footer::LEN;
        let footer = Footer::decode(&file[footer_at..], seed, footer_at as u64);
        let footer = footer.expect("the footer of a sound table");
        let payload = |handle: BlockHandle| {
            let stored = file[handle.offset as usize..handle.end() as usize].to_vec();
            unseal(stored, seed, handle.offset, None).expect("a sound block").0
        };
        let properties = payload(footer.properties);
        let properties =
            TableProperties::decode_block(&mut Decoder::new(&properties), file.len() as u64, 0)
                .expect("the properties of a sound table");
        let top = TopIndex::decode(payload(footer.top_index).into()).expect("a sound top index");
        let partitions = top.partitions().iter().map(|partition| {
            let at = partition.index;
            let index = IndexBlock::decode(payload(at).into(), partition.block_count, at.offset);
            let index = index.expect("a sound index");
            Pieces {
                data: (0..index.block_count())
                    .map(|number| payload(index.handle(number)))
                    .collect(),
                separators: Separators::of(index.block_count(), |number, out| {
                    index.append_separator(number, out);
                }),
                filter: partition.filter.map(payload),
            }
        });
        let partitions = partitions.collect();
        let ranges = properties.extras.ranges.as_ref().map(|ranges| payload(ranges.handle));
        let options =
            TableOptions { compression: properties.compression, ..TableOptions::default() };
        let top = Separators::of(top.partitions().len(), |number, out| {
            top.append_separator(number, out);
        });
        Self { header, options, partitions, top, ranges, properties }
    }

    /// Has the properties say that all sequence numbers are zero, as those of a table from outside do.
    #[cfg(test)]
    pub(crate) fn number_at_zero(&mut self) {
        (self.properties.seqno_min, self.properties.seqno_max) = Default::default();
    }

    /// How many parts the table has.
    #[must_use]
    pub fn part_count(&self) -> usize {
        let blocks = |pieces: &Pieces| pieces.data.len() + 1 + usize::from(pieces.filter.is_some());
        let others = 4 + usize::from(self.ranges.is_some());
        self.partitions.iter().map(blocks).sum::<usize>() + others
    }

    /// Puts the table together, with the parts that `change` leaves.
    #[must_use]
    pub fn seal(&self, change: &mut dyn FnMut(ForgedPart, &mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = self.header.encode().to_vec();
        bytes.truncate(FileHeader::LEN - CHECKSUM_LEN);
        let len = bytes.len();
        change(ForgedPart { number: 0, is_stored: false }, &mut bytes);
        bytes.resize(len, 0);
        let checksum = checksum32(0, &bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        // Whoever reads it goes by the ids that the header names then.
        let header = FileHeader::decode(&bytes).unwrap_or(self.header);
        let seed = file_seed(header.database, header.id);
        let sealer = Sealer::new(&self.options, None, seed);
        let mut press = Press { out: bytes, sealer, seed, number: 1, change };
        let partitions: Vec<Partition> =
            self.partitions.iter().map(|pieces| press.partition(pieces)).collect();
        let mut properties = self.properties.clone();
        if let (Some(known), Some(payload)) = (&mut properties.extras.ranges, &self.ranges) {
            known.handle = press.block(payload.clone(), false);
        }
        let mut payload = Vec::new();
        TopIndex::encode(&mut payload, &partitions, &self.top.bytes, &self.top.ends);
        let top_index = press.block(payload, false);
        properties.data_bytes = press_data_bytes(&partitions, &press.out);
        let mut payload = Vec::new();
        properties.encode_block(&mut payload);
        let properties = press.block(payload, false);
        press.end(top_index, properties)
    }
}

/// What the data blocks of `partitions` take, which stand in front of their indexes.
fn press_data_bytes(partitions: &[Partition], out: &[u8]) -> u64 {
    let mut start = FileHeader::LEN as u64;
    let mut sum = 0;
    for partition in partitions {
        sum += partition.index.offset - start;
        start = partition.filter.unwrap_or(partition.index).end();
    }
    debug_assert!(start <= out.len() as u64, "partitions lie in the file");
    sum
}

impl Separators {
    fn of(count: usize, append: impl Fn(usize, &mut Vec<u8>)) -> Self {
        let mut separators = Self::default();
        for number in 0..count {
            append(number, &mut separators.bytes);
            separators.ends.push(separators.bytes.len());
        }
        separators
    }
}

/// A file that grows block by block.
struct Press<'a> {
    out: Vec<u8>,
    sealer: Sealer,
    seed: u64,
    number: usize,
    change: &'a mut dyn FnMut(ForgedPart, &mut Vec<u8>),
}

impl Press<'_> {
    fn partition(&mut self, pieces: &Pieces) -> Partition {
        let start = self.out.len() as u64;
        let data = pieces.data.iter();
        let ends: Vec<u64> =
            data.map(|payload| self.block(payload.clone(), true).end() - start).collect();
        let mut payload = Vec::new();
        let Separators { bytes, ends: separator_ends } = &pieces.separators;
        IndexBlock::encode(&mut payload, start, &ends, bytes, separator_ends);
        let index = self.block(payload, false);
        let filter = pieces.filter.as_ref().map(|payload| self.block(payload.clone(), false));
        // The top index that is made of it has no use for the number of the first block.
        Partition { first_block: 0, block_count: ends.len() as u32, index, filter }
    }

    fn block(&mut self, mut payload: Vec<u8>, compress: bool) -> BlockHandle {
        let number = self.number;
        self.number += 1;
        (self.change)(ForgedPart { number, is_stored: false }, &mut payload);
        let offset = self.out.len() as u64;
        self.sealer.seal(&mut payload, 0, offset, compress);
        payload.truncate(payload.len() - CHECKSUM_LEN);
        (self.change)(ForgedPart { number, is_stored: true }, &mut payload);
        let checksum = checksum32(self.seed.wrapping_add(offset), &payload);
        self.out.extend_from_slice(&payload);
        self.out.extend_from_slice(&checksum.to_le_bytes());
        BlockHandle { offset, len: self.out.len() as u64 - offset }
    }

    fn end(mut self, top_index: BlockHandle, properties: BlockHandle) -> Vec<u8> {
        let mut content = Checksummer::new();
        content.update(&self.out);
        let content_checksum = content.finish();
        let footer = Footer { top_index, properties, content_checksum };
        let offset = self.out.len() as u64;
        let mut handles = footer.encode(self.seed, offset);
        handles.truncate(HANDLES_LEN);
        (self.change)(ForgedPart { number: self.number, is_stored: false }, &mut handles);
        handles.resize(HANDLES_LEN, 0);
        handles.extend_from_slice(&content_checksum.to_le_bytes());
        let checksum = checksum32(self.seed.wrapping_add(offset), &handles);
        self.out.extend_from_slice(&handles);
        self.out.extend_from_slice(&checksum.to_le_bytes());
        self.out.extend_from_slice(&FOOTER_MAGIC);
        self.out
    }
}

/// What a manifest should say of the table `file` of a database, forged or not, by its own properties:
/// `None` where they cannot be found or decoded.
#[must_use]
pub fn properties_of(file: &[u8], database: DatabaseId, id: FileId) -> Option<TableProperties> {
    let footer_at = file.len().checked_sub(Footer::LEN)?;
    let seed = file_seed(database, id);
    let footer = Footer::decode(file.get(footer_at..)?, seed, footer_at as u64).ok()?;
    let BlockHandle { offset, .. } = footer.properties;
    let end = usize::try_from(footer.properties.end()).ok()?;
    let stored = file.get(usize::try_from(offset).ok()?..end)?.to_vec();
    let (payload, _) = unseal(stored, seed, offset, None).ok()?;
    let (file_bytes, checksum) = (file.len() as u64, footer.content_checksum);
    TableProperties::decode_block(&mut Decoder::new(&payload), file_bytes, checksum).ok()
}

#[cfg(test)]
mod tests {
    use esker_base::{Fragments, RangeTombstone};

    use super::*;
    use crate::Compression;
    use crate::testing::{Bed, DATABASE, Entry, hard_entries, id, options};

    /// A table of several partitions, with blocks that are compressed, and ranges.
    fn table(bed: &Bed) -> Vec<u8> {
        let mut entries = hard_entries(1, 300);
        let start = entries[20].user_key.clone();
        let end = entries[200].user_key.clone();
        entries.push(Entry::put(&[0xff; 9], 9, &[b'v'; 90]));
        let seqno = esker_base::SeqNo::new(7).unwrap();
        let ranges = Fragments::of(vec![RangeTombstone { start, end, seqno }]);
        bed.build_with_ranges(1, options(256, Compression::Lz4), &entries, ranges);
        bed.bytes(1)
    }

    #[test]
    fn table_that_is_not_changed_comes_back() {
        let bed = Bed::new();
        let file = table(&bed);
        let forge = Forge::of(&file);
        let mut parts = 0;
        let again = forge.seal(&mut |part, _| parts = part.number + 1);
        assert!(again == file, "not the same bytes");
        assert_eq!(parts, forge.part_count());
        let said = properties_of(&file, DATABASE, id(1).0).unwrap();
        assert!(bed.table(&said).verify().unwrap().corruptions.is_empty());
    }

    #[test]
    fn change_moves_what_follows_and_no_checksum_fails() {
        let bed = Bed::new();
        let file = table(&bed);
        let forge = Forge::of(&file);
        for number in 1..forge.part_count() - 1 {
            for is_stored in [false, true] {
                let here = ForgedPart { number, is_stored };
                let forged = forge.seal(&mut |part, bytes| {
                    if part == here {
                        let middle = bytes.len() / 2;
                        bytes.splice(middle..middle, [1, 2, 3]).for_each(drop);
                    }
                });
                assert!(forged != file);
                bed.replace(1, &forged);
                let Some(said) = properties_of(&forged, DATABASE, id(1).0) else { continue };
                let Ok(report) = bed.table(&said).verify() else { continue };
                let whats = report.corruptions.iter().map(ToString::to_string);
                let whats: Vec<String> = whats.collect();
                assert!(!whats.iter().any(|what| what.contains("checksum")), "{number}: {whats:?}");
            }
        }
    }
}

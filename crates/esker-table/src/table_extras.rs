//! What only some tables have: tagged sections at the end of the table properties.
//!
//! A section is a tag, the length of its body, and its body. Tags ascend, so that the same extras
//! always have the same bytes. A tag that this release does not know is refused, since it may
//! change the meaning of the entries.

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

use std::sync::Arc;

use esker_base::coding::{DecodeError, Decoder, put_bytes, put_varint};

use crate::table_expiry::TableExpiry;
use crate::table_keyspace::TableKeyspace;
use crate::{BlobUses, BlockHandle, Origin, PrefixRule, TableRanges};

mod tag {
    pub(super) const TIMES: u64 = 1;
    pub(super) const RANGES: u64 = 2;
    pub(super) const BLOBS: u64 = 3;
    pub(super) const EXPIRY: u64 = 4;
    pub(super) const ORIGIN: u64 = 5;
    pub(super) const DICTIONARY: u64 = 6;
    pub(super) const REPLACED: u64 = 7;
    pub(super) const PREFIX_RULE: u64 = 8;
    pub(super) const KEYSPACE: u64 = 9;
}

/// Properties that only some tables have. By default none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TableExtras {
    /// When its entries were written.
    pub times: Option<TableTimes>,
    /// Its range tombstones.
    pub ranges: Option<TableRanges>,
    /// Which blob files entries refer to.
    pub blobs: Option<BlobUses>,
    /// When its entries expire, if it has some that do.
    pub expiry: Option<TableExpiry>,
    /// Where it comes from, if it was not built for its present place.
    pub origin: Option<Origin>,
    /// The handle of the dictionary that its blocks were compressed with.
    pub dictionary: Option<BlockHandle>,
    /// Overwritten entries that were kept for snapshots. Tables from before this was counted say 0.
    pub replaced_count: u64,
    /// Which prefixes of its keys its filter holds besides the keys.
    pub prefix_rule: Option<PrefixRule>,
    /// What it records about its keyspace. None in tables from before this was recorded, and in
    /// those of a default keyspace that is like that of a new database.
    pub keyspace: Option<Arc<TableKeyspace>>,
}

/// When the entries of a table were written, in wall-clock milliseconds since the Unix epoch; no
/// more precise than the lifetime of a memtable.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TableTimes {
    /// No entry is older.
    pub oldest: u64,
    /// No entry is younger.
    pub newest: u64,
    /// No delete whose deleted entries may still be in this or an older table is older than this;
    /// `None` if there is no such delete. It stays when a newer entry shadows the tombstone itself.
    pub oldest_tombstone: Option<u64>,
    /// When the table was written: later than its entries, if it comes from a compaction.
    pub written: u64,
}

impl TableExtras {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Appends a section for each extra that is present.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self { times, ranges, blobs, expiry, origin, dictionary, .. } = self;
        let Self { replaced_count, prefix_rule, keyspace, .. } = self;
        if let Some(times) = times {
            put_section(out, tag::TIMES, |body| times.encode(body));
        }
        if let Some(ranges) = ranges {
            put_section(out, tag::RANGES, |body| ranges.encode(body));
        }
        if let Some(blobs) = blobs {
            put_section(out, tag::BLOBS, |body| blobs.encode(body));
        }
        if let Some(expiry) = expiry {
            put_section(out, tag::EXPIRY, |body| expiry.encode(body));
        }
        if let Some(origin) = origin {
            put_section(out, tag::ORIGIN, |body| origin.encode(body));
        }
        if let Some(dictionary) = dictionary {
            put_section(out, tag::DICTIONARY, |body| dictionary.encode(body));
        }
        if 0 < *replaced_count {
            put_section(out, tag::REPLACED, |body| put_varint(body, *replaced_count));
        }
        if let Some(rule) = prefix_rule {
            let name = rule.to_string();
            put_section(out, tag::PREFIX_RULE, |body| body.extend_from_slice(name.as_bytes()));
        }
        if let Some(keyspace) = keyspace {
            put_section(out, tag::KEYSPACE, |body| keyspace.encode(body));
        }
    }

    /// Reads sections up to the end of the bytes.
    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut extras = Self::default();
        let mut last_tag = 0;
        while !decoder.is_empty() {
            let disorder = decoder.error("table properties have sections that do not ascend");
            let unknown = decoder.error("table properties have a section of a newer release");
            let tag = decoder.varint()?;
            if tag <= last_tag {
                return Err(disorder);
            }
            last_tag = tag;
            let mut body = Decoder::new(decoder.bytes()?);
            match tag {
                tag::TIMES => extras.times = Some(TableTimes::decode(&mut body)?),
                tag::RANGES => extras.ranges = Some(TableRanges::decode(&mut body)?),
                tag::BLOBS => extras.blobs = Some(BlobUses::decode(&mut body)?),
                tag::EXPIRY => extras.expiry = Some(TableExpiry::decode(&mut body)?),
                tag::ORIGIN => extras.origin = Some(Origin::decode(&mut body)?),
                tag::DICTIONARY => extras.dictionary = Some(BlockHandle::decode(&mut body)?),
                tag::REPLACED => extras.replaced_count = body.varint()?,
                tag::PREFIX_RULE => {
                    let unknown = body.error("table properties name an unknown prefix rule");
                    let name = std::str::from_utf8(body.take(body.rest().len())?).ok();
                    let rule = name.and_then(|name| name.parse().ok());
                    extras.prefix_rule = Some(rule.ok_or(unknown)?);
                }
                tag::KEYSPACE => {
                    extras.keyspace = Some(Arc::new(TableKeyspace::decode(&mut body)?));
                }
                _ => return Err(unknown),
            }
            body.finish()?;
        }
        Ok(extras)
    }
}

/// Appends one section.
fn put_section(out: &mut Vec<u8>, tag: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    put_varint(out, tag);
    put_bytes(out, &body);
}

impl TableTimes {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.oldest);
        put_varint(out, self.newest);
        put_varint(out, self.written);
        if let Some(time) = self.oldest_tombstone {
            put_varint(out, time);
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let disorder = decoder.error("table properties have their times in the wrong order");
        let (oldest, newest) = (decoder.varint()?, decoder.varint()?);
        let written = decoder.varint()?;
        let has_tombstone = !decoder.is_empty();
        let oldest_tombstone = has_tombstone.then(|| decoder.varint()).transpose()?;
        if newest < oldest || oldest_tombstone.is_some_and(|time| time < oldest || newest < time) {
            return Err(disorder);
        }
        Ok(Self { oldest, newest, oldest_tombstone, written })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_base::{DatabaseId, FileId, OwnerId, SeqNo};

    fn decoded(bytes: &[u8]) -> Result<TableExtras, &'static str> {
        TableExtras::decode(&mut Decoder::new(bytes)).map_err(|error| error.what)
    }

    /// The example of FORMAT.md section 5.
    #[test]
    fn golden_bytes() {
        assert_eq!(decoded(b""), Ok(TableExtras::default()));
        let times = TableTimes { oldest: 5, newest: 300, oldest_tombstone: Some(7), written: 9 };
        let extras = TableExtras { times: Some(times), ..TableExtras::default() };
        let mut bytes = Vec::new();
        extras.encode(&mut bytes);
        assert_eq!(bytes, b"\x01\x05\x05\xac\x02\x09\x07");
        assert_eq!(decoded(&bytes), Ok(extras));
    }

    /// The other example of FORMAT.md section 5.
    #[test]
    fn golden_bytes_of_a_keyspace() {
        let (name, order) = ("u".to_owned(), "bytewise".to_owned());
        let keyspace = Arc::new(TableKeyspace { name, order, merge_operator: String::new() });
        let extras = TableExtras { keyspace: Some(keyspace), ..TableExtras::default() };
        let mut bytes = Vec::new();
        extras.encode(&mut bytes);
        assert_eq!(bytes, b"\x09\x0c\x01u\x08bytewise\x00");
        assert_eq!(decoded(&bytes), Ok(extras));
        let error = "table properties name a keyspace by what is not text";
        assert_eq!(decoded(b"\x09\x04\x01\xff\x00\x00"), Err(error));
    }

    #[test]
    fn times_of_a_table_are_in_their_order_or_the_same() {
        let check = |oldest: u64, newest: u64, oldest_tombstone: Option<u64>| {
            let times = Some(TableTimes { oldest, newest, oldest_tombstone, written: 1 });
            let extras = TableExtras { times, ..TableExtras::default() };
            let mut bytes = Vec::new();
            extras.encode(&mut bytes);
            decoded(&bytes).map(|decoded| assert_eq!(decoded, extras))
        };
        for oldest_tombstone in [None, Some(7)] {
            assert_eq!(check(7, 7, oldest_tombstone), Ok(()));
        }
        for oldest_tombstone in [7, 8, 9] {
            assert_eq!(check(7, 9, Some(oldest_tombstone)), Ok(()));
        }
        let disorder = Err("table properties have their times in the wrong order");
        for (oldest, newest, oldest_tombstone) in
            [(8, 7, None), (7, 9, Some(6)), (7, 9, Some(10)), (8, 7, Some(7))]
        {
            assert_eq!(check(oldest, newest, oldest_tombstone), disorder);
        }
    }

    /// The example of FORMAT.md section 5.
    #[test]
    fn replaced_entries_have_their_bytes() {
        let extras = TableExtras { replaced_count: 300, ..TableExtras::default() };
        let mut bytes = Vec::new();
        extras.encode(&mut bytes);
        assert_eq!(bytes, b"\x07\x02\xac\x02");
        assert_eq!(decoded(&bytes), Ok(extras));
    }

    /// The example of FORMAT.md section 5.
    #[test]
    fn prefix_rules_have_their_bytes() {
        for (rule, expected) in [
            (PrefixRule::First(8), &b"\x08\x07first:8"[..]),
            (PrefixRule::Through(b'/'), b"\x08\x0athrough:2f"),
        ] {
            let extras = TableExtras { prefix_rule: Some(rule), ..TableExtras::default() };
            let mut bytes = Vec::new();
            extras.encode(&mut bytes);
            assert_eq!(bytes, expected);
            assert_eq!(decoded(&bytes), Ok(extras));
        }
        for bytes in [&b"\x08\x07first:0"[..], b"\x08\x05later", b"\x08\x01\xff", b"\x08\x00"] {
            assert_eq!(decoded(bytes), Err("table properties name an unknown prefix rule"));
        }
    }

    #[test]
    fn origins_have_their_bytes() {
        let (order, keyspace) = ("bytewise".to_owned(), "a".to_owned());
        let id = FileId { owner: OwnerId(1), counter: 300 };
        let seqno = SeqNo::new(5).unwrap();
        let database = DatabaseId(*b"0123456789abcdef");
        for (origin, expected) in [
            (
                Origin::External {
                    order: order.clone(),
                    keyspace: keyspace.clone(),
                    has_operands: false,
                },
                &b"\x05\x0c\x00\x08bytewise\x01a"[..],
            ),
            (
                Origin::External { order, keyspace, has_operands: true },
                b"\x05\x0c\x02\x08bytewise\x01a",
            ),
            (
                Origin::Adopted { database, id, seqno },
                b"\x05\x15\x010123456789abcdef\x01\xac\x02\x05",
            ),
        ] {
            let extras = TableExtras { origin: Some(origin), ..TableExtras::default() };
            let mut bytes = Vec::new();
            extras.encode(&mut bytes);
            assert_eq!(bytes, expected);
            assert_eq!(decoded(&bytes), Ok(extras));
        }
        assert_eq!(decoded(b"\x05\x01\x03"), Err("origin of a table has an unknown form"));
    }

    /// The example of FORMAT.md section 5.
    #[test]
    fn expiries_have_their_bytes() {
        for (latest, expected) in
            [(None, &b"\x04\x01\x05"[..]), (Some(300), b"\x04\x03\x05\xac\x02")]
        {
            let expiry = Some(TableExpiry { earliest: 5, latest });
            let extras = TableExtras { expiry, ..TableExtras::default() };
            let mut bytes = Vec::new();
            extras.encode(&mut bytes);
            assert_eq!(bytes, expected);
            assert_eq!(decoded(&bytes), Ok(extras));
        }
        // All at once.
        assert!(decoded(b"\x04\x02\x05\x05").is_ok());
        let disorder = Err("table properties have their expiries in the wrong order");
        assert_eq!(decoded(b"\x04\x02\x05\x04"), disorder);
        assert_eq!(decoded(b"\x04\x03\x05\x06\x07"), Err("unexpected bytes follow"));
    }

    /// What a table may have, each by itself.
    fn every_section() -> [TableExtras; 9] {
        let none = TableExtras::default;
        let times = TableTimes { oldest: 5, newest: 300, oldest_tombstone: None, written: 301 };
        let handle = BlockHandle { offset: 400, len: 50 };
        let (start, end) = (b"b".to_vec(), b"f".to_vec());
        let ranges = TableRanges {
            handle,
            fragment_count: 2,
            start,
            end,
            has_entries: true,
            ends_table: false,
        };
        let mut uses = vec![1, 1, 4];
        uses.extend([200, 1, 0, 0, 0, 0, 0, 0, 0, 7, 9, 1, 60]);
        let blobs = BlobUses::decode(&mut Decoder::new(&uses)).unwrap();
        let (order, keyspace) = ("bytewise".to_owned(), "a".to_owned());
        let origin = Origin::External { order, keyspace, has_operands: true };
        let [name, order, merge_operator] = ["a", "bytewise", "m"].map(str::to_owned);
        let keyspace = TableKeyspace { name, order, merge_operator };
        [
            TableExtras { times: Some(times), ..none() },
            TableExtras { ranges: Some(ranges), ..none() },
            TableExtras { blobs: Some(blobs), ..none() },
            TableExtras { expiry: Some(TableExpiry { earliest: 5, latest: Some(9) }), ..none() },
            TableExtras { origin: Some(origin), ..none() },
            TableExtras { dictionary: Some(handle), ..none() },
            TableExtras { replaced_count: 3, ..none() },
            TableExtras { prefix_rule: Some(PrefixRule::Through(b'/')), ..none() },
            TableExtras { keyspace: Some(Arc::new(keyspace)), ..none() },
        ]
    }

    #[test]
    fn every_set_of_sections_round_trips_and_no_cut_is_taken_for_the_whole() {
        let sections = every_section().map(|extras| {
            let mut bytes = Vec::new();
            extras.encode(&mut bytes);
            (extras, bytes)
        });
        for set in 0..1_u32 << sections.len() {
            let chosen = sections.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1);
            let (mut extras, mut bytes) = (TableExtras::default(), Vec::new());
            for (_, (one, section)) in chosen {
                bytes.extend_from_slice(section);
                let one = one.clone();
                extras = TableExtras {
                    times: extras.times.or(one.times),
                    ranges: extras.ranges.or(one.ranges),
                    blobs: extras.blobs.or(one.blobs),
                    expiry: extras.expiry.or(one.expiry),
                    origin: extras.origin.or(one.origin),
                    dictionary: extras.dictionary.or(one.dictionary),
                    replaced_count: extras.replaced_count.max(one.replaced_count),
                    prefix_rule: extras.prefix_rule.or(one.prefix_rule),
                    keyspace: extras.keyspace.or(one.keyspace),
                };
            }
            let mut encoded = Vec::new();
            extras.encode(&mut encoded);
            assert_eq!(encoded, bytes);
            assert_eq!(decoded(&bytes).as_ref(), Ok(&extras));
            assert_eq!(extras.is_empty(), set == 0);
            for len in 0..bytes.len() {
                assert_ne!(decoded(&bytes[..len]).as_ref(), Ok(&extras), "{len} of set {set}");
            }
        }
    }

    #[test]
    fn sections_that_cannot_be_are_refused() {
        for (bytes, what) in [
            (&b"\x63\x00"[..], "table properties have a section of a newer release"),
            (
                b"\x01\x03\x05\x06\x09\x01\x03\x05\x06\x09",
                "table properties have sections that do not ascend",
            ),
            (b"\x01\x03\x06\x05\x09", "table properties have their times in the wrong order"),
            (b"\x01\x04\x05\x06\x09\x07", "table properties have their times in the wrong order"),
            (b"\x01\x05\x05\x06\x09\x05\x05", "unexpected bytes follow"),
            (b"\x01\x09\x05", "ends too early"),
        ] {
            assert_eq!(decoded(bytes), Err(what), "{bytes:?}");
        }
    }
}

//! The encoding of operations in a batch and, byte for byte, in the log.
//!
//! A batch is encoded once, when the caller fills it; the commit pipeline copies the bytes into a
//! log frame and decodes them into memtables. See FORMAT.md section 4.

use esker_base::coding::{DecodeError, Decoder, put_bytes, put_varint};
use esker_base::{EXPIRY_LEN, EntryKind, KeyspaceId, SeqNo, expiry_of, limits};

use crate::error::{Error, Result};

/// One write to one keyspace, borrowed from an encoded batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) kind: EntryKind,
    pub(crate) key: &'a [u8],
    /// The value of the entry. Empty for a tombstone; for a range tombstone the end of the range;
    /// for an expiring put the time and the value.
    pub(crate) value: &'a [u8],
}

impl<'a> Operation<'a> {
    /// Appends the operation.
    ///
    /// # Errors
    /// `InvalidInput` if key or value are too long; nothing was appended.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        check_key(self.key)?;
        check_value(self.value)?;
        out.push(self.kind.as_byte());
        put_varint(out, u64::from(self.keyspace.0));
        put_bytes(out, self.key);
        if has_value(self.kind) {
            put_bytes(out, self.value);
        }
        Ok(())
    }

    /// Appends an expiring put, without first joining time and value.
    ///
    /// # Errors
    /// As [`Operation::encode`].
    pub(crate) fn encode_expiring(
        keyspace: KeyspaceId,
        (key, value): (&[u8], &[u8]),
        expiry_millis: u64,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        check_key(key)?;
        check_expiring_value(value)?;
        let stored_len = value.len() as u64 + EXPIRY_LEN as u64;
        out.push(EntryKind::ExpiringPut.as_byte());
        put_varint(out, u64::from(keyspace.0));
        put_bytes(out, key);
        put_varint(out, stored_len);
        out.extend_from_slice(&expiry_millis.to_le_bytes());
        out.extend_from_slice(value);
        Ok(())
    }

    /// Reads the next operation.
    #[inline]
    pub(crate) fn decode(decoder: &mut Decoder<'a>) -> std::result::Result<Self, DecodeError> {
        let unknown = decoder.error("unknown kind of operation");
        let kind = EntryKind::from_byte(decoder.u8()?).ok_or(unknown)?;
        let keyspace = KeyspaceId(decoder.varint_u32()?);
        let key = decoder.bytes()?;
        if key.len() > limits::KEY_LEN_MAX {
            return Err(decoder.error("key is too long"));
        }
        if kind == EntryKind::BlobReference {
            return Err(unknown);
        }
        let value = if has_value(kind) { decoder.bytes()? } else { &[] };
        if kind == EntryKind::ExpiringPut && expiry_of(value).is_none() {
            return Err(decoder.error("an expiring put without its expiry"));
        }
        Ok(Self { keyspace, kind, key, value })
    }
}

/// Whether operations of `kind` carry a value.
const fn has_value(kind: EntryKind) -> bool {
    !matches!(kind, EntryKind::Tombstone | EntryKind::SingleDelete)
}

/// # Errors
/// `InvalidInput` if the value is too long for one that expires.
pub(crate) fn check_expiring_value(value: &[u8]) -> Result<()> {
    let len_max = limits::VALUE_LEN_MAX - EXPIRY_LEN as u64;
    if value.len() as u64 <= len_max {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "the value has {} bytes, and at most {len_max} are allowed of one that expires",
        value.len()
    )))
}

/// # Errors
/// `InvalidInput` if the value is too long.
#[inline]
pub(crate) fn check_value(value: &[u8]) -> Result<()> {
    if value.len() as u64 <= limits::VALUE_LEN_MAX { Ok(()) } else { Err(value_too_long(value)) }
}

#[cold]
fn value_too_long(value: &[u8]) -> Error {
    Error::invalid_input(format!(
        "the value has {} bytes, and at most {} are allowed",
        value.len(),
        limits::VALUE_LEN_MAX
    ))
}

/// Refuses a key that is too long.
#[inline]
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    if key.len() <= limits::KEY_LEN_MAX { Ok(()) } else { Err(key_too_long(key)) }
}

#[cold]
fn key_too_long(key: &[u8]) -> Error {
    Error::invalid_input(format!(
        "the key has {} bytes, and at most {} are allowed",
        key.len(),
        limits::KEY_LEN_MAX
    ))
}

/// The header of a commit group, before its operations in the log frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GroupHeader {
    /// Sequence number of the first operation; the others follow without a gap.
    pub(crate) first_seqno: SeqNo,
    /// How many sequence numbers directly before it are not in the log, because their keyspaces
    /// have none.
    pub(crate) unlogged_before: u64,
    /// How many operations follow. 0 in a mark, which only states that what is before it is
    /// durable.
    pub(crate) count: u64,
}

impl GroupHeader {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.first_seqno.get());
        put_varint(out, self.unlogged_before);
        put_varint(out, self.count);
    }

    /// The number that the group begins with if no other is missing between it and `last`.
    pub(crate) const fn due_after(&self, last: SeqNo) -> u64 {
        last.get().saturating_add(self.unlogged_before).saturating_add(1)
    }

    pub(crate) fn decode(decoder: &mut Decoder<'_>) -> std::result::Result<Self, DecodeError> {
        let outside = decoder.error("sequence number does not fit 56 bits");
        let first_seqno = SeqNo::new(decoder.varint()?).ok_or(outside)?;
        let unlogged_before = decoder.varint()?;
        let count = decoder.varint()?;
        let last = first_seqno.get().checked_add(count).and_then(SeqNo::new);
        if last.is_none() || unlogged_before >= first_seqno.get() {
            return Err(outside);
        }
        Ok(Self { first_seqno, unlogged_before, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Operation<'a> {
        Operation { keyspace: KeyspaceId(3), kind: EntryKind::Put, key, value }
    }

    #[test]
    fn operations_round_trip() {
        let delete = Operation {
            keyspace: KeyspaceId(300),
            kind: EntryKind::Tombstone,
            key: b"",
            value: b"",
        };
        let mut bytes = Vec::new();
        put(b"key", b"").encode(&mut bytes).unwrap();
        delete.encode(&mut bytes).unwrap();
        assert_eq!(bytes, b"\x01\x03\x03key\x00\x00\xac\x02\x00");
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(Operation::decode(&mut decoder), Ok(put(b"key", b"")));
        assert_eq!(Operation::decode(&mut decoder), Ok(delete));
        assert!(decoder.is_empty());
    }

    #[test]
    fn every_kind_but_a_blob_reference_round_trips() {
        for byte in 0..=6 {
            let kind = EntryKind::from_byte(byte).unwrap();
            let value: &[u8] = if has_value(kind) { b"12345678v" } else { b"" };
            let operation = Operation { keyspace: KeyspaceId(3), kind, key: b"k", value };
            let mut bytes = Vec::new();
            operation.encode(&mut bytes).unwrap();
            let decoded = Operation::decode(&mut Decoder::new(&bytes));
            if kind == EntryKind::BlobReference {
                assert_eq!(decoded.unwrap_err().what, "unknown kind of operation");
            } else {
                assert_eq!(decoded, Ok(operation));
            }
        }
    }

    /// The example of FORMAT.md section 4.
    #[test]
    fn golden_bytes_of_a_put_that_expires() {
        let mut bytes = Vec::new();
        let (keyspace, expiry) = (KeyspaceId(3), 1_700_000_000_000);
        Operation::encode_expiring(keyspace, (b"key", b"v"), expiry, &mut bytes).unwrap();
        assert_eq!(bytes, b"\x06\x03\x03key\x09\x00\x68\xe5\xcf\x8b\x01\x00\x00v");
        let value = b"\x00\x68\xe5\xcf\x8b\x01\x00\x00v";
        let operation = Operation { keyspace, kind: EntryKind::ExpiringPut, key: b"key", value };
        assert_eq!(Operation::decode(&mut Decoder::new(&bytes)), Ok(operation));
        let short = b"\x06\x03\x03key\x07\x00\x68\xe5\xcf\x8b\x01\x00";
        let error = Operation::decode(&mut Decoder::new(short)).unwrap_err();
        assert_eq!(error.what, "an expiring put without its expiry");
    }

    #[test]
    fn too_long_a_key_is_refused_and_nothing_is_appended() {
        let mut bytes = Vec::new();
        let error = put(&vec![0; limits::KEY_LEN_MAX + 1], b"").encode(&mut bytes).unwrap_err();
        assert_eq!(error.to_string(), "the key has 65536 bytes, and at most 65535 are allowed");
        assert!(bytes.is_empty());
        put(&vec![0; limits::KEY_LEN_MAX], b"").encode(&mut bytes).unwrap();
    }

    /// The example of FORMAT.md section 4.
    #[test]
    fn golden_bytes_of_a_commit_group() {
        let mut bytes = Vec::new();
        let first_seqno = SeqNo::ZERO.plus(300);
        GroupHeader { first_seqno, unlogged_before: 2, count: 2 }.encode(&mut bytes);
        put(b"key", b"value").encode(&mut bytes).unwrap();
        let delete = Operation {
            keyspace: KeyspaceId(0),
            kind: EntryKind::Tombstone,
            key: b"old",
            value: b"",
        };
        delete.encode(&mut bytes).unwrap();
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex.join(" "),
            "ac 02 02 02 01 03 03 6b 65 79 05 76 61 6c 75 65 00 00 03 6f 6c 64"
        );
    }

    #[test]
    fn group_header_refuses_numbers_out_of_range() {
        let mut bytes = Vec::new();
        GroupHeader { first_seqno: SeqNo::MAX, unlogged_before: 0, count: 1 }.encode(&mut bytes);
        assert!(GroupHeader::decode(&mut Decoder::new(&bytes)).is_err());
        bytes.clear();
        let good = GroupHeader { first_seqno: SeqNo::ZERO.plus(9), unlogged_before: 2, count: 4 };
        good.encode(&mut bytes);
        assert_eq!(GroupHeader::decode(&mut Decoder::new(&bytes)), Ok(good));
    }
}

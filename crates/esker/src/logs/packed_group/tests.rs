//! Packed groups: what comes back, what stays plain, and what is refused.

use esker_base::{EntryKind, KeyspaceId, SeqNo};

use super::*;
use crate::operation::Operation;

const HEADER: GroupHeader =
    GroupHeader { first_seqno: SeqNo::ZERO.plus(300), unlogged_before: 2, count: 2 };

fn puts(count: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        let (keyspace, kind, key) = (KeyspaceId(3), EntryKind::Put, &[b'k', number][..]);
        Operation { keyspace, kind, key, value }.encode(&mut bytes).unwrap();
    }
    bytes
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// The payload of a frame that holds `batches` as one group, if it is packed.
fn packed(packer: &mut Packer, header: GroupHeader, batches: &[&[u8]]) -> Option<Vec<u8>> {
    let bytes = batches.iter().map(|batch| batch.len()).sum();
    let len = packer.pack(batches.iter().copied(), bytes)?;
    let mut payload = Vec::new();
    put_packed_header(header, bytes, &mut payload);
    payload.extend_from_slice(packer.packed(len));
    Some(payload)
}

/// What a payload says, or what is wrong with it.
fn unpacked(payload: &[u8]) -> Result<(GroupHeader, Vec<u8>), &'static str> {
    let group = StoredGroup::decode(payload).map_err(|error| error.what)?;
    let mut room = Vec::new();
    let operations = group.operations(&mut room).map_err(|error| error.what)?;
    Ok((group.header, operations.rest().to_vec()))
}

#[test]
fn groups_of_any_size_and_number_of_batches_come_back() {
    let mut packer = Packer::new(0);
    for value_len in [0, 40, 1000, 65_000, 66_000, 1 << 20, 5 << 20] {
        let batch = puts(3, &vec![b'v'; value_len]);
        let one = &batch[..];
        for batches in [&[one][..], &[one, one], &[&one[..0], one, one, one]] {
            let what = format!("{} batches of {} bytes", batches.len(), batch.len());
            match packed(&mut packer, HEADER, batches) {
                Some(payload) => {
                    let whole = batches.concat();
                    assert!(payload.len() < whole.len(), "{what}");
                    assert_eq!(unpacked(&payload), Ok((HEADER, whole)), "{what}");
                }
                None => assert!(value_len == 0, "{what}"),
            }
        }
    }
}

/// The buffers are those of the groups before: a put costs no allocation.
#[test]
fn a_packer_takes_no_memory_but_for_the_largest_group_and_none_for_long_for_a_huge_one() {
    let mut packer = Packer::new(0);
    let (batch, huge) = (puts(9, &[b'v'; 500]), puts(2, &vec![b'v'; BUFFER_KEPT_BYTES]));
    let held = |packer: &Packer| {
        let Packer { joined, packed, .. } = packer;
        [(joined.as_ptr(), joined.capacity()), (packed.as_ptr(), packed.capacity())]
    };
    packed(&mut packer, HEADER, &[&batch, &batch]).unwrap();
    let first = held(&packer);
    for _ in 0..3 {
        packed(&mut packer, HEADER, &[&batch, &batch]).unwrap();
        packed(&mut packer, HEADER, &[&batch]).unwrap();
        packer.give_back();
        assert_eq!(held(&packer), first);
    }
    packed(&mut packer, HEADER, &[&huge]).unwrap();
    assert!(BUFFER_KEPT_BYTES < packer.packed.len());
    packer.give_back();
    assert_eq!((packer.packed.capacity(), packer.joined.capacity()), (0, 0));
    // What stays plain leaves as little.
    assert_eq!(packed(&mut packer, HEADER, &[&noise(2 * BUFFER_KEPT_BYTES)]), None);
    assert_eq!(packer.packed.capacity(), 0);
}

#[test]
fn what_is_small_or_huge_or_saves_too_little_stays_plain() {
    let batch = puts(3, &[b'v'; 100]);
    assert_eq!(packed(&mut Packer::new(batch.len() as u32 + 1), HEADER, &[&batch]), None);
    assert!(packed(&mut Packer::new(batch.len() as u32), HEADER, &[&batch]).is_some());
    let mut packer = Packer::new(0);
    assert_eq!(packed(&mut packer, HEADER, &[&noise(10_000)]), None);
    // LZ4 saves a sixteenth, or a third.
    let mostly_noise = [noise(9000), vec![0; 600]].concat();
    assert_eq!(packed(&mut packer, HEADER, &[&mostly_noise]), None);
    let less_noise = [noise(6000), vec![0; 3000]].concat();
    assert!(packed(&mut packer, HEADER, &[&less_noise]).is_some());
    assert_eq!(packed(&mut packer, HEADER, &[&vec![0; PACKED_BYTES_MAX + 1]]), None);
}

#[test]
fn plain_groups_are_read_as_ever() {
    let mut payload = Vec::new();
    HEADER.encode(&mut payload);
    let batch = puts(2, b"value");
    payload.extend_from_slice(&batch);
    assert_eq!(unpacked(&payload), Ok((HEADER, batch)));
}

/// The example of FORMAT.md section 4.
#[test]
fn golden_bytes_of_a_packed_group() {
    let payload = packed(&mut Packer::new(0), HEADER, &[&puts(2, &[b'v'; 40])]).unwrap();
    let hex: Vec<String> = payload.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex.join(" "),
        "00 ac 02 02 02 5c 7f 01 03 02 6b 00 28 76 01 00 14 00 2e 00 1f 01 2e 00 10 \
         60 76 76 76 76 76 76"
    );
}

#[test]
fn lengths_that_cannot_be_are_refused_before_memory_is_taken() {
    let batch = puts(2, &[b'v'; 40]);
    let whole = packed(&mut Packer::new(0), HEADER, &[&batch]).unwrap();
    let with_length = |length: u64, block: &[u8]| {
        let mut payload = vec![PACKED];
        HEADER.encode(&mut payload);
        put_varint(&mut payload, length);
        payload.extend_from_slice(block);
        unpacked(&payload).map(|(_, operations)| operations)
    };
    let mut packer = Packer::new(0);
    let len = packer.pack([&batch[..]].into_iter(), batch.len()).unwrap();
    let block = packer.packed(len).to_vec();
    assert_eq!(with_length(batch.len() as u64, &block), unpacked(&whole).map(|it| it.1));
    let impossible = Err("packed operations of an impossible length");
    for length in [255 * len as u64 + 1, 1 << 30, 1 << 40, u64::MAX] {
        assert_eq!(with_length(length, &block), impossible, "{length}");
    }
    // A long block could stand for so much.
    let zeros = vec![0; 1 << 20];
    assert_eq!(with_length(PACKED_BYTES_MAX as u64 + 1, &zeros), impossible);
    let short = Err("packed operations are shorter than they say");
    assert_eq!(with_length(batch.len() as u64 + 1, &block), short);
    let bad = Err("packed operations do not unpack");
    assert_eq!(with_length(batch.len() as u64 - 1, &block), bad);
    assert_eq!(with_length(0, &block), bad);
    assert!(unpacked(&[PACKED]).is_err() && unpacked(&[]).is_err());
}

/// The checksum of the frame stops nearly all of these before; none may panic.
#[test]
fn no_flipped_bit_and_no_cut_makes_a_packed_group_panic() {
    let payload = packed(&mut Packer::new(0), HEADER, &[&puts(9, &[b'v'; 40])]).unwrap();
    let mut refused = 0;
    for at in 0..payload.len() {
        refused += usize::from(unpacked(&payload[..at]).is_err());
        for bit in 0..8 {
            let mut damaged = payload.clone();
            damaged[at] ^= 1 << bit;
            refused += usize::from(unpacked(&damaged).is_err());
        }
    }
    assert!(payload.len() < refused, "{refused}");
}

//! Blocks in their wrapping: what goes in comes out, and nothing else does.

use super::*;
use crate::testing::Random;

const SEED: u64 = 77;

fn seal(payload: &[u8], compression: Compression, offset: u64) -> Vec<u8> {
    let mut out = b"before".to_vec();
    out.extend_from_slice(payload);
    Sealer::new(&TableOptions { compression, ..TableOptions::default() }, None, SEED)
        .seal(&mut out, 6, offset, true);
    out.split_off(6)
}

#[test]
fn payloads_round_trip_under_every_compression() {
    let mut random = Random(1);
    let compressions = [Compression::None, Compression::Lz4, Compression::Zstd];
    for compression in compressions.into_iter().filter(|compression| compression.is_built_in()) {
        let mut sealer =
            Sealer::new(&TableOptions { compression, ..TableOptions::default() }, None, SEED);
        for len in [0, 1, 100, 4096, 65_534, 65_535, 65_536, 300_000, 50] {
            let payloads = [random.bytes(len), vec![7; len], b"abcdefgh".repeat(len / 8)];
            for payload in payloads {
                let mut out = payload.clone();
                sealer.seal(&mut out, 0, 4711, true);
                let (unsealed, _) = unseal(out, SEED, 4711, None).unwrap();
                assert!(unsealed == payload, "{compression} {len}");
            }
        }
    }
}

#[test]
fn block_is_compressed_only_if_that_saves_an_eighth() {
    let compressed = seal(&[b'x'; 1000], Compression::Lz4, 0);
    assert!(compressed.len() < 50);
    assert_eq!(unseal(compressed, SEED, 0, None).unwrap().1, Compression::Lz4);
    // 15 random bytes of 16: LZ4 could save a little.
    let mut random = Random(3);
    let mut payload = random.bytes(930);
    payload.extend_from_slice(&[0; 70]);
    let raw = seal(&payload, Compression::Lz4, 0);
    assert_eq!(raw.len(), 1000 + BLOCK_TRAILER_LEN);
    assert_eq!(unseal(raw, SEED, 0, None).unwrap().1, Compression::None);
}

#[test]
fn flipped_bit_cut_block_and_wrong_place_are_noticed() {
    for payload in [b"a block of entries".to_vec(), vec![b'z'; 300]] {
        let good = seal(&payload, Compression::Lz4, 4096);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(bad, SEED, 4096, None), Err("block checksum does not match"));
        }
        for len in 0..good.len() {
            assert!(unseal(good[..len].to_vec(), SEED, 4096, None).is_err());
        }
        assert!(unseal(good.clone(), SEED, 8192, None).is_err(), "of another offset");
        assert!(unseal(good.clone(), SEED + 1, 4096, None).is_err(), "of another file");
    }
}

/// A block with a right checksum around `body`.
fn forged(body: &[u8], compression: u8) -> Vec<u8> {
    let mut out = body.to_vec();
    out.push(compression);
    let checksum = checksum32(SEED, &out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

#[test]
fn impossible_lengths_are_refused_before_anything_is_allocated() {
    let mut body = Vec::new();
    put_varint(&mut body, 1 << 40);
    body.extend_from_slice(&[0; 20]);
    assert_eq!(unseal(forged(&body, 1), SEED, 0, None), Err("block says an impossible length"));
    // Possible, and more than so few bytes can unpack to.
    let mut body = Vec::new();
    put_varint(&mut body, 20 * LZ4_RATIO_MAX + 1);
    body.extend_from_slice(&[0; 20]);
    assert_eq!(unseal(forged(&body, 1), SEED, 0, None), Err("block says an impossible length"));
    assert_eq!(unseal(forged(b"\x10abc", 1), SEED, 0, None), Err("block does not unpack"));
    assert_eq!(unseal(forged(b"abc", 9), SEED, 0, None), Err("block has an unknown compression"));
    assert_eq!(unseal(forged(b"\x80", 1), SEED, 0, None), Err("varint does not end"));
}

/// What is left of the room behind a payload that is shorter than it says may be another block's.
#[test]
fn a_block_that_unpacks_to_fewer_bytes_than_it_says_is_refused() {
    let packed = lz4_flex::block::compress(&[b'x'; 1000]);
    for (len, expected) in [
        (999, Err("block does not unpack")),
        (1000, Ok(vec![b'x'; 1000])),
        (1001, Err("block unpacks to fewer bytes than it says")),
        (2000, Err("block unpacks to fewer bytes than it says")),
    ] {
        let mut body = Vec::new();
        put_varint(&mut body, len);
        body.extend_from_slice(&packed);
        let unsealed = unseal(forged(&body, 1), SEED, 0, None).map(|(payload, _)| payload);
        assert_eq!(unsealed, expected, "{len}");
    }
}

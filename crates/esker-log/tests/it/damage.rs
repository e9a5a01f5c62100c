//! Segments cut and damaged at every byte and bit.

use esker_env::{FileError, FileExt, FileSystem, MemoryFileSystem, Random, SeededRandom};
use esker_log::{ExpectedHeader, LogEnd, LogReader};

use crate::segment::{
    assert_corruption, bytes, create, expected, path, payload, payloads, read_bytes,
};

const COUNT: usize = 12;

/// A segment of [`COUNT`] frames, and where each of them ends. Synced after the frames of which
/// `is_synced` is true.
fn unsealed(is_synced: impl Fn(usize) -> bool) -> (Vec<u8>, Vec<usize>) {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    let mut ends = vec![48];
    for index in 0..COUNT {
        ends.push(log.append(&[&payload(index)]) as usize);
        log.write().unwrap();
        if is_synced(index) {
            log.sync_handle().sync().unwrap();
        }
    }
    (bytes(&fs, path()), ends)
}

fn sealed() -> (Vec<u8>, Vec<usize>) {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 4096);
    let ends = (0..COUNT).map(|index| log.append(&[&payload(index)]) as usize).collect();
    log.seal().unwrap();
    (bytes(&fs, path()), ends)
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn segment_cut_at_any_byte_is_a_prefix_and_no_error() {
    for is_synced in [false, true] {
        let (whole, ends) = unsealed(|_| is_synced);
        for cut in 0..=whole.len() {
            let read = read_bytes(&whole[..cut]).unwrap();
            let count = ends[1..].iter().filter(|end| **end <= cut).count();
            assert_eq!(read.payloads, payloads(count), "cut at {cut}");
            let offset = if cut < 48 { 0 } else { ends[count] as u64 };
            let is_clean = offset != 0 && ends[count] == cut;
            assert_eq!(matches!(read.end, LogEnd::Clean { .. }), is_clean, "cut at {cut}");
            assert_eq!(read.end.offset(), offset);
        }
    }
}

#[test]
fn tail_of_zeros_after_a_cut_at_any_byte_is_a_prefix() {
    let (whole, ends) = unsealed(|_| false);
    for cut in 48..whole.len() {
        let mut bytes = whole.clone();
        bytes[cut..].fill(0);
        bytes.resize(whole.len() + 3000, 0);
        let read = read_bytes(&bytes).unwrap();
        let count = ends[1..].iter().filter(|end| **end <= cut).count();
        // The cut may have taken bytes of a payload that were zeros anyway.
        assert!(read.payloads.len() >= count);
        assert_eq!(read.payloads, payloads(read.payloads.len()), "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_segment_is_noticed_or_harmless() {
    let (whole, ends) = sealed();
    let last = *ends.last().unwrap();
    for bit in 0..whole.len() * 8 {
        let read = read_bytes(&flipped(&whole, bit));
        if bit / 8 < last {
            assert!(matches!(read, Err(FileError::Corruption(_))), "bit {bit}: {read:?}");
        } else {
            // Only the seal is damaged: everything before it is there.
            let read = read.unwrap();
            assert_eq!((read.payloads.len(), read.end.offset()), (COUNT, last as u64));
        }
    }
}

#[test]
fn flipped_bit_is_damage_where_a_later_frame_vouches_and_a_torn_tail_otherwise() {
    // Durable after frame 5: frames 6 and later say so, and vouch for frames 0 to 5.
    let (whole, ends) = unsealed(|index| index == 5);
    for bit in 48 * 8..whole.len() * 8 {
        let read = read_bytes(&flipped(&whole, bit));
        let frame = ends[1..].iter().filter(|end| **end <= bit / 8).count();
        if frame <= 5 {
            let Err(FileError::Corruption(damage)) = read else { panic!("bit {bit}: {read:?}") };
            assert_eq!(damage.offset, ends[frame] as u64);
        } else {
            let read = read.unwrap();
            assert_eq!(read.payloads, payloads(frame), "bit {bit}");
            assert_eq!(read.end, LogEnd::Torn { offset: ends[frame] as u64 });
        }
    }
}

#[test]
fn sector_of_zeros_in_what_was_durable_is_damage() {
    let (whole, ends) = unsealed(|_| true);
    for start in (0..ends[COUNT - 1]).step_by(16) {
        let mut bytes = whole.clone();
        bytes[start..ends[COUNT - 1]].fill(0);
        assert_corruption(read_bytes(&bytes));
    }
}

#[test]
fn frame_that_vouches_is_found_wherever_the_reads_are_cut() {
    // The reader asks for 1 MiB at a time; the tag of the second frame lies across the cut.
    for beyond in 0..8 {
        let fs = MemoryFileSystem::new(0);
        let mut log = create(&fs, 0);
        let payload_len = (1 << 20) + beyond - 4 - 48 - 16;
        let end = log.append(&[&vec![0x77; payload_len]]);
        assert_eq!(end, (1 << 20) + beyond as u64 - 4);
        log.seal().unwrap();
        let mut whole = bytes(&fs, path());
        whole[60] ^= 4;
        assert_corruption(read_bytes(&whole));
    }
}

#[test]
fn end_before_what_is_known_to_be_durable_is_damage() {
    let (whole, ends) = unsealed(|_| false);
    for cut in [0, 30, 48, ends[3], ends[3] + 1, whole.len()] {
        let fs = MemoryFileSystem::new(0);
        fs.create(path()).unwrap().write_all_at(0, &whole[..cut]).unwrap();
        let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
        reader.expect_durable(whole.len() as u64);
        let result = loop {
            match reader.next_frame() {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(reader.end()),
                Err(error) => break Err(error),
            }
        };
        match result {
            Ok(end) => assert_eq!((cut, end.offset()), (whole.len(), whole.len() as u64)),
            Err(FileError::Corruption(_)) => assert!(cut < whole.len()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What is learnt at the end counts as what was known from the start does, but for a segment with a seal.
#[test]
fn an_end_that_is_known_to_be_too_early_once_it_is_reached_is_damage() {
    let (whole, ends) = unsealed(|_| false);
    let end = whole.len() as u64;
    for len in [whole.len(), whole.len() + 100] {
        let fs = MemoryFileSystem::new(0);
        let mut bytes = whole.clone();
        bytes.resize(len, 0);
        // A frame behind a hole that says nothing of it.
        let hole = ends[3];
        bytes[hole..hole + 8].fill(0);
        fs.create(path()).unwrap().write_all_at(0, &bytes).unwrap();
        let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
        let read = |reader: &mut LogReader| {
            let mut count = 0;
            while reader.next_frame()?.is_some() {
                count += 1;
            }
            Ok::<_, FileError>(count)
        };
        assert_eq!(read(&mut reader).unwrap(), 3);
        assert_eq!(reader.end(), LogEnd::Torn { offset: ends[3] as u64 });
        // It is not before what was known, nor is what it ends with.
        reader.expect_durable(ends[3] as u64);
        assert_eq!(read(&mut reader).unwrap(), 0);
        reader.expect_durable(ends[3] as u64 + 1);
        let Err(FileError::Corruption(damage)) = read(&mut reader) else { panic!("no damage") };
        assert_eq!(damage.offset, ends[3] as u64);
        assert_eq!(damage.what, "segment ends before what is known to be durable");
        assert!(reader.skip_damage().unwrap());
        assert_eq!(read(&mut reader).unwrap(), ends.len() - 5);
        assert_eq!(reader.end().offset(), end);
        reader.expect_durable(end + 1);
        assert!(read(&mut reader).is_err());
    }
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    log.append(&[b"frame"]);
    log.seal().unwrap();
    let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
    assert!(reader.next_frame().unwrap().is_some() && reader.next_frame().unwrap().is_none());
    let sealed = reader.end();
    reader.expect_durable(u64::MAX);
    assert!(reader.next_frame().unwrap().is_none());
    assert_eq!(reader.end(), sealed);
    reader.check_seal(sealed.offset()).unwrap();
    let error = reader.check_seal(sealed.offset() + 1).unwrap_err();
    assert_eq!(error.offset, sealed.offset());
    assert_eq!(error.what, "segment is sealed before what is known to be durable");
}

#[test]
fn segment_without_a_header_is_torn_unless_something_says_that_it_was_there() {
    let (whole, ends) = unsealed(|index| index == 5);
    let known = expected(7).database;
    let blank = |len: usize| vec![0; len];
    let headless = |mut bytes: Vec<u8>| {
        bytes[..48].fill(0);
        bytes
    };
    let later = format!(
        "header is not valid, though it was durable when the frame at {} was written",
        ends[6]
    );
    let before = "segment ends before what is known to be durable";
    let contents = "file has contents, but no header";
    // Bytes, whether the database is known, up to where it is known to be durable, the damage.
    let cases = [
        (whole[..30].to_vec(), true, 0, None),
        (whole[..30].to_vec(), false, 0, None),
        (whole[..30].to_vec(), true, 1, Some(before)),
        (whole[..30].to_vec(), false, 1, Some(before)),
        (blank(0), false, 0, None),
        (blank(48), false, 0, None),
        (blank(500), true, 0, None),
        (blank(500), false, 0, None),
        (blank(500), true, 1, Some(before)),
        (blank(500), false, 1, Some(before)),
        (headless(whole.clone()), true, 0, Some(later.as_str())),
        (headless(whole.clone()), false, 0, Some(contents)),
        (headless(whole[..ends[5]].to_vec()), true, 0, None),
    ];
    for (bytes, is_known, durable, damage) in cases {
        let fs = MemoryFileSystem::new(0);
        fs.create(path()).unwrap().write_all_at(0, &bytes).unwrap();
        let database = known.filter(|_| is_known);
        let header = ExpectedHeader { database, ..expected(7) };
        let mut reader = LogReader::open(&fs, path(), &header).unwrap();
        reader.expect_durable(durable);
        let case = format!("{} bytes, {is_known}, {durable}", bytes.len());
        match reader.next_frame() {
            Err(FileError::Corruption(found)) => {
                assert_eq!((Some(&*found.what), found.offset), (damage, 0), "{case}");
            }
            Ok(None) => {
                assert_eq!(damage, None, "{case}");
                assert_eq!(reader.end(), LogEnd::Torn { offset: 0 }, "{case}");
            }
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn frame_in_the_place_of_another_is_damage() {
    // Two lives of one offset: only a writer that went back could make this.
    let (first, ends) = unsealed(|_| false);
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 0);
    for index in 0..COUNT {
        let mut other = payload(index);
        other.iter_mut().for_each(|byte| *byte ^= 0xff);
        log.append(&[&other]);
    }
    log.write().unwrap();
    let second = bytes(&fs, path());
    let mut mixed = first.clone();
    mixed[ends[4]..].copy_from_slice(&second[ends[4]..]);
    assert_corruption(read_bytes(&mixed));
}

#[test]
fn frame_written_to_another_place_is_none() {
    let (whole, ends) = unsealed(|_| false);
    let mut bytes = whole.clone();
    bytes.extend_from_slice(&whole[48..ends[1]]);
    let read = read_bytes(&bytes).unwrap();
    assert_eq!(read.payloads, payloads(COUNT));
    assert_eq!(read.end, LogEnd::Torn { offset: whole.len() as u64 });
}

#[test]
fn salvage_goes_on_behind_each_damaged_frame() {
    let (mut whole, ends) = sealed();
    // Frames 3 and 7: the offsets are those of the ends before them.
    for damaged in [3, 7] {
        whole[ends[damaged - 1] + 1] ^= 0x10;
    }
    let fs = MemoryFileSystem::new(0);
    fs.create(path()).unwrap().write_all_at(0, &whole).unwrap();
    let mut reader = LogReader::open(&fs, path(), &expected(7)).unwrap();
    let (mut found, mut places) = (Vec::new(), Vec::new());
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => found.push(frame.payload.to_vec()),
            Ok(None) => break,
            Err(FileError::Corruption(damage)) => {
                places.push(damage.offset as usize);
                assert!(reader.skip_damage().unwrap());
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(places, [ends[2], ends[6]]);
    let kept: Vec<_> = (0..COUNT).filter(|index| ![3, 7].contains(index)).map(payload).collect();
    assert_eq!(found, kept);
    assert!(matches!(reader.end(), LogEnd::Sealed { .. }));
}

#[test]
fn bytes_full_of_tags_end_in_an_error_and_not_in_a_hang() {
    let (mut whole, ends) = unsealed(|_| false);
    let tag: [u8; 4] = whole[48..52].try_into().unwrap();
    // Heads whose frames would reach almost to the end of the file, each of them false.
    let mut head = tag.to_vec();
    head.extend_from_slice(&[0; 8]);
    head.extend_from_slice(&[0x80, 0x80, 0x10, 0x00]);
    whole.truncate(ends[2]);
    (0..40_000).for_each(|_| whole.extend_from_slice(&head));
    assert_corruption(read_bytes(&whole));
}

#[test]
fn scrambled_segments_give_an_error_or_a_prefix() {
    let random = SeededRandom::new(11);
    let below = |bound: usize| {
        let mut bytes = [0; 8];
        random.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % bound as u64) as usize
    };
    for whole in [sealed().0, unsealed(|index| index % 3 == 0).0] {
        for round in 0..4_000 {
            let mut bytes = whole.clone();
            for _ in 0..=below(3) {
                let (at, len) = (below(bytes.len()), below(64) + 1);
                let end = bytes.len().min(at + len);
                match below(5) {
                    0 => random.fill(&mut bytes[at..end]),
                    1 => bytes[at..end].fill(0),
                    2 => drop(bytes.drain(at..end)),
                    3 => bytes.truncate(at + 1),
                    _ => bytes.extend_from_within(at..end),
                }
            }
            match read_bytes(&bytes) {
                Ok(read) => assert_eq!(read.payloads, payloads(read.payloads.len()), "{round}"),
                Err(FileError::Corruption(_)) => {}
                Err(error) => panic!("{round}: {error}"),
            }
        }
    }
}

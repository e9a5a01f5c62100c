//! The list against its bytes, and against bytes that are not one.

use std::sync::{Arc, Mutex};

use esker_env::{CrashPolicy, Env, FaultFileSystem, MemoryFileSystem};

use super::*;

const DATABASE: DatabaseId = DatabaseId(*b"0123456789abcdef");

fn id(counter: u64) -> FileId {
    FileId { owner: OwnerId::FIRST, counter }
}

fn list() -> WarmList {
    let block = |table, slot, was_used_again| WarmBlock { table, slot, was_used_again };
    WarmList {
        tables: vec![TableId(id(3)), TableId(id(300))],
        blocks: vec![block(1, 70, true), block(0, 0, true), block(0, 1, false)],
    }
}

fn read(bytes: &[u8], as_id: FileId, database: DatabaseId) -> Result<WarmList, String> {
    let fs = MemoryFileSystem::new(1);
    let file = fs.create(Path::new("list")).unwrap();
    file.write_all_at(0, bytes).unwrap();
    WarmList::read(&*file, as_id, database).map_err(|error| error.to_string())
}

#[test]
fn golden_bytes() {
    let bytes = list().encode(id(7), DATABASE);
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<String> = hex.chunks(16).map(|line| line.join(" ")).collect();
    let expected = [
        "65 73 6b 65 72 0d 0a 1a 05 00 01 00 01 00 00 00",
        "07 00 00 00 00 00 00 00 30 31 32 33 34 35 36 37",
        "38 39 61 62 63 64 65 66 00 00 00 00 31 be 55 cb",
        "02 01 03 01 ac 02 03 01 8d 01 00 01 00 02 c9 74",
        "e1 3f d4 a6 5f 52",
    ];
    assert_eq!(lines, expected);
    assert_eq!(read(&bytes, id(7), DATABASE), Ok(list()));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let good = list().encode(id(7), DATABASE);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bad, id(7), DATABASE).is_err(), "bit {bit}");
    }
    for len in 0..good.len() {
        assert!(read(&good[..len], id(7), DATABASE).is_err(), "{len} bytes");
    }
    assert!(read(&[&good[..], &[0]].concat(), id(7), DATABASE).is_err());
}

#[test]
fn what_is_not_the_list_of_this_name_is_named() {
    let good = list().encode(id(7), DATABASE);
    let error = |bytes: &[u8], as_id, database| read(bytes, as_id, database).unwrap_err();
    let at = |counter, what| format!("1-0000000{counter}.warm is damaged at offset {what}");
    assert_eq!(error(&good, id(8), DATABASE), at(8, "0: file was created as 1-00000007.warm"));
    let other = DatabaseId([b'x'; 16]);
    let foreign = format!("0: file belongs to database {DATABASE}, not {other}");
    assert_eq!(error(&good, id(7), other), at(7, &foreign));
    let header = |kind, format| FileHeader { kind, format, id: id(7), database: DATABASE }.encode();
    let with = |kind, format| [&header(kind, format)[..], &good[FileHeader::LEN..]].concat();
    assert_eq!(
        error(&with(FileKind::Table, 1), id(7), DATABASE),
        at(7, "0: file is a table and not a list of warm blocks")
    );
    assert_eq!(
        error(&with(FileKind::Warm, 2), id(7), DATABASE),
        "1-00000007.warm is a warm list of format version 2, and this release reads versions up to 1"
    );
    assert_eq!(error(&good[..50], id(7), DATABASE), at(7, "48: file ends before its checksum"));
    assert_eq!(error(&good[..60], id(7), DATABASE), at(7, "48: checksum does not match"));
    let long = vec![0; WarmList::FILE_BYTES_MAX as usize + 1];
    let what = at(7, "0: file has 33554433 bytes: no list of blocks is as long");
    assert_eq!(error(&long, id(7), DATABASE), what);
    // One as long as the longest is looked at.
    let longest = [&header(FileKind::Warm, 1)[..], &long[FileHeader::LEN + 1..]].concat();
    assert_eq!(error(&longest, id(7), DATABASE), at(7, "48: checksum does not match"));
    let first = with(FileKind::Warm, 0);
    assert!(error(&first, id(7), DATABASE).starts_with("1-00000007.warm is damaged"));
}

#[test]
fn body_that_makes_no_sense_is_refused_before_room_is_made_for_it() {
    for (body, what) in [
        (&[0xff, 0xff, 0x7f, 0][..], "list counts more than it can hold"),
        (&[0, 0xff, 0xff, 0x3f], "list counts more than it can hold"),
        (&[1, 1, 3, 1, 1, 0], "block is of none of the tables"),
        (&[1, 1, 3, 1, 9, 0], "block is of none of the tables"),
        (&[1, 1, 3, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f], "slot does not fit 32 bits"),
        (&[0, 0, 0], "unexpected bytes follow"),
        (&[1, 1], "list counts more than it can hold"),
        (&[], "varint does not end"),
    ] {
        let error = WarmList::decode_body(body).unwrap_err().to_string();
        assert!(error.contains(what), "{body:?}: {error}");
    }
}

#[test]
fn as_many_blocks_as_a_list_may_have_and_no_more_are_read() {
    let most = WarmList::BLOCKS_MAX;
    for count in [most, most + 1] {
        let mut body = vec![1, 1, 3];
        put_varint(&mut body, count as u64);
        body.resize(body.len() + 2 * count, 0);
        match WarmList::decode_body(&body) {
            Ok(list) => assert_eq!((list.blocks.len(), count), (most, most)),
            Err(error) => {
                assert_eq!(count, most + 1, "{error}");
                assert!(error.to_string().contains("list counts more than it can hold"), "{error}");
            }
        }
    }
}

#[test]
fn largest_list_fits_the_largest_file() {
    let block = WarmBlock { table: u32::MAX, slot: u32::MAX, was_used_again: true };
    let table = TableId(FileId { owner: OwnerId(u32::MAX), counter: u64::MAX });
    let one = WarmList { tables: vec![table], blocks: vec![block] };
    let most = one.encode_body().len() * WarmList::BLOCKS_MAX + FileHeader::LEN + CHECKSUM_LEN;
    assert!(most as u64 <= WarmList::FILE_BYTES_MAX, "{most}");
}

#[test]
fn list_is_written_whole_over_what_an_earlier_attempt_left() {
    let env = Env::memory(1);
    let (fs, dir): (Arc<dyn FileSystem>, _) = (env.fs, Path::new("/db"));
    fs.create_dir_all(dir).unwrap();
    let unfinished = "1-00000007.warm.tmp";
    assert_eq!(WarmList::parse_unfinished(unfinished), Some(id(7)));
    assert_eq!(WarmList::parse_unfinished("1-00000007.warm"), None);
    assert_eq!(WarmList::parse_unfinished("1-00000007.manifest.tmp"), None);
    fs.create(&dir.join(unfinished)).unwrap().write_all_at(0, &[7; 500]).unwrap();
    list().write(&*fs, dir, id(7), DATABASE).unwrap();
    let names: Vec<String> = fs.list(dir).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["1-00000007.warm"]);
    let file = fs.open(&dir.join("1-00000007.warm")).unwrap();
    assert_eq!(WarmList::read(&*file, id(7), DATABASE).unwrap(), list());
}

#[test]
fn file_with_the_name_of_a_list_is_whole_after_any_crash() {
    let dir = Path::new("/db");
    let memory = MemoryFileSystem::new(1);
    memory.create_dir_all(dir).unwrap();
    memory.sync_dir(Path::new("/")).unwrap();
    let faults = FaultFileSystem::new(Arc::new(memory.clone()), Env::memory(1).clock);
    let crashed = Arc::new(Mutex::new(Vec::new()));
    let (images, over) = (Arc::clone(&crashed), memory.clone());
    faults.observe(move |_| {
        let ways =
            CrashPolicy::ALL.iter().flat_map(|policy| (0..8).map(move |seed| (*policy, seed)));
        images.lock().unwrap().extend(ways.map(|(policy, seed)| over.crash(policy, seed)));
    });
    list().write(&faults, dir, id(7), DATABASE).unwrap();
    let images = std::mem::take(&mut *crashed.lock().unwrap());
    assert!(200 < images.len(), "{}", images.len());
    let after = CrashPolicy::ALL.map(|policy| (memory.crash(policy, 1), true));
    let mut whole = 0;
    for (fs, is_there) in images.into_iter().map(|fs| (fs, false)).chain(after) {
        let Ok(file) = fs.open(&dir.join(id(7).file_name(FileKind::Warm))) else {
            assert!(!is_there, "what was durable is gone");
            continue;
        };
        assert_eq!(WarmList::read(&*file, id(7), DATABASE).unwrap(), list());
        whole += 1;
    }
    assert!(CrashPolicy::ALL.len() <= whole);
}

//! The bytes of one small segment: a change here is a new format version.

use esker_env::MemoryFileSystem;

use crate::segment::{bytes, create, path};

#[test]
fn bytes_of_a_small_segment_never_change() {
    let fs = MemoryFileSystem::new(0);
    let mut log = create(&fs, 4096);
    log.append(&[b"hello"]);
    log.write().unwrap();
    log.sync_handle().sync().unwrap();
    log.append(&[b"", b"wor", b"ld"]);
    log.seal().unwrap();
    let dump: Vec<String> = bytes(&fs, path())
        .chunks(16)
        .map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "))
        .collect();
    let expected = "\
        65 73 6b 65 72 0d 0a 1a 02 00 01 00 01 00 00 00\n\
        07 00 00 00 00 00 00 00 30 31 32 33 34 35 36 37\n\
        38 39 61 62 63 64 65 66 00 00 00 00 d2 96 f8 a5\n\
        bf 70 06 2c d6 ff d6 f4 00 00 00 00 06 30 68 65\n\
        6c 6c 6f bf 70 06 2c bf 34 33 04 d6 ff d6 f4 06\n\
        00 77 6f 72 6c 64 bf 70 06 2c ff a0 97 d4 bf 34\n\
        33 04 00 00";
    assert_eq!(dump.join("\n"), expected);
}

//! Edits as text, as bytes, and as what they do to a catalog; and bytes that are not edits.

use esker_base::DatabaseId;

use super::*;
use crate::catalog::Catalog;
use crate::test_random::TestRandom;
use crate::testing::{hex_lines, parse_edit, replay};

fn encoded(edit: &VersionEdit) -> Vec<u8> {
    let mut bytes = Vec::new();
    edit.encode(&mut bytes);
    bytes
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn new_catalog() -> Catalog {
    Catalog::new(DatabaseId(*b"0123456789abcdef"))
}

/// Every kind of record, each at least once.
fn every_record() -> VersionEdit {
    parse_edit(
        "next-file-counter 300\n\
         last-seqno 70000\n\
         keyspace-created 0 \"default\" order \"bytewise\" options -\n\
         keyspace-created 1 \"users\" order \"bytewise\" options abc\n\
         keyspace-created 2 \"index\" order \"reverse\" options -\n\
         next-keyspace-id 5\n\
         keyspace-renamed 1 \"people\"\n\
         keyspace-options 1 xyz\n\
         table-added 1 L0 #12 12[a..z 64MiB tombstones=7 seqnos=300-70000]\n\
         table-added 1 L6 #3 3[\u{e9}..\u{fc} 1GiB]\n\
         flushed-up-to 1 70000\n\
         log-added 301\n\
         log-added 2-7\n\
         log-removed 301\n\
         log-durable 2-7 4711\n\
         closed\n\
         keyspace-dropped 2\n",
    )
}

#[test]
fn edits_match_testdata() {
    let mut catalog = new_catalog();
    replay("edit/apply.txt", |command, input| match command {
        "new" => {
            catalog = new_catalog();
            catalog.to_string()
        }
        // The records as they are read back, their bytes, and the catalog after them.
        "apply" => {
            let edit = parse_edit(input);
            let bytes = encoded(&edit);
            let read = match VersionEdit::decode(&bytes) {
                Ok(read) => read,
                Err(error) => return format!("error: {error}"),
            };
            assert_eq!(read, edit);
            let before = catalog.clone();
            match catalog.apply(&read) {
                Ok(()) => format!("{read}{}{catalog}", hex_lines(&bytes)),
                Err(refused) => {
                    assert_eq!(catalog, before, "a refused edit changes nothing");
                    format!("refused: {refused}")
                }
            }
        }
        // What a new manifest starts with.
        "snapshot" => {
            let snapshot = catalog.snapshot_edit();
            let mut again = new_catalog();
            again.apply(&snapshot).unwrap();
            assert_eq!(again, catalog);
            snapshot.to_string()
        }
        other => panic!("{other:?} is not a command"),
    });
}

#[test]
fn decoding_matches_testdata() {
    replay("edit/decode.txt", |command, input| {
        assert_eq!(command, "decode");
        match VersionEdit::decode(&from_hex(input)) {
            Ok(edit) => edit.to_string(),
            Err(error) => format!("error: {error}"),
        }
    });
}

/// Bytes that decode mean exactly one edit, and applying it ends in order.
#[test]
fn tables_with_extras_have_a_tag_of_their_own() {
    let mut edit = crate::testing::parse_edit("table-added 0 L0 #4 3[a..m 64MiB seqnos=1-500]");
    assert_eq!(encoded(&edit)[0], 8);
    let EditRecord::TableAdded { properties, .. } = &mut edit.records[0] else { unreachable!() };
    let times =
        esker_table::TableTimes { oldest: 5, newest: 300, oldest_tombstone: Some(7), written: 9 };
    Arc::make_mut(properties).extras.times = Some(times);
    let bytes = encoded(&edit);
    assert_eq!(bytes[0], 33);
    assert_eq!(VersionEdit::decode(&bytes), Ok(edit));
    for (tag, wrong) in [
        (8, bytes.clone()),
        (33, encoded(&crate::testing::parse_edit("table-added 0 L0 #4 3[a..m 64MiB]"))),
    ] {
        let mut wrong = wrong;
        wrong[0] = tag;
        let error = VersionEdit::decode(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("table extras do not fit the record tag"), "{error}");
    }
}

fn check_damaged(bytes: &[u8]) {
    if let Ok(edit) = VersionEdit::decode(bytes) {
        assert_eq!(encoded(&edit), bytes, "two encodings of one edit:\n{edit}");
        let mut catalog = new_catalog();
        if catalog.apply(&edit).is_ok() {
            let mut again = new_catalog();
            again.apply(&catalog.snapshot_edit()).unwrap();
            assert_eq!(again, catalog);
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_an_error_or_another_edit() {
    let good = encoded(&every_record());
    check_damaged(&good);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(VersionEdit::decode(&bad), Ok(every_record()));
        check_damaged(&bad);
    }
    let mut whole_edits = 0;
    for len in 0..good.len() {
        check_damaged(&good[..len]);
        whole_edits += usize::from(VersionEdit::decode(&good[..len]).is_ok());
    }
    // A cut between two records leaves an edit, which is why manifests frame and check them.
    assert_eq!(whole_edits, every_record().records.len() - 1);
}

#[test]
fn random_damage_never_panics() {
    let good = encoded(&every_record());
    let mut random = TestRandom::new(3);
    for _ in 0..20_000 {
        let mut bad = good.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bad.len() as u64) as usize;
            match random.below(3) {
                0 => bad[at] = random.next() as u8,
                1 => drop(bad.remove(at)),
                _ => bad.insert(at, random.next() as u8),
            }
        }
        check_damaged(&bad);
    }
}

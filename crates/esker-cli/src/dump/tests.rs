//! Dumps files that the engine wrote, and damaged copies of them.

use std::path::PathBuf;

use esker::Db;

use super::*;

/// A directory of its own, removed at the end.
struct TestDir(PathBuf);

impl TestDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("esker-dump-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        Self(dir)
    }

    fn file(&self, extension: &str) -> PathBuf {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.retain(|path| path.extension().is_some_and(|found| found == extension));
        names.sort();
        names.remove(0)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn dumped(path: &Path, limit: Option<u64>) -> String {
    let mut out = Vec::new();
    run(path, limit, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn log_shows_what_was_written() {
    let dir = TestDir::new("log");
    let db = Db::open(&dir.0).unwrap();
    db.put("a", "1").unwrap();
    db.delete("b\0").unwrap();
    let text = dumped(&dir.file("log"), None);
    assert!(text.starts_with("log "), "{text}");
    assert!(text.contains(": 1 operations from sequence number 1\n  a @1 put in keyspace 0 = 1\n"));
    assert!(text.contains("  b\\x00 @2 delete in keyspace 0\n"), "{text}");
    assert!(text.contains("\nend at "), "{text}");
    assert!(!dumped(&dir.file("log"), Some(1)).contains("@2"));
}

#[test]
fn log_shows_what_a_compressed_group_holds() {
    let dir = TestDir::new("packed");
    let options =
        esker::Options { log_compression_threshold_bytes: Some(0), ..esker::Options::default() };
    let db = Db::builder(&dir.0).options(options).open().unwrap();
    let mut batch = db.batch();
    batch.put(db.default_keyspace(), "a", "x".repeat(1000));
    batch.delete(db.default_keyspace(), "b");
    batch.commit().unwrap();
    let text = dumped(&dir.file("log"), None);
    let heading = ": 2 operations from sequence number 1, ";
    assert!(text.contains(heading) && text.contains(" bytes that unpack to 1,010\n"), "{text}");
    assert!(text.contains("\n  a @1 put in keyspace 0 = xxx"), "{text}");
    assert!(text.contains("\n  b @2 delete in keyspace 0\n"), "{text}");
}

#[test]
fn table_shows_properties_and_entries() {
    let dir = TestDir::new("table");
    let db = Db::open(&dir.0).unwrap();
    db.put("a", "1").unwrap();
    db.put("b", "2").unwrap();
    db.flush().unwrap();
    let table = dir.file("table");
    let text = dumped(&table, None);
    assert!(text.contains("2 entries, 0 of them tombstones; sequence numbers 1 to 2"), "{text}");
    assert!(text.ends_with("a @1 put = 1\nb @2 put = 2\n"), "{text}");
    assert!(dumped(&table, Some(1)).ends_with("a @1 put = 1\n"));
}

/// An ingested table has a name that its header does not know: it was refused under that name, and
/// called damaged under the other.
#[test]
fn ingested_table_shows_its_entries() {
    let dir = TestDir::new("ingested");
    let db = Db::open(&dir.0).unwrap();
    db.put("a", "1").unwrap();
    let written = dir.0.join("written");
    let mut writer = esker::TableWriter::create(&written, Default::default()).unwrap();
    writer.put("b", "2").unwrap();
    writer.finish().unwrap();
    let files = [&written];
    db.ingest(db.default_keyspace(), &files, esker::IngestOptions::default()).unwrap();
    db.close().unwrap();
    let table = dir.file("table");
    let text = dumped(&table, None);
    let name = table.file_stem().unwrap().to_string_lossy();
    assert!(text.contains(&format!("\nadopted as {name} by database ")), "{text}");
    assert!(
        text.contains("\n1 entries, 0 of them tombstones; sequence numbers 2 to 2\n"),
        "{text}"
    );
    assert!(text.ends_with("\nb @2 put = 2\n"), "{text}");
    let renamed = dir.0.join("1-00000001.table");
    std::fs::rename(&table, &renamed).unwrap();
    let failure = run(&renamed, None, &mut Vec::new()).unwrap_err();
    let advice = format!("this is {name}.table; give it that name to read it");
    assert!(failure.to_string().contains(&advice), "{failure}");
}

#[test]
fn every_kind_of_write_is_shown_in_the_log_and_in_the_table() {
    let dir = TestDir::new("kinds");
    let merge_operator = esker::operators::by_name("esker.append:2c");
    let options = esker::KeyspaceOptions { merge_operator, ..esker::KeyspaceOptions::default() };
    let db = Db::builder(&dir.0).default_keyspace(options).open().unwrap();
    db.put("r", "old").unwrap();
    db.put("s", "old").unwrap();
    let held = db.snapshot();
    db.merge("m", "x").unwrap();
    db.single_delete("s").unwrap();
    db.delete_range("r".."rr").unwrap();
    db.delete_range("z"..).unwrap();
    db.default_keyspace().put_with_ttl("t", "v", std::time::Duration::from_secs(1 << 30)).unwrap();
    let log = dumped(&dir.file("log"), None);
    for line in [
        "m @3 merge in keyspace 0 = x",
        "s @4 single-delete in keyspace 0",
        "r @5 range-delete in keyspace 0 up to before rr",
        "z @6 range-delete in keyspace 0 and all keys behind it",
    ] {
        assert!(log.lines().any(|found| found.trim() == line), "{line}: {log}");
    }
    let expires = log.lines().find(|line| line.contains("t @7 put-expiring")).unwrap();
    assert!(expires.contains("in keyspace 0 until ") && expires.ends_with(" ms = v"), "{log}");
    db.flush().unwrap();
    drop(held);
    let table = dumped(&dir.file("table"), None);
    assert!(table.lines().any(|line| line == "r @5 range-delete up to before rr"), "{table}");
    assert!(table.lines().any(|line| line == "s @4 single-delete"), "{table}");
    let expires = table.lines().find(|line| line.starts_with("t @7 put-expiring until ")).unwrap();
    assert!(expires.ends_with(" ms = v"), "{table}");
}

#[test]
fn manifest_shows_its_edits() {
    let dir = TestDir::new("manifest");
    let db = Db::open(&dir.0).unwrap();
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    let text = dumped(&dir.file("manifest"), None);
    assert!(text.contains("the whole catalog"), "{text}");
    assert!(text.contains(
        &*dir.file("table").file_name().unwrap().to_string_lossy().replace(".table", "")
    ));
}

#[test]
fn damage_and_foreign_files_are_said() {
    let dir = TestDir::new("damage");
    let db = Db::open(&dir.0).unwrap();
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    let table = dir.file("table");
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let failure = run(&table, None, &mut Vec::new()).unwrap_err();
    assert_eq!(failure.exit_status(), 4, "{failure}");
    bytes[44] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    let failure = run(&table, None, &mut Vec::new()).unwrap_err();
    assert!(failure.to_string().ends_with("file header checksum does not match"), "{failure}");
    bytes[0] ^= 1;
    std::fs::write(&table, &bytes).unwrap();
    assert_eq!(run(&table, None, &mut Vec::new()).unwrap_err().exit_status(), 4, "by its name");
    bytes[0] ^= 1;
    let renamed = dir.0.join("copy");
    bytes[44] ^= 1;
    std::fs::write(&renamed, &bytes).unwrap();
    let failure = run(&renamed, None, &mut Vec::new()).unwrap_err();
    assert_eq!(failure.exit_status(), 1);
    assert!(failure.to_string().contains("give it that name"), "{failure}");
}

/// What is shorter than a header was damaged, whatever it was, and what is longer was not.
#[test]
fn files_of_others_are_no_damage_however_long_they_are() {
    let dir = TestDir::new("foreign");
    std::fs::create_dir(&dir.0).unwrap();
    let foreign: [&[u8]; 4] = [b"", b"1\n", b"notes, and no database", &[b'x'; 1000]];
    let magic: [&[u8]; 2] = [b"e", b"esker\r\n\x1a\x01"];
    let cases = foreign.into_iter().map(|bytes| (bytes, 1)).chain(magic.map(|bytes| (bytes, 4)));
    for (bytes, status) in cases {
        for (name, status) in [("LOCK", status), ("1-00000007.log", 4)] {
            let path = dir.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            let failure = run(&path, None, &mut Vec::new()).unwrap_err();
            assert_eq!(failure.exit_status(), status, "{name} {bytes:?}: {failure}");
        }
    }
}

#[test]
fn a_table_says_which_prefixes_its_filter_holds() {
    let dir = TestDir::new("prefixes");
    let prefix_filter = Some(esker::PrefixRule::Through(b'/'));
    let options = esker::KeyspaceOptions { prefix_filter, ..esker::KeyspaceOptions::default() };
    let db = Db::builder(&dir.0).default_keyspace(options).open().unwrap();
    db.put("a/b", "x").unwrap();
    db.flush().unwrap();
    let text = dumped(&dir.file("table"), None);
    assert!(text.contains("\nits filter holds prefixes of keys, through:2f\n"), "{text}");
}

#[test]
fn blob_file_shows_its_values_and_the_table_where_they_are() {
    let dir = TestDir::new("blob");
    let options = esker::KeyspaceOptions {
        blob_threshold_bytes: Some(100),
        ..esker::KeyspaceOptions::default()
    };
    let db = Db::builder(&dir.0).default_keyspace(options).open().unwrap();
    db.put("large", "x".repeat(200)).unwrap();
    db.put("small", "y").unwrap();
    db.flush().unwrap();
    let text = dumped(&dir.file("blob"), None);
    assert!(text.contains("keyspace 0, 1 values"), "{text}");
    assert!(text.contains("56 large = xxx") && text.contains("(200 bytes)"), "{text}");
    assert!(!dumped(&dir.file("blob"), Some(0)).contains("large"));
    let text = dumped(&dir.file("table"), None);
    assert!(text.contains("large @1 blob = 200 bytes in 1-"), "{text}");
    assert!(text.contains("small @2 put = y"), "{text}");
    assert!(text.contains("1 values in 1-"), "{text}");
}

#[test]
fn list_of_warm_blocks_shows_what_was_in_the_cache() {
    let dir = TestDir::new("warm");
    let options = esker::Options { warm_cache: true, ..esker::Options::default() };
    let db = Db::builder(&dir.0).options(options).open().unwrap();
    db.put("a", "1").unwrap();
    db.flush().unwrap();
    for _ in 0..2 {
        db.get("a").unwrap();
    }
    db.close().unwrap();
    let list = dir.file("warm");
    let text = dumped(&list, None);
    assert!(text.starts_with("warm list "), "{text}");
    let count = "\n3 blocks of 1 tables were in the cache at the close by 1-";
    assert!(text.contains(count), "{text}");
    assert!(text.contains(" block 0, used again\n") && text.contains(" block 2, used"), "{text}");
    assert!(!dumped(&list, Some(1)).contains(" block 0"), "indexes and filters come first");
    let mut bytes = std::fs::read(&list).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&list, bytes).unwrap();
    let error = run(&list, None, &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_status(), 4);
    assert!(error.to_string().contains("checksum does not match"), "{error}");
}

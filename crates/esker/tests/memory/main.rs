//! Memory of the whole process against the budget, as the system counts it.
//!
//! A process of its own, and one test: nothing else may allocate meanwhile. Law 7 of the design:
//! memory stays inside the budget, plus a stated constant, under any workload.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use esker::doctor::{Doctor, RepairOptions};
use esker::env::Env;
use esker::{
    CompactionPolicy, Db, Durability, IngestOptions, KeyspaceOptions, Options, TableWriter,
    TableWriterOptions,
};

const MIB: u64 = 1 << 20;

/// Data is more than twice as much.
const BUDGET_BYTES: u64 = 32 * MIB;

/// Entries of 416 bytes.
const COUNT: u64 = 160_000;

/// What the process may take beside the budget: the program, stacks, the file tables, and what the
/// allocator keeps.
const BESIDE_BUDGET_BYTES: u64 = 40 * MIB;

/// What the doctor may take, however large the database is: its cache, of 16 MiB, and what it works with.
const DOCTOR_BYTES: u64 = 48 * MIB;

fn field_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn resident_bytes() -> u64 {
    field_bytes("VmRSS:")
}

fn peak_bytes_of(work: impl FnOnce()) -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    work();
    field_bytes("VmHWM:")
}

struct TempDir(std::path::PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("esker-memory-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn open(dir: &TempDir, options: Options) -> Db {
    Db::builder(&dir.0).env(Env::os()).options(options).open().unwrap()
}

fn options(memory_budget_bytes: u64) -> Options {
    Options { memory_budget_bytes, durability: Durability::Buffered, ..Options::default() }
}

/// A thousand keyspaces with one key each: what they take in memory.
fn thousand_keyspaces() -> (u64, u64) {
    let dir = TempDir::new("keyspaces");
    let db = open(&dir, options(64 * MIB));
    let before = resident_bytes();
    let keyspaces: Vec<_> = (0..1000)
        .map(|number| {
            let keyspace = db.keyspace(&format!("k{number}"), KeyspaceOptions::default()).unwrap();
            keyspace.put("key", "value").unwrap();
            keyspace
        })
        .collect();
    let in_memtables = resident_bytes().saturating_sub(before);
    for keyspace in &keyspaces {
        keyspace.flush().unwrap();
        assert_eq!(keyspace.get("key").unwrap().as_deref(), Some(&b"value"[..]));
    }
    (in_memtables, resident_bytes().saturating_sub(before))
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [b'k'; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    key
}

/// Bytes that do not compress.
fn value(number: u64) -> Vec<u8> {
    (0..50).flat_map(|part| key(number * 50 + part)).take(400).collect()
}

/// Writes, wide merges, and many cursors that stand in the middle of cold data, under `budget`.
fn hard_work(budget: u64) {
    let dir = TempDir::new("budget");
    let db = open(&dir, options(budget));
    let wide = KeyspaceOptions {
        compaction: CompactionPolicy::None,
        memtable_bytes: MIB,
        ..KeyspaceOptions::default()
    };
    let keyspaces: Vec<_> =
        (0..8).map(|number| db.keyspace(&format!("k{number}"), wide.clone()).unwrap()).collect();
    for number in 0..COUNT {
        keyspaces[number as usize % 8].put(key(number), value(number)).unwrap();
    }
    keyspaces.iter().for_each(|keyspace| keyspace.flush().unwrap());
    let mut cursors = Vec::new();
    for number in 0..400 {
        let mut cursor = keyspaces[number as usize % 8].cursor().unwrap();
        cursor.seek(key(number * 97)).unwrap();
        for _ in 0..20 {
            if cursor.is_valid() {
                cursor.next().unwrap();
            }
        }
        cursors.push(cursor);
    }
    for keyspace in &keyspaces {
        keyspace.compact::<&[u8]>(..).unwrap();
        assert_eq!(keyspace.iter().count() as u64, COUNT / 8);
    }
    assert!(cursors.iter().any(esker::Cursor::is_valid));
}

/// What a verification, and a repair without a manifest, take at the peak beside what is taken before: of a
/// table of 64 MiB, with damage in its header, and some tens of a mebibyte over it.
fn doctor() -> (u64, u64) {
    let dir = TempDir::new("doctor");
    let wide = KeyspaceOptions {
        compaction: CompactionPolicy::None,
        memtable_bytes: MIB,
        ..KeyspaceOptions::default()
    };
    let db = open(&dir, options(BUDGET_BYTES));
    let keyspace = db.keyspace("k", wide).unwrap();
    let sorted = |number: u64| format!("{number:016}");
    let outside = dir.0.join("outside");
    let mut table = TableWriter::create(&outside, TableWriterOptions::default()).unwrap();
    (0..2 * COUNT).for_each(|number| table.put(sorted(number), value(number)).unwrap());
    table.finish().unwrap();
    db.ingest(&keyspace, &[&outside], IngestOptions::default()).unwrap();
    for number in (0..COUNT).step_by(2) {
        keyspace.put(sorted(number), value(number)).unwrap();
    }
    keyspace.flush().unwrap();
    drop(keyspace);
    db.close().unwrap();
    let ending_with = |end: &str| {
        let entries = std::fs::read_dir(&dir.0).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_str().unwrap().ends_with(end)).collect::<Vec<_>>()
    };
    let tables = ending_with(".table");
    let len = |path: &std::path::PathBuf| path.metadata().unwrap().len();
    let large = tables.iter().max_by_key(|path| len(path)).unwrap();
    assert!(DOCTOR_BYTES < len(large) && tables.len() > 20, "{} tables", tables.len());
    let mut bytes = std::fs::read(large).unwrap();
    bytes[20] ^= 1;
    std::fs::write(large, bytes).unwrap();
    let doctor = Doctor::new(&dir.0).log_dir(&dir.0);
    let before = resident_bytes();
    let verified = peak_bytes_of(|| assert!(!doctor.verify(&mut |_| {}).unwrap().is_sound()));
    for end in [".manifest", ".manifest.old"] {
        ending_with(end).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
    let repaired = peak_bytes_of(|| {
        let report = doctor.repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.lost.is_empty(), "{report}");
    });
    (verified.saturating_sub(before), repaired.saturating_sub(before))
}

#[test]
fn memory_stays_within_the_budget_and_a_constant() {
    let (verified, repaired) = doctor();
    assert!(verified < DOCTOR_BYTES, "{verified} bytes for a verification");
    assert!(repaired < DOCTOR_BYTES, "{repaired} bytes for a repair");
    let (in_memtables, flushed) = thousand_keyspaces();
    assert!(in_memtables < 100 * MIB, "{in_memtables} bytes for a thousand memtables");
    assert!(flushed < 100 * MIB, "{flushed} bytes for a thousand tables");
    let before = resident_bytes();
    let peak = peak_bytes_of(|| hard_work(BUDGET_BYTES));
    assert!(
        peak < before + BUDGET_BYTES + BESIDE_BUDGET_BYTES,
        "{peak} bytes at the peak, {before} before, {BUDGET_BYTES} allowed"
    );
}

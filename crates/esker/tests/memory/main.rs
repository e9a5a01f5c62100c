//! Memory of the whole process against the budget, as the system counts it.
//!
//! A process of its own, and one test: nothing else may allocate meanwhile. Law 7 of the design:
//! memory stays inside the budget, plus a stated constant, under any workload.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use esker::env::Env;
use esker::{CompactionPolicy, Db, Durability, KeyspaceOptions, Options};

const MIB: u64 = 1 << 20;

/// Data is more than twice as much.
const BUDGET_BYTES: u64 = 32 * MIB;

/// Entries of 416 bytes.
const COUNT: u64 = 160_000;

/// What the process may take beside the budget: the program, stacks, the file tables, and what the
/// allocator keeps.
const BESIDE_BUDGET_BYTES: u64 = 40 * MIB;

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

#[test]
fn memory_stays_within_the_budget_and_a_constant() {
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

//! What a table costs: a micro benchmark of this crate alone.
//!
//! ```text
//! cargo run --release -p esker-table --example figures
//! ```
//!
//! One million entries of 16 + 100 bytes, values half compressible, in one table under the
//! system's temporary directory; everything is in memory after the first touch.

#![expect(clippy::print_stdout, reason = "an example that prints its figures")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use esker_base::checksum::hash_key;
use esker_base::{DatabaseId, EntryKind, FileId, InternalKey, KeyspaceId, OwnerId, SeqNo, TableId};
use esker_cache::{BlockCache, Budget, Owner};
use esker_env::{Advice, Clock, Env, File, IoError};
use esker_table::{
    Compression, NoTrace, Table, TableBuilder, TableContext, TableCursor, TableIdentity,
    TableOptions, TableProperties,
};

const ENTRY_COUNT: u64 = 1_000_000;
const VALUE_LEN: usize = 100;
const DATABASE: DatabaseId = DatabaseId(*b"figures of table");

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let env = Env::os();
    let dir = std::env::temp_dir().join(format!("esker-figures-{}", std::process::id()));
    env.fs.create_dir_all(&dir)?;
    let mut outcome = Ok(());
    for (number, compression) in [Compression::None, Compression::Lz4].into_iter().enumerate() {
        outcome = measure(&env, &dir, number as u64, compression);
        if outcome.is_err() {
            break;
        }
    }
    for entry in env.fs.list(&dir)? {
        env.fs.remove(&dir.join(entry.name))?;
    }
    outcome
}

fn measure(env: &Env, dir: &std::path::Path, number: u64, compression: Compression) -> Outcome<()> {
    println!("-- compression {compression}");
    let keys = sorted_keys();
    let values = values();
    let (clock, budget) = (&*env.clock, Budget::new(8 << 30));
    let context = Arc::new(TableContext {
        fs: Arc::clone(&env.fs),
        dir: dir.to_path_buf(),
        database: DATABASE,
        cache: BlockCache::new(Arc::clone(&budget), None),
        budget: Arc::clone(&budget),
        clock: Arc::clone(&env.clock),
        blobs: esker_table::BlobFiles::default(),
        owned: esker_table::Ownership::default(),
    });
    let mut built = None;
    for attempt in 0..3 {
        let counter = 10 * number + attempt;
        let start = clock.now();
        built = Some(build(env, dir, counter, compression, &keys, &values)?);
        report(clock, start, "build, with sync, per entry", ENTRY_COUNT);
    }
    let properties = built.ok_or("no table was built")?;
    // Not timed: the handle is only there to have a path.
    let mut writer = env.fs.open(&dir.join(properties.id.file_name())).map(Nowhere)?;
    let start = clock.now();
    for _ in 0..2 {
        writer = build_nowhere(writer, compression, &keys, &values)?;
    }
    report(clock, start, "build without a file, per entry", 2 * ENTRY_COUNT);
    println!(
        "   {} bytes a file, {:.2} an entry",
        properties.file_bytes,
        properties.file_bytes as f64 / ENTRY_COUNT as f64
    );
    let table = Arc::new(Table::new(context, Arc::new(properties)));

    scans(clock, &table, "first scan (fills the cache), next")?;
    for _ in 0..2 {
        scans(clock, &table, "cached scan, next")?;
        reverse_scan(clock, &table)?;
    }
    for _ in 0..2 {
        gets(clock, &table, &keys)?;
        seeks(clock, &table, &keys)?;
    }
    println!(
        "   resident beside data: {:.2} bytes an entry",
        (budget.used(Owner::Indexes) + budget.used(Owner::Filters)) as f64 / ENTRY_COUNT as f64
    );
    passing_scan(clock, &table)?;
    loads(clock, &table, &keys)
}

/// Random keys: 16 bytes, as a hash would give.
fn sorted_keys() -> Vec<[u8; 16]> {
    let mut keys: Vec<[u8; 16]> = (0..ENTRY_COUNT)
        .map(|number| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&hash_key(&number.to_le_bytes()).to_le_bytes());
            key[8..].copy_from_slice(&hash_key(&(!number).to_le_bytes()).to_le_bytes());
            key
        })
        .collect();
    keys.sort_unstable();
    keys
}

/// A pool of bytes that values are cut from: of every 100, 50 random and 50 of one byte.
fn values() -> Vec<u8> {
    let mut pool = Vec::with_capacity(1 << 20);
    let mut number = 0_u64;
    while pool.len() < 1 << 20 {
        number += 1;
        let random = (0..7).flat_map(|part| {
            hash_key(&[number, part].map(u64::to_le_bytes).concat()).to_le_bytes()
        });
        pool.extend(random.take(50));
        pool.extend([b'a' + (number % 23) as u8; 50]);
    }
    pool
}

fn build(
    env: &Env,
    dir: &std::path::Path,
    counter: u64,
    compression: Compression,
    keys: &[[u8; 16]],
    values: &[u8],
) -> Outcome<TableProperties> {
    let id = TableId(FileId { owner: OwnerId::FIRST, counter });
    add_all(env.fs.create(&dir.join(id.file_name()))?, id, compression, keys, values)
}

fn add_all(
    file: Arc<dyn File>,
    id: TableId,
    compression: Compression,
    keys: &[[u8; 16]],
    values: &[u8],
) -> Outcome<TableProperties> {
    let identity =
        TableIdentity { database: DATABASE, id, keyspace: KeyspaceId::DEFAULT, level: 1 };
    let options = TableOptions { compression, ..TableOptions::default() };
    let mut builder = TableBuilder::new(file, identity, options);
    for (number, key) in keys.iter().enumerate() {
        let seqno = SeqNo::ZERO.plus(1 + number as u64);
        let start = (number * VALUE_LEN) % (values.len() - VALUE_LEN);
        let key = InternalKey::new(key, seqno, EntryKind::Put);
        builder.add(key, &values[start..start + VALUE_LEN])?;
    }
    Ok(builder.finish()?)
}

/// A file that takes everything and keeps nothing: what building costs the processor.
#[derive(Clone, Debug)]
struct Nowhere(Arc<dyn File>);

impl File for Nowhere {
    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
    fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> Result<usize, IoError> {
        Ok(0)
    }
    fn write_at(&self, _offset: u64, bytes: &[u8]) -> Result<usize, IoError> {
        Ok(bytes.len())
    }
    fn sync_data(&self) -> Result<(), IoError> {
        Ok(())
    }
    fn sync_all(&self) -> Result<(), IoError> {
        Ok(())
    }
    fn allocate(&self, _offset: u64, _len: u64) -> Result<(), IoError> {
        Ok(())
    }
    fn truncate(&self, _len: u64) -> Result<(), IoError> {
        Ok(())
    }
    fn len(&self) -> Result<u64, IoError> {
        Ok(0)
    }
    fn advise(&self, _advice: Advice) {}
}

fn build_nowhere(
    file: Nowhere,
    compression: Compression,
    keys: &[[u8; 16]],
    values: &[u8],
) -> Outcome<Nowhere> {
    let id = TableId(FileId { owner: OwnerId::FIRST, counter: 0 });
    add_all(Arc::new(file.clone()), id, compression, keys, values)?;
    Ok(file)
}

fn report(clock: &dyn Clock, start: Duration, what: &str, count: u64) {
    let time = clock.now().saturating_sub(start);
    println!("   {what}: {:.1} ns", time.as_nanos() as f64 / count as f64);
}

fn read_forward(mut cursor: TableCursor) -> Outcome<()> {
    let mut sum = 0_u64;
    cursor.seek_to_first()?;
    while cursor.is_valid() {
        sum = sum.wrapping_add(cursor.head()).wrapping_add(u64::from(cursor.value()[0]));
        cursor.next()?;
    }
    black_box(sum);
    Ok(())
}

fn scans(clock: &dyn Clock, table: &Arc<Table>, what: &str) -> Outcome<()> {
    let start = clock.now();
    read_forward(table.cursor(true))?;
    report(clock, start, what, ENTRY_COUNT);
    Ok(())
}

fn reverse_scan(clock: &dyn Clock, table: &Arc<Table>) -> Outcome<()> {
    let start = clock.now();
    let mut cursor = table.cursor(true);
    let mut sum = 0_u64;
    cursor.seek_to_last()?;
    while cursor.is_valid() {
        sum = sum.wrapping_add(cursor.head()).wrapping_add(u64::from(cursor.value()[0]));
        cursor.prev()?;
    }
    black_box(sum);
    report(clock, start, "cached reverse scan, prev", ENTRY_COUNT);
    Ok(())
}

/// A scan that does not use the cache, from the system's page cache, as a compaction reads.
fn passing_scan(clock: &dyn Clock, table: &Arc<Table>) -> Outcome<()> {
    let context = table.context();
    let fresh = TableContext {
        cache: BlockCache::new(Arc::clone(&context.budget), None),
        ..TableContext::clone(context)
    };
    let fresh = Arc::new(Table::new(Arc::new(fresh), Arc::clone(table.properties())));
    for _ in 0..2 {
        let start = clock.now();
        read_forward(fresh.cursor(false))?;
        report(clock, start, "scan past the cache, next", ENTRY_COUNT);
    }
    Ok(())
}

fn gets(clock: &dyn Clock, table: &Table, keys: &[[u8; 16]]) -> Outcome<()> {
    const COUNT: u64 = 500_000;
    // Copied, so that fetching the key is not measured.
    let picks: Vec<[u8; 16]> = (0..COUNT).map(|number| keys[pick(number, keys.len())]).collect();
    let start = clock.now();
    let mut found = 0_u64;
    for key in &picks {
        if let Some(entry) = table.get(key, hash_key(key), SeqNo::MAX, &mut NoTrace)? {
            found += u64::from(entry.value.len() == VALUE_LEN);
        }
    }
    report(clock, start, "cached get, random", COUNT);
    assert_eq!(found, COUNT, "every key is there");
    let start = clock.now();
    let mut found = 0_u64;
    for key in &picks {
        let mut key = *key;
        key[15] ^= 0x55;
        let hash = hash_key(&key);
        found += u64::from(table.get(&key, hash, SeqNo::MAX, &mut NoTrace)?.is_some());
    }
    report(clock, start, "cached get of an absent key", COUNT);
    assert_eq!(found, 0, "no absent key is there");
    let start = clock.now();
    for _ in 0..COUNT / 1000 {
        for key in &picks[..1000] {
            black_box(table.get(key, hash_key(key), SeqNo::MAX, &mut NoTrace)?);
        }
    }
    report(clock, start, "cached get, 1000 hot keys", COUNT);
    Ok(())
}

fn seeks(clock: &dyn Clock, table: &Arc<Table>, keys: &[[u8; 16]]) -> Outcome<()> {
    const COUNT: u64 = 200_000;
    let picks: Vec<[u8; 16]> = (0..COUNT).map(|number| keys[pick(number, keys.len())]).collect();
    let mut cursor = table.cursor(true);
    let start = clock.now();
    let mut sum = 0_u64;
    for key in &picks {
        cursor.seek(InternalKey::seek(key, SeqNo::MAX))?;
        for _ in 0..10 {
            if !cursor.is_valid() {
                break;
            }
            sum = sum.wrapping_add(cursor.head()).wrapping_add(u64::from(cursor.value()[0]));
            cursor.next()?;
        }
    }
    black_box(sum);
    report(clock, start, "cached seek and 10 entries", COUNT);
    let start = clock.now();
    for key in &picks {
        cursor.seek(InternalKey::seek(key, SeqNo::MAX))?;
        black_box(cursor.head());
    }
    report(clock, start, "cached seek alone", COUNT);
    let start = clock.now();
    let mut sum = 0_u64;
    for _ in 0..COUNT / 2_000 {
        cursor.seek_to_first()?;
        for _ in 0..2_000 {
            sum = sum.wrapping_add(cursor.head()).wrapping_add(u64::from(cursor.value()[0]));
            cursor.next()?;
        }
    }
    black_box(sum);
    report(clock, start, "next, over 2000 hot entries", COUNT);
    Ok(())
}

/// Point reads through a cache that keeps nothing: one block from the page cache each.
fn loads(clock: &dyn Clock, table: &Table, keys: &[[u8; 16]]) -> Outcome<()> {
    const COUNT: u64 = 100_000;
    let context = table.context();
    // Room for indexes and filters, and hardly any data.
    let room = context.budget.used(Owner::Indexes) + context.budget.used(Owner::Filters);
    let budget = Budget::new(2 * room);
    let fresh = TableContext {
        cache: BlockCache::new(Arc::clone(&budget), Some(room)),
        budget,
        ..TableContext::clone(context)
    };
    let fresh = Table::new(Arc::new(fresh), Arc::clone(table.properties()));
    let start = clock.now();
    for number in 0..COUNT {
        let key = &keys[pick(number, keys.len())];
        black_box(fresh.get(key, hash_key(key), SeqNo::MAX, &mut NoTrace)?);
    }
    report(clock, start, "get with a block loaded from the page cache", COUNT);
    println!("   {:?}", fresh.context().cache.stats());
    Ok(())
}

/// A place below `count` that looks random and is the same in every run.
fn pick(number: u64, count: usize) -> usize {
    (hash_key(&number.to_le_bytes()) % count as u64) as usize
}

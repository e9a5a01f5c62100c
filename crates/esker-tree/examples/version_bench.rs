//! What a large tree costs: finding the tables of a key, applying an edit, planning a compaction,
//! starting and recovering a manifest.
//!
//! `cargo run --release -p esker-tree --example version_bench`

use std::error::Error;
use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use esker_base::{DatabaseId, FileId, KeyspaceId, ManifestId, OwnerId, SeqNo, TableId};
use esker_cache::{BlockCache, Budget};
use esker_env::Env;
use esker_table::{Compression, Table, TableContext, TableProperties};
use esker_tree::{
    Busy, Catalog, EditRecord, Leveled, LeveledOptions, Manifest, Policy, RunId, Version,
    VersionEdit,
};

/// Tables of the last level; the three levels above it hold a tenth of the next each, and level 0
/// four more.
const LAST_LEVEL_TABLES: u64 = 9_000;

const KEYSPACE: KeyspaceId = KeyspaceId::DEFAULT;

fn id(counter: u64) -> FileId {
    FileId { owner: OwnerId::FIRST, counter }
}

/// Table `index` of a run of `count`, which cover the numbers up to 2^40 evenly.
fn table(counter: u64, index: u64, count: u64) -> Arc<TableProperties> {
    let width = (1 << 40) / count;
    let key = |number: u64| format!("user{number:016}").into_bytes();
    Arc::new(TableProperties {
        id: TableId(id(counter)),
        keyspace: KEYSPACE,
        level: 0,
        file_bytes: 64 << 20,
        checksum: 0,
        smallest_key: key(index * width),
        largest_key: key((index + 1) * width - 1),
        seqno_min: SeqNo::ZERO,
        seqno_max: SeqNo::ZERO,
        entry_count: 500_000,
        tombstone_count: 0,
        key_bytes: 10_000_000,
        value_bytes: 50_000_000,
        data_block_count: 16_000,
        partition_count: 16,
        data_bytes: 63 << 20,
        compression: Compression::None,
        filter_bits_per_key: 10,
        extras: esker_table::TableExtras::default(),
    })
}

fn large_tree() -> VersionEdit {
    let (name, order) = ("default".to_owned(), "bytewise".to_owned());
    let created = EditRecord::KeyspaceCreated { keyspace: KEYSPACE, name, order, options: vec![] };
    let mut records = vec![created];
    let runs = [(0, 1), (0, 1), (0, 1), (0, 1), (3, LAST_LEVEL_TABLES / 1000)];
    let deeper =
        [(4, LAST_LEVEL_TABLES / 100), (5, LAST_LEVEL_TABLES / 10), (6, LAST_LEVEL_TABLES)];
    for (level, count) in runs.into_iter().chain(deeper) {
        let run = RunId(records.len() as u64);
        for index in 0..count {
            let properties = table(10 + records.len() as u64, index, count);
            records.push(EditRecord::TableAdded { keyspace: KEYSPACE, level, run, properties });
        }
    }
    VersionEdit { records }
}

fn main() -> Result<(), Box<dyn Error>> {
    let env = Env::os();
    let mut out = std::io::stdout();
    let mut report = |what: &str, count: u32, time: Duration| {
        writeln!(out, "{what:<40} {:>12.3} us", time.as_secs_f64() * 1e6 / f64::from(count))
    };
    let budget = Budget::new(1 << 30);
    let files = Env::memory(0).fs;
    files.create_dir_all(Path::new("db"))?;
    let context = Arc::new(TableContext {
        fs: Arc::clone(&files),
        dir: PathBuf::from("db"),
        database: DatabaseId([0; 16]),
        cache: BlockCache::new(Arc::clone(&budget), None),
        budget,
        clock: Arc::clone(&env.clock),
        blobs: esker_table::BlobFiles::default(),
        owned: esker_table::Ownership::default(),
    });
    let make = |properties| Arc::new(Table::new(Arc::clone(&context), properties));
    let mut catalog = Catalog::new(DatabaseId([0; 16]));
    catalog.apply(&large_tree())?;
    let version = Version::open(KEYSPACE, &catalog.keyspaces[&KEYSPACE], make)?;
    let mut random = 1_u64;
    let keys: Vec<Vec<u8>> = (0..100_000)
        .map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("user{:016}", random >> 24).into_bytes()
        })
        .collect();
    let start = env.clock.now();
    for key in &keys {
        black_box(version.candidates(key).count());
    }
    report("candidates of a key, 8 runs", keys.len() as u32, env.clock.now() - start)?;
    let shape = version.shape();
    let policy = Leveled::new(LeveledOptions::default());
    let start = env.clock.now();
    black_box(policy.pick(&shape, &Busy::new(), start));
    report("pick", 1, env.clock.now() - start)?;
    let start = env.clock.now();
    black_box(policy.debt_bytes(&shape));
    report("debt", 1, env.clock.now() - start)?;
    let edit = VersionEdit {
        records: vec![EditRecord::TableAdded {
            keyspace: KEYSPACE,
            level: 0,
            run: RunId(50_000),
            properties: table(50_000, 0, 1),
        }],
    };
    let start = env.clock.now();
    black_box(version.apply(&edit, make)?);
    report("version: a flush", 1, env.clock.now() - start)?;
    let start = env.clock.now();
    let manifest_id = ManifestId(id(60_000));
    let mut manifest = Manifest::create(Arc::clone(&files), Path::new("db"), manifest_id, catalog)?;
    report("manifest: create, in memory", 1, env.clock.now() - start)?;
    let start = env.clock.now();
    manifest.append(&edit, || unreachable!("there is room"))?;
    report("manifest: append, in memory", 1, env.clock.now() - start)?;
    let start = env.clock.now();
    let recovered = Manifest::recover(&*files, Path::new("db"))?;
    report("manifest: recover, in memory", 1, env.clock.now() - start)?;
    let length = recovered.map_or(0, |recovered| recovered.end.offset());
    writeln!(
        out,
        "manifest: {length} bytes for {} tables",
        shape.levels.iter().flat_map(|l| l.tables()).count()
    )?;
    Ok(())
}

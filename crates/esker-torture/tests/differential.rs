//! One stream of operations, done by Esker under many option sets and by two other stores: all give
//! the same answers.
//!
//! `ESKER_SEED` takes one stream; `ESKER_BUDGET` multiplies how many there are, from
//! `ESKER_FIRST_SEED` or 1 on. Of a stream that fails, as many operations as possible are left out;
//! `ESKER_SHRINK=0` spares the search for them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../esker/tests/it/shrink/leave_out.rs"]
mod leave_out;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use esker::env::Env;
use esker::{CompactionPolicy, Compression, Db, KeyspaceOptions, Options, PrefixRule};
use leave_out::shrink;
use redb::ReadableDatabase as _;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// One operation. Keys are small numbers.
#[derive(Clone, Debug)]
enum Operation {
    /// Several keys at once; no value deletes.
    Write(Vec<(u8, Option<Vec<u8>>)>),
    Get(u8),
    /// Keys from the first to before the second, backwards or not.
    Scan(u8, u8, bool),
    Flush,
    Compact,
    Reopen,
}

impl Operation {
    /// In few words: all bytes of a value are the same.
    fn shown(&self) -> String {
        let one = |(number, value): &(u8, Option<Vec<u8>>)| match value {
            Some(value) => {
                format!("{number} = {} times {}", value.len(), value.first().unwrap_or(&0))
            }
            None => format!("{number} deleted"),
        };
        match self {
            Self::Write(writes) => {
                format!("Write({})", writes.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            other => format!("{other:?}"),
        }
    }
}

fn key(number: u8) -> Vec<u8> {
    format!("key/{:03}{}", number, "/".repeat(usize::from(number % 5))).into_bytes()
}

fn stream(seed: u64, len: usize) -> Vec<Operation> {
    let mut state = seed;
    let mut next = move |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let operation = |_| match next(100) {
        0..=59 => {
            let count = 1 + next(6);
            let one = |_| {
                let number = next(200) as u8;
                let value = (next(4) != 0).then(|| vec![next(256) as u8; next(300) as usize]);
                (number, value)
            };
            Operation::Write((0..count).map(one).collect())
        }
        60..=84 => Operation::Get(next(200) as u8),
        85..=94 => Operation::Scan(next(200) as u8, next(200) as u8, next(2) == 0),
        95 | 96 => Operation::Flush,
        97 => Operation::Compact,
        _ => Operation::Reopen,
    };
    (0..len).map(operation).collect()
}

/// A store that can be asked.
trait Store {
    fn write(&mut self, writes: &[(u8, Option<Vec<u8>>)]);
    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>>;
    fn scan(&mut self, from: &[u8], to: &[u8]) -> Entries;
    fn scan_back(&mut self, from: &[u8], to: &[u8]) -> Entries {
        let mut entries = self.scan(from, to);
        entries.reverse();
        entries
    }
    fn flush(&mut self) {}
    fn compact(&mut self) {}
    fn reopen(&mut self) {}
}

/// The answers to a stream.
fn answers(store: &mut dyn Store, operations: &[Operation]) -> Vec<Entries> {
    let mut answers = Vec::new();
    for operation in operations {
        match operation {
            Operation::Write(writes) => store.write(writes),
            Operation::Get(number) => {
                let found = store.get(&key(*number));
                answers.push(found.map(|value| (key(*number), value)).into_iter().collect());
            }
            Operation::Scan(from, to, is_back) => {
                let (from, to) = (key(*from.min(to)), key(*from.max(to)));
                let scanned =
                    if *is_back { store.scan_back(&from, &to) } else { store.scan(&from, &to) };
                answers.push(scanned);
            }
            Operation::Flush => store.flush(),
            Operation::Compact => store.compact(),
            Operation::Reopen => store.reopen(),
        }
    }
    answers.push(store.scan(b"", b"\xff"));
    answers
}

#[derive(Default)]
struct Map(BTreeMap<Vec<u8>, Vec<u8>>);

impl Store for Map {
    fn write(&mut self, writes: &[(u8, Option<Vec<u8>>)]) {
        for (number, value) in writes {
            match value {
                Some(value) => drop(self.0.insert(key(*number), value.clone())),
                None => drop(self.0.remove(&key(*number))),
            }
        }
    }

    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key).cloned()
    }

    fn scan(&mut self, from: &[u8], to: &[u8]) -> Entries {
        let entries = self.0.range(from.to_vec()..to.to_vec());
        entries.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

struct Esker {
    env: Env,
    options: Options,
    keyspace: KeyspaceOptions,
    db: Option<Db>,
}

impl Esker {
    fn new(options: Options, keyspace: KeyspaceOptions) -> Self {
        // With a clock that goes: writers that are slowed wait for it.
        let env = Env { clock: Env::os().clock, ..Env::memory(1) };
        let mut store = Self { env, options, keyspace, db: None };
        store.reopen();
        store
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("it is open")
    }
}

fn owned(entry: esker::Result<(esker::Key, esker::Value)>) -> (Vec<u8>, Vec<u8>) {
    let (key, value) = entry.expect("memory");
    (key.to_vec(), value.to_vec())
}

impl Store for Esker {
    fn write(&mut self, writes: &[(u8, Option<Vec<u8>>)]) {
        let default = self.db().existing_keyspace("default").expect("open").expect("always there");
        let mut batch = self.db().batch();
        for (number, value) in writes {
            match value {
                Some(value) => batch.put(&default, key(*number), value),
                None => batch.delete(&default, key(*number)),
            }
        }
        batch.commit().expect("memory");
    }

    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.db().get(key).expect("memory").map(|value| value.to_vec())
    }

    fn scan(&mut self, from: &[u8], to: &[u8]) -> Entries {
        self.db().scan(from..to).map(owned).collect()
    }

    fn scan_back(&mut self, from: &[u8], to: &[u8]) -> Entries {
        self.db().scan(from..to).rev().map(owned).collect()
    }

    fn flush(&mut self) {
        self.db().flush().expect("memory");
    }

    fn compact(&mut self) {
        self.db().compact::<&[u8]>(..).expect("memory");
    }

    fn reopen(&mut self) {
        if let Some(db) = self.db.take() {
            db.close().expect("memory");
        }
        let builder = Db::builder("db").env(self.env.clone()).options(self.options.clone());
        self.db = Some(builder.default_keyspace(self.keyspace.clone()).open().expect("memory"));
    }
}

struct Fjall {
    db: fjall::Database,
    keyspace: fjall::Keyspace,
    _scratch: Scratch,
}

impl Fjall {
    fn new() -> Self {
        let scratch = Scratch::new();
        let db = fjall::Database::builder(scratch.0.join("fjall")).open().unwrap();
        let keyspace = db.keyspace("d", fjall::KeyspaceCreateOptions::default).unwrap();
        Self { db, keyspace, _scratch: scratch }
    }
}

impl Store for Fjall {
    fn write(&mut self, writes: &[(u8, Option<Vec<u8>>)]) {
        let mut batch = self.db.batch();
        // Its batches do not say which of two writes to one key counts.
        let last: BTreeMap<_, _> = writes.iter().cloned().collect();
        for (number, value) in last {
            match value {
                Some(value) => batch.insert(&self.keyspace, key(number), value),
                None => batch.remove(&self.keyspace, key(number)),
            }
        }
        batch.commit().unwrap();
    }

    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.keyspace.get(key).unwrap().map(|value| value.to_vec())
    }

    fn scan(&mut self, from: &[u8], to: &[u8]) -> Entries {
        let entries = self.keyspace.range(from..to).map(|guard| guard.into_inner().unwrap());
        entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }

    fn flush(&mut self) {
        self.keyspace.rotate_memtable_and_wait().unwrap();
    }
}

const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("differential");

struct Redb(redb::Database, #[expect(dead_code, reason = "removed with it")] Scratch);

impl Redb {
    fn new() -> Self {
        let scratch = Scratch::new();
        let db = redb::Database::create(scratch.0.join("redb")).unwrap();
        let mut store = Self(db, scratch);
        store.write(&[]);
        store
    }
}

impl Store for Redb {
    fn write(&mut self, writes: &[(u8, Option<Vec<u8>>)]) {
        let mut writer = self.0.begin_write().unwrap();
        writer.set_durability(redb::Durability::None).unwrap();
        {
            let mut table = writer.open_table(TABLE).unwrap();
            for (number, value) in writes {
                match value {
                    Some(value) => drop(table.insert(&*key(*number), &**value).unwrap()),
                    None => drop(table.remove(&*key(*number)).unwrap()),
                }
            }
        }
        writer.commit().unwrap();
    }

    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let table = self.0.begin_read().unwrap().open_table(TABLE).unwrap();
        table.get(key).unwrap().map(|value| value.value().to_vec())
    }

    fn scan(&mut self, from: &[u8], to: &[u8]) -> Entries {
        let table = self.0.begin_read().unwrap().open_table(TABLE).unwrap();
        let entries = table.range(from..to).unwrap().map(|entry| entry.unwrap());
        entries.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect()
    }
}

/// A directory for the others, which have no memory of their own to live in.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("esker-differential-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Every policy, with other sizes, compressions and threads for each.
fn option_sets() -> Vec<(Options, KeyspaceOptions)> {
    let policies = [
        CompactionPolicy::Leveled,
        CompactionPolicy::None,
        CompactionPolicy::Simple(Default::default()),
        CompactionPolicy::Tiered(Default::default()),
        CompactionPolicy::LeveledByBytes(Default::default()),
        CompactionPolicy::Universal(Default::default()),
        CompactionPolicy::Lazy(Default::default()),
    ];
    let sets = policies.into_iter().enumerate().flat_map(|(number, compaction)| {
        (0..3).map(move |variant| {
            let options = Options {
                background_threads: variant,
                log_segment_bytes: if variant == 1 { 0 } else { 1 << 20 },
                cache_bytes: (variant == 2).then_some(0),
                log_compression_threshold_bytes: [None, Some(100), Some(0)][variant],
                warm_cache: variant == 1,
                ..Options::default()
            };
            let keyspace = KeyspaceOptions {
                compaction,
                compression: if number % 2 == 0 { Compression::Lz4 } else { Compression::None },
                block_size_bytes: [256, 1000, 16 << 10][(number + variant) % 3],
                filter_bits_per_key: [0, 10, 3][variant],
                prefix_filter: [PrefixRule::First(6), PrefixRule::Through(b'/')]
                    .get(number % 3)
                    .copied(),
                memtable_bytes: [1, 4000, 50_000][(number + 2 * variant) % 3],
                ..KeyspaceOptions::default()
            };
            (options, keyspace)
        })
    });
    sets.collect()
}

/// How a store, made anew, answers otherwise than a map; none if it does not.
fn difference(make: &dyn Fn() -> Box<dyn Store>, operations: &[Operation]) -> Option<String> {
    let expected = answers(&mut Map::default(), operations);
    let answers = || answers(&mut *make(), operations);
    let Ok(found) = catch_unwind(AssertUnwindSafe(answers)) else {
        return Some("it panics".to_owned());
    };
    let mut pairs = found.iter().zip(&expected).enumerate();
    let (index, (found, expected)) = pairs.find(|(_, (found, expected))| found != expected)?;
    Some(format!("answer {index} is {}, and not {}", shown(found), shown(expected)))
}

/// Of each value how long it is, and of what: all its bytes are the same.
fn shown(entries: &Entries) -> String {
    let one = |(key, value): &(Vec<u8>, Vec<u8>)| {
        let byte = value.first().unwrap_or(&0);
        format!("{} = {} times {byte}", String::from_utf8_lossy(key), value.len())
    };
    format!("[{}]", entries.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// What is to be said of a store that answers otherwise than a map: with how few operations.
fn finding(make: &dyn Fn() -> Box<dyn Store>, operations: &[Operation]) -> Option<String> {
    let what = difference(make, operations)?;
    if std::env::var("ESKER_SHRINK").is_ok_and(|wants| wants == "0") {
        return Some(what);
    }
    let hook = std::panic::take_hook();
    // The first panic has been told of.
    std::panic::set_hook(Box::new(|_| {}));
    let small = shrink(operations, |operations| difference(make, operations).is_some());
    let of_small = difference(make, &small);
    std::panic::set_hook(hook);
    let lines: Vec<String> = small.iter().map(Operation::shown).collect();
    Some(format!(
        "{what}\n{} of {} operations are enough for a failure:\n{}\n{}",
        small.len(),
        operations.len(),
        lines.join("\n"),
        of_small.unwrap_or_else(|| "(but not every time)".to_owned())
    ))
}

#[test]
fn all_stores_and_options_give_the_same_answers() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("ESKER_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("ESKER_FIRST_SEED").unwrap_or(1);
            first..first + 3 * number("ESKER_BUDGET").unwrap_or(1)
        }
    };
    let mut runs = 0;
    for seed in seeds {
        let operations = stream(seed, 400);
        let mut check = |name: &str, make: &dyn Fn() -> Box<dyn Store>| {
            runs += 1;
            if let Some(what) = finding(make, &operations) {
                panic!("ESKER_SEED={seed}: {name}: {what}");
            }
        };
        for (options, keyspace) in option_sets() {
            let name = format!("Esker with {options:?} and {keyspace:?}");
            check(&name, &|| Box::new(Esker::new(options.clone(), keyspace.clone())));
        }
        check("fjall", &|| Box::new(Fjall::new()));
        check("redb", &|| Box::new(Redb::new()));
    }
    eprintln!("counted: {runs} differential runs");
}

/// Forgets one key when it is opened again.
#[derive(Default)]
struct Forgetful(Map);

impl Store for Forgetful {
    fn write(&mut self, writes: &[(u8, Option<Vec<u8>>)]) {
        self.0.write(writes);
    }

    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    fn scan(&mut self, from: &[u8], to: &[u8]) -> Entries {
        self.0.scan(from, to)
    }

    fn reopen(&mut self) {
        self.0.0.remove(&key(70));
    }
}

#[test]
fn of_a_stream_that_fails_what_is_needed_is_left() {
    let write = |number, value: Option<Vec<u8>>| Operation::Write(vec![(number, value)]);
    let mut operations = stream(1, 100);
    operations.retain(|operation| !matches!(operation, Operation::Reopen));
    operations.extend([write(70, Some(vec![8; 300])), Operation::Flush, Operation::Reopen]);
    operations.extend([write(71, None), Operation::Get(70)]);
    let count = operations.len();
    let what = finding(&|| Box::<Forgetful>::default(), &operations).unwrap();
    let (_, small) = what.split_once('\n').unwrap();
    let (lines, answer) = small.rsplit_once('\n').unwrap();
    let head = format!("2 of {count} operations are enough for a failure:");
    assert_eq!(lines, format!("{head}\nWrite(70 = 300 times 8)\nReopen"));
    assert_eq!(answer, "answer 0 is [], and not [key/070 = 300 times 8]");
    assert_eq!(finding(&|| Box::<Map>::default(), &operations), None);
}

//! Key orders other than bytewise: everything that takes or returns keys uses them.
//!
//! The model test has keyspaces in reverse order; here is a user-defined order that maps no prefix
//! to a range, and keyspaces whose order is not known.

use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex};

use esker::env::{Env, MemoryFileSystem};
use esker::{
    CompactionFilter, CompactionFilterFactory, Db, ErrorKind, Event, Filter, FilterContext,
    FilterDecision, FilterFailure, KeyOrder, Keyspace, KeyspaceOptions, Order, Result, TableWriter,
    TableWriterOptions, UndecodableKey,
};

use crate::recovered::{DIR, env_of, open, options};

/// Shorter keys first, those of one length bytewise: the length is stored before the key.
pub(crate) struct Shortlex {
    pub(crate) name: &'static str,
}

impl KeyOrder for Shortlex {
    fn name(&self) -> &str {
        self.name
    }

    fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&[(key.len() >> 8) as u8, key.len() as u8]);
        out.extend_from_slice(key);
    }

    fn decode(&self, stored: &[u8], out: &mut Vec<u8>) -> std::result::Result<(), UndecodableKey> {
        let short = || UndecodableKey::new("it is shorter than a length");
        let (_, key) = stored.split_first_chunk::<2>().ok_or_else(short)?;
        out.extend_from_slice(key);
        Ok(())
    }
}

fn shortlex() -> KeyspaceOptions {
    let order = Order::new(Shortlex { name: "shortlex" });
    KeyspaceOptions { order, ..KeyspaceOptions::default() }
}

const WORDS: [&str; 7] = ["", "b", "z", "aa", "ab", "abc", "zebra"];

fn keys(scan: impl Iterator<Item = Result<esker::Key>>) -> Vec<String> {
    scan.map(|key| String::from_utf8(key.unwrap().to_vec()).unwrap()).collect()
}

/// A database with the words in a keyspace in shortlex order, some in a table, some in memory.
fn database(fs: &MemoryFileSystem) -> (Db, Keyspace) {
    let db = open(&env_of(fs), &options()).unwrap();
    let words = db.keyspace("words", shortlex()).unwrap();
    for word in ["zebra", "b", "abc", "gone"] {
        words.put(word, word).unwrap();
    }
    words.flush().unwrap();
    let mut batch = db.batch();
    for word in ["ab", "z", "", "aa"] {
        batch.put(&words, word, word);
    }
    batch.delete(&words, "gone");
    batch.commit().unwrap();
    (db, words)
}

/// Checks every way to read the words.
fn check(db: &Db, words: &Keyspace) {
    assert_eq!(keys(words.iter().keys()), WORDS);
    assert_eq!(keys(words.iter().keys().rev()), WORDS.into_iter().rev().collect::<Vec<_>>());
    assert_eq!(keys(words.scan("z".."abc").keys()), ["z", "aa", "ab"]);
    assert_eq!(keys(words.scan("abc".."z").keys()), [""; 0], "a range that is inverted here");
    let open: (Bound<&str>, Bound<&str>) = (Bound::Excluded("aa"), Bound::Unbounded);
    assert_eq!(keys(words.scan::<&str>(open).keys()), ["ab", "abc", "zebra"]);
    for (prefix, expected) in
        [("a", &["aa", "ab", "abc"][..]), ("z", &["z", "zebra"]), ("q", &[]), ("", &WORDS)]
    {
        assert_eq!(keys(words.prefix(prefix).keys()), expected);
        assert_eq!(
            keys(words.prefix(prefix).keys().rev()),
            expected.iter().rev().copied().collect::<Vec<_>>()
        );
        let view = db.snapshot().keyspace(words);
        assert_eq!(keys(view.prefix(prefix).keys()), expected);
    }
    let mut both = words.prefix("a").keys();
    assert_eq!(both.next_back().unwrap().unwrap(), "abc");
    assert_eq!(both.next().unwrap().unwrap(), "aa");
    assert_eq!(keys(both), ["ab"]);

    for word in WORDS {
        assert_eq!(words.get(word).unwrap().unwrap(), word);
        assert!(words.explain_get(word).unwrap().value_len == Some(word.len()));
    }
    assert!(!words.contains("gone").unwrap());
    let found = words.multi_get(&["z", "gone", "abc"]).unwrap();
    assert_eq!(found, [Some("z".as_bytes().into()), None, Some("abc".as_bytes().into())]);
    assert_eq!(db.snapshot().keyspace(words).get("ab").unwrap().unwrap(), "ab");

    let mut cursor = words.cursor().unwrap();
    cursor.seek("abb").unwrap();
    assert_eq!((cursor.key(), cursor.value()), (&b"abc"[..], &b"abc"[..]));
    cursor.refresh().unwrap();
    cursor.prev().unwrap();
    assert_eq!(cursor.entry().0, "ab");
    cursor.seek_for_prev("zz").unwrap();
    assert_eq!(cursor.key(), b"ab");
    let explained = words.explain_scan("b".."zz", None).unwrap();
    assert_eq!((explained.range.as_str(), explained.entry_count), ("[b .. zz)", 4));
}

#[test]
fn all_calls_go_by_an_order_of_the_users_own() {
    let fs = MemoryFileSystem::new(1);
    let (db, words) = database(&fs);
    check(&db, &words);
    words.flush().unwrap();
    check(&db, &words);
    // Of the range only: "zebra" is outside, though it is bytewise inside of nothing else.
    words.compact("aa"..="abc").unwrap();
    check(&db, &words);
    let levels = words.levels();
    let tables = || levels.levels.iter().flat_map(|level| &level.runs).flat_map(|run| &run.tables);
    assert!(tables().any(|table| table.smallest_key.is_empty()));
    assert!(tables().any(|table| table.largest_key == b"zebra"));
}

#[test]
fn a_keyspace_whose_order_is_not_known_is_kept_and_not_read() {
    let fs = MemoryFileSystem::new(1);
    drop(database(&fs));
    let db = open(&env_of(&fs), &options()).unwrap();
    let words = db.existing_keyspace("words").unwrap().unwrap();
    let known = "keyspace words has the key order \"shortlex\", which was not given when it was \
                 opened";
    let refused = |result: Result<()>| {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, known));
    };
    refused(words.get("b").map(drop));
    refused(words.put("b", "new"));
    refused(words.delete("b"));
    refused(words.multi_get(&["b"]).map(drop));
    refused(words.cursor().map(drop));
    refused(words.compact("a".."b"));
    refused(words.explain_get("b").map(drop));
    refused(words.explain_scan::<&str>(.., None).map(drop));
    for mut scan in [words.iter(), words.prefix("a"), words.scan("a".."b")] {
        refused(scan.next().expect("it says so").map(drop));
        assert!(scan.next().is_none());
    }
    let mut batch = db.batch();
    batch.put(&words, "b", "new");
    refused(batch.commit());

    // Recovered, flushed and compacted it is all the same, and shown as it is stored.
    words.flush().unwrap();
    words.compact::<&[u8]>(..).unwrap();
    assert_eq!(words.levels().levels[6].runs[0].tables[0].smallest_key, [0, 0]);
    db.rename_keyspace(&words, "words").unwrap_err();
    let options = words.options();
    let same = db.keyspace("words", options.clone()).unwrap();
    refused(same.get("b").map(drop));
    // A table of such an order was begun, and got the empty key for whatever key came first.
    let writing = TableWriterOptions { order: options.order.clone(), ..Default::default() };
    let writer = TableWriter::create_in(&env_of(&fs), Path::new(DIR).join("new"), writing);
    for error in [db.keyspace("new", options).unwrap_err(), writer.unwrap_err()] {
        assert_eq!(error.to_string(), "the key order \"shortlex\" is known by name only");
    }

    check(&db, &db.keyspace("words", shortlex()).unwrap());
    check(&db, &words);
}

#[test]
fn an_order_given_at_open_is_known_to_all_keyspaces_that_have_it() {
    let fs = MemoryFileSystem::new(1);
    drop(database(&fs));
    let db = Db::builder(DIR)
        .env(env_of(&fs))
        .options(options())
        .key_order(Shortlex { name: "other" })
        .key_order(Shortlex { name: "shortlex" })
        .open()
        .unwrap();
    check(&db, &db.existing_keyspace("words").unwrap().unwrap());
    let refused = Db::builder("elsewhere")
        .env(Env::memory(1))
        .key_order(Shortlex { name: "" })
        .open()
        .unwrap_err();
    let what = "the name of the key order has 0 bytes, and must have from 1 to 255";
    assert_eq!(refused.to_string(), what);
}

#[test]
fn another_order_than_the_recorded_one_is_refused() {
    let fs = MemoryFileSystem::new(1);
    let (db, _) = database(&fs);
    let error = db.keyspace("words", KeyspaceOptions::default()).unwrap_err();
    let what = "keyspace words was created with the key order \"shortlex\", and is opened with \
                \"bytewise\"";
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidInput, what));
    drop(db);
    let reversed =
        KeyspaceOptions { order: Order::reverse_bytewise(), ..KeyspaceOptions::default() };
    let builder = Db::builder(DIR).env(env_of(&fs)).default_keyspace(reversed);
    let what = "keyspace default was created with the key order \"bytewise\", and is opened with \
                \"reverse-bytewise\"";
    assert_eq!(builder.open().unwrap_err().to_string(), what);
}

#[test]
fn the_default_keyspace_may_have_an_order_from_the_start() {
    let fs = MemoryFileSystem::new(1);
    let builder = || Db::builder(DIR).env(env_of(&fs)).options(options());
    let db = builder().default_keyspace(shortlex()).open().unwrap();
    db.put("long", "1").unwrap();
    db.put("z", "2").unwrap();
    drop(db);
    let db = builder().key_order(Shortlex { name: "shortlex" }).open().unwrap();
    assert_eq!(keys(db.iter().keys()), ["z", "long"]);
}

/// Keeps everything, and notes the keys that it is asked about.
#[derive(Clone, Default)]
struct NotesKeys(Arc<Mutex<Vec<Vec<u8>>>>);

impl CompactionFilterFactory for NotesKeys {
    fn name(&self) -> &str {
        "notes keys"
    }

    fn create(&self, _: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        Box::new(self.clone())
    }
}

impl CompactionFilter for NotesKeys {
    fn filter(
        &mut self,
        key: &[u8],
        _: &[u8],
    ) -> std::result::Result<FilterDecision, FilterFailure> {
        self.0.lock().unwrap().push(key.to_vec());
        Ok(FilterDecision::Keep)
    }
}

/// Options that were read before the order was given have its name alone. A filter that came with
/// them was asked about keys as they are stored, and could remove what it was not meant to.
#[test]
fn a_filter_is_never_shown_keys_as_they_are_stored() {
    let fs = MemoryFileSystem::new(1);
    drop(database(&fs));
    let db = open(&env_of(&fs), &options()).unwrap();
    let words = db.existing_keyspace("words").unwrap().unwrap();
    let filter = NotesKeys::default();
    let recorded = words.options();
    let with_filter = || KeyspaceOptions {
        compaction_filter: Some(Filter::new(filter.clone())),
        ..recorded.clone()
    };
    // As long as nobody knows the order, nobody can show its keys.
    db.keyspace("words", with_filter()).unwrap();
    words.compact::<&[u8]>(..).unwrap();
    assert_eq!(filter.0.lock().unwrap().len(), 0);
    db.keyspace("words", shortlex()).unwrap();
    db.keyspace("words", with_filter()).unwrap();
    words.compact::<&[u8]>(..).unwrap();
    assert_eq!(*filter.0.lock().unwrap(), WORDS.map(|word| word.as_bytes().to_vec()));
    check(&db, &words);
}

/// What people are shown of a compaction had keys as the tree holds them.
#[test]
fn plans_are_shown_with_the_keys_that_were_written() {
    let db = open(&Env::memory(1), &options()).unwrap();
    let words = db.keyspace("words", shortlex()).unwrap();
    for _ in 0..8 {
        words.put("apple", "red").unwrap();
        words.put("z", "striped").unwrap();
        words.flush().unwrap();
    }
    let planned = db.plan();
    assert!(planned[0].description.contains(", z..apple, "), "{planned:?}");
    words.compact::<&[u8]>(..).unwrap();
    let told = db.events().into_iter().filter_map(|(_, event)| match event {
        Event::Compacted { plan, .. } => Some(plan),
        _ => None,
    });
    let told: Vec<String> = told.collect();
    assert!(!told.is_empty() && told.iter().all(|plan| plan.contains(", z..apple, ")), "{told:?}");
}

type Read = fn(&Keyspace) -> Result<bool>;

type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Bytewise; does something else first, once.
struct Hooked(Hook);

impl KeyOrder for Hooked {
    fn name(&self) -> &str {
        "hooked"
    }

    fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        let hook = self.0.lock().unwrap().take();
        hook.into_iter().for_each(|hook| hook());
        out.extend_from_slice(key);
    }

    fn decode(&self, stored: &[u8], out: &mut Vec<u8>) -> std::result::Result<(), UndecodableKey> {
        out.extend_from_slice(stored);
        Ok(())
    }
}

/// The reader had found the keyspace alive, and then took the view that the drop had left: of every
/// key it said that there is none.
#[test]
fn a_read_beside_a_drop_gives_the_value_or_says_that_it_is_gone() {
    let hook = Hook::default();
    let order = Order::new(Hooked(Arc::clone(&hook)));
    let db = open(&Env::memory(1), &options()).unwrap();
    let reads: [Read; 4] = [
        |keyspace| Ok(keyspace.get("key")?.is_some()),
        |keyspace| keyspace.contains("key"),
        |keyspace| Ok(keyspace.multi_get(&["key"])?[0].is_some()),
        |keyspace| Ok(keyspace.explain_get("key")?.value_len.is_some()),
    ];
    for read in reads {
        let options = KeyspaceOptions { order: order.clone(), ..KeyspaceOptions::default() };
        let keyspace = db.keyspace("k", options).unwrap();
        keyspace.put("key", "value").unwrap();
        assert!(read(&keyspace).unwrap());
        let (of_hook, dropped) = (db.clone(), keyspace.clone());
        *hook.lock().unwrap() = Some(Box::new(move || of_hook.drop_keyspace(&dropped).unwrap()));
        assert_eq!(read(&keyspace).unwrap_err().kind(), ErrorKind::Closed);
    }
}

//! Files of an earlier moment among those of a later one, as left by a disk that lost writes, or by
//! a copy made file by file. Every answer is an error or correct.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use esker::env::MemoryFileSystem;
use esker::{Durability, ErrorKind, KeyspaceOptions};
use esker_tree::Manifest;

use crate::files;
use crate::journal::Marks;
use crate::random::{Rng, for_each_seed};
use crate::recovered::{DIR, Found, Loss, env_of, open, options};
use crate::sample;
use crate::state::{State, Write};

type Files = BTreeMap<String, Vec<u8>>;

/// A closed database, and what it holds.
struct Closed {
    files: Files,
    state: State,
}

/// The same database after each of some closes, with blob files, tables that go and logs that do.
fn history() -> Vec<Closed> {
    let fs = MemoryFileSystem::new(1);
    let mut state = State::new();
    state.create("blobs");
    (0..6)
        .map(|round| {
            let db = open(&env_of(&fs), &options()).unwrap();
            let in_blobs =
                KeyspaceOptions { blob_threshold_bytes: Some(32), ..KeyspaceOptions::default() };
            db.keyspace("blobs", in_blobs).unwrap();
            for i in 0..4 {
                let (key, value) = (format!("key {}", (round + i) % 5), format!("value {round}"));
                for (name, value) in [("default", value.clone()), ("blobs", value.repeat(4 * i))] {
                    let keyspace = db.existing_keyspace(name).unwrap().expect("it was created");
                    keyspace.put_with(&key, &value, Durability::Power).unwrap();
                    state.apply(&[Write::put(name, key.as_bytes(), value.as_bytes())]);
                }
            }
            match round {
                1 | 2 => db.flush().unwrap(),
                4 => db.compact::<&[u8]>(..).unwrap(),
                _ => {}
            }
            db.close().unwrap();
            Closed { files: files::read_all(&fs, Path::new(DIR)), state: state.clone() }
        })
        .collect()
}

/// What is read: nothing is of a manifest before the newest.
fn without_predecessors(files: &Files) -> Files {
    let mut files = files.clone();
    files.retain(|name, _| Manifest::parse_predecessor(name).is_none());
    files
}

/// `later` with those of its files that differ from `earlier` and have a bit in `mask` as they were.
fn mixture(earlier: &Files, later: &Files, differing: &[&String], mask: u32) -> Files {
    let mut mixed = later.clone();
    for (at, name) in differing.iter().enumerate() {
        if mask >> at & 1 == 1 {
            match earlier.get(*name) {
                Some(bytes) => mixed.insert((*name).clone(), bytes.clone()),
                None => mixed.remove(*name),
            };
        }
    }
    mixed
}

fn directory_of(files: &Files) -> MemoryFileSystem {
    let fs = MemoryFileSystem::new(1);
    esker::env::FileSystem::create_dir_all(&fs, Path::new(DIR)).unwrap();
    files.iter().for_each(|(name, bytes)| files::write(&fs, &Path::new(DIR).join(name), bytes));
    fs
}

fn differing<'a>(earlier: &'a Files, later: &'a Files) -> Vec<&'a String> {
    let names: BTreeSet<&String> = earlier.keys().chain(later.keys()).collect();
    names.into_iter().filter(|name| earlier.get(*name) != later.get(*name)).collect()
}

#[test]
fn files_of_an_earlier_close_are_refused_or_harmless() {
    let (mut refused, mut harmless) = (0, 0);
    let history: Vec<Closed> = history()
        .into_iter()
        .map(|closed| Closed { files: without_predecessors(&closed.files), ..closed })
        .collect();
    for (j, later) in history.iter().enumerate() {
        for (i, earlier) in history[..j].iter().enumerate() {
            let differing = differing(&earlier.files, &later.files);
            for mask in 1..1_u32 << differing.len() {
                let mixed = mixture(&earlier.files, &later.files, &differing, mask);
                // A disk that is as it was before, as a whole, or that never was, tells nobody.
                if mixed.is_empty() || mixed == earlier.files {
                    continue;
                }
                let what = format!("{:?} from {i} and {j}", mixed.keys());
                let fs = directory_of(&mixed);
                match sample::read(&fs, open(&env_of(&fs), &options()), &later.state, &what) {
                    Ok(()) => harmless += 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error:?}");
                        refused += 1;
                    }
                }
            }
        }
    }
    eprintln!("counted: {refused} mixtures refused, {harmless} harmless");
    // A file more does no harm.
    assert!(0 < harmless && harmless < refused / 10, "{refused}, {harmless}");
}

/// A database that is written to, all of it durable, after each write; and its states.
fn moments(seed: u64) -> (Vec<Files>, Vec<State>) {
    let fs = MemoryFileSystem::new(1);
    let mut rng = Rng::new(seed);
    let (mut states, mut moments) = (vec![State::new()], Vec::new());
    let mut db = open(&env_of(&fs), &options()).unwrap();
    let look = || files::read_all(&fs, Path::new(DIR));
    moments.push(look());
    for i in 0..40 {
        let (key, value) = (format!("key {}", rng.below(9)), format!("value {i}"));
        db.put_with(&key, &value, Durability::Power).unwrap();
        let mut state = states[i].clone();
        state.apply(&[Write::put("default", key.as_bytes(), value.as_bytes())]);
        states.push(state);
        moments.push(look());
        match rng.below(8) {
            0 => db.flush().unwrap(),
            1 => db.compact::<&[u8]>(..).unwrap(),
            2 => {
                drop(db);
                db = open(&env_of(&fs), &options()).unwrap();
            }
            _ => {}
        }
    }
    (moments, states)
}

#[test]
fn files_of_two_moments_of_an_open_database_are_refused_or_one_of_the_states_between() {
    let (refused, read) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    for_each_seed("files_of_two_moments", 4, |seed| {
        let (moments, states) = moments(seed);
        let mut rng = Rng::new(seed);
        for (j, later) in moments.iter().enumerate() {
            for (i, earlier) in moments[..j].iter().enumerate() {
                let differing = differing(earlier, later);
                let mask = 1 + rng.below((1 << differing.len()) - 1) as u32;
                let mixed = mixture(earlier, later, &differing, mask);
                let what = format!("seed {seed}, {:?} from {i} and {j}", mixed.keys());
                match open(&env_of(&directory_of(&mixed)), &options())
                    .and_then(|db| Found::read(&db))
                {
                    Ok(found) => {
                        let marks = Marks { issued: j, durable: i, ..Marks::default() };
                        found.index(&states, &marks, Loss::Power, &what);
                        read.set(read.get() + 1);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error:?}");
                        refused.set(refused.get() + 1);
                    }
                }
            }
        }
    });
    eprintln!("counted: {} live mixtures refused, {} read", refused.get(), read.get());
}

//! Files of an earlier moment among those of a later one, as left by a disk that lost writes, or by
//! a copy made file by file. Every answer is an error or correct. What fails is shortened to the fewest
//! writes that lead to it, and then to the fewest files.

use std::cell::Cell;
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
use crate::shrink::{run_shrinking, run_shrinking_steps};
use crate::state::{State, Write};

type Files = BTreeMap<String, Vec<u8>>;

/// A closed database, and what it holds.
struct Closed {
    /// The number of the close.
    round: usize,
    files: Files,
    state: State,
}

/// How often the database is closed.
const ROUND_COUNT: usize = 6;

/// The same database after each of these closes, with blob files, tables that go and logs that do.
fn history(rounds: &[usize]) -> Vec<Closed> {
    let fs = MemoryFileSystem::new(1);
    let mut state = State::new();
    state.create("blobs");
    rounds
        .iter()
        .map(|&round| {
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
            let files = without_predecessors(files::read_all(&fs, Path::new(DIR)));
            Closed { round, files, state: state.clone() }
        })
        .collect()
}

/// What is read: nothing is of a manifest before the newest.
fn without_predecessors(mut files: Files) -> Files {
    files.retain(|name, _| Manifest::parse_predecessor(name).is_none());
    files
}

/// `later` with the files of these names as they were in `earlier`.
fn mixture(earlier: &Files, later: &Files, exchanged: &[&String]) -> Files {
    let mut mixed = later.clone();
    for &name in exchanged {
        match earlier.get(name) {
            Some(bytes) => mixed.insert(name.clone(), bytes.clone()),
            None => mixed.remove(name),
        };
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

/// Those of `names` that have a bit in `mask`.
fn chosen<'a>(names: &[&'a String], mask: u32) -> Vec<&'a String> {
    let chosen = names.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
    chosen.map(|(_, name)| *name).collect()
}

/// How often a mixture was refused and read.
#[derive(Default)]
struct Counts {
    refused: Cell<u64>,
    read: Cell<u64>,
}

fn count_one(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// Reads `later` with some files as they were in `earlier`.
fn check_closes(earlier: &Closed, later: &Closed, exchanged: &[&String], counts: &Counts) {
    let mixed = mixture(&earlier.files, &later.files, exchanged);
    // A disk that is as it was before, as a whole, or that never was, tells nobody.
    if mixed.is_empty() || mixed == earlier.files {
        return;
    }
    let what = format!("{exchanged:?} of close {} in close {}", earlier.round, later.round);
    let fs = directory_of(&mixed);
    match sample::read(&fs, open(&env_of(&fs), &options()), &later.state, &what) {
        Ok(()) => count_one(&counts.read),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error:?}");
            count_one(&counts.refused);
        }
    }
}

#[test]
fn files_of_an_earlier_close_are_refused_or_harmless() {
    let counts = Counts::default();
    run_shrinking_steps(ROUND_COUNT, |rounds| {
        let history = history(rounds);
        for (number, later) in history.iter().enumerate() {
            for earlier in &history[..number] {
                let differing = differing(&earlier.files, &later.files);
                for mask in 1..1_u32 << differing.len() {
                    let exchanged = chosen(&differing, mask);
                    let show = |name: &&String| format!("{name} of close {}", earlier.round);
                    run_shrinking(&exchanged, show, |exchanged| {
                        check_closes(earlier, later, exchanged, &counts);
                    });
                }
            }
        }
    });
    let (refused, harmless) = (counts.refused.get(), counts.read.get());
    eprintln!("counted: {refused} mixtures refused\ncounted: {harmless} mixtures harmless");
    // A file more does no harm.
    assert!(0 < harmless && harmless < refused / 10, "{refused}, {harmless}");
}

/// How many writes an open database gets.
const WRITE_COUNT: usize = 40;

/// What is on disk at a moment, and what was written until then.
struct Moment {
    /// The number of the write that comes next.
    number: usize,
    files: Files,
}

/// A database that is written to, all of it durable, before and after each of these writes; and its
/// states.
fn moments(seed: u64, writes: &[usize]) -> (Vec<Moment>, Vec<State>) {
    let fs = MemoryFileSystem::new(1);
    let choices = Rng::new(seed);
    let mut db = open(&env_of(&fs), &options()).unwrap();
    let look = |number| Moment { number, files: files::read_all(&fs, Path::new(DIR)) };
    let (mut state, mut moments) = (State::new(), vec![look(0)]);
    let mut states = vec![state.clone()];
    for &number in writes {
        let mut rng = choices.part(number);
        let (key, value) = (format!("key {}", rng.below(9)), format!("value {number}"));
        db.put_with(&key, &value, Durability::Power).unwrap();
        state.apply(&[Write::put("default", key.as_bytes(), value.as_bytes())]);
        states.push(state.clone());
        moments.push(look(number + 1));
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
    let test = "files_of_two_moments_of_an_open_database_are_refused_or_one_of_the_states_between";
    let counts = Counts::default();
    for_each_seed(test, 4, |seed| {
        run_shrinking_steps(WRITE_COUNT, |writes| mix_moments(seed, writes, &counts));
    });
    let (refused, read) = (counts.refused.get(), counts.read.get());
    eprintln!("counted: {refused} live mixtures refused\ncounted: {read} live mixtures read");
}

/// Of each two moments around these writes, mixes the files.
fn mix_moments(seed: u64, writes: &[usize], counts: &Counts) {
    let (moments, states) = moments(seed, writes);
    let choices = Rng::new(!seed);
    for (j, later) in moments.iter().enumerate() {
        for (i, earlier) in moments[..j].iter().enumerate() {
            let differing = differing(&earlier.files, &later.files);
            let mut rng = choices.part(later.number * (WRITE_COUNT + 1) + earlier.number);
            let mask = 1 + rng.below((1 << differing.len()) - 1) as u32;
            let show = |name: &&String| format!("{name} as before write {}", earlier.number);
            run_shrinking(&chosen(&differing, mask), show, |exchanged| {
                let numbers = (earlier.number, later.number);
                let what = format!("seed {seed}, {exchanged:?} of {numbers:?}");
                let mixed = mixture(&earlier.files, &later.files, exchanged);
                match open(&env_of(&directory_of(&mixed)), &options())
                    .and_then(|db| Found::read(&db))
                {
                    Ok(found) => {
                        let marks = Marks { issued: j, durable: i, ..Marks::default() };
                        found.index(&states, &marks, Loss::Power, &what);
                        count_one(&counts.read);
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corruption, "{what}: {error:?}");
                        count_one(&counts.refused);
                    }
                }
            });
        }
    }
}

//! Calls that change which keyspaces there are, or their options, beside a close: each is done, or refused
//! with nothing done, and the next open shows which.

use std::sync::{Arc, Mutex};

use esker::env::Operation;
use esker::{Db, ErrorKind, Event, Keyspace, KeyspaceOptions, Options, Outcome, Result};
use esker_base::baton::{self, Policy, Settings};

use super::gate::{Gate, rest};
use super::world::{self, World};
use crate::random::for_each_seed;
use crate::recovered::DIR;

const BLOCK_BYTES: u32 = 512;

#[derive(Clone, Copy, Debug)]
enum Call {
    Create,
    Choose,
    Rename,
    Drop,
}

impl Call {
    const ALL: [Self; 4] = [Self::Create, Self::Choose, Self::Rename, Self::Drop];

    fn make(self, db: &Db, keyspace: &Keyspace) -> Result<()> {
        let options =
            KeyspaceOptions { block_size_bytes: BLOCK_BYTES, ..KeyspaceOptions::default() };
        match self {
            Self::Create => db.keyspace("other", options).map(drop),
            Self::Choose => db.keyspace("k", options).map(drop),
            Self::Rename => db.rename_keyspace(keyspace, "other"),
            Self::Drop => db.drop_keyspace(keyspace),
        }
    }

    fn is_done(self, db: &Db) -> bool {
        let named = |name| db.existing_keyspace(name).unwrap();
        match self {
            Self::Create | Self::Rename => named("other").is_some(),
            Self::Choose => named("k").unwrap().options().block_size_bytes == BLOCK_BYTES,
            Self::Drop => named("k").is_none(),
        }
    }
}

fn open(world: &World) -> Db {
    let options = Options { background_threads: 1, ..Options::default() };
    Db::builder(DIR).env(world.env.clone()).options(options).open().unwrap()
}

/// The call and the close both wait until a write has ended; who goes first, and how far, is up to the seed.
fn call_beside_a_close(world: &World, call: Call) {
    let db = open(world);
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    // The log is there, and nobody makes anything of it any more.
    db.put("key", "first").unwrap();
    rest();
    let gate = Gate::before(world, Operation::Write, "log");
    let of_writer = db.clone();
    let write = move || of_writer.put("key", "value").unwrap();
    let writer = baton::spawn("writes", Box::new(write));
    gate.wait();
    let result: Arc<Mutex<Option<Result<()>>>> = Arc::default();
    let (of_caller, answer) = (db.clone(), Arc::clone(&result));
    let make = move || {
        let result = call.make(&of_caller, &keyspace);
        *answer.lock().unwrap() = Some(result);
    };
    let caller = baton::spawn("calls", Box::new(make));
    rest();
    gate.open();
    db.clone().close().unwrap();
    [writer, caller].into_iter().for_each(baton::Thread::join);
    let result = result.lock().unwrap().take().expect("the call has returned");
    if let Err(error) = &result {
        let told = (error.kind(), error.outcome());
        assert_eq!(told, (ErrorKind::Closed, Outcome::NotDone), "{call:?}: {error:?}");
    }
    let events = db.events();
    assert!(!events.iter().any(|(_, event)| matches!(event, Event::Poisoned { .. })), "{call:?}");
    drop(db);
    world.faults.observe(|_| ());
    assert_eq!(call.is_done(&open(world)), result.is_ok(), "{call:?}: {result:?}");
}

/// Whether the database was closed was only asked before the wait. Behind the close, a drop found that nobody
/// could say what the manifest had, and poisoned the database; so did a rename, without that.
#[test]
fn a_call_beside_a_close_is_done_or_is_not() {
    for_each_seed("a_call_beside_a_close_is_done_or_is_not", 20, |seed| {
        for call in Call::ALL {
            let settings = Settings::new(seed, Policy::Priorities { falls: 1, among: 1000 });
            world::run_test(settings, move |world| call_beside_a_close(world, call));
        }
    });
}

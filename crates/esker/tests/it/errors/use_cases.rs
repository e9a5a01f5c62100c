//! Calls that are refused by a database that works.

use esker::{Db, Error, IngestOptions, KeyspaceOptions, Order, Outcome, limits};

use crate::recovered::{DIR, env_of, open, options};
use crate::sample;

/// The error of the case `name`; it took nothing with it.
pub(super) fn error(name: &str) -> Error {
    let (fs, _) = sample::in_memory();
    let db = open(&env_of(&fs), &options()).unwrap();
    let users = db.existing_keyspace("users").unwrap().expect("the sample has it");
    let long = vec![b'k'; limits::KEY_LEN_MAX + 1];
    let create = |name: &str, options| db.keyspace(name, options).unwrap_err();
    let error = match name {
        "put with too long a key" => db.put(&long, "value").unwrap_err(),
        "get with too long a key" => db.get(&long).unwrap_err(),
        "batch with too long a key" => {
            let mut batch = db.batch();
            batch.put(&users, "in the batch", "value");
            batch.put(&users, &long, "value");
            let error = batch.commit().unwrap_err();
            assert!(!users.contains("in the batch").unwrap());
            error
        }
        "put into a dropped keyspace" => {
            db.drop_keyspace(&users).unwrap();
            users.put("key", "value").unwrap_err()
        }
        "delete of no keys from a dropped keyspace" => {
            db.drop_keyspace(&users).unwrap();
            users.delete_range("key".."key").unwrap_err()
        }
        "scan of a dropped keyspace" => {
            db.drop_keyspace(&users).unwrap();
            users.iter().next().expect("it says so").unwrap_err()
        }
        "drop of the default keyspace" => db.drop_keyspace(db.default_keyspace()).unwrap_err(),
        "rename of the default keyspace" => {
            db.rename_keyspace(db.default_keyspace(), "other").unwrap_err()
        }
        "rename to a name that is taken" => db.rename_keyspace(&users, "default").unwrap_err(),
        "keyspace without a name" => create("", KeyspaceOptions::default()),
        "keyspace with a long name" => {
            create(&"n".repeat(limits::KEYSPACE_NAME_LEN_MAX + 1), KeyspaceOptions::default())
        }
        "blocks that are too small" => {
            create("new", KeyspaceOptions { block_size_bytes: 10, ..KeyspaceOptions::default() })
        }
        "memtable of no bytes" => {
            create("new", KeyspaceOptions { memtable_bytes: 0, ..KeyspaceOptions::default() })
        }
        "keyspace in another order" => {
            let order = Order::reverse_bytewise();
            create("users", KeyspaceOptions { order, ..KeyspaceOptions::default() })
        }
        "order of a name that is taken" => create("new", in_order_of("bytewise")),
        "order without a name" => create("new", in_order_of("")),
        "put with a key that its order makes too long" => {
            let options = KeyspaceOptions::default();
            let order = Order::reverse_bytewise();
            let reverse = db.keyspace("reverse", KeyspaceOptions { order, ..options }).unwrap();
            reverse.put([0; limits::KEY_LEN_MAX / 2], "fits").unwrap();
            reverse.put([0; limits::KEY_LEN_MAX / 2 + 1], "value").unwrap_err()
        }
        "get where the order is not known" => {
            db.keyspace("ordered", in_order_of("mine")).unwrap().put("key", "value").unwrap();
            db.close().unwrap();
            let db = open(&env_of(&fs), &options()).unwrap();
            db.existing_keyspace("ordered").unwrap().expect("it is there").get("key").unwrap_err()
        }
        name if name.ends_with("of another database") => error_beside_another(name, &db),
        name => return error_at_the_end(name, db),
    };
    assert_eq!(error.outcome(), Outcome::NotDone);
    error
}

/// The error of a case in which a keyspace of another database has the id of `users`.
fn error_beside_another(name: &str, db: &Db) -> Error {
    let other = Db::in_memory().unwrap();
    let foreign = other.keyspace("foreign", KeyspaceOptions::default()).unwrap();
    foreign.put("key", "value").unwrap();
    let keyspaces = db.keyspaces();
    let error = match name {
        "batch with a keyspace of another database" => {
            let mut batch = db.batch();
            batch.put(&foreign, "key", "value");
            batch.commit().unwrap_err()
        }
        "drop of a keyspace of another database" => db.drop_keyspace(&foreign).unwrap_err(),
        "rename of a keyspace of another database" => {
            db.rename_keyspace(&foreign, "new").unwrap_err()
        }
        "load into a keyspace of another database" => db.bulk_loader(&foreign).unwrap_err(),
        "ingest into a keyspace of another database" => {
            db.ingest::<&str>(&foreign, &[], IngestOptions::default()).unwrap_err()
        }
        "reads by a snapshot in a keyspace of another database" => {
            let view = db.snapshot().keyspace(&foreign);
            let errors = [
                view.get("key").unwrap_err(),
                view.get_with("key", |_| ()).unwrap_err(),
                view.multi_get(&["key"]).unwrap_err(),
                view.contains("key").unwrap_err(),
                view.scan::<&str>(..).next().expect("it says so").unwrap_err(),
                view.prefix("k").next_back().expect("it says so").unwrap_err(),
                view.cursor().unwrap_err(),
            ];
            let [first, rest @ ..] = errors;
            assert!(rest.iter().all(|error| error.to_string() == first.to_string()));
            first
        }
        name => panic!("no such case: {name}"),
    };
    assert_eq!(db.keyspaces(), keyspaces);
    assert_eq!(foreign.get("key").unwrap().unwrap(), "value");
    error
}

fn in_order_of(name: &'static str) -> KeyspaceOptions {
    let order = Order::new(crate::orders::Shortlex { name });
    KeyspaceOptions { order, ..KeyspaceOptions::default() }
}

/// The error of a case in which the database is closed, or open for reading only.
fn error_at_the_end(name: &str, db: Db) -> Error {
    let handle = db.clone();
    db.close().unwrap();
    let read_only = || {
        let (fs, _) = sample::in_memory();
        Db::builder(DIR).env(env_of(&fs)).read_only(true).open().unwrap()
    };
    match name {
        "put after close" => handle.put("key", "value").unwrap_err(),
        "get after close" => handle.get("key").unwrap_err(),
        "close after close" => handle.close().unwrap_err(),
        "put for reading only" => read_only().put("key", "value").unwrap_err(),
        "new keyspace for reading only" => {
            read_only().keyspace("new", KeyspaceOptions::default()).unwrap_err()
        }
        name => panic!("no such case: {name}"),
    }
}

//! Bytes as operations on a database, beside a sorted map.

use std::collections::BTreeMap;

use esker::Db;
use esker::env::{CrashPolicy, MemoryFileSystem};

use super::sample::{env_of, open};

/// Three bytes an operation: what, a key, and a number.
pub(super) fn run(bytes: &[u8]) {
    let mut fs = MemoryFileSystem::new(1);
    let mut db = open(env_of(&fs)).expect("memory");
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    // Every state since the last one that is durable for sure.
    let mut states = vec![model.clone()];
    for operation in bytes.as_chunks::<3>().0.iter().take(200) {
        let [what, key, number] = *operation;
        let key = vec![b'k'; 1 + usize::from(key % 4)].into_iter().chain([key / 16]);
        let key: Vec<u8> = key.collect();
        match what % 16 {
            0..=5 => {
                let value = vec![number; usize::from(number) * 8];
                db.put(&key, &value).expect("memory");
                model.insert(key, value);
            }
            6 | 7 => {
                db.delete(&key).expect("memory");
                model.remove(&key);
            }
            8 => db.flush().expect("memory"),
            9 => db.compact::<&[u8]>(..).expect("memory"),
            10 => drop(db.run_background_job()),
            11 => {
                db.sync().expect("memory");
                states.clear();
            }
            12 => {
                db.close().expect("memory");
                db = open(env_of(&fs)).expect("a closed database opens");
                states.clear();
            }
            13 => {
                fs = fs.crash(CrashPolicy::AllLost, u64::from(number));
                drop(db);
                db = open(env_of(&fs)).expect("a crashed database opens");
                model = contents(&db);
                assert!(states.contains(&model), "what a crash left was never there");
                states.clear();
            }
            14 => assert!(contents(&db) == model, "a scan differs"),
            _ => {
                let found = db.get(&key).expect("memory");
                assert!(found.as_deref() == model.get(&key).map(Vec::as_slice), "a get differs");
            }
        }
        if states.last() != Some(&model) {
            states.push(model.clone());
        }
    }
    assert!(contents(&db) == model, "the last scan differs");
    let back = db.iter().rev().map(|entry| entry.expect("memory").0.to_vec());
    let back: Vec<Vec<u8>> = back.collect();
    assert!(back.iter().rev().eq(model.keys()), "backwards differs");
}

fn contents(db: &Db) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entries = db.iter().map(|entry| entry.expect("memory"));
    entries.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let all = (0..60_u8).flat_map(|n| [n % 16, n.wrapping_mul(37), n.wrapping_mul(11)]).collect();
    vec![all, vec![0, 1, 2, 8, 0, 0, 13, 0, 0, 15, 1, 0], vec![0, 1, 200, 11, 0, 0, 12, 0, 0]]
}

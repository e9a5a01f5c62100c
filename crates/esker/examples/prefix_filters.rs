//! What prefix filters save: scans of one prefix over a tree of several runs, with and without them, of
//! prefixes that no run has, one has, and all have; and what ordinary seeks and gets cost beside that.
//!
//! `cargo run --release -p esker --example prefix_filters`

use std::io::Write as _;

use esker::env::{Clock as _, Env, SystemClock};
use esker::{CompactionPolicy, Db, KeyspaceOptions, Options, PrefixRule, Result};

const RUNS: u64 = 8;
const USERS: u64 = 40_000;
const ITEMS: u64 = 5;
const LOOKS: u64 = 40_000;
const ROUNDS: usize = 5;

/// The number of the user that is looked for.
type UserOfLook = fn(u64) -> u64;

fn main() -> Result<()> {
    let mut out = std::io::stdout();
    let mut say = |line: String| writeln!(out, "{line}").expect("standard output takes a line");
    let kinds: [(&str, UserOfLook); 3] = [
        ("in no run", |user| user * 3 + 2),
        ("in one run", |user| user * 3),
        ("in all runs", |user| user * 3 + 1),
    ];
    let rules = [None, Some(PrefixRule::First(12)), Some(PrefixRule::Through(b'/'))];
    let databases: Vec<Db> = rules.into_iter().map(fill).collect::<Result<_>>()?;
    for (rule, db) in rules.iter().zip(&databases) {
        let name = rule.map_or("none".to_owned(), |rule| rule.to_string());
        let bytes = db.stats().keyspaces[0].table_bytes;
        say(format!("prefix filter {name}: {RUNS} runs, {bytes} bytes of tables"));
    }
    let clock = SystemClock::default();
    // Interleaved, the best of some rounds: other work on the machine counts least so.
    let measure = |what: &dyn Fn(&Db, u64) -> Result<usize>| -> Result<Vec<u64>> {
        let mut best = vec![u64::MAX; databases.len()];
        for _ in 0..ROUNDS {
            for (db, best) in databases.iter().zip(&mut best) {
                let start = clock.now();
                let mut found = 0;
                for look in 0..LOOKS {
                    found += what(db, look * 0x9e37_79b1 % USERS)?;
                }
                std::hint::black_box(found);
                let time = (clock.now() - start).as_nanos() as u64;
                *best = (*best).min(time / LOOKS);
            }
        }
        Ok(best)
    };
    say(format!("{:<34} ns each: none, first:12, through:2f", ""));
    for (kind, user) in kinds {
        let forward = |db: &Db, look: u64| Ok(db.prefix(head(user(look))).count());
        say(format!("{:<34} {:?}", format!("scans of prefixes {kind}"), measure(&forward)?));
        let back = |db: &Db, look: u64| Ok(db.prefix(head(user(look))).rev().count());
        say(format!("{:<34} {:?}", "  backwards", measure(&back)?));
    }
    let seek = |db: &Db, look: u64| -> Result<usize> {
        let mut cursor = db.cursor()?;
        cursor.seek(head(look * 3))?;
        Ok(usize::from(cursor.is_valid()))
    };
    say(format!("{:<34} {:?}", "seeks of cursors over all keys", measure(&seek)?));
    let get = |db: &Db, look: u64| Ok(usize::from(db.get(key(look * 3, 1))?.is_some()));
    say(format!("{:<34} {:?}", "gets of keys in one run", measure(&get)?));
    Ok(())
}

fn head(user: u64) -> String {
    format!("user{user:07}/")
}

fn key(user: u64, item: u64) -> String {
    format!("{}{item:04}", head(user))
}

/// Of three users in a row, the first is in one run, the second in all, and the third in none.
fn fill(prefix_filter: Option<PrefixRule>) -> Result<Db> {
    let options =
        Options { background_threads: 0, memory_budget_bytes: 2 << 30, ..Options::default() };
    let compaction = CompactionPolicy::None;
    let keyspace = KeyspaceOptions { compaction, prefix_filter, ..KeyspaceOptions::default() };
    let db =
        Db::builder("db").env(Env::memory(0)).options(options).default_keyspace(keyspace).open()?;
    for run in 0..RUNS {
        for user in 0..USERS {
            let own = (user % RUNS == run).then_some(user * 3);
            for user in own.into_iter().chain([user * 3 + 1]) {
                for item in 0..ITEMS {
                    db.put(key(user, item), [b'v'; 60])?;
                }
            }
        }
        db.flush()?;
    }
    Ok(db)
}

//! What holds of a database at every moment, and what holds once it rests.
//!
//! Memtables stay within the budget, and no more of them wait than the options say; when nobody writes any
//! more, the log becomes durable by itself, whatever was asked for, and no file stays that nothing needs.

use std::time::Duration;

use esker::{Db, Durability, KeyspaceOptions, StallCause};
use esker_base::baton;

use super::client::Client;
use super::coverage;
use super::script::Op;
use super::world::World;
use crate::state::Write;

/// The least that memtables of all keyspaces may take together.
const MEMTABLE_BYTES_MIN: u64 = 512 << 10;

/// What four writers that came at the same time may add to what memtables may take: each a batch, and a
/// chunk of a memtable.
const BEYOND_BYTES: u64 = 4 * (256 << 10);

/// Memtables of a keyspace beside those that may wait: the one that takes writes, one that a flush by
/// hand has switched, and one of each client that did so, too.
const MEMTABLES_BEYOND: usize = 6;

/// How long a database is left alone.
const REST: Duration = Duration::from_secs(10);

/// The most memtables of one keyspace that an open has made of the log, which goes by no bound.
pub(super) fn memtables_of(db: &Db) -> usize {
    db.stats().keyspaces.iter().map(|keyspace| keyspace.memtable_count).max().unwrap_or_default()
}

/// Looks at what memtables take, beside whoever writes; after its open, keyspaces had up to `opened_with`.
pub(super) fn assert_bounded(db: &Db, opened_with: usize) {
    let stats = db.stats();
    let of_memtables = |(owner, bytes): &(&str, u64)| (*owner == "memtables").then_some(*bytes);
    let bytes = stats.memory.iter().find_map(of_memtables).unwrap_or_default();
    let most = db.options().memory_budget_bytes.max(MEMTABLE_BYTES_MIN);
    assert!(bytes <= most + BEYOND_BYTES, "memtables take {bytes} bytes of {most}");
    for keyspace in &stats.keyspaces {
        let (name, count) = (&keyspace.name, keyspace.memtable_count);
        let own = db.existing_keyspace(name).ok().flatten();
        let Some(own) = own else { continue };
        let waiting_max = own.options().immutable_memtables_max.max(3).max(opened_with);
        assert!(count <= waiting_max + MEMTABLES_BEYOND, "{name} has {count} memtables");
    }
    let health = db.health();
    let is_short = |cause| cause == StallCause::MemoryBudget;
    let is_short = health.stalls.iter().any(|stall| is_short(stall.info.cause));
    coverage::add("looks beside writers that memory held back", u64::from(is_short));
}

/// Leaves the database alone for a while, writes something that nobody wants to be durable, and leaves it
/// alone again: `times` as long, where its work takes long. What was acknowledged is durable then; a crash is
/// tried. Does nothing more where there is always work.
pub(super) fn let_it_rest(world: &World, home: usize, writer: &mut Client, times: u32) {
    let rest = || {
        // Time that passes beside work is no rest.
        let until = baton::idle() + REST * times;
        (0..20).any(|_| {
            world.env.clock.sleep(REST * times);
            until <= baton::idle()
        })
    };
    // Whatever was written before is no reason any more to look at the log.
    rest();
    let write = Write::put("default", b"before the rest", b"value");
    writer.run(vec![Op::Write(vec![write], Durability::Buffered)]);
    if !rest() {
        return;
    }
    for part in world.parts(home) {
        if world.part(part).is_logged {
            let acknowledged = world.history(part).acknowledged();
            world.history(part).promise(&acknowledged);
        }
    }
    world.take_moment("nothing, as nobody does anything");
    coverage::add("databases at rest", 1);
}

/// Nothing but a keyspace that is dropped then needs the log: it goes.
pub(super) fn assert_log_goes(db: &Db) {
    for name in db.keyspaces() {
        if let Some(keyspace) = db.existing_keyspace(&name).unwrap() {
            keyspace.flush().unwrap();
        }
    }
    let keyspace = db.keyspace("of the log", KeyspaceOptions::default()).unwrap();
    for number in 0..10_u8 {
        keyspace.put([number], [number; 30_000]).unwrap();
    }
    let before = db.stats().log_segment_count;
    db.drop_keyspace(&keyspace).unwrap();
    let after = db.stats().log_segment_count;
    assert!(after <= 1, "{after} of {before} log segments are kept for nothing");
    coverage::add("logs that were let go", u64::from(1 < before));
}

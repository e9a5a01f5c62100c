//! What a simulation consists of: who does what, in which generation.

use std::ops::{Bound, Range};
use std::time::Duration;

use esker::{Durability, KeyspaceOptions};

use super::clock::clock_error;
use super::filtering::FILTERED;
use super::history::{ORDER_KEY, TOGGLED};
use super::plan::{PANIC_COUNT, Plan, RULE_COUNT, SHARED, UNLOGGED, without_upkeep};
use super::strangers::Stranger;
use super::temporary::Temporary;
use crate::model::choices;
use crate::outside;
use crate::random::Rng;
use crate::state::{Bounds, Bytes, State, Write};

/// Values that expire so long after they were written, in milliseconds.
pub(super) const SHORT_MILLIS: Range<u64> = 2..20_000;

/// Later than any clock of a run.
const FAR_MILLIS: u64 = 1 << 50;

/// What a client does.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A batch.
    Write(Vec<Write>, Durability),
    /// A batch to the keyspace without a log.
    WriteUnlogged(Vec<Write>, Durability),
    /// Writes tables somewhere else, and ingests them.
    Ingest(Vec<Write>, Ingest),
    /// Loads them in bulk, or gives up in the end.
    BulkLoad(Vec<Write>, bool),
    /// Reads a key of a keyspace as of now.
    Get(&'static str, Vec<u8>),
    /// Reads several keys of a keyspace, as of one moment.
    MultiGet(&'static str, Vec<Vec<u8>>),
    /// Reads a range both ways, in a snapshot.
    Scan(&'static str, Bounds),
    /// Reads everything in every way, in a snapshot.
    ReadAll,
    /// Opens a cursor on a snapshot, perhaps at some key, to be looked at later.
    Hold(&'static str, Option<Vec<u8>>),
    /// Reads all of the cursor that was opened first.
    Release,
    /// Takes a snapshot and reads everything in it, to be read again later.
    Keep,
    /// Reads again everything in the snapshot that was kept first, and may drop it.
    LookAgain(bool),
    Flush(&'static str),
    Compact(&'static str, Bounds),
    /// Begins a compaction, and cancels it, or leaves it to be steered later.
    StartCompaction(&'static str, Bounds, bool),
    Steer(Steer),
    /// Makes a keyspace, fills it, drops it, and reads it on by a cursor from before.
    Temporary(Temporary),
    /// Makes a keyspace in which what is old goes, and sees what stays.
    Age(Loading),
    /// Makes a keyspace, deletes what is in it, and sees that no file has it after the deadline.
    Forget(Loading),
    /// Somebody comes who must be refused.
    Intrude(Stranger),
    /// Gives a keyspace other options.
    Choose(&'static str, Box<KeyspaceOptions>),
    /// Waits until nothing is due any more, whatever others do.
    Settle,
    /// Lets no compaction begin for so long.
    Pause(Duration),
    Sync,
    Sleep(Duration),
    /// Sets the wall clock back.
    SetBack(Duration),
    /// Does nothing for long, and has a crash tried at the end of it.
    Rest,
    /// One more way for the files to go wrong, by its number.
    Spoil(usize, u64),
    /// Nothing goes wrong any more.
    Heal,
    Close,
}

/// How tables are ingested.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingest {
    pub(super) file_count: usize,
    pub(super) moves: bool,
    pub(super) verifies: bool,
    /// Whether somebody else keeps a name of each table.
    pub(super) keeps_names: bool,
}

/// How entries come into a keyspace.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loading {
    /// By writes, and a flush.
    Writes,
    /// In a table from outside.
    Ingest,
    /// By a bulk load, where it can be done.
    Bulk,
}

impl Loading {
    pub(super) const ALL: [Self; 3] = [Self::Writes, Self::Ingest, Self::Bulk];
}

/// What becomes of the compaction that was begun first, or of the last one if it is cancelled.
#[derive(Clone, Copy, Debug)]
pub(super) enum Steer {
    Wait,
    Cancel,
    /// Stands still for so long.
    Pause(Duration),
    /// Nobody looks at it again.
    Leave,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) generation: u32,
    pub(super) client: u32,
    pub(super) op: Op,
}

fn keys_of(writes: &[Write]) -> String {
    let keys = writes.iter().map(|write| match &write.range {
        Some(range) => format!("{} {range:?}", write.keyspace),
        None => format!("{} {}", write.keyspace, write.key.escape_ascii()),
    });
    keys.collect::<Vec<_>>().join(", ")
}

impl Op {
    /// Whether it waits for no compaction, whoever else does one.
    pub(super) const fn is_prompt(&self) -> bool {
        matches!(
            self,
            Self::Get(..)
                | Self::MultiGet(..)
                | Self::Scan(..)
                | Self::ReadAll
                | Self::Hold(..)
                | Self::Release
                | Self::Keep
                | Self::LookAgain(_)
                | Self::Flush(_)
                | Self::Choose(..)
                | Self::Intrude(_)
                | Self::Sync
        )
    }
}

impl Act {
    /// The act in a line: what it writes is too long.
    pub(super) fn name(&self) -> String {
        let op = match &self.op {
            Op::Write(writes, durability) => format!("Write {durability:?}: {}", keys_of(writes)),
            Op::WriteUnlogged(writes, durability) => {
                format!("WriteUnlogged {durability:?}: {}", keys_of(writes))
            }
            Op::Ingest(writes, how) => format!("{how:?}: {}", keys_of(writes)),
            Op::BulkLoad(writes, ends) => format!("BulkLoad {ends}: {}", keys_of(writes)),
            op => format!("{op:?}"),
        };
        format!("generation {}, client {}: {op}", self.generation, self.client)
    }
}

/// The acts of all generations.
pub(super) fn script(plan: &Plan, seed: u64) -> Vec<Act> {
    let mut rng = Rng::new(seed ^ 0xac7);
    let mut acts = Vec::new();
    for generation in 0..plan.generation_count {
        for _ in 0..plan.act_count {
            let client = rng.below(u64::from(plan.client_count)) as u32;
            acts.push(Act { generation, client, op: op(plan, client, &mut rng) });
        }
    }
    acts
}

fn op(plan: &Plan, client: u32, rng: &mut Rng) -> Op {
    let is_unlogged = plan.has_unlogged && rng.one_in(5);
    let name = if is_unlogged { UNLOGGED } else { *rng.pick(&SHARED) };
    if rng.one_in(plan.closes_one_in) {
        return Op::Close;
    }
    if plan.has_faults && rng.one_in(12) {
        let panics = rng.one_in(4).then(|| RULE_COUNT + rng.index(PANIC_COUNT));
        let kind = panics.unwrap_or_else(|| rng.index(RULE_COUNT));
        return if rng.one_in(3) { Op::Heal } else { Op::Spoil(kind, rng.next()) };
    }
    if plan.sets_clock_back() && rng.one_in(8) {
        let ages = plan.has_time() && rng.one_in(3);
        return if ages { age(rng) } else { Op::SetBack(clock_error(rng)) };
    }
    match rng.below(107) {
        0..=34 => {
            let durability = [Durability::Buffered, Durability::Process, Durability::Power];
            let durability = if plan.is_buffered { &durability[..1] } else { &durability };
            let durability = *rng.pick(durability);
            if is_unlogged {
                return Op::WriteUnlogged(unlogged_writes(plan, rng), durability);
            }
            Op::Write(writes(plan, client, rng), durability)
        }
        35..=37 => {
            let (file_count, moves, verifies) = (1 + rng.index(3), rng.one_in(2), rng.one_in(2));
            let writes = outside::sorted_writes(rng, plan.loaded, plan.turn_of(plan.loaded));
            let keeps_names = rng.one_in(2);
            Op::Ingest(writes, Ingest { file_count, moves, verifies, keeps_names })
        }
        38..=39 => {
            let one = |rng: &mut Rng| Write::put(plan.loaded, &rng.key(), &rng.value());
            let writes = (0..rng.below(60)).map(|_| one(rng)).collect();
            Op::BulkLoad(writes, !rng.one_in(4))
        }
        40..=46 => Op::Get(name, some_key(rng)),
        47..=52 => Op::Scan(name, rng.bounds()),
        53..=55 => Op::ReadAll,
        56..=57 => Op::MultiGet(name, (0..rng.below(20)).map(|_| some_key(rng)).collect()),
        58..=62 => Op::Hold(name, rng.one_in(2).then(|| rng.key())),
        63..=66 => Op::Release,
        67 => Op::Keep,
        68..=69 => Op::LookAgain(rng.one_in(2)),
        70..=76 => Op::Flush(name),
        77..=80 => Op::Compact(name, rng.bounds()),
        81..=84 => Op::StartCompaction(name, range_to_compact(rng), rng.one_in(4)),
        85..=88 => Op::Steer(match rng.below(4) {
            0 => Steer::Wait,
            1 => Steer::Cancel,
            2 => Steer::Pause(Duration::from_millis(rng.below(2000))),
            _ => Steer::Leave,
        }),
        89..=90 if !plan.is_buffered => Op::Temporary(temporary(rng)),
        91 | 106 if plan.has_time() => age(rng),
        92 if plan.is_slow => Op::Rest,
        92 => match rng.below(3000) {
            0..1000 => Op::Settle,
            millis => Op::Pause(Duration::from_millis(millis)),
        },
        93..=95 if !plan.is_buffered => Op::Sync,
        96..=99 => {
            let options = choices::keyspace_options(rng);
            let is_late = plan.is_tight || plan.is_slow;
            let options = if is_late { without_upkeep(options) } else { options };
            Op::Choose(name, Box::new(options))
        }
        // Once it is closed, nobody is refused.
        100..=101 if !plan.closes() => Op::Intrude(*rng.pick(&Stranger::ALL)),
        _ => Op::Sleep(Duration::from_millis(rng.below(4000))),
    }
}

fn age(rng: &mut Rng) -> Op {
    let way = *rng.pick(&Loading::ALL);
    if rng.one_in(2) { Op::Age(way) } else { Op::Forget(way) }
}

fn temporary(rng: &mut Rng) -> Temporary {
    Temporary {
        memtable_bytes: *rng.pick(&[1, 64 << 20]),
        value_bytes: *rng.pick(&[5, 500, 30_000]),
        keeps_values_apart: rng.one_in(2),
        flushes: rng.one_in(2),
        is_renamed: rng.one_in(3),
        comes_again: rng.one_in(3),
    }
}

fn range_to_compact(rng: &mut Rng) -> Bounds {
    if rng.one_in(2) { (Bound::Unbounded, Bound::Unbounded) } else { rng.bounds() }
}

fn some_key(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(8) { filtered_key(rng) } else { rng.key() }
}

fn filtered_key(rng: &mut Rng) -> Vec<u8> {
    [FILTERED, &[b'0' + rng.below(8) as u8]].concat()
}

/// A batch: mostly small, now and then one that fills a memtable, or a good part of a log segment.
fn writes(plan: &Plan, client: u32, rng: &mut Rng) -> Vec<Write> {
    if rng.one_in(if plan.is_tight { 2 } else { 10 }) {
        let one = |rng: &mut Rng| {
            let name = *rng.pick(&SHARED);
            Write::put(name, &rng.key(), &rng.bytes(20_000))
        };
        let count = if plan.is_tight { 8 } else { 2 };
        return (0..count).map(|_| one(rng)).collect();
    }
    let count = if rng.one_in(10) { 60 } else { 1 + rng.below(4) };
    (0..count).map(|_| one_write(plan, client, rng)).collect()
}

/// A batch to the keyspace without a log.
fn unlogged_writes(plan: &Plan, rng: &mut Rng) -> Vec<Write> {
    let one = |rng: &mut Rng| {
        let (key, value) = (rng.key(), rng.value());
        match rng.below(9) {
            0 | 1 => Write::delete(UNLOGGED, &key),
            2 => Write::merge(UNLOGGED, &key, &value),
            3 => Write::put_until(UNLOGGED, &key, &value, expiry(rng)),
            4 => range_delete(plan, UNLOGGED, rng),
            _ => Write::put(UNLOGGED, &key, &value),
        }
    };
    (0..=rng.below(6)).map(|_| one(rng)).collect()
}

fn one_write(plan: &Plan, client: u32, rng: &mut Rng) -> Write {
    let name = *rng.pick(&SHARED);
    if rng.one_in(16) {
        return range_delete(plan, name, rng);
    }
    if plan.has_filter && rng.one_in(6) {
        let (key, sign) = (filtered_key(rng), *rng.pick(&["-", "+", "="]));
        return match rng.one_in(6) {
            true => Write::delete(name, &key),
            // Now and then so large that a compaction looks up in between.
            false => {
                let padding = vec![b'p'; if rng.one_in(2) { 5000 } else { 0 }];
                Write::put(name, &key, &[sign.as_bytes(), b"v", &rng.value(), &padding].concat())
            }
        };
    }
    let (key, value) = (rng.key(), rng.value());
    match rng.below(9) {
        0 | 1 => Write::delete(name, &key),
        2 => Write::merge(name, &key, &value),
        3 => Write::put_until(name, &key, &value, expiry(rng)),
        // Of the client alone, which knows whether it has put it.
        4 => {
            let own = format!("{client}.{}", rng.below(4));
            Write::toggle(name, &[TOGGLED, own.as_bytes()].concat(), &value)
        }
        _ => Write::put(name, &key, &value),
    }
}

/// Mostly soon; never before a time, which no clock of a run shows, and for ever.
fn expiry(rng: &mut Rng) -> u64 {
    if rng.one_in(4) {
        return rng.expiry(FAR_MILLIS);
    }
    let length = SHORT_MILLIS.end - SHORT_MILLIS.start;
    SHORT_MILLIS.start + rng.below(length) / *rng.pick(&[1, 1, 10])
}

/// A delete of a range, but for the key that tells which events there are.
fn range_delete(plan: &Plan, name: &str, rng: &mut Rng) -> Write {
    let mut state = State::new();
    let key: Bytes = ORDER_KEY.into();
    state.apply(&[Write::put("default", &key, b"")]);
    state.turn("default", plan.turn_of(name));
    loop {
        let write = Write::delete_range(name, rng.range_to_delete(), plan.turn_of(name));
        let range = write.range.as_ref().expect("it is one of a range");
        if state.between("default", range).is_empty() {
            return write;
        }
    }
}

//! What a simulation consists of: who does what, under which options, and in which order threads run.

use std::time::Duration;

use esker::env::{Fault, Operation, Rule, When};
use esker::{Durability, KeyspaceOptions, Options, Order};
use esker_base::baton::Policy;

use crate::model::choices;
use crate::random::Rng;
use crate::state::{Bounds, State, Write};

/// Keyspaces that all clients write to.
pub(super) const SHARED: [&str; 3] = ["default", "a", "b"];

/// The keyspace of the key that every batch appends its name to.
pub(super) const ORDER: &str = "order";

/// Later than any clock of a run.
const FAR_MILLIS: u64 = 1 << 50;

/// What a client does.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// A batch.
    Write(Vec<Write>, Durability),
    /// Reads a key of a keyspace as of now.
    Get(&'static str, Vec<u8>),
    /// Reads a range both ways, in a snapshot.
    Scan(&'static str, Bounds),
    /// Reads everything in every way, in a snapshot.
    ReadAll,
    /// Opens a cursor on a snapshot, to be looked at later.
    Hold(&'static str),
    /// Reads all of the cursor that was opened first.
    Release,
    Flush(&'static str),
    Compact(&'static str),
    /// Begins one, then waits for it (0), cancels it (1), or leaves it (2).
    StartCompaction(&'static str, u64),
    /// Makes a keyspace, fills it, drops it, and reads it on by a cursor from before.
    Temporary,
    /// Lets no compaction begin for so long.
    Pause(Duration),
    Sync,
    Sleep(Duration),
    /// One more way for the files to go wrong, by its number.
    Spoil(usize, u64),
    /// Nothing goes wrong any more.
    Heal,
    Close,
}

/// One operation of one client.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) generation: u32,
    pub(super) client: u32,
    pub(super) op: Op,
}

impl Act {
    /// The act in a line: what it writes is too long.
    pub(super) fn name(&self) -> String {
        let op = match &self.op {
            Op::Write(writes, durability) => {
                let keys = writes.iter().map(|write| match &write.range {
                    Some(range) => format!("{} {range:?}", write.keyspace),
                    None => format!("{} {}", write.keyspace, write.key.escape_ascii()),
                });
                format!("Write {durability:?}: {}", keys.collect::<Vec<_>>().join(", "))
            }
            op => format!("{op:?}"),
        };
        format!("generation {}, client {}: {op}", self.generation, self.client)
    }
}

/// What stays the same when acts are left out.
pub(super) struct Plan {
    pub(super) generation_count: u32,
    pub(super) client_count: u32,
    pub(super) options: Options,
    /// Of the shared keyspaces and that of the order.
    pub(super) keyspaces: Vec<(&'static str, KeyspaceOptions)>,
    pub(super) has_faults: bool,
    act_count: u64,
    closes_one_in: u64,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let threads = 1 + rng.index(3);
        let part_bytes = choices::part_bytes(seed);
        let options = Options { part_bytes, ..choices::options(&mut rng, threads) };
        let mut keyspace = |name: &'static str| {
            let order = match name {
                "a" => choices::order(&mut rng),
                _ => Order::bytewise(),
            };
            (name, KeyspaceOptions { order, ..choices::keyspace_options(&mut rng) })
        };
        let keyspaces = SHARED.into_iter().chain([ORDER]).map(&mut keyspace).collect();
        Self {
            generation_count: 3,
            client_count: 1 + rng.below(4) as u32,
            options,
            keyspaces,
            has_faults: rng.one_in(3),
            act_count: 15 + rng.below(60),
            closes_one_in: *rng.pick(&[40, 1_000_000]),
        }
    }

    /// How the threads of one generation are picked.
    pub(super) fn policy(seed: u64, generation: u32) -> Policy {
        let mut rng = Rng::new(seed ^ 0x9011_00c4 ^ u64::from(generation));
        match rng.below(4) {
            0 => Policy::Uniform { one_in: *rng.pick(&[1, 4]) },
            1 => Policy::Uniform { one_in: *rng.pick(&[16, 64]) },
            2 => Policy::Priorities { falls: 1 + rng.index(4), among: *rng.pick(&[1_000, 10_000]) },
            // Threads that are held up for long, often.
            _ => Policy::Priorities { falls: *rng.pick(&[100, 400]), among: 20_000 },
        }
    }

    /// A new database with the shared keyspaces.
    pub(super) fn state(&self) -> State {
        let mut state = State::new();
        for (name, options) in &self.keyspaces[1..] {
            state.create(name);
            if options.order == Order::reverse_bytewise() {
                state.reverse(name);
            }
        }
        state
    }
}

/// What goes wrong under the number `kind`.
pub(super) fn rule(kind: usize, seed: u64) -> Rule {
    let write = [Operation::Write, Operation::Allocate, Operation::Create];
    let rules = [
        Rule::new(Fault::Error(5)).on(&[Operation::Write, Operation::Sync]),
        Rule::new(Fault::Error(28)).on(&write),
        Rule::new(Fault::Error(24)).on(&[Operation::Open, Operation::Create]),
        Rule::new(Fault::Error(5)).on(&[Operation::Read, Operation::Remove, Operation::Rename]),
        Rule::new(Fault::Error(5)).on(&[Operation::SyncDir, Operation::Create]),
        Rule::new(Fault::TornWrite(5)),
        Rule::new(Fault::Short),
        Rule::new(Fault::Delay(Duration::from_millis(300))).on(&[Operation::Sync]),
    ];
    let count = [1, 3, 10, 40][seed as usize % 4];
    rules[kind % rules.len()].clone().when(When::OneIn { count, seed })
}

/// The acts of all generations.
pub(super) fn script(plan: &Plan, seed: u64) -> Vec<Act> {
    let mut rng = Rng::new(seed ^ 0xac7);
    let mut acts = Vec::new();
    for generation in 0..plan.generation_count {
        for _ in 0..plan.act_count {
            let client = rng.below(u64::from(plan.client_count)) as u32;
            acts.push(Act { generation, client, op: op(plan, &mut rng) });
        }
    }
    acts
}

fn op(plan: &Plan, rng: &mut Rng) -> Op {
    let name = *rng.pick(&SHARED);
    if rng.one_in(plan.closes_one_in) {
        return Op::Close;
    }
    if plan.has_faults && rng.one_in(12) {
        return if rng.one_in(3) { Op::Heal } else { Op::Spoil(rng.index(8), rng.next()) };
    }
    match rng.below(100) {
        0..=39 => {
            let durability = [Durability::Buffered, Durability::Process, Durability::Power];
            Op::Write(writes(plan, rng), *rng.pick(&durability))
        }
        40..=47 => Op::Get(name, rng.key()),
        48..=54 => Op::Scan(name, rng.bounds()),
        55..=59 => Op::ReadAll,
        60..=65 => Op::Hold(name),
        66..=71 => Op::Release,
        72..=79 => Op::Flush(name),
        80..=83 => Op::Compact(name),
        84..=87 => Op::StartCompaction(name, rng.below(3)),
        88..=91 => Op::Temporary,
        92 => Op::Pause(Duration::from_millis(rng.below(3000))),
        93..=95 => Op::Sync,
        _ => Op::Sleep(Duration::from_millis(rng.below(4000))),
    }
}

/// A batch: mostly small, now and then one that fills a memtable.
fn writes(plan: &Plan, rng: &mut Rng) -> Vec<Write> {
    let count = if rng.one_in(10) { 60 } else { 1 + rng.below(4) };
    let mut one = || {
        let (name, options) = rng.pick(&plan.keyspaces[..SHARED.len()]).clone();
        if rng.one_in(16) {
            let is_reversed = options.order == Order::reverse_bytewise();
            return Write::delete_range(name, rng.range_to_delete(), is_reversed);
        }
        let (key, value) = (rng.key(), rng.value());
        match rng.below(8) {
            0 | 1 => Write::delete(name, &key),
            2 => Write::merge(name, &key, &value),
            3 => Write::put_until(name, &key, &value, rng.expiry(FAR_MILLIS)),
            _ => Write::put(name, &key, &value),
        }
    };
    (0..count).map(|_| one()).collect()
}

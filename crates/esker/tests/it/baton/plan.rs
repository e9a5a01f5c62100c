//! Under which options a simulation runs, who takes part in it, and how its threads are picked.

use std::collections::BTreeMap;
use std::time::Duration;

use esker::env::{Fault, Operation, Rule, When};
use esker::{Filter, KeyspaceOptions, Options, Order};
use esker_base::baton::Policy;

use super::clock::clock_error_between;
use super::coverage;
use super::filtering::BySign;
use super::history::Part;
use crate::model::choices;
use crate::random::Rng;
use crate::state::{State, Turn};

/// Keyspaces that all clients write to.
pub(super) const SHARED: [&str; 3] = ["default", "a", "b"];

/// The keyspace of the key that every batch appends its name to.
pub(super) const ORDER: &str = "order";

/// The keyspace that has no log, if there is one. It has batches of its own, and their order.
pub(super) const UNLOGGED: &str = "unlogged";

/// Options of the shared keyspaces, that of the order and perhaps the one without a log.
pub(super) type KeyspaceChoices = Vec<(&'static str, KeyspaceOptions)>;

/// What stays the same when acts are left out.
pub(super) struct Plan {
    pub(super) generation_count: u32,
    pub(super) client_count: u32,
    pub(super) database_count: u32,
    /// The keyspace that loads go to.
    pub(super) loaded: &'static str,
    pub(super) has_faults: bool,
    /// Whether the logs lie in directories of their own.
    pub(super) has_log_dir: bool,
    pub(super) has_filter: bool,
    pub(super) has_unlogged: bool,
    /// Whether the wall clock is set back now and then.
    has_wrong_clock: bool,
    /// Whether memory is short, and tables take long to become durable.
    pub(super) is_tight: bool,
    /// Whether compactions take long, as their filters do.
    pub(super) is_slow: bool,
    /// Whether no client asks for more than [`Durability::Buffered`](esker::Durability::Buffered).
    pub(super) is_buffered: bool,
    /// Whether blocks that are read must now and then be waited for.
    pub(super) waits_for_device: bool,
    pub(super) act_count: u64,
    pub(super) closes_one_in: u64,
    /// Of each generation of the first database.
    choices: Vec<(Options, KeyspaceChoices)>,
}

/// Faults that an open meets, each time others, before it meets none.
#[derive(Default)]
pub(super) struct FailingOpens {
    /// By their numbers, see [`rule`].
    pub(super) rules: Vec<(usize, u64)>,
    /// Whether it is not tried without faults.
    pub(super) gives_up: bool,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let generation_count = 3;
        let has_filter = rng.one_in(3);
        let has_unlogged = rng.one_in(3);
        let is_tight = rng.one_in(4);
        let is_slow = has_filter && rng.one_in(2);
        let takes = if is_slow { FILTER_TAKES } else { Duration::ZERO };
        let filter = has_filter.then(|| Filter::new(BySign { takes }));
        let orders = orders(&mut rng, seed);
        let mut choices: Vec<(Options, KeyspaceChoices)> = Vec::new();
        for number in 0..u64::from(generation_count) {
            // Half of all seeds keep their options.
            let changes = number == 0 || seed.is_multiple_of(2);
            let one = changes.then(|| {
                let mut one = choose(&mut rng, seed + number, &orders, filter.as_ref());
                one.1.retain(|(name, _)| has_unlogged || *name != UNLOGGED);
                if is_slow {
                    one.1.iter_mut().for_each(|(_, one)| *one = without_upkeep(one.clone()));
                }
                if is_tight {
                    tighten(&mut one);
                }
                one
            });
            choices.push(one.unwrap_or_else(|| choices[0].clone()));
        }
        Self {
            generation_count,
            client_count: 1 + rng.below(4) as u32,
            database_count: if rng.one_in(4) { 2 } else { 1 },
            loaded: *rng.pick(&SHARED),
            has_faults: rng.one_in(3),
            has_filter,
            has_unlogged,
            has_wrong_clock: Rng::new(!seed ^ 4).one_in(3),
            is_tight,
            is_slow,
            is_buffered: rng.one_in(6),
            waits_for_device: rng.one_in(3),
            act_count: 15 + rng.below(60),
            closes_one_in: *rng.pick(&[40, 1_000_000]),
            has_log_dir: rng.one_in(4),
            choices,
        }
    }

    /// Whether a client may close its database beside others.
    pub(super) fn closes(&self) -> bool {
        self.closes_one_in <= self.act_count * 100
    }

    /// Whether a client may set the clock back. It goes by what its own database has seen of it.
    pub(super) fn sets_clock_back(&self) -> bool {
        self.has_wrong_clock && self.database_count == 1
    }

    /// What the wall clock shows when somebody opens what was left when it showed `wall`; if it was not set
    /// back meanwhile, so long after.
    pub(super) fn wall_after(&self, wall: Duration, outage: Duration, rng: &mut Rng) -> Duration {
        if !self.has_wrong_clock || rng.one_in(2) {
            return wall + outage;
        }
        coverage::add("clocks set back before an open", 1);
        wall - clock_error_between(rng)
    }

    /// What the database of that number is opened with; two databases never with the same.
    pub(super) fn choices(&self, generation: u32, database: u32) -> &(Options, KeyspaceChoices) {
        &self.choices[(generation + database) as usize % self.choices.len()]
    }

    /// Whether clients may do what takes its time.
    pub(super) fn has_time(&self) -> bool {
        !self.is_buffered && !self.closes() && !self.is_tight
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

    /// What happens when the databases of a generation are opened.
    pub(super) fn failing_opens(&self, seed: u64, generation: u32) -> FailingOpens {
        let mut rng = Rng::new(seed ^ 0x09e7 ^ u64::from(generation));
        if rng.one_in(if self.has_faults { 4 } else { 2 }) {
            return FailingOpens::default();
        }
        let gives_up = rng.one_in(2);
        let count = if gives_up { 1 } else { 1 + rng.index(4) };
        // An open reads more than anything else.
        let kind = |rng: &mut Rng| if rng.one_in(3) { READ_RULE } else { rng.index(RULE_COUNT) };
        let rules = (0..count).map(|_| (kind(&mut rng), rng.next())).collect();
        FailingOpens { rules, gives_up }
    }

    pub(super) fn turn_of(&self, name: &str) -> Turn {
        let of_name = self.choices[0].1.iter().find(|(other, _)| *other == name);
        of_name.map_or(Turn::Bytewise, |(_, options)| Turn::of(&options.order))
    }

    /// The parts of the databases, those with a log first.
    pub(super) fn parts(&self) -> Vec<Part> {
        let loaded = self.loaded;
        let logged = |home| Part { home, names: &SHARED, order: ORDER, loaded, is_logged: true };
        let (names, order) = (&[UNLOGGED], UNLOGGED);
        let unlogged = |home| Part { home, names, order, loaded: order, is_logged: false };
        let homes = || 0..self.database_count as usize;
        let unlogged = homes().map(unlogged).filter(|_| self.has_unlogged);
        homes().map(logged).chain(unlogged).collect()
    }

    /// The keyspaces of a part in a new database.
    pub(super) fn state(&self, part: Part) -> State {
        let mut state = State::new();
        for (name, _) in &self.choices[0].1[1..] {
            if (*name == UNLOGGED) == part.is_logged {
                continue;
            }
            state.create(name);
            state.turn(name, self.turn_of(name));
        }
        state
    }
}

/// Memory is short, and no keyspace has so much as fills a memtable.
fn tighten((options, keyspaces): &mut (Options, KeyspaceChoices)) {
    options.memory_budget_bytes = 0;
    for (name, keyspace) in keyspaces.iter_mut() {
        if *name != ORDER {
            keyspace.memtable_bytes = 64 << 20;
        }
        *keyspace = without_upkeep(keyspace.clone());
    }
}

/// Without what is due again before a slow table is durable, or a slow filter has seen everything: what somebody asked for comes after what
/// is automatic, and would wait for ever.
pub(super) fn without_upkeep(options: KeyspaceOptions) -> KeyspaceOptions {
    KeyspaceOptions { delete_deadline: None, periodic_compaction: None, ..options }
}

/// After how long values expire that do not say so: mostly never, or within a run.
fn default_ttl(rng: &mut Rng) -> Option<Duration> {
    let millis = *rng.pick(&[1, 100, 5000, 20_000, 3_600_000]);
    rng.one_in(4).then_some(Duration::from_millis(millis))
}

/// What a slow filter takes for a value.
const FILTER_TAKES: Duration = Duration::from_secs(20);

/// The orders of keyspaces, where they are not bytewise: the same in all generations.
fn orders(rng: &mut Rng, seed: u64) -> BTreeMap<&'static str, Order> {
    let a = *rng.pick(&[Turn::Reversed, Turn::Shortlex, Turn::Bytewise, Turn::Bytewise]);
    // The other choices of a seed stay what they are without these.
    let mut rng = Rng::new(!seed ^ 3);
    let mut some = || *rng.pick(&[Turn::Shortlex, Turn::Bytewise, Turn::Bytewise]);
    let (b, unlogged) = (some(), some());
    [("a", a.order()), ("b", b.order()), (UNLOGGED, unlogged.order())].into()
}

fn choose(
    rng: &mut Rng,
    seed: u64,
    orders: &BTreeMap<&'static str, Order>,
    filter: Option<&Filter>,
) -> (Options, KeyspaceChoices) {
    let threads = 1 + rng.index(3);
    let options = Options {
        part_bytes: choices::part_bytes(seed),
        log_compression_threshold_bytes: choices::log_compression(seed),
        warm_cache: choices::warm_cache(seed),
        compaction_bytes_per_second: *rng.pick(&[None, None, Some(64 << 10)]),
        ..choices::options(rng, threads)
    };
    // Log segments are used again only where nothing must leave the disk.
    let has_deadlines = rng.one_in(2);
    let mut keyspace = |name: &'static str| {
        let order = orders.get(name).cloned().unwrap_or_default();
        let compaction_filter = filter.filter(|_| name != ORDER).cloned();
        let options = choices::keyspace_options(rng);
        let delete_deadline = options.delete_deadline.filter(|_| has_deadlines);
        // Of that one, some generations have a log all the same.
        let (log, default_ttl) = (name != UNLOGGED || rng.one_in(5), default_ttl(rng));
        let options = KeyspaceOptions { order, compaction_filter, delete_deadline, ..options };
        (name, KeyspaceOptions { log, default_ttl, ..options })
    };
    let keyspaces = SHARED.into_iter().chain([ORDER, UNLOGGED]).map(&mut keyspace).collect();
    (options, keyspaces)
}

/// How many ways there are for the files to go wrong, beside a panic.
pub(super) const RULE_COUNT: usize = 9;

/// How many panics come behind them: of any file, and of the log.
pub(super) const PANIC_COUNT: usize = 2;

/// The one of them that lets reads fail.
const READ_RULE: usize = 3;

/// Blocks that the system would have to wait for, which is no failure.
pub(super) fn not_at_hand() -> Rule {
    Rule::new(Fault::NotAtHand).path("*.table")
}

/// Tables that take longer to become durable than writers are delayed for.
pub(super) fn slow_tables() -> Rule {
    Rule::new(Fault::Delay(Duration::from_secs(30))).on(&[Operation::Sync]).path("*.table")
}

/// What goes wrong under the number `kind`.
pub(super) fn rule(kind: usize, seed: u64) -> Rule {
    let write = [Operation::Write, Operation::Allocate, Operation::Create];
    let panics = [Operation::Write, Operation::Sync, Operation::Create];
    let rules: [Rule; RULE_COUNT] = [
        Rule::new(Fault::Error(5)).on(&[Operation::Write, Operation::Sync]),
        Rule::new(Fault::Error(28)).on(&write),
        Rule::new(Fault::Error(24)).on(&[Operation::Open, Operation::Create]),
        Rule::new(Fault::Error(5)).on(&[Operation::Read, Operation::Remove, Operation::Rename]),
        Rule::new(Fault::Error(5)).on(&[Operation::SyncDir, Operation::Create, Operation::Link]),
        Rule::new(Fault::TornWrite(5)),
        Rule::new(Fault::Short),
        Rule::new(Fault::Delay(Duration::from_millis(300))).on(&[Operation::Sync]),
        not_at_hand(),
    ];
    let count = [1, 3, 10, 40][seed as usize % 4];
    // Behind a panic the engine need not be told of another one.
    let panic = || match kind {
        RULE_COUNT => Rule::new(Fault::Panic).on(&panics).when(When::Nth(1 + seed % 20)),
        _ => Rule::new(Fault::Panic).on(&panics).path("*.log").when(When::Nth(1 + seed % 3)),
    };
    let rule = rules.get(kind).map(|rule| rule.clone().when(When::OneIn { count, seed }));
    rule.unwrap_or_else(panic)
}

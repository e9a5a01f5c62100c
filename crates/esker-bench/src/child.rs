//! One row on one engine, in a process of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};

use crate::cell::Cell;
use crate::cgroup;
use crate::engine::{Direction, Engine, Result, Settings};
use crate::engines::{self, EngineKind};
use crate::keys::{KEY_BYTES, Keys, Order};
use crate::process;
use crate::rows::{self, CacheSize, Data, Row, Workload};
use crate::values::Values;
use crate::work::{self, Plan, Work};

/// Records in the log of a database that was killed: 41 MB.
const KILLED_COUNT: u64 = 350_000;

/// Random reads before those that count, where all is to be in the cache.
const WARM_READS: u64 = 100_000;

/// What the parent tells its child.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) engine: String,
    pub(crate) row: String,
    pub(crate) dir: PathBuf,
    pub(crate) count: u64,
    pub(crate) value_bytes: usize,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
    /// Whether to fill a database and end as by `kill -9`, instead of measuring.
    pub(crate) dies: bool,
    /// The memory group to measure in; the database is not in memory when that begins.
    pub(crate) group: Option<PathBuf>,
}

impl Task {
    /// Bytes of all keys and values.
    fn data_bytes(&self) -> u64 {
        self.count * (KEY_BYTES + self.value_bytes) as u64
    }

    /// As arguments of the child.
    pub(crate) fn to_arguments(&self) -> Vec<String> {
        let group = self.group.as_deref().unwrap_or(Path::new("")).display().to_string();
        vec![
            "child".into(),
            self.engine.clone(),
            self.row.clone(),
            self.dir.display().to_string(),
            self.count.to_string(),
            self.value_bytes.to_string(),
            self.seconds.to_string(),
            self.seed.to_string(),
            self.dies.to_string(),
            group,
        ]
    }

    /// Reads what [`Task::to_arguments`] made, without the first word.
    pub(crate) fn from_arguments(arguments: &[String]) -> Result<Self> {
        let [engine, row, dir, count, value_bytes, seconds, seed, dies, group] = arguments else {
            return Err("a child takes nine arguments".into());
        };
        Ok(Self {
            engine: engine.clone(),
            row: row.clone(),
            dir: dir.into(),
            count: count.parse()?,
            value_bytes: value_bytes.parse()?,
            seconds: seconds.parse()?,
            seed: seed.parse()?,
            dies: dies.parse()?,
            group: (!group.is_empty()).then(|| group.into()),
        })
    }
}

/// Does the task and tells the parent what it measured.
pub(crate) fn run(task: &Task) -> Result<()> {
    let kind = engines::named(&task.engine)?;
    let row = rows::named(&task.row).ok_or("no such row")?;
    let settings = settings(task, row);
    let plan = plan(task, row, kind);
    if task.dies {
        let engine = (kind.open)(&settings)?;
        work::run(&plan, &*engine)?;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    }
    if let Some(group) = &task.group {
        cgroup::join(group)?;
        process::forget_pages(&task.dir)?;
    }
    let cell = match row.workload {
        Workload::OpenClean | Workload::OpenAfterKill => open(kind, &settings, &plan)?,
        _ => measure(kind, &settings, &plan)?,
    };
    let mut out = std::io::stdout();
    writeln!(out, "{}", cell.to_line())?;
    Ok(out.flush()?)
}

fn settings(task: &Task, row: &Row) -> Settings {
    let data_bytes = task.data_bytes();
    let cache_bytes = match row.cache {
        CacheSize::Cold => 64 << 20,
        CacheSize::Small => (data_bytes / 9).max(8 << 20),
        CacheSize::Everything => data_bytes * 2 + (64 << 20),
    };
    Settings {
        dir: task.dir.clone(),
        cache_bytes,
        syncs: row.syncs(),
        keys_ascend: row.is_sequential,
        compacts: !(row.workload == Workload::Compact && row.data == Data::JustFilled),
        file_bytes_max: (1 << 32) + data_bytes * 8,
    }
}

fn plan<'a>(task: &Task, row: &'a Row, kind: &EngineKind) -> Plan<'a> {
    let count = match row.workload {
        Workload::OpenAfterKill => KILLED_COUNT.min(task.count),
        _ => task.count,
    };
    let is_single = !matches!(row.workload, Workload::FillBatch(_));
    let order = if row.is_sequential { Order::Ascending } else { Order::Hashed };
    Plan {
        row,
        keys: Keys::new(order, count, task.seed),
        values: Values::new(task.value_bytes, task.seed),
        fill_count: if kind.writes_few && is_single { count / 10 } else { count },
        duration: Duration::from_secs_f64(task.seconds),
        seed: task.seed,
    }
}

/// Opens the database, reads one key and stops the clock.
fn open(kind: &EngineKind, settings: &Settings, plan: &Plan<'_>) -> Result<Cell> {
    let load = process::load_average();
    process::reset_peak_memory();
    let cpu = process::processor_time();
    let clock = SystemClock::new();
    let engine = (kind.open)(settings)?;
    let last = plan.keys.count - 1;
    let mut is_right = false;
    let expected = plan.values.of(last);
    engine.session()?.get(&plan.keys.of(last), &mut |value| is_right = value == expected)?;
    let seconds = clock.now().as_secs_f64();
    if !is_right {
        return Err("the last key is missing or wrong after opening".into());
    }
    let cell = Cell {
        operations: 1.0,
        seconds,
        cpu_seconds: (process::processor_time() - cpu).as_secs_f64(),
        peak_bytes: process::peak_memory_bytes() as f64,
        verified: 1.0,
        load,
        ..Cell::default()
    };
    engine.close()?;
    Ok(cell)
}

fn measure(kind: &EngineKind, settings: &Settings, plan: &Plan<'_>) -> Result<Cell> {
    let row = plan.row;
    let engine = (kind.open)(settings)?;
    if row.data == Data::JustFilled {
        let size = if kind.writes_few { 1000 } else { 1 };
        work::put_in_batches(plan, &mut *engine.session()?, 0..plan.keys.count, size)?;
        if row.workload == Workload::Compact {
            engine.flush()?;
            engine.settle()?;
        }
    } else if row.cache == CacheSize::Everything {
        warm(plan, &*engine)?;
    }
    if row.data == Data::Filled {
        engine.settle()?;
    }
    let load = process::load_average();
    let clock = SystemClock::new();
    process::reset_peak_memory();
    let (cpu, written) = (process::processor_time(), process::written_bytes());
    let work = match row.workload {
        Workload::Compact => compact(plan, &*engine, &clock)?,
        Workload::BulkLoad => bulk_load(plan, &*engine, &clock)?,
        _ => work::run(plan, &*engine)?,
    };
    let before_settling = clock.now();
    let looked_on = if row.writes() { engine.settle()? } else { Duration::ZERO };
    let settling = (clock.now() - before_settling).saturating_sub(looked_on);
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    let cell = Cell {
        operations: work.operations as f64,
        seconds: work.elapsed.as_secs_f64(),
        settle_seconds: settling.as_secs_f64(),
        cpu_seconds: (process::processor_time() - cpu).as_secs_f64(),
        peak_bytes: process::peak_memory_bytes() as f64,
        written_bytes: (process::written_bytes() - written) as f64,
        user_bytes: work.user_bytes as f64,
        disk_bytes: process::dir_bytes(&settings.dir) as f64,
        p50_micros: micros(work.nanos.value_at_quantile(0.5)),
        p99_micros: micros(work.nanos.value_at_quantile(0.99)),
        p999_micros: micros(work.nanos.value_at_quantile(0.999)),
        max_micros: micros(work.nanos.max()),
        verified: work.verified as f64,
        load,
    };
    let data_bytes = plan.data_bytes() as f64;
    if row.workload == Workload::Compact && cell.written_bytes < data_bytes / 4.0 {
        // A rate of nothing would look like a victory.
        return Err("the data was compacted already, so that there was nothing to measure".into());
    }
    if row.data == Data::Fills {
        let rest = plan.fill_count..plan.keys.count;
        work::put_in_batches(plan, &mut *engine.session()?, rest, 1000)?;
        engine.settle()?;
    }
    engine.close()?;
    Ok(cell)
}

/// Reads everything in order and much at random, so that data, indexes and filters are cached.
fn warm(plan: &Plan<'_>, engine: &dyn Engine) -> Result<()> {
    let mut session = engine.session()?;
    session.scan(None, Direction::Forward, u64::MAX)?;
    let mut random = crate::random::Random::new(!plan.seed);
    for _ in 0..WARM_READS {
        session.get(&plan.keys.of(random.below(plan.keys.count)), &mut |_| ())?;
    }
    Ok(())
}

/// An operation is an entry that exists.
fn compact(plan: &Plan<'_>, engine: &dyn Engine, clock: &SystemClock) -> Result<Work> {
    let started = clock.now();
    if !engine.compact()? {
        return Err("the engine has no compaction".into());
    }
    let elapsed = clock.now() - started;
    Ok(Work { operations: plan.keys.count, elapsed, ..Work::default() })
}

fn bulk_load(plan: &Plan<'_>, engine: &dyn Engine, clock: &SystemClock) -> Result<Work> {
    let count = plan.keys.count;
    let started = clock.now();
    engine.bulk_load(&mut (0..count).map(|index| (plan.keys.of(index), plan.values.of(index))))?;
    let elapsed = clock.now() - started;
    Ok(Work { operations: count, user_bytes: plan.data_bytes(), elapsed, ..Work::default() })
}

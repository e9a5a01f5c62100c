//! What surrounds the threads of a run: files that fail and are copied before they change, time that
//! passes when all wait, and threads that take turns.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esker::env::{
    Env, Event, Fault, FaultFileSystem, FileSystem as _, IoError, JoinHandle, MemoryFileSystem,
    Operation, Threads,
};
use esker_base::baton::{self, Outcome, Settings};
use esker_base::sync;

use super::clock::{BatonClock, Shown};
use super::coverage;
use super::history::{History, Part, Promises};
use super::script::SHORT_MILLIS;
use crate::random::Rng;
use crate::recovered::DIR;
use crate::watchdog;

/// Where the wall clock of the first generation starts.
pub(super) const START: Duration = Duration::from_secs(1_700_000_000);

/// Moments at which a crash is tried, of one generation, at most.
const MOMENT_COUNT_MAX: usize = 5;

/// Of so many promises of one generation, behind one a crash is tried.
const PROMISES_MAX: u64 = 10;

/// One in how many changes is a moment that shall come soon.
const SOON_ONE_IN: u64 = 4;

/// How many promises of one generation that came while somebody else waited for one are tried, too.
const PROMISES_AMONG_OTHERS: u64 = 2;

/// Frames of buffered writes that wait for so long, while nobody has anything to do, wait for something
/// that they should not.
const BUFFERED_MAX: Duration = Duration::from_secs(2);

/// The same where the only thread may be in a filter, which may take a third of it for one value.
const BUFFERED_MAX_IF_SLOW: Duration = Duration::from_secs(60);

/// One in how many changes is such a moment: by the generation, since some have few changes and the
/// moments of others should not all be in their beginning.
const MOMENT_ONE_IN: [u64; 4] = [8, 24, 60, 200];

/// Threads of the run.
#[derive(Debug)]
struct BatonThreads;

impl Threads for BatonThreads {
    fn spawn(&self, name: &str, task: Box<dyn FnOnce() + Send>) -> Result<JoinHandle, IoError> {
        // A panic ends a thread, and nothing else.
        let task = move || {
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(task))
                && !is_of_file_system(&*panic)
            {
                std::panic::resume_unwind(panic);
            }
        };
        let thread = baton::spawn(name, Box::new(task));
        Ok(JoinHandle::new(Box::new(move || thread.join())))
    }
}

/// The files in front of a change, and what was promised by then.
pub(super) struct Moment {
    pub(super) fs: MemoryFileSystem,
    /// Of each part.
    pub(super) promises: Vec<Promises>,
    /// What the clock showed.
    pub(super) shown: Shown,
    /// What was about to happen.
    pub(super) next: String,
    /// Whether nothing of what is not durable may be left if the power goes, so that what was promised
    /// is there for no other reason.
    pub(super) is_bare: bool,
}

/// What the threads of one generation share, beside the databases.
pub(super) struct World {
    pub(super) env: Env,
    pub(super) clock: Arc<BatonClock>,
    pub(super) fs: MemoryFileSystem,
    pub(super) faults: FaultFileSystem,
    /// Held during a load, and until it has been seen, so that of two loads one is known before the
    /// other one is. A lock of the run, at which others may go on.
    loading: sync::Mutex<()>,
    /// One of each part, those with a log first. Never held at a step.
    histories: Vec<Arc<Mutex<History>>>,
    moments: Arc<Mutex<Vec<Moment>>>,
    /// How many promises of durability are made before a crash is tried right behind one.
    unbroken: Mutex<u64>,
    /// Who waits for a promise, and how many promises that came while others waited are still to be tried.
    asking: Mutex<(usize, u64)>,
    /// How many more crashes are tried in front of changes that come soon.
    soon: Arc<AtomicU64>,
    /// Whether nothing goes wrong, and no device is slow.
    pub(super) is_sound: AtomicBool,
    /// Whether filters take long.
    pub(super) is_slow: AtomicBool,
    /// Whether clients set the clock back.
    pub(super) is_clock_wrong: AtomicBool,
    /// Databases that somebody closes while others work.
    closing: Mutex<Vec<usize>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(
        fs: MemoryFileSystem,
        histories: Vec<History>,
        wall: Duration,
        seed: u64,
    ) -> Self {
        let clock = Arc::new(BatonClock::new(wall));
        let faults = FaultFileSystem::new(Arc::new(fs.clone()), clock.clone());
        let env = Env {
            fs: Arc::new(faults.clone()),
            clock: clock.clone(),
            threads: Arc::new(BatonThreads),
            random: Env::memory(seed).random,
        };
        Self {
            env,
            clock,
            fs,
            faults,
            loading: sync::Mutex::new(()),
            histories: histories.into_iter().map(|one| Arc::new(Mutex::new(one))).collect(),
            moments: Arc::default(),
            unbroken: Mutex::new(seed % PROMISES_MAX),
            asking: Mutex::new((0, PROMISES_AMONG_OTHERS)),
            soon: Arc::default(),
            is_sound: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            is_clock_wrong: AtomicBool::new(false),
            closing: Mutex::default(),
        }
    }

    /// From here on, another thread may go on at every operation of the files, and copies are taken
    /// in front of some.
    pub(super) fn observe(&self, seed: u64) {
        let (fs, histories) = (self.fs.clone(), self.histories.clone());
        let (moments, clock) = (Arc::clone(&self.moments), Arc::clone(&self.clock));
        let (buffered_max, soon) = (self.buffered_max(), Arc::clone(&self.soon));
        let mut rng = Rng::new(seed);
        let one_in = *rng.pick(&MOMENT_ONE_IN);
        let rng = Mutex::new(rng);
        self.faults.observe(move |event| {
            baton::step(what(event));
            count(event);
            if event.operation == Operation::Sync && event.fault.is_some() {
                // As Linux does: what was written still reads so, and never becomes durable.
                fs.forget_unsynced(&event.path);
            }
            let shown = clock.shown();
            let mut moments = locked(&moments);
            // What is done whole or not at all is done by an edit.
            let is_edit = event.path.extension().is_some_and(|e| e == "manifest");
            let one_in = if is_edit { one_in.div_ceil(6) } else { one_in };
            let is_change = event.operation.is_change();
            let is_chosen = is_change && locked(&rng).one_in(one_in);
            let left = soon.load(Ordering::Relaxed);
            let is_soon = is_change && 0 < left && locked(&rng).one_in(SOON_ONE_IN);
            if is_soon {
                soon.store(left - 1, Ordering::Relaxed);
                coverage::add("crashes in a close", 1);
            }
            if is_soon || (is_chosen && moments.len() < MOMENT_COUNT_MAX) {
                let promises = promises(&histories, buffered_max);
                let next = format!("{:?} of {}", event.operation, event.path.display());
                moments.push(Moment { fs: fs.snapshot(), promises, shown, next, is_bare: false });
            }
        });
    }

    /// How long frames of buffered writes may wait, if there is a bound.
    fn buffered_max(&self) -> Option<Duration> {
        let is_slow = self.is_slow.load(Ordering::Relaxed);
        let most = if is_slow { BUFFERED_MAX_IF_SLOW } else { BUFFERED_MAX };
        self.is_sound.load(Ordering::Relaxed).then_some(most)
    }

    /// The database is about to be closed; so many crashes are tried meanwhile.
    pub(super) fn crash_soon(&self, count: u64) {
        self.soon.store(count, Ordering::Relaxed);
    }

    /// Somebody asks for something to be durable. Returns whether somebody else waits for that already.
    pub(super) fn begin_promise(&self) -> bool {
        let mut asking = locked(&self.asking);
        asking.0 += 1;
        1 < asking.0
    }

    /// It is, if it `is_kept`. A crash is tried right behind one such answer, before anything else is done:
    /// what is made durable only later is not there. And behind some of those who came while others waited,
    /// by whose syncs it may have been taken for durable.
    pub(super) fn end_promise(&self, is_kept: bool, others_waited: bool) {
        let mut asking = locked(&self.asking);
        asking.0 -= 1;
        let mut unbroken = locked(&self.unbroken);
        if !is_kept {
            return;
        }
        let is_among_others = others_waited && 0 < asking.1;
        asking.1 -= u64::from(is_among_others);
        let is_chosen = *unbroken == 1 || is_among_others;
        *unbroken = unbroken.saturating_sub(1);
        drop((unbroken, asking));
        if is_chosen {
            let what = match is_among_others {
                true => "crashes behind a promise while others waited for one",
                false => "crashes right behind a promise",
            };
            coverage::add(what, 1);
            self.take_moment("what comes behind a promise");
        }
    }

    /// A crash is tried at this moment, whatever comes next.
    pub(super) fn take_moment(&self, next: &str) {
        let promises = promises(&self.histories, self.buffered_max());
        let (fs, shown, next) = (self.fs.snapshot(), self.clock.shown(), next.to_owned());
        locked(&self.moments).push(Moment { fs, promises, shown, next, is_bare: true });
    }

    /// That of a part, by its number; of those with a log it is that of the database.
    pub(super) fn history(&self, part: usize) -> MutexGuard<'_, History> {
        locked(&self.histories[part])
    }

    pub(super) fn part(&self, part: usize) -> Part {
        self.history(part).part
    }

    /// The parts of a database, the one with a log first.
    pub(super) fn parts(&self, home: usize) -> Vec<usize> {
        (0..self.histories.len()).filter(|part| self.part(*part).home == home).collect()
    }

    pub(super) fn histories(&self) -> Vec<History> {
        self.histories.iter().map(|one| locked(one).clone()).collect()
    }

    pub(super) fn shown(&self) -> Shown {
        self.clock.shown()
    }

    /// The time that expiry goes by, in milliseconds since the epoch.
    pub(super) fn millis(&self) -> u64 {
        self.shown().millis()
    }

    /// When a value expires that is written now: what the script has is a time, or if it is short,
    /// for how long.
    pub(super) fn expiry(&self, scripted: u64) -> u64 {
        let is_short = (SHORT_MILLIS.start..SHORT_MILLIS.end).contains(&scripted);
        if is_short { self.millis() + scripted } else { scripted }
    }

    /// Only one thread loads at a time.
    pub(super) fn begin_load(&self) -> sync::MutexGuard<'_, ()> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_moments(&self) -> Vec<Moment> {
        std::mem::take(&mut locked(&self.moments))
    }

    pub(super) fn set_closing(&self, home: usize) {
        locked(&self.closing).push(home);
    }

    pub(super) fn is_closing(&self, home: usize) -> bool {
        locked(&self.closing).contains(&home)
    }
}

/// What is promised now: buffered writes that were made longer than `buffered_max` ago are with the system.
fn promises(histories: &[Arc<Mutex<History>>], buffered_max: Option<Duration>) -> Vec<Promises> {
    let now = baton::idle();
    let of = |history: &Arc<Mutex<History>>| {
        let mut history = locked(history);
        if let Some(most) = buffered_max {
            history.promise_buffered(now.saturating_sub(most));
        }
        history.promises.clone()
    };
    histories.iter().map(of).collect()
}

/// Whether a panic is one that the file system was told to have.
pub(super) fn is_of_file_system(panic: &(dyn Any + Send)) -> bool {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.is_some_and(|text| text.starts_with("fault: cannot "))
}

/// Counts what happens to files.
fn count(event: &Event) {
    let is_log = event.to.as_ref().unwrap_or(&event.path).extension().is_some_and(|e| e == "log");
    let is_manifest = event.path.to_string_lossy().ends_with(".manifest.tmp");
    match event.operation {
        Operation::Create if is_log => coverage::add("log segments begun", 1),
        Operation::Rename if is_log => coverage::add("log segments used again", 1),
        Operation::Create if is_manifest => coverage::add("manifests begun", 1),
        _ => {}
    }
    match event.fault {
        Some(Fault::NotAtHand) => coverage::add("reads that would wait", 1),
        Some(_) => coverage::add("faults", 1),
        None => coverage::add("reads announced", u64::from(event.operation == Operation::WillNeed)),
    }
}

fn what(event: &Event) -> &'static str {
    match event.operation {
        Operation::Read => "read file",
        Operation::Write => "write file",
        Operation::Sync | Operation::SyncDir => "sync file",
        Operation::Remove => "remove file",
        Operation::Rename | Operation::Link | Operation::Create => "name file",
        _ => "look at file",
    }
}

/// Runs `test` on new files, without clients.
///
/// # Panics
/// If the run fails.
pub(super) fn run_test(settings: Settings, test: impl FnOnce(&World) + Send + 'static) {
    run(settings, move || {
        let fs = MemoryFileSystem::new(settings.seed);
        fs.create_dir_all(Path::new(DIR)).unwrap();
        test(&World::new(fs, Vec::new(), START, settings.seed));
    });
}

/// Runs `main` and the threads that it starts, to their end.
///
/// # Panics
/// If the run fails.
pub(super) fn run(settings: Settings, main: impl FnOnce() + Send + 'static) -> Outcome {
    let run = baton::start(settings, main);
    let mut seen = 0;
    loop {
        if let Some(outcome) = run.wait(Duration::from_secs(5)) {
            if let Some(failure) = &outcome.failure {
                panic!("{:?}: {failure}", settings.policy);
            }
            return outcome;
        }
        if run.steps() != seen {
            seen = run.steps();
            watchdog::step();
        }
    }
}

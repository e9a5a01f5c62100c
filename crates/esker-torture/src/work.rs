//! The tortured program: threads that write and read until they are ended.
//!
//! A call that fails and reports that it was not done is repeated; one that may have been done
//! stays marked, and the program ends with exit status 3, since only a reopen can tell.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};
use esker::{Db, Durability, ErrorKind, Outcome};

use crate::arguments::Arguments;
use crate::expected::Expected;
use crate::layout::{self, ACCOUNTS, KEYS, Opened, TAGGED, THREADS};
use crate::random::Random;
use crate::{Result, say};

/// The database was poisoned, or it is not known whether a write took place.
pub(crate) const STOPPED: u8 = 3;

/// Puts between two syncs of a group.
const GROUP: usize = 20;

/// How long to wait before a refused call is repeated.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a refused open is repeated.
const OPEN_TIME: Duration = Duration::from_secs(20);

struct Work<'a> {
    opened: &'a Opened,
    expected: Expected,
    durability: Durability,
    clock: SystemClock,
    /// Transfers read before they write.
    transfers: Mutex<()>,
    operations_left: AtomicU64,
    /// A thread has met an unknown outcome, or has seen the power go.
    is_stopped: AtomicBool,
    refused: AtomicU64,
}

/// Runs the program; it ends after `--operations`, or when it is ended.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let seed = arguments.number("seed", 1)?;
    let options = layout::options(seed, arguments.number("memory", 64 << 20)?);
    let mut expected = Expected::open(&arguments.path("expected")?)?;
    if arguments.has("marks") {
        expected = expected.with_marks(&arguments.path("marks")?)?;
    }
    let dir = arguments.path("db")?;
    let clock = SystemClock::new();
    let opens_once = arguments.has("open-once");
    let opened = loop {
        let db = Db::builder(&dir).options(options.clone()).open();
        match db.and_then(|db| layout::open(db, seed)) {
            Ok(opened) => break opened,
            // Space or descriptors may come back.
            Err(error) if is_passing(&error) && !opens_once && clock.now() < OPEN_TIME => {
                clock.sleep(PAUSE);
            }
            Err(error) => return stopped_by(&error),
        }
    };
    say("open");
    let work = Work {
        opened: &opened,
        expected,
        durability: if arguments.has("power") { Durability::Power } else { Durability::Process },
        clock,
        transfers: Mutex::new(()),
        operations_left: AtomicU64::new(arguments.number("operations", u64::MAX)?),
        is_stopped: AtomicBool::new(false),
        refused: AtomicU64::new(0),
    };
    let results: Vec<esker::Result<()>> = std::thread::scope(|scope| {
        let work = &work;
        let threads = (0..THREADS).map(|thread| {
            let random = Random::new(seed ^ (thread as u64 + 1) << 40 ^ expected.operation_count());
            scope.spawn(move || work.thread(thread, random))
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    say(&format!("refused {} calls", work.refused.load(Ordering::SeqCst)));
    if let Some(error) = results.into_iter().find_map(esker::Result::err) {
        return stopped_by(&error);
    }
    match opened.db.close() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => stopped_by(&error),
    }
}

fn stopped_by(error: &esker::Error) -> Result<ExitCode> {
    // Who drives the program reads why if it should not have stopped. Nobody else has to.
    drop(writeln!(std::io::stderr(), "stopped: {:?}: {error}", error.kind()));
    match error.kind() {
        ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned => Ok(ExitCode::from(STOPPED)),
        _ => Err(format!("{:?}: {error}", error.kind())),
    }
}

fn is_passing(error: &esker::Error) -> bool {
    matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Io)
}

impl Work<'_> {
    fn thread(&self, thread: usize, mut random: Random) -> esker::Result<()> {
        while !self.is_stopped.load(Ordering::SeqCst) && self.takes_operation() {
            let result = match random.below(100) {
                0..=9 => self.batch(thread),
                10..=19 => self.transfer(&mut random),
                20..=29 => self.read(thread, &mut random),
                30..=31 => self.opened.keyspaces[random.below(3) as usize].flush(),
                32 => self.opened.keyspaces[random.below(3) as usize].compact::<&[u8]>(..),
                44..=53 if self.durability == Durability::Power => self.group(thread, &mut random),
                33..=43 => self.delete(thread, random.below(KEYS as u64) as usize),
                _ => self.put(thread, random.below(KEYS as u64) as usize),
            };
            match result {
                Ok(()) => {}
                Err(error) if error.outcome() == Outcome::NotDone && is_passing(&error) => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                    self.clock.sleep(PAUSE);
                }
                Err(error) => {
                    self.is_stopped.store(true, Ordering::SeqCst);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn takes_operation(&self) -> bool {
        let take = |left: u64| left.checked_sub(1);
        self.operations_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    fn put(&self, thread: usize, index: usize) -> esker::Result<()> {
        let keyspace = &self.opened.keyspaces[layout::keyspace_of(index)];
        let number = self.expected.begin_put(thread, index);
        let value = layout::value(thread, index, number);
        let result = keyspace.put_with(layout::key(thread, index), value, self.durability);
        self.note(thread, index, result)
    }

    fn delete(&self, thread: usize, index: usize) -> esker::Result<()> {
        let keyspace = &self.opened.keyspaces[layout::keyspace_of(index)];
        self.expected.begin_delete(thread, index);
        let result = keyspace.delete_with(layout::key(thread, index), self.durability);
        self.note(thread, index, result)
    }

    /// Puts to adjacent keys, which one sync makes durable: until then each may be lost, and the
    /// device has several writes in flight. After an error nothing more is done: the group stays
    /// open.
    fn group(&self, thread: usize, random: &mut Random) -> esker::Result<()> {
        let start = random.below((KEYS - GROUP) as u64) as usize;
        for index in start..start + GROUP {
            let keyspace = &self.opened.keyspaces[layout::keyspace_of(index)];
            let number = self.expected.begin_put(thread, index);
            let value = layout::value(thread, index, number);
            let put = keyspace.put_with(layout::key(thread, index), value, Durability::Process);
            put.inspect_err(|_| self.is_stopped.store(true, Ordering::SeqCst))?;
        }
        let synced = self.opened.db.sync();
        synced.inspect_err(|_| self.is_stopped.store(true, Ordering::SeqCst))?;
        (start..start + GROUP).try_for_each(|index| self.note(thread, index, Ok(())))
    }

    fn note(&self, thread: usize, index: usize, result: esker::Result<()>) -> esker::Result<()> {
        match &result {
            // It may or may not have taken effect, and stays so; it is this thread's last.
            _ if self.is_power_going() => {}
            Ok(()) => self.expected.done(thread, index),
            Err(error) if error.outcome() == Outcome::NotDone => {
                self.expected.not_done(thread, index);
            }
            Err(_) => {}
        }
        result
    }

    /// Whether the power is going; then nothing more is begun or recorded.
    fn is_power_going(&self) -> bool {
        let is_going = self.expected.is_power_going();
        self.is_stopped.fetch_or(is_going, Ordering::SeqCst);
        is_going
    }

    /// One number to keys of all keyspaces: all of them have it, or none.
    fn batch(&self, thread: usize) -> esker::Result<()> {
        let number = self.expected.last_batch(thread) + 1;
        let mut batch = self.opened.db.batch();
        for keyspace in &self.opened.keyspaces {
            (0..TAGGED).for_each(|place| {
                batch.put(keyspace, layout::last_key(thread, place), number.to_string());
            });
            let value = format!("{number} {}", "x".repeat(number as usize % 90));
            batch.put(keyspace, layout::slot_key(thread, number), value);
        }
        batch.commit_with(self.durability)?;
        if !self.is_power_going() {
            self.expected.set_last_batch(thread, number);
        }
        Ok(())
    }

    fn transfer(&self, random: &mut Random) -> esker::Result<()> {
        let _one = self.transfers.lock().expect("no thread panics");
        let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
        if from == to {
            return Ok(());
        }
        let bank = &self.opened.bank;
        let balance = |number| -> esker::Result<u64> {
            let parse = |value: &[u8]| layout::number_of(value).expect("a balance is a number");
            Ok(bank.get_with(layout::account(number), parse)?.expect("accounts stay"))
        };
        let (rich, poor) = (balance(from)?, balance(to)?);
        let amount = random.below(rich + 1);
        let mut batch = self.opened.db.batch();
        batch.put(bank, layout::account(from), (rich - amount).to_string());
        batch.put(bank, layout::account(to), (poor + amount).to_string());
        batch.commit_with(self.durability)
    }

    /// Nobody else writes a thread's keys, so it knows their values.
    fn read(&self, thread: usize, random: &mut Random) -> esker::Result<()> {
        let index = random.below(KEYS as u64) as usize;
        let keyspace = &self.opened.keyspaces[layout::keyspace_of(index)];
        let found = keyspace.get(layout::key(thread, index))?;
        let allowed = self.expected.allowed(thread, index);
        let number = |number: u32| layout::value(thread, index, number);
        let is_right = found.as_deref() == allowed.before.map(number).as_deref();
        assert!(is_right, "key {index} of thread {thread}: {found:?}, and not {allowed:?}");
        let view = self.opened.db.snapshot().keyspace(&self.opened.bank);
        if random.one_in(8) {
            let mut total = 0;
            for value in view.prefix("account ").values() {
                total += layout::number_of(&value?).expect("a balance is a number");
            }
            assert!(total == layout::TOTAL, "the bank has {total}");
        }
        Ok(())
    }
}

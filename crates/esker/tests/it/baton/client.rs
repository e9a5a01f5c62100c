//! One client: does its operations one after the other, beside the others, and compares every
//! answer with the history.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use esker::{
    Batch, CompactionEnd, CompactionHandle, Cursor, Db, Durability, Error, ErrorKind, Keyspace,
    KeyspaceOptions, Outcome, Result, Value,
};
use esker_base::baton;

use super::coverage;
use super::filtering;
use super::history::{Id, ORDER_KEY, name_of};
use super::plan::{UNLOGGED, rule};
use super::reader::{
    ALL, Entries, Kept, Taken, check_cursor, check_range, look, read_all, state_of,
};
use super::rest::{assert_bounded, memtables_of};
use super::script::{Op, Steer};
use super::strangers::intrude;
use super::world::{World, is_of_file_system};
use crate::state::{Bounds, Bytes, How, State, Turn, Write};

/// The longest that a call may take which waits for no compaction: as long as a filter of a run takes for
/// two values, and a little more. It is counted while all wait.
const PROMPT: Duration = Duration::from_secs(50);

/// How long a client rests while slow work goes on.
const REST: Duration = Duration::from_secs(150);

/// A cursor that was opened, and what it shows.
struct Held {
    name: &'static str,
    turn: Turn,
    cursor: Cursor,
    entries: Entries,
    /// The keys from which on it stands.
    ahead: BTreeSet<Bytes>,
}

pub(super) struct Client {
    id: u32,
    /// The database that it works with, and the number of its part with a log.
    pub(super) home: usize,
    /// Events and keyspaces so far.
    number: u32,
    pub(super) has_faults: bool,
    /// Memtables of a keyspace, before anybody wrote.
    opened_with: usize,
    pub(super) world: Arc<World>,
    pub(super) db: Db,
    held: Vec<Held>,
    kept: Vec<Kept>,
    compactions: Vec<CompactionHandle>,
    /// Which of its own keys it has put and not deleted again; none while that is not known.
    toggles: Option<BTreeMap<(String, Bytes), bool>>,
}

impl Client {
    /// The first event has the number `number`.
    pub(super) fn new(
        id: u32,
        home: usize,
        number: u32,
        has_faults: bool,
        world: Arc<World>,
        db: Db,
    ) -> Self {
        let toggles = Some(world.history(home).toggles(id));
        let (held, kept, compactions) = (Vec::new(), Vec::new(), Vec::new());
        let opened_with = memtables_of(&db);
        Self {
            id,
            home,
            number,
            has_faults,
            opened_with,
            world,
            db,
            held,
            kept,
            compactions,
            toggles,
        }
    }

    /// Does everything, until the database is closed.
    pub(super) fn run(&mut self, ops: Vec<Op>) {
        for op in ops {
            if let Err(error) = self.act_in_time(&op) {
                if error.kind() == ErrorKind::Closed && self.world.is_closing(self.home) {
                    return self.read_on();
                }
                self.excuse(&error, &op);
            }
            assert_bounded(&self.db, self.opened_with);
        }
        while !self.held.is_empty() {
            if let Err(error) = self.release() {
                self.excuse(&error, &Op::Release);
            }
        }
        while !self.kept.is_empty() {
            if let Err(error) = self.look_again(true) {
                self.excuse(&error, &Op::LookAgain(true));
            }
        }
    }

    /// Somebody has closed the database; cursors go on reading what they hold.
    fn read_on(&mut self) {
        while !self.held.is_empty() {
            if let Err(error) = self.release() {
                assert_ne!(error.kind(), ErrorKind::Closed, "a cursor, closed: {error:?}");
                self.excuse(&error, &Op::Release);
            }
            coverage::add("cursors that read on after a close", 1);
        }
    }

    /// Does `op`, and where nothing goes wrong, in time: nobody waits for the work of somebody else without
    /// an end, however long that takes. A panic of the file system leaves nothing but an outcome that is
    /// not known.
    ///
    /// # Panics
    /// If it takes too long while all wait.
    fn act_in_time(&mut self, op: &Op) -> Result<()> {
        let begun = baton::idle();
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| self.act(op)));
        let result = result.unwrap_or_else(|panic| {
            if !self.has_faults || !is_of_file_system(&*panic) {
                std::panic::resume_unwind(panic);
            }
            coverage::add("panics of the file system that a client met", 1);
            self.toggles = None;
            Ok(())
        });
        let took = baton::idle() - begun;
        let is_bounded = op.is_prompt() && self.world.is_sound.load(Ordering::Relaxed);
        assert!(!is_bounded || took <= PROMPT, "client {}, {op:?} took {took:?}", self.id);
        result
    }

    /// # Panics
    /// If nothing went wrong that would explain `error`.
    fn excuse(&self, error: &Error, op: &Op) {
        let is_expected = match error.kind() {
            ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::Poisoned => self.has_faults,
            ErrorKind::Closed => self.world.is_closing(self.home),
            _ => false,
        };
        assert!(is_expected, "client {}, {op:?}: {error:?}", self.id);
    }

    fn act(&mut self, op: &Op) -> Result<()> {
        match op {
            Op::Write(writes, durability) => self.write(self.home, writes, *durability),
            Op::WriteUnlogged(writes, durability) => {
                coverage::add("batches without a log", 1);
                self.write(self.part_of(UNLOGGED), writes, *durability)
            }
            Op::Ingest(writes, how) => self.ingest(writes, *how),
            Op::BulkLoad(writes, ends) => self.bulk_load(writes, *ends),
            Op::Get(name, key) => self.get(name, key),
            Op::MultiGet(name, keys) => self.multi_get(name, keys),
            Op::Scan(name, bounds) => self.scan(name, bounds),
            Op::ReadAll => self.read_all(),
            Op::Hold(name, from) => self.hold(name, from.as_deref()),
            Op::Release => self.release(),
            Op::Keep => self.keep(),
            Op::LookAgain(drops) => self.look_again(*drops),
            Op::Flush(name) => self.flush(name),
            Op::Compact(name, bounds) => self.keyspace(name)?.compact(bounds.clone()),
            Op::StartCompaction(name, bounds, cancels) => {
                let handle = self.keyspace(name)?.start_compaction(bounds.clone())?;
                self.compactions.push(handle);
                if *cancels { self.steer(Steer::Cancel) } else { Ok(()) }
            }
            Op::Steer(steer) => self.steer(*steer),
            Op::Temporary(how) => self.come_and_go(*how),
            Op::Age(way) => self.grow_old(*way),
            Op::Forget(way) => self.forget(*way),
            Op::Choose(name, options) => self.choose(name, options),
            Op::Settle => {
                self.db.wait_until_settled()?;
                coverage::add("waits until all was settled beside clients", 1);
                Ok(())
            }
            Op::Pause(duration) => {
                self.db.pause_compactions();
                self.world.env.clock.sleep(*duration);
                self.db.resume_compactions();
                Ok(())
            }
            Op::Sync => self.sync(),
            Op::Intrude(_)
            | Op::Sleep(_)
            | Op::SetBack(_)
            | Op::Rest
            | Op::Spoil(..)
            | Op::Heal => {
                self.disturb(op);
                Ok(())
            }
            Op::Close => {
                coverage::add("closes beside clients", 1);
                self.world.set_closing(self.home);
                self.held.clear();
                self.kept.clear();
                self.compactions.clear();
                self.db.clone().close()
            }
        }
    }

    /// Does something to what is around the database.
    fn disturb(&self, op: &Op) {
        match op {
            Op::Intrude(who) => intrude(&self.world, self.home, &self.db, *who, self.has_faults),
            Op::Sleep(duration) => self.world.env.clock.sleep(*duration),
            Op::SetBack(by) => self.world.clock.go_back(&self.db, *by),
            Op::Rest => {
                self.world.env.clock.sleep(REST);
                self.world.take_moment("what comes behind a rest");
            }
            Op::Spoil(kind, seed) => self.world.faults.add(rule(*kind, *seed)),
            Op::Heal => self.world.faults.clear(),
            op => unreachable!("{op:?} is an act of the database"),
        }
    }

    /// What was acknowledged before stays, whatever becomes of the power.
    fn sync(&self) -> Result<()> {
        let before = self.required();
        let others_waited = self.world.begin_promise();
        let result = self.db.sync();
        if result.is_ok() {
            self.world.history(self.home).promise(&before);
        }
        self.world.end_promise(result.is_ok(), others_waited);
        result
    }

    fn read_all(&self) -> Result<()> {
        let mut parts = self.world.parts(self.home).into_iter();
        parts.try_for_each(|part| {
            read_all(&self.world, part, &self.db, &self.required_of(part), "all")
        })
    }

    fn keep(&mut self) -> Result<()> {
        for part in self.world.parts(self.home) {
            let required = self.required_of(part);
            self.kept.push(Kept::new(&self.world, part, &self.db, &required)?);
        }
        Ok(())
    }

    /// Gives a keyspace other options, but for what must stay the same as long as there is something in it.
    fn choose(&self, name: &str, options: &KeyspaceOptions) -> Result<()> {
        let KeyspaceOptions { order, compaction_filter, default_ttl, log, .. } =
            self.keyspace(name)?.options();
        let options =
            KeyspaceOptions { order, compaction_filter, default_ttl, log, ..options.clone() };
        self.db.keyspace(name, options)?;
        coverage::add("options changed while it was open", 1);
        Ok(())
    }

    pub(super) fn keyspace(&self, name: &str) -> Result<Keyspace> {
        Ok(self.db.existing_keyspace(name)?.expect("nobody drops the shared keyspaces"))
    }

    /// The number of the part that a keyspace belongs to.
    fn part_of(&self, name: &str) -> usize {
        let parts = self.world.parts(self.home);
        *if name == UNLOGGED { parts.last() } else { parts.first() }.expect("there is one")
    }

    /// What every reader of keyspaces with a log sees that begins now.
    pub(super) fn required(&self) -> BTreeSet<Id> {
        self.required_of(self.home)
    }

    /// What every reader of a part sees that begins now.
    fn required_of(&self, part: usize) -> BTreeSet<Id> {
        self.world.history(part).acknowledged()
    }

    pub(super) fn next_id(&mut self) -> Id {
        self.number += 1;
        (self.id, self.number - 1)
    }

    pub(super) fn count_outcome(&self, result: &Result<()>) {
        match result {
            Ok(()) => {}
            Err(error) if error.outcome() == Outcome::NotDone => {
                coverage::add("writes that were refused", 1);
            }
            Err(_) => coverage::add("writes of unknown outcome", 1),
        }
    }

    /// Writes a batch to the keyspaces of a part.
    fn write(&mut self, number: usize, writes: &[Write], durability: Durability) -> Result<()> {
        let id = self.next_id();
        let toggles = self.toggles.clone();
        let mut writes = self.resolve(writes);
        let part = self.world.part(number);
        for name in BTreeSet::from([part.order, part.loaded]) {
            writes.push(Write::merge(name, ORDER_KEY, name_of(id).as_bytes()));
        }
        let (batch, writes) = self.fill(writes)?;
        self.world.history(number).issue(id, writes);
        let is_promised = durability == Durability::Power;
        // Of what has a log, though it has none itself.
        let before = (is_promised && !part.is_logged).then(|| self.required());
        let others_waited = is_promised && self.world.begin_promise();
        let result = batch.commit_with(durability);
        let mut history = self.world.history(number);
        match &result {
            // Without a log it stays when it is flushed.
            Ok(()) if !part.is_logged => history.acknowledge(id, Durability::Buffered),
            Ok(()) => history.acknowledge(id, durability),
            Err(error) if error.outcome() == Outcome::NotDone => {
                history.refuse(id);
                self.toggles = toggles;
            }
            Err(_) => self.toggles = None,
        }
        drop(history);
        if let Some(before) = before.filter(|_| result.is_ok()) {
            self.world.history(self.home).promise(&before);
        }
        if is_promised {
            self.world.end_promise(result.is_ok(), others_waited);
        }
        self.count_outcome(&result);
        result
    }

    /// A batch of `writes`, and what becomes of them: puts that do not say when they expire have it
    /// from their keyspace. Filled again until no time passes meanwhile.
    fn fill(&self, writes: Vec<Write>) -> Result<(Batch, Vec<Write>)> {
        // Nothing of this batch depends on what was there before.
        let state = State::new();
        loop {
            let mut batch = self.db.batch();
            let mut filled = Vec::with_capacity(writes.len());
            let (now, mut ranges) = (self.world.millis(), 0);
            for write in &writes {
                let keyspace = self.keyspace(&write.keyspace)?;
                write.add_to(&mut batch, &keyspace, &state);
                let is_own_order = Turn::of(&keyspace.options().order) == Turn::Shortlex;
                ranges += u64::from(is_own_order && write.range.is_some());
                let is_plain = write.how == How::Plain && write.value.is_some();
                let ttl = keyspace.options().default_ttl.filter(|_| is_plain);
                let expiry = write.expiry.or(ttl.map(|ttl| now + ttl.as_millis() as u64));
                filled.push(Write { expiry, ..write.clone() });
            }
            if self.world.millis() == now {
                let new = |(a, b): (&Write, &Write)| u64::from(a.expiry != b.expiry);
                coverage::add("ranges deleted in an order of the user's own", ranges);
                coverage::add("default ttls", filled.iter().zip(&writes).map(new).sum());
                return Ok((batch, filled));
            }
        }
    }

    /// What the keyspace without a log holds stays from then on.
    fn flush(&self, name: &str) -> Result<()> {
        let part = self.part_of(name);
        let before = self.required_of(part);
        self.keyspace(name)?.flush()?;
        if !self.world.part(part).is_logged {
            self.world.history(part).promise(&before);
        }
        Ok(())
    }

    /// Turns toggles into puts and single deletes; leaves them out if it is not known which. What
    /// expires soon gets its time.
    fn resolve(&mut self, writes: &[Write]) -> Vec<Write> {
        let mut resolved = Vec::new();
        for write in writes {
            if write.how != How::Toggle {
                let expiry = write.expiry.map(|expiry| self.world.expiry(expiry));
                resolved.push(Write { expiry, ..write.clone() });
                continue;
            }
            let Some(toggles) = &mut self.toggles else { continue };
            let is_there = toggles.entry((write.keyspace.clone(), write.key.clone())).or_default();
            *is_there = !*is_there;
            let value = write.value.as_ref().expect("a toggle has a value");
            resolved.push(if *is_there {
                Write::put(&write.keyspace, &write.key, value)
            } else {
                coverage::add("single deletes", 1);
                Write::single_delete(&write.keyspace, &write.key)
            });
        }
        resolved
    }

    /// What is read now is what was there after some event from before the call to after it.
    fn get(&self, name: &str, key: &[u8]) -> Result<()> {
        self.look_up(name, &[key], |keyspace| Ok(vec![keyspace.get(key)?]))
    }

    fn multi_get(&self, name: &str, keys: &[Vec<u8>]) -> Result<()> {
        coverage::add("keys of multi-gets", keys.len() as u64);
        // First and last one that every batch writes to.
        let mut all = vec![ORDER_KEY];
        all.extend(keys.iter().map(|key| &**key).chain([ORDER_KEY]));
        self.look_up(name, &all, |keyspace| keyspace.multi_get(&all))
    }

    /// What is found is what was there, all of it at one moment.
    fn look_up(
        &self,
        name: &str,
        keys: &[&[u8]],
        read: impl FnOnce(&Keyspace) -> Result<Vec<Option<Value>>>,
    ) -> Result<()> {
        let part = self.part_of(name);
        let required = self.required_of(part);
        let before = self.world.millis();
        let first = look(&self.world, part, &self.db, &required)?;
        let found = read(&self.keyspace(name)?)?;
        let last = look(&self.world, part, &self.db, &required)?;
        let after = self.world.millis();
        let history = self.world.history(part);
        let allows = |count, millis| {
            let contents = history.state(count, millis).contents(name);
            let written = keys.iter().map(|key| contents.get(*key).map(|value| &**value));
            let found = found.iter().map(Option::as_deref);
            keys.iter().zip(written).zip(found).all(|((key, w), f)| filtering::allows(key, w, f))
        };
        let is_allowed = (first..=last).any(|count| {
            let times = history.state(count, before).expiries_of(name, before, after);
            times.into_iter().chain([before]).any(|millis| allows(count, millis))
        });
        assert!(
            is_allowed,
            "get of {name} {:?} gives {found:?}, not one of the states {first} to {last}, at \
             {before} to {after}",
            keys.iter().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>()
        );
        Ok(())
    }

    fn scan(&self, name: &str, bounds: &Bounds) -> Result<()> {
        let part = self.part_of(name);
        let required = self.required_of(part);
        let taken = Taken::new(&self.world, &self.db);
        let state = state_of(&self.world, part, &self.db, &taken, &required)?;
        let view = taken.snapshot.keyspace(&self.keyspace(name)?);
        check_range(&view, bounds, state.between(name, bounds), name).map(drop)
    }

    fn hold(&mut self, name: &'static str, from: Option<&[u8]>) -> Result<()> {
        let part = self.part_of(name);
        let required = self.required_of(part);
        let taken = Taken::new(&self.world, &self.db);
        let mut cursor = taken.snapshot.keyspace(&self.keyspace(name)?).cursor()?;
        // Else not looked at before it must: its tables may be those that nobody has opened.
        if let Some(from) = from {
            cursor.seek(from)?;
        }
        let state = state_of(&self.world, part, &self.db, &taken, &required)?;
        let ahead = from.map(|from| (Bound::Included(from.to_vec()), Bound::Unbounded));
        let ahead = ahead.map(|bounds| state.between(name, &bounds)).unwrap_or_default();
        let ahead = ahead.into_iter().map(|(key, _)| key).collect();
        let (turn, entries) = (state.turn_of(name), state.between(name, &ALL));
        self.held.push(Held { name, turn, cursor, entries, ahead });
        Ok(())
    }

    fn release(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let mut held = self.held.remove(0);
        check_cursor(&mut held.cursor, held.entries, &held.ahead, (held.name, held.turn))
    }

    /// At the snapshot that was kept first.
    fn look_again(&mut self, drops: bool) -> Result<()> {
        let Some(kept) = self.kept.first() else { return Ok(()) };
        coverage::add("snapshots looked at again", 1);
        let result = kept.look_again(&self.db);
        if drops {
            self.kept.remove(0);
        }
        result
    }

    fn steer(&mut self, steer: Steer) -> Result<()> {
        if self.compactions.is_empty() {
            return Ok(());
        }
        let first = if matches!(steer, Steer::Cancel) { self.compactions.len() - 1 } else { 0 };
        let handle = self.compactions.remove(first);
        match steer {
            Steer::Leave => return Ok(()),
            Steer::Wait => {}
            Steer::Cancel => handle.cancel(),
            Steer::Pause(duration) => {
                handle.pause();
                self.world.env.clock.sleep(duration);
                handle.resume();
                coverage::add("compactions that were paused", 1);
            }
        }
        if handle.wait()?.end == CompactionEnd::Cancelled {
            coverage::add("compactions cancelled", 1);
        }
        Ok(())
    }
}

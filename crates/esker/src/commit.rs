//! The commit pipeline: groups of batches become one log frame, then memtable entries.
//!
//! A writer that finds no leader leads: it takes its own batch, then those that arrived meanwhile,
//! and hands leadership on after a while so that no caller works for the others for ever. Only the
//! leader writes to the log and the memtables, so both have one writer.
//!
//! For each group, in this order: check, assign sequence numbers, append one frame, hand it to the
//! system if any member asks for that, insert into the memtables, publish. A failure up to the
//! append leaves nothing; a failure of the write poisons the database, since the frame may or may
//! not be in the file.
//!
//! Waiting for the device is not part of leading. Each member that asked for [`Durability::Power`]
//! waits on its own thread, and the waiting members share syncs (`Logs::sync_to`), so the next
//! groups are written while the device works. A write is therefore visible to other readers a
//! moment before it is durable; its own caller is told only afterwards. Pebble does the same.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use esker_base::SeqNo;
use esker_base::coding::Decoder;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keyspace_core::KeyspaceCore;
use crate::logs::Appender;
use crate::operation::{GroupHeader, Operation};
use crate::options::Durability;

/// After this many groups a leader hands on, if somebody waits.
const GROUPS_PER_LEADER: usize = 32;

/// A group takes no further batch once it has this many bytes: the members that came first should
/// not wait for a huge frame.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// Buffered frames are handed to the system when they reach this size, whatever their durability.
const BUFFERED_BYTES_MAX: usize = 256 << 10;

/// A batch on its way into the database.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    /// Encoded operations.
    pub(crate) operations: &'a [u8],
    pub(crate) count: u64,
    /// Every keyspace that an operation names.
    pub(crate) keyspaces: &'a [Arc<KeyspaceCore>],
    pub(crate) durability: Durability,
}

#[derive(Debug, Default)]
pub(crate) struct CommitPipeline {
    /// Lock order: before everything else. Never held while working.
    queue: Mutex<Queue>,
    /// Held by whoever leads, and by who must keep everybody from leading. Lock order: after
    /// `queue`, before the ledger.
    leader: Mutex<Leader>,
}

#[derive(Debug, Default)]
struct Queue {
    has_leader: bool,
    waiting: VecDeque<Arc<Waiter>>,
}

/// What only the leader touches.
#[derive(Debug, Default)]
pub(crate) struct Leader {
    /// Last sequence number given out.
    pub(crate) last_seqno: SeqNo,
    /// Last sequence number that is in a log.
    pub(crate) last_logged: SeqNo,
    pub(crate) appender: Appender,
    /// Reused for the header of each group.
    header: Vec<u8>,
}

impl Leader {
    pub(crate) fn starting_at(last_seqno: SeqNo, last_logged: SeqNo) -> Self {
        Self { last_seqno, last_logged, ..Self::default() }
    }
}

/// A batch whose writer waits for a leader.
#[derive(Debug)]
struct Waiter {
    operations: Vec<u8>,
    count: u64,
    keyspaces: Vec<Arc<KeyspaceCore>>,
    durability: Durability,
    state: Mutex<WaiterState>,
    /// Set with Release after `state` has its answer; lets the waiter spin a little first.
    is_answered: AtomicBool,
    answered: Condvar,
}

#[derive(Debug)]
enum WaiterState {
    Waiting,
    /// Leadership was handed over; the batch is not written.
    Leads,
    /// The end position of the log, for a later sync.
    Done(Result<u64>),
}

/// How often a waiter looks before it sleeps. A wake-up costs about a microsecond, a look about
/// ten nanoseconds; more looks only take the processor from the leader on a small machine.
const SPINS: usize = 50;

impl Waiter {
    fn answer(&self, state: WaiterState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        // Release pairs with the Acquire in `wait`.
        self.is_answered.store(true, Ordering::Release);
        self.answered.notify_one();
    }

    fn wait(&self) -> WaiterState {
        for _ in 0..SPINS {
            if self.is_answered.load(Ordering::Acquire) {
                break;
            }
            std::hint::spin_loop();
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |state: &mut WaiterState| matches!(state, WaiterState::Waiting);
        let mut state =
            self.answered.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        self.is_answered.store(false, Ordering::Relaxed);
        std::mem::replace(&mut *state, WaiterState::Waiting)
    }

    fn request(&self) -> Request<'_> {
        Request {
            operations: &self.operations,
            count: self.count,
            keyspaces: &self.keyspaces,
            durability: self.durability,
        }
    }
}

impl CommitPipeline {
    pub(crate) fn starting_at(leader: Leader) -> Self {
        Self { queue: Mutex::default(), leader: Mutex::new(leader) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps everybody from leading while the result is held.
    pub(crate) fn lead(&self) -> MutexGuard<'_, Leader> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one batch, alone or in a group, and returns the position of the log's end after it.
    fn submit(&self, engine: &Engine, request: Request<'_>) -> Result<u64> {
        let waiter = {
            let mut queue = self.queue();
            if queue.has_leader {
                let waiter = Arc::new(Waiter {
                    operations: request.operations.to_vec(),
                    count: request.count,
                    keyspaces: request.keyspaces.to_vec(),
                    durability: request.durability,
                    state: Mutex::new(WaiterState::Waiting),
                    is_answered: AtomicBool::new(false),
                    answered: Condvar::new(),
                });
                queue.waiting.push_back(Arc::clone(&waiter));
                Some(waiter)
            } else {
                queue.has_leader = true;
                None
            }
        };
        if let Some(waiter) = waiter {
            match waiter.wait() {
                WaiterState::Done(result) => return result,
                WaiterState::Leads | WaiterState::Waiting => {}
            }
        }
        let mut reign = Reign { pipeline: self, engine, group: Vec::new(), is_over: false };
        let mut leader = self.lead();
        let result = leader.write_group(engine, &[request]);
        reign.serve(&mut leader);
        result
    }
}

/// The time during which one thread leads. However it ends, nobody is left waiting.
struct Reign<'a> {
    pipeline: &'a CommitPipeline,
    engine: &'a Engine,
    /// Whose batches are being written.
    group: Vec<Arc<Waiter>>,
    is_over: bool,
}

impl Reign<'_> {
    /// Writes the groups that gathered, then gives up leadership.
    fn serve(&mut self, leader: &mut Leader) {
        for _ in 0..GROUPS_PER_LEADER {
            {
                let mut queue = self.pipeline.queue();
                if queue.waiting.is_empty() {
                    queue.has_leader = false;
                    self.is_over = true;
                    return;
                }
                self.group = queue.take_group();
            }
            let requests: Vec<Request<'_>> =
                self.group.iter().map(|waiter| waiter.request()).collect();
            let result = leader.write_group(self.engine, &requests);
            for waiter in self.group.drain(..) {
                waiter.answer(WaiterState::Done(result.clone()));
            }
        }
        let mut queue = self.pipeline.queue();
        match queue.waiting.pop_front() {
            Some(next) => next.answer(WaiterState::Leads),
            None => queue.has_leader = false,
        }
        self.is_over = true;
    }
}

impl Drop for Reign<'_> {
    /// After a panic: what the leader was about to write may be half written.
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.engine.poison_by_panic(&"the commit leader");
        let error = self.engine.check_writable().err().unwrap_or_else(Error::closed);
        let mut queue = self.pipeline.queue();
        queue.has_leader = false;
        let waiting: Vec<_> = self.group.drain(..).chain(queue.waiting.drain(..)).collect();
        drop(queue);
        for waiter in waiting {
            waiter.answer(WaiterState::Done(Err(error.clone().with_unknown_outcome())));
        }
    }
}

impl Queue {
    fn take_group(&mut self) -> Vec<Arc<Waiter>> {
        let mut bytes = 0;
        let mut group = Vec::with_capacity(self.waiting.len());
        while let Some(waiter) = self.waiting.pop_front() {
            bytes += waiter.operations.len();
            group.push(waiter);
            if GROUP_BYTES_MAX < bytes {
                break;
            }
        }
        group
    }
}

impl Leader {
    /// Logs, applies and publishes `requests` as one group; all of them or none.
    fn write_group(&mut self, engine: &Engine, requests: &[Request<'_>]) -> Result<u64> {
        engine.check_writable()?;
        for request in requests {
            request.keyspaces.iter().try_for_each(|keyspace| keyspace.check_live())?;
        }
        let log = self.append(engine, requests)?;
        // Applied in the order of the log: logged batches first, see `append`.
        let mut user_bytes = 0;
        for is_logged in [true, false] {
            for request in requests.iter().filter(|request| request.is_logged() == is_logged) {
                user_bytes += self.apply(request, log.filter(|_| is_logged));
            }
        }
        engine.snapshots.publish(self.last_seqno);
        for request in requests {
            request.keyspaces.iter().for_each(|keyspace| engine.after_write(keyspace));
        }
        engine.counters.note_group(requests, user_bytes);
        Ok(engine.logs.written_position())
    }

    /// Appends the logged batches as one frame, and hands it to the system if one of them wants.
    /// The others come after them in the order of sequence numbers, so a frame has no gap inside.
    fn append(
        &mut self,
        engine: &Engine,
        requests: &[Request<'_>],
    ) -> Result<Option<esker_base::LogId>> {
        let logged = || requests.iter().filter(|request| request.is_logged());
        let count: u64 = logged().map(|request| request.count).sum();
        if count == 0 {
            return Ok(None);
        }
        self.header.clear();
        let first_seqno = self.last_seqno.next();
        let unlogged_before = self.last_seqno.get() - self.last_logged.get();
        GroupHeader { first_seqno, unlogged_before, count }.encode(&mut self.header);
        let bytes: usize = logged().map(|request| request.operations.len()).sum();
        let frame_bytes = (bytes + self.header.len()) as u64;
        if self.appender.is_full(frame_bytes, &engine.logs) {
            self.write_log(engine)?;
            engine.release_old_memtables();
        }
        let (log, writer) = self.appender.segment(frame_bytes, &engine.logs, &engine.ledger)?;
        match requests {
            // The usual case, without an allocation.
            [request] => writer.append(&[&self.header, request.operations]),
            _ => {
                let mut parts: Vec<&[u8]> = vec![&self.header];
                parts.extend(logged().map(|request| request.operations));
                writer.append(&parts)
            }
        };
        let wants_write = logged().any(|request| request.durability != Durability::Buffered);
        if wants_write || BUFFERED_BYTES_MAX <= self.appender.buffered_bytes() {
            self.write_log(engine)?;
        } else {
            engine.note_buffered();
        }
        self.last_logged = self.last_seqno.plus(count);
        if engine.logs.wants_prepare(self.appender.current_bytes()) {
            engine.scheduler.request_log_segment();
        }
        Ok(Some(log))
    }

    /// Hands all encoded frames to the system.
    ///
    /// # Errors
    /// Of the system. The database is poisoned then: what follows a frame that may be torn would
    /// be unreachable.
    pub(crate) fn write_log(&mut self, engine: &Engine) -> Result<u64> {
        self.appender.write(&engine.logs).map_err(|error| {
            engine.poison(&error);
            error.with_unknown_outcome()
        })
    }

    /// Inserts the operations of one batch into the memtables of their keyspaces, and returns the
    /// bytes of their keys and values.
    fn apply(&mut self, request: &Request<'_>, log: Option<esker_base::LogId>) -> u64 {
        let mut user_bytes = 0;
        let mut decoder = Decoder::new(request.operations);
        let mut next = decode_next(&mut decoder);
        while let Some(first) = next {
            let keyspace = request.keyspaces.iter().find(|keyspace| keyspace.id == first.keyspace);
            let keyspace = keyspace.expect("a batch lists every keyspace that it names");
            let view = keyspace.view();
            if let Some(log) = log {
                view.active.note_log(log);
            }
            let mut writer = view.active.memtable.writer();
            while let Some(operation) = next.filter(|next| next.keyspace == first.keyspace) {
                self.last_seqno = self.last_seqno.next();
                user_bytes += (operation.key.len() + operation.value.len()) as u64;
                writer.insert(operation.key, self.last_seqno, operation.kind, operation.value);
                next = decode_next(&mut decoder);
            }
        }
        user_bytes
    }
}

fn decode_next<'a>(decoder: &mut Decoder<'a>) -> Option<Operation<'a>> {
    if decoder.is_empty() {
        return None;
    }
    Some(Operation::decode(decoder).expect("operations that were encoded in this process decode"))
}

impl Request<'_> {
    /// A batch goes to the log as a whole if any of its keyspaces has one.
    fn is_logged(&self) -> bool {
        self.keyspaces.iter().any(|keyspace| keyspace.is_logged())
    }
}

impl Engine {
    /// Commits one batch: all of it or, on an error whose outcome is
    /// [`Outcome::NotDone`](crate::Outcome::NotDone), nothing.
    pub(crate) fn commit(&self, request: Request<'_>) -> Result<()> {
        self.check_writable()?;
        if request.count == 0 {
            return Ok(());
        }
        if self.snapshots.visible().get().saturating_add(request.count) > SeqNo::MAX.get() / 2 {
            return Err(Error::invalid_input("the sequence numbers of this database are used up"));
        }
        let bytes = request.operations.len() as u64;
        request.keyspaces.iter().try_for_each(|keyspace| self.admit(keyspace, bytes))?;
        let position = self.pipeline.submit(self, request)?;
        if request.durability == Durability::Power {
            self.sync_to(position)?;
        }
        Ok(())
    }

    /// Makes the log durable up to `position`; a failure poisons the database.
    pub(crate) fn sync_to(&self, position: u64) -> Result<()> {
        self.logs.sync_to(position).map_err(|error| {
            self.poison(&error);
            error.with_unknown_outcome()
        })
    }
}

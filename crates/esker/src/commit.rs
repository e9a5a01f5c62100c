//! The commit pipeline: groups of batches become one log frame, then memtable entries.
//!
//! A writer that finds no leader becomes the leader: it writes its own batch, then those that
//! arrived in the meantime, and hands leadership on after a while, so that no caller works for the
//! others forever. Only the leader writes to the log and the memtables, so both have a single
//! writer.
//!
//! For each group, in this order: check, assign sequence numbers, append one frame, hand it to the
//! system if any member's durability needs that, insert into the memtables, publish. A failure
//! before or during the append has no effect; a failure of the write poisons the database, since
//! the frame may or may not be in the file.
//!
//! The leader does not wait for the device. Each member that asked for [`Durability::Power`] waits
//! on its own thread, and waiting members share syncs (`Logs::sync_to`), so the next groups are
//! written while the device works; if the writers of the last sync are likely to be back soon, the
//! next one waits for them, to serve all (`gathering.rs`). A write is therefore visible to readers
//! a moment before it is durable; its own caller returns only afterwards. Pebble does the same.

mod admission;
mod memtable_memory;

use std::sync::Arc;

use esker_base::coding::Decoder;
use esker_base::{LogId, SeqNo};

use crate::commit_queue::Leader;
use crate::commit_queue::waiter::{Request, Waiter};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::keyspace_core::write_times::as_millis;
use crate::logs::packed_group::put_packed_header;
use crate::operation::{GroupHeader, Operation};
use crate::options::Durability;
use crate::sync::atomic::Ordering;

/// After this many groups a leader hands leadership on, if somebody waits.
const GROUPS_PER_LEADER: usize = 32;

/// Buffered frames are handed to the system when they reach this size, whatever their durability.
const BUFFERED_BYTES_MAX: usize = 256 << 10;

impl Engine {
    /// Commits one batch: all of it or, if an error has the outcome
    /// [`Outcome::NotDone`](crate::Outcome::NotDone), nothing.
    pub(crate) fn commit(&self, request: Request<'_>) -> Result<()> {
        self.check_writable()?;
        if request.count == 0 {
            // An empty batch only makes earlier writes as safe as it asks.
            return match request.durability {
                Durability::Buffered => Ok(()),
                Durability::Process => self.write_buffered(),
                Durability::Power => self.sync(),
            };
        }
        if self.snapshots.visible().get().saturating_add(request.count) > SeqNo::MAX.get() / 2 {
            return Err(Error::invalid_input("the sequence numbers of this database are used up"));
        }
        let bytes = request.operations.len() as u64;
        self.admit(request.keyspaces, bytes)?;
        #[cfg(esker_planted)]
        if request.count > 1 && esker_base::planted::is("batch-split-over-frames") {
            let mut rest = Decoder::new(request.operations);
            while let Some((start, _)) = Some(rest.position()).zip(decode_next(&mut rest)) {
                let operations = &request.operations[start..rest.position()];
                self.commit(Request { operations, count: 1, ..request })?;
            }
            return Ok(());
        }
        let position = self.submit(request)?;
        if request.durability == Durability::Power
            && !esker_base::planted::is("acknowledge-before-sync")
        {
            self.sync_to(position)?;
        }
        Ok(())
    }

    /// Writes one batch, alone or in a group, and returns the position of the end of the log after
    /// it.
    fn submit(&self, request: Request<'_>) -> Result<u64> {
        if let Some(result) = self.pipeline.join(&request).and_then(|waiter| waiter.wait()) {
            return result;
        }
        let mut leader = self.pipeline.lead();
        // Dropped first: after a panic, whoever leads next finds the database poisoned.
        let mut reign = Reign::new(self);
        if let Some(is_busy) = leader.turns.begin_reign(|| self.now()) {
            self.pipeline.set_busy(is_busy);
        }
        let result = leader.write_group(self, &[request]);
        reign.serve(&mut leader);
        drop(leader);
        // Last, after others may lead: a wake-up takes as long as ten writes.
        reign.wake_all();
        result
    }

    /// Makes the log durable up to `position`; a failure poisons the database.
    pub(crate) fn sync_to(&self, position: u64) -> Result<()> {
        self.logs.sync_to(position, || self.now()).map_err(|error| {
            self.poison(&error);
            error.with_unknown_outcome()
        })
    }
}

/// The period in which one thread leads. However it ends, nobody is left waiting.
struct Reign<'a> {
    engine: &'a Engine,
    /// The waiters whose batches are being written.
    group: Vec<Arc<Waiter>>,
    /// Waiters that have an answer and are asleep.
    asleep: Vec<Arc<Waiter>>,
    has_ended: bool,
}

impl<'a> Reign<'a> {
    const fn new(engine: &'a Engine) -> Self {
        Self { engine, group: Vec::new(), asleep: Vec::new(), has_ended: false }
    }

    /// Writes the groups that have gathered, then gives up leadership.
    fn serve(&mut self, leader: &mut Leader) {
        let pipeline = &self.engine.pipeline;
        let mut group_count = 0;
        while !self.hands_over(leader, group_count)
            && pipeline.take_group(&mut self.group, &mut leader.served)
        {
            leader.turns.note_group(group_count, self.group.len());
            self.write_group(leader);
            group_count += 1;
        }
        self.has_ended = true;
        leader.turns.end_reign(&mut self.asleep, || self.engine.now());
    }

    /// Hands leadership to a waiter, if it is time to and one is awake.
    fn hands_over(&self, leader: &mut Leader, group_count: usize) -> bool {
        let is_time = GROUPS_PER_LEADER <= group_count || leader.turns.is_turn_over();
        let is_handed_over = is_time && self.engine.pipeline.hand_over();
        if is_handed_over {
            leader.turns.begin();
        }
        is_handed_over
    }

    fn write_group(&mut self, leader: &mut Leader) {
        let write = |leader: &mut Leader, requests: &[Request<'_>]| match requests {
            [] => Ok(self.engine.logs.written_position()),
            requests => leader.write_group(self.engine, requests),
        };
        // A batch to a dropped keyspace fails without the others; no keyspace can be dropped
        // meanwhile.
        let is_live = |request: &Request<'_>| request.check_live().is_ok();
        let result = match self.group.as_slice() {
            // The usual case, without an allocation.
            [one] if is_live(&one.request()) => write(leader, &[one.request()]),
            group => {
                let requests = group.iter().map(|waiter| waiter.request());
                write(leader, &requests.filter(is_live).collect::<Vec<_>>())
            }
        };
        for waiter in self.group.drain(..) {
            let own = waiter.request().check_live();
            match waiter.answer(own.and_then(|()| result.clone())) {
                true => self.asleep.push(waiter),
                false => leader.keep(waiter),
            }
        }
    }

    fn wake_all(&mut self) {
        // Usually nobody sleeps, and even draining nothing takes a hundred instructions.
        if !self.asleep.is_empty() {
            self.asleep.drain(..).for_each(|waiter| waiter.wake());
        }
    }
}

impl Drop for Reign<'_> {
    /// After a panic: what the leader was writing may be half written.
    fn drop(&mut self) {
        if !self.has_ended {
            self.engine.poison_by_panic(&"the commit leader");
            let error = self.engine.check_writable().err().unwrap_or_else(Error::closed);
            let error = error.with_unknown_outcome();
            self.asleep.extend(self.engine.pipeline.abandon(&mut self.group, &error));
        }
        self.wake_all();
    }
}

/// A write of the log. Unless it is done when this is dropped, after an error or a panic of the file system,
/// the log takes no more, and neither does the database.
struct LogWrite<'a> {
    engine: &'a Engine,
    is_done: bool,
}

impl Drop for LogWrite<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.engine.has_log_failed.store(true, Ordering::Relaxed);
            // An error has done so already, and the first cause counts.
            self.engine.poison_by_panic(&"a write of the log");
        }
    }
}

impl Leader {
    /// Logs, applies and publishes `requests` as one group, all or none.
    fn write_group(&mut self, engine: &Engine, requests: &[Request<'_>]) -> Result<u64> {
        engine.check_writable()?;
        for request in requests {
            request.check_live()?;
        }
        let log = self.append(engine, requests)?;
        if esker_base::planted::is("publish-before-insert") {
            engine
                .snapshots
                .publish(self.last_seqno.plus(requests.iter().map(|request| request.count).sum()));
        }
        // Applied in the order of the log: logged batches first, see `append`.
        let mut user_bytes = 0;
        for is_logged in [true, false] {
            for request in requests.iter().filter(|request| request.is_logged() == is_logged) {
                user_bytes += self.apply(engine, request, log.filter(|_| is_logged));
            }
        }
        engine.snapshots.publish(self.last_seqno);
        if std::mem::take(&mut self.has_full_memtable) {
            for request in requests {
                request.keyspaces.iter().for_each(|keyspace| engine.after_write(keyspace));
            }
        }
        if std::mem::take(&mut self.has_grown_memtable) {
            engine.bound_active_memtables();
        }
        let count = requests.iter().map(|request| request.count).sum();
        engine.counters.note_group(requests.len(), count, user_bytes);
        Ok(engine.logs.written_position())
    }

    /// Appends the logged batches as one frame, and hands it to the system if the durability of any
    /// batch needs that; an unlogged batch needs it for earlier writes. Unlogged batches get
    /// sequence numbers after the logged ones, so a frame has no gap inside.
    fn append(&mut self, engine: &Engine, requests: &[Request<'_>]) -> Result<Option<LogId>> {
        let logged = requests.iter().filter(|request| request.is_logged());
        let count: u64 = logged.map(|request| request.count).sum();
        let wants_write = requests.iter().any(|it| it.durability != Durability::Buffered);
        if count == 0 {
            if wants_write
                && self.appender.buffered_bytes() != 0
                && !esker_base::planted::is("unlogged-write-passes-buffered")
            {
                self.write_earlier(engine)?;
            }
            return Ok(None);
        }
        let log = self.append_frame(engine, requests, count)?;
        if wants_write
            || BUFFERED_BYTES_MAX <= self.appender.buffered_bytes()
            || engine.is_buffer_overdue()
        {
            self.write_log(engine)?;
        } else {
            engine.note_buffered();
        }
        if wants_write || !esker_base::planted::is("buffered-log-not-marked") {
            engine.note_unmarked();
        }
        self.last_logged = self.last_seqno.plus(count);
        let wants_window = self.appender.take_window_request();
        let wants_segment = engine.logs.take_segment_request(self.appender.current_bytes());
        if wants_segment || wants_window {
            engine.scheduler.request_log();
        }
        Ok(Some(log))
    }

    /// Encodes the logged ones of `requests`, `count` operations together, as a frame.
    fn append_frame(
        &mut self,
        engine: &Engine,
        requests: &[Request<'_>],
        count: u64,
    ) -> Result<LogId> {
        let logged = requests.iter().filter(|request| request.is_logged());
        let batches = || logged.clone().map(|request| request.operations);
        let bytes: usize = batches().map(<[u8]>::len).sum();
        let first_seqno = self.last_seqno.next();
        let unlogged_before = self.last_seqno.get() - self.last_logged.get();
        let header = GroupHeader { first_seqno, unlogged_before, count };
        self.header.clear();
        let packed_len = self.packer.as_mut().and_then(|packer| packer.pack(batches(), bytes));
        match packed_len {
            None => header.encode(&mut self.header),
            Some(_) => put_packed_header(header, bytes, &mut self.header),
        }
        let payload_bytes = (packed_len.unwrap_or(bytes) + self.header.len()) as u64;
        if self.appender.is_full(payload_bytes, &engine.logs) {
            self.write_earlier(engine)?;
            engine.release_old_memtables();
        }
        let (log, writer) =
            self.appender.segment(payload_bytes, self.last_logged, &engine.logs, &engine.ledger)?;
        match (requests, self.packer.as_mut().zip(packed_len)) {
            (_, Some((packer, packed_len))) => {
                writer.append(&[&self.header, packer.packed(packed_len)]);
                packer.give_back();
                engine.counters.note_packed(bytes, packed_len);
            }
            // The usual case, without an allocation.
            ([request], None) => {
                writer.append(&[&self.header, request.operations]);
            }
            (_, None) => {
                let mut parts: Vec<&[u8]> = vec![&self.header];
                parts.extend(batches());
                writer.append(&parts);
            }
        }
        Ok(log)
    }

    /// Hands all encoded frames to the system.
    ///
    /// # Errors
    /// Of the system. The database is then poisoned: recovery could not reach what follows a torn
    /// frame.
    pub(crate) fn write_log(&mut self, engine: &Engine) -> Result<u64> {
        let mut write = LogWrite { engine, is_done: false };
        let end = self.appender.write(&engine.logs).map_err(|error| {
            engine.poison(&error);
            error.with_unknown_outcome()
        })?;
        write.is_done = true;
        Ok(end)
    }

    /// As [`Leader::write_log`], for a group of which nothing is encoded yet: so nothing of it is
    /// done if that fails.
    #[cold]
    fn write_earlier(&mut self, engine: &Engine) -> Result<u64> {
        self.write_log(engine).map_err(Error::with_nothing_done)
    }

    /// Ends the current log segment, if there is one, and begins another.
    ///
    /// # Errors
    /// As [`Leader::write_log`]; or if the segment cannot be made, and then nothing has changed.
    pub(crate) fn begin_log_segment(&mut self, engine: &Engine) -> Result<()> {
        self.write_log(engine)?;
        self.appender.begin(self.last_logged, &engine.logs, &engine.ledger)
    }

    /// Appends a mark: an empty group. It states that everything before it is durable, once that is
    /// so.
    pub(crate) fn append_mark(&mut self, engine: &Engine) -> Result<u64> {
        self.header.clear();
        let first_seqno = self.last_logged.next();
        GroupHeader { first_seqno, unlogged_before: 0, count: 0 }.encode(&mut self.header);
        self.appender.append_to_current(&self.header);
        self.write_log(engine)
    }

    /// Inserts the operations of one batch into the memtables of their keyspaces, and returns the
    /// bytes of their keys and values.
    fn apply(&mut self, engine: &Engine, request: &Request<'_>, log: Option<LogId>) -> u64 {
        let mut user_bytes = 0;
        let mut decoder = Decoder::new(request.operations);
        let mut next = decode_next(&mut decoder);
        while let Some(first) = next {
            let keyspace = request.keyspaces.iter().find(|keyspace| keyspace.id == first.keyspace);
            let keyspace = keyspace.expect("a batch lists every keyspace that it names");
            let view = keyspace.view();
            match log {
                Some(log) => view.active.note_log(log),
                None => view.active.note_unlogged(),
            }
            let mut writer = view.active.memtable.writer();
            while let Some(operation) = next.filter(|next| next.keyspace == first.keyspace) {
                self.last_seqno = self.last_seqno.next();
                user_bytes += (operation.key.len() + operation.value.len()) as u64;
                writer.insert(operation.key, self.last_seqno, operation.kind, operation.value);
                next = decode_next(&mut decoder);
            }
            drop(writer);
            let now = || as_millis(engine.wall());
            view.active.times.note(&view.active.memtable, now);
            self.has_grown_memtable |= view.active.update_charge();
            self.has_full_memtable |= keyspace.memtable_bytes()
                <= view.active.memtable.size_bytes()
                || keyspace.tombstone_limit() <= view.active.memtable.tombstone_count();
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

//! Work that becomes due as time passes, without a write or a job that would request it.
//!
//! Each keyspace with time-based options is checked periodically. A check only requests what is
//! due; the jobs decide.

use std::time::Duration;

use esker_tree::{Busy, Plan, Shape, drop_expired};

use crate::engine::Engine;
use crate::keyspace_core::KeyspaceCore;
use crate::keyspace_core::looks::EVERY_MIN;

/// How often a keyspace with tables that can expire as a whole is checked.
const EXPIRY_EVERY: Duration = Duration::from_secs(5);

impl Engine {
    /// How long until time alone may make work due in some keyspace; `None` if it never does.
    pub(crate) fn next_look(&self, now: Duration) -> Option<Duration> {
        if self.is_read_only {
            return None;
        }
        let keyspaces = self.keyspaces();
        let waits = keyspaces.iter().filter_map(|keyspace| {
            self.look_every_of(keyspace).map(|every| keyspace.looks.wait(every, now))
        });
        waits.min()
    }

    /// How often a keyspace is checked: its tables may expire, whatever the options.
    fn look_every_of(&self, keyspace: &KeyspaceCore) -> Option<Duration> {
        let by_tables = keyspace.may_expire().then_some(EXPIRY_EVERY);
        keyspace.settings().look_every.into_iter().chain(by_tables).min()
    }

    /// Whether a check is due for a thread that always has something else to do. Only so often that
    /// checks keep it from nothing.
    pub(crate) fn looks_between_jobs(&self, now: Duration) -> bool {
        self.looks.take(EVERY_MIN, now) && self.next_look(now) == Some(Duration::ZERO)
    }

    /// Requests what has become due in the keyspaces whose check is due.
    pub(crate) fn look_at_time(&self) {
        let now = self.now();
        for keyspace in self.keyspaces() {
            let every = self.look_every_of(&keyspace);
            if every.is_some_and(|every| keyspace.looks.take(every, now)) {
                self.look(&keyspace);
            }
        }
        // A read may have held what a job made obsolete, and no job has ended since to remove it.
        self.collect_garbage();
    }

    /// The plan that drops the tables in which everything has expired for every reader.
    pub(crate) fn expired_tables(
        &self,
        keyspace: &KeyspaceCore,
        shape: &Shape,
        busy: &Busy,
    ) -> Option<Plan> {
        if !keyspace.may_expire() {
            return None;
        }
        drop_expired(shape, busy, self.snapshots.readers().passed_millis)
    }
}

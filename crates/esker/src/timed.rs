//! Work that becomes due because time passes, without a write or a job that would ask for it.
//!
//! Each keyspace whose options go by time is looked at every so often. A look only asks for what is
//! due; the jobs decide.

use std::time::Duration;

use crate::engine::Engine;

impl Engine {
    /// How long until time alone may give some keyspace work; `None` if it never does.
    pub(crate) fn next_look(&self, now: Duration) -> Option<Duration> {
        if self.is_read_only {
            return None;
        }
        let keyspaces = self.keyspaces();
        let timed = keyspaces.iter().filter(|keyspace| keyspace.settings().look_every.is_some());
        timed.map(|keyspace| keyspace.looks.wait(now)).min()
    }

    /// Asks for what has become due in keyspaces whose turn it is.
    pub(crate) fn look_at_time(&self) {
        let now = self.now();
        for keyspace in self.keyspaces() {
            let every = keyspace.settings().look_every;
            if every.is_some_and(|every| keyspace.looks.take(every, now)) {
                self.look(&keyspace);
            }
        }
    }
}

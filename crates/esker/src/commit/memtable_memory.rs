//! The memory of the memtables of all keyspaces, active and immutable, and the choice of which to
//! flush when they have reached their limit.
//!
//! Flushed memtables that only cursors or scans still hold are not counted: no flush frees them, so
//! nobody may wait for that.

use std::sync::Arc;

use esker_cache::Owner;

use crate::engine::Engine;
use crate::error::Result;
use crate::jobs::flush::may_switch;
use crate::keyspace_core::KeyspaceCore;
use crate::throttle::pressure::MEMORY_START;

/// Minimum limit of all memtables together, however small the budget, in bytes.
const BYTES_MAX_MIN: u64 = 512 << 10;

impl Engine {
    /// Limit of the memtables of all keyspaces together: the whole budget, half of which is for
    /// active ones.
    pub(crate) fn memtables_bytes_max(&self) -> u64 {
        self.options.memory_budget_bytes.max(BYTES_MAX_MIN)
    }

    /// Sums up the memory of the memtables of all keyspaces, for writers to check. Called whenever
    /// it has changed by more than a little.
    ///
    /// # Cost
    /// One check of the budget while memtables take less than three quarters of it; beyond that, a
    /// walk over the keyspaces.
    pub(crate) fn note_memtables(&self) -> u64 {
        let start = (self.memtables_bytes_max() as f64 * MEMORY_START) as u64;
        // Usually it ends here.
        let held = if self.budget.used(Owner::Memtables) <= start {
            0
        } else {
            let keyspaces = self.keyspaces();
            let held = keyspaces
                .iter()
                .map(|keyspace| keyspace.view().active.charged_bytes() + waiting_bytes(keyspace));
            Some(held.sum()).filter(|held| start < *held).unwrap_or(0)
        };
        self.throttle.note_memtable_bytes(held);
        held
    }

    /// Whether the memtables of all keyspaces have reached their limit.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        let most = self.memtables_bytes_max();
        // Two threads may have stored their sums in the wrong order, so the stored sum is only a
        // hint to recompute.
        most <= self.throttle.memtable_bytes()
            && most <= self.note_memtables()
            && !esker_base::planted::is("writers-pass-the-budget")
    }

    /// The keyspace to flush next to make room: one with an immutable memtable, or else the one
    /// with the largest active memtable, which is switched for it.
    ///
    /// # Errors
    /// The error of flushes that keep failing, if their memtables hold all the memory: nobody can
    /// wait for them.
    pub(crate) fn find_memory(&self) -> Result<Option<Arc<KeyspaceCore>>> {
        let (mut stuck_bytes, mut last_failure, mut next) = (0, None, None);
        for keyspace in self.keyspaces() {
            let waiting = waiting_bytes(&keyspace);
            match self.lasting_flush_failure(&keyspace) {
                Some(failure) => {
                    stuck_bytes += waiting;
                    last_failure = Some(failure);
                }
                // However small: a keyspace that may have only one immutable memtable cannot switch
                // another before it is flushed.
                None if !keyspace.view().immutables.is_empty() => {
                    next = next.max(Some((waiting, keyspace.id)));
                }
                None => {}
            }
        }
        if let Some(failure) =
            last_failure.clone().filter(|_| self.memtables_bytes_max() <= stuck_bytes)
        {
            return Err(failure);
        }
        if let Some((_, id)) = next {
            return Ok(self.keyspace(id));
        }
        let leader = self.pipeline.lead();
        let switchable = |keyspace: &Arc<KeyspaceCore>| {
            may_switch(keyspace)
                && !keyspace.view().active.memtable.is_empty()
                && self.lasting_flush_failure(keyspace).is_none()
        };
        let keyspaces = self.keyspaces().into_iter().filter(switchable);
        let largest = keyspaces.max_by_key(|keyspace| keyspace.view().active.charged_bytes());
        if let Some(keyspace) = &largest {
            self.switch_memtable(keyspace);
        }
        drop(leader);
        match (&largest, last_failure) {
            (None, Some(failure)) => Err(failure),
            _ => Ok(largest),
        }
    }

    /// Switches the largest active memtables until all active ones together take at most half of
    /// the budget. Only for the commit leader; called when one has taken more memory, which is
    /// rare. Skips keyspaces where too many wait already, as [`Engine::release_old_memtables`]
    /// does.
    pub(crate) fn bound_active_memtables(&self) {
        self.note_memtables();
        let bytes_max = self.memtables_bytes_max() / 2;
        // This counts immutable ones too: usually it ends here.
        if self.budget.used(Owner::Memtables) <= bytes_max
            || esker_base::planted::is("memtables-beyond-the-budget")
        {
            return;
        }
        let sized = |keyspace: Arc<KeyspaceCore>| {
            (keyspace.view().active.memtable.reserved_bytes(), keyspace)
        };
        let sized = self.keyspaces().into_iter().map(sized);
        let mut active: Vec<_> = sized.filter(|(bytes, _)| 0 < *bytes).collect();
        active.sort_by_key(|(bytes, _)| *bytes);
        let mut total: u64 = active.iter().map(|(bytes, _)| bytes).sum();
        while bytes_max < total
            && let Some((bytes, keyspace)) = active.pop()
        {
            if may_switch(&keyspace) {
                self.switch_memtable(&keyspace);
                total -= bytes;
            }
        }
    }
}

/// Bytes of the immutable memtables of `keyspace`.
fn waiting_bytes(keyspace: &KeyspaceCore) -> u64 {
    keyspace.view().immutables.iter().map(|buffer| buffer.charged_bytes()).sum()
}

//! Tables that no version names any more, until their last reader lets go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use esker_base::TableId;
use esker_table::Table;

/// Tables struck from the manifest whose files may still be read.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    tables: Mutex<Vec<(TableId, Weak<Table>)>>,
    /// Length of `tables`, so that readers can look without the lock. Counter only.
    count: AtomicUsize,
}

impl Garbage {
    /// Takes over `tables`, which the manifest no longer names.
    pub(crate) fn add<'a>(&self, tables: impl Iterator<Item = &'a Arc<Table>>) {
        let mut list = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        list.extend(tables.map(|table| (table.properties().id, Arc::downgrade(table))));
        self.count.store(list.len(), Ordering::Relaxed);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// The tables that nobody holds; they are no longer listed.
    pub(crate) fn take_unreferenced(&self) -> Vec<TableId> {
        let mut list = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = Vec::new();
        list.retain(|(id, table)| {
            let is_held =
                table.strong_count() != 0 && !esker_base::planted::is("table-removed-under-reader");
            if !is_held {
                free.push(*id);
            }
            is_held
        });
        self.count.store(list.len(), Ordering::Relaxed);
        free
    }
}

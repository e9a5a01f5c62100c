//! Keyspaces that come and go beside the others, and tables that an earlier load has left behind.
//!
//! Nobody else knows of such a keyspace, so what it holds is known without the history.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use esker::env::Env;
use esker::{ErrorKind, IngestOptions, Keyspace, KeyspaceOptions, Result};

use super::client::Client;
use super::coverage;
use super::reader::{Entries, check_cursor};
use crate::outside::OUTSIDE;
use crate::reading::contents;
use crate::state::{Turn, merge_operator};

/// What is done to a keyspace before it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Temporary {
    pub(super) memtable_bytes: u64,
    pub(super) value_bytes: usize,
    pub(super) keeps_values_apart: bool,
    pub(super) flushes: bool,
    pub(super) is_renamed: bool,
    /// Whether one of the same name follows.
    pub(super) comes_again: bool,
}

/// Tables of earlier loads that are taken at a time, at most.
const LEFTOVERS_MAX: usize = 3;

impl Client {
    pub(super) fn come_and_go(&mut self, how: Temporary) -> Result<()> {
        let (id, number) = self.next_id();
        let mut name = format!("temporary {id} {number}");
        let options = KeyspaceOptions {
            memtable_bytes: how.memtable_bytes,
            blob_threshold_bytes: how.keeps_values_apart.then_some(100),
            ..KeyspaceOptions::default()
        };
        let keyspace = self.db.keyspace(&name, options.clone())?;
        let entries = fill(&keyspace, how.value_bytes)?;
        if how.flushes {
            keyspace.flush()?;
        }
        if how.is_renamed {
            name.push_str(" renamed");
            self.db.rename_keyspace(&keyspace, &name)?;
            assert_eq!(keyspace.name(), name);
        }
        let (mut cursor, snapshot) = (keyspace.cursor()?, self.db.snapshot());
        self.db.drop_keyspace(&keyspace)?;
        coverage::add("keyspaces dropped", 1);
        let error = keyspace.put("key", "value").unwrap_err();
        if error.kind() != ErrorKind::Closed {
            // The log has failed before.
            return Err(error);
        }
        assert!(self.db.existing_keyspace(&name)?.is_none());
        if how.comes_again {
            let again = self.db.keyspace(&name, options)?;
            let found = contents(&again)?;
            assert!(found.is_empty(), "{name} has come again with {} entries", found.len());
            fill(&again, how.value_bytes / 2)?;
            check_cursor(&mut cursor, entries, &BTreeSet::new(), (&name, Turn::Bytewise))?;
            return self.db.drop_keyspace(&again);
        }
        drop(snapshot);
        check_cursor(&mut cursor, entries, &BTreeSet::new(), (&name, Turn::Bytewise))
    }

    /// Moves tables that an ingest has left behind, since it was cut short or could not remove them,
    /// into a keyspace of their own: whatever has become of them, nothing else is hurt.
    pub(super) fn take_leftovers(&mut self) -> Result<()> {
        let world = self.world.clone();
        let leftovers = leftovers(&world.env);
        for path in leftovers.into_iter().take(LEFTOVERS_MAX) {
            let (id, number) = self.next_id();
            let order = self.keyspace(world.part(self.home).loaded)?.options().order;
            let options = KeyspaceOptions {
                order,
                merge_operator: merge_operator(),
                ..KeyspaceOptions::default()
            };
            let keyspace = self.db.keyspace(&format!("leftovers {id} {number}"), options)?;
            let how = IngestOptions { move_files: true, verify_entries: true };
            let ingested = self.db.ingest(&keyspace, &[&path], how);
            match ingested {
                Ok(_) => {
                    coverage::add("tables left behind and taken", 1);
                    contents(&keyspace)?;
                }
                // Begun, and not durable before the power went.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Corruption | ErrorKind::InvalidInput) =>
                {
                    world.env.fs.remove(&path)?;
                }
                Err(error) => return Err(error),
            }
            self.db.drop_keyspace(&keyspace)?;
        }
        Ok(())
    }
}

/// Three entries.
fn fill(keyspace: &Keyspace, value_bytes: usize) -> Result<Entries> {
    let mut entries = Entries::new();
    for key in [b"1".as_slice(), b"2", b"3"] {
        let value = vec![key[0]; value_bytes];
        keyspace.put(key, &value)?;
        entries.push((key.into(), value.into()));
    }
    Ok(entries)
}

fn leftovers(env: &Env) -> Vec<PathBuf> {
    let mut entries = env.fs.list(Path::new(OUTSIDE)).unwrap_or_default();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.into_iter().map(|entry| Path::new(OUTSIDE).join(entry.name)).collect()
}

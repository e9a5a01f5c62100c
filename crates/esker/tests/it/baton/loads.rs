//! Loads of a client: tables that it has written somewhere else, and bulk loads.
//!
//! A load names itself under the key at which batches append their names, so whoever reads that key
//! knows which batches came after it.

use std::collections::BTreeMap;

use esker::{Durability, IngestOptions, Outcome, Result};

use super::client::Client;
use super::coverage;
use super::history::{Id, ORDER_KEY, load_name_of};
use super::reader::look;
use super::script::Ingest;
use crate::outside;
use crate::state::{Bytes, Write};

impl Client {
    pub(super) fn ingest(&mut self, writes: &[Write], how: Ingest) -> Result<()> {
        let world = self.world.clone();
        let _loading = world.begin_load();
        // The load before, if nobody has seen it yet.
        look(&world, self.home, &self.db, &self.required())?;
        let (id, name) = self.next_load();
        let (ranges, entries): (Vec<&Write>, _) =
            writes.iter().chain([&name]).partition(|write| write.range.is_some());
        let by_key: BTreeMap<&Bytes, &Write> =
            entries.into_iter().map(|write| (&write.key, write)).collect();
        let writes: Vec<Write> = ranges.into_iter().chain(by_key.into_values()).cloned().collect();
        let keyspace = self.keyspace(world.part(self.home).loaded)?;
        let order = keyspace.options().order;
        let paths = outside::write_tables(&world.env, &order, &writes, how.file_count)?;
        let world_fs = &self.world.env.fs;
        for path in paths.iter().filter(|_| how.moves && how.keeps_names) {
            // What an ingest leaves behind that was cut short is one file with the table, too.
            match world_fs.link(path, &path.with_extension("kept")) {
                Ok(()) => coverage::add("tables with a second name", 1),
                // Somebody's from before.
                Err(error) => drop(error),
            }
        }
        let options = IngestOptions { move_files: how.moves, verify_entries: how.verifies };
        self.load(id, writes, |client| client.db.ingest(&keyspace, &paths, options).map(drop))?;
        coverage::add("ingests", 1);
        if how.moves { self.take_leftovers() } else { Ok(()) }
    }

    pub(super) fn bulk_load(&mut self, writes: &[Write], ends: bool) -> Result<()> {
        let world = self.world.clone();
        let _loading = world.begin_load();
        look(&world, self.home, &self.db, &self.required())?;
        let (id, name) = self.next_load();
        let writes: Vec<Write> = writes.iter().chain([&name]).cloned().collect();
        let mut loader = self.db.bulk_loader(&self.keyspace(world.part(self.home).loaded)?)?;
        for write in &writes {
            loader.put(&write.key, write.value.as_ref().expect("a bulk load puts"))?;
        }
        if !ends {
            coverage::add("bulk loads given up", 1);
            loader.abort();
            return Ok(());
        }
        self.load(id, writes, |_| loader.finish().map(drop))?;
        coverage::add("bulk loads", 1);
        Ok(())
    }

    /// The name of the next load, and the write that says so.
    fn next_load(&mut self) -> (Id, Write) {
        let id = self.next_id();
        (id, Write::put(self.world.part(self.home).loaded, ORDER_KEY, load_name_of(id).as_bytes()))
    }

    /// Does a load, which makes durable what was there before it, and looks whether it is there.
    fn load(
        &mut self,
        id: Id,
        writes: Vec<Write>,
        load: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let before = self.required();
        self.world.history(self.home).issue_load(id, writes);
        let result = load(self);
        let mut history = self.world.history(self.home);
        match &result {
            Ok(()) => {
                history.acknowledge(id, Durability::Power);
                history.promise(&before);
            }
            Err(error) if error.outcome() == Outcome::NotDone => history.refuse(id),
            Err(_) => {}
        }
        drop(history);
        self.count_outcome(&result);
        look(&self.world, self.home, &self.db, &self.required())?;
        result
    }
}

//! The benchmarks that write.

use esker::Durability;

use crate::failure::Result;

use super::random::Random;
use super::session::{Session, Share};
use super::work::Work;

impl Session<'_> {
    /// Every key once, in the order of the indexes.
    pub(super) fn fill(&self) -> Result<Work> {
        let durability = self.arguments.durability.into();
        self.on_threads(self.keys.count, |share| {
            self.put_each(durability, share.first..share.first + share.count)
        })
    }

    pub(super) fn fill_synced(&self) -> Result<Work> {
        self.on_threads(self.arguments.sync_count(), |share| {
            self.put_each(Durability::Power, share.first..share.first + share.count)
        })
    }

    pub(super) fn overwrite(&self) -> Result<Work> {
        let durability = self.arguments.durability.into();
        self.on_threads(self.keys.count, |share| {
            self.put_each(durability, self.random_indexes(share))
        })
    }

    pub(super) fn delete_random(&self) -> Result<Work> {
        self.on_threads(self.keys.count, |share| {
            let mut key = self.keys.buffer();
            let mut work = Work::start(self.clock);
            for index in self.random_indexes(share) {
                self.keys.write(index, &mut key);
                self.db().delete(&key)?;
                work.latencies.lap();
                work.operations += 1;
            }
            work.user_bytes = work.operations * self.arguments.key_size as u64;
            Ok(work)
        })
    }

    fn put_each(&self, durability: Durability, indexes: impl Iterator<Item = u64>) -> Result<Work> {
        let db = self.db();
        let mut key = self.keys.buffer();
        let mut work = Work::start(self.clock);
        for index in indexes {
            self.keys.write(index, &mut key);
            db.put_with(&key, self.values.of(index), durability)?;
            work.latencies.lap();
            work.operations += 1;
        }
        work.user_bytes = work.operations * self.entry_bytes();
        Ok(work)
    }

    /// Latencies are those of whole batches.
    pub(super) fn fill_in_batches(&self) -> Result<Work> {
        let durability = self.arguments.durability.into();
        self.on_threads(self.keys.count, |share| {
            let keyspace = self.db().default_keyspace();
            let mut key = self.keys.buffer();
            let mut batch = self.db().batch();
            let mut work = Work::start(self.clock);
            let end = share.first + share.count;
            for index in share.first..end {
                self.keys.write(index, &mut key);
                batch.put(keyspace, &key, self.values.of(index));
                if batch.len() == self.arguments.batch_size || index + 1 == end {
                    batch.commit_and_clear(durability)?;
                    work.latencies.lap();
                }
            }
            work.operations = share.count;
            work.user_bytes = work.operations * self.entry_bytes();
            Ok(work)
        })
    }

    /// One loader, whatever the number of threads. Latencies are those of single puts; the rate
    /// includes the end of the load.
    pub(super) fn fill_in_bulk(&self) -> Result<Work> {
        let mut key = self.keys.buffer();
        let mut loader = self.db().bulk_loader(self.db().default_keyspace())?;
        let mut work = Work::start(self.clock);
        for index in 0..self.keys.count {
            self.keys.write(index, &mut key);
            loader.put(&key, self.values.of(index))?;
            work.latencies.lap();
        }
        loader.finish()?;
        work.operations = self.keys.count;
        work.user_bytes = work.operations * self.entry_bytes();
        Ok(work)
    }

    pub(super) fn random_indexes(&self, share: Share) -> impl Iterator<Item = u64> + use<> {
        let mut random = Random::new(share.seed);
        let bound = self.keys.count;
        (0..share.count).map(move |_| random.below(bound))
    }
}

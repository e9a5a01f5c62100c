//! Compaction filters in the model test.
//!
//! Nobody can say when a compaction shows an entry to its filter. So the keys that the filter acts
//! on have a prefix of their own, and before something is read that must be exact, the model learns
//! what the filter has done by then: one of the two things that it may have done. As long as a
//! snapshot from that moment lives, it does no more.

use std::time::Duration;

use esker::{Filter, Snapshot};

use super::Run;
use crate::baton::filtering::{BySign, FILTERED, as_found};
use crate::random::Rng;
use crate::state::{Bytes, Contents, Write};

/// A filter, for half of the keyspaces, if there are any.
pub(super) fn choose(rng: &mut Rng, has_filter: bool) -> Option<Filter> {
    (has_filter && rng.one_in(2)).then(|| Filter::new(BySign { takes: Duration::ZERO }))
}

/// One of few keys that a filter acts on.
pub(super) fn key(rng: &mut Rng) -> Vec<u8> {
    [FILTERED, &[b'0' + rng.below(8) as u8]].concat()
}

/// A write to such a key, of a value that the filter removes, changes or keeps.
pub(super) fn write(rng: &mut Rng, name: &str) -> Write {
    let (key, sign) = (key(rng), *rng.pick(&["-", "+", "="]));
    match rng.one_in(6) {
        true => Write::delete(name, &key),
        false => Write::put(name, &key, &[sign.as_bytes(), b"v", &rng.value()].concat()),
    }
}

impl Run {
    /// Lets the model know what filters have done; they do nothing more to what is there now as
    /// long as what is returned lives.
    ///
    /// # Panics
    /// If that is not what they may do.
    pub(super) fn note_filtered(&mut self) -> Option<Snapshot> {
        if !self.has_filter {
            return None;
        }
        let snapshot = self.db.snapshot();
        for name in self.model.names() {
            let view = snapshot.keyspace(&self.keyspace(&name));
            let own = |entry: esker::Result<(esker::Key, esker::Value)>| {
                entry.map(|(key, value)| (Bytes::from(&*key), Bytes::from(&*value)))
            };
            let found: Contents = view.prefix(FILTERED).map(own).collect::<Result<_, _>>().unwrap();
            let written = self.model.contents(&name);
            let known = written.iter().map(|(key, value)| (key.clone(), value.clone()));
            let when = format!("step {}, {name}", self.step);
            let contents = as_found(known, |key| found.get(key), &when).collect();
            self.model.set_contents(&name, contents);
        }
        Some(snapshot)
    }
}

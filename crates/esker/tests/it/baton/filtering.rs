//! A compaction filter, and what it may make of the keys that it looks at.
//!
//! Nobody can say when a compaction meets an entry. So keys that the filter acts on have a prefix of
//! their own, and are compared with what was written and with what the filter makes of that: one of
//! the two, never anything older. All reads of one snapshot must agree about it.

use std::time::Duration;

use esker::{
    CompactionFilter, CompactionFilterFactory, FilterContext, FilterDecision, FilterFailure,
};
use esker_base::baton;

use super::coverage;
use crate::state::Bytes;

/// How the keys start that the filter acts on. They are put and deleted, and no more.
pub(crate) const FILTERED: &[u8] = b"~";

/// Removes values that start with `-`, and cuts a `+` off others.
#[derive(Clone)]
pub(crate) struct BySign {
    /// How long it takes for each, in a run.
    pub(crate) takes: Duration,
}

impl CompactionFilterFactory for BySign {
    fn name(&self) -> &str {
        "by sign"
    }

    fn create(&self, _: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        Box::new(self.clone())
    }
}

impl CompactionFilter for BySign {
    fn filter(&mut self, key: &[u8], value: &[u8]) -> Result<FilterDecision, FilterFailure> {
        if !key.starts_with(FILTERED) {
            return Ok(FilterDecision::Keep);
        }
        if !self.takes.is_zero() {
            baton::sleep(self.takes);
        }
        Ok(match value {
            [b'-', ..] => {
                coverage::add("entries that a filter removed", 1);
                FilterDecision::Remove
            }
            [b'+', rest @ ..] => {
                coverage::add("entries that a filter changed", 1);
                FilterDecision::Change(rest.to_vec())
            }
            _ => FilterDecision::Keep,
        })
    }
}

/// Whether a reader may find `found` under `key` where `written` was written.
pub(crate) fn allows(key: &[u8], written: Option<&[u8]>, found: Option<&[u8]>) -> bool {
    let filtered = match written {
        _ if !key.starts_with(FILTERED) => written,
        Some([b'-', ..]) => None,
        Some([b'+', rest @ ..]) => Some(rest),
        written => written,
    };
    found == written || found == filtered
}

/// `expected`, with what the filter has made of it in `found`.
///
/// # Panics
/// If `found` holds anything else in place of an entry of `expected`.
pub(crate) fn as_found<'a>(
    expected: impl IntoIterator<Item = (Bytes, Bytes)>,
    found: impl Fn(&[u8]) -> Option<&'a Bytes>,
    when: &str,
) -> impl Iterator<Item = (Bytes, Bytes)> {
    expected.into_iter().filter_map(move |(key, written)| {
        if !key.starts_with(FILTERED) {
            return Some((key, written));
        }
        let found = found(&key);
        assert!(
            allows(&key, Some(&written), found.map(|found| &**found)),
            "{when}: {} holds {:?}, and {} was written",
            key.escape_ascii(),
            found.map(|found| found.escape_ascii().to_string()),
            written.escape_ascii()
        );
        found.map(|found| (key, found.clone()))
    })
}

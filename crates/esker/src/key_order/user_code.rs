//! The user's code where keys are stored otherwise than they were written: merge operators and
//! compaction filters are shown the keys that the user knows.
//!
//! Does not know what the code does.

use std::sync::Arc;

use esker_tree::{
    CompactionFilter, CompactionFilterFactory, Filter, FilterContext, FilterDecision,
    FilterFailure, Merge, MergeFailure, MergeOperator,
};

use crate::key_order::{KeyOrder, Order};
use crate::operators::by_name;

/// `merge` for the stored keys of a keyspace in `order`. Where only the name of that is known, so is
/// that of an operator which may look at keys: nobody can show them to it.
pub(crate) fn stored_merge(order: &Order, merge: Merge) -> Merge {
    match (order.code(), merge.operator()) {
        (Some(order), Some(operator)) => {
            Merge::new(StoredMerge { order: Arc::clone(order), operator: Arc::clone(operator) })
        }
        (None, Some(_)) if !order.is_bytewise() && by_name(merge.name()).is_none() => {
            Merge::named(merge.name())
        }
        _ => merge,
    }
}

/// `filter` for the stored keys of a keyspace in `order`; none where only the name of that is known.
pub(crate) fn stored_filter(order: &Order, filter: Filter) -> Option<Filter> {
    match order.code() {
        Some(order) => Some(Filter::new(StoredFilter { order: Arc::clone(order), filter })),
        None => Some(filter).filter(|_| order.is_bytewise()),
    }
}

struct StoredMerge {
    order: Arc<dyn KeyOrder>,
    operator: Arc<dyn MergeOperator>,
}

/// The key that was stored as `stored`.
fn decode(order: &dyn KeyOrder, stored: &[u8]) -> Result<Vec<u8>, String> {
    let mut key = Vec::new();
    match order.decode(stored, &mut key) {
        Ok(()) => Ok(key),
        Err(error) => {
            Err(format!("the key order {:?} did not write the key: {error}", order.name()))
        }
    }
}

impl MergeOperator for StoredMerge {
    fn name(&self) -> &str {
        self.operator.name()
    }

    fn merge(
        &self,
        key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        let key = decode(&*self.order, key).map_err(MergeFailure::new)?;
        self.operator.merge(&key, existing, operands, out)
    }

    fn fold_operands(
        &self,
        key: &[u8],
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<bool, MergeFailure> {
        let key = decode(&*self.order, key).map_err(MergeFailure::new)?;
        self.operator.fold_operands(&key, operands, out)
    }
}

struct StoredFilter {
    order: Arc<dyn KeyOrder>,
    filter: Filter,
}

impl CompactionFilterFactory for StoredFilter {
    fn name(&self) -> &str {
        self.filter.name()
    }

    fn create(&self, context: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        let filter = self.filter.factory().create(context);
        Box::new(RunningStoredFilter { order: Arc::clone(&self.order), filter })
    }
}

struct RunningStoredFilter {
    order: Arc<dyn KeyOrder>,
    filter: Box<dyn CompactionFilter>,
}

impl CompactionFilter for RunningStoredFilter {
    fn filter(&mut self, key: &[u8], value: &[u8]) -> Result<FilterDecision, FilterFailure> {
        let key = decode(&*self.order, key).map_err(FilterFailure::new)?;
        self.filter.filter(&key, value)
    }
}

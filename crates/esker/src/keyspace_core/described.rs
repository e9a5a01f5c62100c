//! What tables record about their keyspace, for a repair that has lost the manifest.

use std::sync::Arc;

use esker_base::KeyspaceId;
use esker_table::TableKeyspace;

use crate::key_order::BYTEWISE;
use crate::keyspace_core::{KeyspaceCore, Settings};

/// Name of the default keyspace, which every database has.
pub(crate) const DEFAULT_KEYSPACE: &str = "default";

/// What tables record about the keyspace; `None` if it is like the default keyspace of a new
/// database, for which nothing need be recorded.
pub(crate) fn described(
    id: KeyspaceId,
    name: &str,
    order: &str,
    merge_operator: Option<&str>,
) -> Option<Arc<TableKeyspace>> {
    let is_plain = (id, name, order) == (KeyspaceId::DEFAULT, DEFAULT_KEYSPACE, BYTEWISE);
    let keyspace = || TableKeyspace {
        name: name.to_owned(),
        order: order.to_owned(),
        merge_operator: merge_operator.unwrap_or_default().to_owned(),
    };
    (!is_plain || merge_operator.is_some()).then(|| Arc::new(keyspace()))
}

impl KeyspaceCore {
    /// What its tables record about it.
    pub(crate) fn described(&self, settings: &Settings) -> Option<Arc<TableKeyspace>> {
        let merge_operator = settings.options.merge_operator.as_ref().map(|merge| merge.name());
        described(self.id, &self.name(), &self.order.name, merge_operator)
    }
}

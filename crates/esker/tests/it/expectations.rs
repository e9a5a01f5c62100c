//! What users of other engines expect: scenarios that the test suites of those go through.

use esker::{CompactionPolicy, Db, KeyspaceOptions};

use crate::policies::KEEPING;

/// A snapshot had kept an old value in the last level, and nothing took it away when the snapshot
/// was gone: only tables with tombstones were looked at again.
#[test]
fn compaction_on_demand_drops_what_a_snapshot_kept_in_the_last_level() {
    let keeps_ages_apart = |policy: &CompactionPolicy| {
        matches!(policy, CompactionPolicy::Fifo(_) | CompactionPolicy::TimeWindow(_))
    };
    for policy in KEEPING.into_iter().filter(|policy| !keeps_ages_apart(policy)) {
        let db = Db::in_memory().unwrap();
        let options = KeyspaceOptions { compaction: policy, ..KeyspaceOptions::default() };
        let keyspace = db.keyspace("k", options).unwrap();
        let entries = || db.stats().keyspaces[1].table_entries;
        for key in ["a", "b", "z"] {
            keyspace.put(key, "old").unwrap();
        }
        let snapshot = db.snapshot();
        keyspace.put("b", "new").unwrap();
        for _ in 0..2 {
            keyspace.compact::<&str>(..).unwrap();
            assert_eq!(snapshot.keyspace(&keyspace).get("b").unwrap().unwrap(), "old");
            assert_eq!(entries(), 4, "{policy:?}");
        }
        drop(snapshot);
        keyspace.compact("c"..).unwrap();
        keyspace.compact("b"..).unwrap();
        assert_eq!(entries(), 3, "{policy:?}");
        let rewritten = db.stats().counters.compactions;
        keyspace.compact::<&str>(..).unwrap();
        assert_eq!(db.stats().counters.compactions, rewritten, "there is nothing left to drop");
        assert_eq!(keyspace.get("b").unwrap().unwrap(), "new");
    }
}

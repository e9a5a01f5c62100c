//! The decoders of this crate, for fuzzers: no bytes make any of them panic. No part of the interface.

use esker_base::coding::Decoder;

use crate::logs::packed_group::StoredGroup;
use crate::operation::Operation;
use crate::options::KeyspaceOptions;

/// A commit group: what one frame of the log holds. What decodes is encoded to the same meaning.
pub fn commit_group(payload: &[u8]) {
    let Ok(group) = StoredGroup::decode(payload) else { return };
    let mut room = Vec::new();
    let Ok(mut decoder) = group.operations(&mut room) else { return };
    for _ in 0..group.header.count {
        let Ok(operation) = Operation::decode(&mut decoder) else { return };
        let mut again = Vec::new();
        operation.encode(&mut again).expect("what was decoded is not too long");
        let copy = Operation::decode(&mut Decoder::new(&again)).expect("what was encoded decodes");
        assert!(
            (copy.keyspace, copy.kind, copy.key, copy.value)
                == (operation.keyspace, operation.kind, operation.key, operation.value),
            "an operation comes back as another"
        );
    }
}

/// Options of a keyspace.
pub fn keyspace_options(bytes: &[u8]) {
    if let Ok(options) = KeyspaceOptions::decode(bytes) {
        let again = KeyspaceOptions::decode(&options.encode());
        assert!(again.is_ok_and(|again| again == options), "options come back as others");
    }
}

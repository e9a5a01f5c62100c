//! The decoders of this crate, for fuzzers: no bytes make any of them panic. No part of the interface.

use esker_base::coding::Decoder;
use esker_tree::{MergeFailure, MergeOperator};

use crate::key_order::{KeyOrder as _, ReverseBytewise};
use crate::logs::packed_group::StoredGroup;
use crate::operation::Operation;
use crate::operators::{AddI64, AddU64, Append, Maximum, Minimum, SetUnion};
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

/// A key as a keyspace in reverse order stores it. No two stored keys are the same key.
pub fn stored_key(stored: &[u8]) {
    let mut key = Vec::new();
    if ReverseBytewise.decode(stored, &mut key).is_ok() {
        let mut again = Vec::new();
        ReverseBytewise.encode(&key, &mut again);
        assert!(again == stored, "a key is stored in two ways");
    }
}

/// Bytes as an operator that comes with Esker, a value and operands: whichever are merged first, the
/// result is the same.
pub fn merge_operands(bytes: &[u8]) {
    let Some((&[operator, has_value], rest)) = bytes.split_first_chunk() else { return };
    let operators: [&dyn MergeOperator; 6] =
        [&AddU64, &AddI64, &Minimum, &Maximum, &SetUnion, &Append::new("+")];
    let operator = operators[usize::from(operator) % operators.len()];
    let mut decoder = Decoder::new(rest);
    let mut parts: Vec<&[u8]> = std::iter::from_fn(|| decoder.bytes().ok()).take(20).collect();
    if parts.len() < 2 {
        return;
    }
    let value = (has_value % 2 == 1).then(|| parts.remove(0));
    let merge = |value: Option<&[u8]>, operands: &[&[u8]]| -> Result<Vec<u8>, MergeFailure> {
        let mut out = Vec::new();
        operator.merge(b"key", value, operands, &mut out)?;
        Ok(out)
    };
    let Ok(whole) = merge(value, &parts) else { return };
    for cut in 1..parts.len() {
        let (older, newer) = parts.split_at(cut);
        let below = merge(value, older).expect("part of what was merged");
        assert!(merge(Some(&below), newer).as_ref() == Ok(&whole), "older operands first");
        let above = merge(None, newer).expect("part of what was merged");
        let joined: Vec<&[u8]> = older.iter().copied().chain([above.as_slice()]).collect();
        assert!(merge(value, &joined).as_ref() == Ok(&whole), "newer operands first");
    }
}

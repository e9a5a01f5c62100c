//! Leaves out of a failing list what the failure does not need.
//!
//! Other programs that look for failures compile this file, too.

use std::cell::Cell;

/// Lists that are tried before the shortest so far is taken.
const ATTEMPTS_MAX: u32 = 400;

/// A part of `items`, in their order, for which `fails` still holds: pieces are left out, halves
/// first, then smaller ones.
pub(crate) fn shrink<T: Clone>(items: &[T], fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut kept = items.to_vec();
    let attempts = Cell::new(0);
    let mut piece = kept.len().div_ceil(2);
    while 0 < piece && attempts.get() < ATTEMPTS_MAX {
        let mut start = 0;
        let mut has_shrunk = false;
        while start < kept.len() && attempts.get() < ATTEMPTS_MAX {
            attempts.set(attempts.get() + 1);
            let end = (start + piece).min(kept.len());
            let without = [&kept[..start], &kept[end..]].concat();
            if fails(&without) {
                kept = without;
                has_shrunk = true;
            } else {
                start = end;
            }
        }
        if !has_shrunk || kept.len() < piece {
            piece /= 2;
        }
    }
    kept
}

#[test]
fn what_is_needed_for_a_failure_is_left() {
    let items: Vec<u32> = (0..100).collect();
    let needs = |items: &[u32]| items.contains(&3) && items.contains(&17) && items.contains(&99);
    assert_eq!(shrink(&items, needs), [3, 17, 99]);
    assert_eq!(shrink(&items, |_| true), [0; 0]);
}

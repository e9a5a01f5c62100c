//! Shortens a failing list of operations.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

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

thread_local! {
    static IS_SHRINKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread tries shorter lists: what it does then need not be told at length.
pub(crate) fn is_shrinking() -> bool {
    IS_SHRINKING.get()
}

/// Runs `test` with the numbers of `count` steps, each with choices of its own ([`part`]); otherwise as
/// [`run_shrinking`].
///
/// [`part`]: crate::random::Rng::part
pub(crate) fn run_shrinking_steps(count: usize, test: impl Fn(&[usize])) {
    let steps: Vec<usize> = (0..count).collect();
    run_shrinking(&steps, |number| format!("step {number}"), test);
}

/// Runs `test` with `items`; if it fails, prints a shorter list with which it fails too, and fails.
/// `ESKER_SHRINK=0` spares the search for it.
pub(crate) fn run_shrinking<T: Clone>(
    items: &[T],
    show: impl Fn(&T) -> String,
    test: impl Fn(&[T]),
) {
    let attempt = |items: &[T]| catch_unwind(AssertUnwindSafe(|| test(items)));
    let Err(panic) = attempt(items) else { return };
    if std::env::var("ESKER_SHRINK").is_ok_and(|wants| wants == "0") {
        std::panic::resume_unwind(panic);
    }
    IS_SHRINKING.set(true);
    let small = shrink(items, |items| attempt(items).is_err());
    IS_SHRINKING.set(false);
    let lines: Vec<String> = small.iter().map(show).collect();
    eprintln!(
        "{} of {} operations are enough for a failure:\n{}",
        small.len(),
        items.len(),
        lines.join("\n")
    );
    std::panic::resume_unwind(panic);
}

#[test]
fn what_is_needed_for_a_failure_is_left() {
    let items: Vec<u32> = (0..100).collect();
    let needs = |items: &[u32]| items.contains(&3) && items.contains(&17) && items.contains(&99);
    assert_eq!(shrink(&items, needs), [3, 17, 99]);
    assert_eq!(shrink(&items, |_| true), [0; 0]);
}

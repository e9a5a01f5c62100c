//! Shortens a failing list of operations.

mod leave_out;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use leave_out::shrink;

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

/// Runs `test` with `items`; if it fails, prints a shorter list with which it fails too, runs it with
/// that, and fails. `ESKER_SHRINK=0` spares the search for it. A `test` may shorten lists of its own:
/// nothing is shortened while another list is.
pub(crate) fn run_shrinking<T: Clone>(
    items: &[T],
    show: impl Fn(&T) -> String,
    test: impl Fn(&[T]),
) {
    let attempt = |items: &[T]| catch_unwind(AssertUnwindSafe(|| test(items)));
    let Err(panic) = attempt(items) else { return };
    if is_shrinking() || std::env::var("ESKER_SHRINK").is_ok_and(|wants| wants == "0") {
        std::panic::resume_unwind(panic);
    }
    IS_SHRINKING.set(true);
    let small = shrink(items, |items| attempt(items).is_err());
    IS_SHRINKING.set(false);
    let lines: Vec<String> = small.iter().map(show).collect();
    eprintln!("{} of {} are enough for a failure:\n{}", small.len(), items.len(), lines.join("\n"));
    // What is said last is of these, and what the test itself shortens is what is left of these.
    let of_small = attempt(&small).err();
    std::panic::resume_unwind(of_small.unwrap_or(panic));
}

//! Runs of two or three threads, whose every schedule is known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::sync::atomic::AtomicU64 as Number;
use crate::sync::{Condvar as Signal, Mutex as Lock, RwLock};

const POLICIES: [Policy; 3] = [
    Policy::Uniform { one_in: 1 },
    Policy::Uniform { one_in: 8 },
    Policy::Priorities { falls: 2, among: 40 },
];

fn run(seed: u64, policy: Policy, main: impl FnOnce() + Send + 'static) -> Outcome {
    let run = start(Settings { steps_max: 10_000, ..Settings::new(seed, policy) }, main);
    run.wait(Duration::from_secs(60)).expect("a run of a few steps ends")
}

/// Two threads that do `work` at a time.
fn two(work: impl Fn() + Send + Sync + 'static) -> impl FnOnce() + Send {
    move || {
        let work = Arc::new(work);
        let threads = [0, 1].map(|_| {
            let work = Arc::clone(&work);
            spawn("worker", Box::new(move || work()))
        });
        threads.into_iter().for_each(Thread::join);
    }
}

#[test]
fn a_seed_repeats_its_run_and_seeds_differ() {
    for policy in POLICIES {
        let outcomes = || -> Vec<(u64, u64)> {
            let one = |seed| {
                let lock = Lock::new(0);
                let outcome = run(seed, policy, two(move || *lock.lock().unwrap() += 1));
                assert_eq!(outcome.failure, None);
                (outcome.hash, outcome.steps)
            };
            (0..40).map(one).collect()
        };
        let first = outcomes();
        assert_eq!(first, outcomes());
        assert!(first.iter().collect::<BTreeSet<_>>().len() > 3, "{policy:?}");
    }
}

#[test]
fn an_update_that_is_read_and_written_in_two_steps_is_lost_under_some_seed() {
    for policy in POLICIES {
        let is_lost = |seed| {
            let number = Arc::new(Number::new(0));
            let shared = Arc::clone(&number);
            let outcome = run(
                seed,
                policy,
                two(move || {
                    let before = shared.load(Ordering::Acquire);
                    shared.store(before + 1, Ordering::Release);
                }),
            );
            assert_eq!(outcome.failure, None);
            number.load(Ordering::Relaxed) == 1
        };
        let lost = (0..200).filter(|seed| is_lost(*seed)).count();
        assert!((1..200).contains(&lost), "{policy:?}: {lost}");
    }
}

#[test]
fn a_lock_is_held_by_one_at_a_time_and_by_many_readers() {
    for seed in 0..100 {
        let (lock, inside) = (RwLock::new(0), Number::new(0));
        let work = move || {
            {
                let mut number = lock.write().unwrap();
                assert_eq!(inside.swap(1, Ordering::AcqRel), 0);
                step("inside");
                *number += 1;
                inside.store(0, Ordering::Release);
            }
            let _first = lock.read().unwrap();
            let _second = lock.read().unwrap();
        };
        let outcome = run(seed, Policy::Uniform { one_in: 1 }, two(work));
        assert_eq!(outcome.failure, None);
    }
}

#[test]
fn locks_taken_in_two_orders_are_a_failure_that_says_who_waits() {
    let failure = |seed| {
        let (first, second) = (Arc::new(Lock::new(())), Arc::new(Lock::new(())));
        let main = move || {
            let (a, b) = (Arc::clone(&first), Arc::clone(&second));
            let other = spawn(
                "other",
                Box::new(move || {
                    let _b = b.lock().unwrap();
                    let _a = a.lock().unwrap();
                }),
            );
            {
                let _a = first.lock().unwrap();
                let _b = second.lock().unwrap();
            }
            other.join();
        };
        run(seed, Policy::Uniform { one_in: 1 }, main).failure
    };
    let failures: Vec<String> = (0..60).filter_map(failure).collect();
    assert!((1..60).contains(&failures.len()), "{}", failures.len());
    let text = &failures[0];
    assert!(text.starts_with("nobody can go on: somebody was not woken, at step "), "{text}");
    assert!(text.contains("thread 1 (other): waits at "), "{text}");
}

/// One thread waits until the other has something for it; whether it is told is up to the caller.
fn hand_over(seed: u64, tells: bool) -> Outcome {
    let shared = Arc::new((Lock::new(false), Signal::new()));
    let main = move || {
        let other = Arc::clone(&shared);
        let waiter = spawn(
            "waiter",
            Box::new(move || {
                let is_empty = |full: &mut bool| !*full;
                let full = other.1.wait_while(other.0.lock().unwrap(), is_empty).unwrap();
                assert!(*full);
            }),
        );
        *shared.0.lock().unwrap() = true;
        if tells {
            shared.1.notify_one();
        }
        waiter.join();
    };
    run(seed, Policy::Uniform { one_in: 1 }, main)
}

#[test]
fn a_wake_up_that_is_lost_is_a_failure_at_once() {
    let failures = (0..50).filter(|seed| hand_over(*seed, false).failure.is_some()).count();
    assert!((10..50).contains(&failures), "{failures}");
    assert!((0..50).all(|seed| hand_over(seed, true).failure.is_none()));
}

#[test]
fn time_passes_when_all_wait_for_it() {
    let main = || {
        let shared = Arc::new((Lock::new(()), Signal::new()));
        let sleeper = spawn("sleeper", Box::new(|| sleep(Duration::from_secs(5))));
        let guard = shared.0.lock().unwrap();
        let limit = Duration::from_secs(3600);
        let (_guard, waited) = shared.1.wait_timeout_while(guard, limit, |()| true).unwrap();
        assert!(waited.timed_out());
        assert_eq!(now(), limit);
        sleeper.join();
    };
    let outcome = run(1, Policy::Uniform { one_in: 4 }, main);
    assert_eq!((outcome.failure, outcome.time), (None, Duration::from_secs(3600)));
}

#[test]
fn a_panic_and_a_circle_end_a_run() {
    let policy = Policy::Uniform { one_in: 2 };
    let outcome = run(1, policy, || panic!("as the test asks"));
    assert!(outcome.failure.unwrap().starts_with("thread 0 (main) panicked: as the test asks"));
    let outcome = run(1, policy, || {
        loop {
            step("circle");
        }
    });
    assert!(outcome.failure.unwrap().starts_with("too many steps, at step 10001"));
    let outcome = run(1, policy, || {
        loop {
            sleep(Duration::from_secs(3600));
        }
    });
    assert!(outcome.failure.unwrap().starts_with("too much time: threads look again in vain"));
}

#[test]
fn threads_of_no_run_have_the_locks_of_std() {
    let shared = Arc::new((Lock::new(false), Signal::new()));
    let other = Arc::clone(&shared);
    let waiter = thread::Builder::new()
        .spawn(move || {
            drop(other.1.wait_while(other.0.lock().unwrap(), |full| !*full).unwrap());
            let (guard, limit) = (other.0.lock().unwrap(), Duration::from_millis(1));
            other.1.wait_timeout_while(guard, limit, |_| true).unwrap().1.timed_out()
        })
        .unwrap();
    *shared.0.lock().unwrap() = true;
    shared.1.notify_all();
    assert!(waiter.join().unwrap());
    step("nothing");
}

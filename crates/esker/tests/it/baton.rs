//! The simulator: the engine with its background threads and several clients, all of them real
//! threads of which one runs at a time; the next is picked by the seed at every lock, file
//! operation and look at the clock (`esker_base::baton`).
//!
//! Each seed chooses options, one or two databases on one file system, clients, what they do,
//! faults of the file system, and how threads are picked. A database goes through several
//! generations: a run of the clients, then a close, a drop, or a crash at some change of the files;
//! the next generation continues from what is left, with half of all seeds under other options.
//! Every batch also appends its own name to a key, by a merge, and a load puts its own there. So
//! whoever reads that key knows what was committed in which order, and hence all that the database
//! must hold at that moment; whatever is read, in whatever way, is compared with it. After a
//! recovery, what is left must come first in the order, with all that was promised to stay, and
//! nothing that was refused. A keyspace without a log has batches of its own, and records their
//! order itself: what is left of those contains at least what was flushed.
//!
//! Besides the clients there are strangers who must be refused (`strangers`), keyspaces that
//! come and go (`temporary`), and a wall clock that is set back (`clock`). A database at rest becomes durable by itself, and memory stays within
//! its bounds (`rest`). Merely reading what a crash has left changes nothing, foreign files do no
//! harm, and the doctor finds what it should in sound and in damaged files (`checkup`).
//!
//! When no thread can continue, a wake-up was lost, and the run fails; it also fails after too many
//! steps. Once the faults are over, all work must come to an end; an unreferenced file may then be
//! left only by a fault that has hit that file or the manifest, and by nothing after the next open.
//! The same seed takes the same steps. What the runs must cover is listed in `coverage`.
//!
//! `ESKER_SEED` replays one seed, `ESKER_BUDGET` multiplies how many are run.

mod aging;
mod catalog;
mod checkup;
mod client;
mod clock;
mod coverage;
mod failed_write;
pub(crate) mod filtering;
mod gate;
mod generation;
mod history;
mod loads;
mod memory;
mod outliving;
mod parts;
mod plan;
mod reader;
mod recovery;
mod rest;
mod script;
mod settling;
mod strangers;
mod temporary;
mod world;

use esker::env::MemoryFileSystem;
use esker_base::checksum::checksum64;

use crate::random::{Rng, are_the_usual_seeds, for_each_seed};
use crate::shrink::run_shrinking;
use crate::tally::Tally;
use generation::Start;
use plan::Plan;
use script::{Act, script};

/// Schedules that ran to their end: one for each generation.
static SCHEDULES: Tally = Tally::new("schedules of real threads, picked by a seed");

/// Places in them at which another thread could go on.
static STEPS: Tally = Tally::new("steps of such schedules");

/// Lives through `acts`; returns the hash of every step.
fn simulate(seed: u64, plan: &Plan, acts: &[Act]) -> u64 {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mut start = Start::new(MemoryFileSystem::new(seed), plan);
    let mut hash = seed;
    for number in 0..plan.generation_count {
        let acts: Vec<Act> = acts.iter().filter(|act| act.generation == number).cloned().collect();
        let end = generation::run(plan, seed, number, start, acts);
        SCHEDULES.add(1);
        STEPS.add(end.outcome.steps);
        hash = checksum64(hash, &end.outcome.hash.to_le_bytes());
        end.crash_at_moments(plan, &mut rng);
        start = end.next(plan, &mut rng);
    }
    start.finish();
    hash
}

#[test]
fn every_schedule_gives_what_the_model_allows() {
    for_each_seed("every_schedule_gives_what_the_model_allows", 60, |seed| {
        let plan = Plan::new(seed);
        let acts = script(&plan, seed);
        run_shrinking(&acts, Act::name, |acts| {
            simulate(seed, &plan, acts);
        });
    });
    SCHEDULES.print();
    STEPS.print();
    recovery::CRASHES.print();
    // One seed alone does not go through everything, and any sixty others need not.
    if are_the_usual_seeds() {
        coverage::print_and_require();
    }
}

#[test]
fn a_seed_takes_the_same_steps_again() {
    for_each_seed("a_seed_takes_the_same_steps_again", 3, |seed| {
        let plan = Plan::new(seed);
        let acts = script(&plan, seed);
        let hash = simulate(seed, &plan, &acts);
        assert_eq!(hash, simulate(seed, &plan, &acts), "the steps of seed {seed}");
        eprintln!("seed {seed}: hash of all steps {hash:016x}");
    });
}

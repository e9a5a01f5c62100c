//! Faults that report success: writes that are lost, go astray or arrive changed, and reads with a
//! flipped bit. What the database answers is right or an error, and a close does not hide it.

use std::cell::Cell;

use esker::env::{Fault, Rule, When};
use esker::{Error, ErrorKind};

use super::{Run, work};
use crate::random::for_each_seed;
use crate::shrink::run_shrinking;
use crate::tally::Tally;
use crate::workload::Step;

static SILENT: Tally = Tally::new("runs with a fault that reports success");

/// The work, with closes wherever the database is opened again: without, a lost write of the log's
/// last frame cannot be told from one that a crash has torn.
fn closing_work(seed: u64) -> Vec<Step> {
    let closing = |step| match step {
        Step::Reopen { .. } => Step::Reopen { closes: true },
        step => step,
    };
    let mut steps: Vec<Step> = work(seed).into_iter().map(closing).collect();
    steps.extend([Step::Reopen { closes: true }, Step::Read]);
    steps
}

fn check_error(when: &str, step: &Step, error: &Error) {
    let is_fitting = matches!(
        error.kind(),
        ErrorKind::Corruption | ErrorKind::UnsupportedFormat | ErrorKind::Poisoned
    );
    assert!(is_fitting, "{when}: {} gave {error:?}", step.name());
    assert!(!error.to_string().contains("panicked"), "{when}: {}: {error:?}", step.name());
}

/// One run; whether the fault was noticed.
fn run(seed: u64, steps: &[Step], fault: Fault, call: u64) -> Option<bool> {
    let when = format!("seed {seed}, {fault:?} at {call}");
    let mut run = Run::new(seed, when.clone());
    run.faults.add(Rule::new(fault).when(When::Nth(call)));
    let mut is_noticed = false;
    for step in steps {
        let result = run.driver.step(step);
        run.trace.push(format!("{} {result:?}", step.name()));
        if let Err(error) = result {
            check_error(&when, step, &error);
            is_noticed = true;
            // What is in a database that could not be closed is not known.
            if run.driver.db.is_none() {
                break;
            }
        }
        run.clock.advance(std::time::Duration::from_millis(150));
    }
    (!run.faults.injected().is_empty()).then_some(is_noticed)
}

#[test]
fn a_fault_that_reports_success_is_noticed_or_harmless() {
    let faults = [
        Fault::LostWrite,
        Fault::CorruptWrite,
        Fault::MisdirectedWrite(1),
        Fault::MisdirectedWrite(512),
        Fault::MisdirectedWrite(64 << 10),
        Fault::CorruptRead,
    ];
    for_each_seed("a_fault_that_reports_success_is_noticed_or_harmless", 2, |seed| {
        let steps = closing_work(seed);
        for fault in &faults {
            let (noticed, harmless) = (Cell::new(0), Cell::new(0));
            run_shrinking(&steps, Step::name, |steps| {
                for call in 1.. {
                    let Some(is_noticed) = run(seed, steps, fault.clone(), call) else { break };
                    let outcomes = if is_noticed { &noticed } else { &harmless };
                    outcomes.set(outcomes.get() + 1);
                }
            });
            let (noticed, harmless) = (noticed.get(), harmless.get());
            eprintln!("{fault:?}: {noticed} noticed, {harmless} harmless");
            assert!(0 < noticed, "seed {seed}: {fault:?}");
            SILENT.add(noticed + harmless);
        }
    });
    SILENT.print();
}

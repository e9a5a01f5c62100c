//! Log segments that cannot be made: they leave nothing behind.

use std::path::Path;
use std::sync::Arc;

use esker::env::{
    Fault, FaultFileSystem, FileSystem as _, ManualClock, MemoryFileSystem, Operation, Rule, When,
};
use esker::{Db, Durability, Options};

use crate::directory::assert_tidy;
use crate::recovered::{DIR, env_over};

/// A segment of which the file was there, but not its header or its name durable, stayed until the
/// next open, with all the room that it had, and every further attempt left another one. Found by
/// the simulator: a log that nothing refers to, and that no fault had kept from being removed.
#[test]
fn a_log_segment_that_cannot_be_made_leaves_no_file() {
    let operations =
        [Operation::Create, Operation::OpenForWrite, Operation::Sync, Operation::Rename];
    for operation in operations {
        let mut failures = 0;
        for nth in 1.. {
            let fs = MemoryFileSystem::new(1);
            fs.create_dir_all(Path::new(DIR)).unwrap();
            let faults =
                FaultFileSystem::new(Arc::new(fs.clone()), Arc::new(ManualClock::default()));
            let options = Options {
                background_threads: 0,
                log_segment_bytes: 64 << 10,
                durability: Durability::Process,
                ..Options::default()
            };
            let builder = Db::builder(DIR).env(env_over(Arc::new(faults.clone())));
            let db = builder.options(options).open().unwrap();
            let rule = Rule::new(Fault::Error(5)).on(&[operation]).path("*.log");
            faults.add(rule.when(When::Nth(nth)));
            for number in 0..40_u8 {
                if db.put([number], vec![number; 30_000]).is_err() {
                    db.put([number], vec![number; 30_000]).unwrap();
                }
                // Segments become free, and are used again.
                if number % 8 == 7 {
                    db.flush().unwrap();
                }
            }
            if faults.injected().is_empty() {
                break;
            }
            failures += 1;
            db.wait_until_settled().unwrap();
            assert_tidy(&db, &fs, &format!("{operation:?} {nth}"));
        }
        assert!(failures > 0, "{operation:?} of a log segment");
    }
}

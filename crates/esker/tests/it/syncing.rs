//! A sync that returned covers every write that was acknowledged before it began, whoever else is
//! handing the log to the system meanwhile.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use esker::Durability;
use esker::env::{CrashPolicy, Env, FaultFileSystem, MemoryFileSystem, Operation};

use crate::recovered::{env_of, env_over, open, options};

/// One thread had taken it upon itself to write the buffered frames and had not done so yet; a
/// sync on another one found nothing left to write, and returned.
#[test]
fn sync_waits_for_frames_that_another_thread_is_writing() {
    let fs = MemoryFileSystem::new(1);
    let faults = FaultFileSystem::new(Arc::new(fs.clone()), Env::memory(1).clock);
    let db = open(&env_over(Arc::new(faults.clone())), &options()).unwrap();
    db.put("first", "makes the log").unwrap();
    db.put_with("key", "value", Durability::Buffered).unwrap();
    let (reached, is_reached) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let (synced, is_synced) = mpsc::channel();
    let gate = Mutex::new((reached, is_released));
    faults.observe(move |event| {
        if event.operation == Operation::Write {
            let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
            gate.0.send(()).unwrap();
            gate.1.recv().unwrap();
        }
    });
    std::thread::scope(|scope| {
        scope.spawn(|| db.sync().unwrap());
        is_reached.recv().unwrap();
        let second = scope.spawn(|| {
            db.sync().unwrap();
            let crashed = fs.crash(CrashPolicy::AllLost, 0);
            synced.send(()).unwrap();
            let db = open(&env_of(&crashed), &options()).unwrap();
            db.get("key").unwrap()
        });
        // Long enough for a sync that does not wait; one that does is let go on afterwards.
        is_synced.recv_timeout(Duration::from_millis(50)).ok();
        release.send(()).unwrap();
        assert_eq!(second.join().unwrap().unwrap(), "value");
    });
}

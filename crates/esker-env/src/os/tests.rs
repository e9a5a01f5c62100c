//! What the file system of the system does beyond what conformance with memory shows: locks,
//! most of all.

use std::path::PathBuf;

use super::*;
use crate::FileExt;
use crate::testing::TestDir;

#[test]
fn created_directories_may_be_several_deep() {
    let dir = TestDir::new("deep");
    let deep = dir.path().join("a/b/c");
    OsFileSystem.create_dir_all(&deep).unwrap();
    OsFileSystem.create_dir_all(&deep).unwrap();
    assert!(OsFileSystem.exists(&deep).unwrap());
    assert_eq!(parent(Path::new("name")), Path::new("."));
}

#[test]
fn allocated_room_reads_as_zeros() {
    let dir = TestDir::new("allocate");
    let file = OsFileSystem.create(&dir.path().join("f")).unwrap();
    file.write_all_at(0, b"abc").unwrap();
    file.allocate(0, 8192).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
    let mut bytes = [1; 8192];
    file.read_exact_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes[..3], b"abc");
    assert!(bytes[3..].iter().all(|byte| *byte == 0));
    file.advise(crate::Advice::DontNeed);
}

#[test]
fn space_is_known() {
    let dir = TestDir::new("space");
    let space = OsFileSystem.space(dir.path()).unwrap();
    assert!(0 < space.total && space.available <= space.total);
}

#[test]
fn second_opener_in_one_process_is_refused_under_any_path() {
    let dir = TestDir::new("lock");
    let real = dir.path().join("real");
    OsFileSystem.create_dir_all(&real).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let lock = OsFileSystem.lock(&real.join("LOCK")).unwrap();
    let own = std::process::id();
    for path in [real.join("LOCK"), link.join("LOCK"), real.join("../real/LOCK")] {
        match OsFileSystem.lock(&path) {
            Err(LockError::Held(Some(holder))) => assert_eq!(holder, own),
            other => panic!("{path:?}: {other:?}"),
        }
    }
    drop(lock);
    assert!(OsFileSystem.lock(&link.join("LOCK")).is_ok());
}

#[test]
fn lock_is_free_at_once_though_other_threads_start_processes() {
    use crate::{SystemThreads, Threads};
    let dir = TestDir::new("lock-fork");
    let path = dir.path().join("LOCK");
    let start = || {
        for _ in 0..8 {
            let status = std::process::Command::new("true").status();
            assert!(status.is_ok_and(|status| status.success()));
        }
    };
    let threads = [0; 2].map(|_| SystemThreads.spawn("starter", Box::new(start)).unwrap());
    for _ in 0..800 {
        drop(OsFileSystem.lock(&path).expect("nobody else takes it"));
    }
    threads.into_iter().for_each(crate::JoinHandle::join);
}

#[test]
fn lock_file_left_behind_does_not_block() {
    let dir = TestDir::new("stale-lock");
    let path = dir.path().join("LOCK");
    std::fs::write(&path, "1\n").unwrap();
    let lock = OsFileSystem.lock(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    drop(lock);
    assert!(path.exists());
}

/// Run by the test below in a process of its own: takes the lock, says so, and waits to be told.
#[test]
fn child_process_holds_the_lock() {
    let Some(path) = std::env::var_os("ESKER_ENV_LOCK_IN_CHILD") else { return };
    let lock = OsFileSystem.lock(&PathBuf::from(path));
    println!("lock {}", if lock.is_ok() { "taken" } else { "refused" });
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn lock_of_another_process_names_it_and_ends_with_it() {
    use std::io::{BufRead, BufReader};
    let dir = TestDir::new("lock-process");
    let path = dir.path().join("LOCK");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "os::tests::child_process_holds_the_lock"])
        .env("ESKER_ENV_LOCK_IN_CHILD", &path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("lock taken")));
    match OsFileSystem.lock(&path) {
        Err(LockError::Held(Some(holder))) => assert_eq!(holder, child.id()),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(OsFileSystem.lock(&path).is_ok());
}

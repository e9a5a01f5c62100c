//! What the file system of the system does beyond what conformance with memory shows: locks,
//! most of all.

use std::path::PathBuf;

use super::file::{SystemFile, ZEROS};
use super::*;
use crate::FileExt;
use crate::testing::{TestDir, skipped};

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

/// On ext2, and wherever else the system reserves nothing.
#[test]
fn room_that_cannot_be_reserved_is_written() {
    let dir = TestDir::new("fill");
    let path = dir.path().join("f");
    OsFileSystem.create(&path).unwrap().write_all_at(0, b"abc").unwrap();
    let end = (ZEROS.len() + 100) as u64;
    let file =
        OsFile::new(SystemFile::options().write(true).read(true).open(&path).unwrap(), &path);
    file.fill_with_zeros(2).unwrap();
    assert_eq!(file.len().unwrap(), 3);
    file.fill_with_zeros(end).unwrap();
    assert_eq!(file.len().unwrap(), end);
    assert!(end <= file.data_end(0), "there are no holes");
    let mut bytes = vec![1; end as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    assert!(bytes.starts_with(b"abc") && bytes[3..].iter().all(|byte| *byte == 0));
}

/// Another one than those that overwrite in place.
const NO_WINDOW: &str = "the file system here has no windows";

#[test]
fn what_is_written_through_a_window_is_in_the_file() {
    let dir = TestDir::new("window");
    let file = OsFileSystem.create(&dir.path().join("f")).unwrap();
    assert!(file.window(0, 4096).is_none(), "an empty file has nothing to show");
    file.allocate(0, 3 * 4096).unwrap();
    file.write_all_at(0, &[1; 3 * 4096]).unwrap();
    assert!(file.window(1, 4096).is_none() && file.window(4096, 3 * 4096).is_none());
    let Some(mut window) = file.window(4096, 2 * 4096) else {
        skipped("what_is_written_through_a_window_is_in_the_file", NO_WINDOW);
        return;
    };
    assert!(window.contains(4096, 8192) && window.contains(12_288, 0));
    assert!(!window.contains(4095, 1) && !window.contains(4096, 8193));
    window.write(5000, &[2; 7000]);
    // Writes by call and through the window see each other's bytes.
    file.write_all_at(5100, &[3; 10]).unwrap();
    window.write(5105, &[4; 10]);
    file.sync_data().unwrap();
    drop(window);
    let mut bytes = vec![0; 3 * 4096];
    file.read_exact_at(0, &mut bytes).unwrap();
    let mut expected = vec![1; 3 * 4096];
    expected[5000..12_000].fill(2);
    expected[5100..5105].fill(3);
    expected[5105..5115].fill(4);
    assert_eq!(bytes, expected);
}

#[test]
#[should_panic = "stays inside"]
fn a_write_past_the_end_of_a_window_is_a_bug() {
    let dir = TestDir::new("window-end");
    let file = OsFileSystem.create(&dir.path().join("f")).unwrap();
    file.allocate(0, 2 * 4096).unwrap();
    let Some(mut window) = file.window(0, 4096) else {
        skipped("a_write_past_the_end_of_a_window_is_a_bug", NO_WINDOW);
        panic!("a write that is not tried stays inside");
    };
    window.write(4000, &[0; 97]);
}

/// One file of which the device did not even give the length made every listing fail, and with it whatever
/// looks for damage. A link to a name that is too long has none either.
#[test]
fn what_cannot_be_said_of_one_entry_is_told_of_that_one() {
    let dir = TestDir::new("stat");
    OsFileSystem.create(&dir.path().join("f")).unwrap().write_all_at(0, b"abc").unwrap();
    std::os::unix::fs::symlink("n".repeat(300), dir.path().join("link")).unwrap();
    let mut entries = OsFileSystem.list(dir.path()).unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let [f, link] = entries.as_slice() else { panic!("{entries:?}") };
    assert!(f.error.is_none() && (f.name.as_str(), f.len) == ("f", 3), "{f:?}");
    assert_eq!((link.name.as_str(), link.is_dir, link.len), ("link", false, 0));
    let error = link.error.as_ref().expect("why nothing is known of it").to_string();
    assert!(error.starts_with("cannot look at ") && error.contains("/link: "), "{error}");
}

#[test]
fn a_symbolic_link_gets_no_second_name() {
    let dir = TestDir::new("second-name");
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    OsFileSystem.create(&file).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let error = OsFileSystem.link(&link, &dir.path().join("new")).unwrap_err().to_string();
    assert_eq!(error, format!("cannot link {}: it is a symbolic link", link.display()));
    OsFileSystem.link(&file, &dir.path().join("new")).unwrap();
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
    let lock = OsFileSystem.lock(&real.join("LOCK"), LockMode::Exclusive).unwrap();
    let own = std::process::id();
    for path in [real.join("LOCK"), link.join("LOCK"), real.join("../real/LOCK")] {
        match OsFileSystem.lock(&path, LockMode::Exclusive) {
            Err(LockError::Held(Some(holder))) => assert_eq!(holder, own),
            other => panic!("{path:?}: {other:?}"),
        }
    }
    drop(lock);
    assert!(OsFileSystem.lock(&link.join("LOCK"), LockMode::Exclusive).is_ok());
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
        drop(OsFileSystem.lock(&path, LockMode::Exclusive).expect("nobody else takes it"));
    }
    threads.into_iter().for_each(crate::JoinHandle::join);
}

#[test]
fn shared_locks_go_together_and_leave_no_process_id() {
    let dir = TestDir::new("shared-lock");
    let path = dir.path().join("LOCK");
    std::fs::write(&path, "1\n").unwrap();
    let shared = [(); 3].map(|()| OsFileSystem.lock(&path, LockMode::Shared).unwrap());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    for lock in shared {
        let refused = OsFileSystem.lock(&path, LockMode::Exclusive);
        assert!(matches!(refused, Err(LockError::Held(_))), "{refused:?}");
        drop(lock);
    }
    let alone = OsFileSystem.lock(&path, LockMode::Exclusive).unwrap();
    assert!(OsFileSystem.lock(&path, LockMode::Shared).is_err());
    drop(alone);
    assert!(OsFileSystem.lock(&path, LockMode::Shared).is_ok());
}

#[test]
fn lock_file_left_behind_does_not_block() {
    let dir = TestDir::new("stale-lock");
    let path = dir.path().join("LOCK");
    std::fs::write(&path, "1\n").unwrap();
    let lock = OsFileSystem.lock(&path, LockMode::Exclusive).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    drop(lock);
    assert!(path.exists());
}

#[test]
fn lock_file_without_room_for_a_process_id_is_taken_all_the_same() {
    // Takes no byte, as a lock file on a full disk.
    let path = Path::new("/dev/full");
    if !path.exists() {
        let test = "lock_file_without_room_for_a_process_id_is_taken_all_the_same";
        skipped(test, "there is no /dev/full");
        return;
    }
    let lock = OsFileSystem.lock(path, LockMode::Exclusive).unwrap();
    assert!(matches!(OsFileSystem.lock(path, LockMode::Exclusive), Err(LockError::Held(_))));
    drop(lock);
}

/// Run by the test below in a process of its own: takes the lock, says so, and waits to be told.
#[test]
fn child_process_holds_the_lock() {
    let Some(path) = std::env::var_os("ESKER_ENV_LOCK_IN_CHILD") else { return };
    let lock = OsFileSystem.lock(&PathBuf::from(path), LockMode::Exclusive);
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
    match OsFileSystem.lock(&path, LockMode::Exclusive) {
        Err(LockError::Held(Some(holder))) => assert_eq!(holder, child.id()),
        other => panic!("{other:?}"),
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(OsFileSystem.lock(&path, LockMode::Exclusive).is_ok());
}

#[test]
fn room_that_was_never_written_is_told_from_data() {
    let dir = TestDir::new("data-from");
    let file = OsFileSystem.create(&dir.path().join("f")).unwrap();
    file.allocate(0, 1 << 20).unwrap();
    file.write_all_at(600_000, b"abc").unwrap();
    let data = file.data_from(100);
    assert!((100..=600_000).contains(&data), "{data}");
    assert!((600_001..=1 << 20).contains(&file.data_from(600_001)));
    assert_eq!(file.data_from(600_002), 600_002);
    assert_eq!(file.data_from(1 << 20), 1 << 20);
    assert!(600_003 <= file.data_end(600_000));
    assert_eq!(file.data_end(1 << 20), u64::MAX, "nothing follows");
}

#[test]
fn bytes_at_hand_are_those_of_the_file_wherever_they_are() {
    let dir = TestDir::new("at-hand");
    let file = OsFileSystem.create(&dir.path().join("f")).unwrap();
    let written: Vec<u8> = (0..40_000_u32).map(|at| at as u8).collect();
    file.write_all_at(0, &written).unwrap();
    let mut bytes = [0; 100];
    assert_eq!(file.read_at_hand(5_000, &mut bytes).unwrap(), Some(100));
    assert_eq!(bytes, written[5_000..5_100]);
    assert_eq!(file.read_at_hand(39_990, &mut bytes).unwrap(), Some(10));
    assert_eq!(file.read_at_hand(40_000, &mut bytes).unwrap(), Some(0));
    // The system may drop what is stored, and need not.
    file.sync_data().unwrap();
    file.advise(crate::Advice::DontNeed);
    file.will_need(20_000, 100);
    file.will_need(20_000, 0);
    file.will_need(50_000, 100);
    for at in [0, 8_100, 20_000, 30_000] {
        let mut bytes = vec![0; 5_000];
        if let Some(count) = file.read_at_hand(at, &mut bytes).unwrap() {
            assert_eq!(bytes[..count], written[at as usize..][..count]);
        }
        file.read_exact_at(at, &mut bytes).unwrap();
        assert_eq!(bytes, written[at as usize..][..5_000]);
    }
}

/// A link that leads in a circle, or through a file, made every listing of its directory fail.
#[test]
fn links_to_nowhere_are_not_listed() {
    let dir = TestDir::new("links");
    let file = dir.path().join("file");
    OsFileSystem.create(&file).unwrap();
    let links = [("dangling", "missing"), ("circle", "circle"), ("through", "file/below")];
    for (name, target) in links {
        std::os::unix::fs::symlink(dir.path().join(target), dir.path().join(name)).unwrap();
    }
    let names: Vec<_> =
        OsFileSystem.list(dir.path()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["file"]);
}

/// To open a pipe is to wait for whoever writes to it, so it must not look like a file, nor be opened.
#[test]
fn what_is_no_file_is_listed_as_a_directory_is() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = TestDir::new("pipe");
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, dir.path().join("1-00000001.log"), FileType::Fifo, mode, 0).unwrap();
    let entries = OsFileSystem.list(dir.path()).unwrap();
    let [pipe] = entries.as_slice() else { panic!("{entries:?}") };
    assert!(pipe.is_dir && pipe.len == 0 && pipe.error.is_none(), "{pipe:?}");
    let error = OsFileSystem.open(&dir.path().join(&pipe.name)).unwrap_err();
    assert!(error.to_string().ends_with("it is not a file"), "{error}");
    assert!(!error.is_not_found() && !error.is_of_the_device(), "{error:?}");
}

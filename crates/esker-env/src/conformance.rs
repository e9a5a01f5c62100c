//! The same random operations on the file system of the system, on the one in memory, and on that one
//! with a trace of it: whatever can be seen of one is seen of the others, so that what holds in the
//! tests of the floors above holds on a disk.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::random::SplitMix;
use crate::testing::TestDir;
use crate::{File, FileExt, FileLock, FileSystem, IoError, LockError, LockMode};
use crate::{MemoryFileSystem, OsFileSystem, TraceFileSystem};

const DIRECTORIES: [&str; 3] = ["d", "e/f", "a"];
const FILES: [&str; 8] = ["a", "b", "c", "d/a", "d/b", "e/f/a", "./b", "missing/a"];

/// One of the file systems, with what is open in it.
struct Side {
    fs: Arc<dyn FileSystem>,
    root: PathBuf,
    files: Vec<Arc<dyn File>>,
    locks: Vec<Box<dyn FileLock>>,
}

/// What an operation shows: its result as text, errors by their kind only.
fn show<T: Debug>(result: Result<T, IoError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => match error.kind() {
            // Memory has no files in the place of directories.
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "not found".into(),
            io::ErrorKind::AlreadyExists => "already exists".into(),
            _ => "failed".into(),
        },
    }
}

impl Side {
    fn new(fs: Arc<dyn FileSystem>, root: &Path) -> Self {
        fs.create_dir_all(root).unwrap();
        Self { fs, root: root.to_path_buf(), files: Vec::new(), locks: Vec::new() }
    }

    fn opened(&mut self, result: Result<Arc<dyn File>, IoError>) -> String {
        show(result.map(|file| self.files.push(file)))
    }

    fn lock(&self, is_shared: bool) -> Result<Box<dyn FileLock>, LockError> {
        let mode = if is_shared { LockMode::Shared } else { LockMode::Exclusive };
        self.fs.lock(&self.root.join("LOCK"), mode)
    }

    fn list(&self, dir: &Path) -> String {
        show(self.fs.list(dir).map(|mut entries| {
            // Only the system's holds a process id.
            let locks = entries.iter_mut().filter(|entry| entry.name == "LOCK");
            locks.for_each(|lock| lock.len = 0);
            entries.sort_by(|left, right| left.name.cmp(&right.name));
            entries
        }))
    }

    /// Operations on names; `random` is at the same point for all sides.
    fn on_names(&mut self, random: &mut SplitMix) -> String {
        let mut pick =
            |names: &[&str]| self.root.join(names[random.below(names.len() as u64) as usize]);
        let (path, other, dir) = (pick(&FILES), pick(&FILES), pick(&DIRECTORIES));
        match random.below(16) {
            0..3 => {
                let created = self.fs.create(&path);
                self.opened(created)
            }
            3 => {
                let file = self.fs.open_for_write(&path);
                // A directory opens for reading on Linux, and then cannot be read.
                if file.is_ok() || path.ends_with("a") {
                    self.opened(file)
                } else {
                    show(file.map(drop))
                }
            }
            // Directories are not renamed.
            4 | 5 if self.fs.list(&path).is_ok() => "directory".into(),
            4 => show(self.fs.rename(&path, &other)),
            5 => show(self.fs.rename(&path, &dir)),
            6 => show(self.fs.remove(&path)),
            7 => show(self.fs.exists(&path)),
            8 => show(self.fs.exists(&dir)),
            9 => self.list(&dir),
            10 => self.list(&self.root),
            11 => show(self.fs.create_dir_all(&dir)),
            12 => show(self.fs.sync_dir(&self.root)),
            13 => show(self.fs.link(&path, &other)),
            number => match self.lock(number == 14) {
                Ok(lock) => {
                    self.locks.push(lock);
                    "locked".into()
                }
                Err(LockError::Held(holder)) => {
                    self.locks.clear();
                    format!("held by {holder:?}")
                }
                Err(LockError::Io(error)) => error.to_string(),
            },
        }
    }

    /// Operations on one of the files that are open.
    fn on_file(&mut self, random: &mut SplitMix) -> String {
        let index = random.below(self.files.len() as u64) as usize;
        let file = Arc::clone(&self.files[index]);
        let (offset, len) = (random.below(9_000), random.below(5_000) as usize);
        match random.below(13) {
            0..3 => {
                let mut bytes = vec![0; len];
                random.fill(&mut bytes);
                show(file.write_at(offset, &bytes))
            }
            3..6 => {
                let mut bytes = vec![0; len];
                let count = file.read_at(offset, &mut bytes);
                show(count.map(|count| bytes[..count].to_vec()))
            }
            6 => show(file.read_exact_at(offset, &mut vec![0; len])),
            // Room that was never written is not at hand in the one, and is in the other.
            7 => {
                file.will_need(offset, len as u64);
                let mut bytes = vec![0; len];
                let count = file.read_at_hand(offset, &mut bytes).and_then(|at_hand| {
                    let at_hand = at_hand.unwrap_or(0);
                    let rest = file.read_at(offset + at_hand as u64, &mut bytes[at_hand..])?;
                    Ok(at_hand + rest)
                });
                show(count.map(|count| bytes[..count].to_vec()))
            }
            8 => show(file.truncate(offset)),
            9 => show(file.allocate(offset, len as u64 + 1)),
            10 => show(file.len().and_then(|len| Ok((len, file.is_empty()?)))),
            11 => show(file.sync_data().and_then(|()| file.sync_all())),
            _ => {
                drop(self.files.swap_remove(index));
                "closed".into()
            }
        }
    }
}

#[test]
fn memory_and_a_trace_of_it_behave_as_the_system_does() {
    let dir = TestDir::new("conformance");
    for seed in 0..8 {
        let root = dir.path().join(seed.to_string());
        let memory = || Arc::new(MemoryFileSystem::new(seed));
        let mut os = Side::new(Arc::new(OsFileSystem), &root);
        let mut others = [
            Side::new(memory(), Path::new("/db")),
            Side::new(Arc::new(TraceFileSystem::new(memory())), Path::new("/db")),
        ];
        let mut random = SplitMix(seed);
        for step in 0..400 {
            let on_names = os.files.is_empty() || random.below(2) == 0;
            let start = random.clone();
            let mut run = |side: &mut Side| {
                random = start.clone();
                if on_names { side.on_names(&mut random) } else { side.on_file(&mut random) }
            };
            let expected = run(&mut os);
            for other in &mut others {
                let found = run(other);
                assert!(
                    expected == found,
                    "seed {seed} step {step}: {expected:.200} / {found:.200}"
                );
                assert_eq!(os.files.len(), other.files.len());
            }
        }
    }
}

#[test]
fn file_opened_for_reading_takes_no_changes() {
    let dir = TestDir::new("read-only");
    let sides = [
        Side::new(Arc::new(OsFileSystem), dir.path()),
        Side::new(Arc::new(MemoryFileSystem::new(0)), Path::new("db")),
        Side::new(
            Arc::new(TraceFileSystem::new(Arc::new(MemoryFileSystem::new(0)))),
            Path::new("db"),
        ),
    ];
    for Side { fs, root, .. } in sides {
        let path = root.join("f");
        fs.create(&path).unwrap().write_all_at(0, b"kept").unwrap();
        let file = fs.open(&path).unwrap();
        assert!(file.write_at(0, b"lost").is_err());
        assert!(file.truncate(0).is_err());
        assert!(file.allocate(0, 100).is_err());
        assert_eq!(file.len().unwrap(), 4);
        assert_eq!(file.path(), path);
    }
}

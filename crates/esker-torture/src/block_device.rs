//! A block device that records everything done to it.
//!
//! One file, `disk`, in a file system of our own (FUSE, without a cache), so that a loop device
//! over it passes on every write and every flush as it comes. Block writes, flushes, and what
//! others write to the file `marks` beside it go to one log, in order of arrival. Contents are kept
//! in memory, in shared pages: taking a copy or going back to one is free.
//!
//! Does not know file systems, nor what the marks mean.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::Result;

const PAGE_BYTES: usize = 4096;

/// Where each file is in the directory.
const DISK: INodeNo = INodeNo(2);
const MARKS: INodeNo = INodeNo(3);

/// Attributes may change at any time.
const TTL: Duration = Duration::ZERO;

/// The contents of the device; pages that were never written are zeros.
#[derive(Clone, Default)]
pub(crate) struct Contents(BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>);

impl Contents {
    pub(crate) fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = (offset % PAGE_BYTES as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_BYTES - at));
            let page = self.0.entry(offset / PAGE_BYTES as u64);
            let page = Arc::make_mut(page.or_insert_with(|| Arc::new([0; PAGE_BYTES])));
            page[at..at + now.len()].copy_from_slice(now);
            (offset, bytes) = (offset + now.len() as u64, later);
        }
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let count = (len - bytes.len()).min(PAGE_BYTES - within);
            match self.0.get(&(at / PAGE_BYTES as u64)) {
                Some(page) => bytes.extend_from_slice(&page[within..within + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
        }
        bytes
    }
}

/// One event.
pub(crate) enum Event {
    Write {
        offset: u64,
        bytes: Box<[u8]>,
    },
    /// All writes before it are durable.
    Flush,
    Mark(Box<[u8]>),
}

#[derive(Default)]
struct State {
    contents: Contents,
    /// None while nothing is being recorded.
    log: Option<Vec<Event>>,
}

/// The device, for as long as it exists.
pub(crate) struct BlockDevice {
    // Not held across anything that waits.
    state: Arc<Mutex<State>>,
    point: PathBuf,
    session: Option<BackgroundSession>,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlockDevice {
    /// A device of `bytes` zeros, in the directory `point`.
    pub(crate) fn new(bytes: u64, point: &Path) -> Result<Self> {
        std::fs::create_dir_all(point).map_err(|error| error.to_string())?;
        let state = Arc::<Mutex<State>>::default();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("esker-torture".to_owned())];
        let server = Server { bytes, state: Arc::clone(&state) };
        let session = fuser::spawn_mount(server, point, &config)
            .map_err(|error| format!("FUSE cannot be mounted: {error}"))?;
        Ok(Self { state, point: point.to_path_buf(), session: Some(session) })
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.point.join("disk")
    }

    pub(crate) fn marks(&self) -> PathBuf {
        self.point.join("marks")
    }

    pub(crate) fn contents(&self) -> Contents {
        locked(&self.state).contents.clone()
    }

    /// Replaces the contents. Nothing may be mounted from the device.
    pub(crate) fn set_contents(&self, contents: Contents) {
        locked(&self.state).contents = contents;
    }

    pub(crate) fn start_log(&self) {
        locked(&self.state).log = Some(Vec::new());
    }

    /// Ends the log and returns it.
    pub(crate) fn take_log(&self) -> Vec<Event> {
        locked(&self.state).log.take().unwrap_or_default()
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        // What does not end now ends with the process.
        drop(self.session.take().map(BackgroundSession::umount_and_join));
    }
}

/// Answers the system's requests.
struct Server {
    bytes: u64,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn attributes(&self, file: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match file {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            DISK => (FileType::RegularFile, 0o600, self.bytes),
            MARKS => (FileType::RegularFile, 0o600, 0),
            _ => return None,
        };
        Some(FileAttr {
            ino: file,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let file = match name.to_str() {
            Some("disk") => self.attributes(DISK),
            Some("marks") => self.attributes(MARKS),
            _ => None,
        };
        match file {
            Some(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, file: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(file) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let end = if file == DISK { self.bytes } else { 0 };
        let len = u64::from(size).min(end.saturating_sub(offset)) as usize;
        let bytes = locked(&self.state).contents.read(offset, len);
        reply.data(&bytes);
    }

    fn write(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = locked(&self.state);
        if file == DISK {
            state.contents.write(offset, data);
        }
        if let Some(log) = &mut state.log {
            let bytes = data.into();
            log.push(if file == DISK {
                Event::Write { offset, bytes }
            } else {
                Event::Mark(bytes)
            });
        }
        drop(state);
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, file: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if let (DISK, Some(log)) = (file, &mut locked(&self.state).log) {
            log.push(Event::Flush);
        }
        reply.ok();
    }
}

#[test]
fn what_is_written_is_read_and_copies_stay_as_they_are() {
    let mut contents = Contents::default();
    contents.write(4090, b"over the end of a page");
    let copy = contents.clone();
    contents.write(4092, b"-----");
    assert_eq!(contents.read(4088, 14), *b"\0\0ov-----e end");
    assert_eq!(copy.read(4088, 14), *b"\0\0over the end");
}

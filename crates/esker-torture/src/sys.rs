//! System calls without a safe interface: a shared mapping, and the power cut of a file system.
//!
//! The only module of the program with `unsafe`.
#![expect(unsafe_code, reason = "a mapping and an ioctl; the rest of the program has none")]

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr::null_mut;
use std::slice;
use std::sync::atomic::AtomicU32;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags, mmap};

use crate::Result;

/// `FS_IOC_SHUTDOWN`, which is `_IOR('X', 125, u32)`.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);

/// Nothing is written out any more, not even what the file system has in flight: the state after a
/// power failure.
const WITHOUT_LOG_FLUSH: u32 = 2;

/// Maps the first `count` words of `file`, which is at least that long, for the life of the
/// process. What is stored in them is the system's at once, and outlives the process.
pub(crate) fn map_words(file: &OwnedFd, count: usize) -> Result<&'static [AtomicU32]> {
    let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping at an address of the system's choice touches no memory of ours.
    let start = unsafe { mmap(null_mut(), count * 4, prot, flags, file.as_fd(), 0) };
    let start = start.map_err(|error| format!("cannot map the expected state: {error}"))?;
    // SAFETY: the mapping is `count * 4` bytes long, aligned to a page, and never unmapped; every
    // bit pattern is a word, and words are only accessed atomically.
    Ok(unsafe { slice::from_raw_parts(start.cast::<AtomicU32>(), count) })
}

/// Cuts the power of the file system mounted at `mount_point`.
pub(crate) fn cut_power(mount_point: &Path) -> Result<()> {
    let dir = rustix::fs::open(mount_point, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
    let dir = dir.map_err(|error| format!("{}: {error}", mount_point.display()))?;
    // SAFETY: the request reads a u32, which is what the setter points it to.
    let setter = unsafe { Setter::<SHUTDOWN, u32>::new(WITHOUT_LOG_FLUSH) };
    // SAFETY: the setter is that of the request, and the descriptor is open.
    let cut = unsafe { ioctl(&dir, setter) };
    cut.map_err(|error| format!("the file system cannot be shut down: {error}"))
}

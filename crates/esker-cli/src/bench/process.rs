//! What the system reports about this process and its files; `None` if it does not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time of all threads, in user and system mode.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (secs, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Duration::from_secs(secs) + Duration::from_nanos(nanos)
}

/// Bytes handed to the system for writing.
pub(super) fn written_bytes() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/io").ok()?, "wchar:")
}

/// The peak of resident memory since [`reset_peak_memory`], in bytes.
pub(super) fn peak_memory_bytes() -> Option<u64> {
    Some(field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")? * 1024)
}

/// Resets the peak. If that is not possible, peaks are those since the start.
pub(super) fn reset_peak_memory() {
    drop(fs::write("/proc/self/clear_refs", "5"));
}

/// Lengths of all files in `dir`. Files may disappear meanwhile.
pub(super) fn dir_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

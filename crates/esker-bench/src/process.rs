//! What the system says about this process, its files and its machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of all threads, in user and system mode.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (secs, nanos) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Duration::from_secs(secs) + Duration::from_nanos(nanos)
}

/// Bytes that this process caused to be sent to storage, as `write_bytes` of `/proc/self/io`
/// counts them: whole pages when they become dirty, memory-mapped ones included.
pub(crate) fn written_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    field(&text, "write_bytes:").unwrap_or_default()
}

/// The most memory that was resident since [`reset_peak_memory`], in bytes; pages of mapped files
/// that are resident count.
pub(crate) fn peak_memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    field(&text, "VmHWM:").unwrap_or_default() * 1024
}

/// Forgets the peak so far. Where that is not possible, peaks are those since the start.
pub(crate) fn reset_peak_memory() {
    drop(fs::write("/proc/self/clear_refs", "5"));
}

/// Space that the files in `dir` and below take on disk. Files may go while it counts.
pub(crate) fn dir_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => dir_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    fs::read_dir(dir).into_iter().flatten().flatten().map(size).sum()
}

/// Has the system write out the files in `dir` and below, and forget what it holds of them in memory.
pub(crate) fn forget_pages(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            forget_pages(&path)?;
        } else {
            let file = rustix::fs::open(&path, OFlags::RDONLY, Mode::empty())?;
            rustix::fs::fsync(&file)?;
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// The load average over one minute.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// The machine in one line.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_gib = field(&memory, "MemTotal:").unwrap_or_default() >> 20;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, {memory_gib} GiB, Linux {}", kernel.trim())
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

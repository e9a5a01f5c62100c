//! What this machine can do: the figures that no engine gets around.
//!
//! Each figure is the best of a few rounds of one small loop, because a limit is what is possible,
//! not what is usual. It does not know what the figures are used for.

use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};
use rustix::fs::{FallocateFlags, Mode, OFlags};

use crate::engine::Result;
use crate::random::Random;

/// Length of the log record of one put of 16+100 bytes.
const RECORD_BYTES: usize = 140;

const BLOCK_BYTES: usize = 4096;

/// Rounds of each loop; the best one counts.
const ROUNDS: usize = 3;

/// Threads that read from the device at once.
const DEPTH: u64 = 32;

/// Length of the file that is read from the device.
const READ_FILE_BYTES: u64 = 1 << 30;

/// Seconds, but for the rates of the device.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// A `write` of one log record at the end of a preallocated file.
    pub(crate) append_seconds: f64,
    /// A byte of a `write` of a megabyte.
    pub(crate) write_byte_seconds: f64,
    /// A `pread` of 4 KiB from the page cache.
    pub(crate) read_block_seconds: f64,
    /// An `fdatasync` after a record was written over preallocated, written space.
    pub(crate) sync_seconds: f64,
    /// The same with eight threads, each of which writes and waits: syncs per second.
    pub(crate) syncs_of_eight_per_second: f64,
    /// A load that waits for the load before, by the size of what is loaded from, in bytes.
    pub(crate) dependent_loads: Vec<(u64, f64)>,
    /// A load that does not, from the largest of these.
    pub(crate) independent_load_seconds: f64,
    /// A byte copied in memory, from one place to another that are not in a cache.
    pub(crate) copy_byte_seconds: f64,
    /// A byte under XXH3-64, in blocks of 4 KiB.
    pub(crate) checksum_byte_seconds: f64,
    /// A byte of half compressible blocks compressed by LZ4, and unpacked again.
    pub(crate) compress_byte_seconds: f64,
    pub(crate) decompress_byte_seconds: f64,
    /// Reads of 4 KiB from the device in a second, one at a time and 32 at a time.
    pub(crate) reads_alone_per_second: f64,
    pub(crate) reads_together_per_second: f64,
}

impl Machine {
    /// Measures; files are made in `dir` and removed. Takes about a minute.
    pub(crate) fn measure(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("limits.tmp");
        let measured = Self::measure_at(&path);
        drop(std::fs::remove_file(&path));
        measured
    }

    fn measure_at(path: &Path) -> Result<Self> {
        let sizes = [512 << 10, 4 << 20, 32 << 20, 128 << 20, 512 << 20, 2 << 30];
        let dependent_loads = sizes.map(|bytes| (bytes, dependent_load(bytes))).to_vec();
        let (append_seconds, write_byte_seconds) = writes(path)?;
        let (compress_byte_seconds, decompress_byte_seconds) = compression();
        let sync_seconds = 1.0 / syncs_per_second(path, 1)?;
        let syncs_of_eight_per_second = syncs_per_second(path, 8)?;
        let reads = device_reads(path)?;
        Ok(Self {
            append_seconds,
            write_byte_seconds,
            read_block_seconds: cached_read(path)?,
            sync_seconds,
            syncs_of_eight_per_second,
            dependent_loads,
            independent_load_seconds: independent_load(512 << 20),
            copy_byte_seconds: copy(),
            checksum_byte_seconds: checksum(),
            compress_byte_seconds,
            decompress_byte_seconds,
            reads_alone_per_second: reads.0,
            reads_together_per_second: reads.1,
        })
    }

    /// A dependent load from a working set of `bytes`: between the sizes that were measured, in
    /// proportion to the logarithm.
    pub(crate) fn dependent_load(&self, bytes: f64) -> f64 {
        let points = &self.dependent_loads;
        let above = points.iter().position(|&(size, _)| bytes <= size as f64);
        match above {
            Some(0) => points[0].1,
            None => points[points.len() - 1].1,
            Some(above) => {
                let ((low, fast), (high, slow)) = (points[above - 1], points[above]);
                let share = (bytes / low as f64).ln() / (high as f64 / low as f64).ln();
                fast + share * (slow - fast)
            }
        }
    }
}

/// The shortest time of one of `count` steps that `run` makes.
fn best(count: usize, mut run: impl FnMut()) -> f64 {
    let one = |_| seconds(&mut run) / count as f64;
    (0..ROUNDS).map(one).fold(f64::INFINITY, f64::min)
}

fn seconds(run: impl FnOnce()) -> f64 {
    let clock = SystemClock::new();
    let start = clock.now();
    run();
    clock.now().saturating_sub(start).as_secs_f64()
}

/// Follows a random cycle through all cache lines of `bytes`.
fn dependent_load(bytes: u64) -> f64 {
    const WORDS_PER_LINE: usize = 16;
    let lines = bytes as usize / 64;
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut random = Random::new(1);
    for index in (1..lines).rev() {
        order.swap(index, random.below(index as u64 + 1) as usize);
    }
    let mut cells = vec![0u32; lines * WORDS_PER_LINE];
    for pair in order.windows(2) {
        cells[pair[0] as usize * WORDS_PER_LINE] = pair[1];
    }
    cells[order[lines - 1] as usize * WORDS_PER_LINE] = order[0];
    drop(order);
    let steps = 2_000_000;
    best(steps, || {
        let mut at = 0;
        for _ in 0..steps {
            at = cells[at as usize * WORDS_PER_LINE];
        }
        black_box(at);
    })
}

fn independent_load(bytes: u64) -> f64 {
    let cells = vec![1u64; bytes as usize / 8];
    let steps = 8_000_000;
    let mut random = Random::new(2);
    best(steps, || {
        let mut sum = 0u64;
        for _ in 0..steps {
            sum = sum.wrapping_add(cells[random.below(cells.len() as u64) as usize]);
        }
        black_box(sum);
    })
}

fn copy() -> f64 {
    let source = vec![1u8; 256 << 20];
    let mut target = vec![0u8; source.len()];
    best(source.len(), || target.copy_from_slice(black_box(&source)))
}

/// Half compressible blocks of 4 KiB.
fn blocks() -> Vec<u8> {
    let mut random = Random::new(3);
    let mut bytes = vec![0; 64 * BLOCK_BYTES];
    for piece in bytes.chunks_mut(100) {
        let (first, second) = piece.split_at_mut(piece.len() / 2);
        first.iter_mut().for_each(|byte| *byte = random.next() as u8);
        second[..first.len()].copy_from_slice(first);
    }
    bytes
}

const REPEATS: usize = 200;

fn checksum() -> f64 {
    let bytes = blocks();
    best(REPEATS * bytes.len(), || {
        for block in (0..REPEATS).flat_map(|_| bytes.chunks(BLOCK_BYTES)) {
            black_box(xxhash_rust::xxh3::xxh3_64(black_box(block)));
        }
    })
}

/// A byte compressed, and a byte unpacked.
fn compression() -> (f64, f64) {
    let bytes = blocks();
    let packed: Vec<Vec<u8>> = bytes.chunks(BLOCK_BYTES).map(lz4_flex::block::compress).collect();
    let mut out = vec![0; lz4_flex::block::get_maximum_output_size(BLOCK_BYTES)];
    let compress = best(REPEATS * bytes.len(), || {
        for block in (0..REPEATS).flat_map(|_| bytes.chunks(BLOCK_BYTES)) {
            black_box(lz4_flex::block::compress_into(black_box(block), &mut out).is_ok());
        }
    });
    let decompress = best(REPEATS * bytes.len(), || {
        for block in (0..REPEATS).flat_map(|_| &packed) {
            black_box(lz4_flex::block::decompress_into(black_box(block), &mut out).is_ok());
        }
    });
    (compress, decompress)
}

fn open(path: &Path, more: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | more;
    Ok(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?)
}

/// A record appended, and a byte of large writes.
fn writes(path: &Path) -> Result<(f64, f64)> {
    let count = 400_000;
    let file = open(path, OFlags::TRUNC)?;
    let record = [7; RECORD_BYTES];
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, (count * RECORD_BYTES) as u64)?;
    let mut failed = Ok(0);
    let append = best(count, || {
        for index in 0..count {
            let written = rustix::io::pwrite(&file, &record, (index * RECORD_BYTES) as u64);
            failed = failed.and(written);
        }
    });
    let large = vec![7; 1 << 20];
    let bytes = 256 * large.len();
    let byte = best(bytes, || {
        for index in 0..256 {
            failed = failed.and(rustix::io::pwrite(&file, &large, (index * large.len()) as u64));
        }
    });
    failed?;
    Ok((append, byte))
}

fn cached_read(path: &Path) -> Result<f64> {
    let file = open(path, OFlags::TRUNC)?;
    let chunk = vec![7; 1 << 20];
    for index in 0..64 {
        rustix::io::pwrite(&file, &chunk, index << 20)?;
    }
    let count = 200_000;
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut random = Random::new(4);
    let mut failed = Ok(0);
    let block = best(count, || {
        for _ in 0..count {
            let offset = random.below(64 << 8) * BLOCK_BYTES as u64;
            failed = failed.and(rustix::io::pread(&file, &mut buffer, offset));
        }
    });
    failed?;
    Ok(block)
}

/// Records that `threads` writers, who wait for each, make durable in a second.
fn syncs_per_second(path: &Path, threads: u64) -> Result<f64> {
    let clock = SystemClock::new();
    let until = clock.now() + Duration::from_secs(2);
    let writer = |thread: u64| -> Result<u64> {
        let name = format!("{thread}.tmp");
        let path = path.with_extension(name);
        let file = open(&path, OFlags::TRUNC)?;
        rustix::io::pwrite(&file, &vec![1; 1 << 20], 0)?;
        rustix::fs::fsync(&file)?;
        let mut count = 0;
        while clock.now() < until {
            let offset = count * RECORD_BYTES as u64 % (1 << 19);
            rustix::io::pwrite(&file, &[7; RECORD_BYTES], offset)?;
            rustix::fs::fdatasync(&file)?;
            count += 1;
        }
        std::fs::remove_file(&path)?;
        Ok(count)
    };
    let start = clock.now();
    let counts = in_threads(threads, writer)?;
    Ok(counts as f64 / clock.now().saturating_sub(start).as_secs_f64())
}

/// Reads of 4 KiB past the page cache in a second: one thread, and [`DEPTH`] of them.
fn device_reads(path: &Path) -> Result<(f64, f64)> {
    let file = open(path, OFlags::TRUNC)?;
    let chunk = vec![7; 1 << 20];
    for index in 0..READ_FILE_BYTES >> 20 {
        rustix::io::pwrite(&file, &chunk, index << 20)?;
    }
    rustix::fs::fsync(&file)?;
    Ok((device_reads_of(path, 1)?, device_reads_of(path, DEPTH)?))
}

fn device_reads_of(path: &Path, threads: u64) -> Result<f64> {
    let clock = SystemClock::new();
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECT, Mode::empty())?;
    let until = clock.now() + Duration::from_secs(2);
    let start = clock.now();
    let counts = in_threads(threads, |thread| {
        let mut random = Random::new(thread);
        let mut buffer = vec![0; 2 * BLOCK_BYTES];
        // Past the page cache, memory must be aligned, too.
        let skipped = buffer.as_ptr().align_offset(BLOCK_BYTES);
        let block = &mut buffer[skipped..][..BLOCK_BYTES];
        let mut count = 0;
        while clock.now() < until {
            let offset = random.below(READ_FILE_BYTES / BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
            rustix::io::pread(&file, &mut *block, offset)?;
            count += 1;
        }
        Ok(count)
    })?;
    Ok(counts as f64 / clock.now().saturating_sub(start).as_secs_f64())
}

/// The sum of what `work` returns in each of `threads`.
fn in_threads(threads: u64, work: impl Fn(u64) -> Result<u64> + Sync) -> Result<u64> {
    std::thread::scope(|scope| {
        let work = &work;
        let handles: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || work(thread).map_err(|error| error.to_string())))
            .collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.join().map_err(|_| "a thread of the measurement panicked")??;
        }
        Ok(sum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_between_the_measured_sizes_are_in_between() {
        let machine = Machine {
            dependent_loads: vec![(1 << 10, 10.0), (1 << 20, 30.0)],
            append_seconds: 0.0,
            write_byte_seconds: 0.0,
            read_block_seconds: 0.0,
            sync_seconds: 0.0,
            syncs_of_eight_per_second: 0.0,
            independent_load_seconds: 0.0,
            copy_byte_seconds: 0.0,
            checksum_byte_seconds: 0.0,
            compress_byte_seconds: 0.0,
            decompress_byte_seconds: 0.0,
            reads_alone_per_second: 0.0,
            reads_together_per_second: 0.0,
        };
        assert_eq!(machine.dependent_load(1.0), 10.0);
        assert!((machine.dependent_load(f64::from(1 << 15)) - 20.0).abs() < 1e-9);
        assert_eq!(machine.dependent_load(1e12), 30.0);
    }
}

//! The power cut without the engine: does the file system keep what it reported as durable?
//!
//! A program writes records to files and syncs each of them, in the four ways in which data reaches
//! a disk: over existing bytes, into allocated space, into such space through a mapping, and at the
//! end of a growing file. It runs on while the file system is shut down. For each record whose sync
//! returned without an error, it records the progress of the shutdown before and after the call.
//! After the next mount the records are checked.
//!
//! A record that is lost though its sync had returned before the shutdown began is a failure. One
//! whose sync returned later is counted: this shows how reliable the result of a sync is during a
//! power cut. Knows nothing of the engine.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FallocateFlags, Mode, OFlags};

use crate::Result;
use crate::arguments::Arguments;
use crate::cleanup::call;
use crate::disk::{Disk, WITH_SHUTDOWN, on_each_disk};
use crate::driver::{Driver, End, Outcome, kill_unless_ended};
use crate::outside::spawn;
use crate::sys::{cut_power, map_words};

/// Ways to write, two files for each.
const WAYS: [&str; 4] = ["over bytes", "into room", "through a mapping", "at the end"];
const FILES: usize = 2 * WAYS.len();

/// A record is its number, repeated this many times.
const RECORD_WORDS: usize = 125;
const RECORD_BYTES: usize = 4 * RECORD_WORDS;
/// More than can be written in a run.
const RECORDS: u32 = 8000;
const FILE_BYTES: u64 = RECORDS as u64 * RECORD_BYTES as u64;

/// Progress of the shutdown.
const BEFORE: u32 = 0;
const AFTER: u32 = 2;

/// Words that outlive the program: progress of the shutdown, how many files are ready; then, for
/// each file, the last record whose sync began and ended in each phase.
const ACKS: usize = 2;
const WORDS: usize = ACKS + FILES * 9;

fn words(path: &Path) -> Result<&'static [AtomicU32]> {
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CREATE, Mode::RUSR | Mode::WUSR);
    let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
    rustix::fs::ftruncate(&file, WORDS as u64 * 4).map_err(|error| error.to_string())?;
    map_words(&file, WORDS)
}

const fn slot(file: usize, begun: u32, ended: u32) -> usize {
    ACKS + file * 9 + begun as usize * 3 + ended as usize
}

/// Runs the program, until it is ended or an error ends each of its threads.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dir = arguments.path("db")?;
    let words = words(&arguments.path("expected")?)?;
    std::thread::scope(|scope| {
        for file in 0..FILES {
            let dir = &dir;
            // The error comes from the file system that was shut down.
            scope.spawn(move || write_records(dir, file, words).unwrap_or_default());
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn path_of(dir: &Path, file: usize) -> PathBuf {
    dir.join(format!("records-{file}"))
}

fn ready(path: &Path, way: usize) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    if way != 3 {
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES)?;
    }
    if way == 0 {
        let zeros = vec![0; RECORD_BYTES];
        (0..u64::from(RECORDS)).try_for_each(|number| {
            rustix::io::pwrite(&file, &zeros, number * RECORD_BYTES as u64).map(drop)
        })?;
    }
    rustix::fs::fsync(&file)?;
    Ok(file)
}

fn write_records(dir: &Path, file: usize, words: &[AtomicU32]) -> rustix::io::Result<()> {
    let way = file % WAYS.len();
    let path = path_of(dir, file);
    let handle = ready(&path, way)?;
    let mapped = match way {
        2 => map_words(&handle, FILE_BYTES as usize / 4).ok(),
        _ => None,
    };
    rustix::fs::fsync(rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)?;
    words[1].fetch_add(1, Ordering::SeqCst);
    for number in 1..=RECORDS {
        let at = (number as usize - 1) * RECORD_WORDS;
        match mapped {
            Some(mapped) => mapped[at..at + RECORD_WORDS]
                .iter()
                .for_each(|word| word.store(number.to_le(), Ordering::SeqCst)),
            None => {
                let record = number.to_le_bytes().repeat(RECORD_WORDS);
                rustix::io::pwrite(&handle, &record, at as u64 * 4)?;
            }
        }
        let begun = words[0].load(Ordering::SeqCst);
        rustix::fs::fdatasync(&handle)?;
        let ended = words[0].load(Ordering::SeqCst);
        words[slot(file, begun, ended)].store(number, Ordering::SeqCst);
    }
    Ok(())
}

/// Totals of the cuts on one kind of file system.
#[derive(Default)]
struct Counts {
    kept: u64,
    /// Acknowledged by a sync that began before the shutdown, and lost.
    lost_begun_before: [u64; WAYS.len()],
    /// The same, but begun later.
    lost_begun_later: [u64; WAYS.len()],
    /// Cuts that lost any record.
    cuts: u64,
}

/// Cuts the power while the program runs.
pub(crate) fn cuts(driver: &mut Driver) -> Result<Outcome> {
    on_each_disk(driver, &WITH_SHUTDOWN, |driver, disk, runs| {
        let mut counts = Counts::default();
        for run in driver.numbers(runs) {
            driver.begin(disk.kind, run, 1);
            let when = driver.enter(run, &format!("power cut on {} without the engine", disk.kind));
            one_cut(driver, disk, &when, &mut counts)?;
        }
        Ok(describe(disk.kind, runs, &counts))
    })
}

fn one_cut(driver: &mut Driver, disk: &Disk, when: &str, counts: &mut Counts) -> Result<()> {
    let acks = driver.scratch.path("acks");
    drop(std::fs::remove_file(&acks));
    let words = words(&acks)?;
    let mounted = disk.mount()?;
    let mut command = driver.program("control");
    command.arg("--db").arg(mounted.point()).arg("--expected").arg(&acks);
    let child = spawn(&mut command)?;
    while words[1].load(Ordering::SeqCst) < FILES as u32 {
        driver.sleep(1);
    }
    let pause = driver.random.below(60);
    driver.sleep(pause);
    words[0].store(BEFORE + 1, Ordering::SeqCst);
    cut_power(mounted.point())?;
    words[0].store(AFTER, Ordering::SeqCst);
    driver.sleep(3);
    kill_unless_ended(child, when, &[End::Finished, End::Faulted])?;
    drop(mounted);
    let mounted = disk.mount()?;
    let mut has_lost = false;
    for file in 0..FILES {
        let found =
            found(&path_of(mounted.point(), file)).map_err(|what| format!("{when}: {what}"))?;
        for (begun, ended) in [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)] {
            let last = words[slot(file, begun, ended)].load(Ordering::SeqCst);
            // Only the last record of a phase may be missing alone: its sync covers the earlier
            // ones too.
            if last <= found {
                counts.kept += u64::from(last != 0);
                continue;
            }
            let way = file % WAYS.len();
            has_lost = true;
            match (begun, ended) {
                (BEFORE, BEFORE) => {
                    let way = WAYS[way];
                    return Err(format!(
                        "{when}: record {last}, written {way}, was durable before the cut, and there \
                         are {found}"
                    ));
                }
                (BEFORE, _) => counts.lost_begun_before[way] += 1,
                _ => counts.lost_begun_later[way] += 1,
            }
        }
        drop(std::fs::remove_file(path_of(mounted.point(), file)));
    }
    counts.cuts += u64::from(has_lost);
    drop(mounted);
    call("sync", &[])
}

/// How many records a file has without a gap.
fn found(path: &Path) -> Result<u32> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let is_there = |(number, record): &(u32, &[u8])| {
        *record == number.to_le_bytes().repeat(RECORD_WORDS).as_slice()
    };
    Ok((1..).zip(bytes.chunks_exact(RECORD_BYTES)).take_while(is_there).count() as u32)
}

fn describe(kind: &str, runs: u64, counts: &Counts) -> String {
    let Counts { kept, lost_begun_before, lost_begun_later, cuts } = counts;
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let by_way: Vec<String> = WAYS
        .iter()
        .enumerate()
        .map(|(way, name)| format!("{name} {}", lost_begun_before[way] + lost_begun_later[way]))
        .collect();
    format!(
        "{runs} cuts of {kind}: {kept} last records kept; acknowledged during the shutdown and lost: {} \
         whose sync began before it, {} later, in {cuts} cuts ({})",
        sum(lost_begun_before),
        sum(lost_begun_later),
        by_way.join(", ")
    )
}

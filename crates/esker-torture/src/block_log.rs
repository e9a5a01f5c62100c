//! Power cuts as a disk sees them: a prefix of all blocks written, and of those that no flush
//! covers any subset, in any order, torn at sectors.
//!
//! The program runs once on a file system over a [`BlockDevice`]; each change of what it was
//! promised is written to the device's marks, so that every point of the log has its own expected
//! state. Then the log is cut at points chosen by the seed; for each, a device is assembled as a
//! disk could have left it, mounted, opened and compared.
//!
//! Knows nothing of the engine except how to start the program.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::block_device::{BlockDevice, Contents, Event};
use crate::cleanup::Mounted;
use crate::disk::{ALL, Kind, on_each_kind};
use crate::driver::{Driver, End, Outcome, Place, expect_end};
use crate::expected::Expected;
use crate::outside::spawn;
use crate::random::Random;

const SECTOR_BYTES: usize = 512;

/// States taken from one recording.
const STATES_PER_RECORDING: u64 = 25;

/// The percentage of states that the file system may refuse to mount: its own blocks are torn too.
const REFUSED_PERCENT_MAX: u64 = 5;

/// A recording.
struct Recording {
    before: Contents,
    log: Vec<Event>,
}

#[derive(Default)]
struct Counts {
    states: u64,
    /// States that the file system did not mount.
    refused: u64,
    writes: u64,
    flushes: u64,
    /// Writes not followed by a flush at a cut, in all, and their sectors.
    open: u64,
    open_sectors: u64,
}

/// Runs the mode.
pub(crate) fn states(driver: &mut Driver) -> Result<Outcome> {
    on_each_kind(driver, &ALL, ready, |driver, kind, device, runs| {
        let mut counts = Counts::default();
        let mut numbers = driver.numbers(runs);
        while !numbers.is_empty() {
            let end = numbers.end.min(numbers.start + STATES_PER_RECORDING);
            let of_recording = numbers.start..end;
            driver.begin_together(kind.name, of_recording.clone());
            let recording = record(driver, kind, device, of_recording.start)?;
            replay(driver, kind, device, &recording, of_recording, &mut counts)?;
            numbers.start = end;
        }
        let Counts { states, refused, writes, flushes, open, open_sectors } = counts;
        Ok(format!(
            "{states} states of {kind} in {recordings} recordings of {writes} block writes and {flushes} \
             flushes, {open} writes of {open_sectors} sectors open at the cuts, {refused} states that {kind} did not mount",
            kind = kind.name,
            recordings = states.div_ceil(STATES_PER_RECORDING),
        ))
    })
}

/// A device that supports file systems of this kind.
fn ready(driver: &Driver, kind: &'static Kind) -> Result<BlockDevice> {
    let point = driver.scratch.path(&format!("{}-device", kind.name));
    let device = BlockDevice::new(kind.mib << 20, &point)?;
    kind.make(&device.disk())?;
    mount(kind, &device, driver).map(drop)?;
    Ok(device)
}

fn mount(kind: &Kind, device: &BlockDevice, driver: &Driver) -> Result<Mounted> {
    let point = driver.scratch.path(&format!("{}-over-log", kind.name));
    Mounted::by_loop_device(&device.disk(), &point)
}

/// Runs the program on a new file system, and records what the device sees.
fn record(driver: &mut Driver, kind: &Kind, device: &BlockDevice, first: u64) -> Result<Recording> {
    let when = driver.enter(first, &format!("recording on {}", kind.name));
    device.set_contents(Contents::default());
    kind.make(&device.disk())?;
    let mounted = mount(kind, device, driver)?;
    let place = Place {
        db: mounted.point().join("db"),
        expected: driver.scratch.path(&format!("recorded-{}", kind.name)),
    };
    drop(std::fs::remove_file(&place.expected));
    // The directory of the database itself is the user's to make durable.
    std::fs::create_dir_all(&place.db).map_err(|error| error.to_string())?;
    drop(mounted);
    let before = device.contents();
    // The mount writes too: so there will be something to recover.
    device.start_log();
    let mounted = mount(kind, device, driver)?;
    let seed = driver.random.next();
    let mut command: Command = driver.work(&place, seed);
    command.args(["--power", "--operations", "500", "--marks"]).arg(device.marks());
    expect_end(spawn(&mut command)?, &when, &[End::Finished])?;
    let log = device.take_log();
    drop(mounted);
    Ok(Recording { before, log })
}

fn replay(
    driver: &mut Driver,
    kind: &Kind,
    device: &BlockDevice,
    recording: &Recording,
    runs: Range<u64>,
    counts: &mut Counts,
) -> Result<()> {
    let Recording { before, log } = recording;
    counts.writes += log.iter().filter(|event| matches!(event, Event::Write { .. })).count() as u64;
    counts.flushes += log.iter().filter(|event| matches!(event, Event::Flush)).count() as u64;
    // In ascending order: what is durable at one cut is the start for the next.
    let mut cuts: Vec<usize> = runs.clone().map(|_| choose_cut(log, &mut driver.random)).collect();
    cuts.sort_unstable();
    let (mut durable, mut contents) = (0, before.clone());
    for (run, cut) in runs.zip(cuts) {
        let flushed = flushed_before(log, cut);
        writes(&log[durable.min(flushed)..flushed])
            .for_each(|(offset, bytes)| contents.write(offset, bytes));
        durable = flushed;
        let open: Vec<_> = writes(&log[durable..cut]).collect();
        counts.open += open.len() as u64;
        counts.open_sectors +=
            open.iter().map(|(_, bytes)| bytes.len().div_ceil(SECTOR_BYTES) as u64).sum::<u64>();
        counts.states += 1;
        let left = leave(contents.clone(), &open, &mut driver.random);
        let when = driver.enter(run, &format!("cut {cut} of {} on {}", log.len(), kind.name));
        device.set_contents(left);
        let expected = driver.scratch.path(&format!("expected-{}", kind.name));
        promised(&log[..cut], &expected)?;
        let mounted = match mount(kind, device, driver) {
            Ok(mounted) => mounted,
            Err(_) if counts.refused * 100 <= counts.states * REFUSED_PERCENT_MAX => {
                counts.refused += 1;
                continue;
            }
            Err(what) => return Err(format!("{when}: too many states are not mounted: {what}")),
        };
        // On a busy machine the file system's own recovery takes seconds: each open has its own
        // limit.
        driver.enter(run, &format!("open after {when}"));
        driver.check(&Place { db: mounted.point().join("db"), expected }, &when)?;
        drop(mounted);
    }
    Ok(())
}

/// Where the log is cut. Most syncs have one write in flight; every other cut is the one of ten
/// that has the most.
fn choose_cut(log: &[Event], random: &mut Random) -> usize {
    let draws = if random.one_in(2) { 10 } else { 1 };
    let cuts = (0..draws).map(|_| random.below(log.len() as u64 + 1) as usize);
    cuts.max_by_key(|cut| writes(&log[flushed_before(log, *cut)..*cut]).count()).unwrap_or(0)
}

/// Everything before this position in the log was durable at `cut`.
fn flushed_before(log: &[Event], cut: usize) -> usize {
    log[..cut].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0)
}

fn writes(log: &[Event]) -> impl Iterator<Item = (u64, &[u8])> {
    log.iter().filter_map(|event| match event {
        Event::Write { offset, bytes } => Some((*offset, &**bytes)),
        Event::Flush | Event::Mark(_) => None,
    })
}

/// The device after a power cut with the writes `open` in flight.
fn leave(mut contents: Contents, open: &[(u64, &[u8])], random: &mut Random) -> Contents {
    let mut order: Vec<usize> = (0..open.len()).collect();
    let policy = random.below(6);
    if policy != 0 {
        // Last first, or any order: a disk orders its cache as it likes.
        (1..order.len()).for_each(|at| order.swap(at, random.below(at as u64 + 1) as usize));
    }
    let chosen = random.below(open.len().max(1) as u64) as usize;
    let of_ten = random.below(11);
    for at in order {
        let (offset, bytes) = open[at];
        let is_kept = match policy {
            0 => true,
            1 => false,
            2 => at == chosen,
            3 => at != chosen,
            _ => random.below(10) < of_ten,
        };
        let is_torn = policy == 5 && random.one_in(2);
        for (sector, piece) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if is_kept && (!is_torn || random.one_in(2)) {
                contents.write(offset + (sector * SECTOR_BYTES) as u64, piece);
            }
        }
    }
    contents
}

/// Writes the file of what was promised up to the end of `log`.
fn promised(log: &[Event], path: &Path) -> Result<()> {
    drop(std::fs::remove_file(path));
    let expected = Expected::open(path)?;
    for event in log {
        if let Event::Mark(bytes) = event {
            expected.apply_mark(bytes)?;
        }
    }
    Ok(())
}

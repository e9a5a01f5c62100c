//! Real file systems, each in a file, mounted by a loop device.
//!
//! Does not know what is done to them.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::cleanup::{Mounted, call, has_program, is_root};
use crate::driver::{Driver, Outcome};

/// A kind of file system.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The minimum size.
    pub(crate) mib: u64,
    /// The option that keeps its `mkfs` from printing and asking.
    quiet: &'static str,
}

const EXT2: Kind = Kind { name: "ext2", mib: 64, quiet: "-qF" };
const EXT4: Kind = Kind { name: "ext4", mib: 64, quiet: "-qF" };
const XFS: Kind = Kind { name: "xfs", mib: 320, quiet: "-qf" };
const BTRFS: Kind = Kind { name: "btrfs", mib: 300, quiet: "-qf" };

/// Those that can be shut down as if the power failed.
pub(crate) static WITH_SHUTDOWN: [Kind; 2] = [EXT4, XFS];

/// Those on which a full disk is tried: the first reserves no room.
pub(crate) static TO_FILL: [Kind; 4] = [EXT2, EXT4, XFS, BTRFS];

/// Those that users have.
pub(crate) static ALL: [Kind; 3] = [EXT4, XFS, BTRFS];

impl Kind {
    /// Makes an empty file system in an existing file.
    pub(crate) fn make(&self, image: &Path) -> Result<()> {
        call(&format!("mkfs.{}", self.name), &[self.quiet, &image.to_string_lossy()])
    }
}

/// A file containing a file system.
pub(crate) struct Disk {
    pub(crate) kind: &'static str,
    image: String,
    point: PathBuf,
}

impl Disk {
    /// Makes an empty file system in a new file in `dir`, and mounts it once.
    fn new(kind: &'static Kind, dir: &Path) -> Result<Self> {
        let path = dir.join(kind.name);
        let image = path.to_string_lossy().into_owned();
        call("truncate", &["-s", &format!("{}M", kind.mib), &image])?;
        kind.make(&path)?;
        let point = dir.join(format!("{}-mounted", kind.name));
        let disk = Self { kind: kind.name, image, point };
        disk.mount().map(drop)?;
        Ok(disk)
    }

    pub(crate) fn mount(&self) -> Result<Mounted> {
        Mounted::by_loop_device(Path::new(&self.image), &self.point)
    }
}

/// Calls `runs_on` with a disk of each kind that is available here, and its share of the runs.
pub(crate) fn on_each_disk(
    driver: &mut Driver,
    kinds: &'static [Kind],
    mut runs_on: impl FnMut(&mut Driver, &Disk, u64) -> Result<String>,
) -> Result<Outcome> {
    let ready = |driver: &Driver, kind| Disk::new(kind, &driver.scratch.path(""));
    on_each_kind(driver, kinds, ready, |driver, _, disk, runs| runs_on(driver, disk, runs))
}

/// Calls `runs_on` for each kind for which `ready` has prepared what it needs, with its share of
/// the runs.
pub(crate) fn on_each_kind<T>(
    driver: &mut Driver,
    kinds: &'static [Kind],
    ready: impl Fn(&Driver, &'static Kind) -> Result<T>,
    mut runs_on: impl FnMut(&mut Driver, &'static Kind, &T, u64) -> Result<String>,
) -> Result<Outcome> {
    if !is_root() {
        return Ok(Outcome::Skipped("it mounts loop devices, and so needs root".to_owned()));
    }
    let (mut done, mut missing) = (Vec::new(), Vec::new());
    let kinds: Vec<&Kind> = kinds.iter().filter(|kind| driver.is_on(kind.name)).collect();
    let runs = share(driver.settings.runs, kinds.len());
    for kind in kinds {
        if !has_program(&format!("mkfs.{}", kind.name)) {
            missing.push(format!("mkfs.{} is not installed", kind.name));
            continue;
        }
        match ready(driver, kind) {
            Ok(readied) => done.push(runs_on(driver, kind, &readied, runs)?),
            Err(why) => missing.push(format!("{} cannot be mounted: {why}", kind.name)),
        }
    }
    let (did, missed) = (done.join("; "), missing.join("; "));
    Ok(match (done.is_empty(), missing.is_empty()) {
        (true, _) => Outcome::Skipped(missed),
        (false, true) => Outcome::Passed(did),
        (false, false) => Outcome::Passed(format!("{did}; SKIPPED, not passed: {missed}")),
    })
}

/// The runs of each of `kinds`: at least one, or nothing would be tried, and pass.
const fn share(runs: u64, kinds: usize) -> u64 {
    let share = runs / kinds as u64;
    if share == 0 { 1 } else { share }
}

#[test]
fn each_kind_has_a_run() {
    assert_eq!([1, 2, 3, 100].map(|runs| share(runs, 2)), [1, 1, 1, 50]);
}

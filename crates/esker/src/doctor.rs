//! The doctor: finds damage in a database that nobody has open, and repairs what can be repaired.
//!
//! [`Doctor::verify`] reads everything and changes nothing. It checks every checksum, order, bound
//! and count, and what the files say about each other. It reports each problem as a [`Finding`]
//! with file, offset and, where known, the keys whose reads are affected.
//!
//! [`Doctor::repair`] rebuilds the database from what is intact. [`Doctor::salvage`] does so on a
//! copy, and only reads the original.
//!
//! The files in reading order: `place.rs` (the directory; how its files are read is in
//! `../damaged`), `causes.rs` (what is unreadable, not damaged), `report.rs` (the report),
//! `verify.rs` and its parts (`table_check.rs`, `blob_check.rs`, `order_check.rs`, `lone_check.rs`);
//! then `repair.rs`, with `own_names.rs` (intact files under wrong names), `history.rs` (what
//! manifests still say), `whole.rs` (whether that is all), `log_rescue.rs`, `new_tables.rs`, `scratch.rs` (what a dry run would
//! write), `set_aside.rs` and `repair_report.rs`; then `salvage.rs`.

mod blob_check;
mod causes;
mod history;
mod log_rescue;
mod lone_check;
mod new_tables;
mod order_check;
mod own_names;
mod place;
mod repair;
mod repair_report;
mod report;
mod salvage;
mod scratch;
mod set_aside;
mod table_check;
mod verify;
mod warm_check;
mod whole;

use std::path::{Path, PathBuf};

use esker_env::Env;

use crate::error::Result;
use place::{Access, Place};
pub use repair_report::{Loss, Rebuilt, RepairReport};
pub use report::{AffectedKeys, Finding, Totals, UnreferencedFile, VerifyReport};
pub use salvage::{SalvageReport, UnreadablePart};

/// Verifies, repairs and salvages the database in one directory.
///
/// Takes the lock of the database for each call, so the database must be closed.
///
/// # Examples
/// ```
/// # fn main() -> esker::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("esker-doc-doctor-{}", std::process::id()));
/// let db = esker::Db::open(&dir)?;
/// db.put("k", "v")?;
/// db.close()?;
/// let report = esker::doctor::Doctor::new(&dir).verify(&mut |_| {})?;
/// assert!(report.is_sound(), "{report}");
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Doctor {
    env: Env,
    dir: PathBuf,
    log_dir: Option<PathBuf>,
}

/// The progress of a call. Reported once for each file, and more often where one takes long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being read or compared.
    pub subject: String,
    /// Bytes processed so far.
    pub bytes_done: u64,
    /// Bytes to read in all.
    pub bytes_total: u64,
}

/// Called with the progress of a call.
pub type ProgressListener<'a> = dyn FnMut(&Progress) + 'a;

impl Doctor {
    /// A doctor for the database in `dir`.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { env: Env::os(), dir: dir.as_ref().to_path_buf(), log_dir: None }
    }

    /// Where the log lies, if not beside the tables.
    #[must_use]
    pub fn log_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.log_dir = Some(dir.as_ref().to_path_buf());
        self
    }

    /// The environment of the database: files, clock and threads. Default: those of the operating
    /// system.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Reads the whole database and lists what is wrong. Nothing is changed. Parts that the device
    /// fails to read twice are listed too ([`Finding::is_unreadable`]); the rest is still checked.
    ///
    /// # Errors
    /// `Locked` if the database is open for writing; `InvalidInput` if there is none;
    /// `UnsupportedFormat` if a newer release wrote it; `Io` if a directory cannot be read, or for
    /// failures that say nothing about a file, such as too many open files or too little memory.
    /// Damage is a finding, not an error.
    ///
    /// # Cost
    /// Reads every table twice, and a third time where only the entries can show whether
    /// overlapping tables are in the right order. Reads every blob file twice, and each value that
    /// a table refers to once more.
    pub fn verify(&self, progress: &mut ProgressListener<'_>) -> Result<VerifyReport> {
        let place = self.place(Access::Read)?;
        verify::verify(&place, progress).map(|(report, _)| report)
    }

    /// Repairs a damaged database so that it opens again, with everything that is intact; see
    /// `docs/OPERATIONS.md`. A sound database is not changed. Damaged files are never removed, but
    /// moved to `damaged` in the database directory. Intact blob files with values of lost entries
    /// are kept there too, under a second name if other entries still refer to them.
    ///
    /// Unreadable parts count as lost, like damaged bytes. But the device may yet read them some
    /// day; so the file itself, not a copy, is moved to `damaged` where the file system has hard
    /// links. And the repair stops before it changes anything if, on one more try, an unreadable
    /// part can be read after all or a readable one cannot, or if a directory cannot be made
    /// durable.
    ///
    /// # Durability
    /// A crash during the repair leaves the database either as it was or repaired.
    ///
    /// # Errors
    /// As [`Doctor::verify`], but `Locked` also if the database is open for reading; `InvalidInput`
    /// if none of the log segments named by an intact manifest is there, or neither log nor
    /// manifest is, and no [`Doctor::log_dir`] was given; `Corruption` if no file identifies the
    /// database. Nothing that the database refers to has been changed then.
    ///
    /// # Cost
    /// A verification, and a copy of each damaged table; if no manifest is intact, perhaps a
    /// rewrite of whole keyspaces. Entries that are not in tables are read into memory. A dry run
    /// also keeps the keys of damaged tables in memory, and only reads what would be rewritten.
    pub fn repair(
        &self,
        options: &RepairOptions,
        progress: &mut ProgressListener<'_>,
    ) -> Result<RepairReport> {
        let access = if options.dry_run { Access::Plan } else { Access::Change };
        let place = self.place(access)?;
        repair::repair(&place, options, progress)
    }

    /// Builds a new database in `target` from what is intact, without changing this one: every file
    /// is copied, with zeros for unreadable parts, and the copy is repaired as by
    /// [`Doctor::repair`]. `target` must be empty or not exist. `past_holes` is as in
    /// [`RepairOptions`].
    ///
    /// # Durability
    /// The new database is durable when this returns. Remove what a crash leaves in `target`.
    ///
    /// # Errors
    /// As [`Doctor::verify`] and [`Doctor::repair`], and `InvalidInput` if `target` is not empty.
    ///
    /// # Cost
    /// A copy of every file, and a repair.
    pub fn salvage(
        &self,
        target: impl AsRef<Path>,
        past_holes: bool,
        progress: &mut ProgressListener<'_>,
    ) -> Result<SalvageReport> {
        let place = self.place(Access::Read)?;
        salvage::salvage(&place, target.as_ref(), past_holes, progress)
    }

    fn place(&self, access: Access) -> Result<Place> {
        Place::lock(&self.env, &self.dir, self.log_dir.as_deref(), access)
    }
}

/// Options of a repair.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RepairOptions {
    /// Change nothing, and only report what would be done. Default false.
    pub dry_run: bool,
    /// Also keep what is intact in the log after a hole. Default false: the log is kept up to the
    /// first hole, so that no later write survives without the earlier ones.
    pub past_holes: bool,
}

impl std::fmt::Debug for Doctor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "doctor of {}", self.dir.display())
    }
}

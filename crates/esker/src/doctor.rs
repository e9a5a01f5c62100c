//! The doctor: looks for damage in a database that nobody has open, and mends what can be mended.
//!
//! [`Doctor::verify`] reads everything and changes nothing: every checksum, every order, every
//! bound and count, and what the files say about each other. What it finds is a [`Finding`] with
//! file, offset and, where that can be told, the keys whose reads are affected.
//!
//! [`Doctor::repair`] rebuilds what the database consists of from what is intact.
//! [`Doctor::salvage`] does so with a copy, and only reads the original.
//!
//! The files in reading order: `place.rs` (the directory; how its files are read: `reading.rs`, `patched.rs`;
//! `unreadable.rs` and `causes.rs`, what the device does not give), `report.rs` (what is said), `verify.rs` and what it is made of
//! (`table_check.rs`, `blob_check.rs`, `order_check.rs`, `log_walk.rs`); then `repair.rs`, with
//! `history.rs` (what manifests still say), `log_rescue.rs`, `new_tables.rs`, `set_aside.rs` and
//! `repair_report.rs`; then `salvage.rs`.

mod blob_check;
mod causes;
mod history;
mod log_rescue;
mod log_walk;
mod new_tables;
mod order_check;
mod patched;
mod place;
mod reading;
mod repair;
mod repair_report;
mod report;
mod salvage;
mod set_aside;
mod table_check;
mod unreadable;
mod verify;
mod warm_check;

use std::path::{Path, PathBuf};

use esker_env::Env;

use crate::error::Result;
use place::{Access, Place};
pub use repair_report::{Loss, Rebuilt, RepairReport};
pub use report::{AffectedKeys, Finding, Totals, UnreferencedFile, VerifyReport};
pub use salvage::{SalvageReport, UnreadablePart};

/// Looks after the database in one directory.
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

/// How far a call is. Told once for each file, and more often where one takes long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being read: a file, or what is compared.
    pub subject: String,
    /// Bytes that are done with.
    pub bytes_done: u64,
    /// Bytes there are to read.
    pub bytes_total: u64,
}

/// Is told how far a call is.
pub type ProgressListener<'a> = dyn FnMut(&Progress) + 'a;

impl Doctor {
    /// For the database in `dir`.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { env: Env::os(), dir: dir.as_ref().to_path_buf(), log_dir: None }
    }

    /// Where the log lies, if not beside the tables.
    #[must_use]
    pub fn log_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.log_dir = Some(dir.as_ref().to_path_buf());
        self
    }

    /// The outside that the database lives in: the operating system by default.
    #[must_use]
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Reads the whole database and lists what is wrong. Nothing is changed. What the device refuses twice
    /// is listed too ([`Finding::is_unreadable`]), and costs nothing but itself.
    ///
    /// # Errors
    /// `Locked` if the database is open for writing; `InvalidInput` if there is none; `UnsupportedFormat` if a
    /// newer release wrote it; `Io`, if a directory cannot be read, or for what says nothing of a file, as too
    /// many open files or too little memory. Damage is no error here, but a finding.
    ///
    /// # Cost
    /// Reads every table twice, and a third time where only the entries tell whether tables that
    /// overlap stand in the right order. Reads every blob file twice, and each value that a table
    /// refers to once more.
    pub fn verify(&self, progress: &mut ProgressListener<'_>) -> Result<VerifyReport> {
        let place = self.place(Access::Read)?;
        verify::verify(&place, progress).map(|(report, _)| report)
    }

    /// Makes a damaged database one that opens, with everything that is intact; see
    /// `docs/OPERATIONS.md`. Of a sound one nothing is changed. Damaged files are never removed,
    /// but moved to the directory `damaged` in that of the database.
    ///
    /// What the device does not give counts as lost, as damaged bytes do. It may be that it gives it some
    /// other day: so the file itself is moved, not a copy of it, where files can have second names; and
    /// the repair ends, before it changes anything, with what can be read after all when it is tried once
    /// more, with what cannot be read any more, and where a directory cannot be made durable.
    ///
    /// # Durability
    /// A crash in the middle leaves the database as it was, or repaired.
    ///
    /// # Errors
    /// As [`Doctor::verify`], and `Locked` also beside readers; `InvalidInput` if no segment of the log
    /// is there that a whole manifest names, or neither log nor manifest, and no [`Doctor::log_dir`] was
    /// given; `Corruption` if no file tells which database it is. Nothing that the database refers to is
    /// changed then.
    ///
    /// # Cost
    /// A verification, and a copy of each damaged table. Where no manifest is whole, perhaps a
    /// rewrite of whole keyspaces. What is not in tables is read into memory.
    pub fn repair(
        &self,
        options: &RepairOptions,
        progress: &mut ProgressListener<'_>,
    ) -> Result<RepairReport> {
        let access = if options.dry_run { Access::Plan } else { Access::Change };
        let place = self.place(access)?;
        repair::repair(&place, options, progress)
    }

    /// Makes a new database in `target` of what is intact, without a change to this one: every file
    /// is copied, with zeros for what the device does not give, and the copy is repaired as
    /// [`Doctor::repair`] does it. `target` must be empty or not be there. `past_holes` as in
    /// [`RepairOptions`].
    ///
    /// # Durability
    /// The new database is durable when this returns. What a crash leaves in `target` is to be
    /// removed.
    ///
    /// # Errors
    /// As [`Doctor::verify`] and [`Doctor::repair`], and `InvalidInput` if there is something in `target`.
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

/// How a repair goes about it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RepairOptions {
    /// Change nothing, and say what would be done. Default false.
    pub dry_run: bool,
    /// Take what is intact of the log behind a hole too. Default false: then the log is taken up to
    /// the first hole, and later writes are not there without earlier ones.
    pub past_holes: bool,
}

impl std::fmt::Debug for Doctor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "doctor of {}", self.dir.display())
    }
}

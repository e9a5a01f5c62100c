//! `esker doctor`: finds damage in a database that nobody has open, and repairs it.
//!
//! Reports are output as text or as one JSON object; progress is shown on a terminal. The exit
//! status says whether there is damage, so a script need not read anything.

mod json;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use esker::doctor::{Doctor, Progress, RepairOptions};
use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::{Failure, Result};

#[derive(Args, Debug)]
pub(crate) struct DoctorArguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Read everything and say what is wrong; changes nothing. Exit status 0 sound, 4 damaged.
    Verify {
        #[command(flatten)]
        place: DatabasePlace,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// Print nothing: the exit status tells.
        #[arg(long, conflicts_with = "json")]
        quiet: bool,
    },
    /// Make a damaged database one that opens, with all that is intact. Copy the directory first.
    ///
    /// Damaged files are moved to the directory `damaged` in it. A sound database is not changed.
    Repair {
        #[command(flatten)]
        place: DatabasePlace,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// Change nothing, and say what would be done. Exit status 4 if there is damage.
        #[arg(long)]
        dry_run: bool,
        /// Keep what is intact of the log behind a damaged place, too: later writes without earlier
        /// ones.
        #[arg(long)]
        past_holes: bool,
    },
    /// Make a new database of all that is intact. The damaged one is only read.
    ///
    /// What the device does not give is left out; the report says which keys are lost.
    Salvage {
        #[command(flatten)]
        place: DatabasePlace,
        /// Directory of the new database: empty, or not there.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
        /// Keep what is intact of the log behind a damaged place, too: later writes without earlier
        /// ones.
        #[arg(long)]
        past_holes: bool,
    },
}

/// Where a database lies.
#[derive(Args, Debug)]
struct DatabasePlace {
    /// Directory of the database.
    dir: PathBuf,
    /// Directory of its log, if that lies apart. A log of which no file is found is given up only if
    /// this is given.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

impl DatabasePlace {
    fn doctor(&self) -> Doctor {
        let doctor = Doctor::new(&self.dir);
        match &self.log_dir {
            Some(log_dir) => doctor.log_dir(log_dir),
            None => doctor,
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &DoctorArguments, out: &mut dyn Write) -> Result<()> {
    match &arguments.task {
        Task::Verify { place, json, quiet } => verify(place, *json, *quiet, out),
        Task::Repair { place, json, dry_run, past_holes } => {
            let options = RepairOptions { dry_run: *dry_run, past_holes: *past_holes };
            repair(place, *json, &options, out)
        }
        Task::Salvage { place, to, json, past_holes } => {
            let bar = progress_bar();
            let report = place.doctor().salvage(to, *past_holes, &mut |step| show(&bar, step));
            bar.finish_and_clear();
            let report = report?;
            match json {
                true => writeln!(out, "{}", json::of_salvage(&report))?,
                false => write!(out, "{report}")?,
            }
            Ok(())
        }
    }
}

fn verify(place: &DatabasePlace, json: bool, quiet: bool, out: &mut dyn Write) -> Result<()> {
    let bar = if quiet { ProgressBar::hidden() } else { progress_bar() };
    let report = place.doctor().verify(&mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    let report = report?;
    let written = match (quiet, json) {
        (true, _) => Ok(()),
        (false, true) => writeln!(out, "{}", json::of_verification(&report)),
        (false, false) => write!(out, "{report}"),
    };
    // Even if nobody reads the report to its end.
    damaged_unless(report.is_sound(), &place.dir, quiet)?;
    Ok(written?)
}

fn repair(
    place: &DatabasePlace,
    json: bool,
    options: &RepairOptions,
    out: &mut dyn Write,
) -> Result<()> {
    let bar = progress_bar();
    let report = place.doctor().repair(options, &mut |progress| show(&bar, progress));
    bar.finish_and_clear();
    let report = report?;
    let written = match json {
        true => writeln!(out, "{}", json::of_repair(&report)),
        false => write!(out, "{report}"),
    };
    damaged_unless(report.was_sound() || !options.dry_run, &place.dir, false)?;
    Ok(written?)
}

fn damaged_unless(is_sound: bool, dir: &Path, quiet: bool) -> Result<()> {
    match (is_sound, quiet) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::SaidDamaged),
        (false, false) => Err(Failure::Damaged(format!("{} is damaged", dir.display()))),
    }
}

/// Draws on standard error, if that is a terminal.
fn progress_bar() -> ProgressBar {
    let template = "{bar:30} {bytes}/{total_bytes} {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is well formed");
    ProgressBar::new(0).with_style(style)
}

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_length(progress.bytes_total);
    bar.set_position(progress.bytes_done);
    bar.set_message(progress.subject.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe that nobody reads any more.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _bytes: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_status_says_damaged_also_where_nobody_reads_the_report() {
        let dir = std::env::temp_dir().join(format!("esker-doctor-status-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&dir));
        let place = DatabasePlace { dir: dir.clone(), log_dir: None };
        let db = esker::Db::open(&dir).unwrap();
        db.put("k", "v").unwrap();
        db.flush().unwrap();
        db.close().unwrap();
        for json in [false, true] {
            let sound = verify(&place, json, false, &mut Closed).unwrap_err();
            assert_eq!(sound.exit_status(), 0);
        }
        let mut names = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let table = |path: &PathBuf| path.extension().is_some_and(|found| found == "table");
        std::fs::remove_file(names.find(table).unwrap()).unwrap();
        let dry = RepairOptions { dry_run: true, ..RepairOptions::default() };
        for json in [false, true] {
            let damaged = verify(&place, json, false, &mut Closed).unwrap_err();
            assert_eq!(damaged.exit_status(), 4);
            assert_eq!(repair(&place, json, &dry, &mut Closed).unwrap_err().exit_status(), 4);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}

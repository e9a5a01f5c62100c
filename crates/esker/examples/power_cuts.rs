//! How to test a program of your own against power cuts, faults and wrong order, on the file systems
//! that Esker's own tests use: `esker::env` has them.
//!
//! The program keeps one file of settings, and replaces it. It does so in two orders of the same calls,
//! a wrong and a right one. Each of three file systems finds what is wrong; none objects to the right
//! one. The same is then done to a database, which is one program more.
//!
//! ```text
//! cargo run -p esker --example power_cuts
//! ```

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for its output")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use esker::env::{
    CrashPolicy, Env, Fault, FaultFileSystem, FileExt, FileSystem, IoError, ManualClock,
    MemoryFileSystem, Operation, Rule, TraceFileSystem, When,
};
use esker::{Db, Durability, Options};

const OLD: &[u8] = b"colour=blue";
const NEW: &[u8] = b"colour=green";

/// Replaces the settings; they are safe when it returns `Ok`.
type Save = fn(&dyn FileSystem, &[u8]) -> Result<(), IoError>;

/// Right: under the settings' name there is always a whole file.
fn save_rightly(fs: &dyn FileSystem, settings: &[u8]) -> Result<(), IoError> {
    // What an attempt that failed has left.
    if fs.exists(Path::new("next"))? {
        fs.remove(Path::new("next"))?;
    }
    let file = fs.create(Path::new("next"))?;
    file.write_all_at(0, settings)?;
    file.sync_data()?;
    fs.rename(Path::new("next"), Path::new("settings"))?;
    fs.sync_dir(Path::new(""))
}

/// Wrong: the name goes before the bytes are safe, and the old file before the new one has its name.
fn save_wrongly(fs: &dyn FileSystem, settings: &[u8]) -> Result<(), IoError> {
    if fs.exists(Path::new("next"))? {
        fs.remove(Path::new("next"))?;
    }
    let file = fs.create(Path::new("next"))?;
    file.write_all_at(0, settings)?;
    fs.remove(Path::new("settings"))?;
    fs.rename(Path::new("next"), Path::new("settings"))?;
    file.sync_data()?;
    fs.sync_dir(Path::new(""))
}

fn load(fs: &dyn FileSystem) -> Result<Vec<u8>, IoError> {
    let file = fs.open(Path::new("settings"))?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A disk with the old settings on it.
fn disk() -> MemoryFileSystem {
    let disk = MemoryFileSystem::new(1);
    save_rightly(&disk, OLD).unwrap();
    disk
}

fn faults_over(disk: &MemoryFileSystem) -> FaultFileSystem {
    FaultFileSystem::new(Arc::new(disk.clone()), Arc::new(ManualClock::default()))
}

/// Runs `program`, and cuts the power before each change that it makes to `disk` and after the last one,
/// in every way that `MemoryFileSystem` knows. `is_good` looks at each disk that is found then, and is
/// told whether the program had returned. Returns how many there were, and how many were not good.
fn cut_power(
    disk: &MemoryFileSystem,
    program: impl FnOnce(FaultFileSystem),
    is_good: impl Fn(&MemoryFileSystem, bool) -> bool,
) -> (usize, usize) {
    let watched = faults_over(disk);
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (list, copied) = (Arc::clone(&moments), disk.clone());
    watched.observe(move |event| {
        if event.operation.is_change() {
            list.lock().unwrap().push((copied.snapshot(), false));
        }
    });
    program(watched);
    let mut moments = std::mem::take(&mut *moments.lock().unwrap());
    moments.push((disk.snapshot(), true));
    let (mut count, mut bad_count) = (0, 0);
    for (moment, has_returned) in &moments {
        for policy in CrashPolicy::ALL {
            for seed in 0..10 {
                count += 1;
                bad_count += usize::from(!is_good(&moment.crash(policy, seed), *has_returned));
            }
        }
    }
    (count, bad_count)
}

fn cut_power_while_saving(save: Save) -> (usize, usize) {
    let program = |fs: FaultFileSystem| save(&fs, NEW).unwrap();
    cut_power(&disk(), program, |found, has_returned| match load(found) {
        Ok(settings) => settings == NEW || (settings == OLD && !has_returned),
        Err(_) => false,
    })
}

/// Runs `save` once for each of its calls, which fails: either the new settings are there, or it has
/// said that they are not, and the old ones are. A second attempt gets through.
fn fail_every_call(save: Save) -> (usize, usize) {
    const EIO: i32 = 5;
    let (mut count, mut bad_count) = (0, 0);
    loop {
        let disk = disk();
        let failing = faults_over(&disk);
        failing.add(Rule::new(Fault::Error(EIO)).when(When::Nth(count as u64 + 1)));
        let result = save(&failing, NEW);
        if failing.injected().is_empty() {
            return (count, bad_count);
        }
        count += 1;
        let found = load(&disk).ok();
        let is_there = found.as_deref() == Some(NEW);
        let is_told = result.is_err() && found.as_deref() == Some(OLD);
        let gets_through = save(&disk, NEW).is_ok() && load(&disk).is_ok_and(|found| found == NEW);
        bad_count += usize::from(!((is_there || is_told) && gets_through));
    }
}

/// What is out of order while `save` runs, in words.
fn trace(save: Save) -> Vec<String> {
    let traced = TraceFileSystem::new(Arc::new(disk()));
    traced.require_whole_before_rename("*");
    // A rule of our own: one name of one file is always there.
    traced.require("settings stay", |change, _pending| {
        let is_removed =
            change.operation == Operation::Remove && change.path == Path::new("settings");
        if is_removed { Err("there would be none".to_owned()) } else { Ok(()) }
    });
    save(&traced, NEW).unwrap();
    traced.violations().iter().map(ToString::to_string).collect()
}

/// A value that was put with `Durability::Power` is there after any power cut.
fn cut_power_of_a_database() -> (usize, usize) {
    let open = |fs: Arc<dyn FileSystem>| {
        let options = Options { background_threads: 0, ..Options::default() };
        Db::builder("data").env(Env { fs, ..Env::memory(1) }).options(options).open()
    };
    let disk = MemoryFileSystem::new(1);
    drop(open(Arc::new(disk.clone())).unwrap());
    let program = |fs: FaultFileSystem| {
        let db = open(Arc::new(fs)).unwrap();
        db.put_with("colour", "green", Durability::Power).unwrap();
    };
    cut_power(&disk, program, |found, has_returned| {
        let db = open(Arc::new(found.clone())).unwrap();
        match db.get("colour").unwrap() {
            Some(value) => value == "green",
            None => !has_returned,
        }
    })
}

fn main() {
    for (name, save, is_right) in
        [("wrong", save_wrongly as Save, false), ("right", save_rightly as Save, true)]
    {
        let (cuts, bad_cuts) = cut_power_while_saving(save);
        let (faults, bad_faults) = fail_every_call(save);
        let violations = trace(save);
        println!("The {name} order:");
        println!("  {cuts} power cuts; settings were lost in {bad_cuts}");
        println!("  {faults} calls failed; what was left was wrong after {bad_faults}");
        println!("  {} changes out of order", violations.len());
        violations.iter().for_each(|violation| println!("    {violation}"));
        let finds = [bad_cuts, bad_faults, violations.len()];
        assert!(finds.iter().all(|found| (*found == 0) == is_right), "{name}: {finds:?}");
    }
    let (cuts, bad_cuts) = cut_power_of_a_database();
    println!("A database: {cuts} power cuts; the value was lost in {bad_cuts}");
    assert_eq!(bad_cuts, 0);
}

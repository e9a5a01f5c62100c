//! The order of the engine's own writes, syncs and renames, asserted before each of them.
//!
//! Crash tests show that what is left after a power loss can be recovered. These show why: what refers
//! to something is written only once that is durable, and what is referred to goes only once nothing
//! durable refers to it. Before each change of the file system, the rules below look at what a power
//! loss could take at that moment (a `TraceFileSystem`), and at what the manifest says, as it reads and as
//! a power loss would leave it. The operations are those of `crash`, without crashes: with even seeds, the
//! log is in a separate directory. `ESKER_SEED`, `ESKER_FIRST_SEED` and `ESKER_BUDGET` as in `model`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker::Durability;
use esker::env::{
    Change, CrashPolicy, FileSystem, MemoryFileSystem, Operation, Pending, TraceFileSystem,
};
use esker_base::{FileHeader, FileId, FileKind};
use esker_tree::Manifest;

use crate::crash::profiles;
use crate::random::for_each_seed;
use crate::recovered::{DIR, UNLOGGED, env_over, options_over};
use crate::referenced::log_dir_of;
use crate::shrink::run_shrinking;
use crate::tally::Tally;
use crate::workload::{Driver, Profile, Step, script};

/// Changes before which the rules were asked.
static CHANGES: Tally = Tally::new("changes whose order was checked");

type Verdict = Result<(), String>;

/// What a manifest says of files.
struct Named {
    manifest: PathBuf,
    /// Tables and blob files.
    tables: BTreeSet<PathBuf>,
    logs: BTreeSet<PathBuf>,
}

impl Named {
    /// By the newest manifest in `fs`, if there is one.
    fn read(fs: &MemoryFileSystem) -> Result<Option<Self>, String> {
        let dir = Path::new(DIR);
        let recovered = Manifest::recover(fs, dir).map_err(|error| error.to_string())?;
        let Some(recovered) = recovered else { return Ok(None) };
        let states = recovered.catalog.keyspaces.values();
        let mut tables = BTreeSet::new();
        for properties in states.flat_map(|state| state.tables.values().map(|t| &t.properties)) {
            tables.insert(dir.join(properties.id.file_name()));
            let blobs = properties.blob_uses().map(|one| dir.join(one.facts.id.file_name()));
            tables.extend(blobs);
        }
        let logs = recovered.catalog.logs.iter();
        let logs = logs.map(|log| log_dir(fs).join(log.file_name())).collect();
        Ok(Some(Self { manifest: dir.join(recovered.id.file_name()), tables, logs }))
    }

    fn has(&self, path: &Path) -> bool {
        self.tables.contains(path) || self.logs.contains(path)
    }
}

fn log_dir(fs: &MemoryFileSystem) -> PathBuf {
    let apart = log_dir_of(DIR);
    if fs.list(&apart).is_ok() { apart } else { DIR.into() }
}

/// As a power loss leaves it that takes all it can.
fn after_power_loss(fs: &MemoryFileSystem) -> MemoryFileSystem {
    fs.crash(CrashPolicy::AllLost, 0)
}

/// The kind of a file of the database, by its final name.
fn kind_of(path: &Path) -> Option<FileKind> {
    let is_inside =
        path.parent().is_some_and(|dir| dir == Path::new(DIR) || dir == log_dir_of(DIR));
    let name = path.file_name().filter(|_| is_inside)?.to_str()?;
    FileId::parse_file_name(name).map(|(_, kind)| kind)
}

/// Where the bytes of a write start.
fn write_start(change: &Change) -> Option<u64> {
    let is_write = change.operation == Operation::Write;
    change.bytes.as_ref().filter(|_| is_write).map(|bytes| bytes.start)
}

/// Where the header of a file is.
const HEADER: Range<u64> = 0..FileHeader::LEN as u64;

/// Whether some of the header is written.
fn is_of_header(change: &Change) -> bool {
    write_start(change).is_some_and(|start| start < HEADER.end)
}

/// Bytes of a file, as far as it goes.
fn bytes(fs: &MemoryFileSystem, path: &Path, range: Range<u64>) -> Vec<u8> {
    let Ok(file) = fs.open(path) else { return Vec::new() };
    let mut bytes = vec![0; (range.end - range.start) as usize];
    let count = file.read_at(range.start, &mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

fn refuse(is_refused: bool, what: impl Into<String>) -> Verdict {
    if is_refused { Err(what.into()) } else { Ok(()) }
}

/// A file is renamed only once its bytes are durable. Only the manifest that another has replaced may
/// have pending what follows its last edit: the frame that vouches for that edit, and the return of the
/// space behind. It is read by repairs alone, which do without both.
fn whole_before_rename(change: &Change, pending: &Pending) -> Verdict {
    let (Operation::Rename, Some(to)) = (change.operation, &change.to) else { return Ok(()) };
    let changes = pending.bytes_of(&change.path);
    let writes = changes.iter().filter(|change| change.operation == Operation::Write).count();
    let is_replaced = kind_of(&change.path) == Some(FileKind::Manifest)
        && to.extension().is_some_and(|extension| extension == "old");
    let allowed = if is_replaced { writes <= 1 } else { changes.is_empty() };
    refuse(!allowed, format!("its bytes are not durable: {changes:?}"))
}

/// Whether the change may make the manifest name other files.
fn is_edit(change: &Change) -> bool {
    let path = match change.operation {
        Operation::Write => Some(&change.path),
        Operation::Rename => change.to.as_ref(),
        _ => None,
    };
    path.is_some_and(|path| kind_of(path) == Some(FileKind::Manifest))
}

/// Every table and blob file is whole on disk, with its name, before the manifest names it: an edit
/// that is written may be durable at any moment, synced or not. Not every file there is: a compaction
/// writes its tables while others edit the manifest.
fn tables_before_edit(fs: &MemoryFileSystem) -> impl FnMut(&Change, &Pending) -> Verdict + use<> {
    let (fs, mut is_edited) = (fs.clone(), false);
    move |change, pending| {
        // Nothing was changed since the edit, so what is pending was so before it.
        if !std::mem::replace(&mut is_edited, is_edit(change)) {
            return Ok(());
        }
        let named = Named::read(&fs)?.ok_or("there is no manifest after an edit")?;
        let missing = named.tables.iter().find(|path| !pending.is_durable(path));
        missing.map_or(Ok(()), |path| Err(format!("just named, {} is not durable", path.display())))
    }
}

/// A log segment takes frames only once its header and its name are durable, and so is the manifest that
/// names it: a recovery takes any frame away that it finds behind another header, and removes a segment
/// that is not named.
fn log_ready_before_frames(fs: &MemoryFileSystem, change: &Change, pending: &Pending) -> Verdict {
    let path = &change.path;
    let is_frame = write_start(change).is_some_and(|start| HEADER.end <= start);
    if !is_frame || kind_of(path) != Some(FileKind::Log) {
        return Ok(());
    }
    refuse(!pending.is_name_durable(path), "its name is not durable")?;
    let lost = after_power_loss(fs);
    // A recovery writes it again as it was: what counts is what it says.
    refuse(bytes(&lost, path, HEADER) != bytes(fs, path, HEADER), "its header is not durable")?;
    let named = Named::read(&lost)?;
    refuse(!named.is_some_and(|named| named.has(path)), "no durable manifest names it")
}

/// A table, blob file or log segment is removed, renamed or written over only once the edit that no
/// longer names it is durable: of the manifest, no more than the frame that vouches for the last edit
/// is pending.
fn edit_before_removal(fs: &MemoryFileSystem, change: &Change, pending: &Pending) -> Verdict {
    let path = &change.path;
    let is_meant = matches!(kind_of(path), Some(FileKind::Table | FileKind::Blob | FileKind::Log));
    let is_removal = match change.operation {
        Operation::Remove | Operation::Rename => true,
        // Frames go behind those that are there.
        Operation::Write => kind_of(path) != Some(FileKind::Log) || is_of_header(change),
        _ => false,
    };
    if !is_meant || !is_removal {
        return Ok(());
    }
    let Some(live) = Named::read(fs)? else {
        return refuse(change.operation != Operation::Write, "there is no manifest");
    };
    if is_of_header(change) && live.logs.contains(path) {
        // See `written_back`.
        return Ok(());
    }
    refuse(live.has(path), "the manifest names it")?;
    let lost = Named::read(&after_power_loss(fs))?;
    refuse(lost.is_some_and(|lost| lost.has(path)), "after a power loss, the manifest names it")?;
    let writes = pending.bytes_of(&live.manifest).iter();
    let writes = writes.filter(|change| change.operation == Operation::Write).count();
    refuse(1 < writes, format!("{writes} writes of the manifest are not durable"))?;
    refuse(!pending.is_name_durable(&live.manifest), "the name of the manifest is not durable")
}

/// What recovery has read of a segment, it may write again, header and all: what was read may be only in
/// the system's memory. Then every byte stays what it was, so that it does not matter when the power goes.
fn written_back(fs: &MemoryFileSystem) -> impl FnMut(&Change, &Pending) -> Verdict + use<> {
    let fs = fs.clone();
    let mut before: Option<(PathBuf, Range<u64>, Vec<u8>)> = None;
    move |change, _pending| {
        if let Some((path, range, expected)) = before.take() {
            let is_same = bytes(&fs, &path, range) == expected;
            refuse(!is_same, format!("just before, {} was written over", path.display()))?;
        }
        let is_meant = is_of_header(change)
            && kind_of(&change.path) == Some(FileKind::Log)
            && Named::read(&fs)?.is_some_and(|named| named.has(&change.path));
        before = change.bytes.clone().filter(|_| is_meant).map(|range| {
            let expected = bytes(&fs, &change.path, range.clone());
            (change.path.clone(), range, expected)
        });
        Ok(())
    }
}

/// A segment or a manifest is cut off behind its seal, which says that all before it is durable: only the
/// seal itself is pending then. The manifest that is replaced is cut off behind the frame that vouches for
/// its last edit, of which the same is true. Recovery also cuts: a segment that was reused may have bytes
/// of its earlier life behind its last frame. That cut follows no write, and says nothing.
fn all_before_seal() -> impl FnMut(&Change, &Pending) -> Verdict {
    let mut written = None;
    move |change, pending| {
        let is_write = change.operation == Operation::Write;
        let before = std::mem::replace(&mut written, is_write.then(|| change.path.clone()));
        let is_temporary = change.path.extension().is_some_and(|extension| extension == "tmp");
        let path = if is_temporary { change.path.with_extension("") } else { change.path.clone() };
        let is_meant = match kind_of(&path) {
            Some(FileKind::Log) => before.as_ref() == Some(&change.path),
            kind => kind == Some(FileKind::Manifest),
        };
        if change.operation != Operation::Truncate || !is_meant {
            return Ok(());
        }
        let changes = pending.bytes_of(&change.path);
        let writes = changes.iter().filter(|change| change.operation == Operation::Write).count();
        refuse(1 < writes, format!("more than the last frame is not durable: {changes:?}"))
    }
}

/// Once a write of keyspaces with a log is acknowledged that asked for it, a power loss takes nothing
/// of the log.
fn log_after_promise(step: &Step, fs: &MemoryFileSystem, pending: &Pending) -> Verdict {
    let is_promise = match step {
        Step::Sync => true,
        Step::Write(writes, Durability::Power) => {
            writes.iter().all(|write| !write.keyspace.starts_with(UNLOGGED))
        }
        _ => false,
    };
    if !is_promise {
        return Ok(());
    }
    let named = Named::read(fs)?.ok_or("there is no manifest")?;
    let lacking = named.logs.iter().find(|path| !pending.is_durable(path));
    lacking.map_or(Ok(()), |path| {
        Err(format!("{} is not durable: {:?}", path.display(), pending.bytes_of(path)))
    })
}

fn traced(fs: &MemoryFileSystem) -> TraceFileSystem {
    let traced = TraceFileSystem::new(Arc::new(fs.clone()));
    traced.require("whole before it is renamed", whole_before_rename);
    traced.require("tables before the edit that names them", tables_before_edit(fs));
    let below = fs.clone();
    traced.require("log segment before its frames", move |change, pending| {
        log_ready_before_frames(&below, change, pending)
    });
    let below = fs.clone();
    traced.require("edit before what it makes obsolete goes", move |change, pending| {
        edit_before_removal(&below, change, pending)
    });
    traced.require("log segment in use stays what it is", written_back(fs));
    traced.require("frames before the seal", all_before_seal());
    traced
}

fn run(profile: &Profile, steps: &[Step], seed: u64) {
    let fs = MemoryFileSystem::new(seed);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    if seed.is_multiple_of(2) {
        fs.create_dir_all(&log_dir_of(DIR)).unwrap();
    }
    let traced = traced(&fs);
    let mut driver = Driver::new(env_over(Arc::new(traced.clone())), options_over(&fs));
    driver.open().unwrap();
    for (number, step) in steps.iter().enumerate() {
        let when = || format!("profile {}, seed {seed}, step {number}", profile.name);
        driver.step(step).unwrap_or_else(|error| panic!("{}, {step:?}: {error:?}", when()));
        assert_in_order(&traced, &when());
        if let Err(what) = log_after_promise(step, &fs, &traced.pending()) {
            panic!("{}: after {}: {what}", when(), step.name());
        }
    }
    // So that the cache has something to be written down by the close.
    driver.step(&Step::Read).unwrap();
    driver.db.take().expect("it is open").close().unwrap();
    // One more change, so that rules about what was done see the last one.
    traced.create_dir_all(Path::new(DIR)).unwrap();
    assert_in_order(&traced, &format!("profile {}, seed {seed}, the close", profile.name));
    CHANGES.add(traced.changes().len() as u64);
}

/// # Panics
/// If a rule was broken: says which, and what came before.
fn assert_in_order(traced: &TraceFileSystem, when: &str) {
    let violations = traced.violations();
    let Some(first) = violations.first() else { return };
    let before = traced.changes();
    let before = before.iter().filter(|change| change.number < first.change.number);
    let before: Vec<String> = before.map(Change::to_string).collect();
    let last = &before[before.len().saturating_sub(15)..];
    panic!(
        "{when}: {first}\n{} in all; the last changes before it:\n{}",
        violations.len(),
        last.join("\n")
    );
}

fn in_order(name: &str, profile: &Profile) {
    for_each_seed(name, 2, |seed| {
        let steps = script(profile, seed);
        run_shrinking(&steps, Step::name, |steps| run(profile, steps, seed));
    });
    CHANGES.print();
}

#[test]
fn several_keyspaces_write_in_order() {
    in_order("several_keyspaces_write_in_order", &profiles::SEVERAL_KEYSPACES);
}

#[test]
fn log_segments_that_fill_are_written_in_order() {
    in_order("log_segments_that_fill_are_written_in_order", &profiles::MANY_SEGMENTS);
}

#[test]
fn writes_that_nobody_syncs_are_written_in_order() {
    in_order("writes_that_nobody_syncs_are_written_in_order", &profiles::NO_SYNCS);
}

#[test]
fn keyspaces_that_come_and_go_write_in_order() {
    in_order("keyspaces_that_come_and_go_write_in_order", &profiles::CHANGING_KEYSPACES);
}

#[test]
fn keyspace_without_a_log_writes_in_order() {
    in_order("keyspace_without_a_log_writes_in_order", &profiles::WITHOUT_LOG);
}

//! Runs the rounds: every row on every engine in turn, each in a process of its own.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cell::Cell;
use crate::cgroup::MemoryGroup;
use crate::child::Task;
use crate::engine::Result;
use crate::engines::EngineKind;
use crate::options::RunOptions;
use crate::rows::{CacheSize, Data, Row, Workload};

/// Memory of a process in a cold row, page cache included.
const COLD_MEMORY_BYTES: u64 = 256 << 20;

/// The cells of a row, one list of rounds for each engine.
pub(crate) struct RowResult {
    pub(crate) row: &'static Row,
    pub(crate) engines: Vec<Vec<Cell>>,
}

/// Runs everything. A cell that fails is told on the error output and left out.
pub(crate) fn run(options: &RunOptions) -> Result<Vec<RowResult>> {
    let engines = || options.engines.iter().map(|_| Vec::new()).collect();
    let mut results: Vec<RowResult> =
        options.rows.iter().map(|row| RowResult { row, engines: engines() }).collect();
    for round in 0..options.rounds {
        remove(&options.dir)?;
        fs::create_dir_all(&options.dir)?;
        for result in &mut results {
            // Each round begins with another engine, so that none always follows the same.
            for turn in 0..options.engines.len() {
                let place = (turn + round as usize) % options.engines.len();
                let kind = options.engines[place];
                match measure(options, kind, result.row, round) {
                    Ok(None) => {}
                    Ok(Some(cell)) => {
                        tell(&format!(
                            "round {round}  {:36} {:14} {:12.0}/s {:8.2} us CPU  {:6.0} MB  load {:.1}",
                            result.row.name,
                            kind.name,
                            cell.rate(),
                            cell.cpu_micros(),
                            cell.peak_bytes / 1e6,
                            cell.load,
                        ));
                        result.engines[place].push(cell);
                    }
                    Err(error) => tell(&format!("{} {}: {error}", result.row.name, kind.name)),
                }
            }
        }
    }
    remove(&options.dir)?;
    Ok(results)
}

/// Runs one cell; `None` if the engine does not take part in the row.
fn measure(options: &RunOptions, kind: &EngineKind, row: &Row, round: u64) -> Result<Option<Cell>> {
    let takes_part = match row.workload {
        Workload::OpenAfterKill => kind.survives_kill,
        Workload::Compact => !["lmdb", "redb", "sled"].contains(&kind.name),
        // It promises nothing that could be ranked.
        Workload::FillSync => kind.name != "sled",
        _ => true,
    };
    if !takes_part {
        return Ok(None);
    }
    let dir = dir_of(options, kind, row);
    let group = match row.cache {
        CacheSize::Cold if options.data_bytes() < 2 * COLD_MEMORY_BYTES => {
            return Err("skipped: the data is less than twice the memory of the row".into());
        }
        CacheSize::Cold => Some(MemoryGroup::new(COLD_MEMORY_BYTES)?),
        CacheSize::Small | CacheSize::Everything => None,
    };
    let mut task = Task {
        engine: kind.name.to_string(),
        row: row.name.to_string(),
        dir: dir.clone(),
        count: options.count,
        value_bytes: options.value_bytes,
        seconds: options.seconds,
        seed: 1 + round,
        dies: false,
        group: group.as_ref().map(|group| group.dir().to_path_buf()),
    };
    if row.data != Data::Filled {
        remove(&dir)?;
    }
    if row.workload == Workload::OpenAfterKill {
        task.dies = true;
        start(&task)?.wait()?;
        task.dies = false;
    }
    let output = start(&task)?.wait_with_output()?;
    if row.data.is_own() {
        remove(&dir)?;
    }
    if row.data != Data::Filled || row.writes() {
        // What one engine leaves to be written out does not disturb the next one.
        rustix::fs::sync();
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let cell = text.lines().find_map(Cell::from_line);
    Ok(Some(cell.ok_or_else(|| format!("failed: {}", output.status))?))
}

fn dir_of(options: &RunOptions, kind: &EngineKind, row: &Row) -> PathBuf {
    let name = if row.data.is_own() { "fresh" } else { "filled" };
    options.dir.join(format!("{}-{name}", kind.name))
}

fn start(task: &Task) -> Result<std::process::Child> {
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    Ok(command.args(task.to_arguments()).stdout(Stdio::piped()).spawn()?)
}

fn remove(dir: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn tell(line: &str) {
    // Progress only: nobody reads it if it cannot be written.
    drop(writeln!(std::io::stderr(), "{line}"));
}

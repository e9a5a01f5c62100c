//! Instructions per operation, counted under callgrind and compared with the counts on record.
//!
//! `cargo xtask instructions` builds `crates/esker-cli/examples/instructions.rs` for release, runs it
//! once, prints each row beside the record in `docs/benchmarks/instructions.txt`, and fails if one
//! takes over [`RISE_MAX_PERCENT`] more. With `--write` it replaces the record. Counts repeat to a
//! fraction of a percent whatever else the machine does; they say nothing about cache misses and
//! about time in the system.
//!
//! They hold for one compiler and one C library: both stand in the record, and a run with others
//! says so. Where there is no valgrind, nothing is compared, and the reason is printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A row that takes so many percent more than on record fails.
const RISE_MAX_PERCENT: f64 = 5.0;

const RECORD: &str = "docs/benchmarks/instructions.txt";

/// The function of the example inside of which everything is counted.
const MEASURED: &str = "instructions::measured";

/// A row: its name, and instructions per operation.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    name: String,
    instructions: f64,
}

/// What a run has found.
pub(crate) enum Outcome {
    /// Nothing was compared, for this reason.
    Skipped(String),
    /// The rows as text; whether all are within bounds.
    Compared { text: String, is_within: bool },
    /// The record is new.
    Written(String),
}

/// Counts, and compares with the record or replaces it.
pub(crate) fn run(root: &Path, write: bool) -> Result<Outcome, String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(Outcome::Skipped("the record is for Linux on x86-64".to_owned()));
    }
    let has_valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !has_valgrind.is_ok_and(|status| status.success()) {
        return Ok(Outcome::Skipped("valgrind is not installed".to_owned()));
    }
    let rows = count(root)?;
    let tools = tools()?;
    let record = root.join(RECORD);
    if write {
        let text = encode(&rows, &tools);
        std::fs::write(&record, &text).map_err(|error| format!("{RECORD}: {error}"))?;
        return Ok(Outcome::Written(text));
    }
    let text = std::fs::read_to_string(&record).map_err(|error| format!("{RECORD}: {error}"))?;
    let mut report = String::new();
    if !text.lines().any(|line| line == format!("# {tools}")) {
        report.push_str("the record is of another compiler or C library: compare with care\n");
    }
    let (table, is_within) = compare(&decode(&text)?, &rows);
    report.push_str(&table);
    Ok(Outcome::Compared { text: report, is_within })
}

/// Builds the example and runs it under callgrind.
fn count(root: &Path) -> Result<Vec<Row>, String> {
    let build = ["build", "--locked", "--release", "-p", "esker-cli", "--example", "instructions"];
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(build).current_dir(root).status();
    if !status.map_err(|error| format!("cargo: {error}"))?.success() {
        return Err("the example does not build".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let work = target.join("instructions");
    if work.exists() {
        std::fs::remove_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    }
    std::fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let program = target.join("release/examples/instructions");
    std::fs::copy(&program, work.join("program"))
        .map_err(|error| format!("{}: {error}", program.display()))?;
    // From inside the directory and without the environment: the lengths of paths and variables
    // move what the allocator does by some percent.
    let output = Command::new("valgrind")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(&work)
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--dump-after={MEASURED}"))
        .args(["--callgrind-out-file=sum", "./program", "databases"])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = printed.lines().enumerate().map(|(index, line)| {
        let (name, operations) = line.split_once(' ').ok_or("a row has a name and a count")?;
        let operations: f64 = operations.parse().map_err(|_error| format!("no count: {line}"))?;
        let path = work.join(format!("sum.{}", index + 1));
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let total = total(&String::from_utf8_lossy(&text)).ok_or("a sum without a total")?;
        Ok(Row { name: name.to_owned(), instructions: total / operations })
    });
    let rows = rows.collect::<Result<Vec<Row>, String>>()?;
    std::fs::remove_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    Ok(rows)
}

/// The sum that a file of callgrind ends with.
fn total(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

/// What the counts depend on beside the sources.
fn tools() -> Result<String, String> {
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok::<String, String>(text.lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!("{}; {}", version("rustc")?, version("ldd")?))
}

fn encode(rows: &[Row], tools: &str) -> String {
    let mut text = String::from(
        "# Instructions per operation: `cargo xtask instructions --write` makes this file,\n\
         # `cargo xtask instructions` compares with it. See docs/BENCHMARKS.md.\n",
    );
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("# {tools}"));
    for row in rows {
        line(format!("{} {:.1}", row.name, row.instructions));
    }
    text
}

fn decode(text: &str) -> Result<Vec<Row>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let row = |line: &str| {
        let (name, instructions) = line.split_once(' ')?;
        Some(Row { name: name.to_owned(), instructions: instructions.trim().parse().ok()? })
    };
    lines.map(|line| row(line).ok_or_else(|| format!("{RECORD}: {line}"))).collect()
}

/// The rows beside the record, and whether none is missing, new, or has risen too far.
fn compare(record: &[Row], rows: &[Row]) -> (String, bool) {
    let mut text = format!("{:34} {:>10} {:>10} {:>8}\n", "row", "record", "now", "change");
    let mut is_within = true;
    let mut line = |row: &str, record: Option<f64>, now: Option<f64>| {
        let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        let percent = record.zip(now).map(|(record, now)| (now - record) / record * 100.0);
        let note = match percent {
            Some(percent) if percent <= RISE_MAX_PERCENT => "",
            Some(_) => "  ROSE",
            None => "  NOT IN BOTH",
        };
        is_within &= note.is_empty();
        let percent = percent.map_or(String::new(), |percent| format!("{percent:+.1} %"));
        let (record, now) = (cell(record), cell(now));
        text.push_str(&format!("{row:34} {record:>10} {now:>10} {percent:>8}{note}\n"));
    };
    let find = |rows: &[Row], name: &str| {
        rows.iter().find(|row| row.name == name).map(|row| row.instructions)
    };
    for row in rows {
        line(&row.name, find(record, &row.name), Some(row.instructions));
    }
    for gone in record.iter().filter(|row| find(rows, &row.name).is_none()) {
        line(&gone.name, Some(gone.instructions), None);
    }
    (text, is_within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, f64)]) -> Vec<Row> {
        let row = |&(name, instructions): &(&str, f64)| Row { name: name.to_owned(), instructions };
        rows.iter().map(row).collect()
    }

    #[test]
    fn a_rise_past_the_bound_is_named_and_fails() {
        let record = rows(&[("get", 1000.0), ("put", 2000.0)]);
        let (text, is_within) = compare(&record, &rows(&[("get", 1049.0), ("put", 1000.0)]));
        assert!(is_within, "{text}");
        let (text, is_within) = compare(&record, &rows(&[("get", 1051.0), ("put", 2000.0)]));
        assert!(!is_within);
        let risen: Vec<&str> = text.lines().filter(|line| line.contains("ROSE")).collect();
        assert!(risen.len() == 1 && risen[0].starts_with("get "), "{text}");
    }

    #[test]
    fn a_row_that_is_gone_or_not_on_record_fails() {
        let record = rows(&[("get", 1000.0)]);
        assert!(!compare(&record, &[]).1);
        assert!(!compare(&[], &record).1);
    }

    #[test]
    fn the_record_reads_back() {
        let written = rows(&[("get", 1000.5), ("put", 2.0)]);
        assert_eq!(decode(&encode(&written, "rustc 1; ldd 2")).unwrap(), written);
        assert!(decode("get fast").is_err());
    }

    #[test]
    fn totals_are_found_in_a_file_of_callgrind() {
        assert_eq!(total("summary: 1\n\n\ntotals: 42\n"), Some(42.0));
        assert_eq!(total("summary: 1\n"), None);
    }
}

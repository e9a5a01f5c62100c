//! Instructions and allocations per operation, counted by callgrind and compared with a record.
//!
//! `cargo xtask instructions` builds `crates/esker-cli/examples/instructions.rs` for release, runs
//! it once, prints each row beside the record in `docs/benchmarks/instructions.txt`, and fails if
//! one takes over [`RISE_MAX_PERCENT`] more, or allocates [`ALLOCATIONS_RISE_MAX`] times more. With
//! `--write` it replaces the record. Counts repeat to a fraction of a percent whatever else the
//! machine does; they say nothing about cache misses or system time. Copies are calls of the C
//! library's `memcpy` and `memmove`, known by name only where it has symbols: they are recorded,
//! not compared.
//!
//! What the allocator does in a call is not among the instructions, its calls are counted instead:
//! how long it looks for room depends on all that was allocated before, even on the length of the
//! directory's path, which alone moved a row by 6 %.
//!
//! Counts hold for one compiler and one C library: both are in the record, and a run with others
//! says so. Without valgrind, nothing is compared, and the reason is printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A row that takes more than this percentage above the record fails.
const RISE_MAX_PERCENT: f64 = 5.0;

/// A row with this many more allocations per operation than the record fails.
const ALLOCATIONS_RISE_MAX: f64 = 0.05;

/// The functions of the C library that allocate memory.
const ALLOCATORS: [&str; 6] =
    ["malloc", "calloc", "realloc", "memalign", "posix_memalign", "aligned_alloc"];

/// The one that takes it back.
const FREE: &str = "free";

const RECORD: &str = "docs/benchmarks/instructions.txt";

/// The function of the example in which everything is counted.
const MEASURED: &str = "instructions::measured";

/// The calls of some functions, and the instructions that ran in them.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Calls {
    count: u64,
    instructions: u64,
}

/// A row: its name, and the counts per operation. Instructions are without the allocator's.
#[derive(Clone, PartialEq, Debug)]
struct Row {
    name: String,
    instructions: f64,
    allocations: f64,
    copies: f64,
}

/// The result of a run.
pub(crate) enum Outcome {
    /// Nothing was compared, for this reason.
    Skipped(String),
    /// The rows as text; whether all are within bounds.
    Compared { text: String, is_within: bool },
    /// The record was replaced.
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
    // Without the environment: its length moves what the loader does before the program begins.
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
        let text = String::from_utf8_lossy(&text);
        let total = total(&text).ok_or("a sum without a total")?;
        let allocations = calls(&text, |function| ALLOCATORS.contains(&function));
        let allocator = allocations.instructions + calls(&text, |name| name == FREE).instructions;
        let copies = calls(&text, |name| name.contains("memcpy") || name.contains("memmove"));
        Ok(Row {
            name: name.to_owned(),
            instructions: (total - allocator as f64) / operations,
            allocations: allocations.count as f64 / operations,
            copies: copies.count as f64 / operations,
        })
    });
    let rows = rows.collect::<Result<Vec<Row>, String>>()?;
    std::fs::remove_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    Ok(rows)
}

/// The total at the end of a callgrind file.
fn total(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

/// Calls of the functions whose names satisfy `is_counted`, but for those they make of each other. A
/// name is beside its number once, and afterwards only the number is given. A call of no instructions
/// was before the counter ran.
fn calls(text: &str, is_counted: impl Fn(&str) -> bool) -> Calls {
    let mut names = BTreeMap::new();
    let (mut caller, mut called) = ("", "");
    let mut sum = Calls { count: 0, instructions: 0 };
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some((key, function)) = line.split_once("fn=(")
            && let Some((number, name)) = function.split_once(')')
        {
            if !name.is_empty() {
                names.insert(number, name.trim());
            }
            let name = names.get(number).copied().unwrap_or_default();
            match key {
                "" => caller = name,
                "c" => called = name,
                _ => {}
            }
        } else if let Some(count) = line.strip_prefix("calls=") {
            let count = count.split(' ').next().and_then(|count| count.parse::<u64>().ok());
            let cost = lines.next().and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
            if let Some((count, cost)) = count.zip(cost)
                && cost != 0
                && is_counted(called)
                && !is_counted(caller)
            {
                sum.count += count;
                sum.instructions += cost;
            }
        }
    }
    sum
}

/// What the counts depend on besides the sources.
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
        "# Instructions, allocations and copies per operation: `cargo xtask instructions --write` makes\n\
         # this file, `cargo xtask instructions` compares with it. See docs/BENCHMARKS.md.\n",
    );
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("# {tools}"));
    for row in rows {
        let Row { name, instructions, allocations, copies } = row;
        line(format!("{name} {instructions:.1} {allocations:.2} {copies:.2}"));
    }
    text
}

fn decode(text: &str) -> Result<Vec<Row>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let name = fields.next()?.to_owned();
        let mut figure = || fields.next()?.parse().ok();
        Some(Row { name, instructions: figure()?, allocations: figure()?, copies: figure()? })
    };
    lines.map(|line| row(line).ok_or_else(|| format!("{RECORD}: {line}"))).collect()
}

/// The rows beside the record, and whether none is missing, new or too much larger.
fn compare(record: &[Row], rows: &[Row]) -> (String, bool) {
    let mut text = format!(
        "{:34} {:>10} {:>10} {:>8} {:>11} {:>6}\n",
        "row", "record", "now", "change", "allocations", "now"
    );
    let mut is_within = true;
    let mut line = |row: &str, record: Option<&Row>, now: Option<&Row>| {
        let cell =
            |row: Option<&Row>, figure: fn(&Row) -> String| row.map_or("-".to_owned(), figure);
        let percent = record
            .zip(now)
            .map(|(record, now)| (now.instructions / record.instructions - 1.0) * 100.0);
        let note = match (record, now, percent) {
            (Some(record), Some(now), _)
                if record.allocations + ALLOCATIONS_RISE_MAX < now.allocations =>
            {
                "  ALLOCATES MORE"
            }
            (_, _, Some(percent)) if RISE_MAX_PERCENT < percent => "  ROSE",
            (_, _, Some(_)) => "",
            (_, _, None) => "  NOT IN BOTH",
        };
        is_within &= note.is_empty();
        let percent = percent.map_or(String::new(), |percent| format!("{percent:+.1} %"));
        let instructions = |row: &Row| format!("{:.1}", row.instructions);
        let allocations = |row: &Row| format!("{:.2}", row.allocations);
        text.push_str(&format!(
            "{row:34} {:>10} {:>10} {percent:>8} {:>11} {:>6}{note}\n",
            cell(record, instructions),
            cell(now, instructions),
            cell(record, allocations),
            cell(now, allocations),
        ));
    };
    let find = |rows: &'_ [Row], name: &str| rows.iter().position(|row| row.name == name);
    for row in rows {
        line(&row.name, find(record, &row.name).map(|index| &record[index]), Some(row));
    }
    for gone in record.iter().filter(|row| find(rows, &row.name).is_none()) {
        line(&gone.name, Some(gone), None);
    }
    (text, is_within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, f64)]) -> Vec<Row> {
        let row = |&(name, instructions): &(&str, f64)| Row {
            name: name.to_owned(),
            instructions,
            allocations: 1.0,
            copies: 2.0,
        };
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
    fn an_operation_that_allocates_once_more_fails() {
        let record = rows(&[("get", 1000.0)]);
        let mut now = record.clone();
        now[0].allocations += 0.04;
        assert!(compare(&record, &now).1);
        now[0].allocations += 1.0;
        let (text, is_within) = compare(&record, &now);
        assert!(!is_within && text.contains("1.00   2.04  ALLOCATES MORE"), "{text}");
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
        assert!(decode("get 1000.0").is_err());
    }

    #[test]
    fn totals_are_found_in_a_file_of_callgrind() {
        assert_eq!(total("summary: 1\n\n\ntotals: 42\n"), Some(42.0));
        assert_eq!(total("summary: 1\n"), None);
    }

    #[test]
    fn calls_are_found_by_name_and_by_number_and_not_those_of_before_or_within() {
        let text = "fn=(1) main\ncfn=(2) malloc\ncalls=3 35 \n56 40\ncfn=(3) free\ncalls=9 1\n57 4\n\
                    fn=(4) other\ncfn=(2)\ncalls=2 35\n9 11\ncfn=(2)\ncalls=7 35\n9 0\n\
                    fn=(2)\ncfn=(2)\ncalls=6 1\n9 30\n";
        let found = |name| calls(text, |function| function == name);
        assert_eq!(found("malloc"), Calls { count: 5, instructions: 51 });
        assert_eq!(found("free"), Calls { count: 9, instructions: 4 });
        assert_eq!(found("main"), Calls { count: 0, instructions: 0 });
    }
}

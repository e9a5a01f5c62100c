//! The command line: which rows and engines, how many keys and rounds, and where results go.

use std::path::PathBuf;

use crate::engine::Result;
use crate::engines::{self, ENGINES, EngineKind};
use crate::keys::KEY_BYTES;
use crate::rows::{ROWS, Row};
use crate::values::POOL_BYTES;

pub(crate) const HELP: &str = "\
Measures Esker beside the stores that one would otherwise choose.

Usage: esker-bench quick|full [options]
       esker-bench limits --results FILE [--dir DIR] [--document FILE]

  quick               eight rows: Esker, RocksDB, RocksDB tuned and Fjall
  full                all rows, all engines of this build
  limits              what this machine could do on each row, and how near a results.json of Esker
                      comes to it

  --count N           keys (default 1000000)
  --value-size N      bytes of a value (default 100)
  --rounds N          rounds, of which the median is taken (default 3)
  --seconds S         length of rows that have no end of their own (default 2)
  --engines A,B       only these
  --rows A;B          only rows whose names begin so; rows on a filled database need fillrandom
  --dir DIR           where databases are made (default: target/databases)
  --out DIR           where results.json, table.md and chart.svg go (default: target/results)
  --document FILE     also put the table into FILE, between the lines
                      <!-- results NAME --> and <!-- end of results -->
  --name NAME         the NAME of --document (default: quick or full)
";

/// What to run.
pub(crate) struct RunOptions {
    pub(crate) engines: Vec<&'static EngineKind>,
    pub(crate) rows: Vec<&'static Row>,
    pub(crate) count: u64,
    pub(crate) value_bytes: usize,
    pub(crate) rounds: u64,
    pub(crate) seconds: f64,
    pub(crate) dir: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) document: Option<PathBuf>,
    pub(crate) name: String,
    /// The command, as one would repeat it.
    pub(crate) command: String,
}

impl RunOptions {
    /// Bytes of all keys and values.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.count * (KEY_BYTES + self.value_bytes) as u64
    }
}

/// Reads the arguments behind the name of the program.
pub(crate) fn parse(arguments: &[String]) -> Result<RunOptions> {
    let mode = arguments.first().map_or("", String::as_str);
    let is_quick = match mode {
        "quick" => true,
        "full" => false,
        _ => return Err(format!("neither quick nor full\n\n{HELP}").into()),
    };
    let quick_engines = ["esker", "rocksdb", "rocksdb-tuned", "fjall"];
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target");
    let mut options = RunOptions {
        engines: ENGINES
            .iter()
            .filter(|kind| !is_quick || quick_engines.contains(&kind.name))
            .collect(),
        rows: ROWS.iter().filter(|row| !is_quick || row.is_quick).collect(),
        count: 1_000_000,
        value_bytes: 100,
        rounds: 3,
        seconds: 2.0,
        dir: target.join("databases"),
        out: target.join("results"),
        document: None,
        name: mode.to_string(),
        command: format!("cargo run --release -- {}", without_places(arguments)),
    };
    let mut rest = arguments[1..].iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--count" => options.count = value.parse()?,
            "--value-size" => options.value_bytes = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--dir" => options.dir = value.into(),
            "--out" => options.out = value.into(),
            "--document" => options.document = Some(value.into()),
            "--name" => options.name = value.clone(),
            "--engines" => {
                options.engines = value.split(',').map(engines::named).collect::<Result<_>>()?;
                // Ratios are those of the first, whatever the order in which they were named.
                options.engines.sort_by_key(|kind| kind.name != ENGINES[0].name);
            }
            "--rows" => {
                let begins = |row: &&Row| value.split(';').any(|name| row.name.starts_with(name));
                options.rows = ROWS.iter().filter(begins).collect();
            }
            _ => return Err(format!("unknown option {flag}\n\n{HELP}").into()),
        }
    }
    if options.rows.is_empty() || options.rounds == 0 || options.count < 10_000 {
        return Err("nothing to measure: no row, no round, or fewer than 10000 keys".into());
    }
    if options.value_bytes == 0 || POOL_BYTES < options.value_bytes {
        return Err(format!("values have 1 to {POOL_BYTES} bytes").into());
    }
    Ok(options)
}

/// The arguments that are worth repeating: where databases and results lie is not.
fn without_places(arguments: &[String]) -> String {
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if ["--dir", "--out", "--document"].contains(&word.as_str()) {
            rest.next();
        } else if word.contains([' ', ';']) {
            words.push(format!("\"{word}\""));
        } else {
            words.push(word.clone());
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_repeat_names_no_places() {
        let words = ["full", "--dir", "/x", "--count", "10000", "--rows", "a b;c", "--out", "y"];
        let arguments = words.map(String::from);
        assert_eq!(without_places(&arguments), "full --count 10000 --rows \"a b;c\"");
    }

    #[test]
    fn esker_is_the_first_engine_wherever_it_was_named() {
        let words: Vec<&str> = ENGINES.iter().rev().map(|kind| kind.name).collect();
        let arguments = ["full", "--engines", &words.join(",")].map(String::from);
        let engines = parse(&arguments).unwrap().engines;
        assert_eq!((engines[0].name, engines.len()), ("esker", ENGINES.len()));
    }
}

//! The command line: commands and options, and the text of `--help`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use esker::{Merge, Order};

use crate::bench::BenchArguments;
use crate::compaction::Compaction;
use crate::doctor::DoctorArguments;
use crate::lifetime;
use crate::prefix_filter::PrefixFilter;
use crate::simulate::Simulated;
use crate::text::with_lower_digits;

/// A key-value database in a directory.
///
/// Exit status: 0 done or found, 3 the key is not there, 4 a file of the database is damaged, 1 any
/// other error.
#[derive(Parser, Debug)]
#[command(name = "esker", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Load the cities of the world and show what the database does with them.
    Tour {
        /// Directory of the database of the tour, which stays there; one with another database is
        /// refused.
        #[arg(default_value = "esker-tour")]
        dir: PathBuf,
    },
    /// Load many records from a file. Creates a missing database, and a missing keyspace.
    Load(Load),
    /// Print the value of a key.
    Get {
        #[command(flatten)]
        target: Target,
        /// The key.
        key: OsString,
        #[command(flatten)]
        form: Form,
    },
    /// Store a value under a key.
    Put {
        #[command(flatten)]
        target: Target,
        /// The key.
        key: OsString,
        /// The value.
        value: OsString,
        /// Key and value are hexadecimal.
        #[arg(long)]
        hex: bool,
        /// Return only when the write survives a loss of power.
        #[arg(long)]
        sync: bool,
        /// After how long the value expires: 500ms, 90s, 5m, 2h, 7d.
        #[arg(long, value_name = "TIME", value_parser = lifetime::parse)]
        ttl: Option<Duration>,
    },
    /// Delete a key, whether it is there or not.
    Del {
        #[command(flatten)]
        target: Target,
        /// The key.
        key: OsString,
        /// The key is hexadecimal.
        #[arg(long)]
        hex: bool,
        /// Return only when the delete survives a loss of power.
        #[arg(long)]
        sync: bool,
    },
    /// Print keys and values in the order of the keys.
    Scan(Scan),
    /// Print counters, sizes and memory.
    Stats {
        #[command(flatten)]
        place: DatabasePlace,
    },
    /// Draw the tree of every keyspace.
    Levels {
        #[command(flatten)]
        place: DatabasePlace,
    },
    /// Print the compactions that come next, without doing them.
    Plan {
        #[command(flatten)]
        place: DatabasePlace,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Replay the recorded flushes through other compaction policies, and compare what they cost.
    WhatIf(WhatIfArguments),
    /// Compact every keyspace, or a range of one.
    Compact {
        #[command(flatten)]
        place: DatabasePlace,
        /// Only this keyspace.
        #[arg(long)]
        keyspace: Option<String>,
        /// First key, inclusive.
        #[arg(long, requires = "keyspace")]
        from: Option<OsString>,
        /// Last key, exclusive.
        #[arg(long, requires = "keyspace")]
        to: Option<OsString>,
    },
    /// Write every memtable to a table.
    Flush {
        #[command(flatten)]
        place: DatabasePlace,
    },
    /// Print a table, blob, log, manifest or warm-list file in readable form.
    Dump {
        /// The file.
        file: PathBuf,
        /// Print at most this many entries, values, frames, edits or blocks.
        #[arg(long)]
        limit: Option<u64>,
    },
    /// Read commands, from a person or a pipe; `help` lists them. Creates a missing database, and a
    /// missing keyspace.
    ///
    /// Ends with the status of a command that failed, if one did. If nobody reads its output any more,
    /// the commands that follow are not run, and that is an error, too.
    Shell(Shell),
    /// Find damage in a database that nobody has open, and repair it.
    Doctor(DoctorArguments),
    /// Measure a database with the workloads of db_bench.
    Bench(BenchArguments),
    /// Show a compaction policy at work, without a database.
    #[command(subcommand)]
    Simulate(Simulated),
    /// The part of the tour that is killed.
    #[command(hide = true)]
    TourWriter {
        /// Directory of the database.
        dir: PathBuf,
    },
}

/// Where a database lies.
#[derive(Args, Clone, Debug)]
pub(crate) struct DatabasePlace {
    /// Directory of the database.
    pub(crate) dir: PathBuf,
    /// Directory of its log, if that lies apart.
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
}

impl DatabasePlace {
    /// A directory that also holds the log.
    pub(crate) fn whole(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), log_dir: None }
    }
}

/// Which map of which database.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    #[command(flatten)]
    pub(crate) place: DatabasePlace,
    /// Keyspace; the default one if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,
}

/// How keys and values are given and printed.
#[derive(Args, Clone, Copy, Default, Debug)]
pub(crate) struct Form {
    /// Keys and values are hexadecimal, given and printed.
    #[arg(long)]
    pub(crate) hex: bool,
    /// Print one JSON object a line; bytes that are not UTF-8 in fields called `..._hex`.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Scan {
    #[command(flatten)]
    pub(crate) target: Target,
    /// First key, inclusive.
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// Last key, exclusive.
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
    /// Only keys that start with this.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<OsString>,
    /// At most this many.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<u64>,
    /// From the last key to the first.
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Print no values.
    #[arg(long)]
    pub(crate) keys_only: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

#[derive(Args, Debug)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How records are written in the input.
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// The input, plain or compressed with gzip or LZ4; - for standard input. A line, or a paragraph,
    /// has at most 256 MiB.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// For jsonl: take this field as the key, and the whole line as the value.
    #[arg(long, value_name = "FIELD")]
    pub(crate) key_field: Option<String>,
    /// Order of the keys: fixed when the keyspace is created.
    #[arg(long, value_enum, requires = "keyspace")]
    pub(crate) order: Option<KeyOrder>,
    /// Load past the log and all at once, at the end: faster, and nothing is stored if the input has
    /// an error.
    #[arg(long)]
    pub(crate) bulk: bool,
}

/// Formats of records.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Format {
    /// The key, a tab, and the value up to the end of the line.
    Tsv,
    /// A JSON object a line, with `key` and `value`.
    Jsonl,
    /// A Debian package index; keys are name/version/architecture.
    DebianPackages,
}

#[derive(Args, Debug)]
pub(crate) struct Shell {
    #[command(flatten)]
    pub(crate) target: Target,
    /// How the tree of the keyspace is kept in shape from now on; as recorded if not given.
    #[arg(long, value_enum)]
    pub(crate) compaction: Option<Compaction>,
    /// Open for reading only.
    #[arg(long, conflicts_with = "compaction")]
    pub(crate) read_only: bool,
    /// Size at which a memtable is flushed, in bytes.
    #[arg(long, value_name = "BYTES", conflicts_with = "read_only")]
    pub(crate) memtable_bytes: Option<u64>,
    /// Order of the keys: fixed when the keyspace is created.
    #[arg(long, value_enum, requires = "keyspace", conflicts_with = "read_only")]
    pub(crate) order: Option<KeyOrder>,
    /// The merge operator of the keyspace, fixed once given: add-u64, add-i64, min, max, set-union, or
    /// append: with the bytes between operands in hexadecimal digits, append:2c for a comma.
    #[arg(long, value_name = "NAME", value_parser = merge_operator, conflicts_with = "read_only")]
    pub(crate) merge_operator: Option<Merge>,
    /// The prefixes of keys that filters hold from now on, for scans of one prefix: first:8 for the
    /// first 8 bytes, through:2f for those up to a byte of this hexadecimal number, or none.
    #[arg(long, value_name = "RULE", conflicts_with = "read_only")]
    pub(crate) prefix_filter: Option<PrefixFilter>,
}

fn merge_operator(name: &str) -> Result<Merge, String> {
    let merge = esker::operators::by_name(&format!("esker.{}", with_lower_digits(name)));
    merge.ok_or_else(|| {
        let known = "add-u64, add-i64, min, max, set-union and append:XX";
        format!("the operators of this program are {known}, XX any hexadecimal digits")
    })
}

/// Orders of keys.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum KeyOrder {
    /// By their bytes.
    Bytewise,
    /// By their bytes, backwards: z before a.
    ReverseBytewise,
}

impl KeyOrder {
    /// The order as the database names it.
    pub(crate) fn order(self) -> Order {
        match self {
            Self::Bytewise => Order::bytewise(),
            Self::ReverseBytewise => Order::reverse_bytewise(),
        }
    }
}

/// Options of `esker what-if`.
#[derive(Args, Debug)]
pub(crate) struct WhatIfArguments {
    #[command(flatten)]
    pub(crate) place: DatabasePlace,
    /// Keyspace; the default one if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,
    /// Policies to compare with the live one, with their defaults; `none`, `fifo` and `time-window`
    /// only if they are named.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "leveled,universal,lazy,tiered,simple,leveled-by-bytes"
    )]
    pub(crate) policies: Vec<Compaction>,
    /// Size at which the others flush a memtable, from 65,536; that of the live one if not given.
    #[arg(long, value_name = "BYTES")]
    pub(crate) memtable_bytes: Option<u64>,
    /// How many flushes to replay, from 1 to 100,000.
    #[arg(long, value_name = "COUNT", default_value_t = 256)]
    pub(crate) flushes: u64,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn unknown_merge_operator_is_told_which_there_are() {
        for name in "add-u64 add-i64 min max set-union append: append:2c".split(' ') {
            assert!(merge_operator(name).is_ok(), "{name}");
        }
        let named = |name: &str| merge_operator(name).map(|merge| merge.name().to_owned());
        assert_eq!(named("append:2C0a"), named("append:2c0A"));
        assert!(named("append:2").is_err() && named("APPEND:2c").is_err());
        let expected = "the operators of this program are add-u64, add-i64, min, max, set-union \
                        and append:XX, XX any hexadecimal digits";
        assert_eq!(merge_operator("sum").unwrap_err(), expected);
    }

    #[test]
    fn scan_takes_its_options() {
        let line = "esker scan d --from a --to b --limit 3 --reverse --keys-only --hex --json";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Command::Scan(scan) = arguments.command else { panic!("{arguments:?}") };
        assert_eq!((scan.from, scan.to), (Some("a".into()), Some("b".into())));
        assert_eq!((scan.limit, scan.reverse, scan.keys_only), (Some(3), true, true));
        assert!(scan.form.hex && scan.form.json);
        assert!(Arguments::try_parse_from("esker scan d --from a --prefix b".split(' ')).is_err());
    }
}

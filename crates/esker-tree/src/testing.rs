//! What the tests of this crate share: tables made of words, and cases kept as text.
//!
//! A case is a command line, lines of input, a line of four dashes and the output; a blank line
//! ends it. `UPDATE=1` rewrites the outputs.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use esker_base::{FileId, KeyspaceId, LogId, OwnerId, SeqNo, TableId};
use esker_table::{Compression, TableProperties, TableTimes};

use crate::edit::{EditRecord, VersionEdit};
use crate::shape::{LEVEL_COUNT_MAX, RunId, RunShape, Shape};

/// Runs every case of `testdata/<name>` with `run`, which gets the command and the input.
pub(crate) fn replay(name: &str, mut run: impl FnMut(&str, &str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let is_update = std::env::var_os("UPDATE").is_some();
    let mut rewritten = Vec::new();
    for case in text.trim_end().split("\n\n") {
        let case = case.trim_end().to_owned() + "\n";
        let comment_len: usize =
            case.lines().take_while(|line| line.starts_with('#')).map(|line| line.len() + 1).sum();
        let (comment, body) = case.split_at(comment_len);
        if body.is_empty() {
            rewritten.push(comment.trim_end().to_owned());
            continue;
        }
        let (input, expected) = body.split_once("----\n").expect("a case has a line of dashes");
        let (command, lines) = input.split_once('\n').expect("a case has a command line");
        let output = run(command, lines).trim_end().to_owned();
        if !is_update {
            assert_eq!(output, expected.trim_end(), "in {name}:\n{comment}{input}");
        }
        rewritten.push(format!("{comment}{input}----\n{output}").trim_end().to_owned());
    }
    if is_update {
        std::fs::write(&path, rewritten.join("\n\n") + "\n").unwrap();
    }
}

/// Reads `64MiB`, `1.5GiB`, `300B`.
pub(crate) fn parse_bytes(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        other => panic!("{other:?} is not a unit of bytes"),
    };
    (digits.parse::<f64>().unwrap() * (1_u64 << shift) as f64) as u64
}

/// Reads `1-00000042` or, for the first owner, `42`.
pub(crate) fn parse_file_id(text: &str) -> FileId {
    let (owner, counter) = text.split_once('-').unwrap_or(("1", text));
    FileId { owner: OwnerId(owner.parse().unwrap()), counter: counter.parse().unwrap() }
}

/// Reads `#7`.
pub(crate) fn parse_run_id(text: &str) -> RunId {
    RunId(text.strip_prefix('#').expect("a run id starts with #").parse().unwrap())
}

/// Reads `L3`.
pub(crate) fn parse_level(text: &str) -> usize {
    text.strip_prefix('L').expect("a level starts with L").parse().unwrap()
}

/// A table with what a policy looks at, and something plausible for the rest.
pub(crate) fn table(id: TableId, first: &[u8], last: &[u8], bytes: u64) -> TableProperties {
    TableProperties {
        id,
        keyspace: KeyspaceId::DEFAULT,
        level: 0,
        file_bytes: bytes,
        checksum: 0x0123_4567_89ab_cdef,
        smallest_key: first.to_vec(),
        largest_key: last.to_vec(),
        seqno_min: SeqNo::new(1).unwrap(),
        seqno_max: SeqNo::new(1000).unwrap(),
        entry_count: 1000,
        tombstone_count: 0,
        key_bytes: 16_000,
        value_bytes: 100_000,
        data_block_count: 20,
        partition_count: 1,
        data_bytes: bytes,
        compression: Compression::None,
        filter_bits_per_key: 10,
        extras: esker_table::TableExtras::default(),
    }
}

/// Reads `7[a..m 64MiB]`, where after the size `entries=9` (1000 otherwise), `tombstones=500`, `replaced=5` and
/// `seqnos=3-9`, `deleted=5` and `written=9` (in seconds) may follow.
pub(crate) fn parse_table(text: &str) -> TableProperties {
    let (id, rest) = text.split_once('[').expect("a table has a bracket");
    let rest = rest.strip_suffix(']').expect("a bracket is closed");
    let mut words = rest.split(' ');
    let (first, last) = words.next().unwrap().split_once("..").expect("a table has a range");
    let bytes = parse_bytes(words.next().expect("a table has a size"));
    let id = TableId(parse_file_id(id));
    let mut table = table(id, first.as_bytes(), last.as_bytes(), bytes);
    for word in words {
        match word.split_once('=').expect("facts have a value") {
            ("entries", count) => table.entry_count = count.parse().unwrap(),
            ("tombstones", count) => table.tombstone_count = count.parse().unwrap(),
            ("replaced", count) => table.extras.replaced_count = count.parse().unwrap(),
            ("seqnos", range) => {
                let (min, max) = range.split_once('-').unwrap();
                table.seqno_min = SeqNo::new(min.parse().unwrap()).unwrap();
                table.seqno_max = SeqNo::new(max.parse().unwrap()).unwrap();
            }
            ("deleted", time) => {
                times(&mut table).oldest_tombstone = Some(1000 * time.parse::<u64>().unwrap());
            }
            ("written", time) => times(&mut table).written = 1000 * time.parse::<u64>().unwrap(),
            other => panic!("{other:?} is no fact of a table"),
        }
    }
    table
}

fn times(table: &mut TableProperties) -> &mut TableTimes {
    table.extras.times.get_or_insert_default()
}

/// Reads tables with spaces between them.
pub(crate) fn parse_tables(text: &str) -> Vec<TableProperties> {
    text.split_inclusive(']')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(parse_table)
        .collect()
}

/// Reads what `Display` of a [`Shape`] writes.
pub(crate) fn parse_shape(text: &str) -> Shape {
    let mut shape = Shape::default();
    let mut level = LEVEL_COUNT_MAX;
    for line in text.lines().map(str::trim).filter(|line| *line != "empty") {
        match line.split_once(':') {
            None => level = parse_level(line.split(' ').next().unwrap()),
            Some((run, tables)) => shape.levels[level].runs.push(RunShape {
                id: parse_run_id(run),
                tables: parse_tables(tables).into_iter().map(Arc::new).collect(),
            }),
        }
    }
    shape
}

/// Reads what `Display` of an [`EditRecord`] writes, but for options, which are text here:
/// `-` for none.
pub(crate) fn parse_record(line: &str) -> EditRecord {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<&str> = rest.split(' ').collect();
    let keyspace = KeyspaceId(words[0].parse().unwrap_or(0));
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    let unquoted = |index: usize| word(index).trim_matches('"').to_owned();
    let options = |index: usize| match word(index) {
        "-" => Vec::new(),
        text => text.as_bytes().to_vec(),
    };
    let table = |index: usize| TableId(parse_file_id(word(index)));
    let number = |index: usize| word(index).parse().unwrap();
    match name {
        "next-file-counter" => EditRecord::NextFileCounter(number(0)),
        "last-seqno" => EditRecord::LastSeqno(SeqNo::new(number(0)).unwrap()),
        "next-keyspace-id" => EditRecord::NextKeyspaceId(number(0) as u32),
        "keyspace-created" => EditRecord::KeyspaceCreated {
            keyspace,
            name: unquoted(1),
            order: unquoted(3),
            options: options(5),
        },
        "keyspace-renamed" => EditRecord::KeyspaceRenamed { keyspace, name: unquoted(1) },
        "keyspace-options" => EditRecord::KeyspaceOptions { keyspace, options: options(1) },
        "keyspace-dropped" => EditRecord::KeyspaceDropped { keyspace },
        "table-added" => {
            let mut properties = parse_table(&words[3..].join(" "));
            properties.keyspace = keyspace;
            let (level, run) = (parse_level(word(1)), parse_run_id(word(2)));
            EditRecord::TableAdded { keyspace, level, run, properties: Arc::new(properties) }
        }
        "table-removed" => EditRecord::TableRemoved { keyspace, table: table(1) },
        "table-moved" => EditRecord::TableMoved {
            keyspace,
            table: table(1),
            level: parse_level(word(2)),
            run: parse_run_id(word(3)),
        },
        "flushed-up-to" => {
            EditRecord::FlushedUpTo { keyspace, seqno: SeqNo::new(number(1)).unwrap() }
        }
        "log-added" => EditRecord::LogAdded(LogId(parse_file_id(word(0)))),
        "log-removed" => EditRecord::LogRemoved(LogId(parse_file_id(word(0)))),
        "log-durable" => {
            let offset = word(1).parse().unwrap();
            EditRecord::LogDurable { log: LogId(parse_file_id(word(0))), offset }
        }
        "closed" => EditRecord::Closed,
        other => panic!("{other:?} is not a record"),
    }
}

/// Reads records, one a line.
pub(crate) fn parse_edit(text: &str) -> VersionEdit {
    text.lines().filter(|line| !line.is_empty()).map(parse_record).collect()
}

/// Bytes as hexadecimal digits, 32 bytes a line.
pub(crate) fn hex_lines(bytes: &[u8]) -> String {
    let mut out = String::new();
    for line in bytes.chunks(32) {
        for byte in line {
            write!(out, "{byte:02x}").unwrap();
        }
        out.push('\n');
    }
    out
}

//! How near each row comes to what the machine could do: a model of the least that an operation
//! can cost, and the share of it that was reached.
//!
//! A limit counts only what no store with the same promises gets around: the call that hands a
//! record to the system, the loads that wait for each other, the bytes that are checked, packed and
//! written. Instructions, locks and the merge itself are free in it, so nobody reaches 100 percent;
//! what stands beside it is the largest part. The terms are written out in [`costs`].

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::cell::median;
use crate::engine::Result;
use crate::keys::KEY_BYTES;
use crate::machine::Machine;
use crate::process;
use crate::rows::{CacheSize, Mix, MixKind, ROWS, Row, Workload};

const BLOCK_BYTES: f64 = 4096.0;

/// Share of the bytes that is left after compression.
const PACKED_SHARE: f64 = 0.58;

const CORES: f64 = 2.0;

/// Size of the memtable, and of the part of the data that is rewritten once only.
const MEMTABLE_BYTES: f64 = (64 << 20) as f64;
const REWRITTEN_ONCE_BYTES: f64 = (256 << 20) as f64;

/// What is hot of the data where reads are Zipf-distributed, in bytes.
const HOT_BYTES: f64 = (32 << 20) as f64;

/// Loads that wait for each other in a point read from memory: the way into the table, the index,
/// the block's tags, the entry.
const LOADS_PER_READ: f64 = 4.0;

/// Reads the arguments behind `limits`, measures the machine, and writes the table.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target");
    let (mut dir, mut results, mut document) = (target.join("databases"), None, None);
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = PathBuf::from(rest.next().ok_or_else(|| format!("{flag} needs a value"))?);
        match flag.as_str() {
            "--dir" => dir = value,
            "--results" => results = Some(value),
            "--document" => document = Some(value),
            _ => return Err(format!("unknown option {flag}").into()),
        }
    }
    let results = results.ok_or("limits needs --results FILE, the results.json of a run")?;
    let results: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(results)?)?;
    let machine = Machine::measure(&dir)?;
    let text = figures(&machine) + &table(&machine, &results)?;
    match document {
        Some(document) => crate::report::insert(&document, "limits", &text),
        None => {
            use std::io::Write as _;
            Ok(write!(std::io::stdout(), "{text}")?)
        }
    }
}

/// How much data a row has.
#[derive(Clone, Copy)]
struct Sizes {
    entry_bytes: f64,
    data_bytes: f64,
}

/// Seconds of the processor that an operation costs at least, each with its name: in the thread
/// that waits for it, and in the background.
#[derive(Default)]
struct Costs {
    foreground: Vec<(&'static str, f64)>,
    background: Vec<(&'static str, f64)>,
    /// One thread at a time can do it, however many there are.
    is_serial: bool,
}

/// What a row could reach.
struct Limit {
    per_second: f64,
    binds: &'static str,
}

/// The limit of a row; `None` where there is no model.
fn limit(row: &Row, machine: &Machine, sizes: Sizes) -> Option<Limit> {
    match row.workload {
        Workload::FillSync => {
            // Writers who wait at once share a sync.
            let per_second = row.threads as f64 / machine.sync_seconds;
            return Some(Limit { per_second, binds: "sync of the device" });
        }
        Workload::OpenClean | Workload::OpenAfterKill => return None,
        _ if row.cache == CacheSize::Cold => {
            let is_alone = row.threads == 1 && !matches!(row.workload, Workload::MultiGet(_));
            let per_second = if is_alone {
                machine.reads_alone_per_second
            } else {
                machine.reads_together_per_second
            };
            return Some(Limit { per_second, binds: "reads of the device" });
        }
        _ => {}
    }
    let costs = costs(row, machine, sizes);
    let sum = |parts: &[(&str, f64)]| parts.iter().map(|part| part.1).sum::<f64>();
    let (foreground, background) = (sum(&costs.foreground), sum(&costs.background));
    let lanes = if costs.is_serial { 1.0 } else { (row.threads as f64).min(CORES) };
    let per_second = (lanes / foreground).min(CORES / (foreground + background));
    let parts = costs.foreground.iter().chain(&costs.background);
    let largest = parts.max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(Limit { per_second, binds: largest.0 })
}

fn costs(row: &Row, machine: &Machine, sizes: Sizes) -> Costs {
    let Sizes { entry_bytes, .. } = sizes;
    match row.workload {
        Workload::Fill | Workload::Overwrite | Workload::DeleteRandom => {
            write_costs(row, machine, sizes, machine.append_seconds)
        }
        Workload::FillBatch(_) => {
            write_costs(row, machine, sizes, entry_bytes * machine.write_byte_seconds)
        }
        Workload::Compact => {
            let parts = rewrite_costs(machine, entry_bytes);
            Costs { foreground: parts, ..Costs::default() }
        }
        Workload::BulkLoad => {
            let packed = entry_bytes * PACKED_SHARE;
            let parts = vec![
                ("compression", entry_bytes * machine.compress_byte_seconds),
                ("writing", packed * machine.write_byte_seconds),
                ("checksums", packed * machine.checksum_byte_seconds),
            ];
            Costs { foreground: parts, ..Costs::default() }
        }
        Workload::ReadSeq | Workload::ReadReverse => {
            let entry = ("copying the entry", entry_bytes * machine.copy_byte_seconds);
            Costs { foreground: vec![entry], ..Costs::default() }
        }
        Workload::Ycsb(Mix { reads, kind }) => {
            let share = reads as f64 / 100.0;
            let read = match kind {
                MixKind::Scan => scan_costs(machine, sizes, 50.0),
                _ => hot_read(machine),
            };
            let mut write = write_costs(row, machine, sizes, machine.append_seconds);
            if kind == MixKind::ReadModifyWrite {
                write.foreground.extend(hot_read(machine));
            }
            let scale = |parts: Vec<(&'static str, f64)>, by: f64| {
                parts.into_iter().map(move |(name, cost)| (name, cost * by))
            };
            Costs {
                foreground: scale(read, share)
                    .chain(scale(write.foreground, 1.0 - share))
                    .collect(),
                background: scale(write.background, 1.0 - share).collect(),
                is_serial: false,
            }
        }
        _ => Costs { foreground: read_costs(row, machine, sizes), ..Costs::default() },
    }
}

fn write_costs(row: &Row, machine: &Machine, sizes: Sizes, log: f64) -> Costs {
    let Sizes { entry_bytes, data_bytes } = sizes;
    let load = machine.dependent_load(data_bytes.min(MEMTABLE_BYTES));
    // An inner node and a leaf; keys that ascend find the leaf of the key before.
    let loads = if row.is_sequential { 0.0 } else { 2.0 };
    let is_rewritten = !row.is_sequential;
    let levels = (data_bytes / REWRITTEN_ONCE_BYTES).log10().max(0.0);
    let rewrites = if is_rewritten { 1.0 + 5.0 * levels } else { 0.0 };
    let flush = entry_bytes * (machine.checksum_byte_seconds + machine.write_byte_seconds);
    let rewrite: f64 = rewrite_costs(machine, entry_bytes).iter().map(|part| part.1).sum();
    Costs {
        foreground: vec![
            ("handing the log to the system", log),
            ("loads in the memtable", loads * load),
        ],
        background: vec![("flush", flush), ("compaction", rewrites * rewrite)],
        is_serial: true,
    }
}

/// An entry read, checked, unpacked, packed, checked and written.
fn rewrite_costs(machine: &Machine, entry_bytes: f64) -> Vec<(&'static str, f64)> {
    let packed = entry_bytes * PACKED_SHARE;
    vec![
        ("compression", entry_bytes * machine.compress_byte_seconds),
        ("unpacking", entry_bytes * machine.decompress_byte_seconds),
        ("writing", packed * machine.write_byte_seconds),
        ("reading", packed * machine.read_block_seconds / BLOCK_BYTES),
        ("checksums", 2.0 * packed * machine.checksum_byte_seconds),
    ]
}

fn hot_read(machine: &Machine) -> Vec<(&'static str, f64)> {
    vec![("loads", LOADS_PER_READ * machine.dependent_load(HOT_BYTES))]
}

fn scan_costs(machine: &Machine, sizes: Sizes, entries: f64) -> Vec<(&'static str, f64)> {
    vec![
        ("loads", LOADS_PER_READ * machine.dependent_load(sizes.data_bytes)),
        ("copying entries", entries * sizes.entry_bytes * machine.copy_byte_seconds),
    ]
}

fn read_costs(row: &Row, machine: &Machine, sizes: Sizes) -> Vec<(&'static str, f64)> {
    let Sizes { data_bytes, .. } = sizes;
    let load = machine.dependent_load(data_bytes);
    let mut parts = match row.workload {
        Workload::ReadHot => hot_read(machine),
        // A line of the filter, and the way to it.
        Workload::ReadMissing => vec![("loads", 2.0 * machine.dependent_load(data_bytes / 64.0))],
        Workload::MultiGet(_) => vec![("loads", LOADS_PER_READ * machine.independent_load_seconds)],
        Workload::Seek(entries) | Workload::SeekReverse(entries) => {
            scan_costs(machine, sizes, entries as f64)
        }
        _ => vec![("loads", LOADS_PER_READ * load)],
    };
    if row.cache == CacheSize::Small {
        let packed = BLOCK_BYTES * PACKED_SHARE;
        // The cache holds a ninth.
        let misses = 8.0 / 9.0;
        parts.push(("reading from the system", misses * machine.read_block_seconds));
        parts.push(("checksum of a block", misses * packed * machine.checksum_byte_seconds));
        parts.push(("unpacking a block", misses * BLOCK_BYTES * machine.decompress_byte_seconds));
    }
    parts
}

/// The machine's own figures.
fn figures(machine: &Machine) -> String {
    let nanos = |seconds: f64| format!("{:.2} ns", seconds * 1e9);
    let rate = |byte_seconds: f64| format!("{:.1} GB/s", 1e-9 / byte_seconds);
    let mut rows = vec![
        ("`pwrite` of 140 bytes to a file".to_owned(), nanos(machine.append_seconds)),
        ("`pwrite` of 1 MiB".to_owned(), rate(machine.write_byte_seconds)),
        ("`pread` of 4 KiB from the page cache".to_owned(), nanos(machine.read_block_seconds)),
        (
            "`pwrite` and `fdatasync` over written space".to_owned(),
            format!("{:.0} us", machine.sync_seconds * 1e6),
        ),
        (
            "the same by 8 threads, each in its file".to_owned(),
            format!("{:.0} a second", machine.syncs_of_eight_per_second),
        ),
        ("independent load from 512 MiB".to_owned(), nanos(machine.independent_load_seconds)),
        ("copy in memory".to_owned(), rate(machine.copy_byte_seconds)),
        ("XXH3-64 of 4 KiB".to_owned(), rate(machine.checksum_byte_seconds)),
        ("LZ4, compress".to_owned(), rate(machine.compress_byte_seconds)),
        ("LZ4, unpack".to_owned(), rate(machine.decompress_byte_seconds)),
        (
            "4 KiB reads of the device, 1 and 32 at a time".to_owned(),
            format!(
                "{:.0} and {:.0} a second",
                machine.reads_alone_per_second, machine.reads_together_per_second
            ),
        ),
    ];
    for &(bytes, seconds) in &machine.dependent_loads {
        rows.push((format!("dependent load from {} KiB", bytes >> 10), nanos(seconds)));
    }
    let mut out = format!("- machine: {}\n\n| what | figure |\n|---|---|\n", process::machine());
    for (name, figure) in rows {
        writeln!(out, "| {name} | {figure} |").expect("a string takes everything");
    }
    out
}

/// Each row's limit beside what `results` say of Esker.
fn table(machine: &Machine, results: &serde_json::Value) -> Result<String> {
    let count = results["count"].as_f64().ok_or("the results have no count")?;
    let value_bytes = results["value_bytes"].as_f64().ok_or("the results have no value_bytes")?;
    let entry_bytes = KEY_BYTES as f64 + value_bytes;
    let sizes = Sizes { entry_bytes, data_bytes: count * entry_bytes };
    let cells = results["cells"].as_array().ok_or("the results have no cells")?;
    let mut out = String::from(
        "\n| row | limit, a second | Esker | reached | what binds |\n|---|---:|---:|---:|---|\n",
    );
    for row in ROWS {
        let rate = |cell: &serde_json::Value| {
            let is_row = cell["row"] == row.name && cell["engine"] == "esker";
            is_row.then(|| Some(cell["operations"].as_f64()? / cell["seconds"].as_f64()?))?
        };
        let rates: Vec<f64> = cells.iter().filter_map(rate).collect();
        let Some(limit) = limit(row, machine, sizes) else {
            continue;
        };
        if rates.is_empty() {
            continue;
        }
        let rate = median(rates);
        writeln!(
            out,
            "| {} | {:.0}k | {:.0}k | {:.0} % | {} |",
            row.name,
            limit.per_second / 1e3,
            rate / 1e3,
            100.0 * rate / limit.per_second,
            limit.binds
        )?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            append_seconds: 300e-9,
            write_byte_seconds: 0.5e-9,
            read_block_seconds: 800e-9,
            sync_seconds: 100e-6,
            syncs_of_eight_per_second: 20_000.0,
            dependent_loads: vec![(512 << 10, 5e-9), (2 << 30, 300e-9)],
            independent_load_seconds: 20e-9,
            copy_byte_seconds: 0.1e-9,
            checksum_byte_seconds: 0.03e-9,
            compress_byte_seconds: 0.8e-9,
            decompress_byte_seconds: 0.2e-9,
            reads_alone_per_second: 10_000.0,
            reads_together_per_second: 100_000.0,
        }
    }

    fn limit_of(name: &str) -> Limit {
        let sizes = Sizes { entry_bytes: 116.0, data_bytes: 116e6 };
        limit(crate::rows::named(name).unwrap(), &machine(), sizes).unwrap()
    }

    #[test]
    fn the_limit_of_a_fill_is_its_call_of_the_system() {
        let fill = limit_of("fillseq");
        assert_eq!(fill.binds, "handing the log to the system");
        assert!((fill.per_second - 1.0 / 300e-9).abs() < 1.0, "{}", fill.per_second);
        assert!(limit_of("fillrandom").per_second < fill.per_second);
        assert!(limit_of("fillrandom").per_second < limit_of("fillbatch(1000)").per_second);
    }

    #[test]
    fn writers_who_wait_share_a_sync() {
        assert!((limit_of("fillsync").per_second - 10_000.0).abs() < 1e-6);
        assert!((limit_of("fillsync, 8 threads").per_second - 80_000.0).abs() < 1e-6);
    }

    #[test]
    fn a_small_cache_and_more_entries_lower_a_limit_and_threads_raise_it() {
        let all = limit_of("readrandom, all in cache").per_second;
        assert!(limit_of("readrandom, small cache").per_second < all);
        assert!(
            (limit_of("readrandom, all in cache, 2 threads").per_second / all - 2.0).abs() < 1e-9
        );
        assert!(
            limit_of("seekrandom, next 100").per_second
                < limit_of("seekrandom, next 10").per_second
        );
    }

    #[test]
    fn what_binds_a_cold_row_is_the_device() {
        assert_eq!(limit_of("cold readrandom").per_second, 10_000.0);
        assert_eq!(limit_of("cold readrandom, 8 threads").per_second, 100_000.0);
        assert_eq!(limit_of("cold multiget(32)").binds, "reads of the device");
    }

    #[test]
    fn rows_stand_beside_what_was_measured() {
        let results = serde_json::json!({"count": 1e6, "value_bytes": 100, "cells": [
            {"row": "fillsync", "engine": "esker", "operations": 5000, "seconds": 1.0},
            {"row": "fillsync", "engine": "fjall", "operations": 9000, "seconds": 1.0},
        ]});
        let table = table(&machine(), &results).unwrap();
        assert!(
            table.ends_with("| fillsync | 10k | 5k | 50 % | sync of the device |\n"),
            "{table}"
        );
    }
}

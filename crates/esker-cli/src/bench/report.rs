//! Prints measurements: a table for people, or one JSON object per line.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::failure::Result;
use crate::text::grouped;

use super::arguments::{BenchArguments, Benchmark};
use super::reading::Reading;
use super::work::Work;

/// One completed benchmark.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) benchmark: Benchmark,
    pub(super) work: Work,
    /// The meters before it, after it, and when background work had settled.
    pub(super) before: Reading,
    pub(super) after: Reading,
    pub(super) settled: Reading,
    pub(super) peak_memory_bytes: Option<u64>,
    /// Everything in the directory, including space reserved for the log.
    pub(super) dir_bytes: u64,
    pub(super) table_bytes: u64,
    pub(super) blob_bytes: u64,
    pub(super) blob_garbage_bytes: u64,
    pub(super) run_count: usize,
}

/// The reported quantiles, with their names.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// Above the columns of [`Printer::text`].
const HEADER: &str = "benchmark              ops/s   settled/s   p50 us      p90      p99    p99.9       \
                      max  cpu us  w-amp peak MB disk MB settle s runs";

impl Row {
    fn elapsed(&self) -> Duration {
        self.after.now - self.before.now
    }

    fn settle_time(&self) -> Duration {
        self.settled.now - self.after.now
    }

    fn rate(&self, duration: Duration) -> f64 {
        self.work.operations as f64 / duration.as_secs_f64().max(1e-9)
    }

    fn processor_micros(&self, until: &Reading) -> f64 {
        let time = until.processor.saturating_sub(self.before.processor);
        time.as_secs_f64() * 1e6 / self.work.operations.max(1) as f64
    }

    /// Bytes written per byte of the user, as counted by the system and by the engine.
    fn write_amplification(&self) -> (Option<f64>, Option<f64>) {
        let user = self.work.user_bytes as f64;
        let ratio = |written: u64| (0.0 < user).then(|| written as f64 / user);
        let process = self.settled.process_bytes.zip(self.before.process_bytes);
        let [before, after] = [&self.before, &self.settled].map(|r| r.counters.written_bytes());
        let engine = after.saturating_sub(before);
        (process.and_then(|(after, before)| ratio(after - before)), ratio(engine))
    }
}

/// Prints rows as they come.
pub(super) struct Printer<'a> {
    out: &'a mut dyn Write,
    arguments: &'a BenchArguments,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, arguments: &'a BenchArguments) -> Self {
        Self { out, arguments }
    }

    pub(super) fn head(&mut self) -> Result<()> {
        if self.arguments.json {
            return Ok(());
        }
        let BenchArguments { num, key_size, value_size, threads, durability, .. } = self.arguments;
        writeln!(
            self.out,
            "{} entries of {key_size}+{value_size} bytes, {threads} thread(s), cache {} MB, \
             memtable {} MB, durability {durability:?}, compression {:?}",
            grouped(*num),
            megabytes(self.arguments.cache_bytes),
            megabytes(self.arguments.memtable_bytes),
            self.arguments.compression,
        )?;
        writeln!(self.out, "{HEADER}")?;
        Ok(self.out.flush()?)
    }

    pub(super) fn row(&mut self, row: &Row) -> Result<()> {
        if self.arguments.json {
            self.json(row)?
        } else {
            self.text(row)?
        }
        Ok(self.out.flush()?)
    }

    fn text(&mut self, row: &Row) -> Result<()> {
        let latencies = &row.work.latencies;
        let rate = |duration| grouped(row.rate(duration) as u64);
        write!(self.out, "{:<16} {:>11}", row.benchmark.name(), rate(row.elapsed()))?;
        write!(self.out, " {:>11}", rate(row.elapsed() + row.settle_time()))?;
        for (_, quantile) in QUANTILES {
            let micros = (!latencies.is_empty()).then(|| latencies.micros_at(quantile));
            write!(self.out, " {:>8}", number(micros))?;
        }
        let longest = (!latencies.is_empty()).then(|| latencies.micros_max());
        // The system does not count writes to mapped memory, nor the engine other writes of the
        // process: the larger count is nearer to the truth.
        let (process, engine) = row.write_amplification();
        let written = process.into_iter().chain(engine).reduce(f64::max);
        writeln!(
            self.out,
            " {:>9} {:>7.2} {:>6} {:>7} {:>7} {:>8.2} {:>4}",
            number(longest),
            row.processor_micros(&row.settled),
            number(written),
            row.peak_memory_bytes.map_or_else(|| "-".into(), |bytes| megabytes(bytes).to_string()),
            megabytes(row.dir_bytes),
            row.settle_time().as_secs_f64(),
            row.run_count,
        )?;
        if self.arguments.blob_threshold.is_some() {
            writeln!(
                self.out,
                "    tables {} MB, blob files {} MB, {:.1} % of them garbage",
                megabytes(row.table_bytes),
                megabytes(row.blob_bytes),
                row.blob_garbage_bytes as f64 * 100.0 / row.blob_bytes.max(1) as f64,
            )?;
        }
        if self.arguments.histogram {
            for (end, count) in latencies.buckets() {
                writeln!(self.out, "    up to {end:>12.2} us {:>14}", grouped(count))?;
            }
        }
        let per_second = latencies.per_second();
        if let (true, Some(least)) = (self.arguments.series, per_second.iter().min()) {
            writeln!(self.out, "    each second, at least {}:", grouped(*least))?;
            for ten in per_second.chunks(10) {
                let ten: Vec<String> =
                    ten.iter().map(|count| format!("{:>9}", grouped(*count))).collect();
                writeln!(self.out, "    {}", ten.join(" "))?;
            }
        }
        Ok(())
    }

    fn json(&mut self, row: &Row) -> Result<()> {
        let BenchArguments { num, key_size, value_size, threads, cache_bytes, .. } = self.arguments;
        let (process_amplification, engine_amplification) = row.write_amplification();
        let mut object = json!({
            "benchmark": row.benchmark.name(),
            "num": num, "key_size": key_size, "value_size": value_size, "threads": threads,
            "cache_bytes": cache_bytes, "memtable_bytes": self.arguments.memtable_bytes,
            "durability": format!("{:?}", self.arguments.durability).to_lowercase(),
            "compression": format!("{:?}", self.arguments.compression).to_lowercase(),
            "operations": row.work.operations, "found": row.work.found,
            "seconds": row.elapsed().as_secs_f64(),
            "settle_seconds": row.settle_time().as_secs_f64(),
            "ops_per_second": row.rate(row.elapsed()),
            "ops_per_second_settled": row.rate(row.elapsed() + row.settle_time()),
            "cpu_seconds_per_million": row.processor_micros(&row.after),
            "cpu_seconds_per_million_settled": row.processor_micros(&row.settled),
            "user_bytes": row.work.user_bytes,
            "write_amplification": process_amplification,
            "write_amplification_engine": engine_amplification,
            "counters": counters(row),
            "peak_memory_bytes": row.peak_memory_bytes,
            "dir_bytes": row.dir_bytes, "table_bytes": row.table_bytes,
            "blob_bytes": row.blob_bytes, "blob_garbage_bytes": row.blob_garbage_bytes,
            "run_count": row.run_count,
        });
        if let Value::Object(object) = &mut object {
            self.json_latencies(row, object);
        }
        writeln!(self.out, "{object}")?;
        Ok(())
    }

    fn json_latencies(&self, row: &Row, object: &mut Map<String, Value>) {
        let latencies = &row.work.latencies;
        if latencies.is_empty() {
            return;
        }
        for (name, quantile) in QUANTILES {
            object.insert(format!("{name}_micros"), latencies.micros_at(quantile).into());
        }
        object.insert("max_micros".into(), latencies.micros_max().into());
        if self.arguments.histogram {
            object.insert("histogram_micros".into(), json!(latencies.buckets()));
        }
        if self.arguments.series {
            object.insert("per_second".into(), json!(latencies.per_second()));
        }
    }
}

/// What the engine counted from before the benchmark until it had settled. A benchmark that reopens
/// the database has fewer counts after it than before, and shows none.
fn counters(row: &Row) -> Map<String, Value> {
    let (before, after) = (row.before.counters.named(), row.settled.counters.named());
    let each = before.into_iter().zip(after);
    each.map(|((name, before), (_, after))| (name.to_owned(), after.saturating_sub(before).into()))
        .collect()
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value < 1000.0 => format!("{value:.2}"),
        Some(value) => grouped(value as u64),
    }
}

const fn megabytes(bytes: u64) -> u64 {
    bytes.div_ceil(1_000_000)
}

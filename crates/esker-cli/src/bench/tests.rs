//! Tests of the benchmark's own parts, and of every benchmark on a small database.

use clap::Parser as _;
use esker_base::HashSet;

use super::arguments::BenchArguments;
use super::keys::{Keys, Order};
use super::random::{Random, Zipf};
use super::values::Values;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: BenchArguments,
}

fn run(line: &str) -> Result<Vec<serde_json::Value>, String> {
    let words = std::iter::once("bench").chain(line.split_whitespace());
    let arguments = Line::try_parse_from(words).map_err(|error| error.to_string())?.arguments;
    let mut out = Vec::new();
    super::run(&arguments, &mut out).map_err(|failure| failure.to_string())?;
    let text = String::from_utf8(out).unwrap();
    Ok(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn every_benchmark_does_its_operations() {
    let list = "fillsync,fillbatch,fillseq,fillrandom,overwrite,readrandom,readmissing,readhot,\
                multireadrandom,seekrandom,seekreverse,readseq,readreverse,readwhilewriting,\
                compact,open,deleterandom";
    let line = format!(
        "--benchmarks {list} --num 3000 --reads 1600 --memtable-bytes 65536 --threads 2 --json --series"
    );
    let rows = run(&line).unwrap();
    let operations: Vec<_> = rows.iter().map(|row| row["operations"].as_u64().unwrap()).collect();
    let expected = [30, 3000, 3000, 3000, 3000, 1600, 1600, 1600, 1600, 160, 160, 6000, 6000, 1600];
    assert_eq!(operations[..14], expected);
    assert!(3000 <= operations[14]);
    assert_eq!(operations[15..], [5, 3000]);
    assert_eq!(rows[9]["found"].as_u64().map(|found| 1500 < found), Some(true));
    assert_eq!(rows[3]["user_bytes"], 3000 * 116);
    assert!(rows[3]["write_amplification_engine"].as_f64().unwrap() > 1.0);
    assert_eq!(rows[3]["counters"]["write_operations"], 3000);
    assert!(rows[3]["per_second"].is_array());
    assert!(rows.iter().all(|row| row["ops_per_second"].as_f64().unwrap() > 0.0));
}

#[test]
fn values_from_a_threshold_on_lie_in_blob_files_with_little_garbage() {
    let dir = std::env::temp_dir().join(format!("esker-benchmark-blobs-{}", std::process::id()));
    let common = format!(
        "--benchmarks fillrandom,overwrite,readrandom --num 3000 --value-size 1000 \
         --memtable-bytes 262144 --compression none --json --dir {}",
        dir.display()
    );
    let rows = run(&format!("{common} --blob-threshold 1000")).unwrap();
    for row in &rows[..2] {
        let bytes = |name: &str| row[name].as_u64().unwrap();
        assert!(2_500_000 < bytes("blob_bytes") && bytes("table_bytes") < 300_000, "{row}");
        assert!(bytes("blob_garbage_bytes") * 100 <= bytes("blob_bytes") * 30, "{row}");
    }
    assert_eq!(rows[2]["found"], 3000);
    assert_eq!(run(&common).unwrap()[0]["blob_bytes"], 0);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_database_that_stays_is_read_by_a_later_run() {
    let dir = std::env::temp_dir().join(format!("esker-benchmark-test-{}", std::process::id()));
    for fill in ["fillseq", "fillrandom"] {
        let common = format!("--num 500 --json --dir {}", dir.display());
        run(&format!("--benchmarks {fill} {common}")).unwrap();
        let rows = run(&format!("--benchmarks readrandom {common}")).unwrap();
        assert_eq!(rows[0]["found"], 500, "{fill}");
        // Other values are expected than were written, and the first read is checked.
        let error = run(&format!("--benchmarks readrandom {common} --value-size 99")).unwrap_err();
        assert!(error.contains("is wrong"), "{error}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn options_that_make_no_sense_are_refused() {
    assert!(run("--key-size 7").unwrap_err().contains("from 8 to 65535"));
    assert!(run("--num 0").unwrap_err().contains("--num must not be 0"));
    assert!(run("--reads 0").unwrap_err().contains("--reads must not be 0"));
    assert!(run("--threads 4097").unwrap_err().contains("and must be at most 4096"));
    let many = format!("--multiget-size {}", u64::MAX);
    assert!(run(&many).unwrap_err().contains("and must be at most 1048576"));
    assert!(run("--benchmarks fillslow").unwrap_err().contains("fillslow"));
}

#[test]
fn keys_differ_and_missing_ones_are_none_of_them() {
    for order in [Order::Hashed, Order::Ascending] {
        for size in [8, 16, 37] {
            let keys = Keys::new(order, 1000, size, 1);
            let mut key = keys.buffer();
            let mut seen = HashSet::default();
            let mut last = Vec::new();
            for index in 0..1000 {
                keys.write(index, &mut key);
                assert!(seen.insert(key.clone()));
                assert!(order == Order::Hashed || last <= key);
                last.clone_from(&key);
            }
            for index in 0..1000 {
                keys.write_missing(index, &mut key);
                assert!(!seen.contains(&key));
            }
        }
    }
}

#[test]
fn values_repeat_one_half() {
    for size in [1, 2, 99, 100, 101, 4096] {
        let values = Values::new(size, 7);
        let value = values.of(42);
        assert_eq!((value.len(), value), (size, values.of(42)));
        let half = size.min(100).div_ceil(2);
        assert_eq!(value[..size.min(100) - half], value[half..size.min(100)]);
    }
    assert_ne!(Values::new(100, 7).of(42), Values::new(100, 7).of(43));
}

#[test]
fn hot_keys_are_as_hot_as_zipf_says() {
    let zipf = Zipf::new(1000);
    let mut random = Random::new(3);
    let mut counts = vec![0u32; 1000];
    for _ in 0..100_000 {
        counts[zipf.draw(&mut random) as usize] += 1;
    }
    // The sum of 1 / r^0.99 for r from 1 to 1000 is 7.73.
    assert!((12_400..13_500).contains(&counts[0]), "{}", counts[0]);
    assert!((6_200..6_900).contains(&counts[1]), "{}", counts[1]);
    let tail: u32 = counts[500..].iter().sum();
    assert!((8_000..10_500).contains(&tail), "{tail}");
}

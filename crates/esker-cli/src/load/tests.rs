//! Loading into a sink that keeps everything, to see what is stored when an input fails.

use super::*;

#[derive(Default)]
struct Remembered {
    keys: Vec<String>,
    batches: usize,
}

impl Sink for Remembered {
    fn store(&mut self, records: &[Record]) -> std::result::Result<(), esker::Error> {
        self.batches += 1;
        let key = |record: &Record| String::from_utf8_lossy(&record.key).into_owned();
        self.keys.extend(records.iter().map(key));
        Ok(())
    }

    fn what_stays(&self, count: u64) -> String {
        all_stay(count)
    }
}

fn load(text: &str) -> (Result<Totals>, Remembered) {
    let mut sink = Remembered::default();
    let mut records = tsv::Tsv::new(text.as_bytes());
    let result = store(&mut records, &mut sink, "in.tsv", &ProgressBar::hidden());
    (result, sink)
}

#[test]
fn every_record_is_stored_in_batches() {
    let text: String = (0..2_500).map(|n| format!("{n:04}\tvalue\n")).collect();
    let (totals, sink) = load(&text);
    assert_eq!(totals.unwrap(), Totals { records: 2_500, bytes: 2_500 * 9 });
    assert_eq!(sink.keys.len(), 2_500);
    assert_eq!(sink.batches, 3);
    assert_eq!((sink.keys[0].as_str(), sink.keys[2_499].as_str()), ("0000", "2499"));
}

#[test]
fn large_values_end_a_batch() {
    let text = format!("a\t{0}\nb\t{0}\nc\t{0}\n", "x".repeat(700 << 10));
    let (totals, sink) = load(&text);
    assert_eq!(totals.unwrap().records, 3);
    assert_eq!(sink.batches, 2);
}

#[test]
fn error_names_file_and_line_and_what_is_stored() {
    let (result, sink) = load("a\t1\nb\t2\nno tab\nc\t3\n");
    assert_eq!(
        result.unwrap_err().to_string(),
        "in.tsv: line 3: there is no tab between key and value (2 records before it are stored)"
    );
    assert_eq!(sink.keys, ["a", "b"]);
}

#[test]
fn key_over_the_limit_names_its_line() {
    let text = format!("a\t1\n{}\t2\n", "k".repeat(KEY_LEN_MAX + 1));
    let (result, sink) = load(&text);
    assert_eq!(
        result.unwrap_err().to_string(),
        "in.tsv: line 2: the key has 65536 bytes, and at most 65535 are allowed (1 records before \
         it are stored)"
    );
    assert_eq!(sink.keys, ["a"]);
}

#[test]
fn summary_has_count_size_and_rate() {
    let totals = Totals { records: 63_000, bytes: 50 << 20 };
    assert_eq!(
        totals.summary(2.0),
        "loaded 63,000 records, 50.0 MiB of keys and values, in 2.0 s: 31,500 records a second"
    );
}

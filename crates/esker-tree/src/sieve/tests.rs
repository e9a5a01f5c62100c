//! The sieve: replayed from text, against the definition for every small case, and over random
//! histories of compactions.

use std::fmt::Write as _;

use esker_base::expiry_of;
use esker_base::limits::VALUE_LEN_MAX;

use super::*;
use crate::filter::{
    CompactionFilter, CompactionFilterFactory, Filter, FilterContext, FilterFailure,
};
use crate::gc::Readers;
use crate::operator::{Merge, MergeFailure, MergeOperator, Merger};
use crate::test_random::TestRandom;

/// Appends operands with a comma. Fails for the operand `bad`; panics for `panic`.
pub(crate) struct Commas {
    pub(crate) folds: bool,
}

impl MergeOperator for Commas {
    fn name(&self) -> &str {
        "commas"
    }

    fn merge(
        &self,
        _key: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        assert!(!operands.contains(&b"panic".as_slice()), "as asked");
        if operands.contains(&b"bad".as_slice()) {
            return Err(MergeFailure::new("an operand is bad"));
        }
        let all: Vec<&[u8]> = existing.into_iter().chain(operands.iter().copied()).collect();
        out.extend(all.join(&b','));
        Ok(())
    }

    fn fold_operands(
        &self,
        key: &[u8],
        operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<bool, MergeFailure> {
        if self.folds {
            self.merge(key, None, operands, out)?;
        }
        Ok(self.folds)
    }
}

/// Removes the value `remove`, changes `change`, fails for `fail` and panics for `panic`.
pub(crate) struct ByValue;

impl CompactionFilterFactory for ByValue {
    fn name(&self) -> &str {
        "by value"
    }

    fn create(&self, _context: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        Box::new(Self)
    }
}

impl CompactionFilter for ByValue {
    fn filter(&mut self, _key: &[u8], value: &[u8]) -> Result<FilterDecision, FilterFailure> {
        Ok(match value {
            b"remove" => FilterDecision::Remove,
            b"change" => FilterDecision::Change(b"changed".to_vec()),
            b"fail" => return Err(FilterFailure::new("it does not like the value")),
            b"panic" => panic!("as asked"),
            _ => FilterDecision::Keep,
        })
    }
}

/// The time of every reader, unless a test says otherwise.
const NOW: u64 = 1000;

/// The bytes of an expiring put, from `1500:value`.
fn expiring(text: &str) -> Vec<u8> {
    let (expiry, value) = text.split_once(':').unwrap();
    [&expiry.parse::<u64>().unwrap().to_le_bytes()[..], value.as_bytes()].concat()
}

fn context(operator: Option<bool>) -> ReadContext {
    let merge = operator.map(|folds| Merge::new(Commas { folds }));
    ReadContext { merge, now_millis: NOW, ..ReadContext::default() }
}

fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number).unwrap()
}

/// (sequence number, kind, value)
type Stored = (u64, EntryKind, Vec<u8>);

#[derive(Default)]
struct Written(Vec<(Vec<u8>, Stored)>);

impl Sink for Written {
    fn add(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<(), JobError> {
        let stored = (key.seqno().get(), key.kind(), value.to_vec());
        if let Some((user_key, newer)) = self.0.last() {
            assert!(user_key != key.user_key || stored.0 < newer.0, "entries descend");
        }
        self.0.push((key.user_key.to_vec(), stored));
        Ok(())
    }
}

/// Runs one case of `testdata/gc/operands.txt` or `testdata/gc/filters.txt`.
fn run_case(command: &str, lines: &str) -> String {
    let (mut snapshots, mut visible, mut older, mut zero) = (Vec::new(), 0, false, false);
    let mut operator = Some(true);
    let mut filters = false;
    for word in command.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("snapshots", list) => {
                snapshots = list.split(',').map(|n| seqno(n.parse().unwrap())).collect();
            }
            ("visible", number) => visible = number.parse().unwrap(),
            ("older-outside", "") => older = true,
            ("last-level", "") => zero = true,
            ("filter", "") => filters = true,
            ("operator", "none") => operator = None,
            ("operator", "no-folds") => operator = Some(false),
            other => panic!("unknown word {other:?}"),
        }
    }
    let gc = Gc::new(Readers::new(&snapshots, seqno(visible)), zero);
    let context = context(operator);
    let filter_context = FilterContext {
        keyspace: "default",
        level: 1,
        is_last_level: zero,
        is_full: false,
        is_manual: false,
    };
    let filter = filters.then(|| RunningFilter::start(&Filter::new(ByValue), &filter_context));
    let filter = filter.map(Result::unwrap);
    let mut sieve = Sieve::new(gc, &context, |_: &[u8]| older).with_filter(filter);
    let mut written = Written::default();
    let mut key = "";
    for line in lines.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] != key {
            sieve.start_key(&mut written).unwrap();
            key = words[0];
        }
        let kind = (0..=6).filter_map(EntryKind::from_byte).find(|k| k.to_string() == words[2]);
        let entry =
            InternalKey::new(key.as_bytes(), seqno(words[1].parse().unwrap()), kind.unwrap());
        let value = match (entry.kind(), words.get(3)) {
            (EntryKind::ExpiringPut, Some(text)) => expiring(text),
            (_, text) => text.copied().unwrap_or("").as_bytes().to_vec(),
        };
        if let Err(error) = sieve.take(entry, &value, &mut written) {
            return error.to_string();
        }
    }
    sieve.end_key(&mut written).unwrap();
    let mut out = String::new();
    for (key, (number, kind, value)) in written.0 {
        let (key, from) = (key.escape_ascii(), if kind == EntryKind::ExpiringPut { 8 } else { 0 });
        let expiry = expiry_of(&value).filter(|_| from > 0).map(|expiry| format!("{expiry}:"));
        let value = format!("{}{}", expiry.unwrap_or_default(), value[from..].escape_ascii());
        writeln!(out, "{}", format!("{key} {number} {kind} {value}").trim_end()).unwrap();
    }
    writeln!(out, "dropped {}", sieve.entries_dropped()).unwrap();
    out
}

#[test]
fn operands_and_single_deletes_match_testdata() {
    crate::testing::replay("gc/operands.txt", run_case);
}

#[test]
fn filters_match_testdata() {
    crate::testing::replay("gc/filters.txt", run_case);
}

/// Makes results of 4 GiB, none of which is looked at.
struct Huge;

impl MergeOperator for Huge {
    fn name(&self) -> &str {
        "huge"
    }

    fn merge(
        &self,
        _key: &[u8],
        _existing: Option<&[u8]>,
        _operands: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeFailure> {
        *out = vec![0; VALUE_LEN_MAX as usize + 1];
        Ok(())
    }

    fn is_associative(&self) -> bool {
        true
    }
}

impl CompactionFilterFactory for Huge {
    fn name(&self) -> &str {
        "huge"
    }

    fn create(&self, _context: &FilterContext<'_>) -> Box<dyn CompactionFilter> {
        Box::new(Self)
    }
}

impl CompactionFilter for Huge {
    fn filter(&mut self, _key: &[u8], _value: &[u8]) -> Result<FilterDecision, FilterFailure> {
        Ok(FilterDecision::Change(vec![0; VALUE_LEN_MAX as usize - 7]))
    }
}

/// A table takes none of them: a job that tried to write one panicked, again at each attempt.
#[test]
fn results_that_are_longer_than_values_may_be_are_failures() {
    let merge = Merge::new(Huge);
    let merger = Merger::new(Some(&merge), b"k").unwrap();
    let mut out = Vec::new();
    let what = "the merge operator \"huge\" failed for the key \"k\": the result has 4294967296 \
                bytes, and at most 4294967295 are allowed";
    for error in
        [merger.merge(None, &[b"a"], &mut out).err(), merger.fold(&[b"a", b"b"], &mut out).err()]
    {
        assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(what));
    }
    let context = FilterContext {
        keyspace: "default",
        level: 1,
        is_last_level: true,
        is_full: true,
        is_manual: true,
    };
    let mut filter = RunningFilter::start(&Filter::new(Huge), &context).unwrap();
    assert!(filter.ask(b"k", b"v", 0).is_ok(), "it just fits");
    let Err(error) = filter.ask(b"k", b"v", 8) else { panic!("it fits") };
    let what = "the value has 4294967288 bytes, and at most 4294967287 are allowed";
    assert_eq!(error.failure, FilterFailure::new(what), "behind its expiry it does not");
}

/// What a reader at `at` finds among entries of one key, the newest first.
fn read<'a>(entries: impl IntoIterator<Item = &'a Stored>, at: u64) -> Option<Vec<u8>> {
    read_as_of(entries, at, NOW)
}

/// As [`read`], at another time.
fn read_as_of<'a>(
    entries: impl IntoIterator<Item = &'a Stored>,
    at: u64,
    now: u64,
) -> Option<Vec<u8>> {
    let mut operands: Vec<&[u8]> = Vec::new();
    let mut base = None;
    for (_, kind, value) in entries.into_iter().filter(|entry| entry.0 <= at) {
        match kind {
            EntryKind::Merge => operands.push(value),
            EntryKind::Put => {
                base = Some(value.as_slice());
                break;
            }
            EntryKind::ExpiringPut => {
                base = (now < expiry_of(value).unwrap()).then_some(&value[8..]);
                break;
            }
            _ => break,
        }
    }
    operands.extend(base);
    operands.reverse();
    (!operands.is_empty()).then(|| operands.join(&b','))
}

fn sift(
    entries: &[Stored],
    readers: &Readers,
    zeroes: bool,
    operator: Option<bool>,
    older: bool,
) -> Vec<Stored> {
    sift_as_of(entries, readers, zeroes, (operator, NOW), older)
}

/// As [`sift`], at another time.
fn sift_as_of(
    entries: &[Stored],
    readers: &Readers,
    zeroes: bool,
    (operator, now_millis): (Option<bool>, u64),
    older: bool,
) -> Vec<Stored> {
    let context = ReadContext { now_millis, ..context(operator) };
    let mut sieve = Sieve::new(Gc::new(readers.clone(), zeroes), &context, |_: &[u8]| older);
    let mut written = Written::default();
    sieve.start_key(&mut written).unwrap();
    for (number, kind, value) in entries {
        let key = InternalKey::new(b"k", seqno(*number), *kind);
        sieve.take(key, value, &mut written).unwrap();
    }
    sieve.end_key(&mut written).unwrap();
    let dropped = sieve.entries_dropped();
    assert_eq!(dropped, (entries.len() - written.0.len()) as u64);
    written.0.into_iter().map(|(_, stored)| stored).collect()
}

/// Every way to give each sequence number `1..=count` no entry, or one of three kinds.
fn every_history(count: u64) -> Vec<Vec<Stored>> {
    let kinds = [EntryKind::Put, EntryKind::Tombstone, EntryKind::Merge];
    let mut histories = vec![Vec::new()];
    for number in (1..=count).rev() {
        let longer = |history: Vec<Stored>| {
            let mut all: Vec<Vec<Stored>> = Vec::new();
            for kind in kinds {
                let mut longer = history.clone();
                longer.push((number, kind, number.to_string().into_bytes()));
                all.push(longer);
            }
            all.push(history);
            all
        };
        histories = histories.into_iter().flat_map(longer).collect();
    }
    histories
}

#[test]
fn every_small_case_answers_as_before() {
    const COUNT: u64 = 4;
    let outside = (0, EntryKind::Put, b"old".to_vec());
    for entries in every_history(COUNT) {
        for bits in 0_u32..1 << COUNT {
            let snapshots: Vec<SeqNo> =
                (1..=COUNT).filter(|&n| bits & 1 << (n - 1) != 0).map(seqno).collect();
            for visible in [1, 3, COUNT] {
                let readers = Readers::new(&snapshots, seqno(visible));
                for (has_older, may_be_older) in [(false, false), (false, true), (true, true)] {
                    for operator in [None, Some(false), Some(true)] {
                        let after = sift(&entries, &readers, !may_be_older, operator, may_be_older);
                        let context = format!("{entries:?} -> {after:?} {readers:?} {operator:?}");
                        let outside = has_older.then_some(&outside);
                        let live = snapshots.iter().map(|snapshot| snapshot.get());
                        for at in live.chain(visible..=COUNT + 1) {
                            let before = read(entries.iter().chain(outside), at);
                            let found = read(after.iter().chain(outside), at);
                            assert_eq!(found, before, "reader {at}, {has_older}: {context}");
                        }
                    }
                }
            }
        }
    }
}

/// A random history of one key that keeps to the rule of single deletes: each removes the one put
/// beneath it.
fn random_history(random: &mut TestRandom) -> Vec<Stored> {
    let is_single = random.one_in(2);
    let mut history: Vec<Stored> = Vec::new();
    for number in 1..=1 + random.below(14) {
        let newest = history.last().map(|entry| entry.1);
        let kind = match (is_single, newest) {
            (true, Some(EntryKind::Put)) => EntryKind::SingleDelete,
            (true, _) if random.one_in(5) => EntryKind::SingleDelete,
            (true, _) => EntryKind::Put,
            (false, _) => {
                [EntryKind::Put, EntryKind::Tombstone, EntryKind::Merge, EntryKind::Merge]
                    [random.below(4) as usize]
            }
        };
        let has_value = matches!(kind, EntryKind::Put | EntryKind::Merge);
        let value = if has_value { number.to_string().into_bytes() } else { Vec::new() };
        history.push((number, kind, value));
    }
    history.reverse();
    history
}

#[test]
fn any_sequence_of_compactions_changes_no_answer() {
    for seed in 0..3000 {
        let random = &mut TestRandom::new(seed);
        let history = random_history(random);
        let last = history[0].0;
        // Runs, the newest first.
        let mut runs: Vec<Vec<Stored>> = vec![Vec::new()];
        for entry in &history {
            if random.one_in(2) {
                runs.push(Vec::new());
            }
            runs.last_mut().unwrap().push(entry.clone());
        }
        let mut snapshots: Vec<u64> = (1..=last).filter(|_| random.one_in(3)).collect();
        for _ in 0..8 {
            let start = random.below(runs.len() as u64) as usize;
            let end = start + 1 + random.below((runs.len() - start) as u64) as usize;
            let older = runs[end..].iter().any(|run| !run.is_empty());
            let inputs = runs[start..end].concat();
            let seqnos: Vec<SeqNo> = snapshots.iter().map(|&n| seqno(n)).collect();
            let readers = Readers::new(&seqnos, seqno(last));
            let operator = [None, Some(false), Some(true)][random.below(3) as usize];
            let output = sift(&inputs, &readers, end == runs.len(), operator, older);
            runs.splice(start..end, [output]);
            for at in snapshots.iter().copied().chain([last]) {
                let found = read(runs.iter().flatten(), at);
                assert_eq!(found, read(&history, at), "seed {seed} at {at}: {history:?} {runs:?}");
            }
            snapshots.retain(|_| !random.one_in(4));
        }
        // With everyone gone and all in one run nothing is left to fold or to pair.
        let all = runs.concat();
        let readers = Readers::new(&[], seqno(last));
        let left = sift(&all, &readers, true, Some(true), false);
        assert!(left.len() <= 1, "seed {seed}: {left:?} of {history:?}");
        assert_eq!(left.first().map(|entry| entry.2.clone()), read(&history, last), "seed {seed}");
    }
}

#[test]
fn values_that_expire_between_compactions_come_and_go_as_readers_see_them() {
    for seed in 0..3000 {
        let random = &mut TestRandom::new(seed);
        let mut history: Vec<Stored> = Vec::new();
        for number in (1..=1 + random.below(8)).rev() {
            let value = number.to_string();
            let entry = match random.below(6) {
                0 => (EntryKind::Put, value.into_bytes()),
                1 => (EntryKind::Tombstone, Vec::new()),
                2 => (EntryKind::Merge, value.into_bytes()),
                _ => (EntryKind::ExpiringPut, expiring(&format!("{}:{value}", random.below(60)))),
            };
            history.push((number, entry.0, entry.1));
        }
        let last = history[0].0;
        // One run for each entry, the newest first; readers stand at a number and a time.
        let mut runs: Vec<Vec<Stored>> = history.iter().map(|entry| vec![entry.clone()]).collect();
        let mut now = 30;
        let mut readers: Vec<(u64, u64)> = Vec::new();
        for at in 1..last {
            if random.one_in(3) {
                readers.push((at, random.below(now)));
            }
        }
        for _ in 0..8 {
            now += random.below(15);
            readers.retain(|_| !random.one_in(4));
            let start = random.below(runs.len() as u64) as usize;
            let end = start + 1 + random.below((runs.len() - start) as u64) as usize;
            let older = runs[end..].iter().any(|run| !run.is_empty()) || random.one_in(4);
            let inputs = runs[start..end].concat();
            let snapshots: Vec<SeqNo> = readers.iter().map(|&(at, _)| seqno(at)).collect();
            let passed = readers.iter().map(|&(_, time)| time).min().unwrap_or(now);
            let operator = [None, Some(false), Some(true)][random.below(3) as usize];
            let seqnos = Readers::new(&snapshots, seqno(last));
            let zeroes = end == runs.len();
            let output = sift_as_of(&inputs, &seqnos, zeroes, (operator, passed), older);
            runs.splice(start..end, [output]);
            for (at, time) in readers.iter().copied().chain((now..70).map(|time| (last, time))) {
                let found = read_as_of(runs.iter().flatten(), at, time);
                let expected = read_as_of(&history, at, time);
                assert_eq!(found, expected, "seed {seed} at {at}, {time}: {history:?} {runs:?}");
            }
        }
    }
}

/// Whatever is mixed with single deletes: no panic, and entries still descend.
#[test]
fn single_deletes_over_anything_do_no_other_harm() {
    let kinds = [EntryKind::Put, EntryKind::SingleDelete, EntryKind::Merge, EntryKind::Tombstone];
    for seed in 0..3000 {
        let random = &mut TestRandom::new(seed);
        let history: Vec<Stored> = (1..=1 + random.below(9))
            .rev()
            .map(|number| (number, kinds[random.below(4) as usize], b"x".to_vec()))
            .collect();
        let snapshots: Vec<SeqNo> = (1..9).filter(|_| random.one_in(4)).map(seqno).collect();
        let readers = Readers::new(&snapshots, seqno(1 + random.below(9)));
        let older = random.one_in(2);
        let once = sift(&history, &readers, !older, Some(true), older);
        sift(&once, &readers, !older, Some(true), older);
    }
}

#[test]
fn operands_past_the_limit_of_memory_go_on_unfolded_and_lose_nothing() {
    let operand = vec![b'x'; 1 << 20];
    let mut history: Vec<Stored> =
        (2..40).rev().map(|number| (number, EntryKind::Merge, operand.clone())).collect();
    history.push((1, EntryKind::Put, b"base".to_vec()));
    let readers = Readers::new(&[], seqno(50));
    let expected = read(&history, 50).unwrap();
    for (operator, most) in [(None, 39), (Some(false), 37), (Some(true), 3)] {
        let after = sift(&history, &readers, true, operator, false);
        assert!(after.len() <= most, "{operator:?}: {}", after.len());
        assert!(read(&after, 50).unwrap() == expected, "{operator:?}");
    }
}

//! Model tests: the tree and its safe twin against a `BTreeMap`, under seeded random operations.

#![expect(clippy::big_endian_bytes, reason = "keys that count must sort as they count")]

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use esker_base::{EntryKind, InternalKey, SeqNo};

use super::Memtable;
use crate::map::{EntryCursor, EntryMap};
use crate::pin::MemtableCursor;
use crate::skiplist::SkiplistMap;
use esker_base::Trailer;

/// SplitMix64: enough for choosing test cases, and the same on every machine.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// How a test draws its keys.
type KeySource = fn(&mut Rng, u64) -> Vec<u8>;

const KEY_SOURCES: [(&str, KeySource); 9] = [
    ("spread", |rng, _| rng.next().to_be_bytes().to_vec()),
    ("few keys, many versions", |rng, _| vec![b'k', rng.below(7) as u8]),
    ("one key", |_, _| b"one".to_vec()),
    ("ascending", |_, step| step.to_be_bytes().to_vec()),
    ("descending", |_, step| (u64::MAX - step).to_be_bytes().to_vec()),
    ("shared prefixes", |rng, _| {
        let prefix = ["", "user:", "a-prefix-of-thirty-two-bytes-len", "\0\0\0\0\0\0\0\0\0"];
        let number = rng.below(300);
        format!("{}{number:0width$}", prefix[rng.below(4) as usize], width = 12).into_bytes()
    }),
    ("zeros that look like padding", |rng, _| vec![0; rng.below(40) as usize]),
    ("empty to longest", |rng, _| {
        let len = [0, 1, 7, 8, 9, 100, 65_535][rng.below(7) as usize];
        let mut key = vec![b'x'; len];
        if let Some(last) = key.last_mut() {
            *last = rng.below(3) as u8;
        }
        key
    }),
    ("several ascending runs", |rng, step| {
        format!("tenant-{}-sequence-{step:010}", rng.below(4)).into_bytes()
    }),
];

type ModelKey = (Vec<u8>, Reverse<Trailer>);
type Model = BTreeMap<ModelKey, Vec<u8>>;

fn kind(rng: &mut Rng) -> EntryKind {
    // Range tombstones are no entries of the tree.
    match EntryKind::from_byte(rng.below(7) as u8).expect("seven kinds") {
        EntryKind::RangeTombstone => EntryKind::Tombstone,
        kind => kind,
    }
}

fn value(rng: &mut Rng) -> Vec<u8> {
    let len = if rng.below(200) == 0 { rng.below(600_000) } else { rng.below(20) };
    vec![rng.next() as u8; len as usize]
}

fn model_key(key: InternalKey<'_>) -> ModelKey {
    (key.user_key.to_vec(), Reverse(key.trailer))
}

fn filled(source: KeySource, seed: u64, count: u64) -> (Arc<Memtable>, SkiplistMap, Model) {
    let mut rng = Rng(seed);
    let (memtable, twin, mut model) =
        (Arc::new(Memtable::new()), SkiplistMap::default(), Model::new());
    let mut writer = memtable.writer();
    for step in 0..count {
        let (user_key, kind, value) = (source(&mut rng, step), kind(&mut rng), value(&mut rng));
        let seqno = SeqNo::new(step + 1).expect("small");
        let key = InternalKey::new(&user_key, seqno, kind);
        writer.insert(&user_key, seqno, kind, &value);
        twin.insert(key, &value);
        model.insert(model_key(key), value);
    }
    drop(writer);
    (memtable, twin, model)
}

fn for_each_source(
    count: u64,
    check: impl Fn(&str, Arc<Memtable>, SkiplistMap, Model, Rng, KeySource),
) {
    for (name, source) in KEY_SOURCES {
        // The longest keys are compared byte by byte often; fewer of them show as much.
        let count = if name == "empty to longest" { count / 4 } else { count };
        for seed in 0..2 {
            let (memtable, twin, model) = filled(source, seed, count);
            check(name, memtable, twin, model, Rng(seed + 100), source);
        }
    }
}

#[test]
fn get_finds_the_newest_entry_a_snapshot_sees() {
    for_each_source(2_500, |name, memtable, twin, model, mut rng, source| {
        let get_both = |key: &[u8], snapshot: SeqNo| {
            let from = (key.to_vec(), Reverse(Trailer::seek(snapshot)));
            let expected = model.range(from..).next().filter(|((found, _), _)| found == key);
            let expected = expected.map(|((_, trailer), value)| (trailer.0, value.as_slice()));
            let found = memtable.get(key, snapshot).map(|entry| (entry.trailer, entry.value));
            assert_eq!(found, expected, "{name}: {:?} at {snapshot}", key.escape_ascii());
            let of_twin = twin.get_with(key, snapshot, |trailer, value| (trailer, value.len()));
            assert_eq!(of_twin, expected.map(|(trailer, value)| (trailer, value.len())));
        };
        for (key, trailer) in model.keys() {
            get_both(key, SeqNo::MAX);
            get_both(key, trailer.0.seqno());
            get_both(key, SeqNo::new(trailer.0.seqno().get() - 1).expect("small"));
        }
        for step in 0..300 {
            let snapshot = SeqNo::new(rng.below(2_500)).expect("small");
            get_both(&source(&mut rng, step * 7), snapshot);
        }
    });
}

fn assert_same_place(
    name: &str,
    cursor: &MemtableCursor,
    twin: &impl EntryCursor,
    expected: Option<(&ModelKey, &Vec<u8>)>,
) {
    assert_eq!(cursor.is_valid(), expected.is_some(), "{name}");
    assert_eq!(twin.is_valid(), expected.is_some(), "{name}");
    if let Some((key, value)) = expected {
        assert_eq!(&model_key(cursor.key()), key, "{name}");
        assert_eq!(cursor.value(), value, "{name}");
        assert_eq!(*cursor.value_slice(), **value, "{name}");
        assert_eq!(cursor.head(), esker_base::key_head(&key.0), "{name}");
        assert_eq!(&model_key(twin.key()), key, "{name}");
    }
}

#[test]
fn cursors_walk_the_whole_map_both_ways() {
    for_each_source(2_500, |name, memtable, twin, model, _, _| {
        let (mut cursor, mut other) = (memtable.cursor(), twin.cursor());
        cursor.seek_to_first();
        other.seek_to_first();
        for expected in &model {
            assert_same_place(name, &cursor, &other, Some(expected));
            cursor.next();
            other.next();
        }
        assert_same_place(name, &cursor, &other, None);
        cursor.seek_to_last();
        other.seek_to_last();
        for expected in model.iter().rev() {
            assert_same_place(name, &cursor, &other, Some(expected));
            cursor.prev();
            other.prev();
        }
        assert_same_place(name, &cursor, &other, None);
    });
}

/// Seeks to `key`, or for what is before it, at once or in parts.
fn seek(cursor: &mut MemtableCursor, key: InternalKey<'_>, is_forward: bool, rng: &mut Rng) {
    let way = rng.below(4);
    if way > 0 {
        cursor.approach(key.user_key);
    }
    if way > 1 {
        cursor.prefetch_approached(key.user_key);
    }
    if way > 2 {
        cursor.hold_approached(key.user_key);
    }
    match (way, is_forward) {
        (0, true) => cursor.seek(key),
        (0, false) => cursor.seek_for_prev(key),
        (_, true) => cursor.seek_approached(key),
        (_, false) => cursor.seek_for_prev_approached(key),
    }
}

#[test]
fn cursors_seek_and_turn_as_the_model_does() {
    for_each_source(1_500, |name, memtable, twin, model, mut rng, source| {
        let (mut cursor, mut other) = (memtable.cursor(), twin.cursor());
        let mut expected = None;
        for step in 0..3_000 {
            let user_key = source(&mut rng, rng_step(step));
            let seqno = SeqNo::new(rng.below(1_600)).expect("small");
            let key = InternalKey::new(&user_key, seqno, kind(&mut rng));
            match rng.below(8) {
                0 => {
                    seek(&mut cursor, key, true, &mut rng);
                    other.seek(key);
                    expected = model.range(model_key(key)..).next();
                }
                1 => {
                    seek(&mut cursor, key, false, &mut rng);
                    other.seek_for_prev(key);
                    expected = model.range(..=model_key(key)).next_back();
                }
                2..5 => {
                    let Some((key, _)) = expected else { continue };
                    if rng.below(2) == 0 || cursor.step() != Some(cursor.head()) {
                        cursor.next();
                    }
                    other.next();
                    let behind =
                        (std::ops::Bound::Excluded(key.clone()), std::ops::Bound::Unbounded);
                    expected = model.range(behind).next();
                }
                _ => {
                    let Some((key, _)) = expected else { continue };
                    if rng.below(2) == 0 || cursor.step_back() != Some(cursor.head()) {
                        cursor.prev();
                    }
                    other.prev();
                    expected = model.range(..key.clone()).next_back();
                }
            }
            assert_same_place(name, &cursor, &other, expected);
            if let Some((key, _)) = expected
                && cursor.is_first_of_key()
            {
                let before = model.range(..key.clone()).next_back().expect("one is before it");
                assert_ne!(before.0.0, key.0, "{name}");
            }
        }
    });
}

#[test]
fn seeks_in_parts_find_all_that_was_there_before_they_began() {
    for_each_source(300, |name, memtable, _, model, mut rng, source| {
        let mut there: Vec<ModelKey> = model.into_keys().collect();
        for round in 0..40 {
            let newest = SeqNo::new(300 + round * 60).expect("small");
            let user_key = source(&mut rng, rng_step(round));
            let key = InternalKey::seek(&user_key, newest);
            let mut cursors = [memtable.cursor(), memtable.cursor()];
            cursors.iter_mut().for_each(|cursor| cursor.approach(&user_key));
            let mut added = Vec::new();
            for number in 1..=rng.below(60) {
                let user_key = source(&mut rng, 300 + round * 60 + number);
                let seqno = SeqNo::new(newest.get() + number).expect("small");
                memtable.writer().insert(&user_key, seqno, EntryKind::Put, b"");
                added.push(model_key(InternalKey::new(&user_key, seqno, EntryKind::Put)));
            }
            let [forward, back] = &mut cursors;
            forward.prefetch_approached(&user_key);
            forward.hold_approached(&user_key);
            forward.seek_approached(key);
            back.seek_for_prev_approached(key);
            while forward.is_valid() && newest < forward.key().seqno() {
                forward.next();
            }
            while back.is_valid() && newest < back.key().seqno() {
                back.prev();
            }
            let found =
                |cursor: &MemtableCursor| cursor.is_valid().then(|| model_key(cursor.key()));
            let place = there.partition_point(|there| *there < model_key(key));
            assert_eq!(found(forward).as_ref(), there.get(place), "{name} {round}");
            let before = place.checked_sub(1).map(|place| &there[place]);
            assert_eq!(found(back).as_ref(), before, "{name} {round}");
            there.extend(added);
            there.sort();
        }
    });
}

#[test]
fn a_walk_back_passes_nothing_that_splits_move_meanwhile() {
    for_each_source(300, |name, memtable, _, model, mut rng, source| {
        let mut there: Vec<ModelKey> = model.into_keys().collect();
        for round in 0..40 {
            let mut newest = 300 + round * 60;
            let snapshot = SeqNo::new(newest).expect("small");
            let user_key = source(&mut rng, rng_step(round));
            let key = InternalKey::seek(&user_key, snapshot);
            let mut cursor = memtable.cursor();
            if round % 2 == 0 {
                cursor.seek_for_prev(key);
            } else {
                cursor.approach(&user_key);
                cursor.seek_for_prev_approached(key);
            }
            let mut seen = Vec::new();
            let mut added = Vec::new();
            while cursor.is_valid() {
                let at = cursor.key();
                if at.seqno() <= snapshot {
                    seen.push(model_key(at));
                    // Many into the place where the walk comes next, so that leaves split there.
                    let beside = at.user_key.to_vec();
                    for _ in 0..rng.below(4).min(300 + round * 60 + 59 - newest) {
                        newest += 1;
                        let seqno = SeqNo::new(newest).expect("small");
                        let shorter = &beside[..beside.len().saturating_sub(1)];
                        memtable.writer().insert(shorter, seqno, EntryKind::Put, b"");
                        added.push(model_key(InternalKey::new(shorter, seqno, EntryKind::Put)));
                    }
                }
                cursor.prev();
            }
            let place = there.partition_point(|there| *there <= model_key(key));
            seen.reverse();
            assert_eq!(seen, there[..place], "{name} {round}");
            there.extend(added);
            there.sort();
        }
    });
}

#[test]
fn a_seek_in_parts_below_many_newer_versions_does_not_pass_them_one_by_one() {
    // A seek in parts went from leaf to leaf, through all versions that a snapshot does not see.
    let memtable = Arc::new(Memtable::new());
    let seqno = |value| SeqNo::new(value).expect("small");
    memtable.writer().insert(b"a", seqno(1), EntryKind::Put, b"");
    for number in 2..5_000 {
        memtable.writer().insert(b"hot", seqno(number), EntryKind::Put, b"");
    }
    memtable.writer().insert(b"z", seqno(5_000), EntryKind::Put, b"");
    let followed = || crate::descent::tests::LEAVES_FOLLOWED.with(std::cell::Cell::get);
    let before = followed();
    let mut cursor = memtable.cursor();
    for number in [1, 2, 3, 17, 2_500, 4_980, 4_999] {
        cursor.approach(b"hot");
        cursor.prefetch_approached(b"hot");
        cursor.seek_approached(InternalKey::seek(b"hot", seqno(number)));
        let found = (cursor.key().user_key, cursor.key().seqno());
        let expected = if number == 1 { (&b"z"[..], 5_000) } else { (&b"hot"[..], number) };
        assert_eq!(found, (expected.0, seqno(expected.1)));
    }
    assert!(followed() - before <= 7, "{} leaves", followed() - before);
}

/// Steps inside the range that was inserted, for sources that count.
fn rng_step(step: u64) -> u64 {
    step * 31 % 1_600
}

#[test]
fn an_empty_memtable_has_nothing_anywhere() {
    let memtable = Arc::new(Memtable::new());
    assert!(memtable.is_empty());
    assert_eq!((memtable.size_bytes(), memtable.reserved_bytes()), (0, 0));
    assert_eq!(memtable.seqno_range(), None);
    assert_eq!(memtable.get(b"", SeqNo::MAX), None);
    let mut cursor = memtable.cursor();
    cursor.seek_to_first();
    assert!(!cursor.is_valid());
    cursor.seek_to_last();
    assert!(!cursor.is_valid());
    cursor.seek(InternalKey::seek(b"a", SeqNo::MAX));
    assert!(!cursor.is_valid());
    cursor.seek_for_prev(InternalKey::seek(b"a", SeqNo::MAX));
    assert!(!cursor.is_valid());
}

#[test]
fn counts_follow_the_inserts() {
    let memtable = Memtable::new();
    let seqno = |value| SeqNo::new(value).expect("small");
    let mut writer = memtable.writer();
    writer.insert(b"b", seqno(7), EntryKind::Put, b"value");
    let size_of_one = memtable.size_bytes();
    writer.insert(b"a", seqno(5), EntryKind::Tombstone, b"");
    writer.insert(b"b", seqno(9), EntryKind::RangeTombstone, b"c");
    drop(writer);
    assert_eq!((memtable.entry_count(), memtable.tombstone_count()), (2, 1));
    assert_eq!(memtable.range_tombstone_count(), 1);
    assert_eq!(memtable.seqno_range(), Some((seqno(5), seqno(9))));
    assert_eq!(memtable.entry_seqno_range(), Some((seqno(5), seqno(7))));
    assert!(0 < size_of_one && size_of_one < memtable.size_bytes());
    assert!(memtable.size_bytes() <= memtable.reserved_bytes());
}

#[test]
fn range_tombstones_stand_beside_the_entries() {
    let memtable = Arc::new(Memtable::new());
    let seqno = |value| SeqNo::new(value).expect("small");
    assert_eq!(memtable.covering(b"b", SeqNo::MAX), None);
    assert!(memtable.is_empty() && memtable.fragments(SeqNo::MAX).is_none());
    memtable.writer().insert(b"b", seqno(9), EntryKind::RangeTombstone, b"");
    assert!(!memtable.is_empty() && 0 < memtable.size_bytes());
    assert_eq!((memtable.entry_count(), memtable.entry_seqno_range()), (0, None));
    assert_eq!(memtable.seqno_range(), Some((seqno(9), seqno(9))));
    let mut cursor = memtable.cursor();
    cursor.seek_to_first();
    assert!(!cursor.is_valid() && memtable.get(b"b", SeqNo::MAX).is_none());
    assert_eq!(memtable.covering(b"zz", seqno(9)), Some(seqno(9)));
    assert_eq!(memtable.covering(b"zz", seqno(8)), None);
    assert_eq!(memtable.covering(b"a", seqno(9)), None);
    assert_eq!(memtable.range_tombstones().len(), 1);
}

#[test]
fn size_is_a_function_of_the_inserts() {
    for (name, source) in KEY_SOURCES {
        let sizes = || {
            let (memtable, ..) = filled(source, 3, 1_000);
            (memtable.size_bytes(), memtable.reserved_bytes())
        };
        assert_eq!(sizes(), sizes(), "{name}");
    }
}

#[test]
fn pinned_values_and_cursors_outlive_the_handle() {
    let (memtable, _, model) = filled(KEY_SOURCES[0].1, 1, 500);
    let mut cursor = memtable.cursor();
    cursor.seek_to_first();
    let ((key, trailer), value) = model.iter().next().expect("not empty");
    let pinned = memtable.get_pinned(key, SeqNo::MAX).expect("inserted");
    drop(memtable);
    assert_eq!((pinned.0, &*pinned.1), (trailer.0, value.as_slice()));
    assert_eq!(cursor.value(), value);
    let slice = cursor.value_slice();
    drop(cursor);
    drop(pinned);
    assert_eq!(*slice, **value);
}

#[test]
#[should_panic(expected = "an internal key is inserted once")]
fn the_same_internal_key_twice_is_a_bug() {
    let memtable = Memtable::new();
    let mut writer = memtable.writer();
    writer.insert(b"a", SeqNo::MAX, EntryKind::Put, b"1");
    writer.insert(b"a", SeqNo::MAX, EntryKind::Put, b"2");
}

/// What is inserted into a memtable of these keys, in order, takes.
fn size_of(keys: impl Iterator<Item = String>) -> u64 {
    let memtable = Memtable::default();
    for (step, key) in (1..).zip(keys) {
        let seqno = SeqNo::new(step).expect("small");
        memtable.writer().insert(key.as_bytes(), seqno, EntryKind::Put, b"value");
    }
    memtable.size_bytes()
}

/// Where a leaf was just full of ascending keys, each descending key above them got a leaf of its own, and
/// where it was almost full, two got two: up to eight times the memory.
#[test]
fn descending_keys_above_ascending_ones_fill_their_leaves() {
    let key = |number: u64| format!("b{number:08}");
    let ascending = size_of((0..10_000).map(key));
    for count in 0..30 {
        let first = || (0..count).map(|number| format!("a{number:08}"));
        let size = size_of(first().chain((0..10_000).rev().map(key)));
        assert!(size < ascending * 2, "{count}: {size} bytes and not {ascending}");
        // Among others that go elsewhere.
        let others = (0..10_000).rev().flat_map(|number| [key(number), format!("0{number:08}")]);
        let size = size_of(first().chain(others));
        assert!(size < ascending * 4, "{count}: {size} bytes and not twice {ascending}");
    }
}

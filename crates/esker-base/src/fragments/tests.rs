//! Fragments against their definition: what covers a key, asked of the tombstones themselves.

use super::*;

fn seqno(number: u64) -> SeqNo {
    SeqNo::new(number).unwrap()
}

/// Tombstones written as `start-end@seqno`; without an end, `start-@seqno`.
fn tombstones(text: &str) -> Vec<RangeTombstone> {
    let one = |word: &str| {
        let (range, number) = word.split_once('@').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (start.as_bytes().to_vec(), end.as_bytes().to_vec());
        RangeTombstone { start, end, seqno: seqno(number.parse().unwrap()) }
    };
    text.split_whitespace().map(one).collect()
}

fn shown(text: &str) -> String {
    format!("{:?}", Fragments::of(tombstones(text)))
}

#[test]
fn overlaps_are_cut_and_neighbours_joined() {
    for (given, expected) in [
        ("", "[]"),
        ("b-d@5", "[[b, d) #5]"),
        ("b-b@5 c-b@6", "[]"),
        ("b-f@5 d-h@7", "[[b, d) #5, [d, f) #7 #5, [f, h) #7]"),
        ("d-h@7 b-f@5", "[[b, d) #5, [d, f) #7 #5, [f, h) #7]"),
        ("a-z@1 c-d@3 c-d@2", "[[a, c) #1, [c, d) #3 #2 #1, [d, z) #1]"),
        ("a-c@4 c-e@4", "[[a, e) #4]"),
        ("a-d@4 b-e@4", "[[a, e) #4]"),
        ("a-c@4 c-e@5", "[[a, c) #4, [c, e) #5]"),
        ("-@9 m-@3", "[[, m) #9, [m, ) #9 #3]"),
        ("a-b@1 d-@2", "[[a, b) #1, [d, ) #2]"),
    ] {
        assert_eq!(shown(given), expected, "{given}");
    }
}

#[test]
fn every_small_set_covers_what_its_tombstones_cover() {
    // Keys at and between the ends, so that each gap is probed too.
    let ends: [&[u8]; 4] = [b"b", b"d", b"f", b""];
    let keys: [&[u8]; 8] = [b"", b"a", b"b", b"c", b"d", b"e", b"f", b"g"];
    let mut ranges = Vec::new();
    for start in [b"".as_slice(), b"b", b"d"] {
        for end in ends.into_iter().filter(|end| is_before_end(start, end)) {
            ranges.push((start, end));
        }
    }
    let count = ranges.len();
    for choice in 0..count * count * count {
        let chosen = [choice % count, choice / count % count, choice / count / count];
        let numbers = [[3, 5, 7], [7, 3, 5], [5, 5, 3]][choice % 3];
        let tombstones: Vec<RangeTombstone> = chosen
            .iter()
            .zip(numbers)
            .map(|(&index, number)| {
                let (start, end) = (ranges[index].0.to_vec(), ranges[index].1.to_vec());
                RangeTombstone { start, end, seqno: seqno(number) }
            })
            .collect();
        let fragments = Fragments::of(tombstones.clone());
        for key in keys {
            for snapshot in 0..9 {
                let covering = tombstones.iter().filter(|t| t.covers(key));
                let expected = covering.map(|t| t.seqno).filter(|s| s.get() <= snapshot).max();
                assert_eq!(fragments.covering(key, seqno(snapshot)), expected, "{tombstones:?}");
                let stretch = fragments.stretch(key, seqno(snapshot));
                assert_eq!(stretch.seqno, expected);
                assert!(stretch.start <= key && is_before_end(key, stretch.end));
                for other in keys {
                    if stretch.start <= other && is_before_end(other, stretch.end) {
                        assert_eq!(fragments.covering(other, seqno(snapshot)), expected);
                    }
                }
            }
        }
    }
}

#[test]
fn only_the_newest_of_what_the_same_readers_see_is_kept() {
    // Readers at 4 and 10: a number is needed if one of them sees it and nothing newer.
    let newest_blind =
        |number: SeqNo| [10, 4].map(seqno).into_iter().find(|&reader| reader < number);
    let given = tombstones("a-z@2 a-z@3 a-z@5 a-z@9 m-n@12");
    let fragments = Fragments::for_readers(given, newest_blind);
    assert_eq!(format!("{fragments:?}"), "[[a, m) #9 #3, [m, n) #12 #9 #3, [n, z) #9 #3]");
}

#[test]
fn overlapping_fragments_are_those_with_a_key_in_the_range() {
    let fragments = Fragments::of(tombstones("b-d@1 f-h@2 k-@3"));
    let starts = |start: &[u8], end: &[u8]| {
        let found = fragments.overlapping(start, end).iter();
        found.map(|fragment| fragment.start[0]).collect::<Vec<u8>>()
    };
    assert_eq!(starts(b"a", b"b"), b"");
    assert_eq!(starts(b"a", b"b\0"), b"b");
    assert_eq!(starts(b"d", b"f"), b"");
    assert_eq!(starts(b"c", b"g"), b"bf");
    assert_eq!(starts(b"x", b""), b"k");
}

#[test]
fn clipping_cuts_at_both_ends_and_tombstones_give_the_fragments_again() {
    let fragments = Fragments::of(tombstones("b-f@5 d-h@7 k-@3"));
    let clipped = |start: &[u8], end: &[u8]| format!("{:?}", fragments.clipped(start, end));
    assert_eq!(clipped(b"c", b"e"), "[[c, d) #5, [d, e) #7 #5]");
    assert_eq!(clipped(b"", b""), format!("{fragments:?}"));
    assert_eq!(clipped(b"h", b"k"), "[]");
    assert_eq!(clipped(b"m", b"n"), "[[m, n) #3]");
    assert_eq!(Fragments::of(fragments.tombstones().collect()), fragments);
}

#[test]
fn the_oldest_tombstone_above_a_number() {
    let fragments = Fragments::of(tombstones("a-z@9 a-z@4 a-z@6"));
    let fragment = fragments.fragment(b"c").unwrap();
    assert_eq!(fragment.oldest_above(seqno(3)), Some(seqno(4)));
    assert_eq!(fragment.oldest_above(seqno(4)), Some(seqno(6)));
    assert_eq!(fragment.oldest_above(seqno(9)), None);
}

/// Merging what is sorted already took each sequence number of each fragment for a tombstone: a
/// million of them for a thousand that are nested.
#[test]
fn merged_sources_are_as_all_their_tombstones_at_once() {
    let mut word = 5_u64;
    let mut random = |below: u64| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (word >> 33) % below
    };
    for _ in 0..300 {
        let mut sources: [Vec<RangeTombstone>; 3] = Default::default();
        for number in 1..=random(14) {
            let (start, end) = (random(12) as u8, random(14) as u8);
            let end = if end > 12 { Vec::new() } else { vec![end] };
            let tombstone = RangeTombstone { start: vec![start], end, seqno: seqno(number) };
            sources[random(3) as usize].push(tombstone);
        }
        let mut readers: Vec<SeqNo> = (0..random(5)).map(|_| seqno(random(14))).collect();
        readers.sort();
        let newest_blind = |number| readers.iter().copied().filter(|reader| *reader < number).max();
        let expected = Fragments::for_readers(sources.concat(), newest_blind);
        let sources = sources.map(Fragments::of);
        let all = sources.iter().flat_map(Fragments::as_slice);
        assert_eq!(Fragments::merged(all, newest_blind), expected, "{sources:?} {readers:?}");
    }
}

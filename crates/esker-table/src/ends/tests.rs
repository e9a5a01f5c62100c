//! Columns of ends in each form.

use super::*;

/// Encodes `lens` and reads them back; the code of the form that was chosen.
fn round_trip(lens: &[u64]) -> u8 {
    let ends: Vec<u64> = lens
        .iter()
        .scan(0, |end, len| {
            *end += len;
            Some(*end)
        })
        .collect();
    let mut column = b"front".to_vec();
    let code = Ends::encode(&mut column, ends.iter().copied());
    let mut decoder = Decoder::new(&column);
    decoder.take(5).unwrap();
    let (decoded, total) = Ends::decode(code, lens.len(), &mut decoder).unwrap();
    decoder.finish().unwrap();
    assert_eq!(total as u64, *ends.last().unwrap());
    let mut start = 0;
    for (index, &end) in ends.iter().enumerate() {
        assert_eq!(decoded.bounds(&column, index), start..end as usize);
        start = end as usize;
    }
    code
}

#[test]
fn each_form_is_chosen_where_it_is_smallest() {
    assert_eq!(round_trip(&[7, 7, 7, 7]), 0);
    assert_eq!(round_trip(&[0, 0]), 0);
    assert_eq!(round_trip(&[u64::from(u32::MAX)]), 0);
    assert_eq!(round_trip(&[7, 8]), 1);
    assert_eq!(round_trip(&[0, 65_535]), 1);
    assert_eq!(round_trip(&[1, 65_535]), 2);
    assert_eq!(round_trip(&[1, u64::from(u32::MAX)]), 3);
    assert_eq!(round_trip(&[u64::from(u32::MAX) + 1]), 3);
}

#[test]
fn damaged_columns_are_refused() {
    let decode = |code, count, bytes: &[u8]| {
        Ends::decode(code, count, &mut Decoder::new(bytes)).map(|_| ()).unwrap_err().what
    };
    assert_eq!(decode(4, 1, &[0; 8]), "column of ends has an unknown form");
    assert_eq!(decode(1, 2, &[5, 0, 4, 0]), "column of ends is not ascending");
    assert_eq!(decode(1, 2, &[5, 0, 4]), "ends too early");
    assert_eq!(decode(3, usize::MAX, &[0; 8]), "column of ends does not fit this machine");
    assert_eq!(decode(0, usize::MAX, &[2, 0, 0, 0]), "column of ends does not fit this machine");
}

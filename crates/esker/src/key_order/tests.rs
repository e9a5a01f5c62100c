//! Orders are compared with what they promise, over all short keys of awkward bytes.

use super::*;

/// All keys of up to three of these bytes: both ends, and what is escaped.
fn keys() -> Vec<Vec<u8>> {
    let bytes = [0, 1, 2, b'a', 0xfd, 0xfe, 0xff];
    let mut keys = vec![Vec::new()];
    let mut start = 0;
    for _ in 0..3 {
        let end = keys.len();
        for index in start..end {
            for byte in bytes {
                let mut key: Vec<u8> = keys[index].clone();
                key.push(byte);
                keys.push(key);
            }
        }
        start = end;
    }
    keys
}

fn encode(key: &[u8]) -> Vec<u8> {
    let mut out = b"kept".to_vec();
    ReverseBytewise.encode(key, &mut out);
    out.split_off(4)
}

#[test]
fn reverse_bytewise_is_bytewise_backwards() {
    let keys = keys();
    for a in &keys {
        for b in &keys {
            assert_eq!(encode(a).cmp(&encode(b)), b.cmp(a), "{a:?} beside {b:?}");
        }
    }
    let mut words: Vec<&[u8]> = vec![b"", b"a", b"aa", b"ab", b"b"];
    words.sort_by_key(|word| encode(word));
    assert_eq!(words, [&b"b"[..], b"ab", b"aa", b"a", b""]);
}

#[test]
fn reverse_bytewise_decodes_what_it_encoded_and_nothing_else() {
    for key in keys() {
        let mut out = b"kept".to_vec();
        ReverseBytewise.decode(&encode(&key), &mut out).unwrap();
        assert_eq!(out[4..], key);
    }
    for (stored, what) in [
        (&b""[..], "it has no end mark"),
        (b"\x9e", "it has no end mark"),
        (b"\xfe\xff", "a byte is escaped that need not be"),
        (b"\xfe\x01\xff", "a byte is escaped that need not be"),
        (b"\xff\xff", "it goes on behind its end mark"),
    ] {
        let error = ReverseBytewise.decode(stored, &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), what, "{stored:?}");
    }
}

#[test]
fn a_prefix_of_keys_is_a_prefix_of_their_encodings() {
    let keys = keys();
    for prefix in &keys {
        let mut stored = Vec::new();
        assert!(ReverseBytewise.encode_prefix(prefix, &mut stored));
        for key in &keys {
            assert_eq!(encode(key).starts_with(&stored), key.starts_with(prefix), "{key:?}");
        }
    }
}

/// The table of FORMAT.md section 4.
#[test]
fn golden_bytes_of_reverse_bytewise() {
    assert_eq!(encode(b"a\x00\x01z"), b"\x9e\xfe\xff\xfe\x00\x85\xff");
    assert_eq!(encode(b""), b"\xff");
}

#[test]
fn orders_are_equal_by_name_and_show_it() {
    assert_eq!(Order::default(), Order::bytewise());
    assert_ne!(Order::reverse_bytewise(), Order::bytewise());
    assert_eq!(Order::recorded("reverse-bytewise", &[]), Order::reverse_bytewise());
    assert_eq!(format!("{:?}", Order::recorded("mine", &[])), "Order(\"mine\")");
    assert!(Order::recorded("mine", &[]).code().is_none());
}

struct Named(&'static str);

impl KeyOrder for Named {
    fn name(&self) -> &str {
        self.0
    }

    fn encode(&self, key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(key);
    }

    fn decode(&self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), UndecodableKey> {
        out.extend_from_slice(stored);
        Ok(())
    }
}

#[test]
fn bad_names_are_refused() {
    let long = "the name of the key order has 256 bytes, and must have from 1 to 255";
    let name: &'static str = Box::leak("n".repeat(256).into_boxed_str());
    assert_eq!(Order::new(Named(name)).check(), Err(long.to_owned()));
    let empty = "the name of the key order has 0 bytes, and must have from 1 to 255";
    assert_eq!(Order::new(Named("")).check(), Err(empty.to_owned()));
    let taken = "the key order is named \"bytewise\", as a ready-made one is";
    assert_eq!(Order::new(Named("bytewise")).check(), Err(taken.to_owned()));
    let taken = "the key order is named \"reverse-bytewise\", as a ready-made one is";
    assert_eq!(Order::new(Named("reverse-bytewise")).check(), Err(taken.to_owned()));
    assert_eq!(Order::new(Named("mine")).check(), Ok(()));
    assert_eq!(Order::new(ReverseBytewise).check(), Ok(()));
}

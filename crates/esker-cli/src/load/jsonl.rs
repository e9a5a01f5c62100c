//! One JSON object per line.
//!
//! Without a key field, an object has `key` or `key_hex`, and `value` or `value_hex`, as `scan
//! --json` prints them; a value that is not a string is stored as its JSON text. With a key field,
//! the key is that field of the object, and the value is the whole line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::BufRead;

use serde_core::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::record::{Lines, ReadError, Record, Records};
use crate::text::from_hex;

/// Reads JSON objects.
pub(crate) struct Jsonl<R> {
    lines: Lines<R>,
    key_field: Option<String>,
}

impl<R: BufRead> Jsonl<R> {
    pub(crate) fn new(input: R, key_field: Option<String>) -> Self {
        Self { lines: Lines::new(input), key_field }
    }
}

impl<R: BufRead> Records for Jsonl<R> {
    fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        let Some(line) = self.lines.next_line()? else { return Ok(None) };
        let record = match serde_json::from_slice::<Object>(line) {
            Ok(object) => match &self.key_field {
                Some(field) => field_as_key(&object, field).map(|key| (key, line.to_vec())),
                None => key_and_value(&object),
            },
            Err(error) if error.is_data() => Err("is not a JSON object".into()),
            // Only the column: every record is line 1 to the parser.
            Err(error) => {
                Err(format!("is not JSON: {} at column {}", what(&error), error.column()))
            }
        };
        match record {
            Ok((key, value)) => Ok(Some(Record { key, value, line: self.lines.number() })),
            Err(what) => Err(self.lines.error(what)),
        }
    }
}

/// The fields of an object. Values as written: a number has more digits than a float may keep.
#[derive(Default)]
struct Object {
    fields: BTreeMap<String, Box<RawValue>>,
    /// Names that occur more than once.
    repeated: BTreeSet<String>,
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object::default();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if object.fields.contains_key(&name) {
                object.repeated.insert(name.clone());
            }
            object.fields.insert(name, value);
        }
        Ok(object)
    }
}

fn key_and_value(object: &Object) -> Result<(Vec<u8>, Vec<u8>), String> {
    if let Some(name) = object.repeated.first() {
        return Err(format!("has the field '{name}' more than once"));
    }
    let object = &object.fields;
    let extra = ["key", "key_hex", "value", "value_hex"];
    if let Some(name) = object.keys().find(|name| !extra.contains(&name.as_str())) {
        return Err(format!("has a field '{name}'; use --key-field to store whole objects"));
    }
    let (key, digits) = (text_of(object, "key")?, text_of(object, "key_hex")?);
    let key = match (key, digits) {
        (Some(key), None) if !object.contains_key("key_hex") => key.into_bytes(),
        (None, Some(digits)) if !object.contains_key("key") => from_hex(digits.as_bytes())?,
        _ => return Err("needs one of 'key' and 'key_hex', and it must be a string".into()),
    };
    let value = match (object.get("value"), text_of(object, "value_hex")?) {
        (Some(value), None) if !object.contains_key("value_hex") => as_bytes(value)?,
        (None, Some(digits)) => from_hex(digits.as_bytes())?,
        _ => return Err("needs one of 'value' and 'value_hex'".into()),
    };
    Ok((key, value))
}

fn field_as_key(object: &Object, field: &str) -> Result<Vec<u8>, String> {
    if object.repeated.contains(field) {
        return Err(format!("has the field '{field}' more than once"));
    }
    match object.fields.get(field) {
        Some(value) if value.get().starts_with(['"', '-']) => as_bytes(value),
        Some(value) if value.get().starts_with(|c: char| c.is_ascii_digit()) => as_bytes(value),
        Some(_) => Err(format!("field '{field}' is neither a string nor a number")),
        None => Err(format!("has no field '{field}'")),
    }
}

/// The text of a field; none if it is missing, or not a string.
fn text_of(
    object: &BTreeMap<String, Box<RawValue>>,
    field: &str,
) -> Result<Option<String>, String> {
    let value = object.get(field).filter(|value| value.get().starts_with('"'));
    value.map(|value| text(value)).transpose()
}

/// A string's bytes, or the JSON text of anything else, as written.
fn as_bytes(value: &RawValue) -> Result<Vec<u8>, String> {
    if value.get().starts_with('"') {
        return text(value).map(String::into_bytes);
    }
    Ok(value.get().as_bytes().to_vec())
}

fn text(value: &RawValue) -> Result<String, String> {
    // The column would be that within the string.
    serde_json::from_str(value.get()).map_err(|error| format!("is not JSON: {}", what(&error)))
}

/// What is wrong, without the place.
fn what(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, key_field: Option<&str>) -> Result<Vec<(String, String)>, String> {
        let mut jsonl = Jsonl::new(text.as_bytes(), key_field.map(str::to_owned));
        let mut out = Vec::new();
        while let Some(record) = jsonl.next_record().map_err(|error| error.to_string())? {
            let text = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
            out.push((text(record.key), text(record.value)));
        }
        Ok(out)
    }

    #[test]
    fn keys_and_values_in_every_form() {
        let text = concat!(
            r#"{"key":"a","value":"b"}"#,
            "\n",
            r#"{"value":{"n":1},"key":"o"}"#,
            "\n",
            r#"{"key_hex":"00ff","value_hex":""}"#,
        );
        let expected = [("a", "b"), ("o", r#"{\"n\":1}"#), (r"\x00\xff", "")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read(text, None).unwrap(), expected);
    }

    #[test]
    fn key_field_keeps_the_whole_line() {
        let line = r#"{"id": 7, "x": null}"#;
        let expected = [("7".to_owned(), line.as_bytes().escape_ascii().to_string())];
        assert_eq!(read(line, Some("id")).unwrap(), expected);
        assert_eq!(
            read(line, Some("x")).unwrap_err(),
            "line 1: field 'x' is neither a string nor a number"
        );
        let twice = r#"{"id":"a","id":"b","x":1,"x":2}"#;
        assert_eq!(
            read(twice, Some("id")).unwrap_err(),
            "line 1: has the field 'id' more than once"
        );
        assert_eq!(read(line, Some("y")).unwrap_err(), "line 1: has no field 'y'");
    }

    /// Both keys were rounded to the same float, and the fields of a value sorted.
    #[test]
    fn what_is_no_string_is_taken_as_it_stands() {
        let ids = ["123456789012345678901", "123456789012345678902"];
        let text = ids.map(|id| format!("{{\"id\":{id}}}\n")).concat();
        let keys: Vec<_> =
            read(&text, Some("id")).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ids);
        let value = "{\"b\": 1.10, \"a\":[ 0.1234567890123456789]}";
        let line = format!("{{\"key\":\"k\",\"value\": {value} }}");
        let expected = value.escape_default().to_string();
        assert_eq!(read(&line, None).unwrap(), [("k".to_owned(), expected)]);
        assert_eq!(
            read("{\"key\":\"\\ud800\",\"value\":1}", None).unwrap_err(),
            "line 1: is not JSON: unexpected end of hex escape"
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        let good = r#"{"key":"a","value":"b"}"#;
        for (bad, what) in [
            ("[1]", "line 2: is not a JSON object"),
            ("{", "line 2: is not JSON: EOF while parsing an object at column 1"),
            ("", "line 2: is not JSON: EOF while parsing a value at column 0"),
            (
                r#"{"key":1,"value":"b"}"#,
                "line 2: needs one of 'key' and 'key_hex', and it must be a string",
            ),
            (r#"{"key":"a"}"#, "line 2: needs one of 'value' and 'value_hex'"),
            (
                r#"{"key_hex":"0","value":""}"#,
                "line 2: '0' has an odd number of hexadecimal digits",
            ),
            (r#"{"key":"a","key":"b","value":1}"#, "line 2: has the field 'key' more than once"),
            ("7", "line 2: is not a JSON object"),
            (r#"{"id":1}"#, "line 2: has a field 'id'; use --key-field to store whole objects"),
        ] {
            assert_eq!(read(&format!("{good}\n{bad}\n"), None).unwrap_err(), what);
        }
    }
}

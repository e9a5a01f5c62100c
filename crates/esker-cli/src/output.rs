//! Prints entries: as text, hexadecimal, or JSON.

use std::io::Write;

use serde_json::{Map, Value};

use crate::arguments::Form;
use crate::failure::Result;
use crate::text::{hex, write_shown};

/// Prints entries in one form.
pub(crate) struct Printer<'a> {
    out: &'a mut dyn Write,
    form: Form,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, form: Form) -> Self {
        Self { out, form }
    }

    /// A line with key and value.
    pub(crate) fn entry(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.form.json {
            return self.json(Some(key), Some(value));
        }
        self.text(key)?;
        self.out.write_all(b"=")?;
        self.text(value)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// A line with a key alone.
    pub(crate) fn key(&mut self, key: &[u8]) -> Result<()> {
        if self.form.json {
            return self.json(Some(key), None);
        }
        self.text(key)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// A line with a value; with its key too if the form is JSON.
    pub(crate) fn value(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.form.json {
            return self.json(Some(key), Some(value));
        }
        self.text(value)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    fn text(&mut self, bytes: &[u8]) -> Result<()> {
        if self.form.hex {
            self.out.write_all(hex(bytes).as_bytes())?;
        } else {
            write_shown(self.out, bytes)?;
        }
        Ok(())
    }

    fn json(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<()> {
        let mut object = Map::new();
        for (name, bytes) in [("key", key), ("value", value)] {
            let Some(bytes) = bytes else { continue };
            match std::str::from_utf8(bytes) {
                Ok(text) if !self.form.hex => object.insert(name.into(), Value::from(text)),
                _ => object.insert(format!("{name}_hex"), Value::from(hex(bytes))),
            };
        }
        writeln!(self.out, "{}", Value::Object(object))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(form: Form, print: impl Fn(&mut Printer<'_>) -> Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut Printer::new(&mut out, form)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_form() {
        let text = Form::default();
        let hex = Form { hex: true, json: false };
        let json = Form { hex: false, json: true };
        let both = Form { hex: true, json: true };
        let entry = |printer: &mut Printer<'_>| printer.entry(b"k\n", b"v");
        assert_eq!(printed(text, entry), "k\\x0a=v\n");
        assert_eq!(printed(hex, entry), "6b0a=76\n");
        assert_eq!(printed(json, entry), "{\"key\":\"k\\n\",\"value\":\"v\"}\n");
        assert_eq!(printed(both, entry), "{\"key_hex\":\"6b0a\",\"value_hex\":\"76\"}\n");
        let binary = |printer: &mut Printer<'_>| printer.entry(b"k", b"\xff");
        assert_eq!(printed(json, binary), "{\"key\":\"k\",\"value_hex\":\"ff\"}\n");
        assert_eq!(printed(json, |printer| printer.key(b"k")), "{\"key\":\"k\"}\n");
        assert_eq!(printed(text, |printer| printer.key(b"k")), "k\n");
        assert_eq!(printed(text, |printer| printer.value(b"k", b"v")), "v\n");
    }
}

//! Bytes as text that may be printed anywhere.
//!
//! What is printable UTF-8 is shown as it is; every other byte as `\xNN`. Nothing that is shown
//! moves the cursor of a terminal, rings it, or turns the direction of its text. What is shown stays
//! the same if it is shown again. Meant for people: a backslash is not escaped.

use std::fmt;

/// Bytes that are shown in readable form.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a [u8]);

impl<'a> From<&'a str> for Shown<'a> {
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            let valid = chunk.valid();
            let mut done = 0;
            for (at, c) in valid.char_indices().filter(|(_, c)| !is_printable(*c)) {
                f.write_str(&valid[done..at])?;
                done = at + c.len_utf8();
                escaped(f, &valid.as_bytes()[at..done])?;
            }
            f.write_str(&valid[done..])?;
            escaped(f, chunk.invalid())?;
        }
        Ok(())
    }
}

fn escaped(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// Whether a character has a shape of its own, or joins the one before it.
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // The standard library's table of what can be printed is reached only through its escapes. The
    // letter in front lets a combining mark pass, which alone would be escaped.
    let mut pair = String::with_capacity(8);
    pair.push('a');
    pair.push(c);
    pair.escape_debug().nth(1) == Some(c)
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn printable_text_is_shown_and_the_rest_escaped() {
        let shown = |bytes: &[u8]| Shown(bytes).to_string();
        assert_eq!(shown(b"plain = 'x' \\ \"y\""), "plain = 'x' \\ \"y\"");
        assert_eq!(shown(b"a\n\0\x7f"), "a\\x0a\\x00\\x7f");
        assert_eq!(shown(b"\xff\xc3"), "\\xff\\xc3");
        assert_eq!(shown("caf\u{e9} e\u{301}".as_bytes()), "caf\u{e9} e\u{301}");
        assert_eq!(shown("\u{202e}x\u{200b}".as_bytes()), "\\xe2\\x80\\xaex\\xe2\\x80\\x8b");
        assert_eq!(shown("\u{9b}2J".as_bytes()), "\\xc2\\x9b2J");
        let once = shown(b"\x1b[2J\\");
        assert_eq!(shown(once.as_bytes()), once);
    }
}

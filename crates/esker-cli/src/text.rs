//! Bytes as text, and back.
//!
//! What is printable UTF-8 is shown as it is; every other byte as `\xNN`. Nothing that is shown
//! moves the cursor of a terminal, rings it, or turns the direction of its text.

use std::io::{self, Write};

/// Writes `bytes` in readable form.
///
/// # Errors
/// Of `out`.
pub(crate) fn write_shown(out: &mut (impl Write + ?Sized), bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        let mut done = 0;
        for (at, c) in valid.char_indices().filter(|(_, c)| !is_printable(*c)) {
            out.write_all(&valid.as_bytes()[done..at])?;
            done = at + c.len_utf8();
            write_escaped(out, &valid.as_bytes()[at..done])?;
        }
        out.write_all(&valid.as_bytes()[done..])?;
        write_escaped(out, chunk.invalid())?;
    }
    Ok(())
}

/// `bytes` in readable form.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    write_shown(&mut out, bytes).expect("a vector takes all that is written");
    String::from_utf8(out).expect("what is shown is UTF-8")
}

/// As [`shown`], cut with `...` when longer than `width_max` characters.
pub(crate) fn shortened(bytes: &[u8], width_max: usize) -> String {
    // Cut first: a value may have gigabytes. No character is shown from more than four bytes.
    let text = shown(&bytes[..bytes.len().min(4 * width_max + 4)]);
    if text.chars().count() <= width_max && bytes.len() <= 4 * width_max + 4 {
        return text;
    }
    let kept: String = text.chars().take(width_max.saturating_sub(3)).collect();
    kept + "..."
}

fn write_escaped(out: &mut (impl Write + ?Sized), bytes: &[u8]) -> io::Result<()> {
    bytes.iter().try_for_each(|byte| write!(out, "\\x{byte:02x}"))
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

/// Bytes as two hexadecimal digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a string takes all that is written");
        out
    })
}

/// The bytes that hexadecimal digits stand for.
///
/// # Errors
/// A phrase that says what is wrong.
pub(crate) fn from_hex(digits: &[u8]) -> Result<Vec<u8>, String> {
    if !digits.len().is_multiple_of(2) {
        return Err(format!("'{}' has an odd number of hexadecimal digits", shown(digits)));
    }
    let pairs = digits.chunks_exact(2).map(|pair| hex_byte(pair[0], pair[1]));
    pairs
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(|| format!("'{}' is not hexadecimal", shown(digits)))
}

/// The byte that two hexadecimal digits stand for.
pub(crate) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A count with its digits in groups of three: `112,320`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size in bytes, with a unit of 1024 and one decimal: `6.2 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    while 1023.95 <= scaled && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_shown_and_the_rest_escaped() {
        assert_eq!(shown(b"plain = 'x' \\ \"y\""), "plain = 'x' \\ \"y\"");
        assert_eq!(shown(b"a\n\0\x7f"), "a\\x0a\\x00\\x7f");
        assert_eq!(shown(b"\xff\xc3"), "\\xff\\xc3");
        assert_eq!(shown("caf\u{e9} e\u{301}".as_bytes()), "caf\u{e9} e\u{301}");
        assert_eq!(shown("\u{202e}x\u{200b}".as_bytes()), "\\xe2\\x80\\xaex\\xe2\\x80\\x8b");
        assert_eq!(shown("\u{9b}2J".as_bytes()), "\\xc2\\x9b2J");
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(shortened(b"0123456789", 10), "0123456789");
        assert_eq!(shortened(b"0123456789a", 10), "0123456...");
        assert_eq!(shortened(&[0; 100], 10), "\\x00\\x0...");
    }

    #[test]
    fn hex_round_trips() {
        assert_eq!(from_hex(hex(b"\x00\xffA").as_bytes()), Ok(b"\x00\xffA".to_vec()));
        assert_eq!(from_hex(b"0fF0"), Ok(vec![15, 240]));
        assert!(from_hex(b"0").unwrap_err().contains("odd"));
        assert!(from_hex(b"0g").unwrap_err().contains("not hexadecimal"));
    }

    #[test]
    fn counts_and_sizes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 1023, 1024, 1536, (1 << 20) - 1, 5 << 40].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "5.0 TiB"]
        );
    }
}

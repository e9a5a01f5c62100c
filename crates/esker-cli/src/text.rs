//! Bytes as text, and back.
//!
//! Printable UTF-8 is shown as it is; every other byte as `\xNN`. Nothing shown moves the cursor of
//! a terminal, rings its bell, or changes the direction of its text.

use std::io::{self, Write};
use std::path::Path;

use esker_base::Shown;

/// Writes `bytes` in readable form.
///
/// # Errors
/// Of `out`.
pub(crate) fn write_shown(out: &mut (impl Write + ?Sized), bytes: &[u8]) -> io::Result<()> {
    write!(out, "{}", Shown(bytes))
}

/// `bytes` in readable form.
pub(crate) fn shown(bytes: &[u8]) -> String {
    Shown(bytes).to_string()
}

/// A path in readable form.
pub(crate) fn shown_path(path: &Path) -> String {
    shown(path.as_os_str().as_encoded_bytes())
}

/// A path as a word of a POSIX shell: quoted if necessary.
pub(crate) fn quoted_path(path: &Path) -> String {
    let text = shown_path(path);
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Like [`shown`], cut with `...` if longer than `width_max` characters.
pub(crate) fn shortened(bytes: &[u8], width_max: usize) -> String {
    // Cut first: a value may have gigabytes. No character is shown from more than four bytes.
    let text = shown(&bytes[..bytes.len().min(4 * width_max + 4)]);
    if text.chars().count() <= width_max && bytes.len() <= 4 * width_max + 4 {
        return text;
    }
    let kept: String = text.chars().take(width_max.saturating_sub(3)).collect();
    kept + "..."
}

/// Bytes as two hexadecimal digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a string takes all that is written");
        out
    })
}

/// The bytes of hexadecimal digits.
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

/// `NAME:DIGITS` with its hexadecimal digits in lower case, as recorded.
pub(crate) fn with_lower_digits(name: &str) -> String {
    match name.split_once(':') {
        Some((name, digits)) => format!("{name}:{}", digits.to_ascii_lowercase()),
        None => name.to_owned(),
    }
}

/// The byte of two hexadecimal digits.
pub(crate) fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |c: u8| char::from(c).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// A count with its digits grouped in threes: `112,320`.
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
    fn paths_are_words_of_a_shell() {
        let quoted = |path: &str| quoted_path(Path::new(path));
        assert_eq!(quoted("/tmp/a-b_c.d"), "/tmp/a-b_c.d");
        assert_eq!(quoted("my cities"), "'my cities'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted("a$b"), "'a$b'");
        assert_eq!(quoted(""), "''");
        assert_eq!(shown_path(Path::new("a\n b")), "a\\x0a b");
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

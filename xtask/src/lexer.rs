//! Splits Rust text into code, comments and literals.
//!
//! Knows only as much of Rust's lexical grammar as needed to distinguish them: nested block
//! comments, raw and byte strings, character literals versus lifetimes. It knows no other syntax,
//! and accepts text that does not compile.

/// The kind of a piece of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Neither of the others, including white space.
    Code,
    /// A line or block comment, including doc comments, with its markers.
    Comment,
    /// A string, byte string or character literal, with its quotes.
    Literal,
}

/// A piece of text of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span<'a> {
    /// What it is.
    pub(crate) kind: Kind,
    /// Line of its first byte, from 1.
    pub(crate) line: usize,
    /// The text.
    pub(crate) text: &'a str,
}

/// Splits `text`; the spans concatenated are the text.
pub(crate) fn spans(text: &str) -> Vec<Span<'_>> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut code_start = 0;
    let mut at = 0;
    let mut line = 1;
    let mut code_line = 1;
    while at < bytes.len() {
        let Some((kind, len)) = special(&bytes[at..], at > 0 && is_word(bytes[at - 1])) else {
            line += usize::from(bytes[at] == b'\n');
            at += 1;
            continue;
        };
        if code_start < at {
            out.push(Span { kind: Kind::Code, line: code_line, text: &text[code_start..at] });
        }
        out.push(Span { kind, line, text: &text[at..at + len] });
        line += bytes[at..at + len].iter().filter(|&&byte| byte == b'\n').count();
        at += len;
        code_start = at;
        code_line = line;
    }
    if code_start < at {
        out.push(Span { kind: Kind::Code, line: code_line, text: &text[code_start..at] });
    }
    out
}

/// Lines of comments: line number from 1, and the text without markers.
pub(crate) fn comment_lines(text: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    for span in spans(text).into_iter().filter(|span| span.kind == Kind::Comment) {
        for (index, line) in span.text.lines().enumerate() {
            let bare = line.trim().trim_start_matches(['/', '*', '!']).trim_end_matches("*/");
            out.push((span.line + index, bare.trim().to_owned()));
        }
    }
    out
}

/// Contents of literals, without prefix and quotes, escapes as written.
pub(crate) fn literals(text: &str) -> Vec<&str> {
    spans(text)
        .into_iter()
        .filter(|span| span.kind == Kind::Literal)
        .map(|span| {
            let open = span.text.find(['"', '\'']).map_or(0, |index| index + 1);
            span.text[open..].trim_end_matches(['"', '\'', '#'])
        })
        .collect()
}

/// The kind and length of the comment or literal at the start of `rest`.
fn special(rest: &[u8], after_word: bool) -> Option<(Kind, usize)> {
    match rest {
        [b'/', b'/', ..] => {
            let len = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            Some((Kind::Comment, len))
        }
        [b'/', b'*', ..] => Some((Kind::Comment, block_comment_len(rest))),
        [b'"', ..] => Some((Kind::Literal, quoted_len(rest, b'"'))),
        [b'\'', ..] => char_len(rest).map(|len| (Kind::Literal, len)),
        [b'b' | b'c', b'"', ..] if !after_word => {
            Some((Kind::Literal, 1 + quoted_len(&rest[1..], b'"')))
        }
        [b'b', b'\'', ..] if !after_word => {
            char_len(&rest[1..]).map(|len| (Kind::Literal, 1 + len))
        }
        [b'r', ..] if !after_word => raw_len(rest, 1),
        [b'b' | b'c', b'r', ..] if !after_word => raw_len(rest, 2),
        _ => None,
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a character literal; `None` for a lifetime.
fn char_len(rest: &[u8]) -> Option<usize> {
    match rest.get(1)? {
        b'\\' => Some(quoted_len(rest, b'\'')),
        byte => {
            let width = match byte {
                0x00..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        }
    }
}

/// A raw string whose hashes or quote are at `open`; `None` for an identifier.
fn raw_len(rest: &[u8], open: usize) -> Option<(Kind, usize)> {
    let hashes = rest[open..].iter().take_while(|&&byte| byte == b'#').count();
    let body = open + hashes + 1;
    if rest.get(open + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let end = rest[body..].windows(close.len()).position(|window| window == close);
    Some((Kind::Literal, end.map_or(rest.len(), |index| body + index + close.len())))
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(Kind, &str)> {
        spans(text).into_iter().map(|span| (span.kind, span.text)).collect()
    }

    #[test]
    fn comments_strings_and_lifetimes_are_told_apart() {
        use Kind::{Code, Comment, Literal};
        assert_eq!(cut("a // x \"y\"\nb"), [(Code, "a "), (Comment, "// x \"y\""), (Code, "\nb")]);
        assert_eq!(cut("/* a /* b */ c */d"), [(Comment, "/* a /* b */ c */"), (Code, "d")]);
        assert_eq!(cut(r#"f("a\"//b")"#), [(Code, "f("), (Literal, r#""a\"//b""#), (Code, ")")]);
        assert_eq!(cut(r##"r#"a"b"#;"##), [(Literal, r##"r#"a"b"#"##), (Code, ";")]);
        assert_eq!(cut("&'a str"), [(Code, "&'a str")]);
        assert_eq!(cut("'\"'+b'\\''"), [(Literal, "'\"'"), (Code, "+"), (Literal, "b'\\''")]);
        assert_eq!(cut("for r in bar"), [(Code, "for r in bar")]);
    }

    #[test]
    fn comment_lines_carry_their_numbers() {
        let lines = comment_lines("a\n//! one\n/* two\n * three */\n");
        let expected = [(2, "one"), (3, "two"), (4, "three")];
        assert_eq!(lines, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn literals_come_without_quotes() {
        assert_eq!(literals(r##"f("a", b"b", r#"c"#, 'd')"##), ["a", "b", "c", "d"]);
    }
}

//! Commands of the shell.

use std::time::Duration;

use super::words;
use crate::lifetime;
use crate::text::shown;

/// One command of the shell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    /// Store a value.
    Put(Vec<u8>, Vec<u8>),
    /// Store a value for so long.
    PutFor(Vec<u8>, Vec<u8>, Duration),
    /// Print for how long a key has its value.
    Ttl(Vec<u8>),
    /// Print a value.
    Get(Vec<u8>),
    /// Delete a key.
    Delete(Vec<u8>),
    /// Delete a key that was stored once.
    SingleDelete(Vec<u8>),
    /// Delete the keys from the first up to before the last.
    DeleteRange(Vec<u8>, Vec<u8>),
    /// Merge an operand into a value.
    Merge(Vec<u8>, Vec<u8>),
    /// Print the keys from the first to the last, both inclusive; all without bounds.
    Scan(Option<(Vec<u8>, Vec<u8>)>),
    /// Print the keys that start so.
    Prefix(Vec<u8>),
    /// Store made-up values under the decimal numbers from the first to the last.
    Fill(u64, u64),
    /// Write the memtable to a table.
    Flush,
    /// Compact everything.
    Compact,
    /// Draw the tree.
    Levels,
    /// Print counters.
    Stats,
    /// Say how a read comes to its answer.
    Explain(Vec<u8>),
    /// Make everything written durable.
    Sync,
    /// List the commands.
    Help,
    /// Leave.
    Quit,
}

/// Names, arguments and meaning of every command, as `help` prints them.
pub(crate) const HELP: [(&str, &str); 18] = [
    ("put K V [TTL]", "store value V under key K; with a TTL, like 90s, 5m, 2h or 7d, for so long"),
    ("ttl K", "print for how long K has its value"),
    ("get K", "print the value of K"),
    ("del K", "delete K"),
    ("single-delete K", "delete K, which was stored once"),
    ("delete-range A B", "delete the keys from A up to before B"),
    ("merge K V", "merge operand V into the value of K; a decimal number for add-u64 and add-i64"),
    ("scan [A B]", "print the keys from A to B, both inclusive; all without A B"),
    ("prefix P", "print the keys that start with P"),
    ("fill A B", "store value<i>@<epoch> under every decimal number i from A to B"),
    ("flush", "write the memtable to a table"),
    ("compact", "compact the whole tree (also: full_compaction)"),
    ("levels", "draw the tree (also: dump)"),
    ("stats", "print counters"),
    ("explain K", "say how a read of K comes to its answer"),
    ("sync", "make everything written so far survive a loss of power"),
    ("help", "print this list"),
    ("quit", "leave (also: close, exit, end of input)"),
];

/// Names that complete a command, including aliases.
pub(crate) const NAMES: [&str; 22] = [
    "put",
    "ttl",
    "get",
    "del",
    "single-delete",
    "delete-range",
    "merge",
    "scan",
    "prefix",
    "fill",
    "flush",
    "compact",
    "full_compaction",
    "levels",
    "dump",
    "stats",
    "explain",
    "sync",
    "help",
    "quit",
    "close",
    "exit",
];

impl Command {
    /// Parses a line; `None` for an empty one or a comment.
    ///
    /// # Errors
    /// A phrase that says what is wrong with the line.
    pub(crate) fn parse(line: &[u8]) -> Result<Option<Self>, String> {
        let mut words = words::split(line)?;
        if words.is_empty() {
            return Ok(None);
        }
        let name = shown(&words.remove(0)).to_lowercase();
        let mut words = words.into_iter();
        let arguments = (words.next(), words.next(), words.next());
        let command = match (name.as_str(), arguments) {
            ("put", (Some(key), Some(value), None)) => Self::Put(key, value),
            ("put", (Some(key), Some(value), Some(ttl))) if words.next().is_none() => {
                let ttl = lifetime::parse(&shown(&ttl)).ok().ok_or_else(|| usage("put"))?;
                Self::PutFor(key, value, ttl)
            }
            ("ttl", (Some(key), None, _)) => Self::Ttl(key),
            ("get", (Some(key), None, _)) => Self::Get(key),
            ("del", (Some(key), None, _)) => Self::Delete(key),
            ("single-delete", (Some(key), None, _)) => Self::SingleDelete(key),
            ("delete-range", (Some(first), Some(end), None)) => Self::DeleteRange(first, end),
            ("merge", (Some(key), Some(operand), None)) => Self::Merge(key, operand),
            ("scan", (None, ..)) => Self::Scan(None),
            ("scan", (Some(first), Some(last), None)) => Self::Scan(Some((first, last))),
            ("prefix", (Some(prefix), None, _)) => Self::Prefix(prefix),
            ("fill", (Some(first), Some(last), None)) => {
                Self::Fill(number(&first)?, number(&last)?)
            }
            ("flush", (None, ..)) => Self::Flush,
            ("compact" | "full_compaction", (None, ..)) => Self::Compact,
            ("levels" | "dump", (None, ..)) => Self::Levels,
            ("stats", (None, ..)) => Self::Stats,
            ("explain", (Some(key), None, _)) => Self::Explain(key),
            ("sync", (None, ..)) => Self::Sync,
            ("help", (None, ..)) => Self::Help,
            ("quit" | "close" | "exit", (None, ..)) => Self::Quit,
            (name, _) => return Err(usage(name)),
        };
        Ok(Some(command))
    }
}

fn number(word: &[u8]) -> Result<u64, String> {
    let text = std::str::from_utf8(word).ok();
    text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("'{}' is not a decimal number", shown(word)))
}

/// The message for a known command with wrong arguments, or an unknown one.
fn usage(name: &str) -> String {
    let known = match name {
        "full_compaction" => "compact",
        "dump" => "levels",
        "close" | "exit" => "quit",
        name => name,
    };
    match HELP.iter().find(|(form, _)| form.split(' ').next() == Some(known)) {
        Some((form, _)) => format!("usage: {}", form.replacen(known, name, 1)),
        None => format!("there is no command '{name}': type help for a list"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Command>, String> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn commands_in_any_case_with_their_aliases() {
        let key = |text: &str| text.as_bytes().to_vec();
        assert_eq!(parse("PUT 'a b' ''"), Ok(Some(Command::Put(key("a b"), vec![]))));
        let ttl = Duration::from_secs(300);
        assert_eq!(parse("put a b 5m"), Ok(Some(Command::PutFor(key("a"), key("b"), ttl))));
        assert_eq!(parse("ttl a"), Ok(Some(Command::Ttl(key("a")))));
        assert_eq!(parse("put a b 5m c"), Err("usage: put K V [TTL]".into()));
        assert_eq!(parse("Get k"), Ok(Some(Command::Get(key("k")))));
        assert_eq!(parse("scan"), Ok(Some(Command::Scan(None))));
        assert_eq!(parse("scan a b"), Ok(Some(Command::Scan(Some((key("a"), key("b")))))));
        assert_eq!(parse("fill 1 20"), Ok(Some(Command::Fill(1, 20))));
        assert_eq!(parse("full_compaction"), Ok(Some(Command::Compact)));
        assert_eq!(parse("dump"), Ok(Some(Command::Levels)));
        assert_eq!(parse("close"), parse("exit"));
        assert_eq!(parse("  # nothing"), Ok(None));
    }

    #[test]
    fn every_name_is_known_and_every_known_command_is_in_the_help() {
        for name in NAMES {
            let answer = parse(&format!("{name} a b c"));
            assert!(answer.clone().is_err_and(|what| what.starts_with("usage: ")), "{answer:?}");
        }
        assert_eq!(HELP.len(), NAMES.len() - 4, "four names are aliases");
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        assert_eq!(parse("put k"), Err("usage: put K V [TTL]".into()));
        assert_eq!(parse("scan a"), Err("usage: scan [A B]".into()));
        assert_eq!(parse("dump x"), Err("usage: dump".into()));
        assert_eq!(parse("fill 1 -2"), Err("'-2' is not a decimal number".into()));
        assert_eq!(parse("fill +1 2"), Err("'+1' is not a decimal number".into()));
        assert_eq!(parse("bogus"), Err("there is no command 'bogus': type help for a list".into()));
    }
}

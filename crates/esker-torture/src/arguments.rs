//! The command line: a command, a word or two, and `--name value` pairs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Result;

/// The arguments of the command line.
pub(crate) struct Arguments {
    words: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Arguments {
    pub(crate) fn of_process() -> Self {
        let (mut words, mut options) = (Vec::new(), BTreeMap::new());
        let mut all = std::env::args().skip(1).peekable();
        while let Some(word) = all.next() {
            match word.strip_prefix("--") {
                None => words.push(word),
                Some(name) => {
                    let value = all.next_if(|next| !next.starts_with("--")).unwrap_or_default();
                    options.insert(name.to_owned(), value);
                }
            }
        }
        Self { words, options }
    }

    pub(crate) fn command(&self) -> Option<&str> {
        self.words.first().map(String::as_str)
    }

    /// The word after the command.
    pub(crate) fn mode(&self) -> Result<&str> {
        self.words.get(1).map(String::as_str).ok_or_else(|| "a mode is missing".to_owned())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64> {
        match self.options.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_error| format!("--{name} {text}: not a number")),
        }
    }

    pub(crate) fn path(&self, name: &str) -> Result<PathBuf> {
        let value = self.options.get(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from).ok_or_else(|| format!("--{name} is missing"))
    }
}

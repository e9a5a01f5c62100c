//! The command line: a command, a word or two, `--name value` pairs and flags. What a command does
//! not know is refused: a misspelt `--seed` would be a run with another seed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Result;

/// What a command knows.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// How many words may follow the command.
    pub(crate) word_count_max: usize,
    /// Options with a value.
    pub(crate) values: &'static [&'static str],
    /// Options without.
    pub(crate) flags: &'static [&'static str],
}

/// The arguments of a command.
pub(crate) struct Arguments {
    words: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Arguments {
    /// The arguments `all`, as the command knows them.
    pub(crate) fn new(known: Known, all: impl IntoIterator<Item = String>) -> Result<Self> {
        let (mut words, mut options) = (Vec::new(), BTreeMap::new());
        let mut all = all.into_iter().peekable();
        while let Some(word) = all.next() {
            let Some(name) = word.strip_prefix("--") else {
                words.push(word);
                continue;
            };
            let value = if known.flags.contains(&name) {
                String::new()
            } else if known.values.contains(&name) {
                let value = all.next_if(|next| !next.starts_with("--") && !next.is_empty());
                value.ok_or_else(|| format!("{word} needs a value"))?
            } else {
                let options = [known.values, known.flags].concat().join(", --");
                return Err(format!("there is no option {word}, but --{options}"));
            };
            if options.insert(name.to_owned(), value).is_some() {
                return Err(format!("{word} is given twice"));
            }
        }
        match words.get(known.word_count_max) {
            Some(word) => Err(format!("{word} is not expected")),
            None => Ok(Self { words, options }),
        }
    }

    /// The word after the command.
    pub(crate) fn mode(&self) -> Result<&str> {
        self.words.first().map(String::as_str).ok_or_else(|| "a mode is missing".to_owned())
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

    /// The value of an option, if it is given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    pub(crate) fn path(&self, name: &str) -> Result<PathBuf> {
        self.text(name).map(PathBuf::from).ok_or_else(|| format!("--{name} is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { word_count_max: 1, values: &["seed", "runs"], flags: &["power"] };

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::new(KNOWN, line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_values_and_flags_are_told_apart() {
        let arguments = parse("--power kill --seed 7").unwrap();
        assert_eq!(arguments.mode(), Ok("kill"));
        assert_eq!((arguments.number("seed", 1), arguments.number("runs", 5)), (Ok(7), Ok(5)));
        assert!(arguments.has("power") && !arguments.has("runs"));
        assert!(parse("").unwrap().mode().is_err());
        assert!(parse("--seed x").unwrap().number("seed", 1).is_err());
    }

    #[test]
    fn what_a_command_does_not_know_is_refused() {
        for (line, why) in [
            ("kill --seeds 7", "there is no option --seeds, but --seed, --runs, --power"),
            ("kill --seed", "--seed needs a value"),
            ("kill --seed --power", "--seed needs a value"),
            ("kill --seed 1 --seed 2", "--seed is given twice"),
            ("kill power", "power is not expected"),
            ("kill --power 7", "7 is not expected"),
        ] {
            assert_eq!(parse(line).err().as_deref(), Some(why), "{line}");
        }
    }
}

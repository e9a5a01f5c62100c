//! The text files of the repository, in memory.
//!
//! Checks work on a [`Tree`], so a test can pass a bad one without touching a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

/// Files that nobody wrote by hand.
const SKIPPED_NAMES: [&str; 6] =
    [".git", "target", "node_modules", "corpus", "artifacts", "esker-tour"];

/// Every file of the repository, by its path from the root, with `/` as separator.
#[derive(Default)]
pub(crate) struct Tree {
    texts: BTreeMap<String, String>,
    paths: BTreeSet<String>,
}

impl Tree {
    /// Reads everything below `root`.
    ///
    /// # Errors
    /// If a directory or file cannot be read.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_dir(root, "")?;
        Ok(tree)
    }

    fn read_dir(&mut self, dir: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if SKIPPED_NAMES.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.read_dir(&entry.path(), &format!("{path}/"))?;
            } else {
                // Files that are not text are known only by name.
                if let Ok(text) = String::from_utf8(fs::read(entry.path())?) {
                    self.texts.insert(path.clone(), text);
                }
                self.paths.insert(path);
            }
        }
        Ok(())
    }

    /// A tree of the given files.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let texts: BTreeMap<_, _> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Self { paths: texts.keys().cloned().collect(), texts }
    }

    /// Text files: path and contents.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Text files whose path ends in `suffix`.
    pub(crate) fn texts_ending(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| path.ends_with(suffix))
    }

    /// The contents of one text file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Paths of all files, text or not.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    /// Whether a file or directory of exactly this path exists.
    pub(crate) fn has_path(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let inside = format!("{path}/");
        path.is_empty()
            || self.paths.contains(path)
            || self.paths.range(inside.clone()..).next().is_some_and(|p| p.starts_with(&inside))
    }

    /// Whether some file or directory has a path that ends in these parts.
    pub(crate) fn has_path_ending(&self, tail: &str) -> bool {
        let tail = tail.trim_matches('/');
        self.paths().any(|path| {
            format!("/{path}").ends_with(&format!("/{tail}"))
                || format!("/{path}").contains(&format!("/{tail}/"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_by_whole_parts() {
        let tree = Tree::of(&[("a/src/gc.rs", ""), ("a/testdata/gc/x.txt", "")]);
        assert!(tree.has_path("a/src"));
        assert!(!tree.has_path("a/sr"));
        assert!(tree.has_path_ending("gc.rs"));
        assert!(tree.has_path_ending("testdata/gc/"));
        assert!(!tree.has_path_ending("c.rs"));
        assert!(!tree.has_path_ending("data/gc"));
    }
}

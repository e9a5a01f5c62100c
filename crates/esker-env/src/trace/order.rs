//! Rules ready made, for what programs most often get wrong.

use std::path::Path;

use super::pending::{Change, Pending, is_named};
use super::{Operation, TraceFileSystem};

/// Which files have to be durable before which others change. In the forms of their names, `*` stands
/// for any characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order<'a> {
    /// What is referred to, such as `*.data`.
    pub first: &'a str,
    /// What refers to it, such as `index`.
    pub then: &'a str,
}

impl TraceFileSystem {
    /// Requires that every byte of a file is durable before the file is renamed, if its old or its new
    /// name has the form of `pattern`: otherwise a power loss may leave the new name with anything.
    pub fn require_whole_before_rename(&self, pattern: &str) {
        let pattern = pattern.to_owned();
        self.require("whole before it is renamed", move |change, pending| {
            let is_meant = change.operation == Operation::Rename
                && change.paths().any(|path| is_named(path, &pattern));
            match pending.bytes_of(&change.path).first() {
                Some(first) if is_meant => {
                    Err(format!("its bytes are not durable since change {first}"))
                }
                _ => Ok(()),
            }
        });
    }

    /// Requires that every file named as [`Order::first`] says is durable, with its name, before a file
    /// named as [`Order::then`] says is created, written, truncated, allocated, renamed, linked or
    /// removed. A sync may come at any time.
    pub fn require_order(&self, order: Order<'_>) {
        let (first, then) = (order.first.to_owned(), order.then.to_owned());
        self.require(format!("{first} before {then}"), move |change, pending| {
            if is_of_no_file(change.operation) || !concerns(change, pending, &then) {
                return Ok(());
            }
            match pending.files(&first).as_slice() {
                [] => Ok(()),
                [file, ..] => Err(format!("{} is not durable", file.display())),
            }
        });
    }
}

/// Whether it changes nothing of a file, or of something else.
const fn is_of_no_file(operation: Operation) -> bool {
    use Operation::{CreateDir, Lock, Sync, SyncDir};
    matches!(operation, Sync | SyncDir | CreateDir | Lock)
}

/// Whether the change is of a file that has a name of this form, or gets one.
fn concerns(change: &Change, pending: &Pending, pattern: &str) -> bool {
    let is_meant = |path: &Path| is_named(path, pattern);
    // Bytes belong to all names of a file.
    let others = change.bytes.iter().flat_map(|_| pending.names_of(&change.path));
    change.paths().any(is_meant) || others.into_iter().any(is_meant)
}

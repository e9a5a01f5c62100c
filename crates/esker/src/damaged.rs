//! Reading files that may be damaged, as far as they are intact.
//!
//! `reading.rs` replaces how the files of a file system are read: `unreadable.rs` reads zeros where the
//! device refuses, and records that; `patched.rs` gives a file another header, and `renaming.rs` another
//! name. `log_walk.rs` reads a log past everything that is damaged. Used by the doctor, and by an open
//! that salvages; does not know what either makes of it.

pub(crate) mod log_walk;
pub(crate) mod patched;
pub(crate) mod reading;
pub(crate) mod renaming;
pub(crate) mod unreadable;

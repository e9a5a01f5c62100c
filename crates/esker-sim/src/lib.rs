//! The tree simulator, beside the floors of Esker.
//!
//! A [`Simulation`] runs the policies of the engine on a tree whose tables are only numbers: which
//! keys they cover and how old their entries are. One step is a flush and all compactions that
//! follow from it; the same seed gives the same steps. It counts what a policy costs, and fails if
//! a policy never comes to rest or puts an older entry in front of a newer one.
//!
//! Knows no files, threads or time: nothing here reads or writes.

#![forbid(unsafe_code)]

mod ages;
mod figures;
mod keys;
mod picture;
mod simulation;
mod svg;
mod text;
mod tree;

pub use figures::Figures;
pub use picture::{Picture, Row, Rows, TablePicture};
pub use simulation::{Compaction, Failure, Setup, Simulation, Step};
pub use svg::write_svg;
pub use text::{Detail, write_step};

//! Beside the house of Esker: the tree simulator.
//!
//! A [`Simulation`] runs the very policies of the engine on a tree whose tables are numbers: which
//! keys they cover and how old their entries are. One step is a flush and every compaction that
//! follows from it; the same seed gives the same steps. It counts what a policy costs, and fails if
//! one never comes to rest or puts an older entry in front of a newer.
//!
//! Does not know files, threads or time: nothing here reads or writes.

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

//! Floor 2 of Esker: checksummed record framing, shared by the write-ahead log and the manifest.
//!
//! A segment is one file: a header, then frames. [`LogWriter`] appends frames, [`LogSync`] makes
//! them durable, [`LogReader`] reads them back and says how the segment ends. That verdict is the
//! point of the format: every frame records how much of the segment was durable when it was
//! encoded. So a frame that never reached the disk because of a crash (a torn tail, which is cut
//! off) can be distinguished from one that was there and is damaged (an error, never cut off).
//! `docs/FORMAT.md` section 3 has the bytes.
//!
//! Does not know what the payloads mean, which segments belong together, or when to sync.

#![forbid(unsafe_code)]

mod frame;
mod next_window;
mod reader;
mod sync;
mod write_back;
mod writer;

pub use reader::{ExpectedHeader, Extent, Frame, LogEnd, LogReader};
pub use sync::LogSync;
pub use write_back::write_back;
pub use writer::LogWriter;

//! The program as its users meet it: processes, pipes, exit statuses, `kill -9`.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

/// Running the program.
mod program;

/// Exit statuses and output of the one-shot commands.
mod one_shot;

/// The shell at the end of a pipe.
mod shell;

/// Loading files.
mod load;

/// What is left after the program was killed.
mod kill;

/// Damage, found and repaired.
mod doctor;

/// The whole tour.
mod tour;

/// A log that lies apart.
mod log_dir;

/// Names that are not to move the cursor, and trees as they are drawn.
mod names;

/// No room on the device.
mod room;

/// What comes next, and what would cost what.
mod foresight;

//! A step as text: the tree after the flush, each task and the tree after it, and the counts. In
//! the style of the course mini-lsm, so that runs can be compared with it.

use std::io::{self, Write};

use crate::picture::{Picture, TablePicture};
use crate::simulation::{Compaction, Step};

/// How much detail of its tables a step shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// Their number.
    Sizes,
    /// For each, the number of the flushed table whose place it took.
    Origins,
    /// The number of each.
    Ids,
    /// The number of each, and in tasks also its keys.
    Keys,
}

/// Writes `step`: the tree after the flush, each task and the tree after it, and the counts.
///
/// # Errors
/// Of `out`.
pub fn write_step(step: &Step, detail: Detail, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "=== Iteration {} ===", step.iteration)?;
    writeln!(out, "--- After Flush ---")?;
    write_picture(&step.after_flush, detail, out)?;
    for compaction in &step.compactions {
        writeln!(out, "--- Compaction Task ---")?;
        write_task(compaction, detail, out)?;
        writeln!(out, "--- After Compaction ---")?;
        write_picture(&compaction.after, detail, out)?;
    }
    match step.compactions.len() {
        0 => writeln!(out, "no compaction triggered")?,
        1 => writeln!(out, "1 compaction triggered in this iteration")?,
        count => writeln!(out, "{count} compactions triggered in this iteration")?,
    }
    let figures = &step.figures;
    writeln!(out, "--- Statistics ---")?;
    writeln!(
        out,
        "Write Amplification: {}/{}={:.3}x",
        figures.tables_written,
        figures.flushes,
        figures.write_amplification()
    )?;
    writeln!(
        out,
        "Maximum Space Usage: {}/{}={:.3}x",
        figures.peak_tables,
        figures.flushes,
        figures.space_amplification()
    )?;
    writeln!(out, "Read Amplification: {}x", figures.read_amplification)?;
    writeln!(out)
}

fn write_picture(picture: &Picture, detail: Detail, out: &mut dyn Write) -> io::Result<()> {
    for row in &picture.rows {
        write!(out, "{} ({})", row.name, row.tables.len())?;
        let numbers: Vec<u64> = match detail {
            Detail::Sizes => {
                writeln!(out)?;
                continue;
            }
            Detail::Origins => row.tables.iter().map(|table| table.origin).collect(),
            Detail::Ids | Detail::Keys => row.tables.iter().map(|table| table.id).collect(),
        };
        writeln!(out, ": {numbers:?}")?;
    }
    Ok(())
}

fn write_task(task: &Compaction, detail: Detail, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{}:", task.reason)?;
    for (row, tables) in &task.inputs {
        write!(out, " {row} ")?;
        write_tables(tables, detail, out)?;
    }
    if task.is_drop {
        return writeln!(out, " dropped");
    }
    write!(out, " -> ")?;
    write_tables(&task.outputs, detail, out)?;
    writeln!(out)
}

fn write_tables(tables: &[TablePicture], detail: Detail, out: &mut dyn Write) -> io::Result<()> {
    if detail == Detail::Sizes {
        return write!(out, "({})", tables.len());
    }
    write!(out, "[")?;
    for (index, table) in tables.iter().enumerate() {
        write!(out, "{}{}", if index == 0 { "" } else { ", " }, table.id)?;
        if detail == Detail::Keys {
            write!(out, " {:08x}..={:08x}", table.first_key, table.last_key)?;
        }
    }
    write!(out, "]")
}

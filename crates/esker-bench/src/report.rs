//! Puts the results where they are read.

use std::fs;
use std::path::Path;

use crate::cell::median;
use crate::engine::Result;
use crate::options::RunOptions;
use crate::rounds::RowResult;
use crate::{chart, json, process, table};

/// Line behind the results in a document.
const END: &str = "<!-- end of results -->";

/// Writes the files that the help speaks of, and the table into the document.
pub(crate) fn write(options: &RunOptions, results: &[RowResult]) -> Result<()> {
    fs::create_dir_all(&options.out)?;
    let text = head(options, results) + &table::tables(options, results);
    fs::write(options.out.join("results.json"), json::results(options, results))?;
    fs::write(options.out.join("table.md"), &text)?;
    fs::write(options.out.join("chart.svg"), chart::bars(options, results))?;
    options.document.as_deref().map_or(Ok(()), |path| insert(path, &options.name, &text))
}

fn head(options: &RunOptions, results: &[RowResult]) -> String {
    let cells = || results.iter().flat_map(|result| result.engines.iter().flatten());
    let loads = || cells().map(|cell| cell.load);
    let verified: f64 = cells().map(|cell| cell.verified).sum();
    let engines: String =
        options.engines.iter().map(|kind| format!("- {}: {}\n", kind.name, kind.about)).collect();
    format!(
        "- command: `{}`\n- machine: {}\n- {} keys of 16 bytes, values of {} bytes, half \
         compressible; medians of {} interleaved rounds; load average when a cell began: median \
         {:.1}, from {:.1} to {:.1}\n- {verified:.0} reads and scans were compared with what they \
         must give, and were right\n{engines}\n",
        options.command,
        process::machine(),
        options.count,
        options.value_bytes,
        options.rounds,
        median(loads()),
        loads().fold(f64::INFINITY, f64::min),
        loads().fold(0.0, f64::max),
    )
}

/// Puts `text` between the two lines that mark its place.
pub(crate) fn insert(path: &Path, name: &str, text: &str) -> Result<()> {
    let document = fs::read_to_string(path)?;
    let replaced = replace(&document, name, text);
    let document = replaced.ok_or_else(|| format!("{} has no place for it", path.display()))?;
    Ok(fs::write(path, document)?)
}

fn replace(document: &str, name: &str, text: &str) -> Option<String> {
    let start_line = format!("<!-- results {name} -->\n");
    let start = document.find(&start_line)? + start_line.len();
    let end = start + document[start..].find(END)?;
    Some(format!("{}{text}{}", &document[..start], &document[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_replace_those_of_the_same_name_only() {
        let document =
            format!("a\n<!-- results x -->\nold\n{END}\n<!-- results y -->\nold\n{END}\n");
        let replaced = replace(&document, "y", "new\n");
        let expected =
            format!("a\n<!-- results x -->\nold\n{END}\n<!-- results y -->\nnew\n{END}\n");
        assert_eq!(replaced, Some(expected));
        assert_eq!(replace(&document, "z", "new"), None);
    }
}

//! The results as JSON: every cell of every round.

use std::fmt::Write as _;

use crate::options::RunOptions;
use crate::process;
use crate::rounds::RowResult;

/// Machine, settings and all cells.
pub(crate) fn results(options: &RunOptions, results: &[RowResult]) -> String {
    let mut out = String::from("{\n");
    field(&mut out, "machine", &process::machine());
    field(&mut out, "command", &options.command);
    put(
        &mut out,
        format_args!(
            "  \"count\": {},\n  \"value_bytes\": {},\n  \"cells\": [",
            options.count, options.value_bytes
        ),
    );
    let mut separator = "\n";
    for result in results {
        for (kind, cells) in options.engines.iter().zip(&result.engines) {
            for (round, cell) in cells.iter().enumerate() {
                put(
                    &mut out,
                    format_args!("{separator}    {{\"row\": {}", quoted(result.row.name)),
                );
                put(&mut out, format_args!(", \"engine\": {}", quoted(kind.name)));
                put(&mut out, format_args!(", \"round\": {round}"));
                for (name, value) in cell.named() {
                    put(&mut out, format_args!(", \"{name}\": {value}"));
                }
                out.push('}');
                separator = ",\n";
            }
        }
    }
    out.push_str("\n  ]\n}\n");
    out
}

fn field(out: &mut String, name: &str, value: &str) {
    put(out, format_args!("  \"{name}\": {},\n", quoted(value)));
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes everything");
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

//! `esker simulate`: runs a compaction policy on a tree without files.
//!
//! Prints every step, then the amplifications. The command fails if the policy does not come to
//! rest, or breaks the order of a level.

mod arguments;
#[cfg(test)]
mod tests;

use std::io::Write;

use esker_sim::{Detail, Figures, Setup, Simulation, write_step, write_svg};
use serde_json::json;

use crate::failure::{Failure, Result};

pub(crate) use arguments::Simulated;

/// Runs the simulation.
pub(crate) fn run(simulated: &Simulated, out: &mut dyn Write) -> Result<()> {
    let asked = simulated.run();
    if !(1..=1_000_000).contains(&asked.iterations) {
        let count = asked.iterations;
        return Err(Failure::other(format!(
            "--iterations is {count}, and must be from 1 to 1000000"
        )));
    }
    let parts = simulated.parts()?;
    let title = format!("{}, {} flushes", parts.policy.name(), asked.iterations);
    let detail = match (asked.size_only, asked.dump_ids) {
        (true, _) => Detail::Sizes,
        (false, true) if parts.has_random_keys => Detail::Keys,
        (false, true) => Detail::Ids,
        (false, false) => Detail::Origins,
    };
    let mut simulation = Simulation::new(Setup {
        policy: parts.policy,
        rows: parts.rows,
        table_bytes: parts.table_bytes,
        seed: parts.has_random_keys.then_some(asked.seed),
        interval: parts.interval,
    });
    let mut drawn = Vec::new();
    for _ in 0..asked.iterations {
        let step = simulation.step().map_err(|failure| Failure::other(failure.to_string()))?;
        write_step(&step, detail, out)?;
        if asked.svg.is_some() {
            drawn.push(step.figures);
        }
    }
    let figures = simulation.figures();
    write_result(&figures, out)?;
    if let Some(path) = &asked.svg {
        let mut drawing = Vec::new();
        write_svg(&title, &drawn, &mut drawing)?;
        std::fs::write(path, drawing)
            .map_err(|error| Failure::other(format!("cannot write {}: {error}", path.display())))?;
    }
    if asked.json {
        writeln!(out, "{}", json_of(&figures))?;
    }
    Ok(())
}

fn write_result(figures: &Figures, out: &mut dyn Write) -> Result<()> {
    let shape: Vec<String> = figures.shape.iter().map(u64::to_string).collect();
    writeln!(
        out,
        "write amplification: {}/{} = {:.3}",
        figures.tables_written,
        figures.flushes,
        figures.write_amplification()
    )?;
    writeln!(
        out,
        "space amplification: {}/{} = {:.3}",
        figures.peak_tables,
        figures.flushes,
        figures.space_amplification()
    )?;
    writeln!(out, "read amplification: {}", figures.read_amplification)?;
    writeln!(out, "tables, newest first: {}", shape.join(" "))?;
    Ok(())
}

fn json_of(figures: &Figures) -> serde_json::Value {
    json!({
        "flushes": figures.flushes,
        "tables_written": figures.tables_written,
        "write_amplification": figures.write_amplification(),
        "peak_tables": figures.peak_tables,
        "space_amplification": figures.space_amplification(),
        "read_amplification": figures.read_amplification,
        "shape": figures.shape,
    })
}

//! Draws a simulation: a bar of tables for each flush, the oldest level or tier at the bottom.

use std::io::{self, Write};

use crate::figures::Figures;

/// Width and height of the area of the bars.
const FIELD: (f64, f64) = (900.0, 360.0);
const LEFT: f64 = 60.0;
const TOP: f64 = 70.0;
/// From the oldest row on; repeated if there are more rows.
const COLOURS: [&str; 8] =
    ["#1d4e89", "#00b2ca", "#7dcfb6", "#f4b942", "#f79256", "#d1495b", "#8d5a97", "#6c757d"];

/// Draws a simulation with this `title`; `steps` are the figures after each flush.
///
/// # Errors
/// Of `out`.
pub fn write_svg(title: &str, steps: &[Figures], out: &mut dyn Write) -> io::Result<()> {
    let (width, height) = FIELD;
    let (all_width, all_height) = (LEFT + width + 30.0, TOP + height + 50.0);
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {all_width} {all_height}\" \
         font-family=\"sans-serif\" font-size=\"13\">"
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>")?;
    text(out, (LEFT, 26.0), "start", &escape(title))?;
    if let Some(last) = steps.last() {
        let line = format!(
            "{} flushes; amplification: write {:.3}, space {:.3}, read {}",
            last.flushes,
            last.write_amplification(),
            last.space_amplification(),
            last.read_amplification
        );
        text(out, (LEFT, 48.0), "start", &line)?;
    }
    let most = steps.iter().map(|step| step.shape.iter().sum()).max().unwrap_or(0).max(1);
    let bar = width / steps.len().max(1) as f64;
    for (index, step) in steps.iter().enumerate() {
        let x = LEFT + bar * index as f64;
        let mut below = 0;
        for (row, &count) in step.shape.iter().rev().enumerate().filter(|(_, count)| **count > 0) {
            let size = height * count as f64 / most as f64;
            let y = TOP + height - height * below as f64 / most as f64 - size;
            let colour = COLOURS[row % COLOURS.len()];
            writeln!(
                out,
                "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{size:.2}\" \
                 fill=\"{colour}\"/>",
                (bar * 0.9).max(0.5)
            )?;
            below += count;
        }
    }
    writeln!(
        out,
        "<path d=\"M{LEFT} {TOP} V{} H{}\" fill=\"none\" stroke=\"#222222\"/>",
        TOP + height,
        LEFT + width
    )?;
    text(out, (LEFT - 8.0, TOP + 5.0), "end", &most.to_string())?;
    text(out, (LEFT - 8.0, TOP + height), "end", "0")?;
    text(out, (LEFT + width, TOP + height + 20.0), "end", &format!("{} flushes", steps.len()))?;
    text(out, (LEFT, TOP + height + 20.0), "start", "tables, the oldest at the bottom")?;
    writeln!(out, "</svg>")
}

fn text(out: &mut dyn Write, (x, y): (f64, f64), anchor: &str, line: &str) -> io::Result<()> {
    writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{line}</text>")
}

fn escape(line: &str) -> String {
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

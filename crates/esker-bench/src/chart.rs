//! The rates as a bar chart in SVG: for each row the engines, against the fastest of the row.

use std::fmt::Write as _;

use crate::cell::{Cell, median};
use crate::options::RunOptions;
use crate::rounds::RowResult;

const COLOURS: [&str; 8] =
    ["#c0392b", "#7f8c8d", "#34495e", "#2980b9", "#16a085", "#8e44ad", "#d4ac0d", "#27ae60"];
const BAR_HEIGHT: usize = 9;
const LABEL_WIDTH: usize = 250;
const BAR_WIDTH: f64 = 500.0;

/// Draws the medians.
pub(crate) fn bars(options: &RunOptions, results: &[RowResult]) -> String {
    let count = options.engines.len();
    let row_height = count * BAR_HEIGHT + 12;
    let height = 30 + results.len() * row_height;
    let mut out = String::new();
    let mut put = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a string takes everything");
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    ));
    for (engine, kind) in options.engines.iter().enumerate() {
        let (x, colour) = (10 + engine * 105, COLOURS[engine % COLOURS.len()]);
        put(format_args!("<rect x=\"{x}\" y=\"8\" width=\"10\" height=\"10\" fill=\"{colour}\"/>"));
        put(format_args!("<text x=\"{}\" y=\"17\">{}</text>\n", x + 14, kind.name));
    }
    for (place, result) in results.iter().enumerate() {
        let top = 30 + place * row_height;
        put(format_args!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
            LABEL_WIDTH - 6,
            top + row_height / 2,
            result.row.name
        ));
        let rates: Vec<f64> =
            result.engines.iter().map(|cells| median(cells.iter().map(Cell::rate))).collect();
        let best = rates.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for (engine, rate) in rates.iter().enumerate().filter(|(_, rate)| rate.is_finite()) {
            let (y, width) = (top + engine * BAR_HEIGHT, rate / best * BAR_WIDTH);
            let colour = COLOURS[engine % COLOURS.len()];
            put(format_args!(
                "<rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{width:.0}\" height=\"{}\" \
                 fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{}\" font-size=\"8\">{rate:.0}</text>\n",
                BAR_HEIGHT - 1,
                LABEL_WIDTH as f64 + width + 3.0,
                y + BAR_HEIGHT - 2,
            ));
        }
    }
    put(format_args!("</svg>\n"));
    out
}

//! The results as tables in Markdown: medians of the rounds.

use std::fmt::Write as _;

use crate::cell::{Cell, median};
use crate::options::RunOptions;
use crate::rounds::RowResult;

/// Rates, then what they cost.
pub(crate) fn tables(options: &RunOptions, results: &[RowResult]) -> String {
    let mut out = String::new();
    let rates = "Operations per second (entries where entries are read or compacted; milliseconds \
                 where it says ms), and the median over rounds of Esker's ratio to the best other \
                 engine of the same round:";
    write_table(
        &mut out,
        options,
        results,
        rates,
        Some(("Esker / best other", Cell::rate as Figure)),
        |result, engine| {
            let cells = &result.engines[engine];
            let rate = median(cells.iter().map(Cell::rate));
            if result.row.is_time() {
                return format!("{:.1} ms", 1000.0 / rate);
            }
            let settled = median(cells.iter().map(Cell::settled_rate));
            if settled < 0.9 * rate {
                return format!("{} (settled {})", short(rate), short(settled));
            }
            short(rate)
        },
    );
    let cpu = "Processor time for each operation, all threads, in microseconds (until settled where \
               the row writes), and how many times Esker's the least of the others is; it moves \
               less than rates do when other programs run:";
    let cpu_title = Some(("least other / Esker", Cell::efficiency as Figure));
    write_table(&mut out, options, results, cpu, cpu_title, |result, engine| {
        number(median(result.engines[engine].iter().map(Cell::cpu_micros)))
    });
    for (title, show) in COSTS {
        write_table(&mut out, options, results, title, None, |result, engine| {
            show(&result.engines[engine])
        });
    }
    out
}

/// A figure of which more is better.
type Figure = fn(&Cell) -> f64;

/// Shows one figure of the rounds of one engine.
type Show = fn(&[Cell]) -> String;

const COSTS: [(&str, Show); 4] = [
    ("Peak resident memory in MB (mapped files included):", |cells| {
        format!("{:.0}", median(cells.iter().map(|cell| cell.peak_bytes / 1e6)))
    }),
    ("Latency in microseconds, 50 % / 99 % / 99.9 % / longest:", |cells| {
        let of = |get: fn(&Cell) -> f64| median(cells.iter().map(get));
        let [p50, p99] = [of(|cell| cell.p50_micros), of(|cell| cell.p99_micros)];
        let [p999, max] = [of(|cell| cell.p999_micros), of(|cell| cell.max_micros)];
        if max == 0.0 {
            return String::from("-");
        }
        format!("{} / {} / {} / {max:.0}", number(p50), number(p99), number(p999))
    }),
    ("Bytes written over bytes of keys and values:", |cells| {
        let written: Vec<_> = cells.iter().filter(|cell| 0.0 < cell.user_bytes).collect();
        match median(written.iter().map(|cell| cell.written_bytes / cell.user_bytes)) {
            ratio if ratio.is_nan() => String::from("-"),
            ratio => format!("{ratio:.2}"),
        }
    }),
    ("Space on disk at the end, in MB:", |cells| {
        match median(cells.iter().map(|cell| cell.disk_bytes / 1e6)) {
            0.0 => String::from("-"),
            megabytes => format!("{megabytes:.0}"),
        }
    }),
];

fn write_table(
    out: &mut String,
    options: &RunOptions,
    results: &[RowResult],
    title: &str,
    ratio_of: Option<(&str, Figure)>,
    show: impl Fn(&RowResult, usize) -> String,
) {
    let engines = 0..options.engines.len();
    let mut put = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("a string takes everything");
    };
    put(format_args!("{title}\n\n| row |"));
    options.engines.iter().for_each(|kind| put(format_args!(" {} |", kind.name)));
    ratio_of.iter().for_each(|(title, _)| put(format_args!(" {title} |")));
    put(format_args!("\n|---|"));
    engines.clone().for_each(|_| put(format_args!("---:|")));
    ratio_of.iter().for_each(|_| put(format_args!("---:|")));
    for result in results {
        let shown: Vec<String> = engines
            .clone()
            .map(|engine| match &result.engines[engine][..] {
                [] => String::new(),
                _ => show(result, engine),
            })
            .collect();
        if shown.iter().all(|text| text.is_empty() || text == "-") {
            continue;
        }
        put(format_args!("\n| {} |", result.row.name));
        shown.iter().for_each(|text| put(format_args!(" {text} |")));
        if let Some((_, figure)) = ratio_of {
            let ratio = ratio(result, figure).map_or(String::new(), |it| format!("{it:.2}"));
            put(format_args!(" {ratio} |"));
        }
    }
    put(format_args!("\n\n"));
}

/// Esker stands first: its figure over the best other one, round by round, and of these the median.
fn ratio(result: &RowResult, figure: Figure) -> Option<f64> {
    let (own, others) = result.engines.split_first()?;
    let ratios = own.iter().enumerate().filter_map(|(round, cell)| {
        let figures = others.iter().filter_map(|cells| Some(figure(cells.get(round)?)));
        Some(figure(cell) / figures.reduce(f64::max)?)
    });
    let ratio = median(ratios);
    (!ratio.is_nan()).then_some(ratio)
}

fn short(rate: f64) -> String {
    match rate {
        rate if 1e6 <= rate => format!("{:.2}M", rate / 1e6),
        rate if 1e4 <= rate => format!("{:.0}k", rate / 1e3),
        rate if 1e3 <= rate => format!("{:.1}k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

fn number(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

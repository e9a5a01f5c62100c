//! Measures Esker beside the stores that one would otherwise choose.
//!
//! One driver, one trait ([`engine`]), one file for each engine ([`engines`]), a list of rows
//! ([`rows`]). Rounds are interleaved ([`rounds`]), and every cell runs in a process of its own
//! ([`child`]), so that memory and processor time are accounted apart. It does not know how any
//! engine works.

#![deny(unsafe_code)]

mod cell;
mod cgroup;
mod chart;
mod child;
mod engine;
mod engines;
mod json;
mod keys;
mod limits;
mod machine;
mod options;
mod process;
/// Keys and values are those of `esker bench`, by the same code.
#[path = "../../esker-cli/src/bench/random.rs"]
mod random;
mod report;
mod rounds;
mod rows;
mod table;
#[path = "../../esker-cli/src/bench/values.rs"]
mod values;
mod work;

use std::io::Write as _;
use std::process::ExitCode;

/// Of the engines in C and C++, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some("child") => {
            child::Task::from_arguments(&arguments[1..]).and_then(|task| child::run(&task))
        }
        Some("limits") => limits::run(&arguments[1..]),
        _ => options::parse(&arguments).and_then(|options| {
            let results = rounds::run(&options)?;
            report::write(&options, &results)
        }),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody else to tell.
            drop(writeln!(std::io::stderr(), "esker-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

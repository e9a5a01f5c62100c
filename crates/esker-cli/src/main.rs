//! The program `esker`: a key-value database from the command line.
//!
//! Each command is a module; this file only dispatches to them, prints errors as one line, and
//! turns them into the exit status. All output goes through one writer, so that the program ends
//! quietly if its reader is gone.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod compaction;
mod doctor;
mod dump;
mod failure;
mod foresight;
mod lifetime;
mod load;
mod maintenance;
mod one_shot;
mod open;
mod output;
mod picture;
mod prefix_filter;
mod report;
mod shell;
mod simulate;
mod text;
mod tour;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use failure::{Failure, Result};

fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match Arguments::try_parse() {
        Ok(arguments) => run(&arguments.command, &mut out).and_then(|()| Ok(out.flush()?)),
        // Help and version are answers; anything else is an ordinary error.
        Err(answer) => match (answer.print(), answer.use_stderr()) {
            (_, true) => Err(Failure::Said),
            (printed, false) => printed.map_err(Failure::Output),
        },
    };
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if let Some(line) = failure.line() {
        // Output from before the failure comes first.
        drop(out.flush());
        drop(writeln!(io::stderr(), "{line}"));
    }
    ExitCode::from(failure.exit_status())
}

fn run(command: &Command, out: &mut dyn Write) -> Result<()> {
    match command {
        Command::Load(arguments) => load::run(arguments, out),
        Command::Get { target, key, form } => one_shot::get(target, key, *form, out),
        Command::Put { target, key, value, hex, sync, ttl } => {
            one_shot::put(target, (key, value), (*hex, *sync), *ttl)
        }
        Command::Del { target, key, hex, sync } => one_shot::delete(target, key, *hex, *sync),
        Command::Scan(arguments) => one_shot::scan(arguments, out),
        Command::Stats { place } => maintenance::stats(place, out),
        Command::Levels { place } => maintenance::levels(place, out),
        Command::Plan { place, json } => foresight::plan(place, *json, out),
        Command::WhatIf(arguments) => foresight::what_if(arguments, out),
        Command::Compact { place, keyspace, from, to } => {
            let bounds = (from.as_deref(), to.as_deref());
            maintenance::compact(place, keyspace.as_deref(), bounds)
        }
        Command::Flush { place } => maintenance::flush(place),
        Command::Dump { file, limit } => dump::run(file, *limit, out),
        Command::Shell(arguments) => shell::run(arguments, out),
        Command::Doctor(arguments) => doctor::run(arguments, out),
        Command::Bench(arguments) => bench::run(arguments, out),
        Command::Simulate(simulated) => simulate::run(simulated, out),
        Command::Tour { dir } => tour::run(dir, out),
        Command::TourWriter { dir } => tour::write_until_killed(dir, out),
    }
}

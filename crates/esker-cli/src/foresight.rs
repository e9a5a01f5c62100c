//! `esker plan` and `esker what-if`: which compactions come next, and what they would cost under
//! other policies. Both open the database for reading only.

use std::io::Write;

use esker::{KeyspaceOptions, PlannedJob, WhatIf, WhatIfOutcome};
use serde_json::{Value, json};

use crate::arguments::{DatabasePlace, WhatIfArguments};
use crate::failure::{Failure, Result};
use crate::open;
use crate::text::{grouped, shown, size};

/// `esker plan`.
pub(crate) fn plan(place: &DatabasePlace, json: bool, out: &mut dyn Write) -> Result<()> {
    let jobs = open::read_only(place)?.plan();
    if json {
        let jobs: Vec<Value> = jobs.iter().map(json_of_job).collect();
        writeln!(out, "{}", json!({ "jobs": jobs }))?;
        return Ok(());
    }
    if jobs.is_empty() {
        writeln!(out, "nothing to compact")?;
    }
    for job in &jobs {
        writeln!(out, "{job}")?;
    }
    Ok(())
}

fn json_of_job(job: &PlannedJob) -> Value {
    json!({
        "keyspace": job.keyspace,
        "is_running": job.is_running,
        "reason": job.reason,
        "score": job.score,
        "table_count": job.table_count,
        "input_bytes": job.input_bytes,
        "target_level": job.target_level,
        "is_trivial_move": job.is_trivial_move,
        "description": job.description,
    })
}

/// `esker what-if`.
pub(crate) fn what_if(arguments: &WhatIfArguments, out: &mut dyn Write) -> Result<()> {
    if !(1..=100_000).contains(&arguments.flushes) {
        let flushes = arguments.flushes;
        let what = format!("--flushes is {flushes}, and must be from 1 to 100000");
        return Err(Failure::other(what));
    }
    if let Some(bytes) = arguments.memtable_bytes.filter(|bytes| *bytes < 64 << 10) {
        let what = format!("--memtable-bytes is {bytes}, and must be at least 65536");
        return Err(Failure::other(what));
    }
    let db = open::read_only(&arguments.place)?;
    let keyspace = open::keyspace(&db, arguments.keyspace.as_deref())?;
    let live = keyspace.options();
    let memtable_bytes = arguments.memtable_bytes.unwrap_or(live.memtable_bytes);
    let is_live = |options: &KeyspaceOptions| {
        options.compaction == live.compaction && options.memtable_bytes == live.memtable_bytes
    };
    let others: Vec<KeyspaceOptions> = arguments
        .policies
        .iter()
        .map(|policy| KeyspaceOptions {
            compaction: policy.policy(),
            memtable_bytes,
            // Options that some policies do not allow have no part in a replay.
            delete_deadline: None,
            periodic_compaction: None,
            ..live.clone()
        })
        .filter(|options| !is_live(options))
        .collect();
    let answer = keyspace.what_if_after(&others, arguments.flushes)?;
    match arguments.json {
        true => writeln!(out, "{}", json_of(&answer))?,
        false => write_text(&answer, out)?,
    }
    Ok(())
}

fn write_text(answer: &WhatIf, out: &mut dyn Write) -> Result<()> {
    let keyspace = shown(answer.keyspace.as_bytes());
    write!(out, "keyspace {keyspace}: {} flushes", answer.recorded_flushes)?;
    write!(out, " and {} merges on record", answer.recorded_merges)?;
    match answer.overwrite_percent {
        Some(percent) => writeln!(out, ", {percent} of 100 newer entries overwrite")?,
        None => writeln!(out, "; no key counts as written twice")?,
    }
    if answer.recorded_flushes == 0 {
        writeln!(out, "flushes are made up: one memtable over all keys each")?;
    }
    if answer.is_ascending {
        writeln!(out, "keys ascend from flush to flush")?;
    }
    writeln!(
        out,
        "{:<22}{:>8}{:>7}{:>7}{:>7}{:>7}{:>13}{:>13}{:>13}",
        "policy", "flushes", "write", "space", "peak", "read", "takeover", "dropped", "tables"
    )?;
    for (index, outcome) in answer.outcomes.iter().enumerate() {
        let name = format!("{}{}", outcome.policy, if index == 0 { " (live)" } else { "" });
        writeln!(
            out,
            "{name:<22}{:>8}{:>7.2}{:>7.2}{:>7.2}{:>7.1}{:>13}{:>13}{:>13}",
            grouped(outcome.flushes),
            outcome.write_amplification,
            outcome.space_amplification,
            outcome.space_amplification_peak,
            outcome.read_amplification,
            size(outcome.takeover_bytes),
            size(outcome.dropped_bytes),
            size(outcome.table_bytes)
        )?;
    }
    Ok(())
}

fn json_of(answer: &WhatIf) -> Value {
    json!({
        "keyspace": answer.keyspace,
        "recorded_flushes": answer.recorded_flushes,
        "recorded_merges": answer.recorded_merges,
        "overwrite_percent": answer.overwrite_percent,
        "is_ascending": answer.is_ascending,
        "interval_seconds": answer.interval.as_secs_f64(),
        "outcomes": answer.outcomes.iter().map(json_of_outcome).collect::<Vec<_>>(),
    })
}

fn json_of_outcome(outcome: &WhatIfOutcome) -> Value {
    let levels: Vec<Value> = outcome
        .levels
        .iter()
        .map(|l| json!({ "runs": l.run_count, "tables": l.table_count, "bytes": l.bytes }))
        .collect();
    json!({
        "policy": outcome.policy,
        "memtable_bytes": outcome.memtable_bytes,
        "flushes": outcome.flushes,
        "flush_bytes": outcome.flush_bytes,
        "takeover_bytes": outcome.takeover_bytes,
        "compaction_bytes": outcome.compaction_bytes,
        "write_amplification": outcome.write_amplification,
        "space_amplification": outcome.space_amplification,
        "space_amplification_peak": outcome.space_amplification_peak,
        "read_amplification": outcome.read_amplification,
        "run_count_max": outcome.run_count_max,
        "dropped_bytes": outcome.dropped_bytes,
        "table_bytes": outcome.table_bytes,
        "levels": levels,
    })
}

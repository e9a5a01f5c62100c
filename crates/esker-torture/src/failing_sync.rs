//! Syncs that fail once, while all others succeed.
//!
//! Reading cannot show whether the engine took such a failure seriously: the bytes are in the memory
//! of the system, and every later sync reports success. So strace, which makes the syncs fail, also
//! writes down all of them, and two rules are checked: a file whose sync failed is never synced again,
//! and a program that went on has removed that file. The log segment that takes writes cannot be
//! removed; so if its sync failed, the program must have stopped.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Result;
use crate::driver::{Driver, End, Outcome, Place, expect_end};
use crate::outside::{needs_strace, spawn};

/// The extension of log segments.
const LOG: &str = "log";

/// The extensions of files that the engine may not lose. (It may lose a list of warm blocks.)
const KINDS: [&str; 4] = [LOG, "manifest", "table", "blob"];

/// A new database is made after this many runs.
const RUNS_PER_DATABASE: u64 = 5;

/// In each thread of the program, the n-th sync fails, and all others succeed.
pub(crate) fn failing_syncs(driver: &mut Driver) -> Result<Outcome> {
    if let Some(skipped) = needs_strace() {
        return Ok(skipped);
    }
    let mut stopped = 0;
    let mut failed = BTreeMap::<&str, u64>::new();
    for run in driver.numbers(driver.settings.runs) {
        driver.begin("", run, RUNS_PER_DATABASE);
        let place = Place::new(&driver.scratch, run / RUNS_PER_DATABASE);
        // Directories have the one, files the other.
        let call = if driver.random.one_in(4) { "fsync" } else { "fdatasync" };
        let range = if driver.random.one_in(2) { 10 } else { 60 };
        let nth = 1 + driver.random.below(range);
        let when = driver.enter(run, &format!("{call} number {nth} fails"));
        let trace = driver.scratch.path("trace");
        let inject = format!("inject={call}:error=EIO:when={nth}");
        let (output, calls) = (trace.to_string_lossy(), "trace=fsync,fdatasync,?unlink,?unlinkat");
        let words = ["strace", "-f", "-qq", "-y", "-o", &*output, "-e", calls, "-e", &inject];
        let seed = driver.random.next();
        let mut command = driver.work_below(&words, &place, seed);
        // A second open would write again what the first had not synced, and sync it: rightly.
        let child = spawn(command.args(["--operations", "600", "--power", "--open-once"]))?;
        let end = expect_end(child, &when, &[End::Finished, End::Stopped])?;
        stopped += u64::from(end == End::Stopped);
        let text = std::fs::read_to_string(&trace).map_err(|error| format!("{when}: {error}"))?;
        for path in judge(&text, end).map_err(|what| format!("{when}: {what}"))? {
            *failed.entry(kind_of(path).unwrap_or("directory or list")).or_default() += 1;
        }
        driver.check(&place, &when)?;
    }
    let of_logs = failed.get(LOG).copied().unwrap_or_default();
    driver.expect_some(of_logs, "no sync of a log segment failed")?;
    driver.expect_some(stopped, "none was stopped by a failed sync")?;
    let failed: Vec<_> =
        failed.iter().map(|(kind, count)| format!("{count} of a {kind}")).collect();
    let (runs, failed) = (driver.settings.runs, failed.join(", "));
    Ok(Outcome::Passed(format!(
        "{runs} runs, failed syncs: {failed}; {stopped} runs stopped by one"
    )))
}

/// A traced call.
struct Call<'a> {
    thread: &'a str,
    is_sync: bool,
    path: &'a str,
    /// The line of the trace in which it begins.
    begin: usize,
    /// And the one in which it ends, if it does.
    end: Option<usize>,
    is_injected: bool,
}

/// The calls in the order in which they begin.
fn calls(trace: &str) -> Vec<Call<'_>> {
    let mut calls: Vec<Call<'_>> = Vec::new();
    for (at, line) in trace.lines().enumerate() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let is_injected = call.ends_with("(INJECTED)");
        let is_unfinished = call.ends_with("<unfinished ...>");
        if call.starts_with("<... ") {
            let is_it = |call: &&mut Call<'_>| call.thread == thread && call.end.is_none();
            if let Some(call) = calls.iter_mut().find(is_it) {
                (call.end, call.is_injected) = (Some(at), is_injected);
            }
        } else if let Some((name, arguments)) = call.split_once('(') {
            let path = match name {
                "fsync" | "fdatasync" => arguments.split(['<', '>']).nth(1),
                _ => arguments.split('"').nth(1),
            };
            let Some(path) = path else { continue };
            let (is_sync, end) = (name.ends_with("sync"), (!is_unfinished).then_some(at));
            calls.push(Call { thread, is_sync, path, begin: at, end, is_injected });
        }
    }
    calls
}

/// Checks the rules, for a program that ended in this way; returns the paths whose syncs failed.
fn judge(trace: &str, end: End) -> Result<Vec<&str>> {
    let calls = calls(trace);
    let failures = || calls.iter().filter(|call| call.is_sync && call.is_injected);
    for failure in failures() {
        let Some(kind) = kind_of(failure.path) else { continue };
        let file = file_of(failure.path);
        let is_same = |call: &&Call<'_>| file_of(call.path) == file;
        let later = || calls.iter().filter(|call| failure.end < Some(call.begin));
        if later().filter(is_same).any(|call| call.is_sync) {
            return Err(format!("{file} was synced again after its sync had failed"));
        }
        if end == End::Stopped {
            continue;
        }
        if Path::new(file).exists() {
            return Err(format!("the sync of {file} failed, and it is still there at the end"));
        }
        // A log segment that takes no writes yet is removed at once.
        let next = later().find(|call| call.thread == failure.thread);
        if kind == LOG && !next.as_ref().is_some_and(is_same) {
            return Err(format!("the sync of {file} failed, and the program did not stop"));
        }
    }
    Ok(failures().map(|failure| failure.path).collect())
}

/// The path that the file has once it is whole.
fn file_of(path: &str) -> &str {
    path.strip_suffix(".tmp").unwrap_or(path)
}

/// The kind of a file of the engine that must not be lost.
fn kind_of(path: &str) -> Option<&'static str> {
    let (_, extension) = file_of(path).rsplit_once('.')?;
    KINDS.into_iter().find(|kind| *kind == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: &str = "\
12 fdatasync(4</d/1-01.log>)         = 0
12 fdatasync(4</d/1-01.log>)         = -1 EIO (Input/output error) (INJECTED)
";

    fn judged(rest: &str, end: End) -> Result<usize> {
        judge(&[FAILED, rest].concat(), end).map(|failed| failed.len())
    }

    #[test]
    fn whoever_stops_has_taken_the_failure_seriously() {
        assert_eq!(judged("", End::Stopped), Ok(1));
        assert_eq!(judged("12 fdatasync(5</d/1-02.log>) = 0\n", End::Stopped), Ok(1));
        let what = judged("", End::Finished).unwrap_err();
        assert!(what.ends_with("1-01.log failed, and the program did not stop"), "{what}");
    }

    #[test]
    fn a_sync_that_is_tried_again_is_found_even_if_another_thread_tries() {
        for thread in [12, 13] {
            let again = format!("{thread} fdatasync(4</d/1-01.log>) = 0\n");
            let what = judged(&again, End::Stopped).unwrap_err();
            assert!(
                what.ends_with("1-01.log was synced again after its sync had failed"),
                "{what}"
            );
        }
    }

    #[test]
    fn a_segment_that_takes_no_writes_yet_is_removed() {
        let removed = "13 fsync(5</d>) = 0\n12 unlink(\"/d/1-01.log\") = 0\n";
        assert_eq!(judged(removed, End::Finished), Ok(1));
        let too_late = ["12 fsync(5</d>) = 0\n", removed].concat();
        assert!(judged(&too_late, End::Finished).is_err());
    }

    #[test]
    fn a_call_that_others_interrupt_ends_where_it_goes_on() {
        let failed = "\
7 fdatasync(4</d/1-03.manifest.tmp> <unfinished ...>
8 fdatasync(5</d/1-01.log> <unfinished ...>
7 <... fdatasync resumed>)      = -1 EIO (Input/output error) (INJECTED)
8 <... fdatasync resumed>)      = 0
";
        assert_eq!(judge(failed, End::Finished).unwrap(), ["/d/1-03.manifest.tmp"]);
        // Under its other name, too.
        let again = [failed, "8 fdatasync(4</d/1-03.manifest>) = 0\n"].concat();
        assert!(judge(&again, End::Stopped).is_err());
    }

    #[test]
    fn a_file_that_is_kept_is_found() {
        let dir = std::env::temp_dir().join(format!("esker-kept-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let kept = dir.join("1-02.table");
        let (end, path) = ("-1 EIO (Input/output error) (INJECTED)", kept.to_str().unwrap());
        let trace = format!("7 fdatasync(4<{path}>) = {end}\n");
        assert_eq!(judge(&trace, End::Finished), Ok(vec![path]));
        std::fs::write(&kept, "").unwrap();
        let what = judge(&trace, End::Finished).unwrap_err();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(what.ends_with("it is still there at the end"), "{what}");
    }
}

//! Less memory than the program wants: some runs go on with what the system takes back from its copies
//! of files, and some the system kills.
//!
//! How often a control group came to its limit, it counts itself. So a mode that limited nothing is noticed.

use std::ops::Range;
use std::path::Path;
use std::process::Child;

use crate::Result;
use crate::cleanup::is_root;
use crate::driver::{Driver, End, Outcome, Place, expect_end};
use crate::outside::spawn;

/// Pages that the program may have, of 4 KiB each. Without a limit it takes some 3.5 MiB, copies of its
/// files included; with 2.5 MiB the system mostly kills it.
const LIMIT_PAGES: Range<u64> = 576..896;

/// How often a control group wanted more than its limit.
const HITS: &str = "memory.failcnt";

/// How long the program is waited for, in pieces of 20 ms: less than the watchdog waits. It may be slow where
/// all it does is to read again what the system has just taken from it.
const WAITS: u32 = 1_000;

pub(crate) fn small_memory(driver: &mut Driver) -> Result<Outcome> {
    let group = Path::new("/sys/fs/cgroup/memory").join(format!("esker-{}", std::process::id()));
    if !is_root() || std::fs::create_dir(&group).is_err() {
        let why = "it makes a memory control group (version 1), and cannot here";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    let result = in_group(driver, &group);
    drop(std::fs::remove_dir(&group));
    result
}

fn in_group(driver: &mut Driver, group: &Path) -> Result<Outcome> {
    let (mut limited, mut finished, mut slow) = (0, 0, 0);
    for run in driver.numbers(driver.settings.runs) {
        driver.begin("", run, 1);
        let place = Place::new(&driver.scratch, run);
        let pages = LIMIT_PAGES.start + driver.random.below(LIMIT_PAGES.end - LIMIT_PAGES.start);
        let limit = pages << 12;
        let when = driver.enter(run, &format!("{limit} bytes of memory"));
        set(group, "memory.limit_in_bytes", limit, &when)?;
        set(group, HITS, 0, &when)?;
        let join = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", group.display());
        let seed = driver.random.next();
        let mut command = driver.work_below(&["sh", "-c", &join], &place, seed);
        let mut child = spawn(command.args(["--operations", "8000", "--memory", "8388608"]))?;
        if !has_ended(driver, &mut child, &when)? {
            child.kill().map_err(|error| format!("{when}: {error}"))?;
            slow += 1;
        }
        let end = expect_end(child, &when, &[End::Finished, End::Killed])?;
        limited += u64::from(0 < hits(group, &when)?);
        finished += u64::from(end == End::Finished);
        driver.check(&place, &when)?;
    }
    driver.expect_some(limited, "none came to its limit")?;
    let runs = driver.settings.runs;
    let killed = (runs - finished).saturating_sub(slow);
    Ok(Outcome::Passed(format!(
        "{runs} runs in 2.25 to 3.5 MiB, {limited} of them at their limit: {killed} killed for it, {slow} \
         ended after 20 s, {finished} finished"
    )))
}

/// Waits for the program to end by itself, or be killed by the system.
fn has_ended(driver: &Driver, child: &mut Child, when: &str) -> Result<bool> {
    for _ in 0..WAITS {
        if child.try_wait().map_err(|error| format!("{when}: {error}"))?.is_some() {
            return Ok(true);
        }
        driver.sleep(20);
    }
    Ok(false)
}

fn hits(group: &Path, when: &str) -> Result<u64> {
    let text = std::fs::read_to_string(group.join(HITS));
    let text = text.map_err(|error| format!("{when}: {HITS}: {error}"))?;
    text.trim().parse().map_err(|error| format!("{when}: {HITS} is {text}: {error}"))
}

fn set(group: &Path, name: &str, number: u64, when: &str) -> Result<()> {
    let written = std::fs::write(group.join(name), number.to_string());
    written.map_err(|error| format!("{when}: {name}: {error}"))
}

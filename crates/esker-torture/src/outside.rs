//! Modes with outside requirements: a tracer, root, a loop device, a control group.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::cleanup::{Mounted, call, has_program, is_root};
use crate::disk::{ALL, WITH_SHUTDOWN, on_each_disk};
use crate::driver::{Driver, Outcome, Place, expect_end, kill};
use crate::expected::Expected;
use crate::sys::cut_power;

/// Calls at which the program is killed: those that change what is on disk.
const CALLS: [&str; 8] =
    ["pwrite64", "fdatasync", "fsync", "rename", "ftruncate", "fallocate", "unlink", "openat"];

pub(crate) fn spawn(command: &mut Command) -> Result<std::process::Child> {
    command.spawn().map_err(|error| format!("{command:?}: {error}"))
}

fn needs_strace() -> Option<Outcome> {
    let is_there = has_program("strace");
    (!is_there).then(|| Outcome::Skipped("it needs strace, which is not installed".to_owned()))
}

/// Kills the program at its n-th system call of a kind.
pub(crate) fn syscall_kills(driver: &mut Driver) -> Result<Outcome> {
    if let Some(skipped) = needs_strace() {
        return Ok(skipped);
    }
    let mut killed = 0;
    for run in 0..driver.runs {
        let place = Place::new(&driver.scratch, run / 20);
        let call = CALLS[driver.random.below(CALLS.len() as u64) as usize];
        let nth = 1 + driver.random.below(if call == "pwrite64" { 400 } else { 12 });
        let when = driver.enter(run, &format!("kill at {call} number {nth}"));
        let inject = format!("inject={call}:signal=KILL:when={nth}");
        let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let seed = driver.random.next();
        let mut command = driver.work_below(&words, &place, seed);
        let status = expect_end(spawn(command.args(["--operations", "600"]))?, &when)?;
        killed += u64::from(!status.success());
        driver.check(&place, &when)?;
    }
    let runs = driver.runs;
    Ok(Outcome::Passed(format!("{runs} runs, {killed} of them killed at a chosen system call")))
}

/// Cuts the power of a real file system, and mounts it again.
pub(crate) fn power_cuts(driver: &mut Driver) -> Result<Outcome> {
    on_each_disk(driver, &WITH_SHUTDOWN, |driver, disk, runs| {
        let kind = disk.kind;
        for run in 0..runs {
            let when = driver.enter(run, &format!("power cut on {kind}"));
            let mounted = disk.mount()?;
            let db = mounted.point().join("db");
            let place = Place { db, expected: driver.scratch.path(&format!("expected-{kind}")) };
            if run == 0 {
                // Making the database's own directory durable is the user's task.
                std::fs::create_dir_all(&place.db).map_err(|error| error.to_string())?;
                call("sync", &[])?;
            }
            let seed = driver.random.next();
            let child = spawn(driver.work(&place, seed).arg("--power"))?;
            let pause = 20 + driver.random.below(250);
            driver.sleep(pause);
            // Every other time, it runs on while its power goes. A file system being shut down may
            // report a sync as done and lose the bytes (mode `control` counts that), so what it
            // reports from here on is not recorded.
            if driver.random.one_in(2) {
                stop(&child, &when)?;
                driver.sleep(5);
            }
            Expected::open(&place.expected)?.set_power_is_going(true);
            cut_power(mounted.point())?;
            kill(child, &when)?;
            Expected::open(&place.expected)?.set_power_is_going(false);
            drop(mounted);
            let mounted = disk.mount()?;
            driver.check(&place, &when)?;
            drop(mounted);
        }
        Ok(format!("{runs} power cuts on {kind}"))
    })
}

/// Stops the program.
fn stop(child: &std::process::Child, when: &str) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| format!("{when}: the program has no process id"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::STOP)
        .map_err(|error| format!("{when}: {error}"))
}

/// Fills tiny file systems under the program, and frees the space again.
pub(crate) fn full_disk(driver: &mut Driver) -> Result<Outcome> {
    if !is_root() {
        return Ok(Outcome::Skipped("it mounts file systems, and so needs root".to_owned()));
    }
    let point = driver.scratch.path("tiny");
    let mounted = Mounted::new(&["-t", "tmpfs", "-o", "size=24m", "tmpfs"], &point)?;
    fill_and_free(driver, &mounted, "tmpfs", 0)?;
    drop(mounted);
    let outcome = on_each_disk(driver, &ALL, |driver, disk, runs| {
        let mounted = disk.mount()?;
        (0..runs).try_for_each(|run| fill_and_free(driver, &mounted, disk.kind, run))?;
        Ok(format!("{} times on {}", runs * FILLS, disk.kind))
    })?;
    let on_tmpfs = format!("full and on again by itself {FILLS} times on tmpfs");
    Ok(Outcome::Passed(match outcome {
        Outcome::Passed(others) => format!("{on_tmpfs}; {others}"),
        Outcome::Skipped(why) => format!("{on_tmpfs}, SKIPPED: {why}"),
    }))
}

/// How often a disk becomes full in a run.
const FILLS: u64 = 3;

fn fill_and_free(driver: &mut Driver, mounted: &Mounted, kind: &str, run: u64) -> Result<()> {
    let when = driver.enter(run, &format!("full disk, {kind}"));
    let place = Place {
        db: mounted.point().join(format!("db{run}")),
        expected: driver.scratch.path(&format!("expected-{kind}{run}")),
    };
    let expected = Expected::open(&place.expected)?;
    let seed = driver.random.next();
    let child = spawn(&mut driver.work(&place, seed))?;
    let pause = 50 + driver.random.below(500);
    driver.sleep(pause);
    for round in 0..FILLS {
        driver.enter(run, &format!("full disk, {kind}, round {round}"));
        let filler = mounted.point().join("filler");
        fill(&filler);
        // Until nothing more is done: the full disk has had its effect.
        wait(driver, || {
            let before = expected.operation_count();
            driver.sleep(200);
            expected.operation_count() == before
        });
        std::fs::remove_file(&filler).map_err(|error| error.to_string())?;
        let before = expected.operation_count();
        if !wait(driver, || before + 50 < expected.operation_count()) {
            return Err(format!("{when}: round {round}: it does not go on with space again"));
        }
    }
    kill(child, &when)?;
    driver.check(&place, &when)?;
    std::fs::remove_dir_all(&place.db).map_err(|error| error.to_string())
}

/// Writes to `path` until there is no more space.
fn fill(path: &Path) {
    let of = format!("of={}", path.display());
    // It ends with an error, as intended.
    drop(call("dd", &["if=/dev/zero", &of, "bs=16k"]));
}

/// Waits up to ten seconds for a condition.
fn wait(driver: &Driver, is_so: impl Fn() -> bool) -> bool {
    for _ in 0..500 {
        if is_so() {
            return true;
        }
        driver.sleep(20);
    }
    false
}

/// Too few descriptors for all tables to be open.
pub(crate) fn few_descriptors(driver: &mut Driver) -> Result<Outcome> {
    let mut counts = Vec::new();
    for run in 0..driver.runs {
        let place = Place::new(&driver.scratch, run);
        let limit = 14 + driver.random.below(16);
        let when = driver.enter(run, &format!("{limit} descriptors"));
        let shell = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
        let seed = driver.random.next();
        let mut command = driver.work_below(&["sh", "-c", &shell], &place, seed);
        let child = spawn(command.args(["--operations", "6000"]))?;
        expect_end(child, &when)?;
        driver.check(&place, &when)?;
        counts.push(limit.to_string());
    }
    Ok(Outcome::Passed(format!("runs with {} descriptors", counts.join(", "))))
}

/// Less memory than the program wants; the system may kill it.
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
    let mut killed = 0;
    for run in 0..driver.runs {
        let place = Place::new(&driver.scratch, run);
        let limit = (12 + driver.random.below(24)) << 20;
        let when = driver.enter(run, &format!("{limit} bytes of memory"));
        let path = group.join("memory.limit_in_bytes");
        std::fs::write(path, limit.to_string()).map_err(|error| format!("{when}: {error}"))?;
        let join = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", group.display());
        let seed = driver.random.next();
        let mut command = driver.work_below(&["sh", "-c", &join], &place, seed);
        let child = spawn(command.args(["--operations", "20000", "--memory", "8388608"]))?;
        let status = expect_end(child, &when)?;
        killed += u64::from(!status.success());
        driver.check(&place, &when)?;
    }
    let runs = driver.runs;
    Ok(Outcome::Passed(format!("{runs} runs in 12 to 36 MiB, {killed} of them killed for it")))
}

/// The n-th sync of the program fails, and all after it succeed.
pub(crate) fn failing_syncs(driver: &mut Driver) -> Result<Outcome> {
    if let Some(skipped) = needs_strace() {
        return Ok(skipped);
    }
    let mut stopped = 0;
    for run in 0..driver.runs {
        let place = Place::new(&driver.scratch, run / 5);
        let call = if driver.random.one_in(2) { "fsync" } else { "fdatasync" };
        let nth = 1 + driver.random.below(20);
        let when = driver.enter(run, &format!("{call} number {nth} fails"));
        let inject = format!("inject={call}:error=EIO:when={nth}");
        let words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let seed = driver.random.next();
        let mut command = driver.work_below(&words, &place, seed);
        let child = spawn(command.args(["--operations", "600", "--power"]))?;
        stopped += u64::from(!expect_end(child, &when)?.success());
        driver.check(&place, &when)?;
    }
    let runs = driver.runs;
    Ok(Outcome::Passed(format!("{runs} runs with a failed sync, {stopped} of them stopped by it")))
}

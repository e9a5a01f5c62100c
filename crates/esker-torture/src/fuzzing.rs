//! Feeds the fuzz targets without coverage guidance: meaningful inputs, changed at random, as fast
//! as possible. The targets of `fuzz/` look deeper, and need more installed.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use esker::env::{Clock as _, SystemClock};
use esker_torture::fuzz::{TARGETS, Target};

use crate::arguments::Arguments;
use crate::leave_out::shrink;
use crate::random::Random;
use crate::watchdog::Watchdog;
use crate::{Result, say};

/// Longer inputs than this are cut.
const INPUT_LEN_MAX: usize = 16 << 10;

/// Runs `fuzz`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let seed = arguments.number("seed", 1)?;
    let times = arguments.number("times", 1)?;
    let limit = Duration::from_millis(arguments.number("millis", 2000)?.saturating_mul(times));
    let corpus = arguments.path("corpus").ok();
    if let (Some(dir), true) = (&corpus, arguments.has("write")) {
        return write_corpus(dir);
    }
    let only = arguments.mode().ok();
    if let Some(name) = only.filter(|name| TARGETS.iter().all(|target| target.name != *name)) {
        return Err(format!("there is no target {name}"));
    }
    if let (Some(name), Ok(file)) = (only, arguments.path("input")) {
        let input = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        esker_torture::fuzz::run(name, &input);
        say(&format!("fuzz {name}: no finding in {}", file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let watchdog = Watchdog::start();
    let mut total = 0;
    for target in TARGETS.iter().filter(|target| only.is_none_or(|only| only == target.name)) {
        let count = fuzz(target, seed, limit, corpus.as_deref(), &watchdog)?;
        say(&format!("fuzz {}: {count} inputs, no finding", target.name));
        total += count;
    }
    say(&format!("counted: {total} fuzzed inputs"));
    Ok(ExitCode::SUCCESS)
}

fn fuzz(
    target: &Target,
    seed: u64,
    limit: Duration,
    corpus: Option<&Path>,
    watchdog: &Watchdog,
) -> Result<u64> {
    let mut inputs = (target.seeds)();
    let dir = corpus.map(|dir| dir.join(target.name));
    for entry in dir.and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten() {
        inputs.push(std::fs::read(entry.path()).map_err(|error| error.to_string())?);
    }
    inputs.push(Vec::new());
    let mut random = Random::new(seed);
    let clock = SystemClock::new();
    let mut count = 0;
    while clock.now() < limit {
        watchdog.enter(format!("{} after {count} inputs of seed {seed}", target.name));
        for _ in 0..20 {
            let mut input = inputs[random.below(inputs.len() as u64) as usize].clone();
            for _ in 0..random.below(6) {
                let other = random.below(inputs.len() as u64) as usize;
                change(&mut input, &inputs[other], &mut random);
            }
            count += 1;
            if catch_unwind(|| (target.run)(&input)).is_err() {
                return Err(keep(target, &input, (seed, count), watchdog)?);
            }
        }
    }
    Ok(count)
}

/// Keeps an input that fails, and beside it a part of it that is enough for that; returns what is to
/// be said.
fn keep(
    target: &Target,
    input: &[u8],
    (seed, count): (u64, u64),
    watchdog: &Watchdog,
) -> Result<String> {
    let name = target.name;
    let write = |kind: &str, input: &[u8]| -> Result<PathBuf> {
        let path = std::env::temp_dir().join(format!("esker-{name}-{seed}-{count}{kind}"));
        std::fs::write(&path, input).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    };
    let whole = write("", input)?;
    let hook = std::panic::take_hook();
    // The panic that is looked for has been told of.
    std::panic::set_hook(Box::new(|_| {}));
    let small = shrink(input, |input| {
        watchdog.enter(format!("{name} with a part of {}", whole.display()));
        catch_unwind(|| (target.run)(input)).is_err()
    });
    std::panic::set_hook(hook);
    let part = write("-small", &small)?;
    let (whole, part) = (whole.display(), part.display());
    Ok(format!(
        "{name} fails at input {count} of seed {seed}, kept in {whole}; {} of its {} bytes are enough, \
         kept in {part}; repeat it with: cargo run -p esker-torture -- fuzz {name} --input {part}",
        small.len(),
        input.len()
    ))
}

fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const EXTREMES: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
    let at = random.below(input.len() as u64 + 1) as usize;
    let len = random.below(1 + (input.len() - at).min(64) as u64) as usize;
    match random.below(7) {
        0 | 1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 if at < input.len() => input[at] = EXTREMES[random.below(6) as usize],
        3 => drop(input.drain(at..at + len)),
        4 => {
            let piece = input[at..at + len].to_vec();
            input.splice(at..at, piece);
        }
        5 => {
            let from = random.below(other.len() as u64 + 1) as usize;
            let piece = &other[from..other.len().min(from + 32)];
            input.splice(at..at + len, piece.iter().copied());
        }
        _ => input.insert(at, random.next() as u8),
    }
    input.truncate(INPUT_LEN_MAX);
}

/// Writes the inputs from which each target starts.
fn write_corpus(dir: &Path) -> Result<ExitCode> {
    for target in &TARGETS {
        let dir = dir.join(target.name);
        std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        for (number, bytes) in (target.seeds)().into_iter().enumerate() {
            let path = dir.join(format!("seed-{number}"));
            std::fs::write(path, bytes).map_err(|error| error.to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[test]
fn an_input_that_fails_is_kept_with_a_part_that_is_enough() {
    let run = |input: &[u8]| {
        let at = input.iter().position(|byte| *byte == b'x');
        assert!(!at.is_some_and(|at| input[at..].contains(&b'y')), "it is meant to fail");
    };
    let seeds = || vec![b"here is an x, and there a y, and then more".to_vec()];
    let target = Target { name: "artificial", run, seeds };
    let limit = Duration::from_secs(60);
    let what = fuzz(&target, 7, limit, None, &Watchdog::start()).unwrap_err();
    let path_after = |words: &str| {
        let (_, rest) = what.split_once(words).unwrap();
        PathBuf::from(rest.split(';').next().unwrap())
    };
    let [whole, small] = ["seed 7, kept in ", "are enough, kept in "].map(path_after);
    assert!(std::fs::read(&whole).unwrap().contains(&b'x'), "{what}");
    assert_eq!(std::fs::read(&small).unwrap(), b"xy", "{what}");
    assert!(what.ends_with(&format!("fuzz artificial --input {}", small.display())), "{what}");
    [whole, small].iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

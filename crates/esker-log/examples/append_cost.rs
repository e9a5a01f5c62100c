//! What a frame costs over the write below it: `cargo run --release --example append_cost [dir]`.

#![expect(clippy::print_stdout, reason = "its purpose")]

use std::path::{Path, PathBuf};

use esker_base::{DatabaseId, FileHeader, FileId, FileKind, OwnerId};
use esker_env::{Env, FileError, FileExt};
use esker_log::LogWriter;

const COUNT: u64 = 200_000;
const PAYLOAD_LEN: usize = 150;
const ROOM_BYTES: u64 = 64 << 20;

/// Nanoseconds for each of [`COUNT`] calls.
fn measure(
    env: &Env,
    mut call: impl FnMut(u64) -> Result<(), FileError>,
) -> Result<f64, FileError> {
    let start = env.clock.now();
    for index in 0..COUNT {
        call(index)?;
    }
    Ok((env.clock.now() - start).as_secs_f64() * 1e9 / COUNT as f64)
}

fn run(env: &Env, dir: &Path) -> Result<(), FileError> {
    let id = FileId { owner: OwnerId::FIRST, counter: u64::from(std::process::id()) };
    let header = FileHeader { kind: FileKind::Log, format: 1, id, database: DatabaseId([1; 16]) };
    let payload = [0x5a; PAYLOAD_LEN];
    let path = dir.join("append-cost.log");
    for _ in 0..3 {
        let mut log = LogWriter::create(&*env.fs, &path, header, ROOM_BYTES)?;
        let frame_len = log.append(&[&payload]) - FileHeader::LEN as u64;
        let both = measure(env, |_| {
            log.append(&[&payload]);
            log.write()
        })?;
        env.fs.remove(&path)?;

        let mut log = LogWriter::create(&*env.fs, &path, header, ROOM_BYTES)?;
        let encode = measure(env, |index| {
            log.append(&[&payload]);
            if index % 64 == 63 { log.write() } else { Ok(()) }
        })?;
        env.fs.remove(&path)?;

        let file = env.fs.create(&path)?;
        file.allocate(0, ROOM_BYTES)?;
        let bytes = vec![0x5a; frame_len as usize];
        let raw = measure(env, |index| Ok(file.write_all_at(48 + index * frame_len, &bytes)?))?;
        env.fs.remove(&path)?;
        println!(
            "append+write {both:.0} ns, raw write_at of {frame_len} bytes {raw:.0} ns, \
             append with one write in 64 {encode:.0} ns"
        );
    }
    Ok(())
}

fn main() -> Result<(), FileError> {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    run(&Env::os(), &dir)
}

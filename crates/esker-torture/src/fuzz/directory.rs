//! Bytes as changes to the files of a closed database: every answer is an error or right, the doctor
//! notices what readers notice, and what it repairs opens.

use std::path::Path;
use std::sync::OnceLock;

use esker::ErrorKind;
use esker::doctor::{Doctor, RepairOptions};
use esker::env::{FileExt as _, FileSystem as _, MemoryFileSystem};

use super::sample::{self, Contents, DIR, contents_of, env_of};

type Sample = (MemoryFileSystem, Contents, Vec<(String, Vec<u8>)>);

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let (fs, contents) = sample::database();
        let files = sample::files(&fs);
        (fs, contents, files)
    })
}

/// Four bytes a change: which file, what is done to it, and two for the place.
pub(super) fn run(bytes: &[u8]) {
    let (fs, contents, files) = sample();
    let fs = fs.snapshot();
    for change in bytes.as_chunks::<4>().0.iter().take(8) {
        let (name, whole) = &files[usize::from(change[0]) % files.len()];
        let place = usize::from(u16::from_le_bytes([change[2], change[3]]));
        spoil(&fs, name, whole, change[1], place);
    }
    let is_typed = |error: &esker::Error| {
        let kind = error.kind();
        let is_typed = matches!(
            kind,
            ErrorKind::Corruption | ErrorKind::UnsupportedFormat | ErrorKind::InvalidInput
        );
        assert!(is_typed, "{kind:?}: {error}");
    };
    let doctor = Doctor::new(DIR).env(env_of(&fs));
    let is_sound = doctor.verify(&mut |_| {}).map(|report| report.is_sound());
    let read = sample::open(env_of(&fs.snapshot())).and_then(|db| contents_of(&db));
    match &read {
        Err(error) => is_typed(error),
        Ok(found) => assert!(found == contents, "a wrong answer: {found:?}"),
    }
    match is_sound {
        Err(error) => is_typed(&error),
        Ok(true) => assert!(read.is_ok(), "the doctor has not noticed it: {read:?}"),
        // It costs a hundred times as much.
        Ok(false) if bytes.last().is_some_and(|byte| byte % 16 == 0) => repair(&fs, &doctor),
        Ok(false) => {}
    }
}

fn repair(fs: &MemoryFileSystem, doctor: &Doctor) {
    if let Err(error) = doctor.repair(&RepairOptions::default(), &mut |_| {}) {
        return assert!(error.kind() != ErrorKind::Io, "{error}");
    }
    let report = doctor.verify(&mut |_| {}).expect("what was repaired can be read");
    assert!(report.is_sound(), "after a repair: {report}");
    let db = sample::open(env_of(fs)).expect("what was repaired opens");
    // What merges is told by the manifest and by tables: it may be damaged in all of them.
    if let Err(error) = contents_of(&db) {
        assert!(error.kind() == ErrorKind::UserCode, "after a repair: {error}");
    }
}

fn spoil(fs: &MemoryFileSystem, name: &str, whole: &[u8], what: u8, place: usize) {
    let path = Path::new(DIR).join(name);
    let file = fs.open_for_write(&path).expect("no file is ever removed");
    let place = place % whole.len();
    match what {
        0 => file.truncate(place as u64).expect("memory"),
        1 => file.write_all_at(place as u64, &[0; 64]).expect("memory"),
        2 => {
            let from = whole.len() - place;
            file.write_all_at(place as u64, &whole[..from]).expect("memory");
        }
        what => file.write_all_at(place as u64, &[whole[place] ^ what]).expect("memory"),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    (0..6).map(|file| vec![file, file * 3, 50 * file, 0]).collect()
}

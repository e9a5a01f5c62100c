//! Bytes as changes to the files of a closed database: every answer is an error or right, the doctor
//! notices what readers notice, and what it repairs opens.

use std::path::Path;
use std::sync::OnceLock;

use esker::doctor::{Doctor, RepairOptions};
use esker::env::{FileExt as _, FileSystem as _, MemoryFileSystem};
use esker::{ErrorKind, RecoveryMode};

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

/// Four bytes a change: which file, what is done to it, and two for the place. How many bytes are left over
/// says how else it is opened.
pub(super) fn run(bytes: &[u8]) {
    let (fs, contents, files) = sample();
    let fs = fs.snapshot();
    // What is in the log alone these modes leave out if they must.
    let mut is_log_whole = true;
    for change in bytes.as_chunks::<4>().0.iter().take(8) {
        let (name, whole) = &files[usize::from(change[0]) % files.len()];
        let place = usize::from(u16::from_le_bytes([change[2], change[3]]));
        spoil(&fs, name, whole, change[1], place);
        is_log_whole &= !name.ends_with(".log");
    }
    match bytes.len() % 4 {
        1 if is_log_whole => salvage(&fs, contents),
        2 if is_log_whole => open_as(RecoveryMode::PointInTime, &fs, contents),
        3 => open_as(RecoveryMode::Strict, &fs, contents),
        _ => {}
    }
    let doctor = Doctor::new(DIR).env(env_of(&fs));
    let is_sound = doctor.verify(&mut |_| {}).map(|report| report.is_sound());
    let read = sample::open(env_of(&fs.snapshot())).and_then(|db| contents_of(&db));
    match &read {
        Err(error) => check(error),
        Ok(found) => assert!(found == contents, "a wrong answer: {found:?}"),
    }
    match is_sound {
        Err(error) => check(&error),
        Ok(true) => assert!(read.is_ok(), "the doctor has not noticed it: {read:?}"),
        // It costs a hundred times as much.
        Ok(false) if bytes.last().is_some_and(|byte| byte % 16 == 0) => repair(&fs, &doctor),
        Ok(false) => {}
    }
}

/// Refuses an error that does not say that something is wrong with the files.
fn check(error: &esker::Error) {
    let kind = error.kind();
    let is_typed = matches!(
        kind,
        ErrorKind::Corruption | ErrorKind::UnsupportedFormat | ErrorKind::InvalidInput
    );
    assert!(is_typed, "{kind:?}: {error}");
}

/// Whatever is damaged of tables and manifests, no mode answers without it.
fn open_as(mode: RecoveryMode, fs: &MemoryFileSystem, contents: &Contents) {
    let opened = sample::builder(env_of(&fs.snapshot())).recovery(mode).open();
    match opened.and_then(|db| contents_of(&db)) {
        Err(error) => check(&error),
        Ok(found) => assert!(found == *contents, "a wrong answer in mode {mode:?}: {found:?}"),
    }
}

/// What is intact is answered from, and nothing else is.
fn salvage(fs: &MemoryFileSystem, contents: &Contents) {
    let builder = sample::builder(env_of(&fs.snapshot())).read_only(true);
    let db = match builder.recovery(RecoveryMode::Salvage).open() {
        Err(error) => return check(&error),
        Ok(db) => db,
    };
    // A file may not be there.
    let check = |error: &esker::Error| {
        if error.kind() != ErrorKind::Io {
            check(error);
        }
    };
    for (name, due) in contents {
        let keyspace =
            db.existing_keyspace(name).expect("its order is known").expect("it is there");
        let mut left = due.iter();
        for entry in keyspace.iter() {
            match entry {
                Ok((key, value)) => {
                    let due = left.next().map(|(key, value)| (key.as_slice(), value.as_slice()));
                    assert!(
                        due == Some((&*key, &*value)),
                        "a salvaged scan shows what is not there"
                    );
                }
                Err(error) => {
                    check(&error);
                    left = [].iter();
                    break;
                }
            }
        }
        assert!(left.next().is_none(), "a salvaged scan leaves out what is there");
        for (key, value) in due {
            match keyspace.get(key) {
                Ok(found) => assert!(found.as_deref() == Some(value), "a salvaged get differs"),
                Err(error) => check(&error),
            }
        }
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
    let Ok(file) = fs.open_for_write(&path) else { return };
    let place = place % whole.len();
    match what {
        0 => file.truncate(place as u64).expect("memory"),
        1 => file.write_all_at(place as u64, &[0; 64]).expect("memory"),
        2 => {
            let from = whole.len() - place;
            file.write_all_at(place as u64, &whole[..from]).expect("memory");
        }
        0xfc => fs.remove(&path).expect("memory"),
        0xfd => {
            let (_, other) = &sample().2[place % sample().2.len()];
            file.truncate(0).expect("memory");
            file.write_all_at(0, other).expect("memory");
        }
        0xfe => file.write_all_at(whole.len() as u64, &whole[place..]).expect("memory"),
        what => file.write_all_at(place as u64, &[whole[place] ^ what]).expect("memory"),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let one = (0..6).map(|file| vec![file, file * 3, 50 * file, 0]);
    let modes = (1..4).flat_map(|left| {
        (0..6).map(move |file| [vec![file, 0xfb + left as u8, 3, 0], vec![0; left]].concat())
    });
    one.chain(modes).collect()
}

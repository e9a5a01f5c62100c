//! Databases written by released formats must stay readable forever.
//!
//! `fixtures/v1/` contains one database directory, written once by `ESKER_WRITE_FIXTURE=v1 cargo
//! test -p esker --test it golden`, which refuses to overwrite it. It has the entries of `sample`,
//! and was left without a close, so that the log has entries that are in no table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esker::env::{Env, FileSystem, MemoryFileSystem, SeededRandom};
use esker::{Db, Options};
use esker_base::FileKind;
use esker_env::OsFileSystem;

use crate::files;
use crate::reading::assert_state;
use crate::recovered::{DIR, env_of, options};
use crate::sample;
use crate::state::State;

/// Tells the generator which fixture to write.
const VARIABLE: &str = "ESKER_WRITE_FIXTURE";

const VERSION: &str = "v1";

fn fixture() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fixtures", VERSION].iter().collect()
}

/// Writes the sample to `dir` of `env`, and leaves it as the end of the process would.
fn write(env: Env, dir: &Path) -> State {
    let random = Arc::new(SeededRandom::new(0xe54e));
    let env = Env { random, ..env };
    let options = Options { background_threads: 0, ..Options::default() };
    let db = Db::builder(dir).env(env).options(options).open().unwrap();
    sample::write(&db)
}

/// The files of the sample as this release writes them. Logs and manifests end in reserved zeros,
/// of which a few are left.
fn generate() -> BTreeMap<String, Vec<u8>> {
    let fs = MemoryFileSystem::new(1);
    write(env_of(&fs), Path::new(DIR));
    let mut all = files::read_all(&fs, Path::new(DIR));
    for (name, bytes) in &mut all {
        if files::kind(name) != Some(FileKind::Table) {
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate((used + 512).next_multiple_of(512));
        }
    }
    all
}

#[test]
fn fixture_is_written_when_it_is_asked_for() {
    if std::env::var_os(VARIABLE).is_none_or(|version| version != VERSION) {
        return;
    }
    let dir = fixture();
    assert!(!dir.exists(), "{} is never written again", dir.display());
    let real = OsFileSystem::new();
    real.create_dir_all(&dir).unwrap();
    for (name, bytes) in generate() {
        files::write(&real, &dir.join(name), &bytes);
    }
}

/// What the fixture holds, by the sample that is written today.
fn expected() -> State {
    let fs = MemoryFileSystem::new(2);
    write(env_of(&fs), Path::new(DIR))
}

#[test]
fn database_of_the_first_format_is_read() {
    let all = files::read_all(&OsFileSystem::new(), &fixture());
    let fs = MemoryFileSystem::new(1);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    for (name, bytes) in all {
        files::write(&fs, &Path::new(DIR).join(name), &bytes);
    }
    let open = || Db::builder(DIR).env(env_of(&fs)).options(options());
    let expected = expected();
    let db = open().read_only(true).open().unwrap();
    assert_state(&db, &expected, "for reading only");
    drop(db);
    let db = open().open().unwrap();
    assert_state(&db, &expected, "opened");
    let levels = db.levels();
    assert!(1 < levels.levels.len(), "tables at several levels: {levels}");
    assert!(levels.memtables[0].entry_count != 0, "entries in the log only: {levels}");
    // This release goes on with it.
    db.put("key 02", "written by this release").unwrap();
    db.compact_all().unwrap();
    db.close().unwrap();
    let db = open().open().unwrap();
    assert_eq!(db.get("key 02").unwrap().unwrap(), "written by this release");
    assert_eq!(db.iter().count(), expected.contents("default").len());
}

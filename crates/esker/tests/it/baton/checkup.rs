//! What the doctor and an open say of a database that a simulation has left, whole and damaged.
//!
//! Of a sound one a verification finds nothing, and a repair changes nothing. Damage to any byte of any
//! file, its end or the whole of it is noticed by an open or by who reads, or has no effect; what an
//! open or a reader notices, a verification does too. A repair makes a database that opens, is sound,
//! and holds what was there but for what it gives up. Does not know how the database came to be what it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use esker::doctor::{Doctor, RepairOptions, RepairReport, VerifyReport};
use esker::env::{Env, FileSystem as _, MemoryFileSystem};
use esker::{
    Db, DbBuilder, Durability, Error, ErrorKind, Key, KeyspaceOptions, Order, RecoveryMode, Value,
};

use super::coverage;
use crate::files::{read_all, write};
use crate::orders::Shortlex;
use crate::random::Rng;
use crate::reading::{contents, difference};
use crate::recovered::{env_at, open_in, options_in};
use crate::referenced::log_dir_of;
use crate::state::{Bytes, Contents, Turn, merge_operator};
use crate::watchdog;

/// A database that nobody has open.
pub(super) struct Patient<'a> {
    pub(super) fs: &'a MemoryFileSystem,
    pub(super) dir: &'a str,
    /// What the wall clock shows.
    pub(super) wall: Duration,
}

/// What the keyspaces of a database hold, by their names.
pub(super) type Contained = BTreeMap<String, Contents>;

/// All that `db` holds.
pub(super) fn contained(db: &Db) -> Contained {
    let one = |name: String| {
        let keyspace = db.existing_keyspace(&name).unwrap().expect("it is in the list");
        let contents = contents(&keyspace).unwrap();
        (name, contents)
    };
    db.keyspaces().into_iter().map(one).collect()
}

/// One damage to a file.
struct Damage {
    path: PathBuf,
    what: String,
}

impl Damage {
    fn is_of_manifest(&self) -> bool {
        self.path.to_string_lossy().contains(".manifest")
    }

    fn is_of_log(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "log")
    }
}

impl Patient<'_> {
    fn env(&self) -> Env {
        env_at(Arc::new(self.fs.clone()), self.wall)
    }

    fn builder(&self) -> DbBuilder {
        watchdog::step();
        let default = KeyspaceOptions { merge_operator: merge_operator(), ..Default::default() };
        let builder = Db::builder(self.dir).env(self.env()).default_keyspace(default);
        let builder = builder.key_order(Shortlex { name: "shortlex" });
        builder.options(options_in(self.dir, self.fs))
    }

    pub(super) fn open(&self, mode: RecoveryMode) -> Result<Db, Error> {
        self.builder().recovery(mode).open()
    }

    fn doctor(&self) -> Doctor {
        let log_dir = log_dir_of(self.dir);
        let log_dir = if self.fs.list(&log_dir).is_ok() { log_dir } else { self.dir.into() };
        // Where the last segment is missing, a repair has to be told.
        Doctor::new(self.dir).env(self.env()).log_dir(log_dir)
    }

    fn verify(&self) -> VerifyReport {
        self.doctor().verify(&mut |_| {}).unwrap()
    }

    /// Every file of the database, in both directories.
    fn everything(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let in_dir = |dir: PathBuf| {
            let files = self.fs.list(&dir).is_ok().then(|| read_all(self.fs, &dir));
            let files = files.unwrap_or_default().into_iter();
            files.map(move |(name, bytes)| (dir.join(name), bytes))
        };
        in_dir(self.dir.into()).chain(in_dir(log_dir_of(self.dir))).collect()
    }

    /// A verification finds nothing, and a repair has nothing to do.
    pub(super) fn assert_sound(&self, when: &str) {
        let before = self.everything();
        let report = self.verify();
        assert!(report.is_sound(), "{when}: {report}");
        let report = self.doctor().repair(&RepairOptions::default(), &mut |_| {}).unwrap();
        assert!(report.was_sound(), "{when}: {report}");
        assert!(before == self.everything(), "{when}: a repair of a sound database changed it");
        coverage::add("sound databases that were looked at", 1);
    }

    /// Who only reads finds what an open finds, beside others that only read, and changes nothing; also
    /// beside files that are somebody else's.
    pub(super) fn assert_readable(&self, expected: &Contained, when: &str) {
        let before = self.everything();
        let [db, other] = [self.builder(), self.builder()].map(|builder| {
            builder
                .read_only(true)
                .open()
                .unwrap_or_else(|error| panic!("{when}, to read: {error:?}"))
        });
        assert!(contained(&db) == *expected, "{when}: who only reads finds something else");
        assert_eq!(other.put("key", "value").unwrap_err().kind(), ErrorKind::ReadOnly, "{when}");
        drop((db, other));
        assert!(before == self.everything(), "{when}: who only reads has changed something");
        let fs = self.fs.snapshot();
        let copy = Patient { fs: &fs, ..*self };
        for name in ["1-99999999.table", "1-99999999.blob", "table of somebody else"] {
            write(&fs, &PathBuf::from(self.dir).join(name), foreign_table());
        }
        let db = copy.open(RecoveryMode::default());
        let db = db.unwrap_or_else(|error| panic!("{when}, beside other files: {error:?}"));
        assert!(contained(&db) == *expected, "{when}, beside other files: it holds something else");
        coverage::add("databases that were only read", 1);
    }

    /// A repair that is told of a log directory of another database leaves that alone.
    pub(super) fn assert_leaves_alone(&self, other: &Patient<'_>, when: &str) {
        let (own, others) = (self.everything(), other.everything());
        let doctor = Doctor::new(self.dir).env(self.env()).log_dir(log_dir_of(other.dir));
        let result = doctor.repair(&RepairOptions::default(), &mut |_| {});
        assert!(others == other.everything(), "{when}: {result:?} has changed another's log");
        if let Err(error) = result {
            assert!(own == self.everything(), "{when}: {error:?} has changed something");
        }
        coverage::add("repairs with the log of another database", 1);
    }

    /// Damages a copy, once or twice, and sees what becomes of that.
    pub(super) fn check_damaged(&self, expected: &Contained, rng: &mut Rng, when: &str) {
        let fs = self.fs.snapshot();
        let copy = Patient { fs: &fs, ..*self };
        let mut damages = Vec::new();
        for _ in 0..1 + usize::from(rng.one_in(3)) {
            damages.extend(copy.damage(rng));
        }
        let Some(first) = damages.first() else { return };
        let texts: Vec<&str> = damages.iter().map(|damage| &*damage.what).collect();
        let when = format!("{when}, {}", texts.join(", and "));
        let report = copy.verify();
        let noticed = copy.read_damaged(expected, &when);
        if let Some(error) = &noticed {
            coverage::add("damages that an open or a reader noticed", 1);
            assert!(!report.is_sound(), "{when}: no finding, and {error}");
        }
        if damages.iter().all(Damage::is_of_log) {
            copy.go_on_from_a_point_in_time(&when);
        }
        let past_holes = rng.one_in(3);
        let options = RepairOptions { past_holes, dry_run: false };
        copy.check_repaired(expected, &damages, options, &when);
        coverage::add(
            if first.is_of_log() { "damaged logs" } else { "damaged tables and others" },
            1,
        );
    }

    /// Changes one file; none if there is nothing to change.
    fn damage(&self, rng: &mut Rng) -> Option<Damage> {
        let files: Vec<_> =
            self.everything().into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        if files.is_empty() {
            return None;
        }
        // Files of the log are few, and are looked at most closely.
        let logs: Vec<_> =
            files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log")).collect();
        let (path, bytes) = match rng.one_in(3) && !logs.is_empty() {
            true => (*rng.pick(&logs)).clone(),
            false => rng.pick(&files).clone(),
        };
        let is_manifest = path.to_string_lossy().contains(".manifest");
        let place = rng.index(bytes.len());
        let mut damaged = bytes.clone();
        let what = match rng.below(8) {
            0 | 1 => {
                damaged.truncate(place);
                format!("cut at {place}")
            }
            2 => {
                let end = bytes.len().min(place + 1 + rng.index(5000));
                damaged[place..end].fill(0);
                format!("zeros from {place} to {end}")
            }
            // Which database it is stands nowhere but there.
            3 if !is_manifest => {
                self.fs.remove(&path).unwrap();
                let what = format!("{} is missing", path.display());
                return Some(Damage { path, what });
            }
            _ => {
                damaged[place] ^= 1 << rng.below(8);
                format!("a flipped bit at {place}")
            }
        };
        write(self.fs, &path, &damaged);
        let what = format!("{}: {what} of {}", path.display(), bytes.len());
        Some(Damage { path, what })
    }

    /// Opens the database on a copy and reads everything: nothing wrong is there. Returns an error of
    /// that, if there was one.
    fn read_damaged(&self, expected: &Contained, when: &str) -> Option<Error> {
        let fs = self.fs.snapshot();
        let copy = Patient { fs: &fs, ..*self };
        let db = match copy.open(RecoveryMode::default()) {
            Ok(db) => db,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{when}: {error:?}");
                return Some(error);
            }
        };
        let names: Vec<&String> = expected.keys().collect();
        let mut found = db.keyspaces();
        found.sort();
        assert_eq!(found.iter().collect::<Vec<_>>(), names, "{when}: keyspaces");
        let mut noticed = None;
        for (name, expected) in expected {
            let keyspace = db.existing_keyspace(name).unwrap().expect("it is in the list");
            for (key, value) in expected {
                match keyspace.get(key) {
                    Err(error) => noticed = Some(error),
                    Ok(found) => assert!(
                        found.as_deref() == Some(&**value),
                        "{when}: {name} {} holds {:?}",
                        key.escape_ascii(),
                        found.map(|found| found.len())
                    ),
                }
            }
            // Each way may come by the damage alone.
            let own = |entry: Result<(Key, Value), Error>| {
                entry.map(|(key, value)| (Bytes::from(&*key), Bytes::from(&*value)))
            };
            let backwards = keyspace.iter().rev().map(own).collect::<Result<Contents, Error>>();
            for found in [contents(&keyspace), backwards] {
                match found {
                    Ok(found) => assert_eq!(difference(&found, expected), None, "{when}: {name}"),
                    Err(error) => noticed = Some(error),
                }
            }
        }
        if let Some(error) = &noticed {
            let is_expected = matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Io);
            assert!(is_expected, "{when}: {error:?}");
        }
        noticed
    }

    /// What a recovery to a point in time leaves of a damaged log stays, and so does what is written then.
    fn go_on_from_a_point_in_time(&self, when: &str) {
        let fs = self.fs.snapshot();
        let copy = Patient { fs: &fs, ..*self };
        // It may be the log of another database now, or none.
        let Ok(db) = copy.open(RecoveryMode::PointInTime) else { return };
        db.put_with("written since", "value", Durability::Power).unwrap();
        let before = contained(&db);
        drop(db);
        let db = copy.open(RecoveryMode::default());
        let db = db.unwrap_or_else(|error| panic!("{when}, from a point in time: {error:?}"));
        assert!(contained(&db) == before, "{when}, from a point in time: it holds something else");
        db.close().unwrap();
        copy.assert_sound(&format!("{when}, from a point in time"));
        coverage::add("recoveries to a point in time", 1);
    }

    /// Repairs the database: it opens, is sound, and holds what is not given up.
    fn check_repaired(
        &self,
        expected: &Contained,
        damages: &[Damage],
        options: RepairOptions,
        when: &str,
    ) {
        let report = self.doctor().repair(&options, &mut |_| {});
        let report = report.unwrap_or_else(|error| panic!("{when}: no repair: {error:?}"));
        let when = format!("{when}, repaired: {report}");
        // Without a manifest nobody knows what else is missing, or how it was called.
        let is_known = report.lost.iter().all(|loss| loss.keys.is_some())
            && (damages.len() == 1 || !damages.iter().any(Damage::is_of_manifest));
        self.assert_sound(&when);
        let db = self.open(RecoveryMode::default());
        let db = db.unwrap_or_else(|error| panic!("{when}: {error:?}"));
        for (name, expected) in expected.iter().filter(|_| is_known) {
            let keyspace = db.existing_keyspace(name).unwrap();
            let keyspace = keyspace.unwrap_or_else(|| panic!("{when}: no {name}"));
            let found = contents(&keyspace).unwrap();
            let turn = Turn::of(&keyspace.options().order);
            let keys = expected.keys().chain(found.keys());
            for key in keys.filter(|key| !is_given_up(&report, (name, turn), key)) {
                assert!(
                    found.get(key) == expected.get(key),
                    "{when}: {name} {} holds {:?} bytes, and held {:?}",
                    key.escape_ascii(),
                    found.get(key).map(|value| value.len()),
                    expected.get(key).map(|value| value.len())
                );
            }
        }
        coverage::add("repairs", 1);
    }
}

/// Whether `report` says that the key may miss what was written last.
fn is_given_up(report: &RepairReport, (keyspace, turn): (&str, Turn), key: &[u8]) -> bool {
    let mut lost = report.lost.iter().filter_map(|loss| loss.keys.as_ref());
    lost.any(|keys| {
        let bounds = (keys.start.as_ref().map(Vec::as_slice), keys.end.as_ref().map(Vec::as_slice));
        keys.keyspace == keyspace && turn.is_within(bounds, key)
    })
}

/// A table of a database that is none of the run's.
fn foreign_table() -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let fs = MemoryFileSystem::new(0xf0);
        let env = Env { fs: Arc::new(fs.clone()), ..Env::memory(0xf0) };
        let db = open_in("foreign", &env, &options_in("foreign", &fs)).unwrap();
        db.put("key", "of somebody else").unwrap();
        db.flush().unwrap();
        db.close().unwrap();
        let files = read_all(&fs, "foreign".as_ref());
        let table = files.into_iter().find(|(name, _)| name.ends_with(".table"));
        table.expect("there is one").1
    })
}

/// Writes some more to every keyspace, so that the log has something.
pub(super) fn write_some_more(db: &Db, rng: &mut Rng) {
    for _ in 0..rng.below(6) {
        let mut batch = db.batch();
        for name in db.keyspaces() {
            let keyspace = db.existing_keyspace(&name).unwrap().expect("it is in the list");
            match rng.below(6) {
                0 => batch.delete(&keyspace, rng.key()),
                1 => batch.put(&keyspace, rng.key(), rng.bytes(8000)),
                2 if keyspace.options().order != Order::bytewise() => {}
                2 => {
                    let (start, end) = (rng.key(), rng.key());
                    batch.delete_range(&keyspace, start.clone().min(end.clone())..start.max(end));
                }
                _ => batch.put(&keyspace, rng.key(), rng.value()),
            }
        }
        batch.commit_with(Durability::Power).unwrap();
    }
}

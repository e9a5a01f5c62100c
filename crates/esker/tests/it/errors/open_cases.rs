//! Databases that cannot be opened, or not be read once they are.

use std::path::Path;

use esker::env::{FileSystem, MemoryFileSystem};
use esker::{Db, DbBuilder, Error, Options};
use esker_base::{FileHeader, FileKind};

use crate::files;
use crate::reading::contents;
use crate::recovered::{DIR, env_of, options};
use crate::sample;

/// The error of the case `name`.
pub(super) fn error(name: &str) -> Error {
    let (fs, _) = sample::in_memory();
    let dir = Path::new(DIR);
    match name {
        "open twice" => {
            let _db = builder(&fs).open().unwrap();
            builder(&fs).open().unwrap_err()
        }
        "not a database" => {
            let fs = MemoryFileSystem::new(1);
            fs.create_dir_all(dir).unwrap();
            files::write(&fs, &dir.join("letter.txt"), b"Dear Sir");
            refused(&fs, builder(&fs))
        }
        "empty path" => Db::builder("").create_if_missing(false).open().unwrap_err(),
        "empty path of the log" => refused(&fs, builder(&fs).options(with_log_dir(""))),
        "missing, not to be created" => {
            let fs = MemoryFileSystem::new(1);
            let error = builder(&fs).create_if_missing(false).open().unwrap_err();
            assert!(!fs.exists(dir).unwrap(), "nothing is made");
            error
        }
        "empty directory, not to be created" => {
            let fs = MemoryFileSystem::new(1);
            fs.create_dir_all(dir).unwrap();
            refused(&fs, builder(&fs).create_if_missing(false))
        }
        "missing, for reading only" => {
            builder(&MemoryFileSystem::new(1)).read_only(true).open().unwrap_err()
        }
        "there, and to be new" => there_and_to_be_new(&fs),
        "newer manifest" => newer(&fs, FileKind::Manifest),
        "newer log" => newer(&fs, FileKind::Log),
        "newer table" => newer(&fs, FileKind::Table),
        "missing table" => {
            fs.remove(&dir.join(first(&fs, FileKind::Table))).unwrap();
            refused(&fs, builder(&fs))
        }
        "missing log segment" => {
            fs.remove(&dir.join(first(&fs, FileKind::Log))).unwrap();
            refused(&fs, builder(&fs))
        }
        "missing manifests" => {
            for name in files::read_all(&fs, dir).keys() {
                if files::kind(name) == Some(FileKind::Manifest) || name.ends_with(".old") {
                    fs.remove(&dir.join(name)).unwrap();
                }
            }
            refused(&fs, builder(&fs))
        }
        "missing newest manifest" => {
            fs.remove(&dir.join(first(&fs, FileKind::Manifest))).unwrap();
            refused(&fs, builder(&fs))
        }
        "closed manifest without its seal" => spoil(&fs, FileKind::Manifest, shorten),
        "log cut at a frame" => spoil(&fs, FileKind::Log, |bytes| bytes.truncate(48)),
        "table of a wrong size" => spoil(&fs, FileKind::Table, shorten),
        "exchanged tables" => exchanged(&fs),
        "damaged manifest" => spoil(&fs, FileKind::Manifest, |bytes| bytes[70] ^= 1),
        "damaged manifest header" => spoil(&fs, FileKind::Manifest, |bytes| bytes[12] ^= 1),
        "log damaged in the middle" => spoil(&fs, FileKind::Log, |bytes| bytes[70] ^= 1),
        "log without a header" => spoil(&fs, FileKind::Log, |bytes| bytes[..48].fill(0)),
        "table damaged in a block" => spoil(&fs, FileKind::Table, |bytes| bytes[100] ^= 1),
        "table of another database" => {
            spoil(&fs, FileKind::Table, |bytes| rewrite(bytes, |header| header.database.0[0] ^= 1))
        }
        "log under the name of another" => {
            spoil(&fs, FileKind::Log, |bytes| rewrite(bytes, |header| header.id.counter += 1))
        }
        name => panic!("no such case: {name}"),
    }
}

fn with_log_dir(dir: &str) -> Options {
    Options { log_dir: Some(dir.into()), ..options() }
}

fn there_and_to_be_new(fs: &MemoryFileSystem) -> Error {
    let new = MemoryFileSystem::new(1);
    builder(&new).create_new(true).open().unwrap().close().unwrap();
    assert!(builder(&new).create_if_missing(false).open().is_ok(), "it was made");
    refused(fs, builder(fs).create_new(true))
}

fn builder(fs: &MemoryFileSystem) -> DbBuilder {
    let options = Options { cache_bytes: Some(0), ..options() };
    Db::builder(DIR).env(env_of(fs)).options(options)
}

/// Opens and reads everything; the open, if it is that which fails, leaves all files as they were.
fn refused(fs: &MemoryFileSystem, builder: DbBuilder) -> Error {
    let dir = Path::new(DIR);
    let before = files::read_all(fs, dir);
    match builder.open() {
        Err(error) => {
            assert!(files::read_all(fs, dir) == before, "the failed open has changed a file");
            error
        }
        Ok(db) => {
            let keyspaces = db.keyspaces();
            let read = |name: &String| {
                let keyspace = db.existing_keyspace(name)?.expect("it is in the list");
                contents(&keyspace).map(drop)
            };
            keyspaces.iter().try_for_each(read).expect_err("nothing was wrong")
        }
    }
}

/// The file of a kind that is read first: the newest manifest, the oldest of the others.
fn first(fs: &MemoryFileSystem, kind: FileKind) -> String {
    let names = files::read_all(fs, Path::new(DIR)).into_keys();
    let mut names = names.filter(|name| files::kind(name) == Some(kind));
    let found = if kind == FileKind::Manifest { names.next_back() } else { names.next() };
    found.expect("the sample has files of every kind")
}

fn shorten(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - 1);
}

fn spoil(fs: &MemoryFileSystem, kind: FileKind, change: impl FnOnce(&mut Vec<u8>)) -> Error {
    let (dir, name) = (Path::new(DIR), first(fs, kind));
    let mut bytes = files::read_all(fs, dir).remove(&name).expect("the file is there");
    change(&mut bytes);
    let fs = files::with(fs, dir, &name, &bytes);
    refused(&fs, builder(&fs))
}

fn rewrite(bytes: &mut [u8], change: impl FnOnce(&mut FileHeader)) {
    let mut header = FileHeader::decode(bytes).unwrap();
    change(&mut header);
    bytes[..FileHeader::LEN].copy_from_slice(&header.encode());
}

fn newer(fs: &MemoryFileSystem, kind: FileKind) -> Error {
    spoil(fs, kind, |bytes| rewrite(bytes, |header| header.format = 99))
}

fn exchanged(fs: &MemoryFileSystem) -> Error {
    let dir = Path::new(DIR);
    let all = files::read_all(fs, dir);
    let tables = all.iter().filter(|(name, _)| files::kind(name) == Some(FileKind::Table));
    let tables: Vec<_> = tables.take(2).collect();
    let [(one, first), (two, second)] = tables[..] else { panic!("the sample has tables") };
    let fs = files::with(fs, dir, one, second);
    let fs = files::with(&fs, dir, two, first);
    refused(&fs, builder(&fs))
}

//! Fuzz targets: functions of bytes that must not panic, hang, or find a wrong answer.

mod directory;
mod forged;
mod operations;
mod sample;

use std::path::Path;

use esker::env::{FileExt as _, FileSystem as _, MemoryFileSystem};
use esker_base::{DatabaseId, FileHeader, FileId, FileKind, OwnerId};
use esker_log::{ExpectedHeader, LogReader, LogWriter};
use esker_tree::{VersionEdit, WarmList};

/// A target: its name, what it runs, and bytes to start from.
pub struct Target {
    /// The name of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
    /// Meaningful inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 21] = [
    Target { name: "file_header", run: file_header, seeds: sample::file_headers },
    Target { name: "log_segment", run: log_segment, seeds: log_segments },
    Target { name: "manifest_edit", run: manifest_edit, seeds: sample::edits },
    Target { name: "commit_group", run: esker::fuzzing::commit_group, seeds: sample::groups },
    Target {
        name: "keyspace_options",
        run: esker::fuzzing::keyspace_options,
        seeds: sample::options,
    },
    Target {
        name: "data_block",
        run: esker_table::fuzzing::data_block,
        seeds: sample::data_blocks,
    },
    Target { name: "index_block", run: esker_table::fuzzing::index_block, seeds: sample::indexes },
    Target { name: "filter", run: esker_table::fuzzing::filter, seeds: sample::filters },
    Target { name: "top_index", run: esker_table::fuzzing::top_index, seeds: sample::top_indexes },
    Target { name: "properties", run: esker_table::fuzzing::properties, seeds: sample::properties },
    Target {
        name: "range_tombstones",
        run: esker_table::fuzzing::range_tombstones,
        seeds: sample::range_tombstones,
    },
    Target {
        name: "blob_record",
        run: esker_table::fuzzing::blob_record,
        seeds: sample::blob_records,
    },
    Target { name: "footers", run: esker_table::fuzzing::footers, seeds: sample::footers },
    Target { name: "stored_key", run: esker::fuzzing::stored_key, seeds: sample::stored_keys },
    Target { name: "merge_operands", run: esker::fuzzing::merge_operands, seeds: sample::merges },
    Target { name: "warm_list", run: warm_list, seeds: sample::warm_lists },
    Target { name: "database_directory", run: directory::run, seeds: directory::seeds },
    Target { name: "operations", run: operations::run, seeds: operations::seeds },
    Target { name: "forged_table", run: forged::table::run, seeds: forged::table::seeds },
    Target { name: "forged_log", run: forged::log::run, seeds: forged::log::seeds },
    Target { name: "forged_manifest", run: forged::manifest::run, seeds: forged::manifest::seeds },
];

/// Runs the target with this name.
///
/// # Panics
/// If there is none, or it has found something.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target's name");
    (target.run)(bytes);
}

fn file_header(bytes: &[u8]) {
    if let Ok(header) = FileHeader::decode(bytes) {
        assert!(header.encode() == bytes[..FileHeader::LEN], "a header comes back as another");
    }
}

fn manifest_edit(bytes: &[u8]) {
    let Ok(edit) = VersionEdit::decode(bytes) else { return };
    let mut again = Vec::new();
    edit.encode(&mut again);
    assert!(VersionEdit::decode(&again).as_ref() == Ok(&edit), "an edit comes back as another");
    let mut catalog = esker_tree::Catalog::new(DatabaseId([7; 16]));
    drop(catalog.apply(&edit));
    std::hint::black_box(catalog.to_string());
}

/// The bytes between header and checksum of a list of warm blocks.
fn warm_list(bytes: &[u8]) {
    let Ok(list) = WarmList::decode_body(bytes) else { return };
    assert!(list.encode_body() == bytes, "a list comes back as another");
    assert!(list.blocks.iter().all(|block| (block.table as usize) < list.tables.len()));
}

const SEGMENT: &str = "segment";

fn header() -> FileHeader {
    let id = FileId { owner: OwnerId::FIRST, counter: 5 };
    FileHeader { kind: FileKind::Log, format: 1, id, database: DatabaseId([7; 16]) }
}

/// A segment of arbitrary bytes after its header: read to the end, past damage.
fn log_segment(bytes: &[u8]) {
    let fs = MemoryFileSystem::new(1);
    let path = Path::new(SEGMENT);
    let file = fs.create(path).expect("a new file in memory");
    file.write_all_at(0, &header().encode()).expect("memory takes a header");
    file.write_all_at(FileHeader::LEN as u64, bytes).expect("memory takes the rest");
    let FileHeader { kind, id, database, .. } = header();
    let expected = ExpectedHeader { kind, id, database: Some(database), newest_format: 1 };
    let mut reader = LogReader::open(&fs, path, &expected).expect("the header is whole");
    let mut last = 0;
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => {
                assert!(last < frame.offset, "frames go back");
                last = frame.offset;
                esker::fuzzing::commit_group(frame.payload);
            }
            Ok(None) => break,
            Err(_) => {
                if !reader.skip_damage().expect("memory can be read") {
                    return;
                }
            }
        }
    }
    assert!(reader.end().offset() <= reader.file_len(), "a segment ends behind its file");
}

/// Frames as a writer makes them, without the header.
fn log_segments() -> Vec<Vec<u8>> {
    let fs = MemoryFileSystem::new(1);
    let packed = sample::packed_groups().concat();
    let seals = [false, true].map(|seals| {
        let path = Path::new(if seals { "sealed" } else { "open" });
        let mut writer = LogWriter::create(&fs, path, header(), 0).expect("memory");
        for payload in [&b"first"[..], b"", &[b'x'; 200], &packed] {
            writer.append(&[payload]);
            writer.write().expect("memory");
            writer.sync_handle().sync().expect("memory");
        }
        if seals {
            writer.seal().expect("memory");
        }
        sample::contents(&fs, path).split_off(FileHeader::LEN)
    });
    seals.to_vec()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::TARGETS;

    const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");

    /// The directory `fuzz` is not in the workspace, so nothing else that CI does reads it.
    #[test]
    fn what_cargo_fuzz_finds_are_the_targets() {
        let targets: BTreeSet<String> = TARGETS.iter().map(|it| it.name.to_owned()).collect();
        let names = |dir: &str| -> BTreeSet<String> {
            let files = std::fs::read_dir(Path::new(FUZZ).join(dir)).unwrap();
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
        };
        assert_eq!(names("corpus"), targets);
        let sources = targets.iter().map(|name| format!("{name}.rs")).collect();
        assert_eq!(names("fuzz_targets"), sources);
        let manifest = std::fs::read_to_string(Path::new(FUZZ).join("Cargo.toml")).unwrap();
        let bins = manifest.split("\n[[bin]]\n").skip(1);
        let bin = |name: &str| format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        assert_eq!(bins.count(), targets.len());
        for name in &targets {
            assert!(manifest.contains(&bin(name)), "{name}");
            let path = Path::new(FUZZ).join(format!("fuzz_targets/{name}.rs"));
            let source = std::fs::read_to_string(path).unwrap();
            assert!(source.contains(&format!("fuzz::run(\"{name}\", ")), "{name}");
        }
    }

    /// Seeds, inputs that once found something, and some that lead far.
    #[test]
    fn inputs_of_the_corpus_find_nothing() {
        for target in &TARGETS {
            (target.seeds)().iter().for_each(|seed| (target.run)(seed));
            let dir = Path::new(FUZZ).join("corpus").join(target.name);
            let inputs = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            let inputs: Vec<_> = inputs.collect();
            assert!(!inputs.is_empty(), "{}", target.name);
            inputs.iter().for_each(|path| (target.run)(&std::fs::read(path).unwrap()));
        }
    }
}
